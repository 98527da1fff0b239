"""What a credential's record says to a person: how old its value is, who rotates it next, and what is not witnessed."""

from collections.abc import Iterator
from datetime import datetime

from lockstep.cli.logins import promoted_at
from lockstep.cli.times import clock_time, relative
from lockstep.identity import Cloud
from lockstep.model import Credential, LockRecord
from lockstep.standby import LEADER, STANDBY, bounds, trusts


def leader(record: LockRecord, credential: Credential, now: datetime, *, has_standby: bool) -> Cloud:
    """The cloud whose next trigger rotates (protocol R8)."""
    if not has_standby or trusts(record.aws, bounds(credential.schedule, now)):
        return LEADER
    return STANDBY


def lines(record: LockRecord, credential: Credential, now: datetime, *, has_standby: bool) -> Iterator[str]:
    """The same as lines."""
    since = promoted_at(record, credential)
    if since is not None:
        yield f"generation {record.current_generation}: promoted at {clock_time(since, now)}"
    if previous := _previous(record, now):
        yield previous
    if record.next_due_at:
        yield f"next due: {clock_time(record.next_due_at, now)}{_by(record, credential, now, has_standby=has_standby)}"
    for stream, first in sorted(record.unwitnessed.items()):
        yield f"witness: entries of {stream} since {clock_time(first, now)} are not witnessed yet"


def _previous(record: LockRecord, now: datetime) -> str | None:
    """What is still alive of the generations before the current one, and for how long."""
    older = sorted(g for g in record.alive if g < (record.current_generation or 0))
    if not older:
        return None
    name = f"previous generation{'s' if len(older) > 1 else ''} {', '.join(map(str, older))}"
    if record.is_revoking:
        return f"{name}: must die, by the emergency order"
    if record.not_before and record.not_before > now:
        return f"{name}: sure to log in until {clock_time(record.not_before, now)}"
    ended = f"the overlap ended {relative(record.not_before, now)}, so " if record.not_before else ""
    return f"{name}: {ended}the next rotation may end {'them' if len(older) > 1 else 'it'}"


def _by(record: LockRecord, credential: Credential, now: datetime, *, has_standby: bool) -> str:
    """Who has the next turn. Whether that run rotates is in the forecast."""
    if record.paused:
        return "; paused, so no scheduled run begins"
    overdue = ", overdue" if record.next_due_at and record.next_due_at < now else ""
    who = leader(record, credential, now, has_standby=has_standby)
    return f"{overdue}; the turn of {who}{', the standby' if who == STANDBY else ''}"
