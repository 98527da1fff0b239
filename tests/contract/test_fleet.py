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
from sandbox.emulators.aws import AwsSandbox, Execution
from tests.support.aws import Clock
from tests.support.fleet_machine import MINUTE, NOW, REPORTS, SECRET_OF_A_CAUSE, TICK, TIME, Fleet

LATEST = (deadlines.LAST_START - START_POLICY.longest).total_seconds()
"""So many seconds after its trigger a rotation is begun at the latest."""
A, B, C = "team/a", "team/b", "team/c"


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock(NOW)


@pytest.fixture(name="fleet")
def _fleet(clock: Clock) -> Iterator[Fleet]:
    naps: list[float] = []
    with AwsSandbox(retry_sleep=naps.append, wall_clock=clock) as aws:
        fleet = Fleet(aws, naps=naps)
        fleet.deploy(canary=B)
        yield fleet
        fleet.go_on()


def rotated(fleet: Fleet) -> list[str]:
    return [run["credential_id"] for run in fleet.rotated]


def succeeded(execution: Execution) -> Execution:
    assert execution.status == "SUCCEEDED", (execution.error, execution.cause)
    return execution


def outcomes(fleet: Fleet, execution: Execution) -> dict[str, str]:
    told = [json.loads(entry["Output"]) for entry in fleet.report(execution.output["report"])["SUCCEEDED"]]
    return {one["credential_id"]: one["outcome"] for one in told}


def errors(fleet: Fleet) -> list[str]:
    """Of the runs that have failed, as the one report tells."""
    [manifest] = [key for key in fleet.report_keys() if key.endswith("manifest.json")]
    return [entry["Error"] for entry in fleet.report(manifest)["FAILED"]]


def test_each_credential_is_rotated_once_by_an_alias_and_not_again_in_its_minute(
    fleet: Fleet, clock: Clock
) -> None:
    ids = [A, B, C]
    fleet.publish(ids)
    execution = succeeded(fleet.run())
    assert sorted(fleet.rotated, key=lambda e: e["credential_id"]) == [
        {"credential_id": c, "trigger": "schedule"} for c in ids
    ]
    assert {k: v for k, v in execution.output.items() if k != "report"} == {
        "shard": "20m-00",
        "tick": TICK,
        "rotations": 3,
        "failed": 0,
    }
    assert outcomes(fleet, execution) == dict.fromkeys(ids, "rotated")
    states = fleet.aws.client("stepfunctions")
    described = [states.describe_execution(executionArn=run["executionArn"]) for run in fleet.runs()]
    assert {d["name"]: d["stateMachineAliasArn"].rpartition(":")[2] for d in described} == {
        f"f-{TICK}-{run_key(c)}": "canary" if c == B else "live" for c in ids
    }
    for run in fleet.runs():  # Its name is one that everything takes.
        assert re.fullmatch(r"[0-9A-Za-z_-]{1,80}", run["name"])
        assert RunInput(credential_id=run["name"]).credential_id == run["name"]
        assert (cloud_of(run["name"]), is_of_a_run(run["name"])) == ("aws", True)
    # A trigger that comes again; and one by hand, whose input differs, so that it does not join.
    assert outcomes(fleet, succeeded(fleet.run())) == dict.fromkeys(ids, "repeated")
    succeeded(fleet.run(trigger="manual", time=None))
    assert len(fleet.rotated) == len(fleet.runs()) == 3
    # A person starts one without a time: it counts from the start of the execution.
    clock.now += 3600
    execution = succeeded(fleet.run(time=None, concurrency=None, trigger=None))
    assert execution.output["tick"] == TICK + 60
    assert fleet.rotated[-1]["trigger"] == "manual"


def test_rotations_begin_one_after_the_other_in_the_order_of_the_list(fleet: Fleet) -> None:
    ids = [A, B, C]
    fleet.publish(ids)
    execution = succeeded(fleet.run(every_ms=1100))
    assert rotated(fleet) == ids
    states = fleet.aws.client("stepfunctions")
    waited = {}
    for child in fleet.children(execution.arn):
        history = states.get_execution_history(executionArn=child["executionArn"])["events"]
        entered = [e["stateEnteredEventDetails"]["name"] for e in history if "stateEnteredEventDetails" in e]
        item = json.loads(states.describe_execution(executionArn=child["executionArn"])["input"])
        waited[item["item"]["credential_id"]] = (item["begins"], "AwaitTurn" in entered)
    begun = int(NOW * 1000)
    assert waited == {c: (begun + n * 1100, n > 0) for n, c in enumerate(ids)}


# Too late


def test_who_would_begin_too_late_does_not_wait_first(fleet: Fleet, clock: Clock) -> None:
    clock.now = MINUTE + 50
    fleet.publish([A, B])
    execution = fleet.run(every_ms=60_000)
    assert execution.error == "FleetFailedError"
    # The second one would begin 110 s after its trigger.
    assert rotated(fleet) == [A]
    [late] = [c for c in fleet.children(execution.arn) if c["status"] == "FAILED"]
    assert late["stopDate"] - late["startDate"] < timedelta(seconds=30)


def test_a_late_second_trigger_misses_only_what_no_delivery_has_started(fleet: Fleet, clock: Clock) -> None:
    # (protocol R17)
    fleet.publish([A, B])
    fleet.failing = {B}
    fleet.run()
    clock.now = MINUTE + 200
    assert outcomes(fleet, succeeded(fleet.run())) == {A: "repeated", B: "repeated"}
    fleet.publish([A, B, C])
    again = fleet.run()
    assert again.error == "FleetFailedError"
    assert (again.cause or "").startswith("1 of 3 rotations of 20m-00 have failed: see reports/20m-00/")
    assert sorted(rotated(fleet)) == [A, B]
    assert fleet.naps == []


