"""Fuzzed contents of secrets, and audit entries: each gives a value or one of our errors, and no change is verified."""

import json
from collections.abc import Callable
from contextlib import suppress

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from lockstep.audit.chain import Sealed, parse
from lockstep.audit.confirmed import Verdict
from lockstep.audit.entry import event_of
from lockstep.audit.verify import verify
from lockstep.cli.audit import _line
from lockstep.client.cache import decode
from lockstep.protocol.errors import (
    AuditVerificationError,
    NewerFormatError,
    SecretMalformedError,
    SecretTooLargeError,
)
from lockstep.protocol.messages import RotatedRun
from lockstep.protocol.model import CredentialValue, Login, SecretStr
from lockstep.protocol.ports import MAX_ENTRY_BYTES, MAX_TEXT_BYTES
from lockstep.protocol.strict_json import read
from lockstep.protocol.workers import one_after_the_other
from lockstep.runtime.identity import aws_access_key, oci_api_key
from lockstep.stores.contents import (
    NO_EXTRAS,
    decode_app_user,
    decode_blob_generation,
    decode_connection,
    encode_app_user,
    encode_connection_blob,
    extras_in,
    fitting,
    object_in,
)
from tests.fuzz.harness import (
    CANARY,
    Json,
    documents,
    inputs,
    judged,
    mangled,
    mutated,
    nested,
    spelled,
    texts,
)
from tests.fuzz.test_inputs import EVENTS
from tests.support.memory import EPOCH, MemoryAuditLog, MemorySigner, make_plan
from tests.support.seals import sealed

CREDENTIAL = make_plan().credentials[0]
WHERE = {"store": "aws", "secret": "s"}
APP_USER = {
    "dbname": "app",
    "engine": "mysql",
    "host": "orders.example.com",
    "port": 3306,
    "generation": 42,
    "username": "app_user",
    "password": CANARY,
}
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
    with judged(SecretMalformedError):
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
    with judged(SecretMalformedError):
        assert decode_connection(text, **WHERE).keys() <= {"engine", "host", "port", "dbname"}
    with judged(SecretMalformedError):
        assert decode_blob_generation(text, **WHERE) >= 0
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
    with judged(SecretTooLargeError):
        extras = extras_in(text)
        assert (extras is None) == (object_in(text) is None)
        assert CANARY not in f"{extras!r} {extras} {[extras]}"
        extras = extras or NO_EXTRAS
        new, blob = encode_app_user(value, CREDENTIAL, extras), encode_connection_blob(7, CREDENTIAL, extras)
        for written in (new, blob):
            fitting(written, max_bytes=MAX_TEXT_BYTES, **WHERE)
        assert decode_app_user(new, **WHERE) == (value.login, 7)
        assert decode_blob_generation(blob, **WHERE) == 7
        before, after = object_in(text) or {}, object_in(new) or {}
        ours = (object_in(encode_app_user(value, CREDENTIAL)) or {}).keys()
        kept = before.keys() - ours - {"placeholder"}
        assert {key: json.dumps(after[key]) for key in kept} == {key: json.dumps(before[key]) for key in kept}
        assert encode_app_user(value, CREDENTIAL, extras_in(new) or NO_EXTRAS) == new


READERS: tuple[Callable[[str], None], ...] = (app_user, others, carried_on)


@inputs(250)
@given(mutated(APP_USER) | mutated(BLOB) | mutated(OCI_KEY) | mutated(AWS_KEY) | documents)
def test_any_document(document: Json) -> None:
    for reader in READERS:
        reader(spelled(document))


@inputs(200)
@given(st.dictionaries(texts, documents, max_size=6), st.sampled_from([None, 2, "\t"]), st.booleans())
def test_any_keys_of_others(document: dict[str, Json], indent: int | str | None, escaped: bool) -> None:  # noqa: FBT001 - drawn
    carried_on(json.dumps({**document, "username": "app"}, indent=indent, ensure_ascii=escaped))


@inputs(150)
@given(mangled(json.dumps(APP_USER).encode()))
def test_a_mangled_text(data: bytes) -> None:
    for reader in (app_user, others):
        reader(data.decode(errors="surrogateescape"))


LOGIN = '"username": "u", "password": '
SPECIAL = {
    "deep": spelled(nested(900)),
    "deeper objects": '{"a":' * 5_000,
    "huge": json.dumps({**APP_USER, "note": "x" * 100_000}),
    "a byte order mark": "\ufeff" + json.dumps(APP_USER),
    **{
        f"the generation {generation[:20]}": f'{{{LOGIN}"p", "generation": {generation}}}'
        for generation in ("NaN", "Infinity", "1.5", "true", "-1", "1" + "0" * 4000, "9" * 5000)
    },
    "a lone surrogate": f'{{{LOGIN}"{CANARY}\\ud800"}}',
    "a lone surrogate as a name": f'{{"username": "\\udfff", "password": "{CANARY}"}}',
    "a raw surrogate": f'{{{LOGIN}"{CANARY}\ud800"}}',
    "NUL": f'{{{LOGIN}"{CANARY}\\u0000"}}',
    "twice": f'{{"username": "v", {LOGIN}"{CANARY}"}}',
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
    with judged(AuditVerificationError), suppress(NewerFormatError):
        _line(parse(body, credential_id=CREDENTIAL.id, stream="aws", seq=2))
    log = MemoryAuditLog("aws")
    for seq, made in enumerate(CHAIN, 1):
        log.put(seq, body if seq == 2 else made.body, made.metadata)
    with judged():
        [found] = verify(CREDENTIAL.id, [(log, SIGNER)], side_by_side=one_after_the_other)
        assert (found.verdict is Verdict.VERIFIED) == (body == BODY)
        assert CANARY not in " ".join(map(str, found.problems))


@inputs(220)
@given(mutated(json.loads(BODY)) | documents)
def test_any_entry(document: Json) -> None:
    bodies = [spelled(document).encode()]
    with suppress(ValueError, RecursionError):
        bodies.append(rfc8785.dumps(document))
    for body in bodies:
        entry(body)


@inputs(200)
@given(mangled(BODY))
def test_a_mangled_entry(data: bytes) -> None:
    entry(data)


ID = b'"activity_id":3'
ENTRIES = {
    "unchanged": BODY,
    "deeper": b"[" * 20_000,
    "a deep event": BODY.replace(ID, b'"activity_id":' + b"[" * 900 + b"]" * 900),
    "a huge entry": BODY.replace(ID, b'"activity_id":"' + b"x" * (2 * MAX_ENTRY_BYTES) + b'"'),
    "trailing spaces": BODY + b" " * MAX_ENTRY_BYTES,
    "a secret": BODY.replace(b'"aws"', f'"{CANARY}"'.encode()),
}


@pytest.mark.parametrize("body", ENTRIES.values(), ids=ENTRIES)
def test_special_entries(body: bytes) -> None:
    entry(body)
