"""What is wrong with the credentials of a plan, as the lock table shows it (protocol O14).

Numbers are for alarms, ids for people. Pure: `functions/watch` reads the table and writes what is found here to its
log, from which CloudWatch makes metrics. No number belongs to one credential, so a hundred credentials have as many
metrics and alarms as one.

The record says less than a person wants to know, so each rule says what it goes by:

- *Stale* is counted from `next_due_at`, which every finished rotation of any runner moves. Where that is a time that
  cannot be, nothing says since when it is due: it is stale until the next run.
- A database under take-over may refuse what is served, or let in what was revoked. During an emergency that is counted.
- What only an operator can end (a pause, schedules that are off, an activation that was not ordered) is not stale.
- A credential that was never rotated has no time. It is counted by itself.
- Where schedules are on and no credential of the plan is active, the table was lost, and all of them are stale.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lockstep.operate.verdict import Kind, Reason, Watched, lost, of_record, ranked, unreadable
from lockstep.protocol.ports import Table
from lockstep.protocol.schedule import AWS, cloud_of

EVERY = timedelta(minutes=5)
"""How often the table is looked at."""
SHOWN = 20
"""So many ids of a kind are written; of the others their number."""
METRICS = {
    Kind.PAUSED: "PausedCredentials",
    Kind.OTHER_PLAN: "PlanNotActiveCredentials",
    Kind.EMERGENCY: "RevokingCredentials",
    Kind.OVERDUE: "StaleCredentials",
    Kind.TAKE_OVER: "TakeOverDatabases",
    Kind.UNREADABLE: "UnreadableRecords",
    Kind.NEW: "UnrotatedCredentials",
}
"""What is counted of what the lock record says; what it says besides ends with the next run, or is one of these."""
COUNTED = tuple(METRICS.values())
_OF_SCHEDULES = frozenset({Kind.OTHER_PLAN, Kind.OVERDUE, Kind.NEW})
"""What is nothing while the schedules are off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look at the table has found.

    Attributes:
        metrics: Numbers, by the name of their metric. A name that ends in `Seconds` has that unit, others count.
        ids: What they count, by the same name: credentials, or databases as `credential: database`.
        reasons: What is the matter with each credential with which something is, the gravest first.
    """

    metrics: Mapping[str, float]
    ids: Mapping[str, Sequence[str]]
    reasons: Mapping[str, Sequence[Reason]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What should go on.

    Attributes:
        credentials: Those of the plan.
        schedules: Whether the triggers of AWS are on.
        canary: The id of the credential for which the others wait in a deployment.
        others: The ids of the plan's other credentials, where only some are looked at.
    """

    credentials: Sequence[Watched]
    schedules: bool
    canary: str | None = None
    others: Collection[str] = ()


def watch(table: Table, expected: Expected, *, now: datetime) -> Found:
    """Judge the records of a plan's credentials.

    Args:
        table: What the lock table holds.
        expected: What should go on.
        now: The time.
    """
    found: dict[str, list[Reason]] = {}
    is_lost = expected.schedules and _is_lost(table, expected)
    for credential in expected.credentials:
        record = table.record(credential.id)
        if problem := table.unreadable.get(credential.id):
            reasons = [unreadable(credential, problem)]
        else:
            reasons = [
                reason
                for reason in of_record(record, credential, now)
                if expected.schedules or reason.kind not in _OF_SCHEDULES
            ]
        if is_lost:
            reasons.append(lost(record, credential, now))
        if reasons:
            found[credential.id] = ranked(reasons)
    ids: dict[str, list[str]] = {name: [] for name in COUNTED}
    for of, reasons in found.items():
        for reason in reasons:
            if name := METRICS.get(reason.kind):
                ids[name].append(f"{of}: {reason.place}" if reason.place else of)
    return Found(
        metrics={
            "Credentials": len(expected.credentials),
            **{name: len(named) for name, named in ids.items()},
            **_canary(table, expected, now),
        },
        ids={name: named for name, named in ids.items() if named},
        reasons=found,
    )


def _canary(table: Table, expected: Expected, now: datetime) -> Mapping[str, float]:
    """How long ago the last rotation of the canary began; no number where that was not in AWS, or none is known."""
    record = next((table.records.get(c.id) for c in expected.credentials if c.id == expected.canary), None)
    if not (record and record.rotated_at and record.rotated_by and cloud_of(record.rotated_by) == AWS):
        return {}
    return {"CanarySeconds": (now - record.rotated_at).total_seconds()}


def _is_lost(table: Table, expected: Expected) -> bool:
    """Whether nothing in the table shows that an operator ever activated or paused a credential of the plan."""
    ids = {c.id for c in expected.credentials} | set(expected.others)
    known = [record for key, record in table.records.items() if key in ids]
    return not (ids & table.unreadable.keys()) and not any(r.paused or r.plan or r.activate for r in known)


def namespace(stack: str) -> str:
    """The namespace of a stack's metrics: two stacks in an account must not share one."""
    return f"Lockstep/{stack}"


def shown(ids: Sequence[str]) -> list[str]:
    """The ids, as a log line shows them: so many, then the number of the others."""
    more = len(ids) - SHOWN
    return [*ids[:SHOWN], *([f"and {more} more"] if more > 0 else [])]
