"""The sections `lock`, `stores` and `audit` of the plan."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, Field

from lockstep.plan.fields import Duration, Region, SecretName, Section, Text
from lockstep.protocol.federation import rsa_key


class LockTable(Section):
    """The DynamoDB table that says who may rotate."""

    table: Annotated[str, Text(r"[A-Za-z0-9_.-]{3,255}", "3 to 255 letters, digits and _ . -")]
    """Its name."""
    region: Region
    """Where it is, with the audit bucket, its keys and the event bus."""


class AwsSecretsManager(Section):
    """The AWS store."""

    name: ClassVar[str] = "aws"
    """Its name in commands and messages."""
    kind: Literal["aws-secrets-manager"]
    """AWS Secrets Manager."""
    region: Region
    """Where the secrets are."""


Ocid = Annotated[str, Text(r"ocid1\.[a-z0-9.]+[A-Za-z0-9._-]*", "an OCID, which begins with ocid1.")]


class OciVault(Section):
    """The OCI store: each secret is a ring of plain secrets (`lockstep.protocol.ring`)."""

    name: ClassVar[str] = "oci"
    """Its name in commands and messages."""
    kind: Literal["oci-vault"]
    """OCI Vault."""
    region: Region
    """Where everything of OCI is."""
    compartment_id: Ocid
    """The compartment of the rings, which are alone in it."""
    own_compartment_id: Ocid | None = None
    """The compartment of what Lockstep only reads: logins of administrators, keys; `compartment_id` unless given."""
    vault_id: Ocid
    """The vault."""

    @property
    def compartment_of_own_secrets(self) -> str:
        """Where the secrets are that Lockstep only reads. No value depends on it."""
        return self.own_compartment_id or self.compartment_id


StoreConfig = Annotated[AwsSecretsManager | OciVault, Field(discriminator="kind")]
"""One entry of `stores` in a plan."""
StoreT = TypeVar("StoreT", bound=AwsSecretsManager | OciVault)

_KEY = r"(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/)?[A-Za-z0-9_-]{1,128}"
KmsKeyId = Annotated[
    str,
    # A policy cannot name the ARN of an alias.
    Text(
        rf"({_KEY}|alias/[A-Za-z0-9/_-]{{1,250}})",
        "the id, the alias (alias/…) or the ARN of a KMS key, which is none of an alias",
    ),
]
KmsKeyArn = Annotated[str, Text(_KEY, "the ARN of a KMS key: an alias may name another key by now")]


def _is_rsa(value: str) -> str:
    try:
        rsa_key(value)
    except ValueError:
        raise ValueError("must be an RSA key of 2,048 bits or more: PEM, or the base64 of its DER") from None
    return value


DigestKeys = tuple[Annotated[str, AfterValidator(_is_rsa)], ...]


class AwsAudit(Section):
    """The AWS stream: S3 with Object Lock, signed in KMS."""

    bucket: Annotated[str, Text(r"[a-z0-9.-]{3,57}", "3 to 57 lower-case letters, digits, dots and hyphens")]
    """An S3 bucket with Object Lock, in the region of the lock table. The plan's has -plans after its name."""
    mac_key: KmsKeyId
    """Id, alias (alias/…) or ARN of the KMS HMAC_256 key that signs the entries, but for orders."""
    order_key: KmsKeyId = "alias/lockstep-orders"
    """Likewise of the key that signs people's orders."""
    retired_mac_keys: tuple[KmsKeyArn, ...] = ()
    """ARNs of keys that signed before `mac_key` or `order_key`, the oldest first."""
    retention: Duration = timedelta(days=400)
    """How long nobody can delete an entry."""
    digest_keys: DigestKeys = ()
    """The public halves of the key that signs this cloud's digests, and of those that did (docs/deploy.md#digests)."""

    def problems(self) -> Iterator[str]:
        """As in the base class."""
        key, *others = (
            name.rpartition(":")[2].removeprefix("key/")
            for name in (self.order_key, self.mac_key, *self.retired_mac_keys)
        )
        if key in others:
            yield f"order_key: {self.order_key} signs or signed other entries; orders need a key of their own"
        if not self.retention:
            yield "retention: must be longer than zero"


class OciAudit(Section):
    """The OCI stream: an Archive bucket, signed with a key from a Vault secret."""

    bucket: Annotated[str, Text(r"[A-Za-z0-9._-]{1,248}", "letters, digits and . _ -, at most 248 in all")]
    """An Object Storage bucket with a retention rule, in the region of the vault."""
    namespace: Annotated[str, Text(r"[A-Za-z0-9_-]{1,100}", "letters, digits and _ -, at most 100 in all")]
    """The tenancy's Object Storage namespace: `oci os ns get`."""
    mac_secret: SecretName
    """The Vault secret with the key that signs the entries."""
    retired_mac_secrets: tuple[SecretName, ...] = ()
    """Secrets whose keys signed before `mac_secret`, the oldest first; its own older versions need no mention."""
    digest_keys: DigestKeys = ()
    """As in `audit.aws`."""


class Audit(Section):
    """Where every rotation is on record: one stream for each cloud that runs rotations."""

    aws: AwsAudit
    """The stream of the AWS runner."""
    oci: OciAudit | None = None
    """The stream of the OCI runner."""
