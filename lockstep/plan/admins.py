"""How the rotation user of a database logs in: the keys in the plan, and what cannot work."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from lockstep.plan.fields import SECRET_NAME, MistakesError, safe
from lockstep.plan.stores import AwsSecretsManager
from lockstep.protocol.model import ROTATION_USER, Admin, AdminCredential, AdminIam, AdminSecret
from lockstep.protocol.names import oci_name

if TYPE_CHECKING:
    from lockstep.plan.databases import DatabaseSection
    from lockstep.plan.model import Plan

_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):secretsmanager:(?P<region>[a-z0-9-]+):[0-9]{12}:secret:"
    r"(?P<name>[A-Za-z0-9/_+=.@!-]{1,512})-[A-Za-z0-9]{6}"
)
"""A complete one: a partial ARN does not reach another account's secret
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/troubleshoot.html#ARN_secretnamehyphen)."""

_MANAGED = re.compile(r"rds![A-Za-z0-9/_+=.@-]{1,200}")
"""What RDS names the secret of a master user, which it rotates
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/service-linked-secrets.html)."""

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

_EXAMPLE_ACCOUNTS = ("111122223333", "123456789012", "444455556666")
"""Those of AWS's documentation."""


def _secret_in_aws(value: str) -> str:
    if value.startswith("arn:"):
        if not _ARN.fullmatch(value):
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
    arn = _ARN.fullmatch(secret)
    return arn["name"] if arn else secret


def region_of_secret(secret: str, default: str) -> str:
    """The region of an ARN; a name is in the default region."""
    arn = _ARN.fullmatch(secret)
    return arn["region"] if arn else default


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


def rds_region(host: str) -> str | None:
    """The region in the name of an RDS host; None for any other name."""
    plain = host.lower().removesuffix(".")
    found = _RDS_REGION.fullmatch(plain) or _RDS_REGION_IN_CHINA.fullmatch(plain)
    return found[1] if found else None


def secrets_region(plan: "Plan") -> str:
    """The AWS region of secrets that are given by name."""
    store = plan.store(AwsSecretsManager)
    return store.region if store else plan.lock.region


def names_in_aws(plan: "Plan") -> list[str]:
    """The admins' secrets that are in the region of the store, each once."""
    home = secrets_region(plan)
    return sorted(
        {secret_name(admin.aws) for admin in _secrets(plan) if region_of_secret(admin.aws, home) == home}
    )


def names_in_oci(plan: "Plan") -> list[str]:
    """The admins' secrets that the OCI runner reads, each once."""
    return sorted({oci_name(a.oci): a.oci for a in _secrets(plan) if is_plain_name(a.oci)}.values())


def admin_secrets(plan: "Plan") -> Iterator[tuple[str, str]]:
    """The places and names of the admins' secrets in both clouds, as `names_in_aws` and `names_in_oci` choose them."""
    home = secrets_region(plan)
    for i, section in enumerate(plan.database_sections):
        if isinstance(admin := section.admin, AdminSecret):
            if region_of_secret(admin.aws, home) == home:
                yield f"databases[{i}].admin_secret", secret_name(admin.aws)
            if is_plain_name(admin.oci):
                key = "oci_admin_secret" if section.oci_admin_secret else "admin_secret"
                yield f"databases[{i}].{key}", admin.oci


def _secrets(plan: "Plan") -> Iterator[AdminSecret]:
    return (s.admin for s in plan.database_sections if isinstance(s.admin, AdminSecret))


def admin_of(section: "DatabaseSection") -> Admin:
    """How the rotation user of a database logs in.

    Raises:
        ValueError: It has no form, several, or one that cannot work there.
    """
    forms = [section.admin_secret, section.admin_iam, section.admin_credential]
    if sum(form is not None for form in forms) != 1:
        raise ValueError("give exactly one of `admin_secret`, `admin_iam` and `admin_credential`")
    if section.admin_secret is not None:
        in_vault = section.oci_admin_secret or section.admin_secret
        return AdminSecret(aws=section.admin_secret, oci=in_vault)
    if section.oci_admin_secret is not None:
        raise MistakesError(["oci_admin_secret: allowed only with `admin_secret`"])
    if section.admin_credential is not None:
        return AdminCredential(credential=section.admin_credential)
    return _iam(section, str(section.admin_iam))


