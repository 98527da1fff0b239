"""The definitions, checked without running them, and their expressions, evaluated as in Step Functions."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import pytest
from jsonata import Jsonata  # type: ignore[import-untyped]  # the package carries no types
from msgspec.structs import replace

from cdk import fleetmachine, statemachine
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.protocol import deadlines, errors, messages
from lockstep.protocol.deadlines import LEASE
from lockstep.protocol.errors import LockstepError
from lockstep.protocol.model import Claim, ClaimKind, Lease, Release, StoreVersions
from lockstep.protocol.strict_json import Message, MessageError, read, write
from sandbox.emulators.aws.definition import problems
from tests.support.event_examples import PROMOTED
from tests.support.memory import EPOCH, make_plan

JsonObject = dict[str, Any]

STATES: JsonObject = json.loads(statemachine.PATH.read_text(encoding="utf-8"))["States"]
TASKS = {name: state for name, state in STATES.items() if state["Type"] == "Task"}

# https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html and the pages of its integrations.
AWS_ERRORS = re.compile(r"(States|Lambda|Sandbox|Runtime|DynamoDB|StepFunctions|Sfn)\.[A-Za-z0-9]+")
LAMBDA_ERRORS = {
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "Runtime.ExitError",  # A process that ended itself (protocol F11).
}


def all_states(machine: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    """Also those of the items of a Map."""
    for name, state in machine["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from all_states(state["ItemProcessor"])


@pytest.mark.parametrize("source", [statemachine, fleetmachine], ids=lambda s: s.__name__)
def test_the_file_is_generated_and_step_functions_would_accept_it(source: ModuleType) -> None:
    """Every error that it matches or raises exists."""
    assert source.PATH.read_text(encoding="utf-8") == source.text(), "run `make asl`"
    assert json.loads(source.text()) == source.machine()
    assert problems(source.text()) == []
    states = [state for _, state in all_states(source.machine())]
    rules = [rule for s in states for rule in (*s.get("Retry", []), *s.get("Catch", []))]
    matched = {error for rule in rules for error in rule["ErrorEquals"]}
    raised = {state["Error"] for state in states if not state.get("Error", "{%").startswith("{%")}
    ours = {error for error in matched if not AWS_ERRORS.fullmatch(error)} | raised
    assert all(issubclass(getattr(errors, name), LockstepError) for name in ours)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_time_out_a_catch_for_all_errors_and_retries_for_transient_ones(name: str) -> None:
    task = TASKS[name]
    assert 0 < task["TimeoutSeconds"] <= 60
    assert any(c["ErrorEquals"] == ["States.ALL"] for c in task["Catch"])
    retried = {error for retry in task["Retry"] for error in retry["ErrorEquals"]}
    assert "States.Timeout" in retried
    if "dynamodb" in task["Resource"]:
        assert all(e.startswith(("DynamoDB.", "States.")) for e in retried)
        assert "DynamoDB.ConditionalCheckFailedException" not in retried
    else:
        assert (task["Resource"].endswith(":lambda:invoke"), retried >= LAMBDA_ERRORS) == (True, True)


def test_who_holds_a_lock_has_stopped_before_its_end_and_a_fleet_leaves_a_rotation_its_time() -> None:
    assert deadlines.LEASE >= deadlines.RUN + deadlines.STEP + deadlines.CLOCK_SKEW
    assert make_plan().credentials[0].schedule.interval / 2 >= deadlines.RUN
    fleet = fleetmachine.machine()
    task = dict(all_states(fleet))["StartRotation"]
    assert task["TimeoutSeconds"] > deadlines.RUN.total_seconds()
    latest = deadlines.START_LATENESS.total_seconds()
    assert fleet["TimeoutSeconds"] > latest + task["TimeoutSeconds"]
    # Another trigger of the shortest interval does not find the one before it.
    assert fleet["TimeoutSeconds"] < deadlines.SHORTEST_SHARED_INTERVAL.total_seconds()
    # Hundreds of items begin at the same time.
    assert {r["JitterStrategy"] for _, s in all_states(fleet) for r in s.get("Retry", [])} == {"FULL"}


# Expressions


def evaluate(template: object, variables: Mapping[str, object]) -> Any:  # noqa: ANN401 - any JSON
    """A template with its expressions evaluated as in Step Functions."""
    if isinstance(template, dict):
        return {key: evaluate(value, variables) for key, value in template.items()}
    if isinstance(template, list):
        return [evaluate(value, variables) for value in template]
    if not (isinstance(template, str) and template.startswith("{%")):
        return template
    declared = "".join(f"${name} := {json.dumps(value)};" for name, value in variables.items())
    result = Jsonata(f"({declared} {template[2:-2]})").evaluate(None)
    return json.loads(json.dumps(result))


GOOD = {"credential_id": "multi-cloud/app_user"}
GOODS: tuple[JsonObject, ...] = (
    GOOD,
    {**GOOD, "force": True, "trigger": "by-hand", "interval": 1200},
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
    *({**GOOD, "interval": bad} for bad in (0, -1, 1.5, "1200", True, None, messages.MOST_SECONDS + 1)),
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
        self.rotation = read(messages.Rotation, self.variables["rotation"])

    def evaluate(self, template: object, **states: object) -> Any:  # noqa: ANN401 - any JSON
        time = "2026-01-01T00:20:00.123Z"
        context = {"Execution": {"Name": "second", "StartTime": time}, "State": {"EnteredTime": time}}
        return evaluate(template, {"states": {"context": context, **states}, **self.variables})

    def ends(self, name: str, answer: Message) -> None:
        """A step answers."""
        result = {"Payload": write(answer)}
        self.variables |= self.evaluate(STATES[name]["Assign"], input={}, result=result)

    def asks(self, name: str, before: Message | None = None) -> object:
        """What a step is asked, after the answer of the step before it."""
        arguments = self.evaluate(STATES[name]["Arguments"], input=write(before) if before else {})
        return read(REQUESTS[name], arguments["Payload"])


AWS = messages.CandidateRef(store="aws", version="7")
CLAIM = Claim(kind=ClaimKind.RECONCILE, generation=8, base_generation=7, rotation_id="second")
SEEN = StoreVersions(store="aws", app_user="7", connection_blob="7")
BESIDE = (messages.Beside(database="db-1", login=None), messages.Beside(database="db-2", login=AWS))
CANDIDATES = (
    messages.Candidate(ref=messages.CandidateRef(store="oci", version="ocid1.7"), generations=(0,)),
    messages.Candidate(ref=AWS, generations=(7, 6), stores=("aws",)),
)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_what_a_step_answers_is_what_the_next_one_is_asked(number: int) -> None:
    """Whatever is empty, null, or has one element, arrives as it was."""
    run, names = Run(), ("db-1", "db-2")
    refused, beside = names[:number], BESIDE[:number]
    asked = messages.GenerateRequest(rotation=run.rotation)
    assert run.asks("Generate") == asked
    candidates = CANDIDATES[: number or 1]
    needed = messages.ProbeRequest(rotation=run.rotation, candidates=candidates, refused=refused)
    run.ends("Generate", needed)
    assert run.asks("ApplyDb", needed) == needed
    assert (run.variables["prepared"], run.variables["claim"]) == (1, None)
    if refused:
        run.ends("ApplyDb", messages.BaseRefused(refused=refused))
        assert run.asks("Generate") == replace(asked, refused=refused)
    found = messages.ProbeResult(winner=AWS, beside=beside, accepted=(6, 7)[:number])
    run.ends("ApplyDb", found)
    assert run.asks("Generate", found) == replace(asked, refused=refused, found=found)
    adopted_from = "first" if number else None
    more: dict[str, Any] = {"seen": (SEEN,)[:number], "promoting": number == 1, "beside": beside}
    staged = messages.Staged(rotation=run.rotation, claim=CLAIM, adopted_from=adopted_from, **more)
    run.ends("Generate", staged)
    assert run.asks("ApplyDb", staged) == staged
    applied, proven = messages.DatabaseOutcome.APPLIED, names[: number or 1]
    answer = messages.ApplyResult(
        databases=tuple(messages.DatabaseResult(database=name, outcome=applied) for name in proven)
    )
    run.ends("ApplyDb", answer)
    assert run.asks("UpdateSecrets", answer) == messages.UpdateRequest(
        rotation=run.rotation, claim=CLAIM, proven=proven, seen=more["seen"]
    )
    assert run.variables["adopted_from"] == adopted_from
    # Where base is refused after that, what was found is forgotten.
    run.ends("ApplyDb", messages.BaseRefused(refused=("db-2",)))
    assert run.asks("Generate") == replace(asked, refused=("db-2",))


@pytest.mark.parametrize("error", ["States.Timeout", "StoreUnreachableError", "Runtime.ExitError"])
def test_a_failure_is_recorded_by_name_even_right_after_acquiring(error: str) -> None:
    run = Run()
    caught = STATES["Generate"]["Catch"][0]
    run.variables |= run.evaluate(caught["Assign"], errorOutput={"Error": error, "Cause": "hunter2"})
    payload = run.evaluate(STATES["AuditFailure"]["Arguments"]["Payload"])
    assert "hunter2" not in json.dumps(payload)
    request = read(messages.FailedRun, payload)
    assert (request.error, request.claim, request.databases) == (error, None, ())
    for given, cause in (({}, "no cause was given"), ({"Cause": "a cause"}, "a cause")):
        end = evaluate(STATES["RotationFailed"], {"failure": {"Error": error, **given}})
        assert (end["Error"], end["Cause"]) == (error, cause)


# The lock table: the state machine and the library make the same calls

NOW = EPOCH + timedelta(minutes=20)


def _asked(call: Callable[[DynamoDbLock], object]) -> Any:  # noqa: ANN401 - any JSON
    """The arguments of the call that the library makes."""
    client = Mock()
    client.exceptions.ConditionalCheckFailedException = KeyError
    client.update_item.return_value = {"Attributes": {"fence": {"N": "7"}}}
    call(DynamoDbLock(client, "${LockTable}", "multi-cloud/app_user"))
    return client.update_item.call_args.kwargs


@pytest.mark.parametrize("force", [False, True])
def test_acquiring_makes_the_same_call(*, force: bool) -> None:
    asked: dict[str, Any] = {"now": NOW, "expires_at": NOW + LEASE, "interval": timedelta(seconds=1200)}
    given = {**GOOD, "force": force, "interval": 1200}
    assert Run().evaluate(STATES["AcquireLock"]["Arguments"], input=given) == _asked(
        lambda lock: lock.acquire(holder="second", force=force, **asked)
    )


@pytest.mark.parametrize("proven", [("db-1",), ("db-1", "db-2")])
@pytest.mark.parametrize("valid", [(7,), (1, 7)])
def test_releasing_makes_the_same_call(valid: tuple[int, ...], proven: tuple[str, ...]) -> None:
    run = Run()
    done = Release(
        current_generation=7,
        valid=frozenset(valid),
        proven=proven,
        next_due_at=EPOCH + timedelta(minutes=39),
        not_before=EPOCH + timedelta(minutes=38),
        rotated_at=EPOCH,
    )
    place: dict[str, Any] = {"stream": "aws", "seq": 9, "hash": "f" * 64}
    run.variables["audit"] = write(messages.RecordedRotation(**place, release=done, promoted=PROMOTED))
    lease = Lease(credential_id="multi-cloud/app_user", holder="second", fence=7)
    entry = messages.Recorded(**place)
    nothing = write(messages.NothingToDo(rotation=run.rotation, proven=proven))
    for name, call in (
        ("ReleaseLock", lambda lock: lock.release(lease, done, entry=entry)),
        ("ReleaseLockAfterFailure", lambda lock: lock.release(lease, None, entry=entry)),
        ("ReleaseLockUnrecorded", lambda lock: lock.release(lease, None)),
        ("ReleaseLockUnchanged", lambda lock: lock.release(lease, None, proven=proven)),
    ):
        assert run.evaluate(STATES[name]["Arguments"], input=nothing) == _asked(call), name
