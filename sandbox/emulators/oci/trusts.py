"""What an administrator of an identity domain makes: confidential applications and identity propagation trusts."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.emulators.oci.jwts import BadTokenError, Claims, audiences

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
