"""Checks of OCI: the identity, the clock, regions and compartments, the quotas."""

from collections.abc import Iterator

from lockstep.doctor import commands
from lockstep.doctor.checks import Check, with_oci
from lockstep.doctor.context import Context
from lockstep.doctor.findings import Answer, failed, passed, warning
from lockstep.doctor.skew import skew_answer
from lockstep.environment import ClockSkewError
from lockstep.plan import Plan
from lockstep.quotas import Verdict, of_oci
from lockstep.store_kinds.oci_vault import OciVault


def vault_of(plan: Plan) -> OciVault:
    """The plan's store in OCI, without which none of these checks is asked."""
    vault = plan.store(OciVault)
    if vault is None:
        raise LookupError("the plan has no store in OCI")
    return vault


def identity(context: Context) -> Iterator[Answer]:
    """Who asks, whether OCI takes the signature, and whether it is the tenancy of the plan."""
    region, audit = vault_of(context.plan).region, context.plan.audit.oci
    namespace = str(context.oci(region, "object_storage.ObjectStorageClient", "get_namespace"))
    if audit and audit.namespace != namespace:
        yield failed(
            f"namespace {namespace}",
            f"this identity is of another tenancy than the plan, whose namespace is {audit.namespace}",
            "export OCI_CONFIG_FILE=…  # with an identity of that tenancy: oci os ns get",
        )
        return
    user = context.oci.config(region).get("user", "a resource principal")
    yield passed(f"namespace {namespace}", f"OCI knows this identity as {user}")


def clock(context: Context) -> Iterator[Answer]:
    """This clock against that of OCI."""
    region = vault_of(context.plan).region
    try:
        yield skew_answer("OCI", context.clock, lambda: context.oci.time(region))
    except ClockSkewError as error:
        yield failed("clock", "it is so wrong that OCI refuses the signatures", error.advice.rstrip("."))


def regions(context: Context) -> Iterator[Answer]:
    """Whether the tenancy is subscribed to each region of the plan."""
    vault, audit = vault_of(context.plan), context.plan.audit.oci
    tenancy = context.oci.config(vault.region).get("tenancy")
    found = context.oci(vault.region, "identity.IdentityClient", "list_region_subscriptions", tenancy)
    states = {subscription.region_name: subscription.status for subscription in found}
    for region in dict.fromkeys([vault.region, *([audit.region] if audit else [])]):
        state = states.get(region)
        if state == "READY":
            yield passed(region, "the tenancy is subscribed to it")
        elif state is None:
            subscribe = f"oci iam region-subscription create --tenancy-id {tenancy} --region-key KEY"
            yield failed(region, "the tenancy is not subscribed to it", f"{subscribe}  # oci iam region list")
        else:
            see = f"oci iam region-subscription list --tenancy-id {tenancy}"
            yield failed(region, f"the subscription is {state}", see)


def compartments(context: Context) -> Iterator[Answer]:
    """Whether each compartment of the plan is there and in use."""
    vault = vault_of(context.plan)
    for ocid in dict.fromkeys([vault.compartment_id, vault.compartment_of_own_secrets]):
        found = context.oci.found(vault.region, "identity.IdentityClient", "get_compartment", ocid)
        if found is None:
            yield failed(ocid, "there is no such compartment, or no policy lets you see it", _CORRECT)
        elif found.lifecycle_state != "ACTIVE":
            recover = commands.oci(vault.region, "iam compartment recover", "--compartment-id", ocid)
            yield failed(ocid, f"the compartment is {found.lifecycle_state}", recover)
        else:
            yield passed(ocid, "the compartment is active")


def quotas(context: Context) -> Iterator[Answer]:
    """What the plan needs of each quota."""
    for use in of_oci(context.plan):
        if use.verdict is Verdict.FITS:
            yield passed(use.name, str(use))
        else:
            tell = warning if use.verdict is Verdict.NEAR or use.adjustable else failed
            yield tell(use.name, str(use), f"lockstep plan check  # {use.change}")


_CORRECT = "lockstep plan check  # then correct compartment_id and own_compartment_id"
_NEEDS = "oci.identity"
CHECKS = (
    Check(
        id="oci.identity",
        title="identity in OCI",
        looks_at="whether OCI takes the signatures of the identity here, by default of the AWS runner's key, and its "
        "Object Storage namespace is that of the plan",
        means="nothing in OCI can be looked at, or it would be that of another tenancy",
        command="export OCI_CONFIG_FILE=~/.oci/config",
        ask=identity,
        applies=with_oci,
    ),
    Check(
        id="oci.clock",
        title="clock",
        looks_at="this clock against the Date of an answer of OCI; a minute away is a warning",
        means="OCI refuses signatures that are five minutes off",
        command="timedatectl set-ntp true",
        ask=clock,
        applies=with_oci,
    ),
    Check(
        id="oci.regions",
        title="regions",
        looks_at="whether the tenancy is subscribed to each OCI region of the plan",
        means="no call in that region succeeds",
        command="oci iam region-subscription create --tenancy-id TENANCY --region-key KEY",
        ask=regions,
        needs=_NEEDS,
        applies=with_oci,
    ),
    Check(
        id="oci.compartments",
        title="compartments",
        looks_at="whether the compartments of the rings and of Lockstep's own exist, and are active",
        means="nothing in them can be used",
        command="lockstep plan check",
        ask=compartments,
        needs=_NEEDS,
        applies=with_oci,
    ),
    Check(
        id="oci.quotas",
        title="quotas",
        looks_at="what the plan needs of each quota of a tenancy that has raised none",
        means="a deployment or a rotation is refused, or will be with a few more credentials",
        command="lockstep plan check",
        ask=quotas,
        needs=_NEEDS,
        applies=with_oci,
    ),
)
