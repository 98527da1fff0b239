"""Verifiers made on the client equal those that the servers make."""

import base64
import string

import pytest

from lockstep.databases.verifiers import (
    caching_sha2_password,
    mysql_native_password,
    scram_sha_256,
    sha256_crypt,
)
from lockstep.protocol.model import SecretStr


def test_scram_sha_256_has_the_keys_of_rfc_7677() -> None:
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    verifier = scram_sha_256(SecretStr("pencil"), lambda _: salt)
    assert verifier.reveal() == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


def test_mysql_native_password_equals_mariadbs() -> None:
    # The result of SELECT PASSWORD('password').
    verifier = mysql_native_password(SecretStr("password"))
    assert verifier.reveal() == "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19"


def test_caching_sha2_password_holds_rounds_salt_and_digest() -> None:
    verifier = caching_sha2_password(SecretStr("hashcat"), lambda size: bytes(range(size))).reveal()
    salt = "./0123456789ABCDEFGH"
    assert verifier == f"$A$005${salt}{sha256_crypt(b'hashcat', salt.encode(), 5000)}"
    assert len(verifier) == 70


def test_the_salt_of_caching_sha2_password_needs_no_escaping() -> None:
    harmless = set(string.ascii_letters + string.digits + "./")
    for first in range(0, 256, 20):
        salt = bytes((first + i) % 256 for i in range(20))
        verifier = caching_sha2_password(SecretStr("p"), {20: salt}.__getitem__)
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
        (b"Hello world!", b"saltstringsaltst", 10000, "3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"),
        (b"", b"s", 1000, "cdjvTno7yp4OJ1Yyxn95LrCQTyxHsv3TK6lXb48P4L1"),
    ],
)
def test_sha256_crypt_has_known_digests(password: bytes, salt: bytes, rounds: int, digest: str) -> None:
    assert sha256_crypt(password, salt, rounds) == digest
