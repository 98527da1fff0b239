"""The state machine of the fleet, as it is deployed, in the sandbox's interpreter.

Under it is a stand-in for the state machine of rotations, which behaves by the credential.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from moto.core.exceptions import AWSError
from moto.stepfunctions.parser.models import StepFunctionsParserBackend

from lockstep.audit.entry import is_of_a_run
from lockstep.protocol import deadlines
from lockstep.protocol.deadlines import START_POLICY
from lockstep.protocol.messages import RunInput
from lockstep.protocol.names import CANARY, DEFAULT_STACK, LIVE, state_machine_name
from lockstep.protocol.schedule import cloud_of, run_key
from sandbox.emulators.aws import AwsSandbox, Execution, create_state_machine
from sandbox.steps import deploy_fleet_machine
from tests.support.aws import Clock
from tests.support.programs import until

LATEST = (deadlines.LAST_START - START_POLICY.longest).total_seconds()
"""So many seconds after its trigger a rotation is begun at the latest."""
A, B, C = "team/a", "team/b", "team/c"
DIGEST = "d1" * 32
PLANS, REPORTS = "plans", "reports"
NOW = 1_795_801_205.25
"""Five seconds after a whole minute."""
MINUTE = 1_795_801_200
TICK = MINUTE // 60
TIME = "2026-11-27T17:40:00Z"
SECRET_OF_A_CAUSE = "only-in-the-cause-of-a-rotation"
WAIT_SECONDS = 120.0
ROTATION = {
    "QueryLanguage": "JSONata",
    "StartAt": "Behave",
    "States": {
        "Behave": {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Arguments": {"FunctionName": "behave", "Payload": "{% $states.input %}"},
            "Output": "{% $states.result.Payload %}",
            "End": True,
        }
    },
}


class PasswordRefusedByPolicyError(Exception):
    """A rotation that fails."""


class ThrottlingError(AWSError):
    """Step Functions takes no more calls for now."""

    TYPE = "ThrottlingException"


class Fleet:
    """What the stack makes.

    Attributes:
        naps: How long retriers have waited.
        failing: The credentials whose rotations fail.
        rotated: The inputs of the rotations, in their order.
        may_go_on: Rotations wait until it is set; it is at first.
    """

    def __init__(self, aws: AwsSandbox, naps: list[float]) -> None:
        self.aws, self.naps = aws, naps
        self.failing: set[str] = set()
        self.rotated: list[Mapping[str, Any]] = []
        self.may_go_on = Event()
        self.may_go_on.set()
        self.states, self.s3 = aws.client("stepfunctions"), aws.client("s3")
        for bucket in (PLANS, REPORTS):
            place = {"LocationConstraint": aws.region}
            self.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=place)
        aws.lambda_host.register_handler("behave", self._behave, timeout_seconds=WAIT_SECONDS)
        role, name = f"arn:aws:iam::{aws.account_id}:role/rotation", state_machine_name(DEFAULT_STACK)
        self._rotation = create_state_machine(self.states, name, json.dumps(ROTATION), {}, role_arn=role)
        version = self.states.publish_state_machine_version(stateMachineArn=self._rotation)
        routing = [{"stateMachineVersionArn": version["stateMachineVersionArn"], "weight": 100}]
        for alias in (LIVE, CANARY):
            self.states.create_state_machine_alias(name=alias, routingConfiguration=routing)
        self.machine = deploy_fleet_machine(
            aws, self._rotation, plan_bucket=PLANS, report_bucket=REPORTS, canary=B
        )

    def _behave(self, event: Mapping[str, Any], _context: object) -> object:
        self.rotated.append(event)
        assert self.may_go_on.wait(WAIT_SECONDS)
        if event["credential_id"] in self.failing:
            raise PasswordRefusedByPolicyError(SECRET_OF_A_CAUSE)
        return {"outcome": "rotated", "generation": 7}

    def publish(self, credentials: Sequence[str]) -> None:
        """Publish the list of the shard."""
        self.put(json.dumps([{"credential_id": c, "key": run_key(c)} for c in sorted(credentials)]))

    def put(self, text: str) -> None:
        """Write the object of the shard."""
        key = f"plans/{DIGEST}/shards/20m-00.json"
        self.s3.put_object(Bucket=PLANS, Key=key, Body=text.encode())

    def run(self, **more: object) -> Execution:
        """Run it as a rule does; a field of None is left out."""
        given = {
            "shard": "20m-00",
            "plan": DIGEST,
            "time": TIME,
            "concurrency": 5,
            "trigger": "schedule",
            "interval": 1200,
            **more,
        }
        return self.take({name: value for name, value in given.items() if value is not None})

    def take(self, given: object) -> Execution:
        """Run it with any input."""
        return self.aws.run_execution(self.machine, given, timeout_seconds=WAIT_SECONDS)

    def succeed(self, **more: object) -> Execution:
        """Run it, which succeeds."""
        execution = self.run(**more)
        assert execution.status == "SUCCEEDED", (execution.error, execution.cause)
        return execution

    def report(self, execution: Execution) -> dict[str, list[dict[str, Any]]]:
        """The entries of the report that an execution names, by status."""
        if execution.status == "SUCCEEDED":
            key = execution.output["report"]
        else:
            key = (execution.cause or "").rpartition(" ")[2]
        return {
            status: [entry for file in files for entry in self._read(file["Key"])]
            for status, files in self._read(key)["ResultFiles"].items()
        }

    def _read(self, key: str) -> Any:  # noqa: ANN401 - any JSON
        return json.loads(self.s3.get_object(Bucket=REPORTS, Key=key)["Body"].read())

    def outcomes(self, execution: Execution) -> dict[str, str]:
        told = [json.loads(entry["Output"]) for entry in self.report(execution)["SUCCEEDED"]]
        return {one["credential_id"]: one["outcome"] for one in told}

    def errors(self, execution: Execution) -> list[str]:
        """Of the runs that have failed."""
        assert execution.error == "FleetFailedError"
        return [entry["Error"] for entry in self.report(execution)["FAILED"]]

    @property
    def ids(self) -> list[str]:
        """The credentials that were rotated, in their order."""
        return [run["credential_id"] for run in self.rotated]

    def runs(self) -> list[dict[str, Any]]:
        """The executions of rotations."""
        listed = self.states.list_executions(stateMachineArn=self._rotation)["executions"]
        return [self.states.describe_execution(executionArn=run["executionArn"]) for run in listed]

    def children(self) -> list[dict[str, Any]]:
        """The executions of the items."""
        own = self.states.list_executions(stateMachineArn=self.machine)["executions"]
        runs = [
            run
            for one in own
            for run in self.states.list_map_runs(executionArn=one["executionArn"])["mapRuns"]
        ]
        listed = [
            child
            for run in runs
            for child in self.states.list_executions(mapRunArn=run["mapRunArn"])["executions"]
        ]
        return [self.states.describe_execution(executionArn=child["executionArn"]) for child in listed]

    def history(self, child: Mapping[str, Any]) -> str:
        """The events of an item's execution, as a text."""
        found = self.states.get_execution_history(executionArn=child["executionArn"])["events"]
        return json.dumps(found, default=str)


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock(NOW)


