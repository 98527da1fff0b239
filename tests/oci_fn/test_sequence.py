"""The standby's sequence makes the calls of the state machine, in the same order (protocol R1).

Each scenario runs twice, on equal worlds: through the real definition in Step Functions, and through
`oci_fn.sequence`. The Task states that each entered are compared, and what each leaves.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from functions.apply_db import step as apply_db
from functions.audit import step as audit
from functions.face import LambdaFace
from functions.generate import step as generate
from functions.update_secrets import step as update_secrets
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.protocol import errors, messages
from lockstep.protocol.deadlines import LEASE, PREPARED_AT_MOST, RUN, STEP_POLICY, RetryPolicy
from lockstep.stores.credential import Ports
from oci_fn import sequence
from oci_fn.retries import Retries
from sandbox.emulators.aws import AwsSandbox, create_state_machine
from sandbox.emulators.aws.resources import create_lock_table
from tests.contract.aws_fixtures import sandbox_client
from tests.support import world as w
from tests.support.memory import FakeClock, MemoryWorld

DEFINITION = (Path(__file__).parents[2] / "statemachine.asl.json").read_text(encoding="utf-8")
STATES: Mapping[str, Any] = json.loads(DEFINITION)["States"]
TASKS = {name for name, state in STATES.items() if state["Type"] == "Task"}
GIVEN = messages.RunInput(credential_id="multi-cloud/app_user", trigger="test")


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

    def rotate(self, rotation_id: str) -> None:
        recorder = Recorder(self.memory.clock)
        assert sequence.rotate(GIVEN, self.ports(), recorder, rotation_id=rotation_id, runner="aws")

    def steal_lock(self) -> None:
        self.write(
            UpdateExpression="SET holder = :thief ADD fence :one",
            ExpressionAttributeValues={":thief": {"S": "thief"}, ":one": {"N": "1"}},
        )

    def left(self) -> object:
        """What it has come to: stores, databases, the lock record, and what the entries say."""
        times = dict.fromkeys(("expires_at", "next_due_at", "not_before", "rotated_at"))
        record = replace(self.lock.read(), **times, heads={})  # type: ignore[arg-type]  # all of them may be None
        told = [e.event["unmapped"]["lockstep"] for e in w.entries(self.memory, "aws")]
        return w.served(self.memory), w.known_logins(self.memory), record, told


Arrange = Callable[[Arranged], None]
Ended = tuple[list[str], str | None, object]
"""The Task states that a run has entered, its error, and what it leaves."""


class Recorder(Retries):
    """Records the state of each call, and the states whose Retry block is not the call's policy."""

    def __init__(self, clock: FakeClock, *, seconds: float = RUN.total_seconds()) -> None:
        self.states: list[str] = []
        self.retried_differently: list[str] = []
        super().__init__(clock, deadline=clock.monotonic() + seconds, jitter=lambda: 0.5)

    def call(self, state: str, *rest: Any, **more: Any) -> Any:  # noqa: ANN401 - as Retries
        self.states.append(state)
        policy: RetryPolicy = more.get("policy", STEP_POLICY)
        own = STATES[state]["Retry"][0]  # The first retrier is the one for Lockstep's own errors.
        retried = own["MaxAttempts"], own["IntervalSeconds"], own["MaxDelaySeconds"]
        if retried != (policy.attempts, policy.interval_seconds, policy.max_delay_seconds):
            self.retried_differently.append(state)
        return super().call(state, *rest, **more)


def _apply(request: messages.DatabaseRequest, ports: Ports) -> object:
    """ApplyDb, or what a test has put in its place."""
    return apply_db.run(request, ports)


class Both:
    """Runs each scenario on new worlds."""

    def __init__(self, aws: AwsSandbox, clock: FakeClock) -> None:
        self._aws = aws
        self._clock = clock
        self._count = 0
        self._world = self.world()
        faces = {
            "GenerateFunction": (generate.run, messages.GenerateRequest),
            "ApplyDbFunction": (_apply, messages.DatabaseRequest),
            "UpdateSecretsFunction": (update_secrets.run, messages.UpdateRequest),
            "AuditFunction": (audit.run, messages.Run),
        }
        for name, (step, request) in faces.items():
            face: LambdaFace[Any] = LambdaFace(step, request, ports=lambda _id: self._world.ports())  # type: ignore[arg-type]  # each step with its own request
            aws.lambda_host.register_handler(name, face, timeout_seconds=60)

    def world(self) -> Arranged:
        """A new one, with a lock table of its own."""
        self._count += 1
        table = f"lock-{self._count}"
        create_lock_table(self._aws.client("dynamodb"), table)
        memory = w.make_world()
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
        world.rotate("first")
        self._clock.sleep(memory.credential.schedule.interval.total_seconds())
        return world

    def machine(self, arrange: Arrange) -> Ended:
        """Run the state machine."""
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
        given = {"credential_id": self._world.memory.credential.id, "trigger": "test"}
        execution = self._aws.run_execution(arn, given, name="run-1")
        states = [s for s in execution.states_entered if s in TASKS]
        # Step Functions shows DynamoDB's own name for it.
        lost = execution.error == "DynamoDB.ConditionalCheckFailedException"
        return states, errors.FenceLostError.__name__ if lost else execution.error, self._world.left()

    def sequence(self, arrange: Arrange) -> Ended:
        """Run the sequence."""
        world, failed = self.world(), None
        arrange(world)
        recorder = Recorder(self._clock)
        try:
            sequence.rotate(GIVEN, world.ports(), recorder, rotation_id="run-1", runner="aws")
        except errors.LockstepError as error:
            failed = type(error).__name__
        assert recorder.retried_differently == []
        return recorder.states, failed, world.left()


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    clock = FakeClock()
    aws = AwsSandbox(retry_sleep=lambda _seconds: None, wall_clock=lambda: clock.now().timestamp())
    with aws:
        yield Both(aws, clock)


def breaking(
    part: str, name: str, operation: str, error: type[errors.LockstepError], *, from_nth: int = 1
) -> Arrange:
    """Let an operation of a double of the world fail from its n-th call on."""

    def arrange(world: Arranged) -> None:
        calls = count(1)

        def before(asked: str) -> None:
            if asked == operation and next(calls) >= from_nth:
                raise error

        getattr(world.memory, part)[name].faults.before = before

    return arrange


def edit(world: Arranged) -> None:
    """Make the stores disagree."""
    world.memory.stores["oci"].edit("app_user", '{"username":"app","password":"by-hand"}')


def ordering(**orders: Mapping[str, object]) -> Arrange:
    return lambda world: world.order(**orders)


def both_of(*parts: Arrange) -> Arrange:
    def arrange(world: Arranged) -> None:
        for part in parts:
            part(world)

    return arrange


def lock_is_held(world: Arranged) -> None:
    now = world.memory.clock.now()
    world.lock.acquire(holder="another", now=now, expires_at=now + LEASE, force=False)


def overlap_runs(world: Arranged) -> None:
    """The run is due, and none may begin yet."""
    world.order(not_before={"N": f"{world.memory.clock.now().timestamp() + 60:.0f}"})


def database_does_not_answer(world: Arranged) -> None:
    world.memory.databases["db-2"].unreachable = True


def nothing_works(world: Arranged) -> None:
    world.memory.databases["db-1"].accounts["app"].passwords = ("changed",)


def last_change_is_lost(world: Arranged) -> None:
    """A fail-over of a database, after another rotation."""
    database = world.memory.databases["db-1"]
    before = deepcopy(database.accounts)
    world.rotate("second")
    world.memory.clock.sleep(world.memory.credential.schedule.interval.total_seconds())
    database.accounts = before


def lock_is_lost(part: str, name: str, after: str) -> Arrange:
    def arrange(world: Arranged) -> None:
        faults = getattr(world.memory, part)[name].faults
        faults.after = lambda operation: world.steal_lock() if operation == after else None

    return arrange


