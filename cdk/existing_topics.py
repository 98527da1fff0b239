"""Whether alarms reach the topics that a deployment adopts."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cdk.account import Account, UnansweredError
from cdk.deployment import Deployment
from cdk.resource_policies import Context, lets

CLOUDWATCH = "cloudwatch.amazonaws.com"
_USES_OF_KEY = ("kms:Decrypt", "kms:GenerateDataKey")


@dataclass
class Topics:
    """What is to be said of the adopted topics.

    Attributes:
        problems: What stops the deployment.
        notes: What stops nothing.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def topics(deployment: Deployment, account: Account) -> Topics:
    """Look at each adopted topic, its policy, and the policy of its key."""
    found = Topics()
    stack = deployment.settings.stack
    for severity, arn in deployment.settings.adopt.topics.model_dump().items():
        if arn is None:
            continue
        what = f"adopt.topics.{severity}: {arn}"
        _, _, _, region, owner, _ = arn.split(":")
        if region != account.region:
            found.problems.append(
                f"{what} is in {region}; an alarm publishes in its own region only, {account.region}"
            )
            continue
        try:
            found.problems += _lacks(what, arn, account, stack)
        except UnansweredError as error:
            if owner == account.id:
                found.problems.append(f"{what}: {error}")
                continue
            found.notes.append(
                f"{what} cannot be looked at from here ({error}); try it after the deployment: `aws cloudwatch "
                f"set-alarm-state --alarm-name {stack}-Stale --state-value ALARM --state-reason test`"
            )
    return found


def alarm_context(account: Account, stack: str) -> Context:
    """What CloudWatch says of itself when an alarm of the stack calls."""
    alarm = f"arn:{account.partition}:cloudwatch:{account.region}:{account.id}:alarm:{stack}-Stale"
    return {
        "aws:sourceaccount": account.id,
        "aws:sourceowner": account.id,
        "aws:sourcearn": alarm,
        "aws:securetransport": "true",
    }


def _lacks(what: str, arn: str, account: Account, stack: str) -> Iterator[str]:
    answer = account.ask("sns", "get_topic_attributes", TopicArn=arn)
    if answer is None:
        yield f"{what} does not exist"
        return
    attributes, context = answer["Attributes"], alarm_context(account, stack)
    if not lets(json.loads(attributes["Policy"])["Statement"], CLOUDWATCH, "sns:Publish", arn, context):
        yield (
            f"{what}: its policy does not let {CLOUDWATCH} publish, so no alarm would arrive; add to it "
            f"{_shown(_statement(arn, account, stack, 'sns:Publish'))}"
        )
    key = attributes.get("KmsMasterKeyId", "")
    if key.endswith("alias/aws/sns"):
        # https://repost.aws/knowledge-center/cloudwatch-configure-alarm-sns
        yield (
            f"{what} is encrypted with alias/aws/sns, which alarms cannot use; encrypt it with a key whose policy lets "
            f"{CLOUDWATCH} use it"
        )
    elif key:
        yield from _key_lacks(what, key, account, stack)


def _key_lacks(what: str, key: str, account: Account, stack: str) -> Iterator[str]:
    arn = account.customer_key(key)
    if arn is None:
        yield f"{what}: the key that encrypts it, {key}, does not exist"
        return
    if arn.split(":")[4] != account.id:
        # Only its own account may read its policy.
        return
    statements = account.key_policy(arn)["Statement"]
    context = alarm_context(account, stack)
    if not all(lets(statements, CLOUDWATCH, use, arn, context) for use in _USES_OF_KEY):
        yield (
            f"{what}: the policy of its key does not let {CLOUDWATCH} use it, so no alarm would arrive; add to the "
            f"policy of {arn} {_shown(_statement('*', account, stack, *_USES_OF_KEY))}"
        )


def _statement(resource: str, account: Account, stack: str, *actions: str) -> Mapping[str, Any]:
    alarms = f"arn:{account.partition}:cloudwatch:{account.region}:{account.id}:alarm:{stack}-*"
    return {
        "Effect": "Allow",
        "Principal": {"Service": CLOUDWATCH},
        "Action": actions[0] if len(actions) == 1 else list(actions),
        "Resource": resource,
        "Condition": {
            "StringEquals": {"aws:SourceAccount": account.id},
            "ArnLike": {"aws:SourceArn": alarms},
        },
    }


def _shown(statement: Mapping[str, Any]) -> str:
    return json.dumps(statement, separators=(",", ":"))
