"""Sessions between the clouds: the issuer of the OCI runner's tokens, and what keeps a session until it ends.

The issuer has two documents: where they are, and which keys they name (RFC 7515, RFC 7519).

A verifier reads `<issuer>/.well-known/openid-configuration` (OpenID Connect Discovery 1.0, 4) and from there the key
set (RFC 7517), and takes every token that one of its keys has signed. So whoever writes the documents is the issuer.
The keys stay in OCI Vault; a key's `kid` is the OCID of its version.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock, local
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from lockstep.protocol.errors import DeadlineExceededError
from lockstep.protocol.ports import Clock
from lockstep.protocol.strict_json import Message, MessageError, object_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

CONFIGURATION: Final = ".well-known/openid-configuration"
KEYS: Final = "jwks.json"
CONTENT_TYPE: Final = "application/json"
CACHE_SECONDS: Final = 60
"""How long what stands between the bucket and a verifier may keep a document."""
CACHE_CONTROL: Final = f"public, max-age={CACHE_SECONDS}"
ALGORITHM: Final = "RS256"
_LEAST_BITS: Final = 2048
_CERTIFICATES: Final = {"x5c", "x5u"}
"""Members of a key in which another key may stand (RFC 7517 4.6, 4.7)."""
_CLAIMS: Final = ("iss", "aud", "sub", "iat", "nbf", "exp", "jti")
_PLACE = re.compile(
    r"https://(?:[a-z0-9-]+\.)?objectstorage\.(?P<region>[a-z0-9-]+)\.(?:oraclecloud|oci\.customer-oci)\.com"
    r"/n/(?P<namespace>[^/]+)/b/(?P<bucket>[^/]+)/o(?P<prefix>(?:/[^/]+)*)"
)
_CRYPTO = re.compile(r"https://[a-z0-9-]+-crypto\.kms\.(?P<region>[a-z0-9-]+)\.(?:oci\.)?[a-z0-9.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an issuer's documents are in Object Storage.

    Attributes:
        prefix: Before the names of the objects; empty, or with a slash at its end.
    """

    region: str
    namespace: str
    bucket: str
    prefix: str = ""


Jwk = Mapping[str, str]
"""A version of the key, as a key set has it (RFC 7517, RFC 7518 6.3.1). Its `kid` is the OCID of the version."""


def place_of(issuer: str) -> Place | None:
    """The place that the address of a bucket names; None: the address is not Object Storage's own."""
    found = _PLACE.fullmatch(issuer)
    if found is None:
        return None
    prefix = found["prefix"].strip("/")
    return Place(
        region=found["region"],
        namespace=found["namespace"],
        bucket=found["bucket"],
        prefix=f"{prefix}/" if prefix else "",
    )


def region_of(endpoint: str) -> str | None:
    """The region of a vault, by its cryptographic endpoint; None: the address is not one of OCI's."""
    found = _CRYPTO.fullmatch(endpoint)
    return found["region"] if found else None


def management_endpoint(endpoint: str) -> str:
    """Where a vault's keys are managed, by its cryptographic endpoint."""
    return endpoint.replace("-crypto.kms.", "-management.kms.", 1)


def public_key(kid: str, pem: str) -> Jwk:
    """A key from what the vault shows of it.

    Raises:
        MessageError: It is not an RSA key, or shorter than 2,048 bits.
    """
    try:
        numbers = rsa_key(pem).public_numbers()
    except ValueError:
        raise MessageError("must be an RSA key of 2,048 bits or more") from None
    return {
        "kty": "RSA",
        "use": "sig",
        "alg": ALGORITHM,
        "kid": kid,
        "n": _base64url(numbers.n),
        "e": _base64url(numbers.e),
    }


def rsa_key(text: str) -> "RSAPublicKey":
    """A public key, as PEM or as the base64 of its DER.

    Raises:
        ValueError: It is not an RSA key, or shorter than 2,048 bits.
    """
    # Few functions and commands need it.
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        load_der_public_key,
        load_pem_public_key,
    )

    if text.startswith("-----"):
        key = load_pem_public_key(text.encode())
    else:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    if not isinstance(key, RSAPublicKey) or key.key_size < _LEAST_BITS:
        raise ValueError("not an RSA key")
    return key


