"""Checks of OCI: the identity, the regions, the clock."""

from collections.abc import Iterator

from lockstep.doctor.checks import Check, with_oci
from lockstep.doctor.context import Context
from lockstep.doctor.findings import Answer, passed
from lockstep.plan import Plan
from lockstep.store_kinds import OciVault


def region_of(plan: Plan) -> str:
    """The region that is asked of what is not bound to one."""
    vault = plan.store(OciVault)
    assert vault or plan.audit.oci  # noqa: S101 - the checks apply to no other plan
    return vault.region if vault else plan.audit.oci.region if plan.audit.oci else ""


def identity(context: Context) -> Iterator[Answer]:
    """Who asks, and whether OCI takes the signature."""
    region = region_of(context.plan)
    namespace = context.oci(region, "object_storage.ObjectStorageClient", "get_namespace")
    who = context.oci.config(region)
    user = who.get("user", "a resource principal")
    yield passed(str(who.get("tenancy", namespace)), f"OCI knows this identity as {user}")


CHECKS = (
    Check(
        id="oci.identity",
        title="identity in OCI",
        looks_at="whether OCI takes the signatures of the identity here, by default of the AWS runner's key",
        means="nothing in OCI can be looked at",
        command="export OCI_CONFIG_FILE=~/.oci/config",
        ask=identity,
        applies=with_oci,
    ),
)
