"""The definition's expressions: choices, payloads, and calls of the lock table."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from functions.generate import step as generate
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.messages import (
    AuditRequest,
    DatabaseRequest,
    FailedRun,
    GenerateRequest,
    Id,
    ProbeNeeded,
    Probes,
    Recorded,
    RotatedRun,
    Rotation,
    RunInput,
    Staged,
    UpdateRequest,
)
from lockstep.model import Claim, ClaimKind, Lease, Release
from lockstep.timing import LEASE
from tests.statemachine.definition import ALL, INNER, MACHINE, STATES, JsonObject, evaluate, walk
from tests.support.memory import EPOCH, MemoryWorld, make_plan
from tests.unit.harness import another_login, edit, held, rotate

REQUESTS: Mapping[str, TypeAdapter[Any]] = {
    "${GenerateFunction}": TypeAdapter(GenerateRequest),
    "${ApplyDbFunction}": TypeAdapter(DatabaseRequest),
    "${UpdateSecretsFunction}": TypeAdapter(UpdateRequest),
    "${AuditFunction}": TypeAdapter(AuditRequest),
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
        {**GOOD, "force": True, "revoke_previous": False, "trigger": "by-hand"},
        {"credential_id": "AZ az 09/_+=.@:-".replace(" ", "")},
        {"credential_id": "x" * 200},
    ],
    ids=repr,
)
def test_a_valid_input_reaches_the_lock(given: JsonObject) -> None:
    RunInput.model_validate(given)
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
        *({**GOOD, "revoke_previous": bad} for bad in NO_FLAG),
        {**GOOD, "revoke_prevoius": True},
    ],
    ids=repr,
)
def test_an_input_that_a_step_would_refuse_does_not_reach_the_lock(given: object) -> None:
    with pytest.raises(ValidationError):
        RunInput.model_validate(given)
    assert _leads_to(given) == "InvalidInput"


@pytest.mark.parametrize("name", ["it's", "a!b", "x+(1)", "\u00e9"])
def test_an_execution_name_that_a_step_would_refuse_does_not_reach_the_lock(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Id).validate_python(name)
    assert _leads_to(GOOD, name=name) == "InvalidInput"


def _leads_to(given: object, *, name: str = "run-1") -> str:
    state = STATES["CheckInput"]
    [choice] = state["Choices"]
    states = {"input": given, "context": {"Execution": {"Name": name}}}
    passed = evaluate(choice["Condition"], {"states": states})
    assert isinstance(passed, bool)
    return str(choice["Next"] if passed else state["Default"])


@pytest.mark.parametrize("replaces", [None, {"generation": 2}])
@pytest.mark.parametrize("databases", [1, 2])
@pytest.mark.parametrize("refused", [0, 1])
def test_a_refused_password_is_withdrawn_once(refused: int, databases: int, replaces: object) -> None:
    outcomes = ["refused_by_policy"] * refused + ["applied"] * (databases - refused)
    state = STATES["EveryDatabaseAccepts"]
    variables = {"applied": [{"outcome": o} for o in outcomes], "replaces": replaces}
    conditions = [(evaluate(c["Condition"], variables), c["Next"]) for c in state["Choices"]]
    leads_to = next((goal for passed, goal in conditions if passed), state["Default"])
    assert leads_to == ("UpdateSecrets" if not refused else "AuditFailure" if replaces else "RaiseFence")


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
    for name, adapter in REQUESTS.items():
        fields = {key for path, _ in walk(adapter.json_schema()) for key in path}
        assert {f for f in fields if SECRET_LOOKING.search(f)} == set(), name


class Run:
    """The variables of an execution, assigned by the steps, on a world in memory."""

    def __init__(self, *, databases: int = 2) -> None:
        self.world = MemoryWorld.create(make_plan(databases=databases))
        rotate(self.world, "first")
        self.world.clock.sleep(1200)
        self.variables: JsonObject = {}
        self.fence = 7
        self.next = ""

    def acquire(self) -> None:
        self._assign(
            "AcquireLock", input=self.input(), result={"Attributes": {"fence": {"N": str(self.fence)}}}
        )

    def raise_fence(self) -> None:
        self.fence += 1
        self._assign("RaiseFence", result={"Attributes": {"fence": {"N": str(self.fence)}}})

    def input(self) -> JsonObject:
        return {"credential_id": "multi-cloud/app_user"}

    def context(self) -> JsonObject:
        time = "2026-01-01T00:20:00.123Z"
        execution = {"Name": "second", "StartTime": time}
        return {"Execution": execution, "State": {"EnteredTime": time}}

    def step(self, state: str, function: str, result: object, *, state_input: object = None) -> object:
        """Evaluate and validate the payload of a step; assign its result."""
        task = ALL[state]
        payload = self.evaluate(task["Arguments"]["Payload"], input=state_input)
        assert task["Arguments"]["FunctionName"] == function
        request: object = REQUESTS[function].validate_python(payload)
        self._assign(state, result={"Payload": result})
        assert self.evaluate(task["Output"], result={"Payload": result}) == result
        return request

    def generate(self, result: JsonObject) -> object:
        """Evaluate and validate the payload of Generate; assign its result and pass StoresAgree."""
        request = self.step("Generate", "${GenerateFunction}", result)
        choice = STATES["StoresAgree"]
        taken = next(
            (c for c in choice["Choices"] if self.evaluate(c["Condition"], input=result) is True), choice
        )
        self.variables |= self.evaluate(taken.get("Assign", {}), input=result)
        self.next = taken.get("Next", choice["Default"])
        return request

    def map(self, state: str, results: Sequence[object], *, state_input: object = None) -> list[object]:
        """Evaluate and validate the payloads of a Map's branches; assign their results."""
        outer = STATES[state]
        [(name, inner)] = [(n, s) for n, s in outer["ItemProcessor"]["States"].items() if s["Type"] == "Task"]
        requests = []
        for item in self.evaluate(outer["Items"]):
            selected = self.evaluate(outer["ItemSelector"], item=item, input=state_input)
            payload = self.evaluate(inner["Arguments"]["Payload"], input=selected)
            requests.append(REQUESTS[inner["Arguments"]["FunctionName"]].validate_python(payload))
        assert name == outer["ItemProcessor"]["StartAt"]
        self._assign(state, input=state_input, result=list(results))
        return requests

    def evaluate(self, template: object, *, item: object = None, **states: object) -> Any:  # noqa: ANN401 - any JSON
        context = {**self.context(), "Map": {"Item": {"Value": item}}}
        return evaluate(template, {"states": {"context": context, **states}, **self.variables})

    def _assign(self, state: str, **states: object) -> None:
        self.variables |= self.evaluate(ALL[state].get("Assign", {}), **states)


