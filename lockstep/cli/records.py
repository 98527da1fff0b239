"""The lock records of many credentials, by one scan of the table, and what they say of a whole fleet."""

from collections.abc import Sequence

from lockstep.cli.output import print_json, say
from lockstep.operate.documents import Exit, Summary
from lockstep.operate.state import _table
from lockstep.operate.watch import Expected, Found, shown, watch
from lockstep.plan.model import Plan
from lockstep.protocol.model import Credential
from lockstep.runtime.clouds import Clouds

NO_TROUBLE = frozenset({"PausedCredentials", "StandbyLeadsCredentials"})
"""What an operator has ordered, or the other cloud does."""
_WORDS = {
    "BlockedDatabases": "databases that are blocked",
    "PausedCredentials": "paused",
    "PlanNotActiveCredentials": "whose plan is not the active one",
    "RevokingCredentials": "with an emergency under way",
    "StaleCredentials": "not rotated for two intervals",
    "StandbyLeadsCredentials": "rotated by the standby",
    "UnreadableRecords": "whose lock record cannot be read",
    "UnrotatedCredentials": "never rotated",
}


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
