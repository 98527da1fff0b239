"""An identity domain that trusts an issuer of elsewhere, with a client that may exchange its tokens."""

import base64
import json
from datetime import timedelta
from functools import cache
from typing import Any, Final
from urllib.parse import urlencode

import jwt
import urllib3
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.identity import new_private_key
from sandbox.emulators.oci.identity_domain import ASSERTION, EXCHANGE, RPST
from sandbox.emulators.oci.wire import Reply

HOST: Final = "0f3c7b1a.tokens.sts.global.api.aws"
ISSUER: Final = f"https://{HOST}"
ROLE: Final = "arn:aws:iam::123456789012:role/lockstep/runner"
SECRET: Final = "a-secret-of-the-client"
CLIENT: Final = "lockstep-client"


@cache
def key_named(name: str) -> rsa.RSAPrivateKey:
    """A key pair, the same whenever it is asked for: making one takes long."""
    del name
    return new_private_key()


@cache
def curve_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def spki(key: rsa.RSAPublicKey) -> str:
    """As `public_key` wants it."""
    return base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


class DomainCase:
    """Attributes: what the next request sends, and the next token says; None leaves a part out."""

    def __init__(self, sandbox: OciSandbox) -> None:
        self.sandbox = sandbox
        self.domain = sandbox.domain
        self.app = self.domain.new_app(
            CLIENT, secret=SECRET, certificates={"lockstep": key_named("client").public_key()}
        )
        self.trust = self.domain.new_trust(issuer=ISSUER, clients={CLIENT})
        self.published = ["one"]
        self.reads = 0
        sandbox.names.serve(HOST, self._jwks)
        self.basic: str | None = f"{CLIENT}:{SECRET}"

    def _jwks(self, target: str) -> Reply:
        if target != "/.well-known/jwks.json":
            return Reply(404)
        self.reads += 1
        curve = ECAlgorithm.to_jwk(curve_key().public_key(), as_dict=True) | {"kid": "curve", "use": "sig"}
        keys = [
            RSAAlgorithm.to_jwk(key_named(kid).public_key(), as_dict=True)
            | {"kid": kid, "alg": "RS256", "use": "sig"}
            for kid in self.published
        ]
        return Reply(200, body=json.dumps({"keys": [curve, *keys]}).encode())

    def seconds(self, later: int = 0) -> int:
        return int((self.sandbox.identity_clock.now() + timedelta(seconds=later)).timestamp())

    def subject_token(self, *, kid: str = "one", by: str | None = None, **changes: Any) -> str:  # noqa: ANN401 - claims
        """The issuer's token for the role; a change to None leaves a claim out."""
        claims = {
            "iss": ISSUER,
            "sub": ROLE,
            "aud": "lockstep",
            "iat": self.seconds(),
            "nbf": self.seconds(),
            "exp": self.seconds(300),
            "jti": "1",
            "https://sts.amazonaws.com/": {"aws_account": "123456789012"},
        } | changes
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, key_named(by or kid), algorithm="RS256", headers={"kid": kid})

    def assertion(
        self,
        *,
        kid: str = "lockstep",
        key: Any = None,  # noqa: ANN401 - of any kind
        algorithm: str = "RS256",
        **changes: Any,  # noqa: ANN401 - claims
    ) -> dict[str, str]:
        """What a client sends in place of its secret."""
        claims = {
            "iss": CLIENT,
            "sub": CLIENT,
            "aud": "https://identity.oraclecloud.com/",
            "iat": self.seconds(),
            "exp": self.seconds(300),
            "jti": "first",
        } | changes
        claims = {name: value for name, value in claims.items() if value is not None}
        key = key_named("client") if key is None else key
        token = jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid})
        return {"client_assertion_type": ASSERTION, "client_assertion": token}

    def form(self, **changes: str | None) -> dict[str, str]:
        """A whole request for a resource principal's token; a change to None leaves a parameter out."""
        form = {
            "grant_type": EXCHANGE,
            "requested_token_type": RPST,
            "res_type": "lockstep",
            "subject_token_type": "jwt",
            "public_key": spki(key_named("session").public_key()),
        } | changes
        if "subject_token" not in form:
            form["subject_token"] = self.subject_token()
        return {name: value for name, value in form.items() if value is not None}

    def post(self, **changes: str | None) -> urllib3.BaseHTTPResponse:
        """Ask for a token."""
        headers = dict(urllib3.make_headers(basic_auth=self.basic)) if self.basic else {}
        return urllib3.request(
            "POST",
            f"{self.sandbox.endpoint}/oauth2/v1/token",
            body=urlencode(self.form(**changes)),
            headers={**headers, "content-type": "application/x-www-form-urlencoded"},
            timeout=10.0,
            retries=False,
        )

    def token(self, **changes: str | None) -> str:
        """A token that the domain gives."""
        reply = self.post(**changes)
        if reply.status != 200:
            raise AssertionError(reply.data)
        return str(reply.json()["token"])

    def refusal(self, **changes: str | None) -> tuple[int, str]:
        """The status and the code of a refusal, after a look at its form."""
        reply = self.post(**changes)
        body = reply.json()
        if set(body) != {"error", "error_description"}:
            raise AssertionError(body)
        return reply.status, str(body["error"])


def claims_of(token: str) -> dict[str, Any]:
    """What a token says, without any proof."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims
