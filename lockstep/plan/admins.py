"""Where the login of a database's rotation user is: forms of its secret, and what a name of RDS says."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from lockstep.plan.compiled import SECRET_ARN, region_of_secret
from lockstep.plan.fields import SECRET_NAME, safe
from lockstep.plan.stores import AwsSecretsManager
from lockstep.protocol.model import AdminSecret
from lockstep.protocol.names import oci_name, server_of

if TYPE_CHECKING:
    from lockstep.plan.model import Plan

_MANAGED = re.compile(r"rds![A-Za-z0-9/_+=.@-]{1,200}")
"""What RDS names the secret of a master user, which it rotates
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/service-linked-secrets.html)."""

_RDS = re.compile(r".*\.(rds\.amazonaws\.com|rds\.amazonaws\.com\.cn|rds\.[a-z0-9-]+\.amazonaws\.com\.cn)")
_AT_RDS = r"\.([a-z0-9-]+\.rds|rds\.[a-z0-9-]+)\..+"
"""The rest of a name, whatever ends it in a partition."""
RDS_PROXY = re.compile(r".*\.proxy-[a-z0-9]+" + _AT_RDS, re.IGNORECASE)
"""An RDS Proxy, which lets a user in with the current value of one secret alone
(https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy-secrets-arns.html)."""
RDS_SEVERAL = re.compile(r".*\.cluster-(ro|custom)-[a-z0-9]+" + _AT_RDS, re.IGNORECASE)
"""Aurora's reader and custom endpoints lead each connection to another instance
(https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Overview.Endpoints.html)."""
_RDS_REGION = re.compile(r".*\.([a-z]{2,4}(?:-[a-z]+)+-[0-9]{1,2})\.rds\.amazonaws\.com(?:\.cn)?")
_RDS_REGION_IN_CHINA = re.compile(r".*\.rds\.([a-z0-9-]+)\.amazonaws\.com\.cn")

_PARTITIONS = {
    "cn": "aws-cn",
    "us-gov": "aws-us-gov",
    "us-iso": "aws-iso",
    "us-isob": "aws-iso-b",
    "eu-isoe": "aws-iso-e",
    "us-isof": "aws-iso-f",
    "eusc": "aws-eusc",
}
"""By the beginning of a region's name: the other ones are of the partition `aws`. As botocore's partitions.json."""


def _secret_in_aws(value: str) -> str:
    if value.startswith("arn:"):
        if not SECRET_ARN.fullmatch(value):
            raise ValueError(
                "must be the complete ARN of a secret: arn:…:secretsmanager:REGION:ACCOUNT:secret:NAME, a hyphen and "
                "six characters"
            )
        return value
    if value.startswith("rds!"):
        if not _MANAGED.fullmatch(value):
            raise ValueError(
                "must be the name that RDS gave the secret, such as rds!cluster- or rds!db- and an id"
            )
        return value
    if not SECRET_NAME.matches(value):
        raise ValueError("must be the name of a secret, its complete ARN, or the rds!… name of a managed one")
    return safe(value)


SecretInAws = Annotated[str, AfterValidator(_secret_in_aws)]
"""The name of a secret, its ARN, or the name of one that RDS manages."""


def secret_name(secret: str) -> str:
    """The name in an ARN; a name is its own."""
    arn = SECRET_ARN.fullmatch(secret)
    return arn["name"] if arn else secret


def is_managed(secret: str) -> bool:
    """Whether RDS made the secret, and rotates it."""
    return secret_name(secret).startswith("rds!")


def is_plain_name(secret: str) -> bool:
    """Whether it is a name that people give: no ARN, and not RDS's."""
    return not secret.startswith("arn:") and not is_managed(secret)


def partition_of(region: str) -> str:
    """The partition of an AWS region."""
    first, _, rest = region.partition("-")
    second, _, _ = rest.partition("-")
    return _PARTITIONS.get(f"{first}-{second}") or _PARTITIONS.get(first) or "aws"


def needs_ca_file(host: str) -> bool:
    """Whether the server at this host has a certificate that no system's CAs have signed: RDS, Aurora included."""
    plain, _ = server_of(host, 0)
    return bool(_RDS.fullmatch(plain))


def rds_region(host: str) -> str | None:
    """The region in the name of an RDS host; None for any other name."""
    plain = host.lower().removesuffix(".")
    found = _RDS_REGION.fullmatch(plain) or _RDS_REGION_IN_CHINA.fullmatch(plain)
    return found[1] if found else None


def secrets_region(plan: "Plan") -> str:
    """The AWS region of secrets that are given by name."""
    store = plan.store(AwsSecretsManager)
    return store.region if store else plan.lock.region


def admin_secrets(plan: "Plan") -> Iterator[tuple[str, str]]:
    """The places and names of the admins' secrets that are in the region of the store in AWS, and in OCI."""
    home = secrets_region(plan)
    for i, section in enumerate(plan.database_sections):
        if isinstance(admin := section.admin, AdminSecret):
            if region_of_secret(admin.aws, home) == home:
                yield f"databases[{i}].admin_secret", secret_name(admin.aws)
            if is_plain_name(admin.oci):
                key = "oci_admin_secret" if section.oci_admin_secret else "admin_secret"
                yield f"databases[{i}].{key}", admin.oci


def names_in_oci(plan: "Plan") -> list[str]:
    """The admins' secrets that the OCI runner reads, each once."""
    admins = [a for s in plan.database_sections if isinstance(a := s.admin, AdminSecret)]
    return sorted({oci_name(a.oci): a.oci for a in admins if is_plain_name(a.oci)}.values())
