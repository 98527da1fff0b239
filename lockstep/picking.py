"""Which credentials the standby comes to in a call, by one look at the whole lock table (protocol R5).

Pure. What is picked is everything that ACQUIRE would give (protocol L4), by the record as it was read, and what is to
be witnessed (protocol E15). ACQUIRE decides again for each, by the record as it is then: what is picked twice, or was
rotated meanwhile, is skipped.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from lockstep.audit.witness import REFRESH
from lockstep.lock_rule import reason_against
from lockstep.model import LockRecord, Schedule
from lockstep.standby import LEADER, Bounds, bounds, turn_after
from lockstep.watch import Table

_LAST = datetime.max.replace(tzinfo=UTC)


class Known(Protocol):
    """What must be known of a credential of the plan."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def schedule(self) -> Schedule:
        """When it is rotated."""


def pick(credentials: Sequence[Known], table: Table, *, now: datetime) -> tuple[str, ...]:
    """The ids of the credentials that a call of the standby comes to: emergencies, then the longest due first.

    Those that were never rotated follow, whose records cannot be read, so that their runs say so, and which are only to
    be witnessed.

    Args:
        credentials: Of the plan. What else is in the table is left alone.
        table: What it holds.
        now: In whole seconds, as a run has it.
    """
    found = []
    for credential in credentials:
        if credential.id in table.unreadable:
            found.append(((2, _LAST), credential.id))
            continue
        record = table.records.get(credential.id) or LockRecord(credential_id=credential.id)
        limits = bounds(credential.schedule, now)
        if reason_against(record, now=now, limits=limits) is None:
            rank = 0 if record.is_revoking else 1
            found.append(((rank, record.next_due_at or _LAST), credential.id))
        elif must_witness(record, credential.schedule, limits):
            found.append(((3, _LAST), credential.id))
    return tuple(credential_id for _, credential_id in sorted(found))


def must_witness(record: LockRecord, schedule: Schedule, limits: Bounds) -> bool:
    """Whether the standby may have to look at the log of AWS, though nothing is to be rotated.

    It looked in a turn, before the entry came since which AWS is not witnessed. So from the turn on at which that entry
    is `REFRESH` less half an interval old, a look is due, or nearly.
    """
    since = record.unwitnessed.get(LEADER)
    turn = limits.turn_by - schedule.tolerance
    return since is not None and turn - since >= REFRESH - turn_after(schedule.interval)
