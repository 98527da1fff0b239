"""Fuzzed contents of secrets: each gives a credential or one of our errors."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given

from lockstep.client import decode
from lockstep.contents import (
    decode_app_user,
    decode_blob_generation,
    decode_connection,
    encode_app_user,
)
from lockstep.errors import SecretMalformedError
from lockstep.identity import aws_access_key, oci_api_key
from lockstep.model import CredentialValue, SecretStr
from tests.fuzz.harness import CANARY, Json, documents, inputs, judged, mangled, mutated, nested, spelled
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


def for_an_application(text: str) -> None:
    with judged("client"):
        assert CANARY not in repr(decode(text, store="aws", secret="s").password)


def identities(text: str) -> None:
    with judged("identity"):
        assert CANARY not in repr(oci_api_key(text, store="aws", secret="s"))
    with judged("identity"):
        key = aws_access_key(text, store="aws", secret="s")
        assert CANARY in key.access_key_id or CANARY not in repr(key)


READERS: list[Callable[[str], None]] = [app_user, connection, blob, for_an_application, identities]


@inputs(200)
@given(mutated(APP_USER))
def test_a_mutated_app_user(document: Json) -> None:
    for read in READERS:
        read(spelled(document))


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
