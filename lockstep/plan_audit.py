"""The section `audit` of the plan: one stream for each cloud that runs rotations."""

from datetime import timedelta
from typing import Annotated, Self

from pydantic import field_validator, model_validator

from lockstep.compiled import StorageClass
from lockstep.plan_fields import Duration, Region, SecretName, Section, Text, refuse

KmsKeyId = Annotated[
    str,
    Text(
        r"(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:)?[A-Za-z0-9/_-]{1,256}",
        "the id, the alias (alias/…) or the ARN of a KMS key",
    ),
]


class AwsAudit(Section):
    """The AWS stream: S3 with Object Lock, signed in KMS."""

    bucket: Annotated[str, Text(r"[a-z0-9.-]{3,63}", "3 to 63 lower-case letters, digits, dots and hyphens")]
    """An S3 bucket with Object Lock."""
    region: Region
    """Where the bucket and the key are."""
    mac_key: KmsKeyId
    """Id, alias (alias/…) or ARN of the KMS HMAC_256 key that signs the entries."""
    retired_mac_keys: tuple[KmsKeyId, ...] = ()
    """ARNs of keys that signed before `mac_key`, the oldest first."""
    storage_class: StorageClass = "GLACIER_IR"
    """Of the entries. All but STANDARD charge 128 KB for each, which has 2 KB."""
    retention: Duration = timedelta(days=400)
    """How long nobody can delete an entry."""

    @model_validator(mode="after")
    def _key_in_the_region(self) -> Self:
        if self.mac_key.startswith("arn:") and (region := self.mac_key.split(":")[3]) != self.region:
            refuse([f"mac_key: its region is {region}, but audit.aws.region is {self.region}"])
        return self

    @field_validator("retired_mac_keys")
    @classmethod
    def _are_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if aliases := [key for key in value if "alias/" in key]:
            raise ValueError(f"{aliases[0]}: an alias may name another key by now; give the key's ARN")
        return value

    @field_validator("retention")
    @classmethod
    def _is_kept(cls, value: timedelta) -> timedelta:
        if not value:
            raise ValueError("must be longer than zero")
        return value


class OciAudit(Section):
    """The OCI stream: an Archive bucket, signed with a key from a Vault secret."""

    bucket: Annotated[str, Text(r"[A-Za-z0-9._-]{1,256}", "letters, digits and . _ -, at most 256 in all")]
    """An Object Storage bucket with a retention rule."""
    namespace: str
    """The tenancy's Object Storage namespace: `oci os ns get`."""
    region: Region
    """Where the bucket is."""
    mac_secret: SecretName
    """The Vault secret with the key that signs the entries."""
    retired_mac_secrets: tuple[SecretName, ...] = ()
    """Secrets whose keys signed before `mac_secret`, the oldest first; its own older versions need no mention."""


class Audit(Section):
    """Where every rotation is on record: one stream for each cloud that runs rotations."""

    aws: AwsAudit
    """The stream of the AWS runner."""
    oci: OciAudit | None = None
    """The stream of the OCI runner."""
