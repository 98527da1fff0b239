"""The compiled plan: what a runner needs of a plan that is valid, with every default filled in.

The plan file is checked when it is compiled (`lockstep.plan`). A function does not check it again: it reads what
was published (`lockstep.published`).
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from lockstep.errors import InvalidPlanError
from lockstep.model import Credential
from lockstep.strict_json import Message, write

_ARN = re.compile(r"arn:aws[a-z-]*:secretsmanager:(?P<region>[a-z0-9-]+):[0-9]{12}:secret:.+")


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
        ring: The slots of each secret.
        slots_of_readers: How many slots every reader reads.
    """

    name: str
    region: str
    compartment_id: str
    compartment_of_own_secrets: str
    vault_id: str
    ring: int
    slots_of_readers: int


Store = AwsStore | VaultStore
StorageClass = Literal["GLACIER_IR", "STANDARD", "STANDARD_IA"]
"""Classes of S3 whose objects can be read at once."""


class AwsStream(Message):
    """The AWS stream of the audit log; attributes as in `lockstep.plan.AwsAudit`."""

    bucket: str
    region: str
    mac_key: str
    retired_mac_keys: tuple[str, ...]
    storage_class: StorageClass


class OciStream(Message):
    """The OCI stream; attributes as in `lockstep.plan.OciAudit`."""

    bucket: str
    namespace: str
    region: str
    mac_secret: str
    retired_mac_secrets: tuple[str, ...]


class EventBus(Message):
    """The bus of EventBridge that gets events; attributes as in `lockstep.plan_events.EventBusSection`."""

    name: str
    region: str


class EventTopic(Message):
    """The topic of OCI Notifications that gets events; attributes as in `lockstep.plan_events.EventTopicSection`."""

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
    """A key of KMS that signs for the domain's application; attributes as in `lockstep.plan_runners.DomainClient`."""

    kms_key: str
    certificate: str


class ClientSecret(Message, tag_field="kind", tag="secret"):
    """The secret in AWS with the client secret of the domain's application."""

    secret: str


class FederationToOci(Message, tag_field="kind", tag="federation"):
    """How the AWS runner gets sessions in OCI; attributes as in `lockstep.plan_runners.DomainFederation`."""

    domain_url: str
    audience: str
    client_id: str
    client: ClientKey | ClientSecret
    token: Literal["rpst", "upst"]
    resource_type: str


class AccessKey(Message, tag_field="kind", tag="access-key"):
    """An access key for AWS, in a secret in OCI Vault."""

    secret: str


class IssuerKey(Message):
    """The key that signs the OCI runner's tokens; attributes as in `lockstep.plan_runners.IssuerKeySection`."""

    id: str
    version: str
    endpoint: str


class FederationToAws(Message, tag_field="kind", tag="federation"):
    """How the OCI runner gets sessions in AWS; attributes as in `lockstep.plan_runners.IssuerFederation`."""

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
        has_standby: Whether OCI runs rotations, too.
        to_oci: Who the AWS runner is in OCI; None where the plan has no store there.
        to_aws: Who the OCI runner is in AWS; None where OCI runs nothing.
        event_bus: Where AWS sends events; None: it sends none.
        event_topic: Where OCI sends events; None: it sends none.
    """

    lock: LockTable
    stores: tuple[Store, ...]
    aws_stream: AwsStream
    oci_stream: OciStream | None
    has_standby: bool
    to_oci: ApiKeys | FederationToOci | None
    to_aws: AccessKey | FederationToAws | None
    credentials: tuple[Credential, ...]
    event_bus: EventBus | None = None
    event_topic: EventTopic | None = None

    @property
    def compiled(self) -> "CompiledPlan":
        """It is."""
        return self

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

    def region_of(self, secret: str) -> str:
        """The AWS region of a secret: that in its ARN, or that of names."""
        arn = _ARN.fullmatch(secret)
        return arn["region"] if arn else self.secrets_region

    def credential(self, credential_id: str) -> Credential | None:
        """The credential with that id."""
        return next((c for c in self.credentials if c.id == credential_id), None)

    def found(self, credential_id: str) -> Credential:
        """The credential with that id.

        Raises:
            InvalidPlanError: There is none.
        """
        credential = self.credential(credential_id)
        if credential is None:
            raise InvalidPlanError
        return credential


class AnyPlan(Protocol):
    """A plan, compiled or not."""

    @property
    def compiled(self) -> CompiledPlan:
        """It, compiled."""


def fields_of(kind: type[Message], section: object) -> dict[str, Any]:
    """The values of a section of the plan for one of the classes above: its attributes of the same names."""
    return {name: getattr(section, name) for name in kind.__struct_fields__}


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
        from lockstep.plan_file import load_plan  # noqa: PLC0415 - no function in a cloud has a plan file
    except ModuleNotFoundError:
        raise InvalidPlanError from None
    plan: AnyPlan = load_plan(file)
    return plan.compiled
