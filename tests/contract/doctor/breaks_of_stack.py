"""What can be wrong with a stack that was deployed in AWS: with what starts, runs and watches rotations there."""

import json

from lockstep.protocol.findings import Outcome
from lockstep.protocol.model import FORMAT
from lockstep.protocol.names import (
    DEFAULT_STACK,
    FORMAT_OUTPUT,
    LIVE,
    announce_rule_name,
    fleet_machine_name,
    rule_name,
)
from sandbox.plans import EVENT_BUS
from tests.contract.doctor.breaking import Act, Break, call
from tests.contract.doctor.world import World


def _stuck(world: World) -> None:
    world.aws.set_stack_status("UPDATE_ROLLBACK_FAILED")


def outputs(**changes: str | None) -> Act:
    """Makes the stack have other outputs; None: no such output."""

    def act(world: World) -> None:
        template = json.loads(json.dumps(world.aws.template))
        for name, value in changes.items():
            template["Outputs"][name] = {"Value": value}
            if value is None:
                del template["Outputs"][name]
        # An update must change a resource too.
        template["Resources"]["Page"]["Properties"]["DisplayName"] = "page"
        world.aws.client("cloudformation").update_stack(
            StackName=DEFAULT_STACK, TemplateBody=json.dumps(template)
        )

    return act


def _no_alias(world: World) -> None:
    world.aws.client("stepfunctions").delete_state_machine_alias(stateMachineAliasArn=world.aws.live)


def _no_log(world: World) -> None:
    world.aws.client("stepfunctions").update_state_machine(
        stateMachineArn=world.aws.machine, loggingConfiguration={"level": "OFF", "destinations": []}
    )


def _other_target(world: World) -> None:
    other = world.aws.fleet.replace(fleet_machine_name(DEFAULT_STACK), "other")
    world.aws.target("1h-00", other, {"shard": "1h-00", "plan": world.aws.place.digest})


def _other_plan(world: World) -> None:
    world.aws.target("1h-00", world.aws.fleet, {"shard": "1h-00", "plan": "d2" * 32})


def _other_shard(world: World) -> None:
    world.aws.target("1h-00", world.aws.fleet, {"shard": "20m-00", "plan": world.aws.place.digest})


def _no_rule(world: World) -> None:
    rule = rule_name(DEFAULT_STACK, "20m-00")
    world.aws.client("events").remove_targets(Rule=rule, Ids=["start"])
    world.aws.client("events").delete_rule(Name=rule)


def _no_fleet(world: World) -> None:
    world.aws.client("stepfunctions").delete_state_machine(stateMachineArn=world.aws.fleet)


def _unpublished(world: World) -> None:
    world.aws.client("s3").delete_object(Bucket=world.aws.place.bucket, Key=world.aws.index)


def _no_announcing_rule(world: World) -> None:
    rule = announce_rule_name(DEFAULT_STACK)
    world.aws.client("events").remove_targets(Rule=rule, Ids=["announce"])
    world.aws.client("events").delete_rule(Name=rule)


def _no_alarms(world: World) -> None:
    names = [f"{DEFAULT_STACK}-{name}" for name in ("Page", "Ticket", "Canary")]
    world.aws.client("cloudwatch").delete_alarms(AlarmNames=names)


def _unsubscribe(world: World) -> None:
    sns = world.aws.client("sns")
    for subscription in sns.list_subscriptions()["Subscriptions"]:
        sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])


def _unconfirmed(world: World) -> None:
    _unsubscribe(world)
    for topic in world.aws.topics:
        world.aws.client("sns").subscribe(TopicArn=topic, Protocol="email", Endpoint="oncall@example.com")


