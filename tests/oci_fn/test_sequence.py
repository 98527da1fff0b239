"""The standby's sequence makes the calls of the state machine, in the same order (protocol R1).

Each scenario runs twice, on equal worlds: through the real definition in Step Functions, and through
`oci_fn.sequence`. The names of the Task states that each entered are compared.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from functions.apply_db import step as apply_db
from functions.audit import step as audit
from functions.face import LambdaFace
from functions.generate import step as generate
from functions.update_secrets import step as update_secrets
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.errors import (
    AuditConflictError,
    CurrentCredentialRejectedError,
    DatabaseUnreachableError,
    FenceLostError,
    LockstepError,
    StoreAccessDeniedError,
    StoreRejectedError,
    StoreUnreachableError,
)
from lockstep.messages import AuditRequest, DatabaseRequest, GenerateRequest, UpdateRequest
from lockstep.ports import Ports
from lockstep.timing import DATABASES_AT_ONCE, LEASE, RUN, STEP_POLICY, RetryPolicy
from oci_fn import sequence
from oci_fn.retries import Retries
from oci_fn.sequence import RunRequest
from sandbox.aws import AwsSandbox, create_state_machine
from sandbox.aws.resources import create_lock_table
from tests.contract.aws_fixtures import sandbox_client
from tests.support.faults import Faults
from tests.support.memory import FakeClock, MemoryWorld
from tests.unit.harness import held

DEFINITION = (Path(__file__).parents[2] / "statemachine.asl.json").read_text(encoding="utf-8")
STATES: Mapping[str, Any] = json.loads(DEFINITION)["States"]
RUN_SECONDS = RUN.total_seconds()


def _tasks(states: Mapping[str, Any]) -> set[str]:
    inner = [_tasks(s["ItemProcessor"]["States"]) for s in states.values() if s["Type"] == "Map"]
    return {name for name, state in states.items() if state["Type"] == "Task"}.union(*inner)


@dataclass
class Arranged:
    """A world on which either runner can rotate."""

    memory: MemoryWorld
    lock: DynamoDbLock
    steal_lock: Callable[[], None]

    def ports(self) -> Ports:
        return replace(self.memory.ports("aws"), lock=self.lock)


class Recorder(Retries):
    """Records the state of each call, and the states whose Retry block is not the call's policy."""

    def __init__(self, clock: FakeClock, *, seconds: float = RUN_SECONDS) -> None:
        self.states: list[str] = []
        self.retried_differently: list[str] = []
        deadline = clock.monotonic() + seconds
        super().__init__(clock, deadline=deadline, jitter=lambda: 0.5)

    def call(self, path: tuple[str, ...], *rest: Any, **more: Any) -> Any:  # noqa: ANN401 - as Retries
        self.states.append(path[-1])
        policy: RetryPolicy = more.get("policy", STEP_POLICY)
        if _retry_of(path) != (policy.attempts, policy.interval_seconds, policy.max_delay_seconds):
            self.retried_differently.append(path[-1])
        return super().call(path, *rest, **more)


def _retry_of(path: tuple[str, ...]) -> tuple[int, int, int]:
    """The first retrier of a state, which is the one for Lockstep's own errors."""
    states = STATES
    for name in path[:-1]:
        states = states[name]["ItemProcessor"]["States"]
    first = states[path[-1]]["Retry"][0]
    return first["MaxAttempts"], first["IntervalSeconds"], first["MaxDelaySeconds"]


