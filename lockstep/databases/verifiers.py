"""Password verifiers made on the client, so that a server sees a hash and no password.

A verifier can be guessed against, so it is handed out as a `SecretStr` too.
"""

import base64
import hashlib
from collections.abc import Callable

from lockstep.protocol.model import SecretStr

SCRAM_ITERATIONS = 4096  # what PostgreSQL itself uses unless told otherwise (scram_iterations)
SCRAM_SALT_BYTES = 16

RandomBytes = Callable[[int], bytes]

# Alphabet of crypt(3), also used for salts: no quotes, no backslash, no `$`, which ends a salt.
_CRYPT_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SHA2_ROUNDS = 5000  # caching_sha2_password_digest_rounds' default, written as 005 (thousands, in hex)
_SHA2_SALT_LENGTH = 20


def scram_sha_256(password: SecretStr, random_bytes: RandomBytes) -> SecretStr:
    """PostgreSQL's verifier: given as PASSWORD it is stored as it is.

    RFC 5802 section 3, RFC 7677; the form is PostgreSQL's, see `pg_authid.rolpassword`. SASLprep (RFC 4013)
    changes no printable ASCII character, and generated passwords have no other.
    """
    # Imported here because it takes a tenth of a second, which runners without PostgreSQL need not wait for.
    from scramp import ScramMechanism  # type: ignore[import-untyped]  # noqa: PLC0415 - it ships no types

    salt, stored_key, server_key, _ = ScramMechanism("SCRAM-SHA-256").make_auth_info(
        password.reveal(), iteration_count=SCRAM_ITERATIONS, salt=random_bytes(SCRAM_SALT_BYTES)
    )
    return SecretStr(
        f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{_base64(salt)}${_base64(stored_key)}:{_base64(server_key)}"
    )


def mysql_native_password(password: SecretStr) -> SecretStr:
    """The verifier of the plugin `mysql_native_password`, on MariaDB and MySQL alike."""
    # The plugin prescribes SHA-1; a generated password is too long to be guessed.
    once = hashlib.sha1(password.reveal().encode()).digest()  # noqa: S324
    return SecretStr("*" + hashlib.sha1(once).hexdigest().upper())  # noqa: S324


def caching_sha2_password(password: SecretStr, random_bytes: RandomBytes) -> SecretStr:
    """The verifier of MySQL's plugin `caching_sha2_password`: SHA-crypt with a salt of twenty characters."""
    salt, digest = _sha2(password, random_bytes)
    return SecretStr(f"$A${_SHA2_ROUNDS // 1000:03X}${salt}{digest}")


def sha256_password(password: SecretStr, random_bytes: RandomBytes) -> SecretStr:
    """The verifier of MySQL's plugin `sha256_password`: the same digest, written as crypt(3) does."""
    salt, digest = _sha2(password, random_bytes)
    return SecretStr(f"$5${salt}${digest}")


def _sha2(password: SecretStr, random_bytes: RandomBytes) -> tuple[str, str]:
    salt = "".join(_CRYPT_ALPHABET[byte & 0x3F] for byte in random_bytes(_SHA2_SALT_LENGTH))
    return salt, sha256_crypt(password.reveal().encode(), salt.encode(), _SHA2_ROUNDS)


def sha256_crypt(password: bytes, salt: bytes, rounds: int) -> str:
    """The digest of SHA-crypt, without its prefix.

    Numbers in comments are the steps of U. Drepper, "Unix crypt using SHA-256 and SHA-512". Python's own
    `crypt` is deprecated, and libcrypt cuts the salt to sixteen characters where MySQL takes twenty.
    """
    size = len(password)
    b = hashlib.sha256(password + salt + password).digest()  # 4-8
    a = hashlib.sha256(password + salt + _stretched(b, size))  # 1-3, 9-10
    for bit in reversed(f"{size:b}" if size else ""):  # 11
        a.update(b if bit == "1" else password)
    digest = a.digest()  # 12
    p = _stretched(hashlib.sha256(password * size).digest(), size)  # 13-16
    s = _stretched(hashlib.sha256(salt * (16 + digest[0])).digest(), len(salt))  # 17-20
    for i in range(rounds):  # 21
        middle = (s if i % 3 else b"") + (p if i % 7 else b"")
        block = p + middle + digest if i % 2 else digest + middle + p
        digest = hashlib.sha256(block).digest()
    return _crypt_base64(digest)  # 22


def _crypt_base64(digest: bytes) -> str:
    """Step 22e: bytes 0, 10 and 20, then each 21 further on modulo 30, as four characters; lowest bits first."""
    text = ""
    for i in range(10):
        high, middle, low = (digest[(start + 21 * i) % 30] for start in (0, 10, 20))
        text += _characters(high << 16 | middle << 8 | low, 4)
    return text + _characters(digest[31] << 8 | digest[30], 3)


def _characters(bits: int, count: int) -> str:
    return "".join(_CRYPT_ALPHABET[bits >> 6 * i & 0x3F] for i in range(count))


def _stretched(block: bytes, size: int) -> bytes:
    return (block * (size // len(block) + 1))[:size]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
