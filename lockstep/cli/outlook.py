"""What a credential's record says to a person: how old its value is, who rotates it next, and what is not witnessed."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from lockstep.cli.logins import promoted_at
from lockstep.cli.times import clock_time, moment, moment_or_none, relative
from lockstep.model import Credential, LockRecord
from lockstep.standby import LEADER, STANDBY, bounds, trusts


def leader(record: LockRecord, credential: Credential, now: datetime, *, has_standby: bool) -> str:
    """The cloud whose next trigger rotates (protocol R8)."""
    if not has_standby or trusts(record.aws, bounds(credential.schedule.interval, now)):
        return LEADER
    return STANDBY


def lines(record: LockRecord, credential: Credential, now: datetime, *, has_standby: bool) -> Iterator[str]:
    """The same as lines."""
    since = promoted_at(record, credential)
    if since is not None:
        yield f"generation {record.current_generation}: current since {clock_time(since, now)}"
    previous = sorted(record.alive - {record.current_generation})
    if previous and record.not_before:
        overlap = (
            f"works for sure until {clock_time(record.not_before, now)}"
            if record.not_before > now
            else f"its overlap ended {relative(record.not_before, now)}, and the next rotation ends it"
        )
        yield f"previous generation {', '.join(map(str, previous))}: {overlap}"
    if record.next_due_at:
        who = leader(record, credential, now, has_standby=has_standby)
        does = "leads and" if who == LEADER else "is the standby and"
        overdue = ", overdue" if record.next_due_at < now and not record.paused else ""
        yield f"next due: {clock_time(record.next_due_at, now)}{overdue}; {who} {does} rotates"
    for stream, first in sorted(record.unwitnessed.items()):
        yield f"witness: entries of {stream} since {clock_time(first, now)} are not witnessed yet"


def document(
    record: LockRecord, credential: Credential, now: datetime, *, has_standby: bool
) -> dict[str, Any]:
    """The same, for other programs."""
    return {
        "current_since": moment_or_none(promoted_at(record, credential)),
        "leader": leader(record, credential, now, has_standby=has_standby),
        "unwitnessed_since": {stream: moment(first) for stream, first in sorted(record.unwitnessed.items())},
    }
