"""STS as an issuer and as a reader of tokens: `GetWebIdentityToken` with its documents, `AssumeRoleWithWebIdentity`.

Follows the API reference of `GetWebIdentityToken`, and the guide's page on the claims
(https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_outbound_token_claims.html). moto does not know it,
and grants the other one to any text. That follows its API reference and the guide's page on OIDC providers
(https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_create_oidc.html): the documents of an issuer are
read by name. Of the algorithms RS256 alone is known, and clocks may not differ, which is stricter than AWS.
"""

import json
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends
from werkzeug.wrappers import Response

from sandbox.emulators.aws import query
from sandbox.emulators.aws.guard import Caller, Guard, Session
from sandbox.emulators.aws.patching import Foreign
from sandbox.emulators.aws.policies import Call, as_list, decide
from sandbox.emulators.aws.query import QueryError, QueryRequest, invalid
from sandbox.emulators.oci.identity import new_private_key
from sandbox.emulators.oci.jwts import (
    BadTokenError,
    Claims,
    ExpiredTokenError,
    jwk_of,
    rsa_keys,
    signed,
    unverified,
    verified,
)
from sandbox.emulators.oci.names import FetchError, Names
from sandbox.emulators.oci.wire import Reply, json_reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed.wsgi import WSGIEnvironment

