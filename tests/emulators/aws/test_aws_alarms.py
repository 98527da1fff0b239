"""Alarms in the sandbox: they are evaluated as CloudWatch's documentation says, and publish only where they may."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from moto.cloudwatch.models import cloudwatch_backends
from moto.sns.models import sns_backends

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.alarms import EmbeddedMetricError, embedded, judge
from sandbox.emulators.aws.strict_alarms import ALARM, NO_DATA, OK
from sandbox.watching import Subscriber

RETAINED = "the state before"
NOW = 1_800_000_000.0
MISSING_DATA = [
    # M, the newest data point last, then the state with missing, ignore, breaching, notBreaching; N is 3.
    (3, "0-X-X", OK, OK, OK, OK),
    (3, "0----", OK, OK, OK, OK),
    (3, "-----", NO_DATA, RETAINED, ALARM, OK),
    (3, "0XX-X", ALARM, ALARM, ALARM, ALARM),
    (3, "--X--", ALARM, RETAINED, ALARM, OK),
    (2, "0-X-X", ALARM, ALARM, ALARM, ALARM),
    (2, "00X0X", ALARM, ALARM, ALARM, ALARM),
    (2, "0-X--", OK, OK, ALARM, OK),
    (2, "----0", OK, OK, ALARM, OK),
    (2, "---X-", ALARM, RETAINED, ALARM, OK),
]


@pytest.mark.parametrize(
    ("datapoints_to_alarm", "points", "missing", "ignore", "breaching", "not_breaching"), MISSING_DATA
)
def test_missing_data_is_treated_as_in_the_documentations_tables(
    datapoints_to_alarm: int, points: str, missing: str, ignore: str, breaching: str, not_breaching: str
) -> None:
    values = [{"0": 0.0, "X": 1.0, "-": None}[point] for point in points]
    for treatment, state in {
        "missing": missing,
        "ignore": ignore,
        "breaching": breaching,
        "notBreaching": not_breaching,
    }.items():
        found = judge(
            values,
            breaches=lambda value: value >= 1,
            evaluation_periods=3,
            datapoints_to_alarm=datapoints_to_alarm,
            treat_missing_data=treatment,
            before=RETAINED,
        )
        assert found == state, treatment


def _line(
    *,
    directive: Mapping[str, object] | None = None,
    meta: Mapping[str, object] | None = None,
    **changes: object,
) -> str:
    written = {"Namespace": "N", "Dimensions": [["Stack"]], "Metrics": [{"Name": "Stale", "Unit": "Count"}]}
    aws = {
        "Timestamp": int(NOW * 1000),
        "CloudWatchMetrics": [{**written, **(directive or {})}],
        **(meta or {}),
    }
    return json.dumps({"_aws": aws, "Stack": "s", "Stale": 2, **changes})


def test_metrics_are_taken_out_of_a_log_line() -> None:
    (point,) = embedded(_line(), now=NOW)
    assert (point.namespace, point.name, point.dimensions, point.at, point.value) == (
        "N",
        "Stale",
        frozenset({("Stack", "s")}),
        NOW,
        2.0,
    )
    assert embedded("START RequestId", now=NOW) == embedded('{"message": "x"}', now=NOW) == []


@pytest.mark.parametrize(
    "line",
    [
        _line(Stale="2"),
        _line(Stale=None),
        _line(Stack=5),
        _line(directive={"Dimensions": []}),
        _line(directive={"Dimensions": [[]]}),
        _line(directive={"Metrics": [{"Name": "Another"}]}),
        _line(directive={"Metrics": [{"Name": "Stale"}] * 101}),
        _line(meta={"Timestamp": int(NOW)}),
        _line(meta={"Timestamp": int((NOW + 3 * 3600) * 1000)}),
    ],
)
def test_a_line_that_breaks_the_format_is_found(line: str) -> None:
    with pytest.raises(EmbeddedMetricError):
        embedded(line, now=NOW)


class World:
    """An alarm, a topic, and a queue that subscribes to it."""

    def __init__(self, aws: AwsSandbox) -> None:
        self.aws = aws
        self.topic = aws.client("sns").create_topic(Name="page")["TopicArn"]
        self.subscriber = Subscriber.of(aws, self.topic)
        self.put_alarm(self.topic)

    def put_alarm(self, *topics: str) -> None:
        self.aws.client("cloudwatch").put_metric_alarm(
            AlarmName="lockstep-Stale",
            Namespace="N",
            MetricName="Stale",
            Statistic="Maximum",
            Period=300,
            EvaluationPeriods=3,
            DatapointsToAlarm=2,
            Threshold=1,
            ComparisonOperator="GreaterThanOrEqualToThreshold",
            AlarmActions=list(topics),
            OKActions=list(topics),
        )

    def permit(self, *statements: Mapping[str, Any]) -> None:
        policy = {"Version": "2012-10-17", "Statement": list(statements)}
        self.aws.client("sns").set_topic_attributes(
            TopicArn=self.topic, AttributeName="Policy", AttributeValue=json.dumps(policy)
        )

    def encrypt(self, *statements: Mapping[str, Any]) -> None:
        policy = {"Version": "2012-10-17", "Statement": list(statements)}
        key = self.aws.client("kms").create_key(Policy=json.dumps(policy))["KeyMetadata"]["Arn"]
        self.encrypt_with(key)

    def encrypt_with(self, key: str) -> None:
        self.aws.client("sns").set_topic_attributes(
            TopicArn=self.topic, AttributeName="KmsMasterKeyId", AttributeValue=key
        )

    def raise_alarm(self) -> list[str]:
        """Raise the alarm; the states that arrive at the queue."""
        self.aws.client("cloudwatch").set_alarm_state(
            AlarmName="lockstep-Stale", StateValue="ALARM", StateReason="a test"
        )
        return [m["NewStateValue"] for m in self.subscriber.received()]


@pytest.fixture(name="world")
def _world() -> Iterator[World]:
    with AwsSandbox() as aws:
        yield World(aws)


ALARMS = {"Service": "cloudwatch.amazonaws.com"}
ROOT = {
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
    "Action": "kms:*",
    "Resource": "*",
}
ONLY_TLS = {
    "Effect": "Deny",
    "Principal": {"AWS": "*"},
    "Action": "sns:Publish",
    "Resource": "*",
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}


def _may(
    *condition: Mapping[str, Mapping[str, str]], action: str | list[str] = "sns:Publish"
) -> dict[str, Any]:
    return {
        "Effect": "Allow",
        "Principal": ALARMS,
        "Action": action,
        "Resource": "*",
        "Condition": {operator: keys for part in condition for operator, keys in part.items()},
    }


OWN_ACCOUNT = {"StringEquals": {"aws:SourceAccount": "123456789012"}}
OTHER_ACCOUNT = {"StringEquals": {"aws:SourceAccount": "999999999999"}}
OWN_ALARMS = {"ArnLike": {"AWS:SourceArn": "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:lockstep-*"}}


def test_the_policy_that_a_topic_begins_with_lets_alarms_publish(world: World) -> None:
    assert world.raise_alarm() == ["ALARM"]


def test_a_policy_that_only_demands_tls_shuts_alarms_out(world: World) -> None:
    world.permit(ONLY_TLS)
    assert world.raise_alarm() == []
    alarms: Any = cloudwatch_backends["123456789012"]["eu-central-1"].alarms
    (alarm,) = alarms.values()
    assert "is not authorized to perform: SNS:Publish" in alarm.actions_run[0][1]


@pytest.mark.parametrize(
    ("statement", "arrives"),
    [
        (_may(), True),
        (_may(OWN_ACCOUNT), True),
        (_may(OWN_ALARMS), True),
        (_may(OWN_ACCOUNT, OWN_ALARMS), True),
        (_may(OTHER_ACCOUNT), False),
        (_may({"ArnLike": {"aws:SourceArn": "arn:aws:cloudwatch:*:*:alarm:other-*"}}), False),
        (_may({"Bool": {"aws:SecureTransport": "true"}}), True),
        (_may(action="sns:Subscribe"), False),
        ({**_may(), "Principal": {"Service": "events.amazonaws.com"}}, False),
        ({**_may(), "Principal": {"AWS": "arn:aws:iam::123456789012:root"}}, False),
        ({**_may(), "Resource": "arn:aws:sns:eu-central-1:123456789012:other"}, False),
    ],
)
def test_an_alarm_publishes_where_the_policy_of_the_topic_allows_it(
    world: World, statement: Mapping[str, Any], *, arrives: bool
) -> None:
    world.permit(statement, ONLY_TLS)
    assert world.raise_alarm() == (["ALARM"] if arrives else [])


USE = ["kms:Decrypt", "kms:GenerateDataKey*"]


@pytest.mark.parametrize(
    ("statements", "arrives"),
    [
        ([ROOT], False),
        ([ROOT, _may(action=USE)], True),
        ([ROOT, _may(OWN_ACCOUNT, action=USE)], True),
        ([ROOT, _may(action="kms:GenerateDataKey*")], False),
        ([ROOT, _may(OTHER_ACCOUNT, action=USE)], False),
    ],
)
def test_an_encrypted_topic_needs_the_policy_of_its_key_too(
    world: World, statements: list[Mapping[str, Any]], *, arrives: bool
) -> None:
    world.encrypt(*statements)
    assert world.raise_alarm() == (["ALARM"] if arrives else [])


def test_a_topic_of_another_account_gets_what_its_policy_allows(world: World) -> None:
    """An adopted one: the policy that it begins with lets only alarms of its own account publish."""
    backend: Any = sns_backends["999999999999"]["eu-central-1"]
    topic = backend.create_topic("on-call")
    world.put_alarm(topic.arn)
    world.raise_alarm()
    assert topic.sent_notifications == []
    topic.policy = json.dumps({"Statement": [_may(OWN_ACCOUNT, OWN_ALARMS)]})
    world.aws.client("cloudwatch").set_alarm_state(
        AlarmName="lockstep-Stale", StateValue="OK", StateReason="a test"
    )
    assert len(topic.sent_notifications) == 1


def test_an_alarm_begins_without_data_and_acts_only_when_its_state_changes(world: World) -> None:
    client = world.aws.client("cloudwatch")
    assert [a["StateValue"] for a in client.describe_alarms()["MetricAlarms"]] == [NO_DATA]
    assert world.raise_alarm() == ["ALARM"]
    assert world.raise_alarm() == []
    world.put_alarm(world.topic)  # A deployment keeps the state.
    assert world.raise_alarm() == []
