"""Alarms in the sandbox: they are evaluated as CloudWatch's documentation says, and publish only where they may."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.alarms import ALARM, NO_DATA, OK, EmbeddedMetricError, embedded, judge
from sandbox.watching import Subscriber
from tests.emulators.aws.conftest import policy

BEFORE = "the state before"
NOW = 1_800_000_000.0
MISSING_DATA = [
    # M, the newest data point last, then the state with missing, ignore, breaching, notBreaching; N is 3.
    (3, "0-X-X", OK, OK, OK, OK),
    (3, "-----", NO_DATA, BEFORE, ALARM, OK),
    (3, "0XX-X", ALARM, ALARM, ALARM, ALARM),
    (3, "--X--", ALARM, BEFORE, ALARM, OK),
    (2, "0-X-X", ALARM, ALARM, ALARM, ALARM),
    (2, "0-X--", OK, OK, ALARM, OK),
    (2, "----0", OK, OK, ALARM, OK),
    (2, "---X-", ALARM, BEFORE, ALARM, OK),
]


@pytest.mark.parametrize(("least", "points", "missing", "ignore", "breaching", "not_breaching"), MISSING_DATA)
def test_missing_data_is_treated_as_in_the_documentations_tables(
    least: int, points: str, missing: str, ignore: str, breaching: str, not_breaching: str
) -> None:
    found = {
        treatment: judge(
            [{"0": 0.0, "X": 1.0, "-": None}[point] for point in points],
            breaches=lambda value: value >= 1,
            evaluation_periods=3,
            datapoints_to_alarm=least,
            treat_missing_data=treatment,
            before=BEFORE,
        )
        for treatment in ("missing", "ignore", "breaching", "notBreaching")
    }
    assert list(found.values()) == [missing, ignore, breaching, not_breaching]


def _line(*, at: float = NOW * 1000, **changes: object) -> str:
    directive: dict[str, object] = {"Namespace": "N"}
    directive |= {"Dimensions": [["Stack"]], "Metrics": [{"Name": "Stale"}]}
    directive |= {name: changes.pop(name) for name in ("Dimensions", "Metrics") if name in changes}
    line = {"_aws": {"Timestamp": int(at), "CloudWatchMetrics": [directive]}, "Stack": "s", "Stale": 2}
    return json.dumps({**line, **changes})


def test_a_line_that_breaks_the_format_is_found() -> None:
    for line in (
        _line(Stale="2"),
        _line(Stack=5),
        _line(Dimensions=[]),
        _line(Metrics=[{"Name": "Another"}]),
        _line(at=NOW),
        _line(at=(NOW + 3 * 3600) * 1000),
    ):
        with pytest.raises(EmbeddedMetricError):
            embedded(line, now=NOW)


class World:
    """An alarm, a topic, and a queue that subscribes to it."""

    def __init__(self, aws: AwsSandbox) -> None:
        self.aws, self.alarms = aws, aws.client("cloudwatch")
        self.topic = aws.client("sns").create_topic(Name="page")["TopicArn"]
        self.subscriber = Subscriber.of(aws, self.topic)
        self.put_alarm()

    def put_alarm(self) -> None:
        metric = {"Namespace": "N", "MetricName": "Stale", "Statistic": "Maximum", "Period": 300}
        judged = {
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "Threshold": 1,
            "EvaluationPeriods": 3,
        }
        actions = {"AlarmActions": [self.topic], "OKActions": [self.topic]}
        self.alarms.put_metric_alarm(AlarmName="lockstep-Stale", **metric, **judged, **actions)

    def set_topic(self, name: str, value: str) -> None:
        self.aws.client("sns").set_topic_attributes(
            TopicArn=self.topic, AttributeName=name, AttributeValue=value
        )

    def to(self, state: str) -> list[str]:
        """Bring the alarm into a state; the states that arrive at the queue."""
        self.alarms.set_alarm_state(AlarmName="lockstep-Stale", StateValue=state, StateReason="a test")
        return [m["NewStateValue"] for m in self.subscriber.received()]


@pytest.fixture(name="world")
def _world() -> Iterator[World]:
    with AwsSandbox() as aws:
        yield World(aws)


ONLY_TLS = {
    "Effect": "Deny",
    "Principal": {"AWS": "*"},
    "Action": "sns:Publish",
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}
OWN_ACCOUNT = {"StringEquals": {"aws:SourceAccount": "123456789012"}}
OTHER_ACCOUNT = {"StringEquals": {"aws:SourceAccount": "999999999999"}}
OWN_ALARMS = {"ArnLike": {"AWS:SourceArn": "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:lockstep-*"}}
ROOT = {"Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "kms:*"}
USE = ["kms:Decrypt", "kms:GenerateDataKey*"]


def _may(condition: Mapping[str, object] | None = None, **changed: object) -> dict[str, Any]:
    alarms = {"Principal": {"Service": "cloudwatch.amazonaws.com"}, "Action": "sns:Publish"}
    return {**alarms, **({"Condition": condition} if condition else {}), **changed}


@pytest.mark.parametrize(
    ("of_topic", "of_key", "arrives"),
    [
        (None, None, True),
        ([], None, False),
        ([_may()], None, True),
        ([_may(OWN_ACCOUNT | OWN_ALARMS)], None, True),
        ([_may(OTHER_ACCOUNT)], None, False),
        ([_may({"ArnLike": {"aws:SourceArn": "arn:aws:cloudwatch:*:*:alarm:other-*"}})], None, False),
        (None, [ROOT], False),
        (None, [ROOT, _may(Action=USE)], True),
        (None, [ROOT, _may(Action=USE[1:])], False),
    ],
)
def test_an_alarm_publishes_where_the_policies_of_topic_and_key_allow_it(
    world: World, of_topic: list[Any] | None, of_key: list[Any] | None, *, arrives: bool
) -> None:
    if of_topic is not None:
        world.set_topic("Policy", policy(*of_topic, ONLY_TLS))
    if of_key is not None:
        key = world.aws.client("kms").create_key(Policy=policy(*of_key))["KeyMetadata"]["Arn"]
        world.set_topic("KmsMasterKeyId", key)
    assert world.to(ALARM) == ([ALARM] if arrives else [])


def test_an_alarm_begins_without_data_and_acts_only_when_its_state_changes(world: World) -> None:
    assert [a["StateValue"] for a in world.alarms.describe_alarms()["MetricAlarms"]] == [NO_DATA]
    assert world.to(ALARM) == [ALARM]
    world.put_alarm()  # A deployment keeps the state.
    assert world.to(ALARM) == []