def _iam(section: "DatabaseSection", username: str) -> AdminIam:
    region = rds_region(section.host)
    if section.tls is None:
        raise MistakesError(["admin_iam: needs `tls`, since whoever reads its token on the way can use it"])
    if region is None:
        # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.Connecting.Python.html
        raise MistakesError(
            ["admin_iam: RDS takes tokens only for its own name of the endpoint; give it as `host`"]
        )
    return AdminIam(username=username, region=region)


def rotation_users(section: "DatabaseSection", credential_id: str) -> tuple[str, ...]:
    """The accounts of a database that a credential may not have, since the rotation user has them.

    Where the credential is the admin's own, its accounts are the admin's.
    """
    if section.admin == AdminCredential(credential=credential_id):
        return ()
    match section.admin:
        case AdminIam(username=username):
            return (ROTATION_USER, username)
        case AdminSecret() | AdminCredential():
            return (ROTATION_USER,)


def admin_problems(plan: "Plan") -> Iterator[str]:
    """Admins whose login a runner cannot get."""
    for i, section in enumerate(plan.database_sections):
        match section.admin:
            case AdminSecret() as admin:
                yield from _secret_problems(plan, f"databases[{i}]", section.host, admin)
            case AdminIam(region=region):
                yield from _partition_problems(plan, f"databases[{i}].admin_iam", partition_of(region))
            case AdminCredential(credential=credential_id):
                yield from _credential_problems(
                    plan, f"databases[{i}].admin_credential", section, credential_id
                )


def _credential_problems(
    plan: "Plan", path: str, section: "DatabaseSection", credential_id: str
) -> Iterator[str]:
    """An admin must log in wherever it is the admin. That it is the admin of itself is what makes it rotate."""
    found = next((c for c in plan.credential_sections if c.id == credential_id), None)
    if found is None:
        yield f"{path}: the plan has no credential {credential_id}"
    elif section.server not in {d.server for d in plan.database_sections if d.name in found.databases}:
        yield (
            f"{path}: {credential_id} is not rotated on {section.name}, so its login would not work there; add "
            f"{section.name} to its databases"
        )


def _secret_problems(plan: "Plan", path: str, host: str, admin: AdminSecret) -> Iterator[str]:
    region = region_of_secret(admin.aws, secrets_region(plan))
    if admin.aws.startswith("arn:"):
        partition = admin.aws.split(":")[1]
        if partition == partition_of(region):
            yield from _partition_problems(plan, f"{path}.admin_secret", partition)
        else:
            yield f"{path}.admin_secret: {region} is a region of {partition_of(region)}, not of {partition}"
    host_region = rds_region(host)
    if is_managed(admin.aws) and host_region and host_region != region:
        yield (
            f"{path}.admin_secret: RDS keeps the secret of {host} in {host_region}, not in {region}; give its ARN"
        )
    if plan.runners.oci and not is_plain_name(admin.oci):
        yield (
            f"{path}.oci_admin_secret: needed, because the OCI runner reads Vault, where {admin.aws} is no name; "
            "give the name of a Vault secret with a login that RDS does not rotate"
        )


def _partition_problems(plan: "Plan", path: str, partition: str) -> Iterator[str]:
    own = partition_of(plan.lock.region)
    if partition != own:
        yield (
            f"{path}: an identity of {own}, where the lock table is, has no access to {partition}; use an "
            "`admin_secret` there"
        )


def example_accounts(plan: "Plan") -> Iterator[tuple[str, str]]:
    """ARNs with an account of AWS's documentation, with their places."""
    for i, section in enumerate(plan.database_sections):
        secret = section.admin_secret or ""
        account = secret.split(":")[4] if secret.startswith("arn:") else ""
        if account in _EXAMPLE_ACCOUNTS:
            yield f"databases[{i}].admin_secret", account