def _rotation(run: Run) -> Rotation:
    return Rotation.model_validate(run.variables["rotation"])


CLAIM = Claim(
    kind=ClaimKind.NEW, generation=7, base_generation=1, previous_generation=None, rotation_id="second"
)


def _json(message: Any) -> Any:  # noqa: ANN401 - a message and any JSON
    return TypeAdapter(type(message)).dump_python(message, mode="json")


def _generated(run: Run, **changes: object) -> JsonObject:
    result = Staged(databases=tuple(run.world.databases), claim=CLAIM, adopted=False)
    dumped: JsonObject = result.model_copy(update=changes).model_dump(mode="json")
    return dumped


@pytest.mark.parametrize("databases", [1, 2])
def test_each_step_is_sent_a_valid_request(databases: int) -> None:
    run = Run(databases=databases)
    names = [f"db-{n}" for n in range(1, databases + 1)]
    run.acquire()
    assert _rotation(run) == Rotation(
        credential_id="multi-cloud/app_user",
        rotation_id="second",
        runner="aws",
        trigger="manual",
        started_at=datetime(2026, 1, 1, 0, 20, 0, 123000, tzinfo=UTC),
        fence=7,
    )
    request = run.generate(_generated(run))
    assert request == GenerateRequest(rotation=_rotation(run))
    assert run.variables["databases"] == names
    assert (run.next, run.variables["claim"]) == ("ApplyDb", _json(CLAIM))

    requests = run.map("ApplyDb", [{"database": n, "outcome": "applied"} for n in names])
    assert [(r.action, r.database, r.claim) for r in requests] == [("apply", n, CLAIM) for n in names]  # type: ignore[attr-defined]  # validated as requests
    stores = [{"store": "aws", "version": "v7"}]
    updated = {"stores": stores, "promoted_at": "2026-01-01T00:20:05.500000Z"}
    assert run.step("UpdateSecrets", "${UpdateSecretsFunction}", updated) == UpdateRequest(
        rotation=_rotation(run), claim=CLAIM
    )
    requests = run.map("RevokeDb", [{"database": n, "retired_generation": 1} for n in names])
    assert [(r.action, r.database) for r in requests] == [("revoke", n) for n in names]  # type: ignore[attr-defined]  # as above
    recorded = Recorded(stream="aws", seq=2, hash="f" * 64).model_dump(mode="json")
    audited = run.step("Audit", "${AuditFunction}", recorded)
    assert isinstance(audited, RotatedRun)
    assert [d.database for d in audited.databases] == names
    assert [s.version for s in audited.stores] == ["v7"]
    assert [r.retired_generation for r in audited.revoked] == [1] * databases
    assert audited.promoted_at == datetime(2026, 1, 1, 0, 20, 5, 500000, tzinfo=UTC)


