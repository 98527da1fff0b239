"""CloudWatch: alarms as AWS documents them, metrics from log lines, and the evaluation of alarms.

moto evaluates no alarm, begins in the state OK, runs no action and never asks a topic's policy. Here an alarm begins
without data, a change of its state runs the actions of the new state, and an action publishes only where the topic's
policy allows CloudWatch to, and, for an encrypted topic, the policy of its key too. What is refused is not delivered
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-actions.html,
https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html#compatibility-with-aws-services).

`CloudWatch` takes metrics out of log lines in the embedded metric format
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html)
and evaluates the alarms that were deployed, with the service's rules for missing data
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html). It knows nothing about
the rest of CloudWatch: no metric math, no percentiles, no metrics of other services except those that a test puts in.

Its time is the machine's, plus what a test lets pass: periods are minutes long, and no test waits for them.
"""

import json
import math
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from moto.cloudwatch.exceptions import ValidationError
from moto.cloudwatch.models import cloudwatch_backends
from moto.kms.models import kms_backends
from moto.sns.models import sns_backends

from sandbox.emulators.aws.patching import Foreign, Patches
from sandbox.emulators.aws.policies import Call, Context, Statement, as_list, decide

CLOUDWATCH = "cloudwatch.amazonaws.com"
ALARM, OK, NO_DATA = "ALARM", "OK", "INSUFFICIENT_DATA"
MOST_ACTIONS = 5
_DAY_SECONDS, _HOUR_SECONDS = 86400, 3600
_USES_OF_KEY = ("kms:GenerateDataKey", "kms:Decrypt")


def apply(patches: Patches) -> None:
    """Make moto's alarms as strict as the real ones."""
    begin_without_data(patches)
    run_actions(patches)


def begin_without_data(patches: Patches) -> None:
    """A new alarm has the state INSUFFICIENT_DATA; one that is put again keeps its state. Wrong settings are refused.

    See https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html.
    """

    def wrapper(original: Foreign) -> object:
        def put_metric_alarm(self: Foreign, name: str, *arguments: Foreign, **more: Foreign) -> object:
            before = self.alarms.get(name)
            alarm = original(self, name, *arguments, **more)
            try:
                _check(alarm)
            except ValidationError:
                self.alarms.pop(name)
                if before:
                    self.alarms[name] = before
                raise
            alarm.state_value = before.state_value if before else NO_DATA
            alarm.actions_run = before.actions_run if before else []
            return alarm

        return put_metric_alarm

    patches.wrap("moto.cloudwatch.models:CloudWatchBackend.put_metric_alarm", wrapper)


def run_actions(patches: Patches) -> None:
    """A change of state runs the actions of the new state; the alarm's `actions_run` says what became of each."""

    def wrapper(original: Foreign) -> object:
        def update_state(self: Foreign, reason: str, reason_data: str, state_value: str) -> None:
            before = self.state_value
            original(self, reason, reason_data, state_value)
            if before == state_value or not self.actions_enabled:
                return
            for topic in _actions(self)[state_value]:
                self.actions_run.append((topic, _publish(self, topic, before)))

        return update_state

    patches.wrap("moto.cloudwatch.models:Alarm.update_state", wrapper)


def refusal(alarm_arn: str, topic_arn: str) -> str | None:
    """Why an alarm may not publish to a topic, in the words of its history; None where it may.

    Args:
        alarm_arn: The alarm; its account is the source of the call.
        topic_arn: A topic of any account and region.
    """
    *_, alarm_region, alarm_account, _, _ = alarm_arn.split(":")
    *_, service, topic_region, topic_account, _ = topic_arn.split(":")
    topic = None
    if service == "sns" and topic_region == alarm_region:
        topic = sns_backends[topic_account][topic_region].topics.get(topic_arn)
    if topic is None:
        return f"{topic_arn} is not a topic in {alarm_region}"
    context = {
        "aws:sourceaccount": (alarm_account,),
        "aws:sourceowner": (alarm_account,),
        "aws:sourcearn": (alarm_arn,),
        "aws:securetransport": ("true",),
    }
    if not _allows(json.loads(topic.policy), "sns:Publish", topic_arn, context):
        return f"{alarm_arn} is not authorized to perform: SNS:Publish on resource: {topic_arn}"
    if topic.kms_master_key_id and not _may_use_key(topic, context):
        return "CloudWatch Alarms does not have authorization to access the SNS topic encryption key"
    return None


