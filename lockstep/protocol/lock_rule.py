"""Whether a run may act, by the lock record and the time (protocol L4, L9, L17, R8).

Pure. The lock table decides by the conditions of its writes (`lockstep.aws.dynamodb_lock`); whatever else says what
a run would be given asks here: `lockstep status` and the live page, the standby's choice of credentials, the watch, and
the lock in memory on which the model runs. `tests/contract/test_lock_rule.py` compares both over records of every kind.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from lockstep.protocol.deadlines import CLOCK_SKEW, IMPORT_LEASE, LEASE
from lockstep.protocol.model import Lease, LockRecord, Schedule
from lockstep.protocol.ports import Table
from lockstep.protocol.schedule import DAY, standby_due_by

_LAST = datetime.max.replace(tzinfo=UTC)
LATEST_END = max(LEASE, IMPORT_LEASE) + CLOCK_SKEW
"""A lease that ends later than this from now was written by a clock that is wrong, or by hand."""


def believed(record: LockRecord, now: datetime, interval: timedelta | None) -> LockRecord:
    """The record without the times that cannot be (protocol L17): what is later counts as if it were not there.

    Args:
        record: As it was read.
        now: By the clock of who asks.
        interval: Of the credential's schedule; None where it is not known: then any due time is believed.
    """
    now = now.replace(microsecond=0)  # A write compares whole seconds.
    latest = now + CLOCK_SKEW
    is_ahead = record.rotated_at is not None and record.rotated_at > latest
    due, end = _LAST, _LAST
    if interval is not None:
        # An overlap that was promised under a longer interval is believed if it ends within a day.
        due, end = latest + interval, latest + max(interval, DAY)
    return replace(
        record,
        next_due_at=_until(record.next_due_at, None if is_ahead else due),
        not_before=_until(record.not_before, None if is_ahead else end),
        expires_at=_until(record.expires_at, now + LATEST_END),
    )


def _until(time: datetime | None, latest: datetime | None) -> datetime | None:
    return time if time and latest and time <= latest else None


class Reason(StrEnum):
    """Why a run does not get the lock. Where there are several reasons, the first of them."""

    HELD = "held"
    """Another run has it, until its lease ends."""
    PAUSED = "paused"
    """An operator has ordered that no scheduled run begins."""
    NOT_DUE = "not due"
    """It is not due yet, or the standby leaves it to its next turn."""


def reason_against(
    record: LockRecord,
    *,
    now: datetime,
    holder: str | None = None,
    is_forced: bool = False,
    due_by: datetime | None = None,
    interval: timedelta | None = None,
) -> Reason | None:
    """Why a run that asks for the lock does not get it: the condition of ACQUIRE.

    Args:
        record: As the run would find it.
        now: When it asks.
        holder: The run; None: one that has not asked before.
        is_forced: Whether it rotates before it is due and in spite of a pause.
        due_by: What is due later is left alone, unless the run is forced; None: what is due later than `now`.
        interval: As for `believed`.

    Returns:
        None where it gets the lock.
    """
    record = believed(record, now, interval)
    if is_held(record, now) and record.holder != holder:
        return Reason.HELD
    if is_forced:
        return None
    if record.paused:
        return Reason.PAUSED
    is_ordered = record.activate is not None or record.is_revoking or bool(record.take_over)
    is_due = record.next_due_at is None or record.next_due_at <= (due_by or now)
    return None if is_ordered or record.claim is not None or is_due else Reason.NOT_DUE


def is_held(record: LockRecord, now: datetime) -> bool:
    """Whether a run has the lock, and another one would not get it. A holder without an end has none."""
    end = believed(record, now, None).expires_at
    # A write compares whole seconds.
    return record.holder is not None and end is not None and end >= now.replace(microsecond=0)


def due_at(record: LockRecord) -> datetime | None:
    """From when on a scheduled run rotates, by the schedule and the overlap alone; None: at once."""
    times = (time for time in (record.next_due_at, record.not_before) if time is not None)
    return max(times, default=None)


def has_lease(record: LockRecord, lease: Lease) -> bool:
    """Whether no run has acquired the lock since this one did, and this one has not given it back."""
    return (record.holder, record.fence) == (lease.holder, lease.fence)


def is_in_time(record: LockRecord, now: datetime) -> bool:
    """Whether the lease in the record has not ended, so that its run may still change something."""
    return record.expires_at is not None and now < record.expires_at


# Which credentials the standby comes to in a call, by one look at the whole lock table (protocol R5).
#
# Pure. What is picked is everything that ACQUIRE would give (protocol L4), by the record as it was read. ACQUIRE
# decides again for each, by the record as it is then: what is picked twice, or was rotated meanwhile, is skipped.


def select_due(schedules: Mapping[str, Schedule], table: Table, *, now: datetime) -> tuple[str, ...]:
    """The ids of the credentials that a call of the standby comes to: emergencies, then the longest due first.

    Those that were never rotated follow, and those whose records cannot be read, so that their runs say so.

    Args:
        schedules: Of the plan's credentials, by id. What else is in the table is left alone.
        table: What it holds.
        now: In whole seconds, as a run has it.
    """
    found = []
    for credential_id, schedule in schedules.items():
        if credential_id in table.unreadable:
            found.append(((2, _LAST), credential_id))
            continue
        record = believed(table.record(credential_id), now, schedule.interval)
        if reason_against(record, now=now, due_by=standby_due_by(schedule, now)) is None:
            rank = 0 if record.is_revoking else 1
            found.append(((rank, record.next_due_at or _LAST), credential_id))
    return tuple(credential_id for _, credential_id in sorted(found))
