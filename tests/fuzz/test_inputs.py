"""Fuzzed inputs of the functions, contents of secrets, and audit entries: each gives an answer or one of our errors.

No change of an entry is verified.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from fdk import context  # type: ignore[import-untyped]  # fdk ships no types
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from functions.apply_db import step as apply_db
from functions.audit import step as audit
from functions.face import LambdaFace
from functions.generate import step as generate
from functions.update_secrets import step as update_secrets
from lockstep.audit.chain import Sealed, parse
from lockstep.audit.confirmed import Verdict
from lockstep.audit.entry import event_of
from lockstep.audit.verify import verify
from lockstep.cli.audit import _line
from lockstep.client.cache import decode
from lockstep.protocol import errors
from lockstep.protocol.messages import DatabaseRequest, GenerateRequest, RotatedRun, Run, UpdateRequest
from lockstep.protocol.model import CredentialValue, Login, SecretStr
from lockstep.protocol.ports import MAX_ENTRY_BYTES, MAX_TEXT_BYTES
from lockstep.protocol.strict_json import read
from lockstep.protocol.workers import one_after_the_other
from lockstep.runtime import wiring
from lockstep.runtime.identity import aws_access_key, oci_api_key
from lockstep.stores import contents
from lockstep.stores.contents import decode_app_user, encode_app_user, extras_in, object_in
from lockstep.stores.credential import Ports
from oci_fn import func
from tests.fuzz.harness import CANARY, Json, documents, inputs, judged, mutated, nested, spoiled, texts
from tests.fuzz.test_plan import VALID
from tests.support.lambda_context import TimeLeft
from tests.support.memory import EPOCH, MemoryAuditLog, MemorySigner, make_plan
from tests.support.seals import sealed
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
PARTLY = {**ROTATION, "plan": None, "replaced": ["oci"]}
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
        raise errors.InvalidRequestError(credential=credential_id)
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
@inputs(100)
@given(st.data())
def test_any_event(step: str, data: st.DataObject) -> None:
    in_lambda(step, data.draw(st.sampled_from(EVENTS[step]).flatmap(mutated) | documents))


@pytest.mark.parametrize("step", STEPS)
def test_valid_and_special_events(step: str) -> None:
    for event in EVENTS[step]:
        read(STEPS[step][1], event)
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


def in_oci(data: bytes | None, call_id: object = "call-1", deadline: object = "2099-01-01T00:00:00Z") -> Json:
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


@inputs(120)
@given(spoiled({**ASK, "note": CANARY}) | mutated(ASK).map(lambda document: json.dumps(document).encode()))
def test_any_ask(data: bytes) -> None:
    in_oci(data)


@pytest.mark.parametrize("odd", [None, "", CANARY, 7, "x" * 300, "\ud800", "0001-01-01T00:00:00+14:00"])
def test_any_context(odd: object) -> None:
    for data in (None, b"", b"{}", json.dumps(ASK).encode()):
        in_oci(data, call_id=odd, deadline=odd)


# Contents of secrets

CREDENTIAL = PLAN.credentials[0]
WHERE = {"store": "aws", "secret": "s"}
SERVER = {"dbname": "app", "engine": "mysql", "host": "orders.example.com", "port": 3306}
APP_USER = {**SERVER, "generation": 42, "username": "app_user", "password": CANARY}
BLOB = {
    "credential": "multi-cloud/app_user",
    "generation": 42,
    "databases": {"orders": {"dsn": "mysql://app_user@orders/app"}},
}
OCI_KEY = {
    "tenancy": "ocid1.tenancy.oc1..a",
    "user": "ocid1.user.oc1..a",
    "region": "eu-frankfurt-1",
    "fingerprint": "aa:bb",
    "private_key": f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----",
}
AWS_KEY = {"access_key_id": "AKIA", "secret_access_key": CANARY}


def app_user(text: str) -> None:
    with judged(errors.SecretMalformedError):
        login, generation = decode_app_user(text, **WHERE)
        assert generation >= 0
        if login is None:
            return
        # Drivers and the next version need to encode both.
        assert login.username.encode()
        assert login.password.reveal().encode()
        assert login.password == SecretStr(login.password.reveal())
        value = CredentialValue(generation, login)
        assert decode_app_user(encode_app_user(value, CREDENTIAL), **WHERE)[0] == login
        # A username is shown, so only there the canary is allowed.
        assert CANARY in login.username or CANARY not in f"{value!r} {login}"


def others(text: str) -> None:
    with judged(errors.SecretMalformedError):
        assert contents.decode_connection(text, **WHERE).keys() <= {"engine", "host", "port", "dbname"}
    with judged(errors.SecretMalformedError):
        assert contents.decode_blob_generation(text, **WHERE) >= 0
    with judged():
        assert CANARY not in repr(decode(text, **WHERE).password)
    with judged():
        assert CANARY not in repr(oci_api_key(text, **WHERE))
    with judged():
        key = aws_access_key(text, **WHERE)
        assert CANARY in key.access_key_id or CANARY not in repr(key)


def carried_on(text: str) -> None:
    """What was there is in the next value, spelled the same way, and the next value is one (protocol V20)."""
    value = CredentialValue(7, Login("app", SecretStr("new")))
    with judged(errors.SecretTooLargeError):
        extras = extras_in(text)
        assert (extras is None) == (object_in(text) is None)
        assert CANARY not in f"{extras!r} {extras} {[extras]}"
        extras = extras or contents.NO_EXTRAS
        new, blob = (
            encode_app_user(value, CREDENTIAL, extras),
            contents.encode_connection_blob(7, CREDENTIAL, extras),
        )
        for written in (new, blob):
            contents.fitting(written, max_bytes=MAX_TEXT_BYTES, **WHERE)
        assert decode_app_user(new, **WHERE) == (value.login, 7)
        assert contents.decode_blob_generation(blob, **WHERE) == 7
        before, after = object_in(text) or {}, object_in(new) or {}
        ours = (object_in(encode_app_user(value, CREDENTIAL)) or {}).keys()
        kept = before.keys() - ours - {"placeholder"}
        assert {key: json.dumps(after[key]) for key in kept} == {key: json.dumps(before[key]) for key in kept}
        assert encode_app_user(value, CREDENTIAL, extras_in(new) or contents.NO_EXTRAS) == new


READERS: tuple[Callable[[str], None], ...] = (app_user, others, carried_on)


@inputs(450)
@given(spoiled(APP_USER) | st.sampled_from([BLOB, OCI_KEY, AWS_KEY]).flatmap(spoiled))
def test_any_text(data: bytes) -> None:
    for reader in READERS:
        reader(data.decode(errors="surrogateescape"))


@inputs(200)
@given(st.dictionaries(texts, documents, max_size=6), st.sampled_from([None, 2, "\t"]), st.booleans())
def test_any_keys_of_others(document: dict[str, Json], indent: int | str | None, escaped: bool) -> None:  # noqa: FBT001 - drawn
    carried_on(json.dumps({**document, "username": "app"}, indent=indent, ensure_ascii=escaped))


NAMED = '"username": "u", "password": '
SPECIAL = {
    "deep": json.dumps(nested(900)),
    "a byte order mark": "\ufeff" + json.dumps(APP_USER),
    **{
        f"the generation {generation[:20]}": f'{{{NAMED}"p", "generation": {generation}}}'
        for generation in ("NaN", "Infinity", "1.5", "true", "-1", "1" + "0" * 4000, "9" * 5000)
    },
    "a lone surrogate": f'{{{NAMED}"{CANARY}\\ud800"}}',
    "a lone surrogate as a name": f'{{"username": "\\udfff", "password": "{CANARY}"}}',
    "a raw surrogate": f'{{{NAMED}"{CANARY}\ud800"}}',
    "NUL": f'{{{NAMED}"{CANARY}\\u0000"}}',
    "twice": f'{{"username": "v", {NAMED}"{CANARY}"}}',
}


@pytest.mark.parametrize("text", SPECIAL.values(), ids=SPECIAL)
def test_special_contents(text: str) -> None:
    for reader in READERS:
        reader(text)


# Entries of the audit log: it is verified only if no byte of it was changed.

SIGNER = MemorySigner("key-1")


def chained() -> list[Sealed]:
    """A chain of three entries."""
    request = read(RotatedRun, EVENTS["audit"][0])
    chain: list[Sealed] = []
    for name in ("run-0", "run-1", "run-2"):
        run = structs.replace(request, rotation=structs.replace(request.rotation, rotation_id=name))
        event = event_of(run, usernames=("app",), now=EPOCH)
        last = chain[-1].stored if chain else None
        chain.append(sealed(event, last, signer=SIGNER, credential_id=CREDENTIAL.id, rotation_id=name))
    return chain


CHAIN = chained()
BODY = CHAIN[1].body


def entry(body: bytes) -> None:
    """Parse the entry alone, then verify a log with it as entry 2."""
    with judged(errors.AuditVerificationError), suppress(errors.NewerFormatError):
        _line(parse(body, credential_id=CREDENTIAL.id, stream="aws", seq=2))
    log = MemoryAuditLog("aws")
    for seq, made in enumerate(CHAIN, 1):
        log.put(seq, body if seq == 2 else made.body, made.metadata)
    with judged():
        [found] = verify(CREDENTIAL.id, [(log, SIGNER)], side_by_side=one_after_the_other)
        assert (found.verdict is Verdict.VERIFIED) == (body == BODY)
        assert CANARY not in " ".join(map(str, found.problems))


def canonical(document: Json) -> bytes:
    """As entries are spelled, where that is possible."""
    with suppress(ValueError, RecursionError):
        return rfc8785.dumps(document)
    return b""


@inputs(500)
@given(spoiled(json.loads(BODY), BODY) | mutated(json.loads(BODY)).map(canonical))
def test_any_entry(data: bytes) -> None:
    entry(data)


ID = b'"activity_id":3'
ENTRIES = {
    "unchanged": BODY,
    "deeper": b"[" * 20_000,
    "a deep event": BODY.replace(ID, b'"activity_id":' + b"[" * 900 + b"]" * 900),
    "a huge entry": BODY.replace(ID, b'"activity_id":"' + b"x" * (2 * MAX_ENTRY_BYTES) + b'"'),
    "a secret": BODY.replace(b'"aws"', f'"{CANARY}"'.encode()),
}


@pytest.mark.parametrize("body", ENTRIES.values(), ids=ENTRIES)
def test_special_entries(body: bytes) -> None:
    entry(body)
