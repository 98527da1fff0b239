"""Witnesses: an entry of one stream names the newest entry of the other (protocol E15, E16).

What is named is what the other *log* shows, at the head and beyond, because the head is in a record that others may
write. Each stream is looked at again when the last look is `REFRESH` ago: by the run that rotates in its own entry, and
by a runner that found nothing to do in an entry of its own, if the other log has grown.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice, takewhile
from typing import Any

from lockstep.audit.append import WITNESS
from lockstep.audit.event import milliseconds, other_event
from lockstep.audit.seal import Stored, Witnessed, look
from lockstep.model import ChainHead
from lockstep.ports import AuditLog, Clock
from lockstep.workers import SideBySide, together

REFRESH = timedelta(minutes=45)
"""With a trigger every 20 minutes the third is due: two looks are an hour apart."""
MAX_LOOKS = 200
"""Objects of another log that one look goes through: more than a day's entries."""
LOOK_SECONDS = 10.0
"""After which a look begins no further call: the step that looks has a minute, and an entry to write."""


def is_due(known: Mapping[str, Witnessed], stream: str, now: datetime) -> bool:
    """Whether another stream must be looked at again; also if the last look is later than now, by a wrong clock."""
    if stream not in known:
        return True
    return not 0 <= milliseconds(now) - known[stream].at < REFRESH.total_seconds() * 1000


def may_be_later(known: Mapping[str, Witnessed], now: datetime) -> bool:
    """Whether a look that is due may come after one of the same run, which another clock has timed later than now.

    Else the last look was too long ago to be of a run that is still at work.
    """
    return any(seen.at > milliseconds(now) for seen in known.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at another log has found: its newest entry, as far as the look got."""

    newest: Stored
    at: datetime

    @property
    def witnessed(self) -> Witnessed:
        """What an entry says of it."""
        return Witnessed(seq=self.newest.number, hash=self.newest.hash, at=milliseconds(self.at))

    def shows_more(self, known: Witnessed | None) -> bool:
        """Whether it is more than was known, apart from a witness entry: two cannot go on about each other."""
        now = self.witnessed
        if known and now.seq <= known.seq:
            return now != Witnessed(seq=known.seq, hash=known.hash, at=now.at)
        if known is None or now.seq > known.seq + 1:
            return True
        return not (self.newest.seal and self.newest.seal.rotation_id.startswith(WITNESS))


def look_at(
    logs: Sequence[AuditLog],
    heads: Mapping[str, ChainHead],
    known: Mapping[str, Witnessed],
    *,
    clock: Clock,
    side_by_side: SideBySide,
) -> dict[str, Look]:
    """The newest entry of each log that is due, or as far as a look gets; nothing of an empty one."""
    now = clock.now()
    ends_at = clock.monotonic() + LOOK_SECONDS

    def has_time(_number: int) -> bool:
        return clock.monotonic() < ends_at

    def newest(log: AuditLog) -> Stored | None:
        return _newest(log, heads.get(log.stream), known.get(log.stream), has_time, side_by_side)

    due = [log for log in logs if is_due(known, log.stream, now)]
    found = side_by_side([partial(newest, log) for log in due])
    return {log.stream: Look(newest=last, at=now) for log, last in zip(due, found, strict=True) if last}


def _newest(
    log: AuditLog,
    head: ChainHead | None,
    known: Witnessed | None,
    has_time: Callable[[int], bool],
    side_by_side: SideBySide,
) -> Stored | None:
    # Who rolls the head back does not make a look end below the one before.
    hints: list[ChainHead | Witnessed] = [hint for hint in (head, known) if hint]
    hints.sort(key=lambda hint: hint.seq, reverse=True)

    def numbers(after: int) -> list[int]:
        return list(takewhile(has_time, islice(log.numbers(after=after), MAX_LOOKS)))

    for hint in hints:
        start, above = together(side_by_side, partial(_at, log, hint), partial(numbers, hint.seq))
        if start:
            return _last_above(log, start, takewhile(has_time, above))
    return _highest(log, has_time)


def _last_above(log: AuditLog, start: Stored, above: Iterable[int]) -> Stored:
    for number in above:
        found = look(log, number)
        if found and found.seal and found.seal.previous_hash == start.hash:
            start = found
    return start


def _highest(log: AuditLog, has_time: Callable[[int], bool]) -> Stored | None:
    """The highest object that is an entry, by its own words, where nothing that is known of the log is in it."""
    numbers = list(takewhile(has_time, log.numbers()))
    for number in takewhile(has_time, islice(reversed(numbers), MAX_LOOKS)):
        found = look(log, number)
        if found and found.seal and (found.seal.stream, found.seal.seq) == (log.stream, number):
            return found
    return None


def _at(log: AuditLog, named: ChainHead | Witnessed) -> Stored | None:
    found = look(log, named.seq)
    return found if found and found.hash == named.hash else None


def event_of_witness(
    *,
    entry_id: str,
    credential_id: str,
    stream: str,
    seen: Mapping[str, Witnessed],
    serves: int,
    now: datetime,
) -> dict[str, Any]:
    """The event of a witness entry, in the form of OCSF 1.5 (see `lockstep.audit.event`).

    Args:
        entry_id: Its id.
        credential_id: The credential.
        stream: `aws` or `oci`, the cloud that witnesses.
        seen: The newest entry of each other stream.
        serves: The generation that the store in this cloud serves.
        now: When the other logs were read.
    """
    return other_event(
        "Witness",
        {"witness": {name: {"seq": w.seq, "hash": w.hash} for name, w in seen.items()}, "serves": serves},
        entry_id=entry_id,
        credential_id=credential_id,
        stream=stream,
        actor={"app_name": "lockstep", "app_uid": f"lockstep/{stream}"},
        now=now,
    )
