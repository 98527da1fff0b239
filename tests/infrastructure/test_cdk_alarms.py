"""The alarms of the synthesised stack: whom they tell, when, and that their number does not grow with the plan."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cdk.bundle import ROOT
from cdk.deployment import DEFINITION, FLEET_DEFINITION
from cdk.settings import Adopt, NotDeployableError, Settings, Topics
from lockstep.cli.app import app
from lockstep.operate.watch import COUNTED, EVERY, Expected, watch
from lockstep.plan.file import load_plan
from lockstep.protocol.model import LockRecord
from lockstep.protocol.ports import Table
from sandbox.emulators.aws.alarms import EXTRA_PERIODS, judge
from sandbox.emulators.aws.strict_alarms import ALARM, NO_DATA, OK
from tests.infrastructure.cdk_case import BOTH_CLOUDS, PLAN, Synthesised, synthesised
from tests.infrastructure.template import synthesise
from tests.support.scaled import scaled

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
PAGE_TOPIC = "arn:aws:sns:eu-central-1:999999999999:on-call"
TICKET_TOPIC = "arn:aws:sns:eu-central-1:111122223333:tickets"
PAGES = {"AuditLogTouched", "Blocked", "DigestMissing", "Revoking", "Stale", "WatchSilent"}
TICKETS = {
    *(
        "DeadLetters",
        "ExecutionsAborted",
        "ExecutionsFailed",
        "ExecutionsTimedOut",
        "Paused",
        "PlanNotActive",
    ),
    *("FleetAborted", "FleetFailed", "FleetTimedOut", "StartedLate"),
    *("Unreadable", "Unrotated"),
}


@pytest.fixture(scope="module", name="aws")
def _aws() -> Synthesised:
    return synthesised()


@pytest.fixture(scope="module", name="both")
def _both() -> Synthesised:
    return synthesised(plan=BOTH_CLOUDS, alarm_email="operator@example.com")


def alarms(stack: Synthesised) -> dict[str, Mapping[str, Any]]:
    """The properties of each alarm, by its name without the stack's."""
    found = (a["Properties"] for a in stack.resources("AWS::CloudWatch::Alarm").values())
    return {a["AlarmName"].removeprefix("lockstep-"): a for a in found}


def told(stack: Synthesised, alarm: Mapping[str, Any]) -> str:
    """The name of the topic that an alarm tells."""
    (action,) = alarm["AlarmActions"]
    name: str = stack.resources("AWS::SNS::Topic")[action["Ref"]]["Properties"]["TopicName"]
    return name


def test_every_alarm_tells_one_topic_when_it_begins_and_when_it_is_over(both: Synthesised) -> None:
    by_name = alarms(both)
    assert {n for n, a in by_name.items() if told(both, a) == "lockstep-page"} == PAGES
    assert {n for n, a in by_name.items() if told(both, a) == "lockstep-ticket"} == TICKETS | {
        "DigestUnconfirmed"
    }
    for alarm in by_name.values():
        assert alarm["OKActions"] == alarm["AlarmActions"]
        assert 1 <= alarm["DatapointsToAlarm"] <= alarm["EvaluationPeriods"]


def test_one_alarm_each_tells_that_the_watch_is_silent_or_no_digest_is_made(both: Synthesised) -> None:
    silent = {name: a for name, a in alarms(both).items() if "InsufficientDataActions" in a}
    assert silent.keys() == {"WatchSilent", "DigestMissing"}
    for alarm in silent.values():
        assert alarm["InsufficientDataActions"] == alarm["AlarmActions"]
        assert alarm["TreatMissingData"] == "missing"


def test_a_plan_without_a_standby_has_no_alarm_for_it(aws: Synthesised) -> None:
    assert alarms(aws).keys() == PAGES | TICKETS


def test_no_alarm_is_red_right_after_a_deployment(both: Synthesised) -> None:
    for name, alarm in alarms(both).items():
        state = judge(
            [None] * (alarm["EvaluationPeriods"] + EXTRA_PERIODS),
            breaches=lambda _: True,
            evaluation_periods=alarm["EvaluationPeriods"],
            datapoints_to_alarm=alarm["DatapointsToAlarm"],
            treat_missing_data=alarm["TreatMissingData"],
            before=NO_DATA,
        )
        assert state != ALARM, name


def states(alarm: Mapping[str, Any], values: list[float]) -> list[str]:
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


def test_no_alarm_is_red_with_the_first_values_after_a_deployment(both: Synthesised) -> None:
    """The lock table is empty, and the schedules are off."""
    counted = first_look(schedules=False)
    hourly = dict.fromkeys(("DigestsMade", "DigestsConfirming"), 1)
    for name, alarm in alarms(both).items():
        value = {**counted, **hourly}.get(alarm["MetricName"], 0)
        many = alarm["EvaluationPeriods"] + EXTRA_PERIODS
        assert states(alarm, [value] * many) == [OK] * many, name


