"""The standby's sequence makes the calls of the state machine, in the same order (protocol R1).

Each scenario runs twice, on equal worlds: through the real definition in Step Functions, and through
`oci_fn.sequence`. The names of the Task states that each entered are compared.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from functions.apply_db import step as apply_db
from functions.audit import step as audit
from functions.face import LambdaFace
from functions.generate import step as generate
from functions.update_secrets import step as update_secrets
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.protocol.deadlines import LEASE, RUN, STEP_POLICY, RetryPolicy
from lockstep.protocol.errors import (
    AuditConflictError,
    DatabaseUnreachableError,
    FenceLostError,
    LockstepError,
    StoreAccessDeniedError,
    StoreRejectedError,
    StoreUnreachableError,
)
from lockstep.protocol.messages import AuditRequest, DatabaseRequest, GenerateRequest, UpdateRequest
from lockstep.stores.credential import Ports
from oci_fn import sequence
from oci_fn.retries import Retries
from oci_fn.sequence import RunRequest
from sandbox.aws import AwsSandbox, create_state_machine
from sandbox.aws.resources import create_lock_table
from tests.contract.aws_fixtures import sandbox_client
from tests.support.faults import Faults
from tests.support.memory import FakeClock, MemoryWorld

DEFINITION = (Path(__file__).parents[2] / "statemachine.asl.json").read_text(encoding="utf-8")
STATES: Mapping[str, Any] = json.loads(DEFINITION)["States"]
RUN_SECONDS = RUN.total_seconds()


TASKS = {name for name, state in STATES.items() if state["Type"] == "Task"}


@dataclass
class Arranged:
    """A world after its first rotation, on which either runner can rotate."""

    memory: MemoryWorld
    lock: DynamoDbLock
    write: Callable[..., None]

    def ports(self) -> Ports:
        return replace(self.memory.ports("aws"), lock=self.lock)

    def order(self, **orders: Mapping[str, object]) -> None:
        """Write orders into the item, as an operator does."""
        names = {f"#{name}": name for name in orders}
        self.write(
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in orders),
            ExpressionAttributeNames=names,
            ExpressionAttributeValues={f":{name}": value for name, value in orders.items()},
        )

    def steal_lock(self) -> None:
        self.write(
            UpdateExpression="SET holder = :thief ADD fence :one",
            ExpressionAttributeValues={":thief": {"S": "thief"}, ":one": {"N": "1"}},
        )


class Recorder(Retries):
    """Records the state of each call, and the states whose Retry block is not the call's policy."""

    def __init__(self, clock: FakeClock, *, seconds: float = RUN_SECONDS) -> None:
        self.states: list[str] = []
        self.retried_differently: list[str] = []
        deadline = clock.monotonic() + seconds
        super().__init__(clock, deadline=deadline, jitter=lambda: 0.5)

    def call(self, state: str, *rest: Any, **more: Any) -> Any:  # noqa: ANN401 - as Retries
        self.states.append(state)
        policy: RetryPolicy = more.get("policy", STEP_POLICY)
        if _retry_of(state) != (policy.attempts, policy.interval_seconds, policy.max_delay_seconds):
            self.retried_differently.append(state)
        return super().call(state, *rest, **more)