BREAKS_OF_STACK: tuple[Break, ...] = (
    Break(
        check="aws.stack",
        act=call("cloudformation", "delete_stack", StackName=DEFAULT_STACK),
        says="not deployed",
        command="make deploy-aws",
    ),
    Break(check="aws.stack", act=_stuck, says="UPDATE_ROLLBACK_FAILED", command="describe-stack-events"),
    Break(
        check="aws.build",
        act=outputs(**{FORMAT_OUTPUT: str(FORMAT + 1)}),
        says=f"writes format {FORMAT + 1}",
        command="pip install",
    ),
    Break(
        check="aws.build",
        act=outputs(**{FORMAT_OUTPUT: None}),
        says="older than this command",
        command="make deploy-aws",
        outcome=Outcome.WARNING,
    ),
    Break(check="aws.state-machine", act=_no_alias, says=f"no alias {LIVE}", command="make deploy-aws"),
    Break(
        check="aws.state-machine-log",
        act=_no_log,
        says="no log",
        command="make deploy-aws",
        outcome=Outcome.WARNING,
    ),
    Break(
        check="aws.functions",
        act=call("lambda", "delete_function", FunctionName=f"{DEFAULT_STACK}-audit"),
        says="not there",
        command="make deploy-aws",
    ),
    Break(
        check="aws.schedules",
        act=lambda world: world.aws.rule("20m-00", "cron(0/20 * * * ? *)", "DISABLED"),
        says="is off",
        command='"schedules": true',
    ),
    Break(
        check="aws.schedules",
        act=lambda world: world.aws.rule("1h-00", "rate(1 hour)"),
        says="rate(1 hour), and the plan's interval is cron(0 * * * ? *)",
        command="make deploy-aws",
    ),
    Break(check="aws.schedules", act=_no_rule, says="no rule lockstep-", command="make deploy-aws"),
    Break(check="aws.schedules", act=_other_target, says="does not start", command="make deploy-aws"),
    Break(
        check="aws.schedules", act=_other_plan, says="names another published plan", command="make deploy-aws"
    ),
    Break(check="aws.schedules", act=_other_shard, says="starts another shard", command="make deploy-aws"),
    Break(check="aws.fleet", act=_no_fleet, says="is not there", command="make deploy-aws"),
    Break(
        check="aws.published-plan",
        act=_unpublished,
        says="it is not there",
        command="lockstep plan publish --cloud aws",
    ),
    Break(check="aws.alarms", act=_no_alarms, says="no alarm", command="make deploy-aws"),
    Break(
        check="aws.alarms",
        act=call("cloudwatch", "disable_alarm_actions", AlarmNames=[f"{DEFAULT_STACK}-Page"]),
        says="switched off",
        command="enable-alarm-actions --alarm-names lockstep-Page",
    ),
    Break(
        check="aws.alarms",
        act=lambda world: world.aws.alarm(f"{DEFAULT_STACK}-Ticket"),
        says="no action",
        command="make deploy-aws",
    ),
    Break(
        check="aws.alarms",
        act=call(
            "cloudwatch",
            "set_alarm_state",
            AlarmName=f"{DEFAULT_STACK}-Page",
            StateValue="ALARM",
            StateReason="a test",
        ),
        says="it is on",
        command="describe-alarms --alarm-names lockstep-Page",
        outcome=Outcome.WARNING,
    ),
    Break(
        check="aws.events",
        act=call("events", "delete_event_bus", Name=EVENT_BUS),
        says="no such bus",
        command=f"create-event-bus --name {EVENT_BUS}",
    ),
    Break(check="aws.events", act=_no_announcing_rule, says="no such rule", command="make deploy-aws"),
    Break(
        check="aws.events",
        act=call("events", "disable_rule", Name=announce_rule_name(DEFAULT_STACK)),
        says="is off",
        command="enable-rule --name lockstep.announce",
    ),
    Break(
        check="aws.events",
        act=call("events", "remove_targets", Rule=announce_rule_name(DEFAULT_STACK), Ids=["announce"]),
        says="calls no function",
        command="make deploy-aws",
    ),
    Break(
        check="aws.events",
        act=call("lambda", "delete_function", FunctionName=f"{DEFAULT_STACK}-announce"),
        says="the rule of events calls it, and it is not there",
        command="make deploy-aws",
    ),
    Break(check="aws.alarm-subscribers", act=_unsubscribe, says="nobody", command="aws sns subscribe"),
    Break(
        check="aws.alarm-subscribers",
        act=_unconfirmed,
        says="none of 1 subscriptions was confirmed",
        command="aws sns subscribe",
    ),
)
