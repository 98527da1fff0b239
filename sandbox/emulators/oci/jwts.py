"""Reading signed tokens strictly: RS256 alone, by a key that the reader knows, and by the sandbox's clock."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from jwt.types import Options

ALGORITHM: Final = "RS256"
LEAST_BITS: Final = 2048
"""What an RSA key must have."""
# Times are checked here, by the sandbox's clock, and the rest by the caller.
_SIGNATURE_ALONE: Final[Options] = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}

Claims = Mapping[str, Any]
"""What a token says."""


class BadTokenError(Exception):
    """The token is not to be believed; the text says why, without quoting it."""


class ExpiredTokenError(BadTokenError):
    """It was to be believed until a time that has passed."""


@dataclass(frozen=True, slots=True)
class Unverified:
    """What a token says before anything is proven.

    Attributes:
        kid: Names the key that signed it.
        issuer: Who says to have signed it.
    """

    kid: str
    issuer: str


def unverified(token: str) -> Unverified:
    """What is needed to find the key that verifies a token.

    Raises:
        BadTokenError: It is no token, names no key or issuer, or is signed in another way than RS256.
    """
    try:
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        raise BadTokenError("it is not a signed JWT") from error
    if header.get("alg") != ALGORITHM or "crit" in header:
        raise BadTokenError(f"it is not signed with {ALGORITHM} alone")
    kid, issuer = header.get("kid"), claims.get("iss")
    if not isinstance(kid, str) or not isinstance(issuer, str):
        raise BadTokenError("it names no key or no issuer")
    return Unverified(kid, issuer)


def verified(token: str, key: rsa.RSAPublicKey, *, now: datetime) -> Claims:
    """What a token says, after the proof of its signature and of its times.

    Args:
        token: The token.
        key: Verifies it.
        now: The time, aware.

    Raises:
        BadTokenError: The signature is another's, or it is expired or not valid yet.
    """
    try:
        claims: Claims = jwt.decode(token, key, algorithms=[ALGORITHM], options=_SIGNATURE_ALONE)
    except jwt.PyJWTError as error:
        raise BadTokenError("its signature is not valid") from error
    if moment_of(claims, "exp") <= now:
        raise ExpiredTokenError("it is expired")
    for name in ("iat", *(["nbf"] if "nbf" in claims else [])):
        if moment_of(claims, name) > now:
            raise BadTokenError(f"its {name} is in the future")
    return claims


def moment_of(claims: Claims, name: str) -> datetime:
    """A time in a token.

    Raises:
        BadTokenError: It is not there, or no number.
    """
    value = claims.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise BadTokenError(f"it has no {name}")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise BadTokenError(f"its {name} is no time") from error


def audiences(claims: Claims, name: str = "aud") -> list[str]:
    """The values of a claim that may hold one or many."""
    value = claims.get(name)
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


def rsa_keys(document: bytes) -> dict[str, rsa.RSAPublicKey]:
    """The keys of a JWKS that verify RS256, by their ids; keys of other kinds are passed over.

    Raises:
        BadTokenError: It is no JWKS.
    """
    try:
        listed = json.loads(document)["keys"]
        fitting = [
            one
            for one in listed
            if one["kty"] == "RSA" and one.get("alg") in {None, ALGORITHM} and one.get("use") in {None, "sig"}
        ]
        keys = {str(one["kid"]): _public(one) for one in fitting}
    except (ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
        raise BadTokenError("the issuer's JWKS is malformed") from error
    if len(keys) < len(fitting):
        raise BadTokenError("the issuer's JWKS has two keys of one id")
    return keys


def _public(jwk: Claims) -> rsa.RSAPublicKey:
    key = RSAAlgorithm.from_jwk(dict(jwk))
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < LEAST_BITS:
        raise ValueError("not a long public key")
    return key


def jwk_of(key: rsa.RSAPublicKey, kid: str) -> dict[str, Any]:
    """A key as a JWK."""
    shown: dict[str, Any] = RSAAlgorithm.to_jwk(key, as_dict=True)
    fields = {"kty": "RSA", "n": shown["n"], "e": shown["e"]}
    return {**fields, "kid": kid, "alg": ALGORITHM, "use": "sig"}


def signed(claims: Claims, key: rsa.RSAPrivateKey, kid: str) -> str:
    """A token."""
    return jwt.encode(dict(claims), key, algorithm=ALGORITHM, headers={"kid": kid})