def _retry_of(state: str) -> tuple[int, int, int]:
    """The first retrier of a state, which is the one for Lockstep's own errors."""
    first = STATES[state]["Retry"][0]
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

        write = partial(
            self._aws.client("dynamodb").update_item,
            TableName=table,
            Key={"credential_id": {"S": memory.credential.id}},
        )
        lock = DynamoDbLock(sandbox_client(self._aws, "dynamodb"), table, memory.credential.id)
        world = Arranged(memory, lock, write)
        world.order(activate={"S": memory.credential.plan_digest})
        first = RunRequest(rotation_id="first", runner="aws", trigger="test")
        sequence.rotate(first, world.ports(), Recorder(self._clock))
        self._clock.sleep(memory.credential.schedule.interval.total_seconds())
        return world

    def machine(self, arrange: Callable[[Arranged], None]) -> tuple[list[str], str | None]:
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
            arn, {"credential_id": self._world.memory.credential.id, "trigger": "test"}
        )
        return [s for s in execution.states_entered if s in TASKS], execution.error

    def sequence(self, arrange: Callable[[Arranged], None]) -> tuple[list[str], str | None]:
        """Run the sequence; return its states and its error."""
        world = self.world()
        arrange(world)
        recorder = Recorder(self._clock)
        request = RunRequest(rotation_id="run-1", runner="aws", trigger="test")
        try:
            sequence.rotate(request, world.ports(), recorder)
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
    world.lock.acquire(holder="another", now=now, expires_at=now + LEASE, force=False)


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
    fail(world.memory.databases["db-2"].faults, "accepts", DatabaseUnreachableError)


def no_candidate_logs_in(world: Arranged) -> None:
    edit(world)
    base_is_refused(world)


def paused(world: Arranged) -> None:
    world.order(paused={"BOOL": True})


def another_plan_is_active(world: Arranged) -> None:
    world.order(plan={"S": "of-another-plan"})


def plan_is_to_become_active(world: Arranged) -> None:
    world.order(plan={"S": "of-another-plan"}, activate={"S": world.memory.credential.plan_digest})


def database_is_blocked(world: Arranged) -> None:
    world.order(blocked={"SS": ["db-2"]})


def database_is_taken_over(world: Arranged) -> None:
    world.order(take_over={"SS": ["db-2"]})


def every_database_is_taken_over_while_the_stores_disagree(world: Arranged) -> None:
    edit(world)
    world.order(take_over={"SS": ["db-1", "db-2"]})


def emergency(world: Arranged) -> None:
    world.order(revoke_through={"N": "1"})


def emergency_while_the_stores_disagree(world: Arranged) -> None:
    edit(world)
    emergency(world)


def password_is_refused_once(world: Arranged) -> None:
    refuse(world, how_often=1)


def password_is_refused_twice(world: Arranged) -> None:
    refuse(world, how_often=2)


def password_is_refused_while_the_stores_disagree(world: Arranged) -> None:
    """The login that works is to be set on a restored database, whose policy refuses it."""
    edit(world)
    database_is_taken_over(world)
    refuse(world, how_often=1)


def revocation_fails(world: Arranged) -> None:
    emergency(world)
    fail(world.memory.databases["db-1"].faults, "stage", DatabaseUnreachableError, from_nth=2)


def lock_is_lost_before_the_record(world: Arranged) -> None:
    store = world.memory.stores["oci"]
    store.faults.after = lambda operation: world.steal_lock() if operation == "shows" else None


def lock_is_lost_after_the_record(world: Arranged) -> None:
    log = world.memory.audit_logs["aws"]
    log.faults.after = lambda operation: world.steal_lock() if operation == "put" else None


SKIPPED = ["AcquireLock", "NoteSkip", "Witness"]
PREPARED = ["AcquireLock", "Generate"]
PROBED = [*PREPARED, "ApplyDb", "Generate"]
COMMITTED = ["ApplyDb", "UpdateSecrets", "Audit", "ReleaseLock"]
FAILED = ["AuditFailure", "ReleaseLockAfterFailure"]


