"""An identity domain, as far as sessions for workloads of elsewhere go: the exchange of an issuer's token for ours.

Sources: Oracle's "Token Exchange Grant Type: Exchanging a JSON Web Token for a UPST" and "Client/User JWT Assertion",
and the A-Team's "OCI Workload Identity Federation using Ephemeral RPST". What they leave open is strict here: which
refusal has which of OAuth's codes (RFC 6749 5.2), that an assertion needs a `jti` and may be used once, how long it
may live, and that a clock may not be wrong at all. Whether a client assertion may stand beside a token exchange is
not confirmed on a tenancy.
"""

import base64
import binascii
import hmac
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final
from urllib.parse import parse_qsl

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from jwt.algorithms import RSAAlgorithm

from sandbox.emulators.oci.calls import Call
from sandbox.emulators.oci.clock import Ids, SandboxClock
from sandbox.emulators.oci.errors import oauth_error
from sandbox.emulators.oci.identity import TENANCY, Credential, Identity, Kind, Principal, new_private_key
from sandbox.emulators.oci.jwts import (
    LEAST_BITS,
    BadTokenError,
    Claims,
    audiences,
    jwk_of,
    moment_of,
    rsa_keys,
    signed,
    unverified,
    verified,
)
from sandbox.emulators.oci.names import FetchError
from sandbox.emulators.oci.wire import Reply, json_reply

# What an administrator of an identity domain makes: confidential applications and identity propagation trusts.
_RULE: Final = re.compile(r"""(?P<claim>\S+)\s+eq\s+(?P<quote>["']?)(?P<value>.+)(?P=quote)""")


@dataclass(slots=True)
class App:
    """A confidential application. A test changes it as an administrator would.

    Attributes:
        client_id: Its name in token requests.
        secret: None where it has none.
        certificates: The public key of each, by its alias.
        is_active: Whether it may ask for tokens.
    """

    client_id: str
    secret: str | None = field(default=None, repr=False)
    certificates: dict[str, rsa.RSAPublicKey] = field(default_factory=dict)
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class ServiceUser:
    """A user whom the bearers of some tokens become.

    Attributes:
        rule: Which tokens: `CLAIM eq VALUE`, the value with or without quotes; `CLAIM eq *` is all.
        user: The user's name.
    """

    rule: str
    user: str

    def covers(self, claims: Claims) -> bool:
        """Whether a token is one of them.

        Raises:
            ValueError: The rule is none.
        """
        found = _RULE.fullmatch(self.rule)
        if found is None:
            raise ValueError(f"not a rule: {self.rule}")
        values, wanted = audiences(claims, found["claim"]), found["value"]
        return bool(values) and (wanted == "*" or wanted in values)


@dataclass(slots=True, kw_only=True)
class Trust:
    """An identity propagation trust, with the service's own names. A test changes it as an administrator would.

    https://docs.oracle.com/iaas/tools/python/latest/api/identity_domains/models/oci.identity_domains.models.IdentityPropagationTrust.html

    Attributes:
        issuer: Whose tokens it covers; one trust an issuer.
        oauth_clients: The ids of the applications that may exchange them.
        client_claim_values: One of them must be in `aud`.
        public_key_endpoint: Where the issuer's JWKS is, over HTTPS by name.
        impersonating_resource: What `res_type` must be for a resource principal's token; None where there is none.
        impersonation_service_users: Whom the bearers become who ask for a user's token; the first rule decides.
        is_active: Whether it covers anything.
    """

    name: str
    issuer: str
    oauth_clients: set[str]
    client_claim_values: tuple[str, ...]
    public_key_endpoint: str
    impersonating_resource: str | None = None
    impersonation_service_users: tuple[ServiceUser, ...] = ()
    is_active: bool = True

    def check(self, claims: Claims) -> None:
        """Check what a token says of whom it is for and from.

        Raises:
            BadTokenError: It is not for this trust.
        """
        if not set(self.client_claim_values) & set(audiences(claims)):
            raise BadTokenError("its aud is none that the trust names")
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            raise BadTokenError("it has no sub")

    def user_of(self, claims: Claims) -> str | None:
        """The name of the user that the bearer of a token becomes."""
        return next((one.user for one in self.impersonation_service_users if one.covers(claims)), None)