class Both:
    """Runs each scenario on new worlds."""

    def __init__(self, aws: AwsSandbox, clock: FakeClock) -> None:
        self._aws = aws
        self._clock = clock
        self._count = 0
        self._world = self.world()
        faces = {
            "GenerateFunction": (generate.run, GenerateRequest),
            "ApplyDbFunction": (apply_db.run, DatabaseRequest),
            "UpdateSecretsFunction": (update_secrets.run, UpdateRequest),
            "AuditFunction": (audit.run, AuditRequest),
        }
        for name, (step, request) in faces.items():
            face: LambdaFace[Any] = LambdaFace(step, request, ports=lambda _id: self._world.ports())  # type: ignore[arg-type]  # each step with its own request
            aws.lambda_host.register_handler(name, face, timeout_seconds=60)

    def world(self) -> Arranged:
        self._count += 1
        table = f"lock-{self._count}"
        create_lock_table(self._aws.client("dynamodb"), table)
        memory = MemoryWorld.create()
        memory.clock = self._clock
        self._table = table

        def steal_lock() -> None:
            self._aws.client("dynamodb").update_item(
                TableName=table,
                Key={"credential_id": {"S": memory.credential.id}},
                UpdateExpression="SET holder = :thief ADD fence :one",
                ExpressionAttributeValues={":thief": {"S": "thief"}, ":one": {"N": "1"}},
            )

        lock = DynamoDbLock(sandbox_client(self._aws, "dynamodb"), table, memory.credential.id)
        return Arranged(memory, lock, steal_lock)

    def machine(self, arrange: Callable[[Arranged], None], **more: bool) -> tuple[list[str], str | None]:
        """Run the state machine; return its Task states and its error."""
        self._world = self.world()
        arrange(self._world)
        arns = {
            name: self._aws.lambda_host.arn(name) for name in re.findall(r"\$\{(\w+Function)\}", DEFINITION)
        }
        arn = create_state_machine(
            self._aws.client("stepfunctions"),
            f"lockstep-{self._count}",
            DEFINITION,
            {**arns, "LockTable": self._table},
            role_arn=f"arn:aws:iam::{self._aws.account_id}:role/lockstep",
        )
        execution = self._aws.run_execution(
            arn, {"credential_id": self._world.memory.credential.id, "trigger": "test", **more}
        )
        tasks = _tasks(STATES)
        return [s for s in execution.states_entered if s in tasks], execution.error

    def sequence(self, arrange: Callable[[Arranged], None], **more: bool) -> tuple[list[str], str | None]:
        """Run the sequence; return its states and its error."""
        world = self.world()
        arrange(world)
        recorder = Recorder(self._clock)
        request = RunRequest(rotation_id="run-1", runner="aws", trigger="test", **more)
        try:
            sequence.rotate(request, world.ports(), recorder, run_map=map)
        except LockstepError as error:
            return recorder.states, type(error).__name__
        finally:
            assert recorder.retried_differently == []
        return recorder.states, None


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    clock = FakeClock()
    aws = AwsSandbox(retry_sleep=lambda _seconds: None, wall_clock=lambda: clock.now().timestamp())
    with aws:
        yield Both(aws, clock)


def test_as_many_databases_are_worked_on_at_once_as_in_the_state_machine() -> None:
    together = Barrier(DATABASES_AT_ONCE, timeout=10)
    databases = [f"db-{number}" for number in range(DATABASES_AT_ONCE)]

    def branch(database: str) -> str:
        together.wait()  # Passes only when all branches are here.
        return database.upper()

    assert list(sequence.side_by_side(branch, databases)) == [d.upper() for d in databases]
    assert {s["MaxConcurrency"] for s in STATES.values() if s["Type"] == "Map"} == {DATABASES_AT_ONCE}


def fail(faults: Faults, operation: str, error: type[LockstepError], *, from_nth: int = 1) -> None:
    """Let an operation fail from its n-th call on."""
    times = 0

    def before(name: str) -> None:
        nonlocal times
        if name == operation:
            times += 1
            if times >= from_nth:
                raise error

    faults.before = before


def refuse(world: Arranged, *, how_often: int) -> None:
    """Let a database's policy refuse the first `how_often` passwords."""
    refused: set[str] = set()

    def refuses(password: str) -> bool:
        if password in refused or len(refused) < how_often:
            refused.add(password)
            return True
        return False

    world.memory.databases["db-2"].refuses = refuses


def edit(world: Arranged) -> None:
    """Make the stores disagree."""
    world.memory.stores["oci"].edit("app_user", '{"username":"app","password":"by-hand"}')


def nothing(_world: Arranged) -> None:
    """An ordinary rotation."""


def lock_is_held(world: Arranged) -> None:
    now = world.memory.clock.now()
    world.lock.acquire(holder="another", now=now, expires_at=now + LEASE, force=False, revoke_previous=False)


def stores_cannot_be_read(world: Arranged) -> None:
    fail(world.memory.stores["oci"].faults, "read_current", StoreAccessDeniedError)


def stores_do_not_answer(world: Arranged) -> None:
    fail(world.memory.stores["oci"].faults, "read_current", StoreUnreachableError)


