"""The definition's expressions: choices, payloads, and calls of the lock table."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, get_args, get_type_hints

import pytest

from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.protocol.deadlines import LEASE
from lockstep.protocol.messages import (
    AuditRequest,
    DatabaseRequest,
    FailedRun,
    GenerateRequest,
    Id,
    RecordedRotation,
    ReleaseValues,
    RunInput,
    UpdateRequest,
)
from lockstep.protocol.model import Lease, Release
from lockstep.protocol.strict_json import Message, MessageError, read, write
from tests.statemachine.definition import MACHINE, STATES, JsonObject, evaluate, walk
from tests.support.memory import EPOCH

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
    """The variables of an execution that has acquired the lock."""

    def __init__(self) -> None:
        self.variables: JsonObject = {}
        assigned, result = STATES["AcquireLock"].get("Assign", {}), {"Attributes": RECORD}
        self.variables = self.evaluate(assigned, input=GOOD, result=result)

    def evaluate(self, template: object, **states: object) -> Any:  # noqa: ANN401 - any JSON
        time = "2026-01-01T00:20:00.123Z"
        context = {"Execution": {"Name": "second", "StartTime": time}, "State": {"EnteredTime": time}}
        return evaluate(template, {"states": {"context": context, **states}, **self.variables})


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
    )
    lease = Lease(credential_id="multi-cloud/app_user", holder="second", fence=7)
    asked_done = _asked(lambda lock: lock.release(lease, done))
    asked_failed = _asked(lambda lock: lock.release(lease, None))
    assert run.evaluate(STATES["ReleaseLock"]["Arguments"]) == asked_done
    assert run.evaluate(STATES["ReleaseLockAfterFailure"]["Arguments"]) == asked_failed
