"""The standby's sequence makes the calls of the state machine, in the same order (protocol R1).

Each scenario runs twice, on equal worlds: through the real definition in Step Functions, and through
`oci_fn.sequence`. The Task states that each entered are compared, and what each leaves.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from functions.apply_db import step as apply_db
from functions.audit import step as audit
from functions.face import LambdaFace
from functions.generate import step as generate
from functions.update_secrets import step as update_secrets
from lockstep.protocol import errors, messages
from lockstep.protocol.deadlines import LEASE, PREPARED_AT_MOST, RUN, STEP_POLICY, RetryPolicy
from lockstep.stores.credential import Ports
from oci_fn import sequence
from oci_fn.retries import Retries
from sandbox.emulators.aws import AwsSandbox, create_state_machine
from tests.contract.clouds import TABLE, DynamoDbHarness
from tests.support import world as w
from tests.support.memory import FakeClock

DEFINITION = (Path(__file__).parents[2] / "statemachine.asl.json").read_text(encoding="utf-8")
STATES: Mapping[str, Any] = json.loads(DEFINITION)["States"]
TASKS = {name for name, state in STATES.items() if state["Type"] == "Task"}
GIVEN = messages.RunInput(credential_id="multi-cloud/app_user", trigger="test")
Ended = tuple[list[str], str | None, object]
"""The Task states that a run has entered, its error, and what it leaves."""


class Recorder(Retries):
    """Records the state of each call, whose policy is that of the state's Retry block."""

    def __init__(self, clock: FakeClock, *, seconds: float = RUN.total_seconds()) -> None:
        self.states: list[str] = []
        super().__init__(clock, deadline=clock.monotonic() + seconds, jitter=lambda: 0.5)

    def call(self, state: str, *rest: Any, **more: Any) -> Any:  # noqa: ANN401 - as Retries
        self.states.append(state)
        policy: RetryPolicy = more.get("policy", STEP_POLICY)
        own = STATES[state]["Retry"][0]  # The first retrier is the one for Lockstep's own errors.
        retried = own["MaxAttempts"], own["IntervalSeconds"], own["MaxDelaySeconds"]
        assert retried == (policy.attempts, policy.interval_seconds, policy.max_delay_seconds), state
        return super().call(state, *rest, **more)


def _apply(request: messages.DatabaseRequest, ports: Ports) -> object:
    """ApplyDb, or what a test has put in its place."""
    return apply_db.run(request, ports)


