"""The alarms of the synthesised stack: whom they tell, when, and of metrics that are there."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.events.models import EventPattern
from typer.testing import CliRunner

from cdk.bundle import ROOT
from cdk.deployment import FLEET_DEFINITION
from lockstep.cli.app import app
from lockstep.operate.watch import COUNTED, EVERY, Expected, watch
from lockstep.plan.file import load_plan
from lockstep.protocol.model import LockRecord
from lockstep.protocol.ports import Table
from sandbox.emulators.aws.alarms import EXTRA_PERIODS, judge
from sandbox.emulators.aws.strict_alarms import ALARM, NO_DATA, OK
from tests.infrastructure.cdk_case import BOTH_CLOUDS, PLAN, RUNBOOK, TOPICS, Synthesised, shape, synthesise
from tests.support.scaled import scaled

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
PAGES = {
    "AuditLogTouched",
    "Blocked",
    "DigestMissing",
    "PromotedByGenerate",
    "Revoking",
    "Stale",
    "WatchSilent",
}
TICKETS = {
    *("DeadLetters", "ExecutionsAborted", "ExecutionsFailed", "ExecutionsTimedOut", "Paused"),
    *("FleetAborted", "FleetFailed", "FleetTimedOut", "PlanNotActive", "StartedLate"),
    *("Unreadable", "Unrotated"),
}
OF_A_STANDBY, OF_A_CANARY = "DigestUnconfirmed", "Canary"
COUNTED_IN_LOGS = {
    ("StartedLate", "/aws/vendedlogs/states/lockstep-fleet"),
    ("AuditLogTouched", "/aws/lambda/lockstep-audit"),
    ("AuditLogTouched", "/aws/lambda/lockstep-digest"),
    ("DigestsMade", "/aws/lambda/lockstep-digest"),
}
ALARMS = "AWS::CloudWatch::Alarm"


def alarms(stack: Synthesised) -> dict[str, Mapping[str, Any]]:
    """The properties of each alarm, by its name without the stack's."""
    return {a["AlarmName"].removeprefix("lockstep-"): a for a in stack.each(ALARMS)}


def test_every_alarm_tells_one_topic_when_it_begins_and_when_it_is_over() -> None:
    both = shape("both")
    told: dict[str, set[str]] = {}
    for name, alarm in alarms(both).items():
        (action,) = alarm["AlarmActions"]
        told.setdefault(both.resolved(action).rpartition(":")[2], set()).add(name)
        assert alarm["OKActions"] == alarm["AlarmActions"]
        assert 1 <= alarm["DatapointsToAlarm"] <= alarm["EvaluationPeriods"]
        # These tell also that there is no data.
        is_silent = name in {"WatchSilent", "DigestMissing"}
        assert (alarm.get("InsufficientDataActions") == alarm["AlarmActions"]) is is_silent
        assert not is_silent or alarm["TreatMissingData"] == "missing"
    assert told == {"lockstep-page": PAGES, "lockstep-ticket": TICKETS | {OF_A_STANDBY}}
    assert alarms(shape("plain")).keys() == PAGES | TICKETS


