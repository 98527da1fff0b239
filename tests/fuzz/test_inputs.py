"""Fuzzed inputs of the functions: each gives an answer that is JSON, or one of our errors."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fdk import context  # type: ignore[import-untyped]  # fdk ships no types
from hypothesis import given
from hypothesis import strategies as st

from functions.apply_db import step as apply_db
from functions.audit import step as audit
from functions.face import LambdaFace
from functions.generate import step as generate
from functions.update_secrets import step as update_secrets
from lockstep.protocol.errors import InvalidRequestError
from lockstep.protocol.messages import DatabaseRequest, GenerateRequest, Run, UpdateRequest
from lockstep.protocol.strict_json import Message, read
from lockstep.runtime import wiring
from lockstep.stores.credential import Ports
from oci_fn import func
from tests.fuzz.harness import CANARY, Json, documents, inputs, judged, mangled, mutated, nested, spelled
from tests.fuzz.test_plan import VALID
from tests.support.lambda_context import TimeLeft
from tests.support.memory import make_plan
from tests.support.world import make_world

PLAN = make_plan()
STEPS: dict[str, tuple[Any, Any]] = {
    "generate": (generate.run, GenerateRequest),
    "apply_db": (apply_db.run, DatabaseRequest),
    "update_secrets": (update_secrets.run, UpdateRequest),
    "audit": (audit.run, Run),
}
ROTATION = {
    "credential_id": "multi-cloud/app_user",
    "rotation_id": "run-1",
    "runner": "aws",
    "trigger": "schedule",
    "started_at": "2026-01-01T00:00:00Z",
    "fence": 1,
    "force": False,
    "plan": PLAN.credentials[0].plan_digest,
}
CLAIM = {"kind": "new", "generation": 1, "base_generation": 0, "rotation_id": "run-1"}
LOGIN = {"store": "aws", "version": "v1"}
CANDIDATES = [{"ref": LOGIN, "generations": [1], "stores": ["aws"]}]
BESIDE = [{"database": "db-1", "login": LOGIN}, {"database": "db-2", "login": None}]
FOUND = {"winner": LOGIN, "beside": BESIDE, "accepted": [1]}
REVOKED = [{"generation": 0, "revocation": "refused"}]
APPLIED = {
    "database": "db-1",
    "outcome": "applied",
    "revoked": REVOKED,
    "taken_over": True,
    "plaintext": False,
}
ROTATED = {
    "outcome": "rotated",
    "rotation": ROTATION,
    "claim": CLAIM,
    "adopted_from": "run-0",
    "databases": [APPLIED],
    "stores": [LOGIN],
    "promoted_at": "2026-01-01T00:00:10Z",
    "revoked": [{"database": "db-1", "revoked": REVOKED}],
}
PARTLY = {**ROTATION, "plan": None, "without": ["db-2"]}
EVENTS: dict[str, list[Json]] = {
    "generate": [{"rotation": ROTATION}, {"rotation": PARTLY, "found": FOUND, "refused": ["db-1"]}],
    "apply_db": [
        {"action": "apply", "rotation": ROTATION, "claim": CLAIM, "promoting": True, "beside": BESIDE},
        {"action": "probe", "rotation": ROTATION, "candidates": CANDIDATES, "refused": ["db-1"]},
        {"action": "revoke", "rotation": ROTATION, "claim": CLAIM},
    ],
    "update_secrets": [{"rotation": ROTATION, "claim": CLAIM, "proven": ["db-1", "db-2"]}],
    "audit": [ROTATED, {"outcome": "failed", "rotation": ROTATION, "error": "StoresDivergedError"}],
}


def ports(credential_id: str) -> Ports:
    """Ports for a credential of the plan, as the wiring makes them; run-1 holds the lock, as the valid inputs say."""
    if PLAN.credential(credential_id) is None:
        raise InvalidRequestError(credential=credential_id)
    world = make_world(credentials=PLAN.credentials[0])
    now = world.clock.now()
    world.lock.acquire(holder="run-1", now=now, expires_at=now.replace(year=2027), force=False)
    return world.ports()


def in_lambda(step: str, event: Json) -> None:
    run, kind = STEPS[step]
    handler = LambdaFace(run, kind, ports=ports)
    with judged():
        answer = json.dumps(handler(event, TimeLeft()))
        assert CANARY not in answer


@pytest.mark.parametrize("step", STEPS)
def test_valid_inputs_reach_the_step(step: str) -> None:
    reached: list[object] = []

    def see(request: object, _ports: Ports) -> Message:
        reached.append(request)
        return read(GenerateRequest, {"rotation": ROTATION})

    for event in EVENTS[step]:
        LambdaFace(see, STEPS[step][1], ports=ports)(event, TimeLeft())
    assert len(reached) == len(EVENTS[step])


@pytest.mark.parametrize("step", STEPS)
@inputs(100)
@given(st.data())
def test_any_event(step: str, data: st.DataObject) -> None:
    in_lambda(step, data.draw(st.sampled_from(EVENTS[step]).flatmap(mutated) | documents))


@pytest.mark.parametrize("step", STEPS)
def test_deep_events(step: str) -> None:
    in_lambda(step, nested(900))
    in_lambda(step, {**EVENTS[step][0], CANARY: 1})
    for odd in (
        *({"credential_id": nested(900)}, {"fence": 10**400}),
        *({"started_at": at} for at in ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00")),
    ):
        in_lambda(step, {**EVENTS[step][0], "rotation": {**ROTATION, **odd}})


# The OCI function

ASK = {"credential_id": "multi-cloud/app_user", "trigger": "schedule", "force": False}


@pytest.fixture(autouse=True)
def plan_without_an_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan but no identity: a valid input fails before any cloud is called."""
    file = tmp_path / "lockstep.yaml"
    file.write_text(json.dumps(VALID))
    monkeypatch.setenv(wiring.PLAN_VARIABLE, str(file))
    for name in ("OCI_RESOURCE_PRINCIPAL_VERSION", "OCI_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    wiring.forget()


def in_oci(
    data: bytes | None, *, call_id: object = "call-1", deadline: object = "2099-01-01T00:00:00Z"
) -> Json:
    ctx = context.InvokeContext("app", "lockstep", "fn", "lockstep", call_id, deadline=deadline)
    with judged():
        answer = func.handler(ctx, None if data is None else BytesIO(data))
        body = json.loads(answer.body())
        # There is no identity, so every call fails.
        assert answer.status() == 502
        assert body.get("error") or [r["outcome"] for r in body["results"]] == ["failed"]
        assert CANARY not in answer.body()
    return body


def test_a_valid_ask_reaches_the_rotation() -> None:
    [result] = in_oci(json.dumps(ASK).encode())["results"]
    assert result["error"] == "StoreAccessDeniedError"


@inputs(60)
@given(mutated(ASK) | documents)
def test_a_mutated_ask(document: Json) -> None:
    in_oci(spelled(document).encode(errors="surrogatepass"))


@inputs(60)
@given(mangled(json.dumps({**ASK, "note": CANARY}).encode()))
def test_a_mangled_ask(data: bytes) -> None:
    in_oci(data)


@pytest.mark.parametrize("call_id", [None, "", CANARY, "x" * 300, 7, "\ud800"])
@pytest.mark.parametrize(
    "deadline", [None, "", CANARY, 7, "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00"]
)
def test_any_context(call_id: object, deadline: object) -> None:
    for data in (None, b"", b"{}", json.dumps(ASK).encode()):
        in_oci(data, call_id=call_id, deadline=deadline)
