"""The check of what sends events in AWS: the bus, the rule of the stack, and the function that it calls."""

from collections.abc import Iterator

from lockstep.doctor import commands
from lockstep.doctor.aws_stack import function_answer
from lockstep.doctor.checks import Check
from lockstep.doctor.context import Context
from lockstep.doctor.findings import Answer, failed, passed
from lockstep.plan import Plan
from lockstep.stack_names import announce_rule_name

_FUNCTION = ":function:"


def events(context: Context) -> Iterator[Answer]:
    """The bus takes events, and what sends them is there and on."""
    bus = context.plan.events.aws if context.plan.events else None
    if bus is None:
        return
    if context.aws.found("events", "describe_event_bus", region=bus.region, Name=bus.name) is None:
        create = commands.aws(bus.region, "events create-event-bus", "--name", bus.name)
        yield failed(bus.name, f"there is no such bus in {bus.region}, so no event reaches anybody", create)
    else:
        yield passed(bus.name, f"the bus is in {bus.region}")
    yield from _rule(context)


def _rule(context: Context) -> Iterator[Answer]:
    name, region = announce_rule_name(context.stack), context.plan.lock.region
    found = context.aws.found("events", "describe_rule", Name=name)
    if found is None:
        yield failed(name, "there is no such rule, so AWS sends no event of a run", commands.DEPLOY_AWS)
        return
    if found.get("State") != "ENABLED":
        enable = commands.aws(region, "events enable-rule", "--name", name)
        yield failed(name, "the rule is off, so AWS sends no event of a run", enable)
    else:
        yield passed(name, "the rule is on")
    targets = context.aws("events", "list_targets_by_rule", Rule=name)["Targets"]
    functions = [str(target["Arn"]) for target in targets if _FUNCTION in str(target["Arn"])]
    if not functions:
        yield failed(name, "the rule calls no function", commands.DEPLOY_AWS)
    for arn in functions:
        yield function_answer(context, arn, caller="the rule of events")


def _with_bus(plan: Plan) -> bool:
    return plan.events is not None and plan.events.aws is not None


CHECKS = (
    Check(
        id="aws.events",
        title="events",
        looks_at="where the plan names a bus: whether it exists, the rule of the stack is on, and the function that it "
        "calls exists and is active",
        means="no event of a run in AWS reaches anybody; rotations do not depend on it",
        command="aws events enable-rule --name RULE",
        ask=events,
        needs="aws.stack",
        applies=_with_bus,
    ),
)
