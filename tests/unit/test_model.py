"""A `SecretStr` never shows its value; verifiers made on the client equal the servers'."""

import base64
import copy
import dataclasses
import json
import pickle
import pprint
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from lockstep.databases import verifiers
from lockstep.protocol.model import MASK, CredentialValue, Login, SecretStr, StoredValue

# Too long to be part of the mask or of a class name by chance. Lone surrogates come from JSON escapes.
secrets = st.text(st.characters(), min_size=12, max_size=60).filter(lambda s: s not in MASK)


@given(secrets)
def test_no_text_of_a_secret_shows_its_value(value: str) -> None:
    secret = SecretStr(value)
    login = Login("app", secret)
    stored = StoredValue(login=login, generation=1, blob_generation=1, version="v")
    texts = [
        write(thing)
        for thing in (secret, login, CredentialValue(1, login), stored, [secret], {"k": secret}, (login,))
        for write in (str, repr, "{}".format, "{!r:>90}".format, pprint.pformat)
    ]
    assert all(value not in text and repr(value)[1:-1] not in text for text in texts)
    assert {format(secret, spec) for spec in ("", ">40", "s", "<3", "^100")} == {MASK}


@pytest.mark.parametrize(
    "leak",
    [
        copy.copy,
        copy.deepcopy,
        hash,
        lambda secret: json.dumps({"password": secret}),
        lambda secret: dataclasses.asdict(Login("app", secret)),
        lambda secret: pickle.dumps(Login("app", secret)),
        vars,
        "".join,
        lambda secret: TypeAdapter(object).dump_json(secret),
    ],
)
def test_operations_that_would_copy_it_are_refused_without_quoting_it(leak: object) -> None:
    assert callable(leak)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - TypeError mostly; pydantic has one of its own
        leak(SecretStr("hunter2-hunter2"))
    assert "hunter2" not in str(caught.value)


@given(secrets, secrets)
def test_secrets_are_equal_if_their_values_are(one: str, other: str) -> None:
    assert SecretStr(one) == SecretStr(one)
    assert (SecretStr(one) == SecretStr(other)) == (one == other)
    assert SecretStr(one) != one
    assert SecretStr(one).reveal() == one


# Verifiers


def test_scram_sha_256_has_the_keys_of_rfc_7677() -> None:
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    verifier = verifiers.scram_sha_256(SecretStr("pencil"), lambda _: salt)
    assert verifier.reveal() == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


def test_verifiers_of_mysql_and_mariadb_have_their_form() -> None:
    # The result of SELECT PASSWORD('password').
    native = verifiers.mysql_native_password(SecretStr("password"))
    assert native.reveal() == "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19"
    verifier = verifiers.caching_sha2_password(SecretStr("hashcat"), lambda size: bytes(range(size))).reveal()
    salt = "./0123456789ABCDEFGH"
    assert verifier == f"$A$005${salt}{verifiers.sha256_crypt(b'hashcat', salt.encode(), 5000)}"
    assert len(verifier) == 70


def test_the_salt_of_caching_sha2_password_needs_no_escaping() -> None:
    harmless = set(string.ascii_letters + string.digits + "./")
    for first in range(0, 256, 20):
        salt = bytes((first + i) % 256 for i in range(20))
        verifier = verifiers.caching_sha2_password(SecretStr("p"), {20: salt}.__getitem__)
        assert set(verifier.reveal()[7:27]) <= harmless


@pytest.mark.parametrize(
    ("password", "salt", "rounds", "digest"),
    [
        # hashcat's example of mode 7401, "MySQL $A$ (sha256crypt)": a salt of twenty bytes, not all printable.
        (
            b"hashcat",
            bytes.fromhex("F9CC98CE08892924F50A213B6BC571A2C11778C5"),
            5000,
            "bTy95Y99eAME1dwEkHOA1ndHGBWz.1bxSSRkuTXFGV/",
        ),
        # Results of glibc's crypt(3) for `$5$`.
        (b"a" * 64, b"0123456789abcdef", 5000, "syekyCzp6hvow/WAUMJORMM0QQUnWDT71nqHVDZ7b0D"),
        (b"", b"s", 1000, "cdjvTno7yp4OJ1Yyxn95LrCQTyxHsv3TK6lXb48P4L1"),
    ],
)
def test_sha256_crypt_has_known_digests(password: bytes, salt: bytes, rounds: int, digest: str) -> None:
    assert verifiers.sha256_crypt(password, salt, rounds) == digest