def test_no_alarm_is_red_when_the_schedules_are_switched_on(both: Synthesised) -> None:
    """What was rotated by hand, days ago, is stale until its first trigger, an interval later at most."""
    ago = NOW - timedelta(days=2)
    by_hand = LockRecord(credential_id="", current_generation=1, next_due_at=ago)
    at_first, then = first_look(schedules=True, record=by_hand), first_look(schedules=False)
    assert at_first["StaleCredentials"]
    looks = max(c.schedule.interval for c in load_plan(ROOT / BOTH_CLOUDS).credentials) // EVERY + 1
    for name, alarm in alarms(both).items():
        metric = alarm["MetricName"]
        values = [at_first.get(metric, 0)] * looks + [then.get(metric, 0)] * alarm["EvaluationPeriods"]
        if alarm["Period"] == EVERY.total_seconds():
            assert ALARM not in states(alarm, values), name
    assert ALARM in states(alarms(both)["Stale"], [at_first["StaleCredentials"]] * (looks + 2))


def test_every_alarm_names_a_command_and_a_section_of_the_runbook(both: Synthesised) -> None:
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / "runbook.md").read_text(), flags=re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    for alarm in alarms(both).values():
        said = re.search(
            r"First: `lockstep ([a-z -]+)`. Then: docs/runbook.md#(.+)$", alarm["AlarmDescription"]
        )
        assert said
        assert said[2] in anchors
        assert CliRunner().invoke(app, [*said[1].split(), "--help"]).exit_code == 0


def test_the_runbook_lists_every_alarm(both: Synthesised) -> None:
    text = (ROOT / "docs" / "runbook.md").read_text()
    for name in alarms(both):
        assert re.search(rf"^\| [^|]*\b{name}\b", text, flags=re.MULTILINE), name


@pytest.mark.parametrize("name", ["ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"])
def test_one_unsuccessful_execution_raises_an_alarm_until_the_next_interval_is_over(
    aws: Synthesised, name: str
) -> None:
    alarm = alarms(aws)[name]
    assert (alarm["MetricName"], alarm["Threshold"], alarm["DatapointsToAlarm"], alarm["Period"]) == (
        name,
        1,
        1,
        300,
    )
    assert alarm["EvaluationPeriods"] * 300 == 1200 + 300
    assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"


def test_what_is_stale_gets_its_next_trigger_before_people_are_paged(aws: Synthesised) -> None:
    alarm = alarms(aws)["Stale"]
    assert (alarm["Namespace"], alarm["MetricName"]) == ("Lockstep/lockstep", "StaleCredentials")
    assert alarm["Dimensions"] == [{"Name": "Stack", "Value": "lockstep"}]
    assert alarm["DatapointsToAlarm"] * alarm["Period"] > timedelta(minutes=20).total_seconds()


def test_every_count_of_the_watch_has_an_alarm(both: Synthesised) -> None:
    counted = {a["MetricName"] for a in alarms(both).values() if a["Namespace"].startswith("Lockstep")}
    of_no_credential = {
        *("AuditLogTouched", "Credentials", "DigestsConfirming", "DigestsMade"),
        "StartedLate",
    }
    assert counted == {*COUNTED, *of_no_credential}


def test_the_watch_is_always_on_and_knows_whether_the_schedules_are() -> None:
    for schedules in (False, True):
        stack = synthesised(schedules=schedules)
        rule = stack.properties("AWS::Events::Rule", Name="lockstep.watch")
        (target,) = rule["Targets"]
        assert (rule["State"], rule["ScheduleExpression"]) == ("ENABLED", "rate(5 minutes)")
        assert json.loads(target["Input"]) == {"stack": "lockstep", "schedules": schedules}
        assert stack.words(target["Arn"]) == "function lockstep-watch"


def test_neither_alarms_nor_metrics_nor_the_dashboard_grow_with_the_plan(tmp_path: Path) -> None:
    """With a hundred credentials as with two, one of each interval; only resources of a credential are more."""
    plan = load_plan(ROOT / PLAN)
    kinds = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard", "AWS::Logs::MetricFilter")
    sizes = []
    for count in (2, 100):
        settings = Settings(plan=PLAN)
        template = synthesise(scaled(plan, count), settings, tmp_path / str(count)).content
        found = [r for r in template["Resources"].values() if r["Type"] in kinds]
        sizes.append((len(found), len(json.dumps(found))))
        assert 'Credential"' not in json.dumps(found)
    assert sizes[0] == sizes[1]


def test_rotations_and_skips_are_counted_from_logs(aws: Synthesised) -> None:
    filters = {
        f["Properties"]["MetricTransformations"][0]["MetricName"]: f["Properties"]
        for f in aws.resources("AWS::Logs::MetricFilter").values()
    }
    assert set(filters) == {"AuditLogTouched", "DigestsMade", "Rotations", "Skipped", "StartedLate"}
    assert aws.words(filters["Rotations"]["LogGroupName"]) == "log /aws/lambda/lockstep-update-secrets"
    for one in filters.values():
        (made,) = one["MetricTransformations"]
        assert (made["MetricNamespace"], "Dimensions" in made) == ("Lockstep/lockstep", False)
    assert json.loads(DEFINITION.read_text())["States"]["Skipped"]["Type"] == "Succeed"
    assert aws.words(filters["StartedLate"]["LogGroupName"]) == "log /aws/vendedlogs/states/lockstep-fleet"
    assert '"TooLate"' in filters["StartedLate"]["FilterPattern"]
    items = json.loads(FLEET_DEFINITION.read_text())["States"]["Rotate"]["ItemProcessor"]["States"]
    assert items["TooLate"]["Type"] == "Fail"


