"""Checks of what the stack has made in AWS: functions, the state machine of rotations, and alarms."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lockstep import __version__
from lockstep.doctor import commands
from lockstep.doctor.checks import Check
from lockstep.doctor.context import Context
from lockstep.doctor.findings import Answer, failed, passed, warning
from lockstep.formats import FORMAT
from lockstep.stack_names import (
    FORMAT_OUTPUT,
    LIVE,
    VERSION_OUTPUT,
    alarm_prefix,
    canary_alarm_name,
    state_machine_name,
)

_FUNCTION = re.compile(r"arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:function:[A-Za-z0-9_:$-]+")
_GOOD = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE"})
_SUBSCRIBED = "arn:"
"""How the ARN of a subscription begins that was confirmed; else it is a word."""


def stack(context: Context) -> Iterator[Answer]:
    """The stack is there, and no deployment of it is under way or stuck."""
    name = context.stack
    found = context.aws.found("cloudformation", "describe_stacks", StackName=name)
    if found is None:
        yield failed(name, f"it is not deployed in {context.plan.lock.region}", commands.DEPLOY_AWS)
        return
    status = found["Stacks"][0]["StackStatus"]
    if status in _GOOD:
        yield passed(name, f"it is deployed ({status})")
        return
    events = commands.aws(
        context.plan.lock.region, "cloudformation describe-stack-events", "--stack-name", name
    )
    yield failed(name, f"it is {status}", events)


def build(context: Context) -> Iterator[Answer]:
    """What is deployed is of this build's format and version."""
    outputs = context.aws.stack_outputs(context.stack)
    version, written = outputs.get(VERSION_OUTPUT), outputs.get(FORMAT_OUTPUT, "")
    if version is None or not written.isdecimal():
        text = "the stack does not say which build it is of, so it is older than this command"
        yield warning(context.stack, text, commands.DEPLOY_AWS)
    elif int(written) > FORMAT:
        text = f"the stack writes format {written}, and this command reads up to {FORMAT}"
        yield failed(context.stack, text, f"pip install -U 'lockstep-rotation[cli]=={version}'")
    elif int(written) < FORMAT or version != __version__:
        text = f"the stack is of version {version}, format {written}; this command of {__version__}, {FORMAT}"
        yield warning(context.stack, text, commands.DEPLOY_AWS)
    else:
        yield passed(context.stack, f"version {version}, format {written}, as this command")


def machine(context: Context) -> Iterator[Answer]:
    """The state machine can be started, and writes a log."""
    arn = _machine_arn(context)
    found = context.aws.found("stepfunctions", "describe_state_machine", stateMachineArn=arn)
    if found is None:
        yield failed(context.stack, "there is no state machine of this name", commands.DEPLOY_AWS)
        return
    if _live(context) is None:
        text = f"it has no alias {LIVE}, by which runs start"
        yield failed(context.stack, text, commands.DEPLOY_AWS)
        return
    if found.get("status", "ACTIVE") != "ACTIVE":
        yield failed(context.stack, f"it is {found['status']}", commands.DEPLOY_AWS)
        return
    yield passed(context.stack, f"runs start by its alias {LIVE}")


def machine_log(context: Context) -> Iterator[Answer]:
    """The state machine writes a log."""
    arn = _machine_arn(context)
    found = context.aws("stepfunctions", "describe_state_machine", stateMachineArn=arn)
    level = found.get("loggingConfiguration", {}).get("level", "OFF")
    if level == "OFF":
        yield warning(context.stack, "it writes no log of its runs", commands.DEPLOY_AWS)
    else:
        yield passed(context.stack, f"it logs at level {level}")


def functions(context: Context) -> Iterator[Answer]:
    """The versions of the functions that runs call are there, and can be called."""
    for arn in functions_of_live(context):
        yield function_answer(context, arn, caller="the state machine")


def functions_of_live(context: Context) -> list[str]:
    """The ARNs of the versions that runs call, each once."""
    live = _live(context) or {}
    version = live["routingConfiguration"][0]["stateMachineVersionArn"]
    shown = context.aws("stepfunctions", "describe_state_machine", stateMachineArn=version)
    return list(dict.fromkeys(_FUNCTION.findall(shown["definition"])))


def function_answer(context: Context, arn: str, *, caller: str) -> Answer:
    """Whether a function can be called.

    Args:
        context: What may be asked.
        arn: The function's, or that of a version.
        caller: What calls it.
    """
    name = arn.split(":function:")[1]
    found = context.aws.found("lambda", "get_function_configuration", FunctionName=arn)
    if found is None:
        return failed(name, f"{caller} calls it, and it is not there", commands.DEPLOY_AWS)
    if found.get("State", "Active") not in {"Active", "Inactive"}:
        reason = found.get("StateReasonCode", "")
        return failed(name, f"it is {found['State']} {reason}".rstrip(), commands.DEPLOY_AWS)
    return passed(name, "it can be called")


