"""The section `runners` of the plan: who rotates, and who each runner is in the other cloud."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, field_validator, model_validator

from lockstep.plan.compiled import (
    AccessKey,
    ApiKeys,
    ClientKey,
    ClientSecret,
    FederationToAws,
    FederationToOci,
    StorageClass,
    fields_of,
)
from lockstep.plan.fields import Duration, Region, SecretName, Section, Text, refuse
from lockstep.protocol.federation import IssuerKey, rsa_key

# The section `audit` of the plan: one stream for each cloud that runs rotations.

KmsKeyId = Annotated[
    str,
    Text(
        r"(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:)?[A-Za-z0-9/_-]{1,256}",
        "the id, the alias (alias/…) or the ARN of a KMS key",
    ),
]


def _is_rsa(value: str) -> str:
    try:
        rsa_key(value)
    except ValueError:
        raise ValueError("must be an RSA key of 2,048 bits or more: PEM, or the base64 of its DER") from None
    return value


DigestKeys = tuple[Annotated[str, AfterValidator(_is_rsa)], ...]


class AwsAudit(Section):
    """The AWS stream: S3 with Object Lock, signed in KMS."""

    bucket: Annotated[str, Text(r"[a-z0-9.-]{3,63}", "3 to 63 lower-case letters, digits, dots and hyphens")]
    """An S3 bucket with Object Lock."""
    region: Region
    """Where the bucket and the key are."""
    mac_key: KmsKeyId
    """Id, alias (alias/…) or ARN of the KMS HMAC_256 key that signs the entries, but for orders."""
    order_key: KmsKeyId = "alias/lockstep-orders"
    """Likewise of the key that signs people's orders."""
    retired_mac_keys: tuple[KmsKeyId, ...] = ()
    """ARNs of keys that signed before `mac_key` or `order_key`, the oldest first."""
    storage_class: StorageClass = "GLACIER_IR"
    """Of the entries. All but STANDARD charge 128 KB for each, which has 2 KB."""
    retention: Duration = timedelta(days=400)
    """How long nobody can delete an entry."""
    digest_keys: DigestKeys = ()
    """The public halves of the key that signs this cloud's digests, and of those that did (docs/runbook.md#digests)."""

    @model_validator(mode="after")
    def _keys_fit(self) -> Self:
        for name, key in (("mac_key", self.mac_key), ("order_key", self.order_key)):
            if key.startswith("arn:") and (region := key.split(":")[3]) != self.region:
                refuse([f"{name}: its region is {region}, but audit.aws.region is {self.region}"])
        order_key, *others = (
            key.rpartition(":")[2].removeprefix("key/")
            for key in (self.order_key, self.mac_key, *self.retired_mac_keys)
        )
        if order_key in others:
            refuse(
                [f"order_key: {self.order_key} signs or signed other entries; orders need a key of their own"]
            )
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
    digest_keys: DigestKeys = ()
    """As in `audit.aws`."""


class Audit(Section):
    """Where every rotation is on record: one stream for each cloud that runs rotations."""

    aws: AwsAudit
    """The stream of the AWS runner."""
    oci: OciAudit | None = None
    """The stream of the OCI runner."""


Url = Annotated[str, Text(r"https://[a-z0-9.-]{1,253}", "an address such as https://name.example.com")]
Plain = Annotated[
    str, Text(r"[A-Za-z0-9._:/@-]{1,128}", "letters, digits and . _ : / @ -, at most 128 in all")
]


class DomainClient(Section):
    """The proof by which the identity domain knows its confidential application."""

    kms_key: KmsKeyId | None = None
    """Id, alias (alias/…) or ARN of an RSA_2048 key of KMS that signs: it cannot be exported."""
    certificate: Plain | None = None
    """The alias under which the application has the certificate of that key."""
    secret: SecretName | None = None
    """Instead of both: the secret in AWS with the application's client secret, which is long-lived."""

    @model_validator(mode="after")
    def _one_proof(self) -> Self:
        if (self.kms_key is None) != (self.certificate is None) or (self.kms_key is None) == (
            self.secret is None
        ):
            refuse(["give kms_key and certificate, or instead of both secret"])
        return self

    def compile(self) -> ClientKey | ClientSecret:
        """What a runner needs of it."""
        if self.secret:
            return ClientSecret(secret=self.secret)
        return ClientKey(kms_key=self.kms_key or "", certificate=self.certificate or "")


class DomainFederation(Section):
    """The sessions in OCI that the AWS runner gets for tokens of AWS."""

    domain_url: Annotated[
        str,
        Text(
            r"https://[a-z0-9.-]{1,253}(:443)?", "an address such as https://name.example.com, without a path"
        ),
    ]
    """The identity domain, as `oci iam domain list` shows it."""
    audience: Plain = "lockstep"
    """For whom AWS makes the tokens: as in the domain's identity propagation trust."""
    client_id: Annotated[str, Text(r"[A-Za-z0-9_]{1,255}", "letters, digits and _, at most 255 in all")]
    """Of the domain's confidential application that may exchange them; Terraform makes the application with it."""
    client: DomainClient
    """How that application proves itself."""
    token: Literal["rpst", "upst"] = "rpst"  # noqa: S105 - the name of a kind of token
    """`rpst`: each function is a principal of its own; `upst`: a service user of the domain, by a rule of the trust."""
    resource_type: Plain = "lockstep"
    """With `rpst`: the resource type of the trust."""

    def compile(self) -> FederationToOci:
        """What a runner needs of it."""
        return FederationToOci(**{**fields_of(FederationToOci, self), "client": self.client.compile()})


