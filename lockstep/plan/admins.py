"""Where the login of a database's rotation user is: forms of its secret, and what a name of RDS says."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from lockstep.plan.compiled import SECRET_ARN, region_of_secret
from lockstep.plan.fields import SECRET_NAME, safe
from lockstep.plan.stores import AwsSecretsManager
from lockstep.protocol.model import AdminSecret
from lockstep.protocol.names import oci_name

if TYPE_CHECKING:
    from lockstep.plan.model import Plan

_MANAGED = re.compile(r"rds![A-Za-z0-9/_+=.@-]{1,200}")
"""What RDS names the secret of a master user, which it rotates
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/service-linked-secrets.html)."""

RDS = re.compile(
    r"(.+\.)?(?P<kind>proxy-|cluster-ro-|cluster-custom-)?[a-z0-9-]+"
    r"\.((?P<region>[a-z0-9-]+)\.rds|rds\.(?P<china>[a-z0-9-]+))\.amazonaws\.(com|com\.cn|eu)\.?",
    re.IGNORECASE,
)
"""A host of RDS, Aurora included: no system's CAs have signed its certificate. A proxy lets a user in with the current
value of one secret alone (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy-secrets-arns.html); Aurora's
reader and custom endpoints lead each connection to another instance
(https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Overview.Endpoints.html)."""

_PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov", "eusc-": "aws-eusc"}
"""By the beginning of a region's name: the other ones are of the partition `aws`. As botocore's partitions.json."""


def _secret_in_aws(value: str) -> str:
    if SECRET_ARN.fullmatch(value) or _MANAGED.fullmatch(value):
        return value
    if not re.fullmatch(SECRET_NAME.pattern, value):
        raise ValueError(
            "must be the name of a secret, its complete ARN, with a hyphen and six characters at its end, or the rds!… "
            "name of a managed one"
        )
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
    return next((p for begin, p in _PARTITIONS.items() if region.startswith(begin)), "aws")


def rds_region(host: str) -> str | None:
    """The region in the name of an RDS host; None for any other name, and for that of a global database."""
    found = RDS.fullmatch(host)
    region = (found["region"] or found["china"]).lower() if found else None
    return None if region == "global" else region


def admin_secrets(plan: "Plan") -> Iterator[tuple[str, str]]:
    """The places and names of the admins' secrets that are in the region of the store in AWS, and in OCI."""
    home = (plan.store(AwsSecretsManager) or plan.lock).region
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
