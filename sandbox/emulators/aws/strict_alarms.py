"""CloudWatch alarms as AWS documents them, where moto is more lenient.

moto begins in the state OK, runs no action and never asks a topic's policy. Here an alarm begins without data, a change
of its state runs the actions of the new state, and an action publishes only where the topic's policy allows CloudWatch
to, and, for an encrypted topic, the policy of its key too. What is refused is not delivered
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-actions.html,
https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html#compatibility-with-aws-services).
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from moto.cloudwatch.exceptions import ValidationError
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