def configuration(issuer: str) -> bytes:
    """The document of discovery."""
    return _text(
        {
            "issuer": issuer,
            "jwks_uri": f"{issuer}/{KEYS}",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "claims_supported": list(_CLAIMS),
        }
    )


def key_set(keys: Sequence[Jwk]) -> bytes:
    """The key set, in the order given."""
    return _text({"keys": [*keys]})


def published_keys(document: bytes) -> Mapping[str, Mapping[str, Any]] | None:
    """The keys of a key set that was read, by their `kid`; None: it is no key set, or a key has none."""
    keys = object_of(document).get("keys")
    if not isinstance(keys, list) or not all(
        isinstance(k, dict) and isinstance(k.get("kid"), str) for k in keys
    ):
        return None
    found = {key["kid"]: key for key in keys}
    return found if len(found) == len(keys) else None


def is_of_issuer(document: bytes, issuer: str) -> bool:
    """Whether a document of discovery is this issuer's, perhaps an older one."""
    found = object_of(document)
    return found.get("issuer") == issuer and found.get("jwks_uri") == f"{issuer}/{KEYS}"


def strangers(document: bytes, known: Mapping[str, Jwk]) -> Sequence[str]:
    """What a key set holds that is not of the issuer's key: tokens of others are taken for the issuer's.

    Args:
        document: The key set that was read.
        known: The versions of the key, by their `kid`, also those that are not in use any more.
    """
    found = published_keys(document)
    if found is None:
        return ("a document that is no key set",)
    return sorted(
        kid
        for kid, key in found.items()
        if kid not in known
        or _CERTIFICATES & key.keys()
        or any(key.get(name) != value for name, value in known[kid].items())
    )


def _text(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2) + "\n").encode()


