"""Who a process is, in its own cloud and in the other one (protocol R19).

    identity      in AWS                                in OCI
    AWS_RUNNER    what the environment gives: a role    a session for that role; or an API key, kept in AWS
    AWS_READER    the same                              the same; or the API key of a user who may only read
    OCI_RUNNER    a session of a role; or an access     its resource principal
                  key, kept in OCI Vault
    OPERATOR      what the environment gives            what the environment names; else the AWS runner's API key
    DEPLOYER      what the environment gives            what the environment names

Sessions are made by `lockstep.runtime.federation`. A key of the other cloud is a JSON object with the field names
that this cloud's own tools give it.
"""

# Imported late so that neither cloud's runner loads the other's SDK before it needs it.

import configparser
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from lockstep.plan.compiled import AccessKey, ApiKeys, FederationToAws, FederationToOci
from lockstep.protocol.deadlines import CLOCK_SKEW, RUN_AWAITED
from lockstep.protocol.errors import (
    Environment,
    EnvironmentalError,
    InvalidPlanError,
    StoreAccessDeniedError,
)
from lockstep.protocol.model import SecretStr

if TYPE_CHECKING:
    from lockstep.aws.clients import AwsKeys, Keys
    from lockstep.oci.clients import OciIdentity
    from lockstep.runtime.federation import SessionContext

RESOURCE_PRINCIPAL_VARIABLE = "OCI_RESOURCE_PRINCIPAL_VERSION"
"""Set by OCI where there is a resource principal, as in every function."""

CONFIG_FILE_VARIABLE = "OCI_CONFIG_FILE"
"""Names a config file of the SDK with an API key, for a process without a resource principal: on a workstation, in the
sandbox. There is no default file."""

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
    aws: Callable[["SessionContext"], "Keys | None"]
    oci: Callable[["SessionContext"], "OciIdentity"]


def _environments_keys(_reach: "SessionContext") -> None:
    return None


def _in_aws(reach: "SessionContext") -> "Keys":
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


def _in_oci(reach: "SessionContext", *, key: Callable[[ApiKeys], str]) -> "OciIdentity":
    match reach.plan.to_oci:
        case FederationToOci() as federation:
            from lockstep.runtime.federation import identity_in_oci

            kept: OciIdentity = reach.kept.setdefault("oci", identity_in_oci(federation, reach))
            return kept
        case ApiKeys() as keys:
            return oci_api_key(reach.secret(key(keys)), store="aws", secret=key(keys))
    raise InvalidPlanError


def _writer(keys: ApiKeys) -> str:
    return keys.writer


def _reader(keys: ApiKeys) -> str:
    return keys.reader


def _named_identity(reach: "SessionContext") -> "OciIdentity":
    named = os.environ.keys() & {CONFIG_FILE_VARIABLE, RESOURCE_PRINCIPAL_VARIABLE}
    # The domain knows the functions' roles, and no person.
    if named or not isinstance(reach.plan.to_oci, ApiKeys):
        return own_oci_identity()
    return _in_oci(reach, key=_writer)


AWS_RUNNER = Identity(home="aws", aws=_environments_keys, oci=partial(_in_oci, key=_writer))
"""The Lambda functions that change secrets."""
AWS_READER = Identity(home="aws", aws=_environments_keys, oci=partial(_in_oci, key=_reader))
"""Those that only read in OCI."""
OCI_RUNNER = Identity(home="oci", aws=_in_aws, oci=lambda _reach: own_oci_identity())
"""The OCI function."""
OPERATOR = Identity(home="aws", aws=_environments_keys, oci=_named_identity)
"""A person at a command line. The AWS runner's key serves only those who may read it."""
DEPLOYER = Identity(home="aws", aws=_environments_keys, oci=lambda _reach: own_oci_identity())
"""A person who makes what no runner may make: a published plan, secrets. A runner's key is of no use to them."""


_READERS = frozenset({"aws/apply_db", "aws/digest"})


def identity_of(function: str) -> Identity:
    """Who a function is, by its name as in `aws/generate` and `oci/rotate`."""
    if function.startswith("oci/"):
        return OCI_RUNNER
    return AWS_READER if function in _READERS else AWS_RUNNER


def own_oci_identity() -> "OciIdentity":
    """The identity of a process inside OCI, or the one that its environment names.

    Raises:
        StoreAccessDeniedError: There is neither, or it is not usable.
    """
    import oci  # type: ignore[import-untyped]  # the SDK ships no types

    from lockstep.oci.clients import OciIdentity, config_problem

    try:
        if RESOURCE_PRINCIPAL_VARIABLE in os.environ:
            signer = oci.auth.signers.get_resource_principals_signer()
            return OciIdentity(config={}, signer=signer)
        if file := os.environ.get(CONFIG_FILE_VARIABLE):
            config = oci.config.from_file(file)
            # Requests that are logged show what they carry.
            return OciIdentity(config={**config, "log_requests": False})
    except (oci.exceptions.ClientError, configparser.Error, ValueError, OSError) as error:
        raise StoreAccessDeniedError(code=type(error).__name__) from config_problem(error)
    raise StoreAccessDeniedError(code="no-identity") from EnvironmentalError(Environment.OCI_IDENTITY_MISSING)


def oci_api_key(text: str, *, store: str, secret: str) -> "OciIdentity":
    """An OCI API key: `tenancy`, `user`, `fingerprint`, `private_key` (PEM) and `region`.

    Raises:
        StoreAccessDeniedError: The secret is something else.
    """
    from lockstep.oci.clients import OciIdentity

    fields = ("tenancy", "user", "fingerprint", "private_key", "region")
    key = _fields(text, fields, store=store, secret=secret)
    return OciIdentity(
        config={
            "tenancy": key["tenancy"],
            "user": key["user"],
            "fingerprint": key["fingerprint"],
            "key_content": key["private_key"],
            "region": key["region"],
        }
    )


def aws_access_key(text: str, *, store: str, secret: str) -> "AwsKeys":
    """An AWS access key: `access_key_id` and `secret_access_key`.

    Raises:
        StoreAccessDeniedError: The secret is something else.
    """
    from lockstep.aws.clients import AwsKeys

    key = _fields(text, ("access_key_id", "secret_access_key"), store=store, secret=secret)
    return AwsKeys(access_key_id=key["access_key_id"], secret_access_key=SecretStr(key["secret_access_key"]))


def oci_client_secret(text: str, *, secret: str) -> str:
    """The secret of the domain's application: the text itself, or the field `client_secret` of a JSON object.

    Raises:
        StoreAccessDeniedError: The secret is something else.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        # The parser's own message quotes the text, so it is dropped.
        document = text
    found = document.get("client_secret") if isinstance(document, dict) else text
    if not (_is_plain(found) and str(found).isprintable()):
        raise StoreAccessDeniedError(store="aws", secret=secret, code="not-a-client-secret")
    return str(found)


def _fields(text: str, names: tuple[str, ...], *, store: str, secret: str) -> Mapping[str, str]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        # The parser's own message quotes the text, so it is dropped.
        document = None
    if not isinstance(document, dict) or not all(_is_plain(document.get(n)) for n in names):
        raise StoreAccessDeniedError(store=store, secret=secret, code="not-a-key")
    return {name: document[name] for name in names}


def _is_plain(value: object) -> bool:
    # Signing fails if it is not ASCII, and that error would contain it.
    return isinstance(value, str) and value != "" and value.isascii()
