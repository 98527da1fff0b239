"""The versions and aliases of the synthesised stack: what a deployment moves, in which order, and what it keeps."""

import json
from datetime import timedelta

from cdk.deployment import Canary
from cdk.settings import ROOT
from lockstep.plan.file import load_plan
from lockstep.protocol.deadlines import RUN, START_LATENESS
from tests.infrastructure.cdk_case import CANARY, NO_CANARY, PLAN, Synthesised, shape, synthesise

ALIAS, RULE = "AWS::StepFunctions::StateMachineAlias", "AWS::Events::Rule"
MACHINE, VERSION = "AWS::StepFunctions::StateMachine", "AWS::Lambda::Version"


def rule_of(stack: Synthesised, shard: str) -> str:
    """The logical id of a rule."""
    return stack.id_of(RULE, Name=f"lockstep-{shard}")


def target(stack: Synthesised, credential: str) -> str:
    """The alias by which the fleet starts the rotations of a credential."""
    given = stack.properties(MACHINE, StateMachineName="lockstep-fleet")["DefinitionSubstitutions"]
    return stack.words(given["CanaryAlias" if given["Canary"] == credential else "LiveAlias"])


def follows(stack: Synthesised, later: str, earlier: str) -> bool:
    """Whether CloudFormation makes or changes a resource after another one."""
    resource = stack.all[later]
    text = json.dumps(resource.get("Properties", {}))
    before = {n for n in stack.all if f'"{n}"' in text} | set(resource.get("DependsOn", []))
    return earlier in before or any(follows(stack, name, earlier) for name in before - {later})


def test_without_a_canary_every_rule_starts_the_alias_live_of_the_newest_version() -> None:
    plain = shape("plain")
    ((live, found),) = plain.resources(ALIAS).items()
    (route,) = found["Properties"]["RoutingConfiguration"]
    assert (found["Properties"]["Name"], route["Weight"]) == ("live", 100)
    kind = "AWS::StepFunctions::StateMachineVersion"
    assert route["StateMachineVersionArn"]["Fn::GetAtt"][0] in plain.resources(kind)
    assert {target(plain, c) for c in (CANARY, NO_CANARY)} == {"state machine lockstep:live"}
    # By its name, and yet no rule starts anything before the alias is there, and of the new plan.
    assert all(follows(plain, rule_of(plain, shard), live) for shard in ("20m-00", "1h-00"))
    assert plain.template["Outputs"]["StateMachineArn"]["Value"] == {"Fn::GetAtt": [live, "Arn"]}


def test_a_change_of_any_property_makes_a_version_and_tags_make_none() -> None:
    plain, plan = shape("plain"), load_plan(ROOT / PLAN)
    versions = plain.resources(VERSION).keys()
    assert len(versions) == 4
    assert synthesise(plan, memory_mb=1024).resources(VERSION).keys().isdisjoint(versions)
    assert synthesise(plan, tags={"team": "a"}).resources(VERSION).keys() == versions
    for name, function in plain.resources("AWS::Lambda::Function").items():
        # By its name, so it must exist before the function.
        group = function["Properties"]["LoggingConfig"]["LogGroup"]
        assert follows(plain, name, plain.id_of("AWS::Logs::LogGroup", LogGroupName=group))


def test_the_canary_goes_first_and_the_others_wait_at_the_gate_by_which_nothing_starts() -> None:
    guarded = shape("canary")
    assert target(guarded, CANARY) == "state machine lockstep:canary"
    assert target(guarded, NO_CANARY) == "state machine lockstep:live"
    canary, gate, live = (guarded.id_of(ALIAS, Name=name) for name in ("canary", "gate", "live"))
    fleet = guarded.id_of(MACHINE, StateMachineName="lockstep-fleet")
    watch = guarded.id_of(RULE, Name="lockstep.watch")
    for earlier in (canary, rule_of(guarded, "20m-00"), fleet, watch):
        assert follows(guarded, gate, earlier)
    assert follows(guarded, live, gate)
    assert follows(guarded, rule_of(guarded, "1h-00"), live)
    start = guarded.statements("Start")["fleet"]
    assert start["Condition"]["ForAnyValue:StringEquals"] == {
        "states:StateMachineQualifier": ["live", "canary"]
    }
    assert f'"{gate}"' not in json.dumps(guarded.each(RULE))
    # While the schedules are off no credential can go first.
    off = synthesise(load_plan(ROOT / PLAN), canary=CANARY)
    assert [a["Name"] for a in off.each(ALIAS)] == ["live"]


def test_the_alarm_stops_the_deployment_unless_the_canary_was_rotated_under_the_new_version() -> None:
    guarded = shape("canary")
    preference = guarded.properties(ALIAS, Name="gate")["DeploymentPreference"]
    (alarm,) = (guarded.all[a["Ref"]]["Properties"] for a in preference["Alarms"])
    assert (alarm["AlarmName"], alarm["MetricName"]) == ("lockstep-Canary", "CanarySeconds")
    assert alarm["TreatMissingData"] == "breaching"
    assert not {"AlarmActions", "OKActions", "InsufficientDataActions"} & alarm.keys()
    wait, threshold = timedelta(minutes=preference["Interval"]), timedelta(seconds=alarm["Threshold"])
    # Whatever the alarm counts at the end began under the new version.
    assert wait - threshold - 3 * timedelta(seconds=alarm["Period"]) >= RUN
    # And it is not red as long as every run succeeds.
    assert threshold >= timedelta(minutes=20) + START_LATENESS + RUN
    (watch,) = guarded.properties(RULE, Name="lockstep.watch")["Targets"]
    assert json.loads(watch["Input"])["canary"] == CANARY
    assert Canary(load_plan(ROOT / PLAN).credentials[0]).wait_minutes == preference["Interval"] == 47
