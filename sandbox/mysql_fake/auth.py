"""Password verifiers and challenges of MySQL's authentication plugins.

Sources: MySQL internals, "Caching_sha2_password information" and "Native Authentication"; U. Drepper,
"Unix crypt using SHA-256 and SHA-512" (the hash that caching_sha2_password stores, with a salt of 20 bytes).
"""

import hmac
from collections.abc import Callable, Iterable
from hashlib import sha1, sha256
from threading import Lock

CACHING_SHA2 = "caching_sha2_password"
NATIVE = "mysql_native_password"

NONCE_LENGTH = 20
MAX_PASSWORD_LENGTH = 256  # bytes; caching_sha2_password takes no longer one

_HEADER = b"$A$005$"  # SHA-256, 5 times 1000 rounds: the default of caching_sha2_password_digest_rounds
_ROUNDS = 5000
_SALT_LENGTH = 20
_DIGEST_LENGTH = 43
_NATIVE_DIGITS = 40
_ALPHABET = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def random_text(length: int, random_bytes: Callable[[int], bytes]) -> bytes:
    """Random seven-bit bytes as MySQL makes its salts and nonces: neither NUL nor `$` among them."""
    seven_bits = (byte & 0x7F for byte in random_bytes(length))
    return bytes(byte + 1 if byte in b"\0$" else byte for byte in seven_bits)


def make_verifier(plugin: str, password: bytes, random_bytes: Callable[[int], bytes]) -> bytes:
    """What the server stores for a password: `mysql.user.authentication_string`. Empty for an empty password."""
    if not password:
        return b""
    if plugin == NATIVE:
        return b"*" + sha1(sha1(password).digest()).hexdigest().upper().encode()  # noqa: S324  the plugin's hash
    salt = random_text(_SALT_LENGTH, random_bytes)
    return _HEADER + salt + sha256_crypt(password, salt)


def is_verifier(plugin: str, text: bytes) -> bool:
    """Whether `IDENTIFIED WITH plugin AS` takes this string; the empty one stands for an empty password."""
    if not text:
        return True
    if plugin == NATIVE:
        digits = text.removeprefix(b"*")
        return len(digits) == _NATIVE_DIGITS == len(text) - 1 and all(
            c in b"0123456789ABCDEFabcdef" for c in digits
        )
    return text.startswith(_HEADER) and len(text) == len(_HEADER) + _SALT_LENGTH + _DIGEST_LENGTH


def matches(plugin: str, verifier: bytes, password: bytes) -> bool:
    """Whether a verifier was made of this password."""
    if not verifier or not password:
        return not verifier and not password
    if plugin == NATIVE:
        return hmac.compare_digest(verifier.upper(), make_verifier(NATIVE, password, bytes))
    salt, digest = verifier[len(_HEADER) : -_DIGEST_LENGTH], verifier[-_DIGEST_LENGTH:]
    return len(password) <= MAX_PASSWORD_LENGTH and hmac.compare_digest(digest, sha256_crypt(password, salt))


def native_matches(verifier: bytes, nonce: bytes, scramble: bytes) -> bool:
    """Whether a client's mysql_native_password answer to the nonce proves the password of the verifier."""
    if not verifier or not scramble:
        return not verifier and not scramble
    if len(scramble) != sha1(usedforsecurity=False).digest_size:
        return False
    stored = bytes.fromhex(verifier[1:].decode())
    mask = sha1(nonce + stored).digest()  # noqa: S324  the plugin's hash
    return hmac.compare_digest(sha1(_xor(scramble, mask)).digest(), stored)  # noqa: S324


class FastDigests:
    """The cache that gives caching_sha2_password its name.

    After a full authentication the server keeps SHA-256(SHA-256(password)) of the verifier that matched, and
    a later client proves the same password with one scramble, without sending it.
    """

    def __init__(self) -> None:
        self._digests: dict[bytes, bytes] = {}
        self._lock = Lock()

    def remember(self, verifier: bytes, password: bytes) -> None:
        """Keeps the digest of a password that was just proven."""
        with self._lock:
            self._digests[verifier] = sha256(sha256(password).digest()).digest()

    def forget(self, verifiers: Iterable[bytes]) -> None:
        """Drops verifiers, as a change of an account's credentials does."""
        with self._lock:
            for verifier in verifiers:
                self._digests.pop(verifier, None)

    def clear(self) -> None:
        """Drops all, as FLUSH PRIVILEGES and a restart do."""
        with self._lock:
            self._digests.clear()

    def proves(self, verifier: bytes, nonce: bytes, scramble: bytes) -> bool:
        """Whether the scramble proves the cached password; False also where nothing is cached."""
        with self._lock:
            digest = self._digests.get(verifier)
        if digest is None or len(scramble) != len(digest):
            return False
        once = _xor(scramble, sha256(digest + nonce).digest())
        return hmac.compare_digest(sha256(once).digest(), digest)


def sha256_crypt(password: bytes, salt: bytes) -> bytes:
    """SHA-crypt-256 with 5000 rounds, the 43 characters of the digest alone; the salt may have any length."""
    alternate = sha256(password + salt + password).digest()
    first = sha256(password + salt + _repeat(alternate, len(password)))
    length = len(password)
    while length:
        first.update(alternate if length & 1 else password)
        length >>= 1
    digest = first.digest()

    p = _repeat(sha256(password * len(password)).digest(), len(password))
    s = _repeat(sha256(salt * (16 + digest[0])).digest(), len(salt))
    # What surrounds the running digest depends on the round's remainder by 2, 3 and 7 alone.
    surroundings = []
    for i in range(42):
        middle = (s if i % 3 else b"") + (p if i % 7 else b"")
        surroundings.append((p + middle, b"") if i % 2 else (b"", middle + p))
    for i in range(_ROUNDS):
        before, after = surroundings[i % 42]
        digest = sha256(before + digest + after).digest()
    return _encode(digest)


def _encode(digest: bytes) -> bytes:
    """SHA-crypt's own base 64: bytes 0, 10, 20, then each group one step on, least significant digit first."""
    text = bytearray()
    a, b, c = 0, 10, 20
    for _ in range(10):
        text += _digits(digest[a] << 16 | digest[b] << 8 | digest[c], 4)
        a, b, c = c + 1, a + 1, b + 1
    return bytes(text + _digits(digest[31] << 8 | digest[30], 3))


def _digits(number: int, count: int) -> bytes:
    return bytes(_ALPHABET[number >> 6 * i & 0x3F] for i in range(count))


def _repeat(block: bytes, length: int) -> bytes:
    return (block * (length // len(block) + 1))[:length]


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