@dataclass(slots=True)
class IssuerKeys:
    """The keys of an issuer, as they were last read."""

    keys: dict[str, rsa.RSAPublicKey]
    read_at: datetime


EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
RPST: Final = "urn:oci:token-type:oci-rpst"
UPST: Final = "urn:oci:token-type:oci-upst"
ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_AUDIENCE: Final = "https://identity.oraclecloud.com/"
LONGEST_ASSERTION: Final = timedelta(minutes=10)
LONGEST_RPST: Final = timedelta(hours=12)
SESSION_LASTS: Final = timedelta(hours=1)
"""Where its caller asks for no time; a user's, which never outlives the token that it was exchanged for, no longer."""
KEYS_LAST: Final = timedelta(hours=1)
"""So long an issuer's keys are used without being read again; one that is not among them is looked for at once."""
_ISSUER: Final = "authService.oracle.com"
_KID: Final = "asw_sandbox"
_KINDS: Final[Mapping[str, Kind]] = {"instance": "instance", "workload": "workload"}
_FORM: Final = "application/x-www-form-urlencoded"


class IdentityDomain:
    """The domain of the tenancy.

    Attributes:
        url: Its name, as plans have it; its token endpoint is on the sandbox's own.
        apps: By their client ids.
        trusts: By their issuers.
    """

    def __init__(
        self, clock: SandboxClock, ids: Ids, identity: Identity, fetch: Callable[[str], bytes]
    ) -> None:
        """Know no application and no trust.

        Args:
            clock: Tokens are judged and dated by it.
            ids: Names tokens.
            identity: Has the users and the workloads.
            fetch: Reads a document over HTTPS by name; raises `FetchError`.
        """
        self.url = "https://idcs-0123456789abcdef.identity.oraclecloud.com"
        self.apps: dict[str, App] = {}
        self.trusts: dict[str, Trust] = {}
        self._clock = clock
        self._ids = ids
        self._identity = identity
        self._fetch = fetch
        self._lock = threading.Lock()
        self._used: dict[tuple[str, str], datetime] = {}
        self._read: dict[str, IssuerKeys] = {}
        self._sessions: set[str] = set()
        # Taken once: of calls at the same time, the cache may make a key for each.
        self._key = _key_of_sessions()

    # ---- for administrators

    def new_app(
        self,
        client_id: str,
        *,
        secret: str | None = None,
        certificates: Mapping[str, rsa.RSAPublicKey] | None = None,
    ) -> App:
        """Make an active application that proves itself by a secret, by the key of a certificate, or by either."""
        app = self.apps[client_id] = App(client_id, secret, dict(certificates or {}))
        return app

    def new_trust(
        self,
        *,
        issuer: str,
        clients: set[str],
        audience: str = "lockstep",
        impersonating_resource: str | None = "lockstep",
        service_users: Mapping[str, str] | None = None,
    ) -> Trust:
        """Make an active trust.

        Args:
            issuer: Whose tokens it covers.
            clients: The ids of the applications that may exchange them.
            audience: What `aud` must hold.
            impersonating_resource: See `Trust`.
            service_users: The names of users by the rules for those who become them.
        """
        trust = self.trusts[issuer] = Trust(
            name=f"trust-{len(self.trusts)}",
            issuer=issuer,
            oauth_clients=set(clients),
            client_claim_values=(audience,),
            # Where AWS has it.
            public_key_endpoint=f"{issuer}/.well-known/jwks.json",
            impersonating_resource=impersonating_resource,
            impersonation_service_users=tuple(
                ServiceUser(rule, user) for rule, user in (service_users or {}).items()
            ),
        )
        return trust

    def end_sessions(self) -> None:
        """Refuse all tokens that were given so far. Without it they last, whatever becomes of application and trust."""
        with self._lock:
            self._sessions.clear()

    # ---- for the services

    def claims_of(self, token: str) -> Claims | None:
        """What a token says; None where it is not ours, or over."""
        try:
            claims = verified(token, self._key.public_key(), now=self._clock.now())
        except BadTokenError:
            return None
        with self._lock:
            return claims if claims["jti"] in self._sessions else None

    def session(self, token: str) -> Credential | None:
        """The key that signs for a session, and whose session it is; None where its token is not ours, or over."""
        if (claims := self.claims_of(token)) is None:
            return None
        key = RSAAlgorithm.from_jwk(claims["jwk"])
        principal = self._principal(claims)
        return Credential(key, principal) if principal and isinstance(key, rsa.RSAPublicKey) else None

    def _principal(self, claims: Claims) -> Principal | None:
        if claims["ptype"] == "user":
            return self._identity.user(claims["sub"])
        return self._identity.principal(
            claims["sub"], _KINDS.get(claims["ptype"], "identityfederateddomainapp")
        )

    # ---- the exchange

    def exchange_token(self, call: Call) -> Reply:
        """Serve ExchangeToken."""
        form = _form(call)
        app = self._client(call, form)
        if "grant_type" not in form:
            raise oauth_error("invalid_request", "There is no grant type.")
        if form["grant_type"] != EXCHANGE:
            raise oauth_error("unsupported_grant_type", "The grant type is not token exchange.")
        requested = form.get("requested_token_type")
        if requested not in {RPST, UPST}:
            raise oauth_error("invalid_request", "requested_token_type has no such value.")
        if form.get("subject_token_type") != "jwt":
            raise oauth_error("invalid_request", "subject_token_type must be jwt.")
        key = session_key(form.get("public_key", ""))
        try:
            trust, claims = self._subject(form.get("subject_token", ""), app)
        except BadTokenError as error:
            raise oauth_error("invalid_grant", f"The subject token is not valid: {error}.") from error
        about = self._resource(form, trust, claims) if requested == RPST else self._user(form, trust, claims)
        return json_reply({"token": self.issued(about, key)}, {"cache-control": "no-store"})

    # ---- who asks

    def _client(self, call: Call, form: Mapping[str, str]) -> App:
        scheme, _, rest = call.headers.get("authorization", "").partition(" ")
        has_assertion = "client_assertion" in form or "client_assertion_type" in form
        if scheme and has_assertion:
            raise oauth_error("invalid_request", "More than one way of client authentication.")
        app = self._by_assertion(form) if has_assertion else self._by_secret(scheme, rest)
        if app is None or not app.is_active or form.get("client_id", app.client_id) != app.client_id:
            raise oauth_error("invalid_client", "Client authentication failed.")
        return app

    def _by_secret(self, scheme: str, encoded: str) -> App | None:
        if scheme.lower() != "basic":
            return None
        try:
            client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        app = self.apps.get(client_id)
        is_right = (
            app is not None and app.secret and hmac.compare_digest(app.secret.encode(), secret.encode())
        )
        return app if is_right else None

    def _by_assertion(self, form: Mapping[str, str]) -> App | None:
        if form.get("client_assertion_type") != ASSERTION:
            return None
        try:
            return self._asserted(form.get("client_assertion", ""))
        except BadTokenError:
            return None

    def _asserted(self, assertion: str) -> App:
        asked, now = unverified(assertion), self._clock.now()
        app = self.apps.get(asked.issuer)
        if app is None or asked.kid not in app.certificates:
            raise BadTokenError("it names no client, or no certificate of it")
        claims = verified(assertion, app.certificates[asked.kid], now=now)
        ends, jti = moment_of(claims, "exp"), claims.get("jti")
        if claims.get("sub") != app.client_id or audiences(claims) != [ASSERTION_AUDIENCE]:
            raise BadTokenError("it is of another subject, or for another audience")
        if ends > now + LONGEST_ASSERTION or not isinstance(jti, str) or not jti:
            raise BadTokenError("it lives too long, or has no jti")
        with self._lock:
            self._used = {one: until for one, until in self._used.items() if until > now}
            if (app.client_id, jti) in self._used:
                raise BadTokenError("it was used before")
            self._used[app.client_id, jti] = ends
        return app

    # ---- whose token it is

    def _subject(self, token: str, app: App) -> tuple[Trust, Claims]:
        asked = unverified(token)
        trust = self.trusts.get(asked.issuer)
        if trust is None or not trust.is_active:
            raise BadTokenError("no active trust names its issuer")
        if app.client_id not in trust.oauth_clients:
            raise oauth_error("unauthorized_client", "The trust does not name this client.")
        claims = verified(token, self._issuer_key(trust, asked.kid), now=self._clock.now())
        trust.check(claims)
        return trust, claims

    def _issuer_key(self, trust: Trust, kid: str) -> rsa.RSAPublicKey:
        now = self._clock.now()
        known = self._read.get(trust.issuer)
        if known is None or known.read_at + KEYS_LAST <= now or kid not in known.keys:
            try:
                document = self._fetch(trust.public_key_endpoint)
            except FetchError as error:
                raise BadTokenError("the keys of its issuer cannot be read") from error
            known = self._read[trust.issuer] = IssuerKeys(rsa_keys(document), now)
        if kid not in known.keys:
            raise BadTokenError("its issuer has no such key")
        return known.keys[kid]

    # ---- what is given

    def _resource(self, form: Mapping[str, str], trust: Trust, claims: Claims) -> Claims:
        if trust.impersonating_resource is None or form.get("res_type") != trust.impersonating_resource:
            raise oauth_error("invalid_request", "res_type is not the resource of the trust.")
        text = form.get("rpst_exp", str(int(SESSION_LASTS.total_seconds())))
        longest = int(LONGEST_RPST.total_seconds())
        if not text.isdecimal() or not 0 < int(text) <= longest:
            raise oauth_error("invalid_request", f"rpst_exp must lie between 1 and {longest}.")
        about = {"sub": claims["sub"], "ptype": "resource", "ttype": "rpst", "res_type": form["res_type"]}
        return {**about, "res_tenant": TENANCY, "exp": self._seconds() + int(text)}

    def _user(self, form: Mapping[str, str], trust: Trust, claims: Claims) -> Claims:
        if "res_type" in form or "rpst_exp" in form:
            raise oauth_error("invalid_request", "A user's token has no resource.")
        name = trust.user_of(claims)
        if name is None:
            raise oauth_error("invalid_grant", "No service user is named for the subject.")
        ends = self._clock.now() + SESSION_LASTS
        exp = int(min(ends, moment_of(claims, "exp")).timestamp())
        return {
            "sub": self._identity.principal(name, "user").ocid,
            "ptype": "user",
            "ttype": "upst",
            "exp": exp,
        }

    def issued(self, about: Claims, key: rsa.RSAPublicKey) -> str:
        """A token for the holder of a key, by default for `SESSION_LASTS`.

        Args:
            about: `sub`, and in `ptype` what that is: a `user` by its OCID, a `resource`, `instance` or `workload`.
            key: Verifies what is signed with the token.
        """
        jti = self._ids.uuid()
        with self._lock:
            self._sessions.add(jti)
        claims = {
            "exp": self._seconds() + int(SESSION_LASTS.total_seconds()),
            **about,
            "iss": _ISSUER,
            "aud": "oci",
            "tenant": TENANCY,
            "iat": self._seconds(),
            "jti": jti,
            # A text in the token, not an object.
            "jwk": json.dumps(jwk_of(key, jti)),
        }
        return signed(claims, self._key, _KID)

    def _seconds(self) -> int:
        return int(self._clock.now().astimezone(UTC).timestamp())


# Making one takes as long as a hundred calls: one a process will do, since a domain knows the sessions that it gave.
@cache
def _key_of_sessions() -> rsa.RSAPrivateKey:
    return new_private_key()


def _form(call: Call) -> dict[str, str]:
    if call.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise oauth_error("invalid_request", f"The content type is not {_FORM}.")
    try:
        pairs = parse_qsl(call.request.body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
    except ValueError:
        raise oauth_error("invalid_request", "The body is not a form.") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise oauth_error("invalid_request", "A parameter is there more than once.")
    return form


def session_key(text: str) -> rsa.RSAPublicKey:
    """The public key of a session, as base64 of its DER.

    Raises:
        ApiError: It is none, or too short.
    """
    try:
        der = base64.b64decode(text, validate=True)
        key = load_der_public_key(der)
    except (binascii.Error, ValueError):
        key = None
    if (
        not isinstance(key, rsa.RSAPublicKey)
        or key.key_size < LEAST_BITS
        or key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != der
    ):
        raise oauth_error(
            "invalid_request", "public_key is no long RSA key, as SubjectPublicKeyInfo in base64."
        )
    return key