ALGORITHM: Final = "RS256"
_SESSION_SECONDS: Final = 3600
_ACTION: Final = "sts:AssumeRoleWithWebIdentity"
_SESSION_NAME: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_NO_KEY: Final = "Couldn't retrieve verification key from your identity provider"
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
        self._key: rsa.RSAPrivateKey | None = None
        self._generation = 0
        self._actions: dict[tuple[str | None, str], Callable[[QueryRequest], Response]] = {
            ("sts", "GetWebIdentityToken"): self._token,
            ("sts", "AssumeRoleWithWebIdentity"): self._assume,
            (None, "AssumeRoleWithWebIdentity"): self._assume,
            (None, "GetWebIdentityToken"): _demand_signature,
        }

    def enable(self) -> None:
        """Let STS issue tokens, and serve the issuer's documents."""
        self._key = self._key or _first_key()
        self._enabled = True
        self._names.serve(self.host, self._document)

    def disable(self) -> None:
        """Issue no more tokens; those that were issued can still be verified."""
        self._enabled = False

    def rotate_key(self) -> None:
        """Sign with a new key from now on, and publish it alone."""
        self._key, self._generation = new_private_key(), self._generation + 1

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
        keys = [jwk_of(self._key.public_key(), self._kid)] if self._key else []
        documents = {
            _DISCOVERY: {
                "issuer": self.issuer,
                "jwks_uri": f"{self.issuer}{_KEYS}",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [ALGORITHM],
            },
            _KEYS: {"keys": keys},
        }
        if target not in documents:
            return Reply(404)
        return json_reply(documents[target], {})

    def _token(self, asked: QueryRequest) -> Response:
        audiences = asked.members("Audience")
        if not audiences or not all(audiences):
            raise invalid("Audience", "Member must have length greater than or equal to 1")
        if asked.text("SigningAlgorithm") != ALGORITHM:
            raise invalid("SigningAlgorithm", f"Member must satisfy enum value set: [{ALGORITHM}]")
        seconds = asked.number("DurationSeconds", default=300, least=60, most=3600)
        if not self._enabled or not self._key:
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
            _NAMESPACE: self._own_claims(caller),
        }
        expires = f"{datetime.fromtimestamp(int(now) + seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
        token = {"WebIdentityToken": signed(claims, self._key, self._kid), "Expiration": expires}
        return query.reply(asked.action, token)

    def _own_claims(self, caller: Caller | None) -> dict[str, object]:
        own: dict[str, object] = {
            "aws_account": self._guard.account_id,
            "source_region": self._guard.region,
            "principal_id": self._subject(caller),
        }
        if caller and caller.function_arn:
            own["lambda_source_function_arn"] = caller.function_arn
        return own

    @property
    def _kid(self) -> str:
        return f"RSA_{self._generation}"

    def _subject(self, caller: Caller | None) -> str:
        """The ARN of the caller's role, with its path. An administrator counts as a role of that name."""
        if caller is None:
            return f"arn:aws:iam::{self._guard.account_id}:role/administrator"
        roles = iam_backends[self._guard.account_id]["aws"].roles.values()
        return str(next(role.arn for role in roles if role.name == caller.role))

    # ---- as a reader of the tokens of others

    def _assume(self, asked: QueryRequest) -> Response:
        """Serve one request.

        Raises:
            QueryError: It is refused.
        """
        role_arn = asked.text("RoleArn")
        name = asked.text("RoleSessionName")
        if not _SESSION_NAME.fullmatch(name):
            raise invalid(
                "RoleSessionName", r"Member must satisfy regular expression pattern: [\w+=,.@-]{2,64}"
            )
        seconds = asked.number("DurationSeconds", default=_SESSION_SECONDS, least=900, most=43_200)
        claims, provider = self._believed(asked.text("WebIdentityToken"))
        role = self._trusting(role_arn, claims, provider)
        if seconds > int(role.max_session_duration or _SESSION_SECONDS):
            raise QueryError(
                "ValidationError",
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            )
        return query.reply(asked.action, self._session(role, name, seconds, claims))

    def _session(self, role: Foreign, name: str, seconds: int, claims: Claims) -> Mapping[str, object]:
        expires_at = self._now() + seconds
        # moto's own session makes GetCallerIdentity know it; its time is the machine's, so it is not used.
        made = sts_backends[self._guard.account_id]["aws"].assume_role(
            region_name=self._guard.region,
            role_session_name=name,
            role_arn=role.arn,
            policy="",
            duration=seconds,
            external_id="",
        )
        self._guard.know(
            made.access_key_id,
            role.name,
            session=Session(made.session_token, self._guard.wall_clock() + seconds),
        )
        return {
            "Credentials": {
                "AccessKeyId": made.access_key_id,
                "SecretAccessKey": made.secret_access_key,
                "SessionToken": made.session_token,
                "Expiration": f"{datetime.fromtimestamp(int(expires_at), UTC):%Y-%m-%dT%H:%M:%SZ}",
            },
            "SubjectFromWebIdentityToken": str(claims["sub"]),
            "AssumedRoleUser": {"AssumedRoleId": made.user_id, "Arn": made.arn},
            "Provider": str(claims["iss"]),
            "Audience": _audience(claims),
        }

    def _believed(self, text: str) -> tuple[Claims, Foreign]:
        """What the token says, verified by what its issuer publishes, and IAM's provider of that issuer."""
        try:
            token = unverified(text)
            providers = iam_backends[self._guard.account_id]["aws"].open_id_providers.values()
            provider = next((one for one in providers if token.issuer == f"https://{one.url}"), None)
            if provider is None:
                raise _refused(f"No OpenIDConnect provider found in your account for {token.issuer}")
            keys = self._published_by(token.issuer)
            if token.kid not in keys:
                raise _refused(_NO_KEY)
            claims = verified(text, keys[token.kid], now=datetime.fromtimestamp(self._now(), UTC))
        except ExpiredTokenError as error:
            raise QueryError(
                "ExpiredTokenException", "Token expired: current date/time must be before exp"
            ) from error
        except BadTokenError as error:
            raise _refused(f"The ID Token provided is not valid: {error}") from error
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            raise _refused("Missing a required claim: sub")
        if _audience(claims) not in provider.client_id_list:
            raise _refused("Incorrect token audience")
        return claims, provider

    def _published_by(self, issuer: str) -> Mapping[str, rsa.RSAPublicKey]:
        """The keys that an issuer publishes."""
        try:
            discovery: Any = json.loads(self._read(f"{issuer}/.well-known/openid-configuration"))
        except ValueError as error:
            raise _refused(_NO_KEY) from error
        if not isinstance(discovery, dict) or discovery.get("issuer") != issuer:
            raise _refused("The issuer of the discovery document is another one")
        return rsa_keys(self._read(str(discovery.get("jwks_uri"))))

    def _read(self, url: str) -> bytes:
        try:
            return self._names.fetch(url)
        except FetchError as error:
            if error.is_answered:
                raise _refused(_NO_KEY) from error
            raise QueryError(
                "IDPCommunicationError", f"The identity provider cannot be reached: {error}"
            ) from error

    def _trusting(self, role_arn: str, claims: Claims, provider: Foreign) -> Foreign:
        """The role, if its trust policy lets the token's subject assume it."""
        roles = iam_backends[self._guard.account_id]["aws"].roles.values()
        role = next((one for one in roles if one.arn == role_arn), None)
        denied = QueryError("AccessDenied", f"Not authorized to perform {_ACTION}", 403)
        if role is None:
            raise denied
        context = {
            f"{provider.url}:aud": (_audience(claims),),
            f"{provider.url}:sub": (str(claims["sub"]),),
        }
        trust = json.loads(role.assume_role_policy_document)
        statements = [
            {**statement, "Resource": role_arn}
            for statement in as_list(trust["Statement"])
            if provider.arn in _federated(statement)
        ]
        if not decide(Call(action=_ACTION, resource=role_arn, context=context), statements).allowed:
            raise denied
        return role


# Making one takes as long as a hundred calls: one a process will do, under the issuers' own names.
@cache
def _first_key() -> rsa.RSAPrivateKey:
    return new_private_key()


def _demand_signature(asked: QueryRequest) -> Response:
    raise QueryError("MissingAuthenticationToken", f"{asked.action} must be signed", 403)


def _federated(statement: Mapping[str, Any]) -> list[Any]:
    principal = statement.get("Principal")
    return as_list(principal.get("Federated")) if isinstance(principal, dict) else []


def _audience(claims: Claims) -> str:
    """Whom a token is for: `azp` where there is one, as the guide says of the key `aud`.

    Raises:
        QueryError: It is for several, and does not say which of them is meant.
    """
    claimed = as_list(claims.get("azp", claims.get("aud")))
    if len(claimed) != 1 or not isinstance(claimed[0], str):
        raise _refused("Incorrect token audience")
    return claimed[0]


def _refused(text: str) -> QueryError:
    return QueryError("InvalidIdentityToken", text)