@pytest.mark.parametrize(
    ("arrange", "expected", "error"),
    [
        (nothing, [*PREPARED, *COMMITTED], None),
        (lock_is_held, SKIPPED, None),
        (paused, SKIPPED, None),
        (edit, [*PROBED, *COMMITTED], None),
        (plan_is_to_become_active, [*PROBED, *COMMITTED], None),
        (database_is_taken_over, [*PREPARED, *COMMITTED], None),
        (every_database_is_taken_over_while_the_stores_disagree, [*PREPARED, *COMMITTED], None),
        (password_is_refused_once, [*PREPARED, "ApplyDb", "Generate", *COMMITTED], None),
        (
            password_is_refused_twice,
            [*PREPARED, "ApplyDb", "Generate", "ApplyDb", *FAILED],
            "PasswordRefusedByPolicyError",
        ),
        (
            password_is_refused_while_the_stores_disagree,
            [*PROBED, "ApplyDb", *PROBED[1:], "ApplyDb", *FAILED],
            "PasswordRefusedByPolicyError",
        ),
        (
            emergency,
            [*PREPARED, "ApplyDb", "UpdateSecrets", "RevokeDb", "Audit", "ReleaseLock"],
            None,
        ),
        (emergency_while_the_stores_disagree, [*PROBED, *COMMITTED], None),
        (another_plan_is_active, [*PREPARED, *FAILED], "PlanNotActiveError"),
        (database_is_blocked, [*PREPARED, *FAILED], "DatabaseBlockedError"),
        (stores_cannot_be_read, [*PREPARED, *FAILED], "StoreAccessDeniedError"),
        (stores_do_not_answer, [*PREPARED, *FAILED], "StoreUnreachableError"),
        (no_candidate_logs_in, [*PREPARED, "ApplyDb", *FAILED], "StoresDivergedError"),
        (probe_fails, [*PREPARED, "ApplyDb", *FAILED], "DatabaseUnreachableError"),
        (base_is_refused, [*PREPARED, "ApplyDb", *FAILED], "CurrentCredentialRejectedError"),
        (database_does_not_answer, [*PREPARED, "ApplyDb", *FAILED], "DatabaseUnreachableError"),
        (promotion_is_rejected, [*PREPARED, "ApplyDb", "UpdateSecrets", *FAILED], "StoreRejectedError"),
        (
            revocation_fails,
            [*PREPARED, "ApplyDb", "UpdateSecrets", "RevokeDb", *FAILED],
            "DatabaseUnreachableError",
        ),
        (
            entry_is_refused,
            [*PREPARED, "ApplyDb", "UpdateSecrets", "Audit", *FAILED],
            "AuditConflictError",
        ),
        (
            lock_is_lost_before_the_record,
            [*PREPARED, "ApplyDb", "UpdateSecrets", "Audit", *FAILED],
            "FenceLostError",
        ),
    ],
)
def test_the_sequence_does_what_the_state_machine_does(
    both: Both, arrange: Callable[[Arranged], None], expected: list[str], error: str | None
) -> None:
    assert both.machine(arrange) == (expected, error)
    assert both.sequence(arrange) == (expected, error)


def test_a_lock_lost_before_the_release_fails_the_run(both: Both) -> None:
    expected = [*PREPARED, *COMMITTED]
    machine, sequence_ = (
        both.machine(lock_is_lost_after_the_record),
        both.sequence(lock_is_lost_after_the_record),
    )
    assert (machine[0], sequence_[0]) == (expected, expected)
    # Step Functions shows DynamoDB's own name for it.
    assert (machine[1], sequence_[1]) == ("DynamoDB.ConditionalCheckFailedException", FenceLostError.__name__)


def test_the_sequence_names_every_task() -> None:
    assert set(re.findall(r'"(\w+)"', inspect.getsource(sequence))) >= TASKS


# The deadline, which only the sequence has


def test_a_recorded_rotation_is_released_after_the_deadline(both: Both) -> None:
    world = both.world()
    clock = world.memory.clock
    world.memory.audit_logs["aws"].faults.after = lambda _operation: clock.sleep(400)
    result = sequence.rotate(
        RunRequest(rotation_id="run-1", runner="aws", trigger="test"),
        world.ports(),
        Recorder(clock, seconds=300),
    )
    assert result.outcome == "rotated"
    assert world.lock.read().claim is None