def _may_use_key(topic: Foreign, context: Context) -> bool:
    named = topic.kms_master_key_id
    if named.removeprefix("alias/") == "aws/sns":
        return False  # The policy of that key cannot be changed, and does not name CloudWatch.
    account = named.split(":")[4] if named.startswith("arn:") else topic.account_id
    keys = kms_backends[account][topic.sns_backend.region_name]
    key = keys.keys.get(keys.any_id_to_key_id(named))
    if key is None or key.key_state != "Enabled":
        return False
    policy = json.loads(key.policy)
    return all(_allows(policy, use, key.arn, context) for use in _USES_OF_KEY)


def _allows(policy: Mapping[str, Any], action: str, resource: str, context: Context) -> bool:
    about_cloudwatch = [_canonical(s) for s in policy["Statement"] if _names_cloudwatch(s["Principal"])]
    return decide(Call(action=action, resource=resource, context=context), about_cloudwatch).allowed


def _canonical(statement: Statement) -> Statement:
    """The statement with its condition keys in lower case: IAM compares them so."""
    conditions = {
        operator: {key.lower(): wanted for key, wanted in keys.items()}
        for operator, keys in statement.get("Condition", {}).items()
    }
    return {**statement, "Condition": conditions}


def _names_cloudwatch(principal: object) -> bool:
    if not isinstance(principal, dict):
        return principal == "*"
    return CLOUDWATCH in as_list(principal.get("Service", [])) or "*" in as_list(principal.get("AWS", []))


def _actions(alarm: Foreign) -> Mapping[str, Iterable[str]]:
    return {
        ALARM: alarm.alarm_actions or [],
        OK: alarm.ok_actions or [],
        NO_DATA: alarm.insufficient_data_actions or [],
    }


def _publish(alarm: Foreign, topic_arn: str, before: str) -> str:
    """Publish the alarm's new state; what became of it, for the history."""
    refused = refusal(alarm.alarm_arn, topic_arn)
    if refused:
        return f"Failed to execute action {topic_arn}. Received error: {refused!r}"
    *_, region, account, _ = topic_arn.split(":")
    message = {
        "AlarmName": alarm.name,
        "AlarmDescription": alarm.description,
        "AWSAccountId": alarm.alarm_arn.split(":")[4],
        "NewStateValue": alarm.state_value,
        "NewStateReason": alarm.state_reason,
        "StateChangeTime": alarm.state_updated_timestamp.isoformat(),
        "AlarmArn": alarm.alarm_arn,
        "OldStateValue": before,
        "Trigger": {"MetricName": alarm.metric_name, "Namespace": alarm.namespace},
    }
    sns_backends[account][region].publish(
        json.dumps(message), topic_arn, subject=f'{alarm.state_value}: "{alarm.name}"'[:100]
    )
    return f"Successfully executed action {topic_arn}"


def _check(alarm: Foreign) -> None:
    periods = alarm.evaluation_periods
    if (alarm.datapoints_to_alarm or periods) > periods:
        raise ValidationError(
            "The parameter DatapointsToAlarm must be less than or equal to EvaluationPeriods"
        )
    if any(len(list(actions)) > MOST_ACTIONS for actions in _actions(alarm).values()):
        raise ValidationError(f"An alarm has at most {MOST_ACTIONS} actions for each state")
    if alarm.period is None:
        return
    seconds, day = alarm.period * periods, _DAY_SECONDS
    if seconds > (7 * day if alarm.period >= _HOUR_SECONDS else day):
        raise ValidationError(
            "Metrics cannot be checked across more than a day, or 7 days with periods of an hour"
        )


EXTRA_PERIODS = 2
"""CloudWatch reads more periods than it evaluates: 5 for 3, in its documentation."""
MOST_METRICS = 100
MOST_DIMENSIONS = 30
_OLDEST_SECONDS, _NEWEST_SECONDS = 14 * 86400, 2 * 3600
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
}
_STATISTICS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "Maximum": max,
    "Minimum": min,
    "Sum": sum,
}


class EmbeddedMetricError(Exception):
    """A line announces embedded metrics and breaks their format: CloudWatch would drop it silently."""


@dataclass(frozen=True, kw_only=True)
class Datapoint:
    """One value of a metric.

    Attributes:
        at: Seconds since the epoch.
    """

    namespace: str
    name: str
    dimensions: frozenset[tuple[str, str]]
    at: float
    value: float


def embedded(line: str, *, now: float) -> list[Datapoint]:
    """The metrics in a log line; none in a line that announces none.

    Args:
        line: One log event.
        now: Seconds since the epoch, when the line arrives.

    Raises:
        EmbeddedMetricError: CloudWatch would drop the line or a part of it.
    """
    try:
        document = json.loads(line)
    except ValueError:
        return []
    if not isinstance(document, dict) or "_aws" not in document:
        return []
    try:
        at = document["_aws"]["Timestamp"] / 1000
        _demand(now - _OLDEST_SECONDS <= at <= now + _NEWEST_SECONDS, "Timestamp is too old or too new")
        return [
            point
            for directive in document["_aws"]["CloudWatchMetrics"]
            for point in _points(document, directive, at)
        ]
    except (LookupError, TypeError) as error:
        raise EmbeddedMetricError(repr(error)) from None


def _points(document: Mapping[str, Any], directive: Mapping[str, Any], at: float) -> Iterator[Datapoint]:
    metrics, dimension_sets = directive["Metrics"], directive["Dimensions"]
    _demand(len(metrics) <= MOST_METRICS, "more than 100 metrics")
    _demand(bool(directive["Namespace"]), "no namespace")
    _demand(bool(dimension_sets) and all(dimension_sets), "an empty set of dimensions")
    for names in dimension_sets:
        _demand(len(names) <= MOST_DIMENSIONS, "more than 30 dimensions")
        values = [(name, document[name]) for name in names]
        _demand(all(isinstance(value, str) and value for _, value in values), "a dimension is not text")
        for metric in metrics:
            value = document[metric["Name"]]
            _demand(type(value) in (int, float) and math.isfinite(value), f"{metric['Name']} is not a number")
            yield Datapoint(
                namespace=directive["Namespace"],
                name=metric["Name"],
                dimensions=frozenset(values),
                at=at,
                value=float(value),
            )