class World:
    """Step Functions, a lock table, and a credential after its first rotation, which is made anew for each run."""

    def __init__(self, aws: AwsSandbox, clock: FakeClock) -> None:
        self._aws, self.clock, self.table = aws, clock, DynamoDbHarness(aws)
        self._names = count(1)
        faces = {
            "GenerateFunction": (generate.run, messages.GenerateRequest),
            "ApplyDbFunction": (_apply, messages.DatabaseRequest),
            "UpdateSecretsFunction": (update_secrets.run, messages.UpdateRequest),
            "AuditFunction": (audit.run, messages.Run),
        }
        for name, (step, request) in faces.items():
            face: LambdaFace[Any] = LambdaFace(step, request, ports=lambda _id: self._ports())  # type: ignore[arg-type]  # each step with its own request
            aws.lambda_host.register_handler(name, face, timeout_seconds=60)
        arns = {name: aws.lambda_host.arn(name) for name in re.findall(r"\$\{(\w+Function)\}", DEFINITION)}
        self._machine_arn = create_state_machine(
            aws.client("stepfunctions"),
            "lockstep",
            DEFINITION,
            {**arns, "LockTable": TABLE},
            role_arn=f"arn:aws:iam::{aws.account_id}:role/lockstep",
        )

    def make(self, arrange: "Arrange") -> None:
        self.table.forget()
        self.memory = w.make_world(clock=self.clock)
        self.table.order(activate=self.memory.credential.plan_digest)
        self.rotate("first")
        arrange(self)

    def _ports(self) -> Ports:
        return replace(self.memory.ports("aws"), lock=self.table.lock)

    def rotate(self, rotation_id: str, recorder: Recorder | None = None) -> bool:
        """Run the sequence; without a recorder, the next run is due then."""
        run = recorder or Recorder(self.clock)
        is_promoted = sequence.rotate(GIVEN, self._ports(), run, rotation_id=rotation_id, runner="aws")
        if not recorder:
            self.clock.sleep(w.INTERVAL_SECONDS)
        return bool(is_promoted)

    def steal_lock(self) -> None:
        self.table.order(holder="thief", fence=99)

    def _left(self) -> object:
        """What it has come to: stores, databases, the lock record, and what the entries say."""
        times = dict.fromkeys(("expires_at", "next_due_at", "not_before", "rotated_at"))
        record = replace(self.table.lock.read(), **times, heads={})  # type: ignore[arg-type]  # all of them may be None
        told = [e.event["unmapped"]["lockstep"] for e in w.entries(self.memory, "aws")]
        return w.served(self.memory), w.known_logins(self.memory), record, told

    def runs_of(self, arrange: "Arrange", *, then: Callable[[], object] = lambda: None) -> list[Ended]:
        """That of the state machine, and that of the sequence; `then` between them."""
        self.make(arrange)
        name, given = f"run-{next(self._names)}", {"credential_id": GIVEN.credential_id, "trigger": "test"}
        execution = self._aws.run_execution(self._machine_arn, given, name=name)
        states = [s for s in execution.states_entered if s in TASKS]
        # Step Functions shows DynamoDB's own name for it.
        lost = execution.error == "DynamoDB.ConditionalCheckFailedException"
        machine = states, errors.FenceLostError.__name__ if lost else execution.error, self._left()
        then()
        self.make(arrange)
        recorder, failed = Recorder(self.clock), None
        try:
            self.rotate(name, recorder)
        except errors.LockstepError as error:
            failed = type(error).__name__
        return [machine, (recorder.states, failed, self._left())]


Arrange = Callable[[World], None]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    clock = FakeClock()
    with AwsSandbox(retry_sleep=lambda _: None, wall_clock=lambda: clock.now().timestamp()) as aws:
        yield World(aws, clock)


def breaking(
    part: str, name: str, operation: str, error: type[errors.LockstepError], *, from_nth: int = 1
) -> Arrange:
    """Let an operation of a double of the world fail from its n-th call on."""

    def arrange(world: World) -> None:
        calls = count(1)

        def before(asked: str) -> None:
            if asked == operation and next(calls) >= from_nth:
                raise error

        getattr(world.memory, part)[name].faults.before = before

    return arrange


def losing_the_lock(part: str, name: str, after: str) -> Arrange:
    def arrange(world: World) -> None:
        faults = getattr(world.memory, part)[name].faults
        faults.after = lambda operation: world.steal_lock() if operation == after else None

    return arrange


def both_of(*parts: Arrange) -> Arrange:
    def arrange(world: World) -> None:
        for part in parts:
            part(world)

    return arrange


def nothing(_world: World) -> None:
    """It rotates."""


def edit(world: World) -> None:
    """Make the stores disagree."""
    w.edit(world.memory.stores["oci"], w.another_login(world.memory))


def emergency(world: World) -> None:
    world.table.order(revoke_through=1)


def lock_is_held(world: World) -> None:
    now = world.clock.now()
    world.table.lock.acquire(holder="another", now=now, expires_at=now + LEASE, force=False)


def overlap_runs(world: World) -> None:
    """The run is due, and none may begin yet."""
    world.table.order(not_before=world.clock.now() + timedelta(seconds=60))


def database_does_not_answer(world: World) -> None:
    world.memory.databases["db-2"].unreachable = True


def nothing_works(world: World) -> None:
    world.memory.databases["db-1"].accounts["app"].passwords = ("changed",)


