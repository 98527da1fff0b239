"""Checks of what starts rotations in AWS: the fleet, the rules of the shards, and the published plan."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lockstep.doctor import commands
from lockstep.doctor.aws_stack import NEEDS_MACHINE, NEEDS_STACK, functions_of_live, machine_arn
from lockstep.doctor.checks import Check
from lockstep.doctor.context import Context
from lockstep.doctor.findings import Answer, failed, passed
from lockstep.errors import InvalidPlanError
from lockstep.published.places import INDEX, PlanInS3, folder_of, place_of
from lockstep.shards import Shard
from lockstep.stack_names import fleet_machine_name, rule_name
from lockstep.wall_clock import cron_expression
from lockstep.wiring import PLAN_VARIABLE

_PUBLISH = "lockstep plan publish --cloud aws"


def fleet(context: Context) -> Iterator[Answer]:
    """The state machine of the fleet is there."""
    name = fleet_machine_name(context.stack)
    found = context.aws.found("stepfunctions", "describe_state_machine", stateMachineArn=_fleet_arn(context))
    if found is None:
        yield failed(name, "it is not there, so no rotation starts by schedule", commands.DEPLOY_AWS)
    elif found.get("status", "ACTIVE") != "ACTIVE":
        yield failed(name, f"it is {found['status']}", commands.DEPLOY_AWS)
    else:
        yield passed(name, "it starts the rotations of each shard")


def plan(context: Context) -> Iterator[Answer]:
    """The functions of the live version read one published plan, and it is there."""
    places = {arn: _place(context, arn) for arn in functions_of_live(context)}
    for arn, place in places.items():
        if place is None:
            name = arn.split(":function:")[1]
            yield failed(name, f"its {PLAN_VARIABLE} names no published plan", commands.DEPLOY_AWS)
    for place in dict.fromkeys(place for place in places.values() if place):
        index = context.aws.found(
            "s3",
            "head_object",
            region=place.region,
            Bucket=place.bucket,
            Key=f"{folder_of(place.digest)}/{INDEX}",
        )
        if index is None:
            yield failed(
                str(place), "it is not there, or not whole, so no function reads what it rotates", _PUBLISH
            )
        else:
            yield passed(str(place), "it is there, and the functions read it")


def schedules(context: Context) -> Iterator[Answer]:
    """Each shard has a rule that starts the fleet, at the plan's interval, with the plan of the functions."""
    deployed = {place.digest for arn in functions_of_live(context) if (place := _place(context, arn))}
    for shard in context.plan.shards:
        name = rule_name(context.stack, shard.name)
        found = context.aws.found("events", "describe_rule", Name=name)
        if found is None:
            text = (
                f"there is no rule {name}, so AWS never rotates its {len(shard.credential_ids):,} credentials"
            )
            yield failed(shard.name, text, commands.DEPLOY_AWS)
            continue
        targets = context.aws("events", "list_targets_by_rule", Rule=name)["Targets"]
        starts = [target for target in targets if target["Arn"] == _fleet_arn(context)]
        yield _schedule(shard, found, starts, deployed)


def _schedule(
    shard: Shard, found: Mapping[str, Any], starts: list[Mapping[str, Any]], deployed: set[str]
) -> Answer:
    name, expected = shard.name, cron_expression(shard.interval, shard.phase)
    if found.get("State") != "ENABLED":
        switch = f'{commands.DEPLOY_AWS}  # with "schedules": true in cdk.json'
        return failed(name, f"its rule {found['Name']} is off, so AWS never rotates what is in it", switch)
    if (actual := found.get("ScheduleExpression")) != expected:
        text = f"its rule has {actual}, and the plan's interval is {expected}"
        return failed(name, text, commands.DEPLOY_AWS)
    if not starts:
        text = "its rule does not start the fleet of this stack"
        return failed(name, text, commands.DEPLOY_AWS)
    for target in starts:
        started = _input(target)
        if started.get("shard") != name:
            return failed(name, "its rule starts another shard", commands.DEPLOY_AWS)
        if deployed and started.get("plan") not in deployed:
            text = "its rule names another published plan than the functions read"
            return failed(name, text, commands.DEPLOY_AWS)
    return passed(name, f"AWS starts its {len(shard.credential_ids):,} credentials by {expected}")


def _input(target: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a rule starts the fleet with; the time of the event, which it adds, is left out."""
    transformer = target.get("InputTransformer", {})
    text = transformer.get("InputTemplate", target.get("Input", "{}"))
    for name in transformer.get("InputPathsMap", {}):
        text = text.replace(f"<{name}>", "null")
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _place(context: Context, arn: str) -> PlanInS3 | None:
    """Where a function has its plan; None where it has none in S3, or is not there."""
    found = context.aws.found("lambda", "get_function_configuration", FunctionName=arn) or {}
    said = found.get("Environment", {}).get("Variables", {}).get(PLAN_VARIABLE, "")
    try:
        place = place_of(said)
    except InvalidPlanError:
        return None
    return place if isinstance(place, PlanInS3) else None


def _fleet_arn(context: Context) -> str:
    return machine_arn(context, fleet_machine_name(context.stack))


CHECKS = (
    Check(
        id="aws.fleet",
        title="fleet",
        looks_at="whether the state machine of the fleet, which the rules start, exists",
        means="AWS rotates nothing by schedule",
        command="make deploy-aws",
        ask=fleet,
        needs=NEEDS_STACK,
    ),
    Check(
        id="aws.published-plan",
        title="published plan",
        looks_at="whether the plan that the functions of the live version were deployed with is in its bucket",
        means="each run fails at its first step, with PlanDocumentMissingError",
        command=_PUBLISH,
        ask=plan,
        needs=NEEDS_MACHINE,
    ),
    Check(
        id="aws.schedules",
        title="schedules",
        looks_at="for each shard its rule: whether it is on, at the plan's interval, and starts this fleet with the "
        "plan of the functions",
        means="AWS does not rotate its credentials, or at other times than the standby counts with",
        command='make deploy-aws  # with "schedules": true in cdk.json',
        ask=schedules,
        needs=NEEDS_MACHINE,
    ),
)
