"""Fuzzed contents of secrets: each gives a credential or one of our errors."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.client import decode
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
APP_USER = {
    "dbname": "app",
    "engine": "mysql",
    "generation": 42,
    "host": "orders.example.com",
    "password": CANARY,
    "port": 3306,
    "username": "app_user",
}
BLOB = {
    "credential": "multi-cloud/app_user",
    "databases": {"orders": {"dsn": "mysql://app_user@orders/app"}},
    "generation": 42,
}
OCI_KEY = {
    "tenancy": "ocid1.tenancy.oc1..a",
    "user": "ocid1.user.oc1..a",
    "fingerprint": "aa:bb",
    "private_key": f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----",
    "region": "eu-frankfurt-1",
}
AWS_KEY = {"access_key_id": "AKIA", "secret_access_key": CANARY}


def app_user(text: str) -> None:
    with judged("app_user", SecretMalformedError):
        login, generation = decode_app_user(text, store="aws", secret="s")
        assert generation >= 0
        if login is None:
            return
        # Drivers and the next version need to encode both.
        assert login.username.encode()
        assert login.password.reveal().encode()
        assert login.password == SecretStr(login.password.reveal())
        value = CredentialValue(generation, login)
        written = encode_app_user(value, CREDENTIAL)
        assert decode_app_user(written, store="aws", secret="s")[0] == login
        shown = f"{value!r} {login}"
        # A username is shown, so only there the canary is allowed.
        assert CANARY in login.username or CANARY not in shown


def connection(text: str) -> None:
    with judged("connection", SecretMalformedError):
        assert decode_connection(text, store="aws", secret="s").keys() <= {"engine", "host", "port", "dbname"}


def blob(text: str) -> None:
    with judged("connection_blob", SecretMalformedError):
        assert decode_blob_generation(text, store="aws", secret="s") >= 0


def carried_on(text: str) -> None:
    """What was there is in the next value, spelled the same way, and the next value is one (protocol V20)."""
    value = CredentialValue(7, Login("app", SecretStr("new")))
    with judged("carried", SecretTooLargeError):
        extras = extras_in(text)
        assert (extras is None) == (object_in(text) is None)
        assert CANARY not in f"{extras!r} {extras} {[extras]}"
        extras = extras or NO_EXTRAS
        new = encode_app_user(value, CREDENTIAL, extras)
        blob = encode_connection_blob(7, CREDENTIAL, extras)
        for written in (new, blob):
            fitting(written, max_bytes=MAX_TEXT_BYTES, store="aws", secret="s")
        assert decode_app_user(new, store="aws", secret="s") == (value.login, 7)
        assert decode_blob_generation(blob, store="aws", secret="s") == 7
        before, after = object_in(text) or {}, object_in(new) or {}
        ours = (object_in(encode_app_user(value, CREDENTIAL)) or {}).keys()
        kept = before.keys() - ours - {"placeholder"}
        assert {key: json.dumps(after[key]) for key in kept} == {key: json.dumps(before[key]) for key in kept}
        assert encode_app_user(value, CREDENTIAL, extras_in(new) or NO_EXTRAS) == new


def for_an_application(text: str) -> None:
    with judged("client"):
        assert CANARY not in repr(decode(text, store="aws", secret="s").password)


def identities(text: str) -> None:
    with judged("identity"):
        assert CANARY not in repr(oci_api_key(text, store="aws", secret="s"))
    with judged("identity"):
        key = aws_access_key(text, store="aws", secret="s")
        assert CANARY in key.access_key_id or CANARY not in repr(key)


READERS: list[Callable[[str], None]] = [
    app_user,
    connection,
    blob,
    carried_on,
    for_an_application,
    identities,
]


@inputs(200)
@given(mutated(APP_USER))
def test_a_mutated_app_user(document: Json) -> None:
    for read in READERS:
        read(spelled(document))


@inputs(200)
@given(st.dictionaries(texts, documents, max_size=6), st.sampled_from([None, 2, "\t"]), st.booleans())
def test_any_keys_of_others(document: dict[str, Json], indent: int | str | None, escaped: bool) -> None:  # noqa: FBT001 - drawn
    carried_on(json.dumps({**document, "username": "app"}, indent=indent, ensure_ascii=escaped))


@inputs(60)
@given(mutated(BLOB))
def test_a_mutated_connection_blob(document: Json) -> None:
    blob(spelled(document))


@inputs(60)
@given(mutated(OCI_KEY) | mutated(AWS_KEY))
def test_mutated_keys(document: Json) -> None:
    identities(spelled(document))


@inputs(60)
@given(documents)
def test_any_document(document: Json) -> None:
    for read in READERS:
        read(spelled(document))


@inputs(150)
@given(mangled(json.dumps(APP_USER).encode()))
def test_a_mangled_text(data: bytes) -> None:
    for read in (app_user, connection, blob, for_an_application):
        read(data.decode(errors="surrogateescape"))


SPECIAL = {
    "empty": "",
    "the password alone": CANARY,
    "deep": spelled(nested(900)),
    "deeper": "[" * 20_000,
    "deeper objects": '{"a":' * 5_000,
    "huge": json.dumps({**APP_USER, "note": "x" * 100_000}),
    "a byte order mark": "\ufeff" + json.dumps(APP_USER),
    "not a number": '{"username": "u", "password": "p", "generation": NaN}',
    "infinite": '{"username": "u", "password": "p", "generation": Infinity}',
    "a fraction": '{"username": "u", "password": "p", "generation": 1.5}',
    "true": '{"username": "u", "password": "p", "generation": true}',
    "negative": '{"username": "u", "password": "p", "generation": -1}',
    "a huge generation": '{"username": "u", "password": "p", "generation": 1' + "0" * 4000 + "}",
    "a generation of too many digits": '{"username": "u", "password": "p", "generation": ' + "9" * 5000 + "}",
    "a lone surrogate": '{"username": "u", "password": "' + CANARY + '\\ud800"}',
    "a lone surrogate as a name": '{"username": "\\udfff", "password": "' + CANARY + '"}',
    "a raw surrogate": '{"username": "u", "password": "' + CANARY + '\ud800"}',
    "NUL": '{"username": "u", "password": "' + CANARY + '\\u0000"}',
    "twice": '{"username": "u", "username": "v", "password": "' + CANARY + '"}',
    "a list for a name": '{"username": ["u"], "password": "' + CANARY + '"}',
    "placeholder and more": '{"placeholder": 1, "password": "' + CANARY + '"}',
}


@pytest.mark.parametrize("text", SPECIAL.values(), ids=SPECIAL)
def test_special_contents(text: str) -> None:
    for read in READERS:
        read(text)
