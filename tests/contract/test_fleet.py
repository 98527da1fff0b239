"""The state machine of the fleet, as it is deployed, in the sandbox's interpreter."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest

from lockstep.audit.entry import is_of_a_run
from lockstep.protocol import deadlines
from lockstep.protocol.deadlines import START_POLICY
from lockstep.protocol.messages import RunInput
from lockstep.protocol.schedule import cloud_of, run_key
from sandbox.emulators.aws import AwsSandbox
from tests.support.fleet_machine import (
    MINUTE,
    NOW,
    REPORTS,
    SECRET_OF_A_CAUSE,
    TICK,
    TIME,
    Clock,
    Fleet,
)

LATEST = (deadlines.LAST_START - START_POLICY.longest).total_seconds()
"""So many seconds after its trigger a rotation is begun at the latest."""


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock()


@pytest.fixture(name="fleet")
def _fleet(clock: Clock) -> Iterator[Fleet]:
    naps: list[float] = []
    with AwsSandbox(retry_sleep=naps.append, wall_clock=clock) as aws:
        fleet = Fleet(aws, naps=naps)
        fleet.deploy()
        yield fleet
        fleet.go_on()


def test_each_credential_of_a_shard_is_rotated_once(fleet: Fleet) -> None:
    ids = [f"team/app-{n}" for n in range(7)]
    fleet.publish(ids)
    execution = fleet.run()
    assert execution.status == "SUCCEEDED", (execution.error, execution.cause)
    assert sorted(fleet.rotated, key=lambda e: e["credential_id"]) == [
        {"credential_id": c, "trigger": "schedule"} for c in ids
    ]
    assert {run["name"] for run in fleet.runs()} == {f"f-{TICK}-{run_key(c)}" for c in ids}
    assert {k: v for k, v in execution.output.items() if k != "report"} == {
        "shard": "20m-00",
        "tick": TICK,
        "rotations": 7,
        "failed": 0,
    }
    outputs = [json.loads(entry["Output"]) for entry in fleet.results(execution)["SUCCEEDED"]]
    assert outputs == [{"credential_id": c, "outcome": "rotated"} for c in ids]


def test_rotations_begin_one_after_the_other_in_the_order_of_the_list(fleet: Fleet) -> None:
    ids = [f"team/app-{n}" for n in range(3)]
    fleet.publish(ids)
    execution = fleet.run(every_ms=1100)
    assert execution.status == "SUCCEEDED", (execution.error, execution.cause)
    assert [run["credential_id"] for run in fleet.rotated] == ids
    states = fleet.aws.client("stepfunctions")
    waited = {}
    for child in fleet.children(execution.arn):
        history = states.get_execution_history(executionArn=child["executionArn"])["events"]
        entered = [e["stateEnteredEventDetails"]["name"] for e in history if "stateEnteredEventDetails" in e]
        item = json.loads(states.describe_execution(executionArn=child["executionArn"])["input"])
        waited[item["item"]["credential_id"]] = (item["begins"], "AwaitTurn" in entered)
    begun = int(NOW * 1000)
    assert waited == {c: (begun + n * 1100, n > 0) for n, c in enumerate(ids)}


def test_who_would_begin_too_late_does_not_wait_first(fleet: Fleet, clock: Clock) -> None:
    clock.now = MINUTE + 50
    fleet.publish(["team/a", "team/b"])
    execution = fleet.run(every_ms=60_000)
    assert execution.error == "FleetFailedError"
    # The second one would begin 110 s after its trigger.
    assert [run["credential_id"] for run in fleet.rotated] == ["team/a"]
    [late] = [c for c in fleet.children(execution.arn) if c["status"] == "FAILED"]
    assert late["stopDate"] - late["startDate"] < timedelta(seconds=30)


def test_the_input_may_name_a_shard_and_a_plan_alone(fleet: Fleet, clock: Clock) -> None:
    """A person starts one without a time: it counts from the start of the execution."""
    fleet.publish(["team/app"])
    clock.now += 3600
    execution = fleet.run(time=None, concurrency=None, trigger=None)
    assert execution.status == "SUCCEEDED", execution.cause
    assert execution.output["tick"] == TICK + 60
    assert fleet.rotated == [{"credential_id": "team/app", "trigger": "manual"}]


def test_a_trigger_that_comes_again_rotates_nothing_again(fleet: Fleet) -> None:
    fleet.publish(["team/a", "team/b"])
    assert fleet.run().status == "SUCCEEDED"
    again = fleet.run()
    assert again.status == "SUCCEEDED", again.cause
    assert len(fleet.rotated) == len(fleet.runs()) == 2
    outputs = [json.loads(entry["Output"]) for entry in fleet.results(again)["SUCCEEDED"]]
    assert outputs == [{"credential_id": c, "outcome": "repeated"} for c in ("team/a", "team/b")]


def test_a_trigger_that_comes_again_too_late_misses_nothing(fleet: Fleet, clock: Clock) -> None:
    # (protocol R17)
    fleet.publish(["team/a", "team/b", "team/c"])
    fleet.failing = {"team/b"}
    fleet.run()
    clock.now = MINUTE + 200
    again = fleet.run()
    assert again.status == "SUCCEEDED", again.cause
    outputs = [json.loads(entry["Output"]) for entry in fleet.results(again)["SUCCEEDED"]]
    assert outputs == [{"credential_id": c, "outcome": "repeated"} for c in ("team/a", "team/b", "team/c")]
    assert len(fleet.rotated) == len(fleet.runs()) == 3


def test_what_no_delivery_has_started_is_late(fleet: Fleet, clock: Clock) -> None:
    fleet.publish(["team/a"])
    fleet.run()
    fleet.publish(["team/a", "team/b"])
    clock.now = MINUTE + 200
    again = fleet.run()
    assert again.error == "FleetFailedError"
    assert (again.cause or "").startswith("1 of 2 rotations of 20m-00 have failed: see reports/20m-00/")
    assert [run["credential_id"] for run in fleet.rotated] == ["team/a"]
    assert fleet.naps == []


def test_a_trigger_that_comes_again_joins_what_is_running(fleet: Fleet) -> None:
    fleet.publish(["team/a"])
    fleet.hold()
    first = fleet.start()
    fleet.await_rotations(1)
    second = fleet.start()
    fleet.await_children(second, 1)
    fleet.go_on()
    ended = [fleet.end_of(first), fleet.end_of(second)]
    assert [e["status"] for e in ended] == ["SUCCEEDED"] * 2
    assert len(fleet.rotated) == len(fleet.runs()) == 1
    for one in ended:
        [entry] = fleet.report(json.loads(one["output"])["report"])["SUCCEEDED"]
        assert json.loads(entry["Output"])["outcome"] == "rotated"


def test_by_hand_and_by_schedule_in_one_minute_rotate_once(fleet: Fleet) -> None:
    """Their inputs differ, so the second one does not join."""
    fleet.publish(["team/a"])
    fleet.run()
    assert fleet.run(trigger="manual", time=None).status == "SUCCEEDED"
    assert len(fleet.rotated) == 1


def test_what_begins_too_late_is_not_started(fleet: Fleet, clock: Clock) -> None:
    fleet.publish([f"team/app-{n}" for n in range(3)])
    clock.now = MINUTE + LATEST + 0.5
    execution = fleet.run()
    assert (execution.status, execution.error) == ("FAILED", "FleetFailedError")
    assert fleet.rotated == []
    assert {c["status"] for c in fleet.children(execution.arn)} == {"FAILED"}
    [report] = [k for k in fleet.report_keys() if k.endswith("manifest.json")]
    assert {(e["Error"], "Nothing was started." in e["Cause"]) for e in fleet.report(report)["FAILED"]} == {
        ("StartedLateError", True)
    }


def test_what_begins_just_in_time_is_started(fleet: Fleet, clock: Clock) -> None:
    fleet.publish(["team/a"])
    clock.now = MINUTE + LATEST
    assert fleet.run().status == "SUCCEEDED"


def test_lateness_counts_from_the_minute_of_the_rule(fleet: Fleet, clock: Clock) -> None:
    """EventBridge fires within the minute, and its event may say when that was (protocol R17)."""
    fleet.publish(["team/a"])
    clock.now = MINUTE + LATEST + 0.5
    assert fleet.run(time=TIME.replace(":00Z", ":45Z")).status == "FAILED"
    assert fleet.rotated == []


def test_those_that_wait_for_a_place_are_late_while_others_run(fleet: Fleet, clock: Clock) -> None:
    fleet.publish([f"team/app-{n}" for n in range(5)])
    fleet.hold()
    arn = fleet.start(concurrency=2)
    fleet.await_rotations(2)
    clock.now = MINUTE + LATEST + 1
    fleet.go_on()
    ended = fleet.end_of(arn)
    assert ended["error"] == "FleetFailedError"
    assert ended["cause"].startswith("3 of 5 rotations of 20m-00 have failed: see reports/20m-00/")
    assert len(fleet.rotated) == 2


def test_no_more_rotations_run_at_once_than_the_input_says(fleet: Fleet) -> None:
    fleet.publish([f"team/app-{n}" for n in range(9)])
    fleet.hold()
    arn = fleet.start(concurrency=3)
    fleet.await_rotations(3)
    fleet.go_on()
    assert fleet.end_of(arn)["status"] == "SUCCEEDED"
    assert (len(fleet.rotated), fleet.most_at_once) == (9, 3)


def test_the_canary_goes_by_its_own_alias(clock: Clock) -> None:
    with AwsSandbox(retry_sleep=lambda _seconds: None, wall_clock=clock) as aws:
        fleet = Fleet(aws)
        fleet.deploy(canary="team/b")
        fleet.publish(["team/a", "team/b"])
        assert fleet.run().status == "SUCCEEDED"
        states = aws.client("stepfunctions")
        described = [states.describe_execution(executionArn=run["executionArn"]) for run in fleet.runs()]
        assert {
            d["name"].rpartition("-")[2]: d["stateMachineAliasArn"].rpartition(":")[2] for d in described
        } == {
            run_key("team/a"): "live",
            run_key("team/b"): "canary",
        }


# Failures


@pytest.mark.parametrize(
    ("size", "failing", "status"),
    [(1, 1, "FAILED"), (9, 1, "FAILED"), (10, 1, "SUCCEEDED"), (20, 3, "FAILED")],
)
def test_a_shard_fails_with_more_than_a_tenth_of_its_runs(
    fleet: Fleet, size: int, failing: int, status: str
) -> None:
    ids = [f"team/app-{n:02}" for n in range(size)]
    fleet.publish(ids)
    fleet.failing = set(ids[:failing])
    execution = fleet.run()
    assert execution.status == status
    assert len(fleet.rotated) == size
    [manifest] = [k for k in fleet.report_keys() if k.endswith("manifest.json")]
    report = fleet.report(manifest)
    assert {len(report["FAILED"]), len(report["SUCCEEDED"])} == {failing, size - failing}
    assert {e["Error"] for e in report["FAILED"]} == {"PasswordRefusedByPolicyError"}
    if status == "SUCCEEDED":
        assert execution.output["failed"] == failing
    else:
        assert execution.error == "FleetFailedError"
        assert execution.cause == f"{failing} of {size} rotations of 20m-00 have failed: see {manifest}"


def test_a_run_that_is_stopped_fails_its_item(fleet: Fleet) -> None:
    fleet.publish(["team/a"])
    fleet.hold()
    arn = fleet.start()
    fleet.await_rotations(1)
    [run] = fleet.runs()
    fleet.aws.client("stepfunctions").stop_execution(executionArn=run["executionArn"])
    assert fleet.end_of(arn)["error"] == "FleetFailedError"
    [child] = fleet.children(arn)
    shown = fleet.aws.client("stepfunctions").describe_execution(executionArn=child["executionArn"])
    assert shown["error"] == "ABORTED"


def test_a_start_that_is_throttled_is_tried_again(fleet: Fleet) -> None:
    fleet.publish(["team/a", "team/b"])
    fleet.refuse("StartExecution", times=4)
    execution = fleet.run(concurrency=2)
    assert execution.status == "SUCCEEDED", execution.cause
    assert len(fleet.rotated) == 2


def test_a_start_that_stays_throttled_fails_its_item_in_time(fleet: Fleet) -> None:
    fleet.publish(["team/a"])
    fleet.refuse("StartExecution", times=100)
    execution = fleet.run()
    [manifest] = [k for k in fleet.report_keys() if k.endswith("manifest.json")]
    [entry] = fleet.report(manifest)["FAILED"]
    assert entry["Error"] == "StepFunctions.AWSStepFunctionsException"
    assert execution.error == "FleetFailedError"
    assert sum(fleet.naps) <= START_POLICY.longest.total_seconds()


@pytest.mark.parametrize("published", [None, "["])
def test_a_list_that_cannot_be_read_fails_the_shard(fleet: Fleet, published: str | None) -> None:
    if published is not None:
        fleet.put(published)
    execution = fleet.run()
    assert (execution.status, execution.error) == ("FAILED", "States.ItemReaderFailed")
    assert fleet.rotated == []


def test_an_empty_list_fails_the_shard(fleet: Fleet) -> None:
    fleet.put([])
    execution = fleet.run()
    assert (execution.status, execution.error) == ("FAILED", "InvalidRequestError")
    assert execution.cause == "The published shard 20m-00 has no credential."


@pytest.mark.parametrize(
    "item",
    [
        None,
        {"credential_id": "team/a"},
        {"credential_id": "team/a", "key": run_key("team/b")},
        {"credential_id": "team/a", "key": run_key("team/a"), "host": "db.example.com"},
        {"credential_id": "team a", "key": run_key("team a")},
        {"credential_id": 5, "key": run_key("5")},
    ],
    ids=json.dumps,
)
def test_an_item_that_is_not_valid_starts_nothing_and_stops_no_other(fleet: Fleet, item: object) -> None:
    fleet.put([item, *({"credential_id": c, "key": run_key(c)} for c in ("team/b", "team/c"))])
    execution = fleet.run()
    assert execution.error == "FleetFailedError"
    [manifest] = [k for k in fleet.report_keys() if k.endswith("manifest.json")]
    assert [e["Error"] for e in fleet.report(manifest)["FAILED"]] == ["InvalidRequestError"]
    assert sorted(e["credential_id"] for e in fleet.rotated) == ["team/b", "team/c"]


def test_a_report_that_cannot_be_written_fails_the_shard(fleet: Fleet) -> None:
    fleet.publish(["team/a"])
    fleet.aws.client("s3").delete_bucket(Bucket=REPORTS)
    execution = fleet.run()
    assert (execution.status, execution.error) == ("FAILED", "States.ResultWriterFailed")
    assert len(fleet.rotated) == 1


# What the record shows


def test_the_record_holds_ids_alone(fleet: Fleet) -> None:
    """The cause of an error of a rotation stays in its own execution."""
    ids = [f"team/app-{n}" for n in range(12)]
    fleet.publish(ids)
    fleet.failing = {ids[3]}
    execution = fleet.run()
    assert execution.status == "SUCCEEDED", execution.cause
    shown = [execution.text, json.dumps(fleet.results(execution))]
    states = fleet.aws.client("stepfunctions")
    shown += [
        json.dumps(states.describe_execution(executionArn=child["executionArn"]), default=str)
        for child in fleet.children(execution.arn)
    ]
    assert not any(SECRET_OF_A_CAUSE in text for text in shown)


def test_every_run_has_a_name_that_everything_takes(fleet: Fleet) -> None:
    fleet.publish(["team/a"])
    fleet.run()
    [run] = fleet.runs()
    assert re.fullmatch(r"[0-9A-Za-z_-]{1,80}", run["name"])
    assert RunInput(credential_id=run["name"]).credential_id == run["name"]
    assert cloud_of(run["name"]) == "aws"
    assert is_of_a_run(run["name"])


# An input that is not valid


@pytest.fixture(name="idle", scope="module")
def _idle() -> Iterator[Fleet]:
    """One for all of them, which come last: there is one AWS at a time. None starts anything."""
    with AwsSandbox(wall_clock=Clock()) as aws:
        fleet = Fleet(aws)
        fleet.deploy()
        fleet.publish(["team/app"])
        yield fleet


@pytest.mark.parametrize(
    "given",
    [
        {"shard": None},
        {"shard": "../20m-00"},
        {"shard": "20m-00/../../x"},
        {"plan": None},
        {"plan": "d1" * 31},
        {"time": "2026-11-27"},
        {"time": "2026-11-27T17:40:00+01:00"},
        {"time": "2026-11-27T17:42:00Z"},
        {"time": 1_795_801_200},
        {"concurrency": 0},
        {"concurrency": 2.5},
        {"concurrency": 1001},
        {"every_ms": 0},
        {"every_ms": 60_001},
        {"trigger": "with space"},
        {"trigger": "x" * 201},
        {"host": "db.example.com"},
    ],
    ids=json.dumps,
)
def test_an_input_that_is_not_valid_changes_nothing(idle: Fleet, given: dict[str, object]) -> None:
    idle.publish(["team/app"])
    execution = idle.aws.run_execution(idle.machine_arn, idle.input(**given))
    assert (execution.status, execution.error) == ("FAILED", "InvalidRequestError")
    assert execution.states_entered == ["CheckInput", "InvalidInput"]
    assert idle.rotated == []


@pytest.mark.parametrize("given", [None, [], "20m-00", 3])
def test_an_input_that_is_no_object_changes_nothing(idle: Fleet, given: object) -> None:
    execution = idle.aws.run_execution(idle.machine_arn, given)
    assert (execution.status, execution.error) == ("FAILED", "InvalidRequestError")