@pytest.mark.parametrize("stores", [1, 2], ids=["one candidate", "two candidates"])
def test_a_heal_asks_for_probes_and_gets_their_results(stores: int) -> None:
    run = Run(databases=1)
    run.acquire()
    world, name = run.world, "aws"
    edit(world.stores[name], another_login(world))
    if stores == 1:
        world.lock.record = type(world.lock.record)(credential_id=world.credential.id)
        edit(world.stores["oci"], another_login(world))
    world.clock.sleep(1200)
    asked = generate.run(GenerateRequest(rotation=held(world)), world.ports())
    assert isinstance(asked, ProbeNeeded)
    assert len(asked.candidates) == stores
    asked_json = asked.model_dump(mode="json")
    run.generate(asked_json)
    assert (run.next, run.variables["claim"]) == ("ProbeDb", None)
    answers = [{"database": "db-1", "accepted": [True] * stores}]
    [probe] = run.map("ProbeDb", answers, state_input=asked_json)
    assert probe.candidates == asked.candidates  # type: ignore[attr-defined]  # validated as a probe
    again = run.generate(_generated(run))
    assert isinstance(again, GenerateRequest)
    assert again.probes == Probes.model_validate(
        {
            "candidates": [c.model_dump() for c in asked.candidates],
            "databases": [{"database": "db-1", "accepted": [True] * stores}],
        }
    )


def test_a_refusal_leads_to_generate_with_the_claim_to_replace() -> None:
    run = Run()
    run.acquire()
    run.generate(_generated(run))
    [caught] = INNER["ApplyOneDb"]["Catch"]
    assert caught["ErrorEquals"] == ["PasswordRefusedByPolicyError"]
    refused = run.evaluate(caught["Output"], input={"database": "db-2"})
    run.map("ApplyDb", [{"database": "db-1", "outcome": "applied"}, refused])
    run.raise_fence()
    withdrawn = run.map("WithdrawDb", [])
    assert {r.rotation.fence for r in withdrawn} == {run.fence}  # type: ignore[attr-defined]  # validated as such
    assert [(r.action, r.claim) for r in withdrawn] == [("withdraw", CLAIM)] * 2  # type: ignore[attr-defined]  # validated as such
    again = run.generate(_generated(run))
    assert isinstance(again, GenerateRequest)
    assert again.replaces == CLAIM
    refused_again = STATES["EveryDatabaseAccepts"]["Choices"][1]
    run.variables |= run.evaluate(refused_again["Assign"])
    failed = run.step("AuditFailure", "${AuditFunction}", None)
    assert isinstance(failed, FailedRun)
    assert failed.error == "PasswordRefusedByPolicyError"
    assert [d.outcome.value for d in failed.databases] == ["applied", "refused_by_policy"]


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
    request = FailedRun.model_validate(payload)
    assert (request.error, request.claim, request.databases) == (error, None, ())


def test_the_output_of_an_execution_names_the_current_generation() -> None:
    run = Run()
    run.acquire()
    run.variables |= {"claim": _json(CLAIM), "audit": {"stream": "aws", "seq": 9}}
    assert run.evaluate(STATES["ReleaseLock"]["Output"]) == {
        "outcome": "rotated",
        "generation": 7,
        "kind": "new",
        "adopted": False,
        "audit": {"stream": "aws", "seq": 9},
    }


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


@pytest.mark.parametrize("revoke_previous", [False, True])
@pytest.mark.parametrize("force", [False, True])
def test_acquiring_makes_the_same_call(force: bool, revoke_previous: bool) -> None:  # noqa: FBT001 - a table
    run = Run()
    states = {"input": {**run.input(), "force": force, "revoke_previous": revoke_previous}}
    now = datetime(2026, 1, 1, 0, 20, tzinfo=UTC)
    assert run.evaluate(STATES["AcquireLock"]["Arguments"], **states) == _asked(
        lambda lock: lock.acquire(
            holder="second",
            now=now,
            expires_at=now + LEASE,
            force=force,
            revoke_previous=revoke_previous,
        )
    )


def test_raising_the_fence_makes_the_same_call() -> None:
    run = Run()
    run.acquire()
    lease = Lease(credential_id="multi-cloud/app_user", holder="second", fence=7)
    assert run.evaluate(STATES["RaiseFence"]["Arguments"]) == _asked(lambda lock: lock.raise_fence(lease))


@pytest.mark.parametrize("previous", [None, 1])
def test_releasing_makes_the_same_call(previous: int | None) -> None:
    run = Run()
    run.acquire()
    done = Release(
        current_generation=7,
        previous_generation=previous,
        next_due_at=EPOCH + timedelta(minutes=39),
        not_before=EPOCH + timedelta(minutes=38),
    )
    run.variables["audit"] = {
        "release": {
            "current_generation": 7,
            "previous_generation": previous,
            "next_due_at": int(done.next_due_at.timestamp()),
            "not_before": int(done.not_before.timestamp()),
        }
    }
    lease = Lease(credential_id="multi-cloud/app_user", holder="second", fence=7)
    asked_done = _asked(lambda lock: lock.release(lease, done))
    asked_failed = _asked(lambda lock: lock.release(lease, None))
    assert run.evaluate(STATES["ReleaseLock"]["Arguments"]) == asked_done
    assert run.evaluate(STATES["ReleaseLockAfterFailure"]["Arguments"]) == asked_failed