@pytest.fixture(name="fleet")
def _fleet(clock: Clock) -> Iterator[Fleet]:
    naps: list[float] = []
    with AwsSandbox(retry_sleep=naps.append, wall_clock=clock) as aws:
        fleet = Fleet(aws, naps)
        yield fleet
        fleet.may_go_on.set()


def test_each_credential_is_rotated_once_by_an_alias_and_not_again_in_its_minute(
    fleet: Fleet, clock: Clock
) -> None:
    ids = [A, B, C]
    fleet.publish(ids)
    execution = fleet.succeed()
    assert sorted(fleet.rotated, key=lambda e: e["credential_id"]) == [
        {"credential_id": c, "trigger": "schedule", "interval": 1200} for c in ids
    ]
    told = {"shard": "20m-00", "tick": TICK, "rotations": 3, "failed": 0}
    assert execution.output == {**told, "report": execution.output["report"]}
    assert fleet.outcomes(execution) == dict.fromkeys(ids, "rotated")
    assert {r["name"]: r["stateMachineAliasArn"].rpartition(":")[2] for r in fleet.runs()} == {
        f"f-{TICK}-{run_key(c)}": "canary" if c == B else "live" for c in ids
    }
    for run in fleet.runs():  # Its name is one that everything takes.
        assert re.fullmatch(r"[0-9A-Za-z_-]{1,80}", run["name"])
        assert RunInput(credential_id=run["name"]).credential_id == run["name"]
        assert (cloud_of(run["name"]), is_of_a_run(run["name"])) == ("aws", True)
    # A trigger that comes again; and one by hand, whose input differs, so that it does not join.
    assert fleet.outcomes(fleet.succeed()) == dict.fromkeys(ids, "repeated")
    fleet.succeed(trigger="manual", time=None)
    assert len(fleet.rotated) == len(fleet.runs()) == 3
    # A person starts one without a time: it counts from the start of the execution.
    clock.now += 3600
    assert fleet.succeed(time=None, concurrency=None, trigger=None).output["tick"] == TICK + 60
    assert fleet.rotated[-1]["trigger"] == "manual"


