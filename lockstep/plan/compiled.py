"""The compiled plan: what a runner needs of a plan that is valid, with every default filled in.

The plan file is checked when it is compiled (`lockstep.plan.model`). A function does not check it again: it reads what
was published (`lockstep.plan.published`).
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import rfc8785
from msgspec import Struct

from lockstep.protocol.errors import InvalidPlanError, InvalidRequestError
from lockstep.protocol.federation import IssuerKey
from lockstep.protocol.model import ANY_HOST, Credential, DatabaseServer
from lockstep.protocol.strict_json import Message, write

StructT = TypeVar("StructT", bound=Struct)
SECRET_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):secretsmanager:(?P<region>[a-z0-9-]+):[0-9]{12}:secret:"
    r"(?P<name>[A-Za-z0-9/_+=.@!-]{1,512})-[A-Za-z0-9]{6}"
)
"""A complete one: a partial ARN does not reach another account's secret
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/troubleshoot.html#ARN_secretnamehyphen)."""


class LockTable(Message):
    """The DynamoDB table that says who may rotate."""

    table: str
    region: str


class AwsStore(Message, tag_field="kind", tag="aws-secrets-manager"):
    """The AWS store."""

    name: str
    region: str


class VaultStore(Message, tag_field="kind", tag="oci-vault"):
    """The OCI store.

    Attributes:
        compartment_of_own_secrets: Where the secrets are that Lockstep only reads.
    """

    name: str
    region: str
    compartment_id: str
    compartment_of_own_secrets: str
    vault_id: str


Store = AwsStore | VaultStore


class AwsStream(Message):
    """The AWS stream of the audit log; attributes as in `lockstep.plan.stores.AwsAudit`."""

    bucket: str
    region: str
    mac_key: str
    order_key: str
    retired_mac_keys: tuple[str, ...]
    retention: timedelta
    digest_keys: tuple[str, ...]


class OciStream(Message):
    """The OCI stream; attributes as in `lockstep.plan.stores.OciAudit`."""

    bucket: str
    namespace: str
    region: str
    mac_secret: str
    retired_mac_secrets: tuple[str, ...]
    digest_keys: tuple[str, ...]


class EventBus(Message):
    """The bus of EventBridge that gets events."""

    name: str
    region: str


class EventTopic(Message):
    """The topic of OCI Notifications that gets events."""

    topic_id: str
    region: str


class ApiKeys(Message, tag_field="kind", tag="api-keys"):
    """API keys for OCI, in secrets in AWS.

    Attributes:
        writer: The secret with that of the functions that change secrets in OCI.
        reader: The secret with that of all others; may be the same.
    """

    writer: str
    reader: str


class ClientKey(Message, tag_field="kind", tag="kms-key"):
    """A key of KMS that signs for the domain's application; attributes as in `DomainFederation` of the plan."""

    kms_key: str
    certificate: str


class ClientSecret(Message, tag_field="kind", tag="secret"):
    """The secret in AWS with the client secret of the domain's application."""

    secret: str


class FederationToOci(Message, tag_field="kind", tag="federation"):
    """How the AWS runner gets sessions in OCI; attributes as in `lockstep.plan.runners.DomainFederation`."""

    domain_url: str
    audience: str
    client_id: str
    client: ClientKey | ClientSecret
    token: Literal["rpst", "upst"]
    resource_type: str


class AccessKey(Message, tag_field="kind", tag="access-key"):
    """An access key for AWS, in a secret in OCI Vault."""

    secret: str


class FederationToAws(Message, tag_field="kind", tag="federation"):
    """How the OCI runner gets sessions in AWS; attributes as in `lockstep.plan.runners.IssuerFederation`."""

    issuer: str
    audience: str
    subject: str
    key: IssuerKey
    role_arn: str


class CompiledPlan(Message):
    """A plan, compiled.

    Attributes:
        stores: In the plan's order.
        oci_stream: None where the plan has no stream in OCI.
        to_oci: Who the AWS runner is in OCI; None where the plan has no store there.
        to_aws: Who the OCI runner is in AWS; None where OCI runs nothing.
        event_bus: Where AWS sends events; None: it sends none.
        event_topic: Where OCI sends events; None: it sends none.
    """

    lock: LockTable
    stores: tuple[Store, ...]
    aws_stream: AwsStream
    oci_stream: OciStream | None
    to_oci: ApiKeys | FederationToOci | None
    to_aws: AccessKey | FederationToAws | None
    credentials: tuple[Credential, ...]
    event_bus: EventBus | None = None
    event_topic: EventTopic | None = None

    @property
    def vault(self) -> VaultStore | None:
        """The OCI store, if the plan has one."""
        return next((s for s in self.stores if isinstance(s, VaultStore)), None)

    @property
    def aws_store(self) -> AwsStore | None:
        """The AWS store, if the plan has one."""
        return next((s for s in self.stores if isinstance(s, AwsStore)), None)

    @property
    def secrets_region(self) -> str:
        """The AWS region of secrets that are given by name."""
        return self.aws_store.region if self.aws_store else self.lock.region

    def found(self, credential_id: str) -> Credential:
        """The credential with that id.

        Raises:
            InvalidRequestError: There is none.
        """
        credential = next((c for c in self.credentials if c.id == credential_id), None)
        if credential is None:
            raise InvalidRequestError(credential=credential_id)
        return credential