def test_digests_and_their_problems_are_counted_from_the_log_of_their_function(both: Synthesised) -> None:
    """Where it is called and makes none, its other lines are zeros; where it is not called, there is no data."""
    found = {
        (made["MetricName"], both.words(f["Properties"]["LogGroupName"])): (
            f["Properties"]["FilterPattern"],
            made.get("DefaultValue"),
        )
        for f in both.resources("AWS::Logs::MetricFilter").values()
        for made in f["Properties"]["MetricTransformations"]
    }
    log = "log /aws/lambda/lockstep-digest"
    assert found["DigestsMade", log] == ('{ $.message = "digest made" }', 0)
    confirming = '{ ($.message = "digest made") && ($.confirms IS TRUE) }'
    assert found["DigestsConfirming", log] == (confirming, 0)
    examine = ('{ $.examine = "audit-log" }', None)
    assert (
        found["AuditLogTouched", log] == found["AuditLogTouched", "log /aws/lambda/lockstep-audit"] == examine
    )
    for name, day in (
        ("DigestMissing", [1.0] * 4 + [0.0] * 3),
        ("DigestUnconfirmed", [1.0, 0, 0, 1, 0, 0, 0]),
    ):
        alarm = alarms(both)[name]
        assert (alarm["Period"], alarm["Statistic"]) == (3600, "Sum")
        assert states(alarm, day) == [*[OK] * 6, ALARM]


def test_the_digest_is_made_a_quarter_past_each_hour_and_tried_three_times(aws: Synthesised) -> None:
    rule = aws.properties("AWS::Events::Rule", Name="lockstep.digest")
    (target,) = rule["Targets"]
    assert (rule["State"], rule["ScheduleExpression"]) == ("ENABLED", "cron(15 * * * ? *)")
    assert (target["Input"], target["RetryPolicy"]["MaximumRetryAttempts"]) == ("{}", 2)
    assert aws.words(target["Arn"]) == "function lockstep-digest"
    function = aws.properties("AWS::Lambda::Function", FunctionName="lockstep-digest")
    assert (function["Timeout"], function["MemorySize"], "VpcConfig" in function) == (900, 512, False)
    environment = function["Environment"]["Variables"]
    assert environment.keys() == {"LOCKSTEP_PLAN", "LOCKSTEP_DIGEST_KEY"}
    assert aws.words(environment["LOCKSTEP_DIGEST_KEY"]) == "key alias/lockstep-digests"


def test_dead_letters_are_kept_and_raise_an_alarm(aws: Synthesised) -> None:
    assert alarms(aws)["DeadLetters"]["Threshold"] == 1
    assert aws.properties("AWS::SQS::Queue")["MessageRetentionPeriod"] == timedelta(days=14).total_seconds()


def test_there_is_a_dashboard(aws: Synthesised) -> None:
    assert aws.properties("AWS::CloudWatch::Dashboard")["DashboardName"] == "lockstep"
    assert not synthesised(dashboard=False).resources("AWS::CloudWatch::Dashboard")


def test_an_address_subscribes_to_both_topics(both: Synthesised) -> None:
    assert len(both.resources("AWS::SNS::Subscription")) == 2


def test_an_adopted_topic_gets_the_alarms_and_is_not_touched() -> None:
    """Also one of another account."""
    stack = synthesised(
        adopt=Adopt(topics=Topics(page=PAGE_TOPIC, ticket=TICKET_TOPIC)),
    )
    for kind in ("AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "AWS::SNS::Subscription"):
        assert not stack.resources(kind)
    assert [a["AlarmActions"] for n, a in alarms(stack).items() if n in PAGES] == [[PAGE_TOPIC]] * len(PAGES)
    assert [a["OKActions"] for n, a in alarms(stack).items() if n in TICKETS] == [[TICKET_TOPIC]] * len(
        TICKETS
    )
    outputs = stack.template["Outputs"]
    assert (outputs["PageTopicArn"]["Value"], outputs["TicketTopicArn"]["Value"]) == (
        PAGE_TOPIC,
        TICKET_TOPIC,
    )


def test_one_topic_can_be_adopted_and_the_other_made() -> None:
    stack = synthesised(adopt=Adopt(topics=Topics(ticket=TICKET_TOPIC)), alarm_email="operator@example.com")
    assert [t["Properties"]["TopicName"] for t in stack.resources("AWS::SNS::Topic").values()] == [
        "lockstep-page"
    ]
    assert len(stack.resources("AWS::SNS::Subscription")) == 1


def test_an_address_with_no_topic_to_subscribe_to_is_refused() -> None:
    with pytest.raises(NotDeployableError, match="alarm_email: both topics are adopted"):
        synthesised(
            adopt=Adopt(topics=Topics(page=PAGE_TOPIC, ticket=TICKET_TOPIC)), alarm_email="a@example.com"
        )