def _base64url(number: int) -> str:
    return _encoded(number.to_bytes((number.bit_length() + 7) // 8))


# JSON Web Tokens that a service signs, whose key nobody can have (RFC 7515, RFC 7519).
#
# Who gets a token verifies it. Here one is only made, or read for what the other side says of its own session.

BACKDATED = timedelta(minutes=1)
"""By how much a clock may be ahead of that of who verifies."""
LIFETIME = timedelta(minutes=5)
"""Of a token from its `iat` on. It is used at once."""
_MOST_CHARACTERS = 65536
_SIGNED = re.compile(r"[A-Za-z0-9_-]+\.(?P<claims>[A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
"""The compact form of a signed token (RFC 7515 7.1). Whatever else came could not be sent on in a header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """Makes tokens of one key.

    Attributes:
        kid: By which the verifier finds the key.
        sign: The signature of a SHA-256 digest, by RSASSA-PKCS1-v1_5.
        new_id: An id that was never used.
    """

    kid: str
    sign: Callable[[bytes], bytes]
    new_id: Callable[[], str]

    def token(self, *, issuer: str, subject: str, audience: str, now: datetime) -> str:
        """A token for a few minutes."""
        issued = now - BACKDATED
        header = {"alg": "RS256", "typ": "JWT", "kid": self.kid}
        claims = {
            "iss": issuer,
            "sub": subject,
            "aud": audience,
            "iat": int(issued.timestamp()),
            "exp": int((issued + LIFETIME).timestamp()),
            "jti": self.new_id(),
        }
        signed = f"{_encoded(_json(header))}.{_encoded(_json(claims))}"
        return f"{signed}.{_encoded(self.sign(hashlib.sha256(signed.encode()).digest()))}"


def seconds_of(token: str) -> float | None:
    """How long a token lives from its making to its end, as it says itself, unverified; None: it says nothing of both.

    Both times are of one clock, so it does not matter how this machine's is set.
    """
    form = _SIGNED.fullmatch(token) if len(token) <= _MOST_CHARACTERS else None
    if form is None:
        return None
    claims = form["claims"]
    try:
        text = base64.b64decode(claims + "=" * (-len(claims) % 4), altchars=b"-_", validate=True)
        found = json.loads(text)
        made, ends = (found.get(name) if isinstance(found, dict) else None for name in ("iat", "exp"))
        return float(ends - made) if type(made) is int and type(ends) is int else None
    except (ValueError, OverflowError, RecursionError):
        # The parser's own message quotes the token, so it is dropped.
        return None


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


class IssuerKey(Message):
    """The key that signs the OCI runner's tokens; attributes as in `lockstep.plan.runners.IssuerKeySection`."""

    id: str
    version: str
    endpoint: str


# Sessions that end by themselves, and are replaced before: one for all threads of a process (protocol R19).

T = TypeVar("T")

EARLY_SECONDS = 60.0
"""Before its end in which a session is renewed."""
AGAIN_SECONDS = 10.0
"""After a renewal that has failed, in which none is tried while the old session still works."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedSession(Generic[T]):
    """A new session.

    Attributes:
        session: What signs requests.
        seconds: From the first request for it to its end, at least.
    """

    session: T = field(repr=False)
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held(Generic[T]):
    made: IssuedSession[T]
    monotonic: float
    now: datetime

    def left(self, clock: Clock) -> float:
        """Seconds to its end.

        The monotonic clock may stand still while a function is frozen, and the wall clock may be set back: the one
        that has gone further counts. Neither is compared with a clock of somebody else.
        """
        passed = max(clock.monotonic() - self.monotonic, (clock.now() - self.now).total_seconds())
        return self.made.seconds - passed


class Sessions(Generic[T]):
    """The current session.

    One thread at a time makes a new one. Others go on with the old one as long as that works, and else wait for the
    new one, or fail as it does.

    Args:
        make: Gives a new session.
        clock: Measures its age.
    """

    def __init__(self, make: Callable[[], IssuedSession[T]], clock: Clock) -> None:
        self._make = make
        self._clock = clock
        self._lock = Lock()
        self._held: _Held[T] | None = None
        self._coming: Future[T] | None = None
        """What other threads wait for."""
        self._not_before = float("-inf")
        self._last = local()

    def __call__(self) -> T:
        """The session to sign with.

        Raises:
            SessionFailure, LockstepError: There is none, and none can be had.
        """
        session = self._last.session = self._current()
        return session

    def _current(self) -> T:
        while True:
            with self._lock:
                if (session := self._fresh()) is not None:
                    return session
                coming, is_first = self._coming or Future(), self._coming is None
                self._coming = coming
            if is_first:
                return self._renewed(coming)
            if (session := self._usable()) is not None:
                return session
            # The other thread's step may have ended, which is no reason here. Then this one asks.
            with suppress(DeadlineExceededError):
                return coming.result()

    def drop(self) -> None:
        """Use the session no more that this thread was given last: it was refused."""
        with self._lock:
            if self._held and self._held.made.session is getattr(self._last, "session", None):
                self._held = None

    def _renewed(self, coming: Future[T]) -> T:
        began, now = self._clock.monotonic(), self._clock.now()
        try:
            made = self._make()
        except BaseException as error:
            with self._lock:
                self._coming = None
                self._not_before = self._clock.monotonic() + AGAIN_SECONDS
            session = self._usable()
            if session is None:
                coming.set_exception(error)
                raise
            coming.set_result(session)
            return session
        with self._lock:
            self._held, self._coming = _Held(made=made, monotonic=began, now=now), None
        coming.set_result(made.session)
        return made.session

    def _fresh(self) -> T | None:
        """The session, if it is not to be renewed now."""
        held = self._held
        if held is None:
            return None
        left = held.left(self._clock)
        early = min(EARLY_SECONDS, held.made.seconds / 2)
        waits = 0 < left <= early and self._clock.monotonic() < self._not_before
        return held.made.session if left > early or waits else None

    def _usable(self) -> T | None:
        held = self._held
        return held.made.session if held and held.left(self._clock) > 0 else None


# Identities and tokens that files give: replaced by whoever renews them, at any time.

Stamps = tuple[tuple[str, object], ...]
"""Names of files, each with what changes where it is written, replaced, made, removed, or its owner or mode changes."""


def stamps_of(*files: str) -> Stamps:
    """What is there now."""
    return tuple((file, _stamp(file)) for file in files)


def _stamp(file: str) -> object:
    try:
        found = os.stat(os.path.expanduser(file))  # noqa: PTH111, PTH116 - a variable may name no path at all
    except (OSError, ValueError):
        return None
    return (
        found.st_dev,
        found.st_ino,
        found.st_mtime_ns,
        found.st_size,
        found.st_mode,
        found.st_uid,
        found.st_gid,
    )