def required(part: StructT | None) -> StructT:
    """A part that every plan with a runner in OCI has.

    Raises:
        InvalidPlanError: This one has it not.
    """
    if part is None:
        raise InvalidPlanError
    return part


def region_of_secret(secret: str, default: str) -> str:
    """The region of an ARN; a name is in the default region."""
    arn = SECRET_ARN.fullmatch(secret)
    return arn["region"] if arn else default


def message(kind: type[StructT], thing: object, **given: object) -> StructT:
    """A thing, such as a section of the plan, as a struct: its attributes of the same names, but for those given."""
    fields = kind.__struct_fields__
    return kind(**{name: given[name] if name in given else getattr(thing, name) for name in fields})


def dumped(part: CompiledPlan | Credential, folder: Path) -> Any:  # noqa: ANN401 - JSON
    """A compiled plan, or a credential of it, as JSON, in which CA files below a folder are relative to it."""
    return moved_ca_files(write(part), partial(_relative, folder))


def moved_ca_files(document: object, move: Callable[[str], str]) -> Any:  # noqa: ANN401 - JSON
    """JSON of a compiled plan, or a part of it, with other paths of its CA files."""
    match document:
        case dict():
            return {
                key: move(value) if key == "ca_file" and value else moved_ca_files(value, move)
                for key, value in document.items()
            }
        case list():
            return [moved_ca_files(item, move) for item in document]
    return document


def _relative(folder: Path, path: str) -> str:
    return str(Path(path).relative_to(folder)) if Path(path).is_relative_to(folder) else path


def hosted_plan(file: Path) -> CompiledPlan:
    """The plan in a file.

    Raises:
        InvalidPlanError: The file is not valid; or this is a bundle, which has no parser and reads a published plan.
    """
    try:
        from lockstep.plan.file import load_plan  # noqa: PLC0415 - no function in a cloud has a plan file
    except ModuleNotFoundError:
        raise InvalidPlanError from None
    return load_plan(file).compiled


# The plan digest: one value for all that both runners must agree on for a credential (protocol O1).
#
# A runner whose digest is not the active one changes nothing. So the digest covers what makes two runners write
# different values, to different places, or at different times, and nothing that each runner may have its own way:
#
# - not how a server is reached: TLS with its CA file, endpoints. The two clouds reach it over different networks.
# - not how the rotation user logs in. Each runner has its own way, and the admin's login decides no value.
# - not `audit` and `runners`. Each runner writes its own stream.
# - not `password_length`. A value that was made under another policy is as good as any.
# - not OCI's compartment. A store is its kind and its place; a vault's secrets keep their names when they are moved to
#   another compartment.

VERSION = 1
"""Of the document below. To raise it changes every digest, so that every credential needs an activation; a new field
that is left out while it has its default does not."""


def plan_digest(credential: Credential, lock: LockTable, stores: Sequence[Store]) -> str:
    """SHA-256, in hexadecimal, of what both runners must agree on, in its canonical form (RFC 8785).

    Args:
        credential: Complete but for this. The order of its usernames counts, which says whose turn is next; and its
            first server counts as such: it is the one in `app_user`. The order of the others does not.
        lock: The lock table.
        stores: Their order counts: the first one decides.
    """
    names, schedule = credential.secret_names, credential.schedule
    document = {
        "version": VERSION,
        "credential": credential.id,
        "lock": {"table": lock.table, "region": lock.region},
        "stores": [_identity(store) for store in stores],
        "secrets": {"app_user": names.app_user, "connection_blob": names.connection_blob},
        "strategy": credential.strategy.value,
        "usernames": list(credential.usernames),
        **({"account_host": credential.account_host} if credential.account_host != ANY_HOST else {}),
        "seconds": {
            "interval": int(schedule.interval.total_seconds()),
            "tolerance": int(schedule.tolerance.total_seconds()),
            "overlap": int(schedule.overlap.total_seconds()),
        },
        "primary": credential.primary.name,
        "databases": {server.name: _database(server) for server in credential.servers},
    }
    return hashlib.sha256(rfc8785.dumps(document)).hexdigest()


def _identity(store: Store) -> dict[str, str]:
    """What makes it this store and no other. Of AWS the account is the one that the runners' identities belong to."""
    if isinstance(store, AwsStore):
        return {"kind": "aws-secrets-manager", "region": store.region}
    return {"kind": "oci-vault", "region": store.region, "vault": store.vault_id}


def _database(server: DatabaseServer) -> dict[str, Any]:
    verified = sorted((end.host, end.port) for end in server.verify_hosts)
    return {
        "engine": server.engine.value,
        "host": server.host,
        "port": server.port,
        "dbname": server.dbname,
        **({"verify_hosts": [list(end) for end in verified]} if verified else {}),
    }
