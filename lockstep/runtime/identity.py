"""Who a process is, in its own cloud and in the other one (protocol R19).

    identity      in AWS                                in OCI
    AWS_RUNNER    what the environment gives: a role    a session for that role; or an API key, kept in AWS
    AWS_READER    the same                              the same; or the API key of a user who may only read
    OCI_RUNNER    a session of a role; or an access     its resource principal
                  key, kept in OCI Vault
    OPERATOR      what the environment gives            the same (`own_oci_identity`); else the AWS runner's API key
    DEPLOYER      what the environment gives            what the environment gives

Sessions are made by `lockstep.runtime.federation`. A key of the other cloud is a JSON object with the field names
that this cloud's own tools give it.
"""

# Imported late so that neither cloud's runner loads the other's SDK before it needs it.

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from lockstep.plan.compiled import AccessKey, ApiKeys, FederationToAws, FederationToOci
from lockstep.protocol.deadlines import CLOCK_SKEW, RUN_AWAITED
from lockstep.protocol.errors import InvalidPlanError, StoreAccessDeniedError
from lockstep.protocol.model import SecretStr
from lockstep.protocol.strict_json import object_of

if TYPE_CHECKING:
    from lockstep.aws.clients import AwsKeys, Keys
    from lockstep.oci.clients import OciIdentity
    from lockstep.runtime.clouds import Clouds

CONFIG_FILE_VARIABLE = "OCI_CONFIG_FILE"
"""Names a config file of OCI's tools."""

OCI_ENDPOINT_VARIABLE = "LOCKSTEP_OCI_ENDPOINT"
"""Where OCI is, if not at Oracle's own address. The counterpart of AWS_ENDPOINT_URL; OCI's SDK has no such variable."""

Cloud = Literal["aws", "oci"]

KEY_KEPT = (RUN_AWAITED + CLOCK_SKEW) / 2
"""How long a process keeps an access key that it has read: a person who replaces it deletes the old one twice as long
after, when no run is left that has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a process is.

    Attributes:
        home: The cloud that keeps its secrets: the administrators' logins and the key of the other cloud.
        aws: Gives its keys for AWS; None: what the environment gives.
        oci: Gives its identity in OCI.
    """

    home: Cloud
    aws: Callable[["Clouds"], "Keys | None"]
    oci: Callable[["Clouds"], "OciIdentity"]


def _in_aws(reach: "Clouds") -> "Keys":
    match reach.plan.to_aws:
        case FederationToAws() as federation:
            from lockstep.runtime.federation import sessions_in_aws

            return sessions_in_aws(federation, reach)
        case AccessKey(secret=secret):
            from lockstep.protocol.federation import IssuedSession, Sessions

            # A process may live long, and a person deletes an old key when no run is left that has read it.
            def read() -> IssuedSession["AwsKeys"]:
                key = aws_access_key(reach.secret(secret), store="oci", secret=secret)
                return IssuedSession(session=key, seconds=KEY_KEPT.total_seconds())

            return Sessions(read, reach.clock)
    raise InvalidPlanError


def _in_oci(reach: "Clouds", *, key: Literal["writer", "reader"]) -> "OciIdentity":
    match reach.plan.to_oci:
        case FederationToOci() as federation:
            from lockstep.runtime.federation import identity_in_oci

            kept: OciIdentity = reach.kept.setdefault("oci", identity_in_oci(federation, reach))
            return kept
        case ApiKeys() as keys:
            secret: str = getattr(keys, key)
            return oci_api_key(reach.secret(secret), store="aws", secret=secret)
    raise InvalidPlanError


def _persons_identity(reach: "Clouds") -> "OciIdentity":
    try:
        return own_oci_identity()
    except StoreAccessDeniedError as error:
        # The domain knows the functions' roles, and no person.
        if error.where["code"] != "no-identity" or not isinstance(reach.plan.to_oci, ApiKeys):
            raise
    return _in_oci(reach, key="writer")


AWS_RUNNER = Identity(home="aws", aws=lambda _reach: None, oci=partial(_in_oci, key="writer"))
"""The Lambda functions that change secrets."""
AWS_READER = Identity(home="aws", aws=lambda _reach: None, oci=partial(_in_oci, key="reader"))
"""Those that only read in OCI."""
OCI_RUNNER = Identity(home="oci", aws=_in_aws, oci=lambda _reach: own_oci_identity())
"""The OCI function."""
OPERATOR = Identity(home="aws", aws=lambda _reach: None, oci=_persons_identity)
"""A person at a command line. The AWS runner's key serves only those who may read it."""
DEPLOYER = Identity(home="aws", aws=lambda _reach: None, oci=lambda _reach: own_oci_identity())
"""A person who makes what no runner may make: a published plan, secrets. A runner's key is of no use to them."""


_READERS = frozenset({"aws/apply_db", "aws/digest"})


def identity_of(function: str) -> Identity:
    """Who a function is, by its name as in `aws/generate` and `oci/rotate`."""
    if function.startswith("oci/"):
        return OCI_RUNNER
    return AWS_READER if function in _READERS else AWS_RUNNER


def oci_endpoint() -> str | None:
    """Where OCI is; None: at Oracle's own address for the region."""
    return os.environ.get(OCI_ENDPOINT_VARIABLE)


def own_oci_identity() -> "OciIdentity":
    """Who this process is in OCI; as `lockstep.oci.identity.own_identity`."""
    from lockstep.oci.identity import own_identity

    return own_identity(endpoint=oci_endpoint())


def oci_api_key(text: str, *, store: str, secret: str) -> "OciIdentity":
    """An OCI API key: `tenancy`, `user`, `fingerprint`, `private_key` (PEM) and `region`.

    Raises:
        StoreAccessDeniedError: The secret is something else.
    """
    from lockstep.oci.clients import OciIdentity

    fields = ("tenancy", "user", "fingerprint", "private_key", "region")
    key = _fields(text, fields, store=store, secret=secret)
    return OciIdentity(config={"key_content": key.pop("private_key"), **key})


def aws_access_key(text: str, *, store: str, secret: str) -> "AwsKeys":
    """An AWS access key: `access_key_id` and `secret_access_key`.

    Raises:
        StoreAccessDeniedError: The secret is something else.
    """
    from lockstep.aws.clients import AwsKeys

    key = _fields(text, ("access_key_id", "secret_access_key"), store=store, secret=secret)
    return AwsKeys(access_key_id=key["access_key_id"], secret_access_key=SecretStr(key["secret_access_key"]))


def oci_client_secret(text: str, *, secret: str) -> str:
    """The secret of the domain's application, which is the text itself.

    Raises:
        StoreAccessDeniedError: The secret is something else.
    """
    if not (_is_plain(text) and text.isprintable()) or text.startswith("{"):
        raise StoreAccessDeniedError(store="aws", secret=secret, code="not-a-client-secret")
    return text


def _fields(text: str, names: tuple[str, ...], *, store: str, secret: str) -> dict[str, str]:
    document = object_of(text)
    if not all(_is_plain(document.get(n)) for n in names):
        raise StoreAccessDeniedError(store=store, secret=secret, code="not-a-key")
    return {name: document[name] for name in names}


def _is_plain(value: object) -> bool:
    # Signing fails if it is not ASCII, and that error would contain it.
    return isinstance(value, str) and value != "" and value.isascii()
