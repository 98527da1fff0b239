"""The definition's expressions: choices, payloads, and calls of the lock table."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, get_args, get_type_hints

import pytest

from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.protocol import messages
from lockstep.protocol.deadlines import LEASE, PREPARED_AT_MOST
from lockstep.protocol.messages import (
    ApplyResult,
    BaseRefused,
    Beside,
    Candidate,
    CandidateRef,
    DatabaseOutcome,
    DatabaseRequest,
    DatabaseResult,
    FailedRun,
    GenerateRequest,
    Id,
    ProbeRequest,
    ProbeResult,
    Recorded,
    RecordedRotation,
    Rotation,
    RunInput,
    Staged,
    UpdateRequest,
)
from lockstep.protocol.model import Claim, ClaimKind, Lease, Release, StoreVersions
from lockstep.protocol.strict_json import Message, MessageError, read, write
from tests.statemachine.definition import MACHINE, STATES, JsonObject, evaluate, walk
from tests.support.event_examples import PROMOTED
from tests.support.memory import EPOCH

REQUESTS: Mapping[str, Any] = {
    "${GenerateFunction}": GenerateRequest,
    "${ApplyDbFunction}": DatabaseRequest,
    "${UpdateSecretsFunction}": UpdateRequest,
    "${AuditFunction}": messages.Run,
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


@pytest.mark.parametrize(
    ("action", "leads_to"),
    [("nothing", "ReleaseLockUnchanged"), ("probe", "ApplyDb"), ("apply", "ApplyDb")],
)
def test_where_nothing_is_to_be_done_the_lock_is_given_back(action: str, leads_to: str) -> None:
    assert _choice("IsAnythingToDo", {"states": {"input": {"action": action}}})[0] == leads_to


APPLIED: JsonObject = {"databases": [{"database": "db-1", "outcome": "applied"}]}
FOUND: JsonObject = {"winner": {"store": "aws", "version": "7"}, "beside": [], "accepted": []}
REFUSED: JsonObject = {"refused": ["db-1"]}


@pytest.mark.parametrize("prepared", range(1, PREPARED_AT_MOST + 2))
@pytest.mark.parametrize("answer", [APPLIED, FOUND, REFUSED])
def test_what_is_found_or_refused_is_prepared_a_bounded_number_of_times(
    answer: JsonObject, prepared: int
) -> None:
    leads_to, assigned = _choice("EveryDatabaseAccepts", {"states": {"input": answer}, "prepared": prepared})
    if answer is APPLIED:
        assert (leads_to, assigned) == ("UpdateSecrets", {})
    elif prepared < PREPARED_AT_MOST:
        assert (leads_to, assigned) == ("Generate", {})
    else:
        assert leads_to == "AuditFailure"
        assert assigned["failure"]["Error"] == "StoresDivergedError"


def _choice(name: str, variables: JsonObject) -> tuple[str, JsonObject]:
    """Where a Choice leads, and what it assigns."""
    state = STATES[name]
    for choice in state["Choices"]:
        if evaluate(choice["Condition"], variables):
            return choice["Next"], choice.get("Assign", {})
    return state["Default"], {}


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
    """The variables of an execution that has acquired the lock."""

    def __init__(self) -> None:
        self.variables: JsonObject = {}
        assigned, result = STATES["AcquireLock"].get("Assign", {}), {"Attributes": RECORD}
        self.variables = self.evaluate(assigned, input=GOOD, result=result)

    def evaluate(self, template: object, **states: object) -> Any:  # noqa: ANN401 - any JSON
        time = "2026-01-01T00:20:00.123Z"
        context = {"Execution": {"Name": "second", "StartTime": time}, "State": {"EnteredTime": time}}
        return evaluate(template, {"states": {"context": context, **states}, **self.variables})

    @property
    def rotation(self) -> Rotation:
        return read(Rotation, self.variables["rotation"])

    def ends(self, name: str, answer: Message) -> None:
        """A step answers."""
        result = {"Payload": write(answer)}
        self.variables |= self.evaluate(STATES[name]["Assign"], input={}, result=result)

    def asks(self, name: str, before: Message | None, request: Any) -> Any:  # noqa: ANN401 - a type of messages
        """What a step is asked, after the answer of the step before it."""
        arguments = self.evaluate(STATES[name]["Arguments"], input=write(before) if before else {})
        return read(request, arguments["Payload"])


def _recorded(*, valid: tuple[int, ...] = (7,), proven: tuple[str, ...] = ("db-1",)) -> RecordedRotation:
    return RecordedRotation(
        stream="aws",
        seq=9,
        hash="f" * 64,
        release=Release(
            current_generation=7,
            valid=frozenset(valid),
            proven=proven,
            next_due_at=DUE,
            not_before=ALLOWED,
            rotated_at=EPOCH,
        ),
        promoted=PROMOTED,
    )


NOW = EPOCH + timedelta(minutes=20)
DUE, ALLOWED = EPOCH + timedelta(minutes=39), EPOCH + timedelta(minutes=38)


# What one step answers is what the next one is asked: whatever is empty, null, or has one element, arrives as it was.

AWS, OCI = CandidateRef(store="aws", version="7"), CandidateRef(store="oci", version="ocid1.7")
CLAIM = Claim(kind=ClaimKind.RECONCILE, generation=8, base_generation=7, rotation_id="second")
SEEN = StoreVersions(store="aws", app_user="7", connection_blob="7")
BESIDE = (Beside(database="db-1", login=AWS), Beside(database="db-2", login=None))
CANDIDATES = (Candidate(ref=OCI, generations=(0,)), Candidate(ref=AWS, generations=(7, 6), stores=("aws",)))


@pytest.mark.parametrize("names", [(), ("db-1",), ("db-1", "db-2")], ids=len)
@pytest.mark.parametrize("candidates", [CANDIDATES[:1], CANDIDATES], ids=len)
def test_a_search_is_asked_for_as_generate_wants_it(
    names: tuple[str, ...], candidates: tuple[Candidate, ...]
) -> None:
    run = Run()
    needed = ProbeRequest(rotation=run.rotation, candidates=candidates, refused=names)
    run.ends("Generate", needed)
    assert run.asks("ApplyDb", needed, DatabaseRequest) == needed
    assert (run.variables["prepared"], run.variables["claim"]) == (1, None)


@pytest.mark.parametrize("beside", [BESIDE[:0], BESIDE[:1], BESIDE[1:], BESIDE], ids=repr)
@pytest.mark.parametrize("seen", [(), (SEEN,)], ids=len)
@pytest.mark.parametrize("promoting", [False, True])
@pytest.mark.parametrize("adopted_from", [None, "first"])
def test_what_is_staged_is_applied_and_promoted_as_generate_says(
    beside: tuple[Beside, ...],
    seen: tuple[StoreVersions, ...],
    promoting: bool,  # noqa: FBT001 - a table
    adopted_from: str | None,
) -> None:
    run = Run()
    staged = Staged(
        rotation=run.rotation,
        claim=CLAIM,
        adopted_from=adopted_from,
        seen=seen,
        promoting=promoting,
        beside=beside,
    )
    run.ends("Generate", staged)
    assert run.asks("ApplyDb", staged, DatabaseRequest) == staged
    applied = ApplyResult(
        databases=tuple(
            DatabaseResult(database=name, outcome=DatabaseOutcome.APPLIED) for name in ("db-1", "db-2")
        )
    )
    run.ends("ApplyDb", applied)
    assert run.asks("UpdateSecrets", applied, UpdateRequest) == UpdateRequest(
        rotation=run.rotation, claim=CLAIM, proven=("db-1", "db-2"), seen=seen
    )
    assert run.variables["adopted_from"] == adopted_from


@pytest.mark.parametrize("beside", [BESIDE[:0], BESIDE[:1], BESIDE[1:], BESIDE], ids=repr)
@pytest.mark.parametrize("accepted", [(), (6,), (6, 7)], ids=len)
@pytest.mark.parametrize("refused", [(), ("db-1",), ("db-1", "db-2")], ids=len)
def test_what_was_found_is_prepared_beside_what_was_refused(
    refused: tuple[str, ...], accepted: tuple[int, ...], beside: tuple[Beside, ...]
) -> None:
    run = Run()
    assert run.asks("Generate", None, GenerateRequest) == GenerateRequest(rotation=run.rotation)
    if refused:
        run.ends("ApplyDb", BaseRefused(refused=refused))
        assert run.asks("Generate", None, GenerateRequest) == GenerateRequest(
            rotation=run.rotation, refused=refused
        )
    found = ProbeResult(winner=AWS, beside=beside, accepted=accepted)
    run.ends("ApplyDb", found)
    assert run.asks("Generate", found, GenerateRequest) == GenerateRequest(
        rotation=run.rotation, found=found, refused=refused
    )


@pytest.mark.parametrize("refused", [("db-1",), ("db-1", "db-2")], ids=len)
def test_what_was_found_is_forgotten_where_base_is_refused_after_it(refused: tuple[str, ...]) -> None:
    run = Run()
    run.ends("ApplyDb", ProbeResult(winner=AWS, beside=BESIDE, accepted=(6,)))
    run.ends("ApplyDb", BaseRefused(refused=refused))
    assert run.asks("Generate", None, GenerateRequest) == GenerateRequest(
        rotation=run.rotation, refused=refused
    )


@pytest.mark.parametrize(
    "error", ["States.Timeout", "StoreUnreachableError", "Lambda.Unknown", "Runtime.ExitError"]
)
def test_a_failure_is_recorded_by_name_even_right_after_acquiring(error: str) -> None:
    run = Run()
    caught = STATES["Generate"]["Catch"][0]
    run.variables |= run.evaluate(caught["Assign"], errorOutput={"Error": error, "Cause": "hunter2"})
    task = STATES["AuditFailure"]
    payload = run.evaluate(task["Arguments"]["Payload"])
    assert "hunter2" not in json.dumps(payload)
    request = read(FailedRun, payload)
    assert (request.error, request.claim, request.databases) == (error, None, ())


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
    assert run.evaluate(STATES["AcquireLock"]["Arguments"], input={**GOOD, "force": force}) == _asked(
        lambda lock: lock.acquire(holder="second", now=NOW, expires_at=NOW + LEASE, force=force)
    )


@pytest.mark.parametrize("proven", [("db-1",), ("db-1", "db-2")])
@pytest.mark.parametrize("valid", [(7,), (1, 7)])
def test_releasing_makes_the_same_call(valid: tuple[int, ...], proven: tuple[str, ...]) -> None:
    run = Run()
    run.variables["audit"] = write(_recorded(valid=valid, proven=proven))
    done = Release(
        current_generation=7,
        valid=frozenset(valid),
        proven=proven,
        next_due_at=DUE,
        not_before=ALLOWED,
        rotated_at=EPOCH,
    )
    lease = Lease(credential_id="multi-cloud/app_user", holder="second", fence=7)
    entry = Recorded(stream="aws", seq=9, hash="f" * 64)
    asked_done = _asked(lambda lock: lock.release(lease, done, entry=entry))
    asked_failed = _asked(lambda lock: lock.release(lease, None, entry=entry))
    asked_unchanged = _asked(lambda lock: lock.release(lease, None))
    assert run.evaluate(STATES["ReleaseLock"]["Arguments"]) == asked_done
    assert run.evaluate(STATES["ReleaseLockAfterFailure"]["Arguments"]) == asked_failed
    for given_back in ("ReleaseLockUnrecorded", "ReleaseLockUnchanged"):
        assert run.evaluate(STATES[given_back]["Arguments"]) == asked_unchanged
