"""The sections `runners` and `events` of the plan: who each runner is in the other cloud, and where events go."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import model_validator

from lockstep.plan.compiled import (
    AccessKey,
    ApiKeys,
    ClientKey,
    ClientSecret,
    FederationToAws,
    FederationToOci,
    message,
)
from lockstep.plan.fields import SecretName, Section, Text, refuse
from lockstep.plan.stores import KmsKeyId
from lockstep.protocol.federation import IssuerKey

AUDIENCE_IN_OCI = RESOURCE_TYPE = "lockstep"
"""For whom AWS makes tokens, and what their bearer is in OCI; the domain's trust has both."""
AUDIENCE_IN_AWS, SUBJECT = "sts.amazonaws.com", "lockstep-oci-runner"
"""For whom the issuer makes tokens, and of whom; the OIDC provider and the role's trust policy have them."""

_Name = Text(r"[A-Za-z0-9._:/@-]{1,128}", "letters, digits and . _ : / @ -, at most 128 in all")


class DomainFederation(Section):
    """The sessions in OCI that the AWS runner gets for tokens of AWS."""

    domain_url: Annotated[
        str,
        Text(
            r"https://[a-z0-9.-]{1,253}(:443)?", "an address such as https://name.example.com, without a path"
        ),
    ]
    """The identity domain, as `oci iam domain list` shows it."""
    client_id: Annotated[str, Text(r"[A-Za-z0-9_]{1,255}", "letters, digits and _, at most 255 in all")]
    """Of the domain's confidential application that may exchange them; Terraform makes the application with it."""
    kms_key: KmsKeyId | None = None
    """Id, alias (alias/…) or ARN of an RSA_2048 key of KMS that signs for the application: it cannot be exported."""
    certificate: Annotated[str, _Name] | None = None
    """The alias under which the application has the certificate of that key."""
    client_secret: SecretName | None = None
    """Instead of both: the secret in AWS with the application's client secret, which is long-lived."""
    token: Literal["rpst", "upst"] = "rpst"  # noqa: S105 - the name of a kind of token
    """`rpst`: each function is a principal of its own; `upst`: a service user of the domain, by a rule of the trust."""

    @model_validator(mode="after")
    def _one_proof(self) -> Self:
        if (self.kms_key is None) != (self.certificate is None) or bool(self.kms_key) == bool(
            self.client_secret
        ):
            refuse(["give kms_key and certificate, or instead of both client_secret"])
        return self

    def compile(self) -> FederationToOci:
        """What a runner needs of it."""
        client: ClientKey | ClientSecret = (
            ClientSecret(secret=self.client_secret)
            if self.client_secret
            else ClientKey(kms_key=str(self.kms_key), certificate=str(self.certificate))
        )
        return message(
            FederationToOci, self, client=client, audience=AUDIENCE_IN_OCI, resource_type=RESOURCE_TYPE
        )


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
    def secrets(self) -> dict[str, str]:
        """The names of the secrets in AWS with what it proves itself with, by their keys in this section."""
        found = {
            "oci_key_secret": self.oci_key_secret,
            "oci_reader_key_secret": self.oci_reader_key_secret,
            "federation.client_secret": self.federation.client_secret if self.federation else None,
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
    endpoint: Annotated[
        str, Text(r"https://[a-z0-9.-]{1,253}", "an address such as https://name.example.com")
    ]
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
    key: IssuerKeySection
    """What signs them."""
    role_arn: Annotated[
        str,
        Text(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,576}", "the ARN of a role"),
    ]
    """The role that the OCI function gets."""

    def compile(self) -> FederationToAws:
        """What a runner needs of it."""
        key = message(IssuerKey, self.key)
        return message(FederationToAws, self, key=key, audience=AUDIENCE_IN_AWS, subject=SUBJECT)


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
    def secrets(self) -> dict[str, str]:
        """The names of the secrets in OCI with what it proves itself with, by their keys in this section."""
        return {"aws_key_secret": self.aws_key_secret} if self.aws_key_secret else {}

    def compile(self) -> AccessKey | FederationToAws:
        """Who the function is in AWS."""
        return self.federation.compile() if self.federation else AccessKey(secret=str(self.aws_key_secret))


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


class Events(Section):
    """Where each cloud sends events of what its runner, or an operator, has done."""

    aws: (
        Annotated[str, Text(r"[A-Za-z0-9/_.-]{1,256}", "letters, digits and / _ . -, at most 256 in all")]
        | None
    ) = None
    """The name of a bus of EventBridge in the stack's account and region, such as `default`. It must exist."""
    oci: Annotated[str, Text(r"ocid1\.onstopic\.[A-Za-z0-9._-]{1,230}", "the OCID of a topic")] | None = None
    """The OCID of a topic of OCI Notifications in the vault's region. It must exist, and have its subscriptions."""

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Self:
        if not (self.aws or self.oci):
            raise ValueError("must name aws, oci or both; to send no events, leave `events` out")
        return self
