"""The definition's expressions: choices, payloads, and calls of the lock table."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args, get_type_hints

import pytest
from msgspec import structs

from functions.announce.ended import Rotated
from functions.generate import step as generate
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.protocol.deadlines import LEASE
from lockstep.protocol.messages import (
    ApplyRequest,
    AuditRequest,
    CandidateRef,
    DatabaseOutcome,
    DatabaseRequest,
    DatabaseResult,
    FailedRun,
    GenerateRequest,
    Hint,
    Id,
    ProbeNeeded,
    ProbeRequest,
    RecordedRotation,
    ReleaseValues,
    RevocationCheck,
    RevocationResult,
    RevokeRequest,
    RotatedRun,
    Rotation,
    RunInput,
    Staged,
    UpdateRequest,
)
from lockstep.protocol.model import Claim, ClaimKind, Lease, Release
from lockstep.protocol.strict_json import Message, MessageError, read, write
from tests.statemachine.definition import MACHINE, STATES, JsonObject, evaluate, walk
from tests.support.memory import EPOCH, MemoryWorld, make_plan
from tests.unit.harness import another_login, edit, held, rotate

REQUESTS: Mapping[str, Any] = {
    "${GenerateFunction}": GenerateRequest,
    "${ApplyDbFunction}": DatabaseRequest,
    "${UpdateSecretsFunction}": UpdateRequest,
    "${AuditFunction}": AuditRequest,
}


# Choices


GOOD = {"credential_id": "multi-cloud/app_user"}
NO_ID: tuple[object, ...] = (5, None, {}, [], ["a"], True, "", "it's", "a b", "a\n", "\u00e9", "x" * 201)
"""Texts and other values that no message of a step accepts as an id."""
NO_FLAG: tuple[object, ...] = ("true", 1, 0, None, {}, [])


@pytest.mark.parametrize(
    "given",
    [
        GOOD,
        {**GOOD, "force": True, "trigger": "by-hand"},
        {"credential_id": "AZ az 09/_+=.@:-".replace(" ", "")},
        {"credential_id": "x" * 200},
    ],
    ids=repr,
)
def test_a_valid_input_reaches_the_lock(given: JsonObject) -> None:
    read(RunInput, given)
    assert _leads_to(given) == "AcquireLock"


@pytest.mark.parametrize(
    "given",
    [
        {},
        [],
        [GOOD],
        "multi-cloud/app_user",
        None,
        *({"credential_id": bad} for bad in NO_ID),
        *({**GOOD, "trigger": bad} for bad in NO_ID),
        *({**GOOD, "force": bad} for bad in NO_FLAG),
        {**GOOD, "revoke_previous": True},
        {"doctor": "look"},
        {**GOOD, "doctor": "look"},
    ],
    ids=repr,
)
def test_an_input_that_a_step_would_refuse_does_not_reach_the_lock(given: object) -> None:
    with pytest.raises(MessageError):
        read(RunInput, given)
    assert _leads_to(given) == "InvalidInput"


@pytest.mark.parametrize("name", ["it's", "a!b", "x+(1)", "\u00e9"])
def test_an_execution_name_that_a_step_would_refuse_does_not_reach_the_lock(name: str) -> None:
    with pytest.raises(MessageError):
        read(Id, name)
    assert _leads_to(GOOD, name=name) == "InvalidInput"


def _leads_to(given: object, *, name: str = "run-1") -> str:
    state = STATES["CheckInput"]
    [choice] = state["Choices"]
    states = {"input": given, "context": {"Execution": {"Name": name}}}
    passed = evaluate(choice["Condition"], {"states": states})
    assert isinstance(passed, bool)
    return str(choice["Next"] if passed else state["Default"])


@pytest.mark.parametrize("already_refused", [None, 2])
@pytest.mark.parametrize("databases", [1, 2])
@pytest.mark.parametrize("refused", [0, 1])
def test_a_refused_password_is_replaced_once(
    refused: int, databases: int, already_refused: int | None
) -> None:
    outcomes = ["refused_by_policy"] * refused + ["applied"] * (databases - refused)
    state = STATES["EveryDatabaseAccepts"]
    applied = [{"outcome": o} for o in outcomes]
    variables = {"states": {"input": {"databases": applied}}, "applied": applied, "refused": already_refused}
    conditions = [(evaluate(c["Condition"], variables), c["Next"]) for c in state["Choices"]]
    leads_to = next((goal for passed, goal in conditions if passed), state["Default"])
    assert leads_to == ("UpdateSecrets" if not refused else "AuditFailure" if already_refused else "Generate")


@pytest.mark.parametrize("cause", [None, "a cause"])
def test_the_execution_fails_with_the_name_of_the_error(cause: str | None) -> None:
    failure = {"Error": "StoreUnreachableError", **({"Cause": cause} if cause else {})}
    end = evaluate(STATES["RotationFailed"], {"failure": failure})
    assert end["Error"] == "StoreUnreachableError"
    assert end["Cause"] == (cause or "no cause was given")


# Payloads

SECRET_LOOKING = re.compile(r"passw|secret|pwd|token|verifier|private|credential(?!_id)", re.IGNORECASE)


def test_no_field_has_a_name_for_a_secret() -> None:
    keys = {key for path, _ in walk(MACHINE) for key in path}
    looking = {key for key in keys if SECRET_LOOKING.search(key)}
    assert looking <= {"UpdateSecrets", "Cause"}
    for name, request in REQUESTS.items():
        fields = set(_names(request))
        assert {"rotation", "claim", "fence", "generation"} & fields
        assert {f for f in fields if SECRET_LOOKING.search(f)} == set(), name


def _names(hint: Any) -> Iterator[str]:  # noqa: ANN401 - an annotation
    """The names of the fields below an annotation."""
    if isinstance(hint, type) and issubclass(hint, Message):
        for name, part in get_type_hints(hint, include_extras=True).items():
            yield name
            yield from _names(part)
    for argument in get_args(hint):
        yield from _names(argument)


RECORD = {
    "fence": {"N": "7"},
    "valid": {"NS": ["6"]},
    "paused": {"BOOL": False},
    "head_aws": {"M": {"seq": {"N": "9"}}},
}


class Run:
    """The variables of an execution, assigned by the steps, on a world in memory."""

    def __init__(self, *, databases: int = 2) -> None:
        self.world = MemoryWorld.create(make_plan(databases=databases))
        rotate(self.world, "first")
        self.world.clock.sleep(1200)
        self.variables: JsonObject = {}
        self.prepared: JsonObject = {}
        self.next = ""

    def acquire(self) -> None:
        self._assign("AcquireLock", input=self.input(), result={"Attributes": RECORD})

    def input(self) -> JsonObject:
        return {"credential_id": "multi-cloud/app_user"}

    def context(self) -> JsonObject:
        time = "2026-01-01T00:20:00.123Z"
        execution = {"Name": "second", "StartTime": time}
        return {"Execution": execution, "State": {"EnteredTime": time}}

    def step(self, state: str, function: str, result: object, *, state_input: object = None) -> object:
        """Evaluate and validate the payload of a step; assign its result."""
        task = STATES[state]
        payload = self.evaluate(task["Arguments"]["Payload"], input=state_input)
        assert task["Arguments"]["FunctionName"] == function
        request: object = read(REQUESTS[function], payload)
        self._assign(state, result={"Payload": result})
        assert self.evaluate(task["Output"], result={"Payload": result}) == result
        return request

    def generate(self, result: Staged | ProbeNeeded) -> object:
        """Evaluate and validate the payload of Generate; assign its result."""
        self.prepared = write(result)
        request = self.step("Generate", "${GenerateFunction}", self.prepared)
        self.next = STATES["Generate"]["Next"]
        return request

    def apply(self, *outcomes: DatabaseOutcome) -> object:
        """Evaluate and validate the payload of ApplyDb; assign its result and pass EveryDatabaseAccepts."""
        databases = [
            DatabaseResult(database=f"db-{n}", outcome=outcome, revoked=REVOKED)
            for n, outcome in enumerate(outcomes, start=1)
        ]
        return self.on_databases({"databases": [write(d) for d in databases]})

    def on_databases(self, output: JsonObject) -> object:
        request = self.step("ApplyDb", "${ApplyDbFunction}", output, state_input=self.prepared)
        self.choose("EveryDatabaseAccepts", output)
        return request

    def choose(self, state: str, state_input: object) -> None:
        choice = STATES[state]
        passed = (c for c in choice["Choices"] if self.evaluate(c["Condition"], input=state_input) is True)
        taken = next(passed, choice)
        self.variables |= self.evaluate(taken.get("Assign", {}), input=state_input)
        self.next = taken.get("Next", choice["Default"])

    def evaluate(self, template: object, **states: object) -> Any:  # noqa: ANN401 - any JSON
        return evaluate(template, {"states": {"context": self.context(), **states}, **self.variables})

    def _assign(self, state: str, **states: object) -> None:
        self.variables |= self.evaluate(STATES[state].get("Assign", {}), **states)


CLAIM = Claim(kind=ClaimKind.NEW, generation=7, base_generation=1, rotation_id="second")
HINT = Hint(valid=(1,), take_over=("db-1",))
REVOKED = (RevocationCheck(generation=0, revocation=RevocationResult.UNREADABLE),)
APPLIED, REFUSED = DatabaseOutcome.APPLIED, DatabaseOutcome.REFUSED_BY_POLICY


def _rotation(run: Run) -> Rotation:
    return read(Rotation, run.variables["rotation"])


def _staged(run: Run) -> Staged:
    plan = run.world.credential.plan_digest
    return Staged(rotation=structs.replace(_rotation(run), plan=plan), claim=CLAIM, hint=HINT)


def _json(message: Any) -> Any:  # noqa: ANN401 - a message and any JSON
    return write(message)


def _recorded(*, valid: tuple[int, ...] = (7,), proven: tuple[str, ...] = ("db-1",)) -> RecordedRotation:
    return RecordedRotation(
        stream="aws",
        seq=9,
        hash="f" * 64,
        release=ReleaseValues(
            current_generation=7,
            valid=valid,
            proven=proven,
            next_due_at=int(DUE.timestamp()),
            not_before=int(ALLOWED.timestamp()),
        ),
    )


NOW = EPOCH + timedelta(minutes=20)
DUE, ALLOWED = EPOCH + timedelta(minutes=39), EPOCH + timedelta(minutes=38)


@pytest.mark.parametrize("revoke", [False, True])
@pytest.mark.parametrize("databases", [1, 2])
def test_each_step_is_sent_a_valid_request(databases: int, revoke: bool) -> None:  # noqa: FBT001 - a table
    run = Run(databases=databases)
    names = tuple(f"db-{n}" for n in range(1, databases + 1))
    run.acquire()
    began = Rotation(
        credential_id="multi-cloud/app_user",
        rotation_id="second",
        runner="aws",
        trigger="manual",
        started_at=datetime(2026, 1, 1, 0, 20, 0, 123000, tzinfo=UTC),
        fence=7,
    )
    assert run.generate(_staged(run)) == GenerateRequest(rotation=began, record=RECORD)
    # Every later step gets the plan that Generate named (protocol O10).
    rotation = structs.replace(began, plan=run.world.credential.plan_digest)
    assert (run.next, run.variables["claim"]) == ("ApplyDb", _json(CLAIM))

    assert run.apply(*[APPLIED] * databases) == ApplyRequest(rotation=rotation, claim=CLAIM, hint=HINT)
    assert run.next == "UpdateSecrets"
    stores = [{"store": "aws", "version": "v7"}]
    updated = {"stores": stores, "promoted_at": "2026-01-01T00:20:05.500000Z", "revoke": revoke}
    assert run.step("UpdateSecrets", "${UpdateSecretsFunction}", updated) == UpdateRequest(
        rotation=rotation, claim=CLAIM, proven=names
    )
    run.choose("RevokeOrdered", updated)
    assert run.next == ("RevokeDb" if revoke else "Audit")
    if revoke:
        revoked = {"databases": [{"database": n, "revoked": [_json(d) for d in REVOKED]} for n in names]}
        request = run.step("RevokeDb", "${ApplyDbFunction}", revoked)
        assert request == RevokeRequest(rotation=rotation, claim=CLAIM)
    audited = run.step("Audit", "${AuditFunction}", _json(_recorded()))
    assert isinstance(audited, RotatedRun)
    assert (audited.rotation, audited.claim, audited.adopted_from) == (rotation, CLAIM, None)
    assert [(d.database, d.revoked) for d in audited.databases] == [(name, REVOKED) for name in names]
    assert [s.version for s in audited.stores] == ["v7"]
    assert [(r.database, r.revoked) for r in audited.revoked] == [(name, REVOKED) for name in names if revoke]
    assert audited.promoted_at == datetime(2026, 1, 1, 0, 20, 5, 500000, tzinfo=UTC)


@pytest.mark.parametrize("databases", [1, 2])
@pytest.mark.parametrize("stores", [1, 2], ids=["one candidate", "two candidates"])
def test_a_reconcile_asks_for_a_probe_and_is_told_the_winner(stores: int, databases: int) -> None:
    run = Run(databases=databases)
    run.acquire()
    world = run.world
    edit(world.stores["aws"], another_login(world))
    if stores == 1:
        edit(world.stores["oci"], another_login(world))
        world.lock.record = replace(world.lock.record, current_generation=None, valid=frozenset())
    asked = generate.run(GenerateRequest(rotation=held(world, "second")), world.ports())
    assert isinstance(asked, ProbeNeeded)
    assert len(asked.candidates) == stores
    run.generate(asked)
    assert (run.next, run.variables["claim"]) == ("ApplyDb", None)
    winner = asked.candidates[-1]
    request = run.on_databases({"winner": _json(winner)})
    assert (run.next, run.variables["applied"]) == ("Generate", [])
    assert request == ProbeRequest(
        rotation=asked.rotation,
        databases=tuple(world.databases),
        candidates=asked.candidates,
    )
    again = run.generate(_staged(run))
    assert again == GenerateRequest(rotation=asked.rotation, winner=winner)


def test_a_probe_after_a_refusal_keeps_the_claim_and_what_the_databases_said() -> None:
    """They are in the entry of the run, should it fail before it has another claim."""
    run = Run()
    run.acquire()
    run.generate(_staged(run))
    run.apply(APPLIED, REFUSED)
    candidate = CandidateRef(store="aws", version="v1")
    run.generate(ProbeNeeded(rotation=_rotation(run), databases=("db-1",), candidates=(candidate,)))
    run.on_databases({"winner": _json(candidate)})
    assert (run.next, run.variables["refused"]) == ("Generate", CLAIM.generation)
    failed = run.evaluate(STATES["AuditFailure"]["Arguments"]["Payload"] | {"error": "StoreUnreachableError"})
    request = read(FailedRun, failed)
    assert (request.claim, [d.outcome for d in request.databases]) == (CLAIM, [APPLIED, REFUSED])


def test_a_refusal_leads_to_generate_with_the_refused_generation() -> None:
    """M5: the second refusal in a run ends it."""
    run = Run()
    run.acquire()
    run.variables["winner"] = _json(CandidateRef(store="aws", version="v1"))
    run.generate(_staged(run))
    run.apply(APPLIED, REFUSED)
    assert run.next == "Generate"
    again = run.generate(_staged(run))
    assert isinstance(again, GenerateRequest)
    assert (again.refused, again.winner) == (CLAIM.generation, None)
    run.apply(APPLIED, REFUSED)
    assert run.next == "AuditFailure"
    failed = run.step("AuditFailure", "${AuditFunction}", None)
    assert isinstance(failed, FailedRun)
    assert (failed.error, failed.claim) == ("PasswordRefusedByPolicyError", CLAIM)
    assert [d.outcome for d in failed.databases] == [APPLIED, REFUSED]


@pytest.mark.parametrize(
    "error", ["States.Timeout", "StoreUnreachableError", "Lambda.Unknown", "Runtime.ExitError"]
)
def test_a_failure_is_recorded_by_name_even_right_after_acquiring(error: str) -> None:
    run = Run()
    run.acquire()
    caught = STATES["Generate"]["Catch"][0]
    run.variables |= run.evaluate(caught["Assign"], errorOutput={"Error": error, "Cause": "hunter2"})
    task = STATES["AuditFailure"]
    payload = run.evaluate(task["Arguments"]["Payload"])
    assert "hunter2" not in json.dumps(payload)
    request = read(FailedRun, payload)
    assert (request.error, request.claim, request.databases) == (error, None, ())


def test_the_output_of_an_execution_names_the_current_generation() -> None:
    run = Run()
    run.acquire()
    stores, promoted_at = [{"store": "aws", "version": "v7"}], "2026-11-27T12:00:00Z"
    run.variables |= {"claim": _json(CLAIM), "audit": _json(_recorded()), "stores": stores}
    run.variables |= {"promoted_at": promoted_at, "revoke": False}
    output = run.evaluate(STATES["ReleaseLock"]["Output"])
    assert output == {
        "outcome": "rotated",
        "generation": 7,
        "kind": "new",
        "adopted": False,
        "audit": {"stream": "aws", "seq": 9},
        "base_generation": CLAIM.base_generation,
        "stores": ["aws"],  # One is an array, too.
        "promoted_at": promoted_at,
        "not_before": _recorded().release.not_before,
        "revoked": False,
    }
    read(Rotated, output)  # What `announce` reads.


# The lock table: the state machine and the library make the same calls


class _Recorder:
    """A DynamoDB client that records the arguments of its call."""

    class exceptions:  # noqa: N801 - botocore's name
        ConditionalCheckFailedException = KeyError

    def __init__(self) -> None:
        self.asked: JsonObject = {}

    def update_item(self, **asked: Any) -> JsonObject:  # noqa: ANN401 - as botocore's
        self.asked = asked
        return {"Attributes": {"fence": {"N": "7"}}}


def _asked(call: Callable[[DynamoDbLock], object]) -> JsonObject:
    recorder: Any = _Recorder()
    call(DynamoDbLock(recorder, "${LockTable}", "multi-cloud/app_user"))
    asked: JsonObject = recorder.asked
    return asked


@pytest.mark.parametrize("force", [False, True])
def test_acquiring_makes_the_same_call(force: bool) -> None:  # noqa: FBT001 - a table
    run = Run()
    assert run.evaluate(STATES["AcquireLock"]["Arguments"], input={**run.input(), "force": force}) == _asked(
        lambda lock: lock.acquire(holder="second", now=NOW, expires_at=NOW + LEASE, force=force, leads=True)
    )


def test_noting_a_skip_makes_the_same_call() -> None:
    run = Run()
    asked = run.evaluate(STATES["NoteSkip"]["Arguments"], input=run.input())
    assert asked == _asked(lambda lock: lock.note_skip(NOW))


@pytest.mark.parametrize("proven", [("db-1",), ("db-1", "db-2")])
@pytest.mark.parametrize("valid", [(7,), (1, 7)])
def test_releasing_makes_the_same_call(valid: tuple[int, ...], proven: tuple[str, ...]) -> None:
    run = Run()
    run.acquire()
    run.variables["audit"] = _json(_recorded(valid=valid, proven=proven))
    done = Release(
        current_generation=7,
        valid=frozenset(valid),
        proven=proven,
        next_due_at=DUE,
        not_before=ALLOWED,
        led_at=NOW,
    )
    lease = Lease(credential_id="multi-cloud/app_user", holder="second", fence=7)
    asked_done = _asked(lambda lock: lock.release(lease, done))
    asked_failed = _asked(lambda lock: lock.release(lease, None))
    assert run.evaluate(STATES["ReleaseLock"]["Arguments"]) == asked_done
    assert run.evaluate(STATES["ReleaseLockAfterFailure"]["Arguments"]) == asked_failed
