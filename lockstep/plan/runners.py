"""The sections `runners` and `events` of the plan: who each runner is in the other cloud, and where events go."""

from collections.abc import Iterator
from typing import Annotated, Literal

from lockstep.plan.compiled import (
    AccessKey,
    ApiKeys,
    ClientKey,
    ClientSecret,
    FederationToAws,
    FederationToOci,
    message,
)
from lockstep.plan.fields import SecretName, Section, Text
from lockstep.plan.stores import KmsKeyId
from lockstep.protocol.federation import IssuerKey

AUDIENCE_IN_OCI = "lockstep"
"""For whom AWS makes tokens, and what their bearer is in OCI; the domain's trust has both."""
AUDIENCE_IN_AWS, SUBJECT = "sts.amazonaws.com", "lockstep-oci-runner"
"""For whom the issuer makes tokens, and of whom; the OIDC provider and the role's trust policy have them."""

_Name = Text(r"[A-Za-z0-9._:/@-]{1,128}", "letters, digits and . _ : / @ -, at most 128 in all")


class Prover(Section):
    """A section that says with what a runner proves itself."""

    @property
    def secrets(self) -> dict[str, str]:
        """The names of the secrets that it names, by their keys in this section."""
        found = dict[str, str]()
        for key, value in self:
            if isinstance(value, Prover):
                found |= {f"{key}.{inner}": name for inner, name in value.secrets.items()}
            elif key.endswith("_secret") and value:
                found[key] = value
        return found


class DomainFederation(Prover):
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

    def problems(self) -> Iterator[str]:
        """As in the base class."""
        if bool(self.kms_key) != bool(self.certificate) or bool(self.kms_key) == bool(self.client_secret):
            yield "give kms_key and certificate, or instead of both client_secret"

    def compile(self) -> FederationToOci:
        """What a runner needs of it."""
        client: ClientKey | ClientSecret = (
            ClientSecret(secret=self.client_secret)
            if self.client_secret
            else ClientKey(kms_key=str(self.kms_key), certificate=str(self.certificate))
        )
        return message(
            FederationToOci, self, client=client, audience=AUDIENCE_IN_OCI, resource_type=AUDIENCE_IN_OCI
        )


class AwsRunner(Prover):
    """Step Functions."""

    federation: DomainFederation | None = None
    """How it gets sessions in OCI; this, or a key, is needed with a store in OCI."""
    oci_key_secret: SecretName | None = None
    """Instead: the secret in AWS with an API key for OCI, which is long-lived."""
    oci_reader_key_secret: SecretName | None = None
    """Beside it: that of a user who may only read, for the functions that write nothing in OCI; by default the same."""

    def problems(self) -> Iterator[str]:
        """As in the base class."""
        if self.federation and self.oci_key_secret:
            yield "give federation or oci_key_secret, not both"
        if self.oci_reader_key_secret and not self.oci_key_secret:
            yield "oci_reader_key_secret: needs oci_key_secret beside it, of a user who may write"

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
    """Its version that signs."""
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


class OciRunner(Prover):
    """The OCI function, which rotates when AWS does not."""

    federation: IssuerFederation | None = None
    """How it gets sessions in AWS; this, or a key, is needed."""
    aws_key_secret: SecretName | None = None
    """Instead: the secret in OCI Vault with an access key for AWS, which is long-lived."""

    def problems(self) -> Iterator[str]:
        """As in the base class."""
        if bool(self.federation) == bool(self.aws_key_secret):
            yield "give federation, or instead aws_key_secret"

    def compile(self) -> AccessKey | FederationToAws:
        """Who the function is in AWS."""
        return self.federation.compile() if self.federation else AccessKey(secret=str(self.aws_key_secret))


class Runners(Prover):
    """Who rotates."""

    aws: AwsRunner = AwsRunner()
    """The runner that leads."""
    oci: OciRunner | None = None
    """The standby."""


class Events(Section):
    """Where each cloud sends events of what its runner, or an operator, has done."""

    aws: (
        Annotated[str, Text(r"[A-Za-z0-9/_.-]{1,256}", "letters, digits and / _ . -, at most 256 in all")]
        | None
    ) = None
    """The name of a bus of EventBridge in the stack's account and region, such as `default`. It must exist."""
    oci: Annotated[str, Text(r"ocid1\.onstopic\.[A-Za-z0-9._-]{1,230}", "the OCID of a topic")] | None = None
    """The OCID of a topic of OCI Notifications in the vault's region. It must exist, and have its subscriptions."""
