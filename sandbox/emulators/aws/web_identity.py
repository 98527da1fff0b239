"""STS as an issuer of tokens: `GetWebIdentityToken`, and the documents by which others verify them.

Follows the API reference of `GetWebIdentityToken`, and the guide's page on the claims
(https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_outbound_token_claims.html). moto does not know it.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm
from moto.iam.models import iam_backends
from werkzeug.wrappers import Response

from sandbox.emulators.aws import query
from sandbox.emulators.aws.assumed_roles import AssumedRoles
from sandbox.emulators.aws.guard import Caller, Guard
from sandbox.emulators.aws.query import QueryError, QueryRequest, invalid
from sandbox.emulators.oci.identity import new_private_key
from sandbox.emulators.oci.jwts import jwk_of
from sandbox.emulators.oci.names import Names
from sandbox.emulators.oci.wire import Reply, json_reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed.wsgi import WSGIEnvironment

ALGORITHMS: Final = ("ES384", "RS256")
DEFAULT_SECONDS: Final = 300
_MOST_AUDIENCES: Final = 10
_MOST_TAGS: Final = 50
_NAMESPACE: Final = "https://sts.amazonaws.com/"
_DISCOVERY: Final = "/.well-known/openid-configuration"
_KEYS: Final = "/.well-known/jwks.json"
_STATUSES: Final = {
    "IDPRejectedClaim": 403,
    "InternalFailure": 500,
    "RegionDisabledException": 403,
    "ServiceUnavailable": 503,
}
"""Of errors that are played, where that is not 400."""


@dataclass(frozen=True)
class SigningKeys:
    """An issuer's keys of one generation, one for each algorithm.

    Attributes:
        generation: Tells them from others; part of their ids.
    """

    generation: int
    rsa_key: rsa.RSAPrivateKey = field(repr=False, default_factory=new_private_key)
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
        own = {"kid": self._id("ES384"), "use": "sig", "alg": "ES384"}
        return [{**curve, **own}, jwk_of(self.rsa_key.public_key(), self._id("RS256"))]

    def _id(self, algorithm: str) -> str:
        return f"{'RSA' if algorithm == 'RS256' else 'EC384'}_{self.generation}"


class WebIdentity:
    """The account's issuer of tokens, and STS's readers of the tokens of others.

    Nothing is issued before `enable`, which stands for IAM's `EnableOutboundWebIdentityFederation`.

    Attributes:
        issuer: `iss` of the tokens: the address of its documents, which `names` serves once it is enabled.
        clock_ahead_seconds: How far the clock of STS is ahead of the sandbox's; behind where negative.
        refusals: Errors to play, by action: the code with which STS refuses it, such as `Throttling`.
    """

    def __init__(self, guard: Guard, names: Names) -> None:
        """Issue nothing yet.

        Args:
            guard: Knows who calls.
            names: Serves the documents of the issuer, and reads those of others.
        """
        self.host = f"{uuid.uuid4()}.tokens.sts.global.api.aws"
        self.issuer = f"https://{self.host}"
        self.clock_ahead_seconds = 0.0
        self.refusals: dict[str, str] = {}
        self._guard = guard
        self._names = names
        self._enabled = False
        self._keys: SigningKeys | None = None
        self._assumed = AssumedRoles(guard, names, self._now)
        self._actions: dict[tuple[str | None, str], Callable[[QueryRequest], Response]] = {
            ("sts", "GetWebIdentityToken"): self._token,
            ("sts", "AssumeRoleWithWebIdentity"): self._assumed.assume,
            (None, "AssumeRoleWithWebIdentity"): self._assumed.assume,
            (None, "GetWebIdentityToken"): _demand_signature,
        }

    def enable(self) -> None:
        """Let STS issue tokens, and serve the issuer's documents."""
        self._keys = self._keys or _first_keys()
        self._enabled = True
        self._names.serve(self.host, self._document)

    def disable(self) -> None:
        """Issue no more tokens; those that were issued can still be verified."""
        self._enabled = False

    def rotate_key(self) -> None:
        """Sign with new keys from now on, and publish them alone."""
        self._keys = SigningKeys(self._keys.generation + 1 if self._keys else 0)

    def takes(self, environ: "WSGIEnvironment") -> QueryRequest | None:
        """A request that is served here; None if it is for another part of the sandbox."""
        asked = query.read(environ)
        return asked if asked and (asked.service, asked.action) in self._actions else None

    def respond(self, asked: QueryRequest) -> Response:
        """Serve a request that is served here."""
        try:
            self._play(asked.action)
            return self._actions[asked.service, asked.action](asked)
        except QueryError as error:
            return query.refusal(error.code, str(error), error.status)

    def _play(self, action: str) -> None:
        if code := self.refusals.get(action):
            raise QueryError(code, f"{code} (played by the sandbox)", _STATUSES.get(code, 400))

    def _now(self) -> float:
        return self._guard.wall_clock() + self.clock_ahead_seconds

    def _document(self, target: str) -> Reply:
        """One of the issuer's documents."""
        keys = self._keys.published() if self._keys else []
        documents = {
            _DISCOVERY: {
                "issuer": self.issuer,
                "jwks_uri": f"{self.issuer}{_KEYS}",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": list(ALGORITHMS),
            },
            _KEYS: {"keys": keys},
        }
        if target not in documents:
            return Reply(404)
        return json_reply(documents[target], {})

    def _token(self, asked: QueryRequest) -> Response:
        audiences = asked.members("Audience")
        if not audiences:
            raise invalid("Audience", "Member must have length greater than or equal to 1")
        if len(audiences) > _MOST_AUDIENCES:
            raise invalid("Audience", f"Member must have length less than or equal to {_MOST_AUDIENCES}")
        if not all(audiences):
            raise invalid("Audience", "Member must have length greater than or equal to 1")
        algorithm = asked.text("SigningAlgorithm")
        if algorithm not in ALGORITHMS:
            raise invalid("SigningAlgorithm", f"Member must satisfy enum value set: {list(ALGORITHMS)}")
        if asked.text("SubjectMode", default="AWSIdentity") != "AWSIdentity" or "Scope" in asked.fields:
            raise invalid("SubjectMode", "the session has no trusted identity propagation context")
        seconds = asked.number("DurationSeconds", default=DEFAULT_SECONDS, least=60, most=3600)
        if not self._enabled or not self._keys:
            raise QueryError(
                "OutboundWebIdentityFederationDisabledException",
                "Outbound web identity federation is not enabled for this account",
                403,
            )
        caller = self._guard.caller(asked.access_key)
        now = self._now()
        if caller and caller.session and self._guard.wall_clock() + seconds > caller.session.expires_at:
            raise QueryError(
                "SessionDurationEscalationException",
                "The requested token duration would extend the session beyond its original expiration time",
                403,
            )
        claims = {
            "iss": self.issuer,
            "aud": audiences[0] if len(audiences) == 1 else audiences,
            "sub": self._subject(caller),
            "iat": int(now),
            "exp": int(now) + seconds,
            "jti": str(uuid.uuid4()),
            _NAMESPACE: self._own_claims(asked, caller),
        }
        expires = f"{datetime.fromtimestamp(int(now) + seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
        token = {"WebIdentityToken": self._keys.sign(algorithm, claims), "Expiration": expires}
        return query.reply(asked.action, token)

    def _own_claims(self, asked: QueryRequest, caller: Caller | None) -> dict[str, object]:
        own: dict[str, object] = {
            "aws_account": self._guard.account_id,
            "source_region": self._guard.region,
            "principal_id": self._subject(caller),
        }
        if caller and caller.function_arn:
            own["lambda_source_function_arn"] = caller.function_arn
        tags = {
            asked.text(f"Tags.member.{number}.Key"): asked.fields.get(f"Tags.member.{number}.Value", "")
            for number in range(1, _MOST_TAGS + 1)
            if f"Tags.member.{number}.Key" in asked.fields
        }
        return {**own, "request_tags": tags} if tags else own

    def _subject(self, caller: Caller | None) -> str:
        """The ARN of the caller's role, with its path. An administrator counts as a role of that name."""
        if caller is None:
            return f"arn:aws:iam::{self._guard.account_id}:role/administrator"
        roles = iam_backends[self._guard.account_id]["aws"].roles.values()
        return str(next(role.arn for role in roles if role.name == caller.role))


# Making them takes as long as a hundred calls: one pair a process will do. They are of the issuers' own names.
@cache
def _first_keys() -> SigningKeys:
    return SigningKeys(0)


def _demand_signature(asked: QueryRequest) -> Response:
    raise QueryError("MissingAuthenticationToken", f"{asked.action} must be signed", 403)