def last_change_is_lost(world: World) -> None:
    """A fail-over of a database, after another rotation."""
    database = world.memory.databases["db-1"]
    before = deepcopy(database.accounts)
    world.rotate("second")
    database.accounts = before


def half_done(world: World) -> None:
    """A run has failed with its generation staged."""
    world.memory.databases["db-2"].unreachable = True
    with pytest.raises(errors.DatabaseUnreachableError):
        world.rotate("second")
    world.memory.databases["db-2"].unreachable = False
    world.clock.sleep(w.INTERVAL_SECONDS)


PREPARED = ["AcquireLock", "Generate"]
PROBED = [*PREPARED, "ApplyDb", "Generate"]
SEARCHED = [*PROBED, "ApplyDb"]
COMMITTED = ["ApplyDb", "UpdateSecrets", "Audit", "ReleaseLock"]
FAILED = ["AuditFailure", "ReleaseLockAfterFailure"]
NOT_AUDITED = [*PREPARED, "ApplyDb", "UpdateSecrets", "Audit", *FAILED]
SCENARIOS: dict[str, tuple[Arrange, list[str], type[errors.LockstepError] | None]] = {
    "nothing": (nothing, [*PREPARED, *COMMITTED], None),
    "the lock is held": (lock_is_held, ["AcquireLock"], None),
    "another run is adopted": (half_done, [*PREPARED, *COMMITTED], None),
    "the stores disagree": (edit, [*PROBED, *COMMITTED], None),
    "the overlap runs": (overlap_runs, [*PROBED, "ReleaseLockUnchanged"], None),
    "an emergency": (
        emergency,
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
        errors.CurrentCredentialRejectedError,
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
            emergency, breaking("databases", "db-1", "stage", errors.DatabaseUnreachableError, from_nth=2)
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
        losing_the_lock("stores", "oci", "shows"),
        NOT_AUDITED,
        errors.FenceLostError,
    ),
    "the lock is lost after the record": (
        losing_the_lock("audit_logs", "aws", "put"),
        [*PREPARED, *COMMITTED],
        errors.FenceLostError,
    ),
    "the lock is lost where nothing is to be done": (
        both_of(overlap_runs, losing_the_lock("databases", "db-2", "accepts")),
        [*PROBED, "ReleaseLockUnchanged"],
        errors.FenceLostError,
    ),
}


@pytest.mark.parametrize(("arrange", "expected", "error"), SCENARIOS.values(), ids=SCENARIOS)
def test_the_sequence_does_what_the_state_machine_does(
    world: World, arrange: Arrange, expected: list[str], error: type[errors.LockstepError] | None
) -> None:
    machine, alone = world.runs_of(arrange)
    assert machine[:2] == (expected, error.__name__ if error else None)
    assert alone == machine


def test_a_run_prepares_a_bounded_number_of_times(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Base is refused each time, and each time a search finds a login that works."""

    def unsteady(
        request: messages.DatabaseRequest, _ports: Ports
    ) -> messages.BaseRefused | messages.ProbeResult:
        if isinstance(request, messages.ProbeRequest):
            accepted = messages.Beside(database="db-1", login=request.candidates[0].ref)
            return messages.ProbeResult(winner=request.candidates[0].ref, beside=(accepted,))
        return messages.BaseRefused(refused=("db-1",))

    machine, alone = world.runs_of(
        lambda _world: monkeypatch.setattr(apply_db, "run", unsteady), then=monkeypatch.undo
    )
    states = ["AcquireLock", *PREPARED_AT_MOST * ["Generate", "ApplyDb"], *FAILED]
    assert machine[:2] == (states, "StoresDivergedError")
    assert alone == machine


def test_a_recorded_rotation_is_released_after_the_deadline(world: World) -> None:
    """Only the sequence has a deadline."""
    world.make(nothing)
    world.memory.audit_logs["aws"].faults.after = lambda _operation: world.clock.sleep(400)
    assert world.rotate("run-1", Recorder(world.clock, seconds=300))
    assert world.table.lock.read().claim is None
