"""Witnesses: an entry of one stream names the newest entry of the other (protocol E15, E16).

What is named is what the other *log* shows, at the head and beyond, because the head is in a record that others may
write. Each stream is looked at again when the last look is `REFRESH` ago: by the run that rotates in its own entry, and
by a runner that found nothing to do in an entry of its own, if the other log has grown.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Any

from lockstep.audit.append import WITNESS
from lockstep.audit.event import milliseconds, other_event
from lockstep.audit.seal import Stored, Witnessed, look
from lockstep.model import ChainHead
from lockstep.ports import AuditLog, Clock

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


def look_at(
    logs: Sequence[AuditLog],
    heads: Mapping[str, ChainHead],
    known: Mapping[str, Witnessed],
    clock: Clock,
) -> dict[str, Witnessed]:
    """The newest entry of each log that is due, or as far as a look gets; nothing of an empty one."""
    found, now = {}, clock.now()
    ends_at = clock.monotonic() + LOOK_SECONDS

    def has_time(_number: int) -> bool:
        return clock.monotonic() < ends_at

    for log in logs:
        if not is_due(known, log.stream, now):
            continue
        if newest := _newest(log, heads.get(log.stream), known.get(log.stream), has_time):
            found[log.stream] = Witnessed(seq=newest.number, hash=newest.hash, at=milliseconds(now))
    return found


def has_grown(log: AuditLog, seen: Witnessed, known: Witnessed | None) -> bool:
    """Whether a log holds more than was known of it, apart from a witness entry: two cannot go on about each other."""
    if known and seen.seq <= known.seq:
        return seen != Witnessed(seq=known.seq, hash=known.hash, at=seen.at)
    if known is None or seen.seq > known.seq + 1:
        return True
    newest = look(log, seen.seq)
    return not (newest and newest.seal and newest.seal.rotation_id.startswith(WITNESS))


def _newest(
    log: AuditLog, head: ChainHead | None, known: Witnessed | None, has_time: Callable[[int], bool]
) -> Stored | None:
    # Who rolls the head back does not make a look end below the one before.
    hints: list[ChainHead | Witnessed] = [hint for hint in (head, known) if hint]
    hints.sort(key=lambda hint: hint.seq, reverse=True)
    start = next((found for hint in hints if (found := _at(log, hint))), None)
    if start is None:
        return _highest(log, has_time)
    for number in takewhile(has_time, islice(log.numbers(after=start.number), MAX_LOOKS)):
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
