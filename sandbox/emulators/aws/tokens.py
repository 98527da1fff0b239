"""JSON Web Tokens: made by AWS's issuer, and read by AWS when others have made them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

_LEAST_RSA_BITS: Final = 2048


class TokenError(Exception):
    """A token or a key is not what it must be; the text says why."""


@dataclass(frozen=True)
class Token:
    """A token that was read, and not yet believed."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any] = field(repr=False)
    text: str = field(repr=False)


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
        """A token that is signed by RS256 or ES384."""
        key = self.rsa_key if algorithm == "RS256" else self.ec_key
        return jwt.encode(dict(claims), key, algorithm, headers={"kid": self._id(algorithm)})

    def published(self) -> list[dict[str, str]]:
        """The public keys, as a JSON Web Key Set has them."""
        curve = ECAlgorithm.to_jwk(self.ec_key.public_key(), as_dict=True)
        plain = RSAAlgorithm.to_jwk(self.rsa_key.public_key(), as_dict=True)
        return [
            {**{name: curve[name] for name in ("kty", "crv", "x", "y")}, **self._names("ES384")},
            {**{name: plain[name] for name in ("kty", "n", "e")}, **self._names("RS256")},
        ]

    def _names(self, algorithm: str) -> dict[str, str]:
        return {"kid": self._id(algorithm), "use": "sig", "alg": algorithm}

    def _id(self, algorithm: str) -> str:
        return f"{'RSA' if algorithm == 'RS256' else 'EC384'}_{self.generation}"


def parse(text: str) -> Token:
    """Read a token without believing it.

    Raises:
        TokenError: It is no signed token.
    """
    try:
        read = jwt.decode_complete(text, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        raise TokenError("not a signed token") from error
    return Token(read["header"], read["payload"], text)


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
    try:
        public = RSAAlgorithm.from_jwk(dict(found[0]))
        if not isinstance(public, rsa.RSAPublicKey) or public.key_size < _LEAST_RSA_BITS:
            raise TokenError("the key is not a long public key")
        jwt.api_jws.decode(token.text, public, algorithms=["RS256"])
    except (jwt.PyJWTError, TypeError, ValueError) as error:
        raise TokenError("the signature is wrong") from error