def base_is_refused(world: Arranged) -> None:
    world.memory.databases["db-1"].accounts["app"].passwords = ("changed",)


def database_does_not_answer(world: Arranged) -> None:
    world.memory.databases["db-2"].unreachable = True


def promotion_is_rejected(world: Arranged) -> None:
    fail(world.memory.stores["aws"].faults, "promote app_user", StoreRejectedError)


def entry_is_refused(world: Arranged) -> None:
    fail(world.memory.audit_logs["aws"].faults, "put", AuditConflictError)


def probe_fails(world: Arranged) -> None:
    edit(world)
    fail(world.memory.databases["db-2"].faults, "accepts", CurrentCredentialRejectedError)


def no_candidate_logs_in(world: Arranged) -> None:
    edit(world)
    base_is_refused(world)


def password_is_refused_once(world: Arranged) -> None:
    refuse(world, how_often=1)


def password_is_refused_twice(world: Arranged) -> None:
    refuse(world, how_often=2)


def password_is_refused_while_the_stores_disagree(world: Arranged) -> None:
    """A run left a generation in flight, and an edit came on top of it."""
    rotation = held(world.memory, "earlier")
    generate.run(GenerateRequest(rotation=rotation), world.memory.ports())
    claim = world.memory.lock.record.claim
    assert claim
    now = world.memory.clock.now()
    lease = world.lock.acquire(
        holder="earlier", now=now, expires_at=now + LEASE, force=False, revoke_previous=False
    )
    assert lease
    world.lock.claim(lease, claim, replaces=None)
    world.lock.release(lease, None)
    edit(world)
    refuse(world, how_often=1)


def withdrawal_fails(world: Arranged) -> None:
    refuse(world, how_often=1)
    fail(world.memory.databases["db-1"].faults, "retire", DatabaseUnreachableError)


def lock_is_lost_before_the_withdrawal(world: Arranged) -> None:
    refused: list[str] = []

    def refuses(password: str) -> bool:
        refused.append(password)
        if len(refused) == len(world.memory.databases):  # By now every branch has read the fence.
            world.steal_lock()
        return True

    for database in world.memory.databases.values():
        database.refuses = refuses


def revocation_fails(world: Arranged) -> None:
    fail(world.memory.databases["db-1"].faults, "retire", DatabaseUnreachableError)


def lock_is_lost_before_the_record(world: Arranged) -> None:
    store = world.memory.stores["oci"]
    store.faults.after = lambda operation: world.steal_lock() if operation == "serves" else None


def lock_is_lost_after_the_record(world: Arranged) -> None:
    log = world.memory.audit_logs["aws"]
    log.faults.after = lambda operation: world.steal_lock() if operation == "put" else None


PREPARED = ["AcquireLock", "Generate"]
APPLIED = [*PREPARED, "ApplyOneDb", "ApplyOneDb"]
FAILED = ["AuditFailure", "ReleaseLockAfterFailure"]