def test_rotations_begin_one_after_the_other_in_the_order_of_the_list(fleet: Fleet) -> None:
    fleet.publish([A, B, C])
    fleet.succeed(every_ms=1100)
    assert fleet.ids == [A, B, C]
    waited = {}
    for child in fleet.children():
        given = json.loads(child["input"])
        waited[given["item"]["credential_id"]] = (given["begins"], "AwaitTurn" in fleet.history(child))
    begun = int(NOW * 1000)
    assert waited == {c: (begun + n * 1100, n > 0) for n, c in enumerate([A, B, C])}


# Too late


def test_who_would_begin_too_late_does_not_wait_first(fleet: Fleet, clock: Clock) -> None:
    clock.now = MINUTE + 50
    fleet.publish([A, B])
    assert fleet.run(every_ms=60_000).error == "FleetFailedError"
    # The second one would begin 110 s after its trigger.
    assert fleet.ids == [A]
    [late] = [c for c in fleet.children() if c["status"] == "FAILED"]
    assert late["stopDate"] - late["startDate"] < timedelta(seconds=30)


def test_a_late_second_trigger_misses_only_what_no_delivery_has_started(fleet: Fleet, clock: Clock) -> None:
    # (protocol R17)
    fleet.publish([A, B])
    fleet.failing = {B}
    fleet.run()
    clock.now = MINUTE + 200
    assert fleet.outcomes(fleet.succeed()) == {A: "repeated", B: "repeated"}
    fleet.publish([A, B, C])
    again = fleet.run()
    assert again.error == "FleetFailedError"
    assert (again.cause or "").startswith("1 of 3 rotations of 20m-00 have failed: see reports/20m-00/")
    assert sorted(fleet.ids) == [A, B]
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
    assert is_started or fleet.errors(execution) == ["StartedLateError"]


def test_those_that_wait_for_a_place_are_late_while_others_run(fleet: Fleet, clock: Clock) -> None:
    fleet.publish([f"team/app-{n}" for n in range(5)])
    fleet.may_go_on.clear()
    with ThreadPoolExecutor() as threads:
        execution = threads.submit(fleet.run, concurrency=2)
        until(lambda: len(fleet.rotated) >= 2)
        clock.now = MINUTE + LATEST + 1
        fleet.may_go_on.set()
    cause = execution.result().cause or ""
    assert cause.startswith("3 of 5 rotations of 20m-00 have failed: see reports/20m-00/")
    assert len(fleet.rotated) == 2


