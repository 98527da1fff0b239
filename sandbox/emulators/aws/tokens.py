"""JSON Web Tokens: made by AWS's issuer, and read by AWS when others have made them.

RFC 7515 (signatures), RFC 7517 and RFC 7518 (keys).
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

_COORDINATE_BYTES: Final = 48
_LEAST_RSA_BITS: Final = 2048
_SEGMENT = re.compile(r"[A-Za-z0-9_-]*")


class TokenError(Exception):
    """A token or a key is not what it must be; the text says why."""


@dataclass(frozen=True)
class Token:
    """A token that was read, and not yet believed."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


@dataclass(frozen=True)
class SigningKeys:
    """An issuer's keys of one generation, one for each algorithm.

    Attributes:
        generation: Tells them from others; part of their ids.
    """

    generation: int
    rsa_key: rsa.RSAPrivateKey = field(
        repr=False, default_factory=lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )
    ec_key: ec.EllipticCurvePrivateKey = field(
        repr=False, default_factory=lambda: ec.generate_private_key(ec.SECP384R1())
    )

    def sign(self, algorithm: str, claims: Mapping[str, Any]) -> str:
        """A signed token.

        Args:
            algorithm: RS256 or ES384.
            claims: What it claims.
        """
        header = {"alg": algorithm, "kid": self._id(algorithm), "typ": "JWT"}
        signed = f"{_encoded(_compact(header))}.{_encoded(_compact(claims))}"
        if algorithm == "RS256":
            signature = self.rsa_key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        else:
            r, s = decode_dss_signature(self.ec_key.sign(signed.encode(), ec.ECDSA(hashes.SHA384())))
            signature = r.to_bytes(_COORDINATE_BYTES) + s.to_bytes(_COORDINATE_BYTES)
        return f"{signed}.{_encoded(signature)}"

    def published(self) -> list[dict[str, str]]:
        """The public keys, as a JSON Web Key Set has them."""
        plain, curve = self.rsa_key.public_key().public_numbers(), self.ec_key.public_key().public_numbers()
        return [
            {
                "kty": "EC",
                "kid": self._id("ES384"),
                "use": "sig",
                "alg": "ES384",
                "crv": "P-384",
                "x": _encoded(curve.x.to_bytes(_COORDINATE_BYTES)),
                "y": _encoded(curve.y.to_bytes(_COORDINATE_BYTES)),
            },
            {
                "kty": "RSA",
                "kid": self._id("RS256"),
                "use": "sig",
                "alg": "RS256",
                "n": _encoded(plain.n.to_bytes((plain.n.bit_length() + 7) // 8)),
                "e": _encoded(plain.e.to_bytes((plain.e.bit_length() + 7) // 8)),
            },
        ]

    def _id(self, algorithm: str) -> str:
        return f"{'RSA' if algorithm == 'RS256' else 'EC384'}_{self.generation}"


def parse(text: str) -> Token:
    """Read a token without believing it.

    Raises:
        TokenError: It is no signed token.
    """
    parts = text.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, claims, signature
        raise TokenError("not three parts")
    header, claims = (_mapping(_decoded(part)) for part in parts[:2])
    return Token(header, claims, f"{parts[0]}.{parts[1]}".encode(), _decoded(parts[2]))


def verify_rs256(token: Token, keys: Mapping[str, Any]) -> None:
    """Check a token's signature by the key of the set that its header names.

    Args:
        token: It must be signed by RS256.
        keys: A JSON Web Key Set, with keys of any kind.

    Raises:
        LookupError: The set has no RSA key for signatures of this id.
        TokenError: The algorithm is another one, the key is not good, or the signature is wrong.
    """
    if token.header.get("alg") != "RS256" or "crit" in token.header:
        raise TokenError("the algorithm is not RS256")
    listed = keys.get("keys")
    found = [
        key
        for key in (listed if isinstance(listed, list) else [])
        if isinstance(key, Mapping)
        and key.get("kid") == token.header.get("kid")
        and key.get("kty") == "RSA"
        and key.get("use", "sig") == "sig"
        and key.get("alg", "RS256") == "RS256"
    ]
    if len(found) != 1:
        raise LookupError("no key of this id")
    n, e = (int.from_bytes(_decoded(str(found[0].get(name, "")))) for name in ("n", "e"))
    if n.bit_length() < _LEAST_RSA_BITS:
        raise TokenError("the key is too short")
    try:
        public = rsa.RSAPublicNumbers(e, n).public_key()
        public.verify(token.signature, token.signed, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError) as error:
        raise TokenError("the signature is wrong") from error


def _mapping(raw: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise TokenError("not JSON") from error
    if not isinstance(value, dict):
        raise TokenError("not a JSON object")
    return value


def _decoded(text: str) -> bytes:
    if not _SEGMENT.fullmatch(text):
        raise TokenError("not base64url")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise TokenError("not base64url") from error


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _compact(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
