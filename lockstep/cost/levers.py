"""What would lower a bill: changes of the plan or of a setting, and what each of them saves."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from fractions import Fraction

from lockstep.cost.bill import Bill, Deployed
from lockstep.cost.calls import Counted
from lockstep.cost.prices import SMALLEST_BILLED
from lockstep.cost.summing import bill
from lockstep.durations import format_duration
from lockstep.plan import Plan
from lockstep.store_kinds.oci_budget import version_budget
from lockstep.store_kinds.oci_vault import OciVault

LONGER = timedelta(hours=1)
SHORTEST_LOGS = 30
"""Days: the shortest retention that the setting takes."""
LEAST = Fraction(1, 1000)
"""What saves less, in USD, is not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lever:
    """A change.

    Attributes:
        change: What to write where.
        usd: What it saves in a month, all credentials together.
        gives_up: What is given up for it; empty: nothing.
    """

    change: str
    usd: Fraction
    gives_up: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Changed:
    change: str
    plan: Plan
    deployed: Deployed
    gives_up: str = ""


def levers(plan: Plan, deployed: Deployed, counted: Counted, *, now: Bill) -> list[Lever]:
    """The changes that lower the bill, the strongest first. Each is told by itself: savings do not add up."""
    found = [
        Lever(
            change=changed.change,
            usd=now.usd - bill(changed.plan, changed.deployed, counted).usd,
            gives_up=changed.gives_up,
        )
        for changed in _changes(plan, deployed)
    ]
    return sorted((lever for lever in found if lever.usd >= LEAST), key=lambda lever: -lever.usd)


def _changes(plan: Plan, deployed: Deployed) -> Iterator[_Changed]:
    for kind in SMALLEST_BILLED:
        audit = plan.audit.aws.model_copy(update={"storage_class": kind})
        yield _Changed(
            change=f"audit.aws.storage_class: {kind}",
            plan=plan.model_copy(update={"audit": plan.audit.model_copy(update={"aws": audit})}),
            deployed=deployed,
        )
    longer = _with_interval(plan, LONGER)
    every = format_duration(LONGER)
    older = f"a value that leaks works for up to {format_duration(2 * LONGER)}"
    yield _Changed(change=f"credentials: interval: {every}", plan=longer, deployed=deployed, gives_up=older)
    for changed, text in (
        (plan, "stores: ring"),
        (longer, f"credentials: interval: {every}, with stores: ring"),
    ):
        smaller = _smallest_ring(changed)
        if smaller:
            yield _Changed(
                change=f"{text}: {smaller.ring}",
                plan=changed.model_copy(
                    update={
                        "stores": tuple(smaller if isinstance(s, OciVault) else s for s in changed.stores)
                    }
                ),
                deployed=deployed,
                gives_up="a purge that comes late finds no room" if changed is plan else older,
            )
    if deployed.log_retention_days > SHORTEST_LOGS:
        yield _Changed(
            change=f"cdk.json: log_retention_days: {SHORTEST_LOGS}",
            plan=plan,
            deployed=replace(deployed, log_retention_days=SHORTEST_LOGS),
            gives_up="older logs; the audit log stays",
        )
    if deployed.dashboard:
        yield _Changed(
            change="cdk.json: dashboard: false",
            plan=plan,
            deployed=replace(deployed, dashboard=False),
            gives_up="its graphs; metrics and alarms stay",
        )
    if not deployed.encryption_key_adopted:
        yield _Changed(
            change="cdk.json: adopt.encryption_key: a key that is there",
            plan=plan,
            deployed=replace(deployed, encryption_key_adopted=True),
            gives_up="a key of its own",
        )
    if deployed.key_protection == "HSM":
        yield _Changed(
            change="Terraform: key_protection: SOFTWARE",
            plan=plan,
            deployed=replace(deployed, key_protection="SOFTWARE"),
            gives_up="keys that never leave an HSM; a key that is made keeps its protection",
        )


def _with_interval(plan: Plan, interval: timedelta) -> Plan:
    sections = tuple(
        c.model_copy(update={"interval": max(interval, c.interval)}) for c in plan.credential_sections
    )
    return plan.model_copy(update={"credential_sections": sections})


def _smallest_ring(plan: Plan) -> OciVault | None:
    """The store with the smallest ring that can be rotated for ever; None where it has that, or is not there."""
    vault = plan.store(OciVault)
    if vault is None:
        return None
    shortest = min(c.interval for c in plan.credential_sections)
    smallest = next((n for n in range(1, vault.ring) if version_budget(shortest, n).holds), None)
    return vault.model_copy(update={"ring": smallest, "readers_ring": None}) if smallest else None
