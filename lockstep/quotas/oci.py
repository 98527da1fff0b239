"""The quotas of OCI (`lockstep.quotas`)."""

from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction
from functools import cache
from math import ceil

from lockstep.cost.assumptions import CALL_MS, ROTATION_SECONDS_IN_OCI
from lockstep.cost.aws import IN_OCI
from lockstep.cost.calls import Shape, read_counted
from lockstep.plan import Plan
from lockstep.plan_admins import names_in_oci
from lockstep.quotas import pace
from lockstep.quotas.base import Quota, Use, grows
from lockstep.store_kinds.oci_budget import MAX_IN_USE, MAX_PENDING_DELETION, version_budget
from lockstep.store_kinds.oci_vault import OciVault
from lockstep.timing import BATCH, RUN

_OCI = "https://docs.oracle.com/iaas/Content"

SECRETS_EACH = 2
SECRETS_OF_A_TENANCY = 5000
STATEMENTS = 19
"""Of all policies that Terraform makes, with every option."""
MEMORY_MB = 512
"""Of the function, by default."""
TAKEOVER_MARGIN_SECONDS = 25
"""Before the end of a call, in which no rotation goes on (`oci_fn.func.MARGIN_SECONDS`)."""


def of_oci(plan: Plan) -> Iterator[Use]:
    """What a plan needs of OCI's quotas; nothing where no store is there."""
    vault = plan.store(OciVault)
    if vault is None:
        return
    sections = plan.credential_sections
    count = len(sections)
    # Its runner reads admins, the AWS key and the MAC key.
    fixed = len(names_in_oci(plan)) + 2 if plan.runners.oci else 0
    yield grows(
        plan,
        Quota(
            name="OCI Vault, secrets of the tenancy",
            limit=SECRETS_OF_A_TENANCY,
            unit="secrets",
            source=f"{_OCI}/General/Concepts/servicelimits.htm",
            change="ask Oracle for more, or use a smaller ring with a longer interval",
            adjustable=True,
        ),
        # Those that only readers read are made too (`lockstep.provision.decide.slots_in_oci`).
        total=fixed + SECRETS_EACH * vault.slots_of_readers * count,
        fixed=fixed,
    )
    shortest = min(c.interval for c in plan.credential_sections)
    budget = version_budget(shortest, vault.ring, purge_lateness=timedelta())
    source = f"{_OCI}/secret-management/Concepts/secret-versions.htm"
    for what, need, limit in (
        ("in use", budget.peak_in_use, MAX_IN_USE),
        ("pending deletion, with purges on time", budget.peak_pending, MAX_PENDING_DELETION),
    ):
        yield Use(
            quota=Quota(
                name=f"OCI Vault, versions of a slot {what}",
                limit=limit,
                unit="versions",
                source=source,
                change=budget.advice or "use a larger ring, or a longer interval",
            ),
            need=Fraction(need),
        )
    yield Use(
        quota=Quota(
            name="OCI IAM, policy statements from the root to a compartment",
            limit=500,
            unit="statements",
            source=f"{_OCI}/Identity/policymgmt/policy-limits-compartment-hierarchy.htm",
            change="remove statements of others, or use compartments that are not below each other",
        ),
        need=Fraction(STATEMENTS),
    )
    busiest = pace.busiest(plan.shards)
    for what, service in (("management", "vault"), ("retrieval", "secrets")):
        each = read_counted().number("aws rotation", Shape(databases=1, ring=vault.ring), service)
        yield Use(
            quota=Quota(
                name=f"OCI Vault, calls of {what} in the busiest minute",
                limit=None,
                unit="a second",
                source=f"{_OCI}/General/Concepts/servicelimits.htm",
                change="docs/fleet.md#what-needs-a-real-account says how to measure what a tenancy takes",
            ),
            need=Fraction(each * busiest.rotations, 60),
            count=count,
        )
    if plan.runners.oci:
        yield Use(
            quota=Quota(
                name="OCI Functions, memory of the calls that take over the shards of the busiest minute",
                limit=60 * 1024,
                unit="MB of an availability domain",
                source=f"{_OCI}/Functions/Concepts/functionslimits.htm",
                change="ask Oracle for more, or give the function less memory (memory_in_mbs)",
                adjustable=True,
            ),
            need=ceil(Fraction(busiest.rotations, BATCH))
            * MEMORY_MB
            * Fraction(BATCH * ROTATION_SECONDS_IN_OCI, 60),
        )
        slowest = max(_takeover_seconds(len(c.databases), vault.ring) for c in sections)
        yield Use(
            quota=Quota(
                name="OCI Functions, time of one call that takes over a batch of credentials",
                limit=int(RUN.total_seconds()) - TAKEOVER_MARGIN_SECONDS,
                unit="seconds",
                source="lockstep/timing.py",
                change="use fewer databases for a credential: what one call does not reach waits for the next one",
            ),
            need=BATCH * slowest,
        )


@cache
def _takeover_seconds(databases: int, ring: int) -> Fraction:
    """Of one rotation in OCI: as if its calls of OCI came one after the other, with those of AWS beside them."""
    counted, shape = read_counted(), Shape(databases=databases, ring=ring)
    calls = {service: counted.number("oci rotation", shape, service) for service in IN_OCI}
    return Fraction(sum(number * CALL_MS[service] for service, number in calls.items()), 1000)
