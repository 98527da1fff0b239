"""The versions and aliases of the synthesised stack: what a deployment moves, in which order, and what it keeps."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cdk.deployment import LONGEST_WAIT, Canary, check_canary, read_deployment
from cdk.settings import ROOT, NotDeployableError, Settings
from lockstep.operate.watch import EVERY
from lockstep.plan.file import load_plan
from lockstep.protocol.deadlines import RUN, START_LATENESS
from tests.infrastructure.cdk_case import PLAN, Synthesised, synthesised
from tests.infrastructure.template import synthesise
from tests.support.scaled import scaled

CANARY, OTHER = "multi-cloud/app_user", "multi-cloud/ledger_user"
ALIAS = "AWS::StepFunctions::StateMachineAlias"
LOGS = [
    f"/aws/lambda/lockstep-{step}" for step in ("generate", "apply-db", "update-secrets", "audit", "watch")
]
VERSIONS = ("AWS::Lambda::Version", "AWS::StepFunctions::StateMachineVersion")


@pytest.fixture(scope="module", name="plain")
def _plain() -> Synthesised:
    return synthesised()


@pytest.fixture(scope="module", name="guarded")
def _guarded() -> Synthesised:
    """With a canary."""
    return synthesised(schedules=True, canary=CANARY)


def named(stack: Synthesised, alias: str) -> tuple[str, Mapping[str, Any]]:
    """An alias: its logical id, and the resource."""
    (found,) = ((n, r) for n, r in stack.resources(ALIAS).items() if r["Properties"]["Name"] == alias)
    return found


def target(stack: Synthesised, credential: str) -> str:
    """The alias by which the fleet starts the rotations of a credential."""
    fleet = stack.properties("AWS::StepFunctions::StateMachine", StateMachineName="lockstep-fleet")
    given = fleet["DefinitionSubstitutions"]
    return stack.words(given["CanaryAlias" if given["Canary"] == credential else "LiveAlias"])


def rule_of(stack: Synthesised, shard: str) -> str:
    """The logical id of a shard's rule."""
    rules = stack.resources("AWS::Events::Rule").items()
    (found,) = (name for name, r in rules if r["Properties"]["Name"] == f"lockstep-{shard}")
    return found


def follows(stack: Synthesised, later: str, earlier: str) -> bool:
    """Whether CloudFormation makes or changes a resource after another one."""
    resource = stack.template["Resources"][later]
    text = json.dumps(resource["Properties"])
    before = {n for n in stack.template["Resources"] if f'"{n}"' in text} | set(resource.get("DependsOn", []))
    return earlier in before or any(follows(stack, name, earlier) for name in before - {later})


@pytest.mark.parametrize("kind", VERSIONS)
def test_versions_outlive_the_deployment_that_replaces_them_but_not_the_failed_one_that_made_them(
    plain: Synthesised, kind: str
) -> None:
    found = plain.resources(kind)
    assert len(found) == (4 if kind == "AWS::Lambda::Version" else 1)
    for resource in found.values():
        kept = resource["DeletionPolicy"], resource["UpdateReplacePolicy"]
        assert kept == ("RetainExceptOnCreate", "Retain")


def test_without_a_canary_every_rule_starts_the_alias_live(plain: Synthesised) -> None:
    ((_, live),) = plain.resources(ALIAS).items()
    assert live["Properties"]["Name"] == "live"
    (route,) = live["Properties"]["RoutingConfiguration"]
    assert route["Weight"] == 100
    assert route["StateMachineVersionArn"]["Fn::GetAtt"][0] in plain.resources(VERSIONS[1])
    assert {target(plain, c) for c in (CANARY, OTHER)} == {"state machine lockstep:live"}
    # By its name, and yet no rule starts anything before the alias is there, and of the new plan.
    assert all(
        follows(plain, rule_of(plain, shard), named(plain, "live")[0]) for shard in ("20m-00", "1h-00")
    )
    assert plain.template["Outputs"]["StateMachineArn"]["Value"] == {
        "Fn::GetAtt": [named(plain, "live")[0], "Arn"]
    }


def test_a_change_of_any_property_makes_a_version_and_tags_make_none(plain: Synthesised) -> None:
    versions = plain.resources("AWS::Lambda::Version").keys()
    assert synthesised(memory_mb=1024).resources("AWS::Lambda::Version").keys().isdisjoint(versions)
    assert synthesised(tags='{"team": "a"}').resources("AWS::Lambda::Version").keys() == versions


def test_what_is_spelled_in_another_way_makes_no_version(plain: Synthesised) -> None:
    """CloudFormation refuses to publish a function that has not changed."""
    adopting = synthesised(adopt=json.dumps({"existing": LOGS}))
    assert adopting.resources("AWS::Lambda::Version").keys() == plain.resources("AWS::Lambda::Version").keys()
    for name, function in plain.resources("AWS::Lambda::Function").items():
        # By its name, so it must exist before the function.
        group = function["Properties"]["LoggingConfig"]["LogGroup"]
        (made,) = (
            n
            for n, g in plain.resources("AWS::Logs::LogGroup").items()
            if g["Properties"]["LogGroupName"] == group
        )
        assert follows(plain, name, made)


