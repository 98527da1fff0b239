"""What is wrong with the credentials of a plan, as the lock table shows it (protocol O14).

Numbers are for alarms, ids for people. Pure: `functions/watch` reads the table and writes what is found here to its
log, from which CloudWatch makes metrics. No number belongs to one credential, so a hundred credentials have as many
metrics and alarms as one.

The record says less than a person wants to know, so each rule says what it goes by:

- *Stale* is counted from `next_due_at`, which every finished rotation of any runner moves. A time too far ahead is
  as bad as one long past: nothing would rotate until then.
- What only an operator can end (a pause, schedules that are off, an activation that was not ordered) is not stale.
- A credential that was never rotated has no time. It is counted by itself.
- Where schedules are on and no credential of the plan is active, the table was lost, and all of them are stale.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from lockstep.protocol.deadlines import CLOCK_SKEW
from lockstep.protocol.lock_rule import due_at
from lockstep.protocol.model import LockRecord, Schedule
from lockstep.protocol.ports import Table
from lockstep.protocol.schedule import AWS, cloud_of

EVERY = timedelta(minutes=5)
"""How often the table is looked at."""
SHOWN = 20
"""So many ids of a kind are written; of the others their number."""
COUNTED = (
    "BlockedDatabases",
    "PausedCredentials",
    "PlanNotActiveCredentials",
    "RevokingCredentials",
    "StaleCredentials",
    "UnreadableRecords",
    "UnrotatedCredentials",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look at the table has found.

    Attributes:
        metrics: Numbers, by the name of their metric. A name that ends in `Seconds` has that unit, one in `Days` has
            none that CloudWatch knows, others count.
        ids: What they count, by the same name: credentials, or databases as `credential: database`.
        others: Ids that are in the table and not in the plan.
    """

    metrics: Mapping[str, float]
    ids: Mapping[str, Sequence[str]]
    others: Sequence[str]


class Watched(Protocol):
    """What is asked of a credential of the plan: a `Credential` has it, and so has an `IndexedCredential`."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def databases(self) -> Sequence[str]:
        """The names of its servers."""

    @property
    def schedule(self) -> Schedule:
        """When it must rotate."""

    @property
    def plan_digest(self) -> str:
        """As of `lockstep.protocol.model.Credential`."""


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
    ids: dict[str, list[str]] = {name: [] for name in COUNTED}
    oldest_due = timedelta()
    for credential in expected.credentials:
        if credential.id in table.unreadable:
            ids["UnreadableRecords"].append(f"{credential.id}: {table.unreadable[credential.id]}")
            continue
        record = table.records.get(credential.id) or LockRecord(credential_id=credential.id)
        for name in _kinds(record, credential, expected, now):
            ids[name].append(credential.id)
        ids["BlockedDatabases"] += [
            f"{credential.id}: {name}" for name in sorted(record.blocked.intersection(credential.databases))
        ]
        if not record.paused:
            oldest_due = max(oldest_due, _due_for(record, now))
    if expected.schedules and _is_lost(table, expected):
        ids["StaleCredentials"] = [c.id for c in expected.credentials]
    return Found(
        metrics={
            "Credentials": len(expected.credentials),
            **{name: len(found) for name, found in ids.items()},
            "OldestDueSeconds": oldest_due.total_seconds(),
            **_canary(table, expected, now),
        },
        ids={name: found for name, found in ids.items() if found},
        others=sorted(
            {*table.records, *table.unreadable} - {c.id for c in expected.credentials} - set(expected.others)
        ),
    )


def _canary(table: Table, expected: Expected, now: datetime) -> Mapping[str, float]:
    """How long ago the last rotation of the canary began; no number where that was not in AWS, or none is known."""
    record = next((table.records.get(c.id) for c in expected.credentials if c.id == expected.canary), None)
    if not (record and record.rotated_at and record.rotated_by and cloud_of(record.rotated_by) == AWS):
        return {}
    return {"CanarySeconds": (now - record.rotated_at).total_seconds()}


def _kinds(record: LockRecord, credential: Watched, expected: Expected, now: datetime) -> Iterable[str]:
    """The counts that a credential belongs to."""
    if record.is_revoking:
        yield "RevokingCredentials"
    if record.paused:
        yield "PausedCredentials"
        return
    if not expected.schedules:
        return
    if credential.plan_digest not in (record.plan, record.activate):
        yield "PlanNotActiveCredentials"
    if not _is_activated(record):
        return
    if record.next_due_at is None:
        yield "UnrotatedCredentials"
        return
    if _is_stale(record, credential, now):
        yield "StaleCredentials"


def _is_activated(record: LockRecord) -> bool:
    return record.plan is not None or record.activate is not None


def _due_for(record: LockRecord, now: datetime) -> timedelta:
    due = due_at(record)
    return max(now - due, timedelta()) if due else timedelta()


def _is_stale(record: LockRecord, credential: Watched, now: datetime) -> bool:
    schedule = credential.schedule
    due = due_at(record)
    if due is None:
        return False
    # It is due an interval, less the tolerance, after its last rotation began.
    not_rotated_for_two_intervals = now - due >= schedule.interval + schedule.tolerance
    by_a_wrong_clock = due - now > max(schedule.interval, schedule.overlap) + CLOCK_SKEW
    return not_rotated_for_two_intervals or by_a_wrong_clock


def _is_lost(table: Table, expected: Expected) -> bool:
    """Whether nothing in the table shows that an operator ever activated or paused a credential of the plan."""
    ids = {c.id for c in expected.credentials} | set(expected.others)
    known = [record for key, record in table.records.items() if key in ids]
    return not (ids & table.unreadable.keys()) and not any(r.paused or _is_activated(r) for r in known)


def namespace(stack: str) -> str:
    """The namespace of a stack's metrics: two stacks in an account must not share one."""
    return f"Lockstep/{stack}"


def shown(ids: Sequence[str]) -> list[str]:
    """The ids, as a log line shows them: so many, then the number of the others."""
    more = len(ids) - SHOWN
    return [*ids[:SHOWN], *([f"and {more} more"] if more > 0 else [])]
