"""STS as a reader of tokens: `AssumeRoleWithWebIdentity`, which moto grants to any text.

Follows the API reference of `AssumeRoleWithWebIdentity` and the guide's page on OIDC providers
(https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_create_oidc.html). The documents of an issuer are
read by name. Of the algorithms RS256 alone is taken, and clocks may not differ, which is stricter than AWS.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends
from werkzeug.wrappers import Response

from sandbox.emulators.aws import query
from sandbox.emulators.aws.guard import Guard
from sandbox.emulators.aws.patching import Foreign
from sandbox.emulators.aws.policies import Call, as_list, decide
from sandbox.emulators.aws.query import QueryError, QueryRequest, invalid
from sandbox.emulators.aws.sessions import Session
from sandbox.emulators.oci.jwts import (
    BadTokenError,
    Claims,
    ExpiredTokenError,
    rsa_keys,
    unverified,
    verified,
)
from sandbox.emulators.oci.names import FetchError, Names

LEAST_SECONDS: Final = 900
DEFAULT_SECONDS: Final = 3600
_ACTION: Final = "sts:AssumeRoleWithWebIdentity"
_SESSION_NAME: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_NO_KEY: Final = "Couldn't retrieve verification key from your identity provider"


class AssumedRoles:
    """Gives sessions of roles to those who show a token that the role trusts."""

    def __init__(self, guard: Guard, names: Names, now: Callable[[], float]) -> None:
        """Give them.

        Args:
            guard: Learns the credentials.
            names: Reads the documents of issuers.
            now: The time of STS, in seconds since the epoch.
        """
        self._guard = guard
        self._names = names
        self._now = now

    def assume(self, asked: QueryRequest) -> Response:
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
        seconds = asked.number("DurationSeconds", default=DEFAULT_SECONDS, least=LEAST_SECONDS, most=43_200)
        for unknown in ("Policy", "PolicyArns.member.1.arn", "ProviderId"):
            if unknown in asked.fields:
                raise NotImplementedError(f"{unknown} is not read here")
        claims, provider = self._believed(asked.text("WebIdentityToken"))
        role = self._trusting(role_arn, claims, provider)
        if seconds > int(role.max_session_duration or DEFAULT_SECONDS):
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
            keys = self._keys(token.issuer)
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

    def _keys(self, issuer: str) -> Mapping[str, rsa.RSAPublicKey]:
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
