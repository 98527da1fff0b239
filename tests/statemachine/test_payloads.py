"""The definition's expressions: choices, payloads, and calls of the lock table."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from msgspec.structs import replace

from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.protocol import messages
from lockstep.protocol.deadlines import LEASE
from lockstep.protocol.model import Claim, ClaimKind, Lease, Release, StoreVersions
from lockstep.protocol.strict_json import Message, MessageError, read, write
from tests.statemachine.definition import STATES, JsonObject, evaluate
from tests.support.event_examples import PROMOTED
from tests.support.memory import EPOCH

# Choices


GOOD = {"credential_id": "multi-cloud/app_user"}
GOODS: tuple[JsonObject, ...] = (
    GOOD,
    {**GOOD, "force": True, "trigger": "by-hand"},
    {"credential_id": "AZaz09/_+=.@:-"},
    {"credential_id": "x" * 200},
)
NO_ID: tuple[object, ...] = (5, None, {}, [], ["a"], True, "", "it's", "a b", "a\n", "\u00e9", "x" * 201)
"""Texts and other values that no message of a step accepts as an id."""
NO_FLAG: tuple[object, ...] = ("true", 1, 0, None, {}, [])
BAD: tuple[object, ...] = (
    *({}, [], [GOOD], "multi-cloud/app_user", None),
    *({"credential_id": bad} for bad in NO_ID),
    *({**GOOD, "trigger": bad} for bad in NO_ID),
    *({**GOOD, "force": bad} for bad in NO_FLAG),
    *({**GOOD, "revoke_previous": True}, {"doctor": "look"}, {**GOOD, "doctor": "look"}),
)


def test_an_input_reaches_the_lock_if_every_step_would_accept_it() -> None:
    for good in GOODS:
        read(messages.RunInput, good)
        assert _leads_to(good) == "AcquireLock", good
    for bad in BAD:
        with pytest.raises(MessageError):
            read(messages.RunInput, bad)
        assert _leads_to(bad) == "InvalidInput", bad
    for name in ("it's", "a!b", "x+(1)", "\u00e9"):
        with pytest.raises(MessageError):
            read(messages.Id, name)
        assert _leads_to(GOOD, name=name) == "InvalidInput", name


def _leads_to(given: object, *, name: str = "run-1") -> str:
    state = STATES["CheckInput"]
    [choice] = state["Choices"]
    states = {"input": given, "context": {"Execution": {"Name": name}}}
    passed = evaluate(choice["Condition"], {"states": states})
    assert isinstance(passed, bool)
    return str(choice["Next"] if passed else state["Default"])


@pytest.mark.parametrize("given", [{}, {"Cause": "a cause"}], ids=repr)
def test_the_execution_fails_with_the_name_of_the_error(given: JsonObject) -> None:
    end = evaluate(STATES["RotationFailed"], {"failure": {"Error": "StoreUnreachableError", **given}})
    assert (end["Error"], end["Cause"]) == ("StoreUnreachableError", given.get("Cause", "no cause was given"))


# Payloads


RECORD = {
    "fence": {"N": "7"},
    "valid": {"NS": ["6"]},
    "paused": {"BOOL": False},
    "head_aws": {"M": {"seq": {"N": "9"}}},
}


REQUESTS: dict[str, Any] = {
    "Generate": messages.GenerateRequest,
    "ApplyDb": messages.DatabaseRequest,
    "UpdateSecrets": messages.UpdateRequest,
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
    def rotation(self) -> messages.Rotation:
        return read(messages.Rotation, self.variables["rotation"])

    def ends(self, name: str, answer: Message) -> None:
        """A step answers."""
        result = {"Payload": write(answer)}
        self.variables |= self.evaluate(STATES[name]["Assign"], input={}, result=result)

    def asks(self, name: str, before: Message | None = None) -> object:
        """What a step is asked, after the answer of the step before it."""
        arguments = self.evaluate(STATES[name]["Arguments"], input=write(before) if before else {})
        return read(REQUESTS[name], arguments["Payload"])


NOW = EPOCH + timedelta(minutes=20)
DUE, ALLOWED = EPOCH + timedelta(minutes=39), EPOCH + timedelta(minutes=38)


# What one step answers is what the next one is asked: whatever is empty, null, or has one element, arrives as it was.

AWS = messages.CandidateRef(store="aws", version="7")
OCI = messages.CandidateRef(store="oci", version="ocid1.7")
CLAIM = Claim(kind=ClaimKind.RECONCILE, generation=8, base_generation=7, rotation_id="second")
SEEN = StoreVersions(store="aws", app_user="7", connection_blob="7")
BESIDE = (messages.Beside(database="db-1", login=AWS), messages.Beside(database="db-2", login=None))
CANDIDATES = (
    messages.Candidate(ref=OCI, generations=(0,)),
    messages.Candidate(ref=AWS, generations=(7, 6), stores=("aws",)),
)


@pytest.mark.parametrize("names", [(), ("db-1",), ("db-1", "db-2")], ids=len)
@pytest.mark.parametrize("candidates", [CANDIDATES[:1], CANDIDATES], ids=len)
def test_a_search_is_asked_for_as_generate_wants_it(
    names: tuple[str, ...], candidates: tuple[messages.Candidate, ...]
) -> None:
    run = Run()
    needed = messages.ProbeRequest(rotation=run.rotation, candidates=candidates, refused=names)
    run.ends("Generate", needed)
    assert run.asks("ApplyDb", needed) == needed
    assert (run.variables["prepared"], run.variables["claim"]) == (1, None)


@pytest.mark.parametrize(
    ("beside", "seen", "promoting", "adopted_from"),
    [
        (BESIDE[:0], (), False, None),
        (BESIDE[:1], (SEEN,), True, "first"),
        (BESIDE[1:], (SEEN,), False, None),
        (BESIDE, (), True, "first"),
    ],
)
def test_what_is_staged_is_applied_and_promoted_as_generate_says(
    beside: tuple[messages.Beside, ...],
    seen: tuple[StoreVersions, ...],
    adopted_from: str | None,
    *,
    promoting: bool,
) -> None:
    run, names = Run(), ("db-1", "db-2")
    more: dict[str, Any] = {"seen": seen, "promoting": promoting, "beside": beside}
    staged = messages.Staged(rotation=run.rotation, claim=CLAIM, adopted_from=adopted_from, **more)
    run.ends("Generate", staged)
    assert run.asks("ApplyDb", staged) == staged
    applied = messages.DatabaseOutcome.APPLIED
    answer = messages.ApplyResult(
        databases=tuple(messages.DatabaseResult(database=name, outcome=applied) for name in names)
    )
    run.ends("ApplyDb", answer)
    assert run.asks("UpdateSecrets", answer) == messages.UpdateRequest(
        rotation=run.rotation, claim=CLAIM, proven=names, seen=seen
    )
    assert run.variables["adopted_from"] == adopted_from


@pytest.mark.parametrize(
    ("beside", "accepted", "refused"),
    [
        (BESIDE[:0], (), ()),
        (BESIDE[:1], (6,), ("db-1",)),
        (BESIDE[1:], (6, 7), ("db-1", "db-2")),
        (BESIDE, (6,), ()),
        (BESIDE, (), ("db-1",)),
    ],
)
def test_what_was_found_is_prepared_beside_what_was_refused(
    beside: tuple[messages.Beside, ...], accepted: tuple[int, ...], refused: tuple[str, ...]
) -> None:
    run = Run()
    again = messages.GenerateRequest(rotation=run.rotation, refused=refused)
    assert run.asks("Generate") == replace(again, refused=())
    if refused:
        run.ends("ApplyDb", messages.BaseRefused(refused=refused))
        assert run.asks("Generate") == again
    found = messages.ProbeResult(winner=AWS, beside=beside, accepted=accepted)
    run.ends("ApplyDb", found)
    assert run.asks("Generate", found) == replace(again, found=found)
    # Where base is refused after that, what was found is forgotten.
    run.ends("ApplyDb", messages.BaseRefused(refused=("db-2",)))
    assert run.asks("Generate") == replace(again, refused=("db-2",))


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
    request = read(messages.FailedRun, payload)
    assert (request.error, request.claim, request.databases) == (error, None, ())


# The lock table: the state machine and the library make the same calls


def _asked(call: Callable[[DynamoDbLock], object]) -> Any:  # noqa: ANN401 - any JSON
    """The arguments of the call that the library makes."""
    client = Mock()
    client.exceptions.ConditionalCheckFailedException = KeyError
    client.update_item.return_value = {"Attributes": {"fence": {"N": "7"}}}
    call(DynamoDbLock(client, "${LockTable}", "multi-cloud/app_user"))
    return client.update_item.call_args.kwargs


@pytest.mark.parametrize("force", [False, True])
def test_acquiring_makes_the_same_call(*, force: bool) -> None:
    assert Run().evaluate(STATES["AcquireLock"]["Arguments"], input={**GOOD, "force": force}) == _asked(
        lambda lock: lock.acquire(holder="second", now=NOW, expires_at=NOW + LEASE, force=force)
    )


@pytest.mark.parametrize("proven", [("db-1",), ("db-1", "db-2")])
@pytest.mark.parametrize("valid", [(7,), (1, 7)])
def test_releasing_makes_the_same_call(valid: tuple[int, ...], proven: tuple[str, ...]) -> None:
    run = Run()
    done = Release(
        current_generation=7,
        valid=frozenset(valid),
        proven=proven,
        next_due_at=DUE,
        not_before=ALLOWED,
        rotated_at=EPOCH,
    )
    place: dict[str, Any] = {"stream": "aws", "seq": 9, "hash": "f" * 64}
    run.variables["audit"] = write(messages.RecordedRotation(**place, release=done, promoted=PROMOTED))
    lease = Lease(credential_id="multi-cloud/app_user", holder="second", fence=7)
    entry = messages.Recorded(**place)
    for names, call in (
        (["ReleaseLock"], lambda lock: lock.release(lease, done, entry=entry)),
        (["ReleaseLockAfterFailure"], lambda lock: lock.release(lease, None, entry=entry)),
        (["ReleaseLockUnrecorded", "ReleaseLockUnchanged"], lambda lock: lock.release(lease, None)),
    ):
        asked = _asked(call)
        assert [run.evaluate(STATES[name]["Arguments"]) for name in names] == [asked] * len(names), names