@pytest.mark.parametrize(
    ("after", "time", "is_started"),
    [
        (LATEST, TIME, True),
        (LATEST + 0.5, TIME, False),
        # EventBridge fires within the minute, and its event may say when that was (protocol R17).
        (LATEST + 0.5, TIME.replace(":00Z", ":45Z"), False),
    ],
)
def test_what_is_late_is_not_begun(
    fleet: Fleet, clock: Clock, after: float, time: str, *, is_started: bool
) -> None:
    fleet.publish([A])
    clock.now = MINUTE + after
    execution = fleet.run(time=time)
    assert (execution.error, len(fleet.rotated)) == ((None, 1) if is_started else ("FleetFailedError", 0))
    assert is_started or errors(fleet) == ["StartedLateError"]


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
    assert (len(fleet.rotated), fleet.most_at_once) == (2, 2)


def test_a_trigger_that_comes_again_joins_what_is_running(fleet: Fleet) -> None:
    fleet.publish([A])
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


# Failures


@pytest.mark.parametrize("size", [9, 10])
def test_a_shard_fails_with_more_than_a_tenth_of_its_runs_and_records_ids_alone(
    fleet: Fleet, size: int
) -> None:
    """The cause of an error of a rotation stays in its own execution."""
    ids = [f"team/app-{n:02}" for n in range(size)]
    fleet.publish(ids)
    fleet.failing = {ids[0]}
    execution = fleet.run()
    assert len(fleet.rotated) == size
    [manifest] = [k for k in fleet.report_keys() if k.endswith("manifest.json")]
    report = fleet.report(manifest)
    assert (len(report["FAILED"]), len(report["SUCCEEDED"])) == (1, size - 1)
    assert errors(fleet) == ["PasswordRefusedByPolicyError"]
    if size == 9:
        assert execution.error == "FleetFailedError"
        assert execution.cause == f"1 of 9 rotations of 20m-00 have failed: see {manifest}"
    else:
        assert succeeded(execution).output["failed"] == 1
    states = fleet.aws.client("stepfunctions")
    children = [
        states.describe_execution(executionArn=c["executionArn"]) for c in fleet.children(execution.arn)
    ]
    assert SECRET_OF_A_CAUSE not in f"{execution.text} {report} {children}"


def test_a_start_that_is_throttled_is_tried_again_and_fails_its_item_in_time(fleet: Fleet) -> None:
    fleet.publish([A, B])
    fleet.refuse("StartExecution", times=4)
    succeeded(fleet.run(concurrency=2))
    assert len(fleet.rotated) == 2
    fleet.publish([C])
    fleet.refuse("StartExecution", times=100)
    fleet.naps.clear()
    execution = fleet.run()
    assert execution.error == "FleetFailedError"
    [entry] = fleet.report((execution.cause or "").rpartition(" ")[2])["FAILED"]
    assert entry["Error"] == "StepFunctions.AWSStepFunctionsException"
    assert sum(fleet.naps) <= START_POLICY.longest.total_seconds()


@pytest.mark.parametrize(
    ("published", "error"),
    [(None, "States.ItemReaderFailed"), ("[", "States.ItemReaderFailed"), ("[]", "InvalidRequestError")],
)
def test_an_unreadable_or_empty_list_fails_the_shard(fleet: Fleet, published: str | None, error: str) -> None:
    if published is not None:
        fleet.put(published)
    execution = fleet.run()
    assert (execution.status, execution.error, fleet.rotated) == ("FAILED", error, [])
    assert published != "[]" or execution.cause == "The published shard 20m-00 has no credential."


ITEMS: list[object] = [
    None,
    {"credential_id": A},
    {"credential_id": A, "key": run_key(B)},
    {"credential_id": A, "key": run_key(A), "host": "db.example.com"},
    {"credential_id": "team a", "key": run_key("team a")},
    {"credential_id": 5, "key": run_key("5")},
]


def test_an_item_that_is_not_valid_starts_nothing_and_stops_no_other(fleet: Fleet) -> None:
    fleet.put([*ITEMS, *({"credential_id": c, "key": run_key(c)} for c in (B, C))])
    assert fleet.run().error == "FleetFailedError"
    assert errors(fleet) == ["InvalidRequestError"] * len(ITEMS)
    assert sorted(rotated(fleet)) == [B, C]


def test_a_report_that_cannot_be_written_fails_the_shard(fleet: Fleet) -> None:
    fleet.publish([A])
    fleet.aws.client("s3").delete_bucket(Bucket=REPORTS)
    execution = fleet.run()
    assert (execution.status, execution.error) == ("FAILED", "States.ResultWriterFailed")
    assert rotated(fleet) == [A]


WRONG: dict[str, tuple[object, ...]] = {
    "shard": (None, "../20m-00", "20m-00/../../x"),
    "plan": (None, "d1" * 31),
    "time": ("2026-11-27", "2026-11-27T17:40:00+01:00", "2026-11-27T17:42:00Z", MINUTE),
    "concurrency": (0, 2.5, 1001),
    "every_ms": (0, 60_001),
    "trigger": ("with space", "x" * 201),
    "host": ("db.example.com",),
}


def test_an_input_that_is_not_valid_changes_nothing(fleet: Fleet) -> None:
    fleet.publish([A])
    given: list[object] = [None, [], "20m-00", 3]
    given += [fleet.input(**{name: value}) for name, values in WRONG.items() for value in values]
    for one in given:
        execution = fleet.aws.run_execution(fleet.machine_arn, one)
        assert (execution.status, execution.error) == ("FAILED", "InvalidRequestError"), one
        assert execution.states_entered == ["CheckInput", "InvalidInput"]
    assert fleet.rotated == []
