"""JSON Web Tokens that a service signs, whose key nobody can have (RFC 7515, RFC 7519).

Who gets a token verifies it. Here one is only made, or read for what the other side says of its own session.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

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
