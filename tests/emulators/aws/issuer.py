"""An issuer of tokens outside AWS, with documents that are right until a test changes them."""

import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.oci.wire import Reply

HOST = "objectstorage.eu-frankfurt-1.oraclecloud.com"
ADDRESS = f"{HOST}/n/ns/b/issuer/o"
AUDIENCE = "sts.amazonaws.com"
SUBJECT = "runner"


@cache
def rsa_key(_number: int) -> rsa.RSAPrivateKey:
    """A key, the same whenever it is asked for: making one takes long."""
    return rsa.generate_private_key(65537, 2048)


@dataclass
class Issuer:
    """It is served by name from the start.

    Attributes:
        url: `iss` of its tokens.
        discovery: The discovery document.
        keys: The key set.
    """

    aws: AwsSandbox
    now: float
    url: str = f"https://{ADDRESS}"
    kid: str = "key-1"
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa_key(1))
    discovery: dict[str, Any] = field(default_factory=dict)
    keys: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.discovery = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks.json"}
        self.keys = [self.jwk()]
        self.aws.names.serve(HOST, self._answer)

    def jwk(self, **changed: object) -> dict[str, Any]:
        """Its public key."""
        own = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {**own, "kid": self.kid, "use": "sig", "alg": "RS256", **changed}

    def token(self, *, kid: str | None = None, **changed: object) -> str:
        """A token; None leaves a claim out."""
        now = int(self.now)
        good = {"iss": self.url, "aud": AUDIENCE, "sub": SUBJECT, "iat": now, "nbf": now, "exp": now + 300}
        claims = {name: value for name, value in {**good, **changed}.items() if value is not None}
        return jwt.encode(claims, self.key, "RS256", {"kid": kid or self.kid})

    def _answer(self, target: str) -> Reply:
        path = self.url.removeprefix(f"https://{HOST}")
        documents: dict[str, object] = {
            f"{path}/.well-known/openid-configuration": self.discovery,
            f"{path}/jwks.json": {"keys": self.keys},
        }
        return Reply(200, body=json.dumps(documents[target]).encode()) if target in documents else Reply(404)
