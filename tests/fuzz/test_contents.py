"""Fuzzed contents of secrets: each gives a credential or one of our errors."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.client.cache import decode
from lockstep.protocol.errors import SecretMalformedError, SecretTooLargeError
from lockstep.protocol.model import CredentialValue, Login, SecretStr
from lockstep.protocol.ports import MAX_TEXT_BYTES
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
from tests.support.memory import make_plan

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
    with judged("app_user", SecretMalformedError):
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
    with judged("connection", SecretMalformedError):
        assert decode_connection(text, **WHERE).keys() <= {"engine", "host", "port", "dbname"}
    with judged("connection_blob", SecretMalformedError):
        assert decode_blob_generation(text, **WHERE) >= 0
    with judged("client"):
        assert CANARY not in repr(decode(text, **WHERE).password)
    with judged("identity"):
        assert CANARY not in repr(oci_api_key(text, **WHERE))
    with judged("identity"):
        key = aws_access_key(text, **WHERE)
        assert CANARY in key.access_key_id or CANARY not in repr(key)


def carried_on(text: str) -> None:
    """What was there is in the next value, spelled the same way, and the next value is one (protocol V20)."""
    value = CredentialValue(7, Login("app", SecretStr("new")))
    with judged("carried", SecretTooLargeError):
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
    for read in READERS:
        read(spelled(document))


@inputs(200)
@given(st.dictionaries(texts, documents, max_size=6), st.sampled_from([None, 2, "\t"]), st.booleans())
def test_any_keys_of_others(document: dict[str, Json], indent: int | str | None, escaped: bool) -> None:  # noqa: FBT001 - drawn
    carried_on(json.dumps({**document, "username": "app"}, indent=indent, ensure_ascii=escaped))


@inputs(150)
@given(mangled(json.dumps(APP_USER).encode()))
def test_a_mangled_text(data: bytes) -> None:
    for read in (app_user, others):
        read(data.decode(errors="surrogateescape"))


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
    for read in READERS:
        read(text)