def test_the_canary_goes_first_and_the_others_wait_at_the_gate(guarded: Synthesised) -> None:
    assert (target(guarded, CANARY), target(guarded, OTHER)) == (
        "alias canary",
        "state machine lockstep:live",
    )
    canary, gate, live = (named(guarded, name)[0] for name in ("canary", "gate", "live"))
    (fleet,) = (
        name
        for name, r in guarded.resources("AWS::StepFunctions::StateMachine").items()
        if r["Properties"]["StateMachineName"] == "lockstep-fleet"
    )
    rule, later = rule_of(guarded, "20m-00"), rule_of(guarded, "1h-00")
    (watch,) = (
        n for n, r in guarded.resources("AWS::Events::Rule").items() if "watch" in r["Properties"]["Name"]
    )
    assert all(follows(guarded, gate, earlier) for earlier in (canary, rule, fleet, watch))
    assert follows(guarded, live, gate)
    assert follows(guarded, later, live)
    (statement,) = (s for role, s in guarded.policies() if role == "fleet" and s.get("Sid") == "Start")
    assert statement["Condition"]["ForAnyValue:StringEquals"] == {
        "states:StateMachineQualifier": ["live", "canary"]
    }


def test_nothing_starts_by_the_gate_and_the_alarm_stops_it(guarded: Synthesised) -> None:
    name, gate = named(guarded, "gate")
    assert f'"{name}"' not in json.dumps(
        [r["Properties"] for r in guarded.resources("AWS::Events::Rule").values()]
    )
    preference = gate["Properties"]["DeploymentPreference"]
    (alarm,) = (a["Ref"] for a in preference["Alarms"])
    judged = guarded.template["Resources"][alarm]["Properties"]
    assert (judged["AlarmName"], judged["MetricName"]) == ("lockstep-Canary", "CanarySeconds")
    assert judged["TreatMissingData"] == "breaching"
    assert not {"AlarmActions", "OKActions", "InsufficientDataActions"} & judged.keys()
    wait = timedelta(minutes=preference["Interval"])
    # Whatever the alarm counts at the end began under the new version.
    behind = 3 * timedelta(seconds=judged["Period"])
    assert wait - timedelta(seconds=judged["Threshold"]) - behind >= RUN
    # And it is not red as long as every run succeeds.
    assert timedelta(seconds=judged["Threshold"]) >= timedelta(minutes=20) + START_LATENESS + RUN
    (rule,) = (
        r for r in guarded.resources("AWS::Events::Rule").values() if "watch" in r["Properties"]["Name"]
    )
    assert json.loads(rule["Properties"]["Targets"][0]["Input"])["canary"] == CANARY


def test_credentials_that_are_divided_into_more_shards_have_their_rules_before_the_gate(
    tmp_path: Path,
) -> None:
    plan = scaled(load_plan(ROOT / PLAN), 500)
    (canary, *_) = (c.id for c in plan.credential_sections if c.interval == timedelta(minutes=20))
    settings = Settings(plan=PLAN, schedules=True, canary=canary)
    assert len([shard for shard in plan.shards if shard.interval == timedelta(minutes=20)]) > 1
    stack = Synthesised(tmp_path, synthesise(plan, settings, tmp_path).content)
    gate, _ = named(stack, "gate")
    live, _ = named(stack, "live")
    for shard in plan.shards:
        rule = rule_of(stack, shard.name)
        is_canarys = shard.interval == timedelta(minutes=20)
        assert (follows(stack, gate, rule), follows(stack, rule, live)) == (is_canarys, not is_canarys)


def test_the_runbook_tells_what_the_alarm_on_the_canary_means(guarded: Synthesised) -> None:
    alarm = guarded.properties("AWS::CloudWatch::Alarm", AlarmName="lockstep-Canary")
    _, _, anchor = alarm["AlarmDescription"].rpartition("docs/runbook.md#")
    headings = [
        line.lstrip("# ").lower().replace(" ", "-")
        for line in (ROOT / "docs" / "runbook.md").read_text().splitlines()
        if line.startswith("#")
    ]
    assert anchor in headings


def test_while_the_schedules_are_off_no_credential_can_go_first() -> None:
    stack = synthesised(canary=CANARY)
    assert [a["Properties"]["Name"] for a in stack.resources(ALIAS).values()] == ["live"]


def test_a_canary_that_the_plan_does_not_have_is_refused() -> None:
    with pytest.raises(NotDeployableError, match="canary: the plan has no credential somebody"):
        read_deployment(Settings(plan=PLAN, canary="somebody"))


def test_a_canary_for_which_no_deployment_can_wait_is_refused(tmp_path: Path) -> None:
    text = (ROOT / PLAN).read_text()
    assert "interval: 1h" in text
    (tmp_path / "lockstep.yaml").write_text(text.replace("interval: 1h", "interval: 2d"))
    plan = load_plan(tmp_path / "lockstep.yaml")
    check_canary(plan, CANARY)
    with pytest.raises(NotDeployableError, match="a deployment cannot wait"):
        check_canary(plan, OTHER)
    longest = LONGEST_WAIT - RUN - START_LATENESS - RUN - 3 * EVERY
    day = timedelta(days=1)
    assert longest >= day
    assert Canary(load_plan(ROOT / PLAN).credentials[0]).wait_minutes == 47
