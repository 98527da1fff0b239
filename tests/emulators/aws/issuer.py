"""An issuer of tokens outside AWS, with documents that are right until a test changes them."""

import json
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import RSAAlgorithm

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.oci.names import Answer

HOST = "objectstorage.eu-frankfurt-1.oraclecloud.com"
ADDRESS = f"{HOST}/n/ns/b/issuer/o"
AUDIENCE = "sts.amazonaws.com"
SUBJECT = "runner"


@dataclass
class Issuer:
    """It is served by name from the start.

    Attributes:
        url: `iss` of its tokens.
        documents: What is served, by path.
        claims: What a token claims, with the time of the sandbox.
    """

    aws: AwsSandbox
    now: float
    url: str = f"https://{ADDRESS}"
    kid: str = "key-1"
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    documents: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        path = self.url.removeprefix(f"https://{HOST}")
        self.documents = {
            f"{path}/.well-known/openid-configuration": {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/jwks.json",
            },
            f"{path}/jwks.json": {"keys": [self.jwk()]},
        }
        self.aws.names.serve(HOST, self._answer)

    @property
    def discovery(self) -> Any:  # noqa: ANN401 - any JSON
        """The discovery document, to be changed."""
        return next(iter(self.documents.values()))

    def jwk(self, **changed: object) -> dict[str, Any]:
        """Its public key."""
        own = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {**own, "kid": self.kid, "use": "sig", "alg": "RS256", **changed}

    def publish(self, *keys: object) -> None:
        """Publish these keys instead."""
        self.documents[list(self.documents)[1]] = {"keys": keys}

    def claims(self, **changed: object) -> dict[str, Any]:
        """What a good token claims; None leaves a claim out."""
        now = int(self.now)
        good = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": SUBJECT,
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "jti": "1",
        }
        return {name: value for name, value in {**good, **changed}.items() if value is not None}

    def token(self, **changed: object) -> str:
        """A token."""
        return jwt.encode(self.claims(**changed), self.key, "RS256", {"kid": self.kid})

    def token_by(self, algorithm: str, **headers: object) -> str:
        """A token that is signed in another way, or has these headers in place of its own."""
        keys: dict[str, Any] = {
            "none": None,
            "HS256": self.jwk()["n"],
            "ES256": ec.generate_private_key(ec.SECP256R1()),
        }
        return jwt.encode(
            self.claims(), keys.get(algorithm, self.key), algorithm, headers or {"kid": self.kid}
        )

    def _answer(self, target: str) -> Answer:
        if target not in self.documents:
            return Answer(404)
        document = self.documents[target]
        return Answer(200, document if isinstance(document, bytes) else json.dumps(document).encode())
