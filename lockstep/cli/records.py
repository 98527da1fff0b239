"""The lock records of many credentials, by one scan of the table, and what they say of a whole fleet."""

from collections.abc import Mapping, Sequence

from lockstep.aws.dynamodb_table import read_table
from lockstep.cli.documents import Summary
from lockstep.cli.output import FEW, Exit, print_json, say
from lockstep.clouds import Clouds
from lockstep.errors import LockTableAccessDeniedError
from lockstep.model import Credential, LockRecord
from lockstep.plan import Plan
from lockstep.watch import Expected, Found, Table, shown, watch

NO_TROUBLE = frozenset({"PausedCredentials", "StandbyLeadsCredentials"})
"""What an operator has ordered, or the other cloud does."""
_WORDS = {
    "MutedDatabases": "databases that are muted",
    "PausedCredentials": "paused",
    "PlanNotActiveCredentials": "whose plan is not the active one",
    "RevokingCredentials": "with an emergency under way",
    "StaleCredentials": "not rotated for two intervals",
    "StandbyLeadsCredentials": "rotated by the standby",
    "UnreadableRecords": "whose lock record cannot be read",
    "UnrotatedCredentials": "never rotated",
}


def records_of(plan: Plan, clouds: Clouds, wanted: Sequence[Credential]) -> Mapping[str, LockRecord]:
    """The lock records of credentials, by id: one by one; or by a scan for more than `FEW`, where that is allowed.

    Raises:
        LockstepError: As `lockstep.ports.Lock.read`.
    """
    if len(wanted) <= FEW:
        return {c.id: clouds.lock(c).read() for c in wanted}
    try:
        records = _table(plan, clouds).records
    except LockTableAccessDeniedError:
        records = {}
    # What is not there, or cannot be read, is told as of one.
    others = [c for c in wanted if c.id not in records]
    read = clouds.side_by_side([clouds.lock(c).read for c in others])
    return {**records, **dict(zip((c.id for c in others), read, strict=True))}


def show_summary(plan: Plan, clouds: Clouds, wanted: Sequence[Credential], *, as_json: bool) -> Exit | None:
    """Show what the lock table says of credentials, and return the exit code."""
    expected = Expected(
        credentials=wanted,
        schedules=True,
        standby=plan.runners.oci is not None,
        # Whether the table was lost is no matter of some credentials.
        others={c.id for c in plan.credentials} - {c.id for c in wanted},
    )
    found = watch(_table(plan, clouds), expected, now=clouds.clock.now())
    if as_json:
        print_json(Summary(in_time=not found.ids.keys() - NO_TROUBLE, metrics=found.metrics, ids=found.ids))
    else:
        _show(found)
    return Exit.NO if found.ids.keys() - NO_TROUBLE else None


def _show(found: Found) -> None:
    say(f"{int(found.metrics['Credentials']):,} credentials", style="bold")
    for name, ids in found.ids.items():
        style = "" if name in NO_TROUBLE else "red"
        say(f"  {len(ids):,} {_WORDS[name]}: {', '.join(shown(ids))}", style=style)
    if not found.ids:
        say("  each of them is rotated in time", style="green")


def _table(plan: Plan, clouds: Clouds) -> Table:
    return read_table(clouds.aws("dynamodb", plan.lock.region), plan.lock.table)