def _demand(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - it reads as an assertion
    if not holds:
        raise EmbeddedMetricError(otherwise)


def judge(
    values: Sequence[float | None],
    *,
    breaches: Callable[[float], bool],
    evaluation_periods: int,
    datapoints_to_alarm: int,
    treat_missing_data: str,
    before: str,
) -> str:
    """The state of an alarm.

    Args:
        values: One for each period of the evaluation range, the newest last; None where there is none.
        breaches: Whether a value breaches the threshold.
        evaluation_periods: N.
        datapoints_to_alarm: M.
        treat_missing_data: `missing`, `ignore`, `breaching` or `notBreaching`.
        before: The state until now.
    """
    there = [breaches(value) for value in values if value is not None][-evaluation_periods:]
    lacking = evaluation_periods - len(there)
    if treat_missing_data == "breaching":
        there += [True] * lacking
    elif treat_missing_data == "notBreaching":
        there += [False] * lacking
    elif not there:
        return before if treat_missing_data == "ignore" else NO_DATA
    elif lacking and all(there) and _age_of_oldest(values) >= datapoints_to_alarm:
        # All that is there breaches, and is old enough: "premature" in the words of the documentation.
        return before if treat_missing_data == "ignore" else ALARM
    return ALARM if sum(there) >= datapoints_to_alarm else OK


def _age_of_oldest(values: Sequence[float | None]) -> int:
    """In periods; 1 for the newest."""
    return len(values) - next(i for i, value in enumerate(values) if value is not None)


@dataclass
class CloudWatch:
    """Metrics and the evaluation of the deployed alarms of one region.

    Attributes:
        ahead_seconds: How far its time is ahead of the machine's.
    """

    account_id: str
    region: str
    clock: Callable[[], float] = time.time
    ahead_seconds: float = 0.0
    _points: list[Datapoint] = field(default_factory=list)
    _lines_read: dict[str, int] = field(default_factory=dict)

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return self.clock() + self.ahead_seconds

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass, and evaluate each alarm every minute of it, as CloudWatch does."""
        for _ in range(round(seconds / 60)):
            self.ahead_seconds += 60
            self.evaluate()

    def ingest(self, log_name: str, text: str) -> list[Datapoint]:
        """Take the metrics out of the lines that a log has got since the last call.

        Raises:
            EmbeddedMetricError: A line breaks the format.
        """
        lines = text.splitlines()
        new = lines[self._lines_read.get(log_name, 0) :]
        self._lines_read[log_name] = len(lines)
        # The functions go by the machine's clock.
        found = [point for line in new for point in embedded(line, now=self.clock())]
        moved = [replace(point, at=point.at + self.ahead_seconds) for point in found]
        self._points += moved
        return moved

    def put(
        self, namespace: str, name: str, value: float, dimensions: Mapping[str, str] | None = None
    ) -> None:
        """Put a value of now, as another service of AWS does for its own metrics."""
        self._points.append(
            Datapoint(
                namespace=namespace,
                name=name,
                dimensions=frozenset((dimensions or {}).items()),
                at=self.now,
                value=value,
            )
        )

    def evaluate(self) -> None:
        """Evaluate every alarm; a new state runs its actions."""
        backend = cloudwatch_backends[self.account_id][self.region]
        for alarm in list(backend.alarms.values()):
            state = self.state_of(alarm)
            if state != alarm.state_value:
                backend.set_alarm_state(alarm.name, "Threshold Crossed", "{}", state)

    def state_of(self, alarm: Foreign) -> str:
        """The state that an alarm of moto should have now."""
        compare = _COMPARISONS[alarm.comparison_operator]
        return judge(
            self._values(alarm),
            breaches=lambda value: compare(value, alarm.threshold),
            evaluation_periods=alarm.evaluation_periods,
            datapoints_to_alarm=alarm.datapoints_to_alarm or alarm.evaluation_periods,
            treat_missing_data=alarm.treat_missing_data or "missing",
            before=alarm.state_value,
        )

    def _values(self, alarm: Foreign) -> list[float | None]:
        """The metric in each period of the evaluation range, which ends now."""
        periods = alarm.evaluation_periods + EXTRA_PERIODS
        wanted = frozenset((d.name, d.value) for d in alarm.dimensions)
        in_period: list[list[float]] = [[] for _ in range(periods)]
        of_alarm = (alarm.namespace, alarm.metric_name, wanted)
        for point in (p for p in self._points if (p.namespace, p.name, p.dimensions) == of_alarm):
            age = math.floor((self.now - point.at) / alarm.period)
            if 0 <= age < periods:
                in_period[periods - 1 - age].append(point.value)
        statistic = _STATISTICS[alarm.statistic]
        return [statistic(values) if values else None for values in in_period]