class AwsRunner(Section):
    """Step Functions."""

    federation: DomainFederation | None = None
    """How it gets sessions in OCI; this, or a key, is needed with a store in OCI."""
    oci_key_secret: SecretName | None = None
    """Instead: the secret in AWS with an API key for OCI, which is long-lived."""
    oci_reader_key_secret: SecretName | None = None
    """Beside it: that of a user who may only read, for the functions that write nothing in OCI; by default the same."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.federation and self.oci_key_secret:
            refuse(["give federation or oci_key_secret, not both"])
        if self.oci_reader_key_secret and not self.oci_key_secret:
            refuse(["oci_reader_key_secret: needs oci_key_secret beside it, of a user who may write"])
        return self

    @property
    def secrets(self) -> Mapping[str, str]:
        """The names of the secrets in AWS with what it proves itself with, by their keys in this section."""
        found = {
            "oci_key_secret": self.oci_key_secret,
            "oci_reader_key_secret": self.oci_reader_key_secret,
            "federation.client.secret": self.federation.client.secret if self.federation else None,
        }
        return {key: name for key, name in found.items() if name}

    def compile(self) -> ApiKeys | FederationToOci | None:
        """Who the functions are in OCI."""
        if self.federation:
            return self.federation.compile()
        if not self.oci_key_secret:
            return None
        reader = self.oci_reader_key_secret or self.oci_key_secret
        return ApiKeys(writer=self.oci_key_secret, reader=reader)


class IssuerKeySection(Section):
    """The key in OCI Vault that signs the tokens. It cannot be exported."""

    id: Annotated[str, Text(r"ocid1\.key\.[A-Za-z0-9._-]{1,230}", "the OCID of a key")]
    """An RSA key of 2,048 bits or more."""
    version: Annotated[
        str, Text(r"ocid1\.keyversion\.[A-Za-z0-9._-]{1,230}", "the OCID of a version of a key")
    ]
    """Its version that signs; `lockstep identity publish --rotate` makes the next one."""
    endpoint: Url
    """The cryptographic endpoint of its vault."""


class IssuerFederation(Section):
    """The sessions in AWS that the OCI runner gets for tokens of an issuer of its own."""

    issuer: Annotated[
        str,
        Text(
            r"https://[a-z0-9.-]{1,253}(/[A-Za-z0-9._~-]+)*",
            "an address without port, query or slash at its end, such as https://name.example.com/path",
        ),
    ]
    """Where its documents are: `lockstep identity publish` writes them."""
    audience: Plain = "sts.amazonaws.com"
    """For whom the tokens are: as in the OIDC provider and in the role's trust policy."""
    subject: Plain = "lockstep-oci-runner"
    """Whom they name: as in the role's trust policy."""
    key: IssuerKeySection
    """What signs them."""
    role_arn: Annotated[
        str,
        Text(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,576}", "the ARN of a role"),
    ]
    """The role that the OCI function gets."""

    def compile(self) -> FederationToAws:
        """What a runner needs of it."""
        key = IssuerKey(**fields_of(IssuerKey, self.key))
        return FederationToAws(**{**fields_of(FederationToAws, self), "key": key})


class OciRunner(Section):
    """The OCI function, which rotates when AWS does not."""

    federation: IssuerFederation | None = None
    """How it gets sessions in AWS; this, or a key, is needed."""
    aws_key_secret: SecretName | None = None
    """Instead: the secret in OCI Vault with an access key for AWS, which is long-lived."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.federation is None) == (self.aws_key_secret is None):
            refuse(["give federation, or instead aws_key_secret"])
        return self

    @property
    def secrets(self) -> Mapping[str, str]:
        """The names of the secrets in OCI with what it proves itself with, by their keys in this section."""
        return {"aws_key_secret": self.aws_key_secret} if self.aws_key_secret else {}

    def compile(self) -> AccessKey | FederationToAws:
        """Who the function is in AWS."""
        if self.federation:
            return self.federation.compile()
        return AccessKey(secret=self.aws_key_secret or "")


class Runners(Section):
    """Who rotates."""

    aws: AwsRunner = AwsRunner()
    """The runner that leads."""
    oci: OciRunner | None = None
    """The standby."""

    @property
    def keys(self) -> Iterator[tuple[str, str]]:
        """The places and names of the secrets with which the runners prove themselves."""
        for name, runner in (("aws", self.aws), ("oci", self.oci)):
            for key, secret in runner.secrets.items() if runner else ():
                yield f"runners.{name}.{key}", secret


# The section `events` of the plan: where events go. Without it none is sent.


class EventBusSection(Section):
    """A bus of EventBridge, in the account of the stack."""

    name: Annotated[str, Text(r"[A-Za-z0-9/_.-]{1,256}", "letters, digits and / _ . -, at most 256 in all")]
    """Its name; `default` is the one that every account has. It must exist."""
    region: Region
    """Where it is."""


class EventTopicSection(Section):
    """A topic of OCI Notifications."""

    topic_id: Annotated[str, Text(r"ocid1\.onstopic\.[A-Za-z0-9._-]{1,230}", "the OCID of a topic")]
    """Its OCID. It must exist, and have its subscriptions."""
    compartment_id: Annotated[
        str, Text(r"ocid1\.(compartment|tenancy)\.[A-Za-z0-9._-]{1,230}", "the OCID of a compartment")
    ]
    """Where it is: a policy cannot name a topic, so the function may publish to every topic there."""
    region: Region
    """Where it is."""


class Events(Section):
    """Where each cloud sends events of what its runner, or an operator, has done."""

    aws: EventBusSection | None = None
    """Where AWS sends."""
    oci: EventTopicSection | None = None
    """Where the OCI runner sends."""

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Self:
        if not (self.aws or self.oci):
            raise ValueError("must name aws, oci or both; to send no events, leave `events` out")
        return self