@pytest.mark.parametrize(
    ("arrange", "expected", "error"),
    [
        (nothing, [*APPLIED, "UpdateSecrets", "Audit", "ReleaseLock"], None),
        (lock_is_held, ["AcquireLock"], None),
        (
            edit,
            [
                *PREPARED,
                *["ProbeOneDb"] * 2,
                "Generate",
                *["ApplyOneDb"] * 2,
                "UpdateSecrets",
                "Audit",
                "ReleaseLock",
            ],
            None,
        ),
        (
            password_is_refused_once,
            [
                *APPLIED,
                "RaiseFence",
                *["WithdrawOneDb"] * 2,
                "Generate",
                *["ApplyOneDb"] * 2,
                "UpdateSecrets",
                "Audit",
                "ReleaseLock",
            ],
            None,
        ),
        (
            password_is_refused_twice,
            [*APPLIED, "RaiseFence", *["WithdrawOneDb"] * 2, "Generate", *["ApplyOneDb"] * 2, *FAILED],
            "PasswordRefusedByPolicyError",
        ),
        (
            password_is_refused_while_the_stores_disagree,
            [
                *PREPARED,
                *["ProbeOneDb"] * 2,
                "Generate",
                *["ApplyOneDb"] * 2,
                "RaiseFence",
                *["WithdrawOneDb"] * 2,
                "Generate",
                *["ProbeOneDb"] * 2,
                "Generate",
                *["ApplyOneDb"] * 2,
                "UpdateSecrets",
                "Audit",
                "ReleaseLock",
            ],
            None,
        ),
        (lock_is_lost_before_the_withdrawal, [*APPLIED, "RaiseFence", *FAILED], "FenceLostError"),
        (stores_cannot_be_read, [*PREPARED, *FAILED], "StoreAccessDeniedError"),
        (stores_do_not_answer, [*PREPARED, *FAILED], "StoreUnreachableError"),
        (no_candidate_logs_in, [*PREPARED, *["ProbeOneDb"] * 2, "Generate", *FAILED], "StoresDivergedError"),
        (promotion_is_rejected, [*APPLIED, "UpdateSecrets", *FAILED], "StoreRejectedError"),
        (entry_is_refused, [*APPLIED, "UpdateSecrets", "Audit", *FAILED], "AuditConflictError"),
        (lock_is_lost_before_the_record, [*APPLIED, "UpdateSecrets", "Audit", *FAILED], "FenceLostError"),
    ],
)
def test_the_sequence_does_what_the_state_machine_does(
    both: Both, arrange: Callable[[Arranged], None], expected: list[str], error: str | None
) -> None:
    assert both.machine(arrange) == (expected, error)
    assert both.sequence(arrange) == (expected, error)


def test_an_emergency_revokes_between_promotion_and_record(both: Both) -> None:
    expected = [*APPLIED, "UpdateSecrets", "RevokeOneDb", "RevokeOneDb", "Audit", "ReleaseLock"]
    emergency = {"force": True, "revoke_previous": True}
    assert both.machine(nothing, **emergency) == (expected, None)
    assert both.sequence(nothing, **emergency) == (expected, None)


@pytest.mark.parametrize(
    ("arrange", "more", "error"),
    [
        (base_is_refused, {}, "CurrentCredentialRejectedError"),
        (database_does_not_answer, {}, "DatabaseUnreachableError"),
        (probe_fails, {}, "CurrentCredentialRejectedError"),
        (withdrawal_fails, {}, "DatabaseUnreachableError"),
        (revocation_fails, {"force": True, "revoke_previous": True}, "DatabaseUnreachableError"),
    ],
)
def test_a_branch_that_fails_ends_both_in_the_same_way(
    both: Both, arrange: Callable[[Arranged], None], more: Mapping[str, bool], error: str
) -> None:
    # A Map stops its other branches if it can, so only the set of states is the same.
    machine, sequence_ = both.machine(arrange, **more), both.sequence(arrange, **more)
    assert machine[1] == sequence_[1] == error
    assert list(dict.fromkeys(machine[0])) == list(dict.fromkeys(sequence_[0]))
    assert machine[0][-2:] == sequence_[0][-2:] == FAILED


def test_a_lock_lost_before_the_release_fails_the_run(both: Both) -> None:
    expected = [*APPLIED, "UpdateSecrets", "Audit", "ReleaseLock"]
    machine, sequence_ = (
        both.machine(lock_is_lost_after_the_record),
        both.sequence(lock_is_lost_after_the_record),
    )
    assert (machine[0], sequence_[0]) == (expected, expected)
    # Step Functions shows DynamoDB's own name for it.
    assert (machine[1], sequence_[1]) == ("DynamoDB.ConditionalCheckFailedException", FenceLostError.__name__)


def test_the_sequence_names_every_task_and_map_state() -> None:
    named = set(re.findall(r'"(\w+)"', inspect.getsource(sequence)))
    assert _tasks(STATES) <= named
    assert {name for name, state in STATES.items() if state["Type"] == "Map"} <= named


# The deadline, which only the sequence has


def test_a_recorded_rotation_is_released_after_the_deadline(both: Both) -> None:
    world = both.world()
    clock = world.memory.clock
    world.memory.audit_logs["aws"].faults.after = lambda _operation: clock.sleep(400)
    result = sequence.rotate(
        RunRequest(rotation_id="run-1", runner="aws", trigger="test"),
        world.ports(),
        Recorder(clock, seconds=300),
        run_map=map,
    )
    assert result.outcome == "rotated"
    assert world.lock.read().claim is None