PREPARED = ["AcquireLock", "Generate"]
PROBED = [*PREPARED, "ApplyDb", "Generate"]
SEARCHED = [*PROBED, "ApplyDb"]
COMMITTED = ["ApplyDb", "UpdateSecrets", "Audit", "ReleaseLock"]
FAILED = ["AuditFailure", "ReleaseLockAfterFailure"]
NOT_AUDITED = [*PREPARED, "ApplyDb", "UpdateSecrets", "Audit", *FAILED]
EMERGENCY = ordering(revoke_through={"N": "1"})
SCENARIOS: dict[str, tuple[Arrange, list[str], type[errors.LockstepError] | None]] = {
    "nothing": (lambda _: None, [*PREPARED, *COMMITTED], None),
    "the lock is held": (lock_is_held, ["AcquireLock"], None),
    "the stores disagree": (edit, [*PROBED, *COMMITTED], None),
    "the overlap runs": (overlap_runs, [*PROBED, "ReleaseLockUnchanged"], None),
    "an emergency": (
        EMERGENCY,
        [*PREPARED, "ApplyDb", "UpdateSecrets", "RevokeDb", "Audit", "ReleaseLock"],
        None,
    ),
    "the stores do not answer": (
        breaking("stores", "oci", "read_current", errors.StoreUnreachableError),
        [*PREPARED, *FAILED],
        errors.StoreUnreachableError,
    ),
    "base is refused": (last_change_is_lost, [*SEARCHED, "Generate", *COMMITTED], None),
    "base is refused, and nothing else logs in": (
        nothing_works,
        [*SEARCHED, *FAILED],
        errors.DatabaseBlockedError,
    ),
    "a database does not answer": (
        database_does_not_answer,
        [*PREPARED, "ApplyDb", *FAILED],
        errors.DatabaseUnreachableError,
    ),
    "the promotion is rejected": (
        breaking("stores", "aws", "promote app_user", errors.StoreRejectedError),
        [*PREPARED, "ApplyDb", "UpdateSecrets", *FAILED],
        errors.StoreRejectedError,
    ),
    "the revocation fails": (
        both_of(
            EMERGENCY, breaking("databases", "db-1", "stage", errors.DatabaseUnreachableError, from_nth=2)
        ),
        [*PREPARED, "ApplyDb", "UpdateSecrets", "RevokeDb", *FAILED],
        errors.DatabaseUnreachableError,
    ),
    "the entry is refused": (
        breaking("audit_logs", "aws", "put", errors.AuditLogAccessDeniedError),
        [*NOT_AUDITED[:-1], "ReleaseLockUnrecorded"],
        errors.AuditLogAccessDeniedError,
    ),
    "the lock is lost before the record": (
        lock_is_lost("stores", "oci", "shows"),
        NOT_AUDITED,
        errors.FenceLostError,
    ),
    "the lock is lost after the record": (
        lock_is_lost("audit_logs", "aws", "put"),
        [*PREPARED, *COMMITTED],
        errors.FenceLostError,
    ),
    "the lock is lost where nothing is to be done": (
        both_of(overlap_runs, lock_is_lost("databases", "db-2", "accepts")),
        [*PROBED, "ReleaseLockUnchanged"],
        errors.FenceLostError,
    ),
}


@pytest.mark.parametrize(("arrange", "expected", "error"), SCENARIOS.values(), ids=SCENARIOS)
def test_the_sequence_does_what_the_state_machine_does(
    both: Both, arrange: Arrange, expected: list[str], error: type[errors.LockstepError] | None
) -> None:
    machine, alone = both.machine(arrange), both.sequence(arrange)
    assert machine[:2] == (expected, error.__name__ if error else None)
    assert alone == machine


def test_a_run_prepares_a_bounded_number_of_times(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """Base is refused each time, and each time a search finds a login that works."""

    def unsteady(
        request: messages.DatabaseRequest, _ports: Ports
    ) -> messages.BaseRefused | messages.ProbeResult:
        if isinstance(request, messages.ProbeRequest):
            accepted = messages.Beside(database="db-1", login=request.candidates[0].ref)
            return messages.ProbeResult(winner=request.candidates[0].ref, beside=(accepted,))
        return messages.BaseRefused(refused=("db-1",))

    def arrange(_world: Arranged) -> None:
        monkeypatch.setattr(apply_db, "run", unsteady)

    machine = both.machine(arrange)
    monkeypatch.undo()
    states = ["AcquireLock", *PREPARED_AT_MOST * ["Generate", "ApplyDb"], *FAILED]
    assert machine[:2] == (states, "StoresDivergedError")
    assert both.sequence(arrange) == machine


# The deadline, which only the sequence has


def test_a_recorded_rotation_is_released_after_the_deadline(both: Both) -> None:
    world = both.world()
    clock = world.memory.clock
    world.memory.audit_logs["aws"].faults.after = lambda _operation: clock.sleep(400)
    recorder = Recorder(clock, seconds=300)
    assert sequence.rotate(GIVEN, world.ports(), recorder, rotation_id="run-1", runner="aws")
    assert world.lock.read().claim is None