def test_a_trigger_that_comes_again_joins_what_is_running(fleet: Fleet) -> None:
    fleet.publish([A])
    fleet.may_go_on.clear()
    with ThreadPoolExecutor() as threads:
        running = []
        for number in (1, 2):
            running.append(threads.submit(fleet.run))
            until(lambda: sum("TaskSubmitted" in fleet.history(c) for c in fleet.children()) == number)  # noqa: B023 - of this turn
        fleet.may_go_on.set()
    assert [fleet.outcomes(one.result()) for one in running] == [{A: "rotated"}] * 2
    assert len(fleet.rotated) == len(fleet.runs()) == 1


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
    report = fleet.report(execution)
    assert [entry["Error"] for entry in report["FAILED"]] == ["PasswordRefusedByPolicyError"]
    assert len(report["SUCCEEDED"]) == size - 1
    if size == 9:
        assert execution.error == "FleetFailedError"
        assert (execution.cause or "").startswith("1 of 9 rotations of 20m-00 have failed: see reports/")
    else:
        assert (execution.status, execution.output["failed"]) == ("SUCCEEDED", 1)
    assert SECRET_OF_A_CAUSE not in f"{execution.text} {report} {fleet.children()}"


def test_a_start_that_is_throttled_is_tried_again_and_fails_its_item_in_time(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, start = [None] * 4, StepFunctionsParserBackend.start_execution

    def throttled(self: StepFunctionsParserBackend, arn: str, name: str, given: str) -> object:
        if left and name and name.startswith("f-"):
            left.pop()
            raise ThrottlingError("Rate exceeded")
        return start(self, arn, name, given)

    monkeypatch.setattr(StepFunctionsParserBackend, "start_execution", throttled)
    fleet.publish([A, B])
    fleet.succeed(concurrency=2)
    assert (len(fleet.rotated), left) == (2, [])
    fleet.publish([C])
    left += [None] * 100
    fleet.naps.clear()
    assert fleet.errors(fleet.run()) == ["StepFunctions.AWSStepFunctionsException"]
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
    fleet.put(json.dumps([*ITEMS, *({"credential_id": c, "key": run_key(c)} for c in (B, C))]))
    assert fleet.errors(fleet.run()) == ["InvalidRequestError"] * len(ITEMS)
    assert sorted(fleet.ids) == [B, C]


def test_a_report_that_cannot_be_written_fails_the_shard(fleet: Fleet) -> None:
    fleet.publish([A])
    fleet.s3.delete_bucket(Bucket=REPORTS)
    execution = fleet.run()
    assert (execution.status, execution.error) == ("FAILED", "States.ResultWriterFailed")
    assert fleet.ids == [A]


WRONG: dict[str, tuple[object, ...]] = {
    "shard": (None, "../20m-00", "20m-00/../../x"),
    "plan": (None, "d1" * 31),
    "time": ("2026-11-27", "2026-11-27T17:40:00+01:00", "2026-11-27T17:42:00Z", MINUTE),
    "concurrency": (0, 2.5, 1001),
    "every_ms": (0, 60_001),
    "interval": (0, 1_000_000_001),
    "trigger": ("with space", "x" * 201),
    "host": ("db.example.com",),
}


def test_an_input_that_is_not_valid_changes_nothing(fleet: Fleet) -> None:
    fleet.publish([A])
    others: list[object] = [None, [], "20m-00", 3]
    runs = [fleet.take(given) for given in others]
    runs += [fleet.run(**{name: value}) for name, values in WRONG.items() for value in values]
    for execution in runs:
        assert (execution.status, execution.error) == ("FAILED", "InvalidRequestError"), execution.text
        assert execution.states_entered == ["CheckInput", "InvalidInput"]
    assert fleet.rotated == []
