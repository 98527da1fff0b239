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
from sandbox.emulators.aws.alarms import ALARM, EXTRA_PERIODS, NO_DATA, OK, judge
from tests.infrastructure.cdk_case import BOTH_CLOUDS, RUNBOOK, TOPICS, Synthesised, shape

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
PAGES = {
    *(
        "AuditLogTouched",
        "Blocked",
        "DigestMissing",
        "PromotedByGenerate",
        "Revoking",
        "Stale",
        "WatchSilent",
    ),
}


def alarms(stack: Synthesised) -> dict[str, Mapping[str, Any]]:
    """The properties of each alarm, by its name without the stack's."""
    return {a["AlarmName"].removeprefix("lockstep-"): a for a in stack.each("AWS::CloudWatch::Alarm")}


def test_every_alarm_tells_one_topic_when_it_begins_and_when_it_is_over() -> None:
    """Also adopted topics, of another account, which are not touched."""
    both, trial = shape("both"), shape("trial")
    found, adopting = alarms(both), alarms(trial)
    assert PAGES < found.keys() == adopting.keys()
    for name, alarm in found.items():
        kind = "page" if name in PAGES else "ticket"
        (action,) = alarm["AlarmActions"]
        assert both.resolved(action).rpartition(":")[2] == f"lockstep-{kind}"
        assert adopting[name]["AlarmActions"] == adopting[name]["OKActions"] == [TOPICS[kind]]
        assert alarm["OKActions"] == alarm["AlarmActions"]
        assert 1 <= alarm["DatapointsToAlarm"] <= alarm["EvaluationPeriods"]
        # These tell also that there is no data.
        is_silent = name in {"WatchSilent", "DigestMissing"}
        assert (alarm.get("InsufficientDataActions") == alarm["AlarmActions"]) is is_silent
        assert not is_silent or alarm["TreatMissingData"] == "missing"
    for kind in ("Topic", "TopicPolicy", "Subscription"):
        assert not trial.each(f"AWS::SNS::{kind}")
    assert len(both.each("AWS::SNS::Subscription")) == 2


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


def test_no_alarm_is_red_after_a_deployment_nor_when_the_schedules_are_switched_on() -> None:
    """What was rotated by hand, days ago, is stale until its first trigger, an interval later at most."""
    # At first the lock table is empty, and the schedules are off.
    first = {**first_look(schedules=False), **dict.fromkeys(("DigestsMade", "DigestsConfirming"), 1)}
    by_hand = LockRecord(credential_id="", current_generation=1, next_due_at=NOW - timedelta(days=2))
    at_first, then = first_look(schedules=True, record=by_hand), first_look(schedules=False)
    looks = max(c.schedule.interval for c in load_plan(ROOT / BOTH_CLOUDS).credentials) // EVERY + 1
    found = alarms(shape("both"))
    for name, alarm in found.items():
        metric, many = alarm["MetricName"], alarm["EvaluationPeriods"] + EXTRA_PERIODS
        assert ALARM not in states(alarm, [None] * many), name
        assert states(alarm, [first.get(metric, 0)] * many) == [OK] * many, name
        values = [at_first.get(metric, 0)] * looks + [then.get(metric, 0)] * alarm["EvaluationPeriods"]
        if alarm["Period"] == EVERY.total_seconds():
            assert ALARM not in states(alarm, [*values]), name
    assert ALARM in states(found["Stale"], [at_first["StaleCredentials"]] * (looks + 2))
    # One unsuccessful execution is enough, until the next interval is over.
    for end in ("Failed", "TimedOut", "Aborted"):
        assert states(found[f"Executions{end}"], [1, 0, 0, 0, 0, 0]) == [*[ALARM] * 5, OK]
    # Digests may be missing for three hours.
    for name in ("DigestMissing", "DigestUnconfirmed"):
        assert states(found[name], [1, 0, 0, 1, 0, 0, 0]) == [*[OK] * 6, ALARM]


def test_every_alarm_links_to_its_section_which_begins_with_the_alarms_command() -> None:
    page = (ROOT / "docs" / "alarms.md").read_text()
    sections = dict(re.findall(r"^## (.+)\n\n(.+)$", page, flags=re.MULTILINE))
    for title, alarm in (alarms(shape("canary")) | alarms(shape("both"))).items():
        said = re.search(r"First: `lockstep ([a-z -]+)`\. Then: (.+)$", alarm["AlarmDescription"])
        assert said, title
        assert said[2] == f"{'docs/alarms.md' if title == 'Canary' else RUNBOOK}#{title.lower()}"
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


def test_every_count_has_an_alarm_and_late_runs_digests_and_problems_are_counted_from_logs() -> None:
    """Where a digest's function makes none, its other lines are zeros; where it is not called, there is no data."""
    both = shape("both")
    made = {
        (t["MetricName"], both.resolved(f["LogGroupName"]), f["FilterPattern"], t.get("DefaultValue"))
        for f in both.each("AWS::Logs::MetricFilter")
        for t in f["MetricTransformations"]
    }
    audit, digest, fleet = (
        "lambda/lockstep-audit",
        "lambda/lockstep-digest",
        "vendedlogs/states/lockstep-fleet",
    )
    assert made == {
        *(("AuditLogTouched", f"/aws/{log}", '{ $.examine = "audit-log" }', None) for log in (audit, digest)),
        ("DigestsMade", f"/aws/{digest}", '{ $.message = "digest made" }', 0),
        (
            "DigestsConfirming",
            f"/aws/{digest}",
            '{ ($.message = "digest made") && ($.confirms IS TRUE) }',
            0,
        ),
        (
            "StartedLate",
            f"/aws/{fleet}",
            '{ ($.type = "FailStateEntered") && ($.details.name = "TooLate") }',
            None,
        ),
    }
    ours = {a["MetricName"] for a in alarms(both).values() if a["Namespace"] == "Lockstep/lockstep"}
    assert ours == {*COUNTED, "Credentials", *(name for name, *_ in made)}
    items = json.loads(FLEET_DEFINITION.read_text())["States"]["Rotate"]["ItemProcessor"]["States"]
    assert items["TooLate"]["Type"] == "Fail"