def alarms(context: Context) -> Iterator[Answer]:
    """The stack's alarms are there, tell somebody, and none is on."""
    region = context.plan.lock.region
    found = _alarms(context)
    if not found:
        yield failed(context.stack, "it has no alarm, so nobody learns of a failure", commands.DEPLOY_AWS)
    for alarm in found:
        name = alarm["AlarmName"]
        if not alarm.get("ActionsEnabled", True):
            mend = commands.aws(region, "cloudwatch enable-alarm-actions", "--alarm-names", name)
            yield failed(name, "its actions are switched off, so it tells nobody", mend)
        elif not alarm.get("AlarmActions") and name != canary_alarm_name(context.stack):
            yield failed(name, "it has no action, so it tells nobody", commands.DEPLOY_AWS)
        elif alarm.get("StateValue") == "ALARM":
            text = str(alarm.get("AlarmDescription") or "it is on").rstrip(".")
            see = commands.aws(region, "cloudwatch describe-alarms", "--alarm-names", name)
            yield warning(name, text, see)
        else:
            yield passed(name, "it is off, and tells those who must know")


def _alarms(context: Context) -> list[Mapping[str, Any]]:
    prefix = alarm_prefix(context.stack)
    return context.aws.all("cloudwatch", "describe_alarms", "MetricAlarms", AlarmNamePrefix=prefix)


def subscribers(context: Context) -> Iterator[Answer]:
    """Somebody has confirmed to be told of alarms, on each topic."""
    told = {action for alarm in _alarms(context) for action in alarm.get("AlarmActions", [])}
    for topic in sorted(arn for arn in told if ":sns:" in arn):
        yield _subscribed(context, topic)


def _subscribed(context: Context, topic: str) -> Answer:
    name, region = topic.rsplit(":", maxsplit=1)[-1], topic.split(":")[3]
    found = context.aws.all(
        "sns", "list_subscriptions_by_topic", "Subscriptions", region=region, TopicArn=topic
    )
    confirmed = [s for s in found if str(s["SubscriptionArn"]).startswith(_SUBSCRIBED)]
    subscribe = commands.aws(
        region,
        "sns subscribe",
        *("--topic-arn", topic, "--protocol", "email", "--notification-endpoint", "YOU@EXAMPLE.COM"),
    )
    if not found:
        return failed(name, "nobody has subscribed to it, so no alarm reaches anybody", subscribe)
    if not confirmed:
        text = f"none of {len(found)} subscriptions was confirmed by the link in the mail; to send it again"
        return failed(name, text, subscribe)
    return passed(name, f"{len(confirmed)} confirmed subscriptions")


def _machine_arn(context: Context) -> str:
    return machine_arn(context, state_machine_name(context.stack))


def machine_arn(context: Context, name: str) -> str:
    """The ARN of a state machine of this account."""
    caller = context.aws("sts", "get_caller_identity")
    partition, account = str(caller["Arn"]).split(":")[1], caller["Account"]
    return f"arn:{partition}:states:{context.plan.lock.region}:{account}:stateMachine:{name}"


def _live(context: Context) -> Mapping[str, Any] | None:
    alias = f"{_machine_arn(context)}:{LIVE}"
    return context.aws.found("stepfunctions", "describe_state_machine_alias", stateMachineAliasArn=alias)


NEEDS_STACK, NEEDS_MACHINE = "aws.stack", "aws.state-machine"
"""What other checks need."""
CHECKS = (
    Check(
        id="aws.stack",
        title="stack",
        looks_at="whether the CloudFormation stack exists, and its last deployment has ended well",
        means="nothing runs in AWS, or half of a deployment does",
        command="make deploy-aws",
        ask=stack,
        needs="aws.identity",
    ),
    Check(
        id="aws.build",
        title="build of the stack",
        looks_at="version and format of what is deployed, against this command's",
        means="this command does not read what the stack writes",
        command="make deploy-aws",
        ask=build,
        needs=NEEDS_STACK,
    ),
    Check(
        id="aws.state-machine",
        title="state machine",
        looks_at="whether it exists, and has the alias `live`",
        means="AWS rotates nothing",
        command="make deploy-aws",
        ask=machine,
        needs=NEEDS_STACK,
    ),
    Check(
        id="aws.state-machine-log",
        title="log of the state machine",
        looks_at="whether it logs (a warning)",
        means="why a run failed can be found in its history only",
        command="make deploy-aws",
        ask=machine_log,
        needs=NEEDS_MACHINE,
    ),
    Check(
        id="aws.functions",
        title="functions",
        looks_at="whether the versions of the functions that the live version calls exist, and are active",
        means="each run fails at that step",
        command="make deploy-aws",
        ask=functions,
        needs=NEEDS_MACHINE,
    ),
    Check(
        id="aws.alarms",
        title="alarms",
        looks_at="whether the stack has alarms, and each tells a topic; one that is on is a warning",
        means="nobody learns that rotations fail",
        command="aws cloudwatch enable-alarm-actions --alarm-names ALARM",
        ask=alarms,
        needs=NEEDS_STACK,
    ),
    Check(
        id="aws.alarm-subscribers",
        title="subscribers of the alarms",
        looks_at="whether each topic of the alarms has a subscription that was confirmed",
        means="alarms reach nobody",
        command="aws sns subscribe --topic-arn TOPIC --protocol email --notification-endpoint YOU@EXAMPLE.COM",
        ask=subscribers,
        needs=NEEDS_STACK,
    ),
)