def test_adopted_topics_get_the_alarms_and_are_not_touched() -> None:
    """Also those of another account."""
    trial = shape("trial")
    for kind in ("AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "AWS::SNS::Subscription"):
        assert not trial.each(kind)
    for name, alarm in alarms(trial).items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == [TOPICS["page" if name in PAGES else "ticket"]]
    for kind, topic in TOPICS.items():
        assert trial.template["Outputs"][f"{kind.title()}TopicArn"]["Value"] == topic


def states(alarm: Mapping[str, Any], values: list[float | None]) -> list[str]:
    """The states of a new alarm after each of its first values."""
    seen, before = [], NO_DATA
    window = alarm["EvaluationPeriods"] + EXTRA_PERIODS
    below = alarm["ComparisonOperator"] == "LessThanThreshold"
    for count in range(1, len(values) + 1):
        before = judge(
            [*[None] * window, *values[:count]][-window:],
            breaches=lambda value: (value < alarm["Threshold"]) is below,
            evaluation_periods=alarm["EvaluationPeriods"],
            datapoints_to_alarm=alarm["DatapointsToAlarm"],
            treat_missing_data=alarm["TreatMissingData"],
            before=before,
        )
        seen.append(before)
    return seen


def first_look(*, schedules: bool, record: LockRecord | None = None) -> Mapping[str, float]:
    """What the watch counts of credentials that all have one record, or none."""
    plan = load_plan(ROOT / BOTH_CLOUDS)
    records = {
        c.id: replace(record, credential_id=c.id, plan=c.plan_digest) for c in plan.credentials if record
    }
    expected = Expected(credentials=plan.credentials, schedules=schedules)
    return watch(Table(records=records, unreadable={}), expected, now=NOW).metrics


def test_no_alarm_is_red_right_after_a_deployment_nor_with_its_first_values() -> None:
    """The lock table is empty, and the schedules are off."""
    first = {**first_look(schedules=False), **dict.fromkeys(("DigestsMade", "DigestsConfirming"), 1)}
    for name, alarm in alarms(shape("both")).items():
        many = alarm["EvaluationPeriods"] + EXTRA_PERIODS
        assert ALARM not in states(alarm, [None] * many), name
        assert states(alarm, [first.get(alarm["MetricName"], 0)] * many) == [OK] * many, name


def test_no_alarm_is_red_when_the_schedules_are_switched_on() -> None:
    """What was rotated by hand, days ago, is stale until its first trigger, an interval later at most."""
    by_hand = LockRecord(credential_id="", current_generation=1, next_due_at=NOW - timedelta(days=2))
    at_first, then = first_look(schedules=True, record=by_hand), first_look(schedules=False)
    assert at_first["StaleCredentials"]
    looks = max(c.schedule.interval for c in load_plan(ROOT / BOTH_CLOUDS).credentials) // EVERY + 1
    found = alarms(shape("both"))
    for name, alarm in found.items():
        metric = alarm["MetricName"]
        values = [at_first.get(metric, 0)] * looks + [then.get(metric, 0)] * alarm["EvaluationPeriods"]
        if alarm["Period"] == EVERY.total_seconds():
            assert ALARM not in states(alarm, [*values]), name
    assert ALARM in states(found["Stale"], [at_first["StaleCredentials"]] * (looks + 2))


def test_every_alarm_links_to_its_section_which_begins_with_the_alarms_command() -> None:
    page = (ROOT / "docs" / "alarms.md").read_text()
    sections = dict(re.findall(r"^## (.+)\n\n(.+)$", page, flags=re.MULTILINE))
    for title, alarm in (alarms(shape("canary")) | alarms(shape("both"))).items():
        said = re.search(r"First: `lockstep ([a-z -]+)`\. Then: (.+)$", alarm["AlarmDescription"])
        assert said, title
        assert said[2] == f"{'docs/alarms.md' if title == OF_A_CANARY else RUNBOOK}#{title.lower()}"
        assert sections[title].startswith(f"`lockstep {said[1]}`"), title
        assert CliRunner().invoke(app, [*said[1].split(), "--help"]).exit_code == 0


def test_that_generate_promotes_is_kept_and_told() -> None:
    """By what CloudTrail tells EventBridge. Where a call names no stage, Secrets Manager promotes."""
    stack = shape("both")
    (rule,) = [r for r in stack.each("AWS::Events::Rule") if r.get("Name") == "lockstep-promotions"]
    pattern = EventPattern.load(json.dumps(stack.resolved(rule["EventPattern"])))
    for role, asked, is_told in (
        ("Generate", {"versionStages": ["PENDING", "AWSCURRENT"]}, True),
        ("Generate", {}, True),
        ("Generate", {"versionStages": ["PENDING"]}, False),
        ("Audit", {}, False),
    ):
        (name,) = [n for n in stack.resources("AWS::IAM::Role") if n.startswith(f"Functions{role}Role")]
        issuer = {"sessionContext": {"sessionIssuer": {"arn": stack.arn(name)}}}
        detail = {"eventName": "PutSecretValue", "requestParameters": asked, "userIdentity": issuer}
        event: Any = {"source": "aws.secretsmanager", "detail": detail}
        assert pattern.matches_event(event) is is_told, (role, asked)
    assert alarms(stack)["PromotedByGenerate"]["Dimensions"] == [{"Name": "RuleName", "Value": rule["Name"]}]


def test_what_is_stale_gets_its_next_trigger_and_digests_three_hours_before_people_are_told() -> None:
    found = alarms(shape("both"))
    patience = found["Stale"]["DatapointsToAlarm"] * found["Stale"]["Period"]
    assert patience > timedelta(minutes=20).total_seconds()
    assert found["Stale"]["Dimensions"] == [{"Name": "Stack", "Value": "lockstep"}]
    # One unsuccessful execution is enough, until the next interval is over.
    for end in ("Failed", "TimedOut", "Aborted"):
        assert states(found[f"Executions{end}"], [1, 0, 0, 0, 0, 0]) == [*[ALARM] * 5, OK]
    assert states(found["DigestMissing"], [1, 1, 1, 1, 0, 0, 0]) == [*[OK] * 6, ALARM]
    assert states(found["DigestUnconfirmed"], [1, 0, 0, 1, 0, 0, 0]) == [*[OK] * 6, ALARM]


def test_every_count_has_an_alarm_and_late_runs_digests_and_problems_are_counted_from_logs() -> None:
    """Where a digest's function makes none, its other lines are zeros; where it is not called, there is no data."""
    both = shape("both")
    made = {
        (t["MetricName"], both.resolved(f["LogGroupName"])): (f["FilterPattern"], t)
        for f in both.each("AWS::Logs::MetricFilter")
        for t in f["MetricTransformations"]
    }
    log = "/aws/lambda/lockstep-digest"
    assert made.keys() == COUNTED_IN_LOGS | {("DigestsConfirming", log)}
    ours = {a["MetricName"] for a in alarms(both).values() if a["Namespace"] == "Lockstep/lockstep"}
    assert ours == {*COUNTED, "Credentials", *(name for name, _ in made)}
    for (name, _), (pattern, transformation) in made.items():
        assert transformation["MetricNamespace"] == "Lockstep/lockstep"
        assert "Dimensions" not in transformation
        zeros = 0 if name.startswith("Digests") else None
        assert transformation.get("DefaultValue") == zeros
        assert name != "AuditLogTouched" or pattern == '{ $.examine = "audit-log" }'
    assert made["DigestsMade", log][0] == '{ $.message = "digest made" }'
    assert made["DigestsConfirming", log][0] == '{ ($.message = "digest made") && ($.confirms IS TRUE) }'
    assert '"TooLate"' in made["StartedLate", "/aws/vendedlogs/states/lockstep-fleet"][0]
    items = json.loads(FLEET_DEFINITION.read_text())["States"]["Rotate"]["ItemProcessor"]["States"]
    assert items["TooLate"]["Type"] == "Fail"


def test_neither_alarms_nor_metrics_grow_with_the_plan() -> None:
    """With a hundred credentials as with two, one of each interval; only resources of a credential are more."""
    few, many = (
        json.dumps([found.each(kind) for kind in (ALARMS, "AWS::Logs::MetricFilter")])
        for found in (shape("plain"), synthesise(scaled(load_plan(ROOT / PLAN), 100)))
    )
    assert len(few) == len(many)
