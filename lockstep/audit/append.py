"""Append one signed entry to a credential's chain in one stream (protocol E6, E7, E9).

The log decides where the chain ends; the lock record's head is a hint where to look (`lockstep.audit.chain`). The
object is written only if its number is free. A retry that finds its own entry goes on (protocol E9). The head is
moved by compare-and-set on itself, not under the fence, because a run that lost its lock still owes its record
(protocol L8), and an operator gives orders without the lock.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice, takewhile
from typing import Any

from lockstep.audit.chain import Ends, seal
from lockstep.audit.entry import (
    ORDER,
    ChainEnd,
    Stored,
    Witnessed,
    event_of_order,
    look,
    milliseconds,
    other_event,
)
from lockstep.protocol.deadlines import REFRESH
from lockstep.protocol.errors import FenceLostError, LostCompareAndSetError
from lockstep.protocol.model import ChainHead, Lease, LockRecord
from lockstep.protocol.orders import Order, Orders
from lockstep.protocol.ports import AuditLog, Clock, Lock, Signer
from lockstep.protocol.workers import SideBySide, run_all

logger = logging.getLogger("lockstep")

MAX_TRIES = 4
"""Numbers that others take while one append tries, before it gives up with a retryable error."""

WITNESS = "witness-"
"""The beginning of a witness entry's id."""
MAX_LOOK_BACK = 64
"""Objects that a search for an own entry looks at, whatever they are."""

Witnesses = Callable[[LockRecord, Mapping[str, Witnessed]], Mapping[str, Witnessed]]
"""Looks at the other streams, given what is known of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read before an entry is appended: the record first, and where the chain ends by it."""

    record: LockRecord
    end: ChainEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A credential's chain in one stream, with what it takes to extend it.

    Attributes:
        other_logs: Opens the logs of the other streams.
    """

    credential_id: str
    lock: Lock
    log: AuditLog
    signer: Signer
    other_logs: Callable[[], Sequence[AuditLog]]

    @property
    def ends(self) -> Ends:
        """Finds where the chain ends."""
        return Ends(
            credential_id=self.credential_id,
            log=self.log,
            signer=self.signer,
            other_logs=self.other_logs,
        )

    def append(
        self,
        event: Mapping[str, Any],
        *,
        entry_id: str,
        look_back: int,
        reading: Reading | None = None,
        began_at: int | None = None,
        under: Lease | None = None,
        witnesses: Witnesses = lambda _record, _known: {},
    ) -> ChainHead:
        """Append an entry, unless it is in the chain already.

        Args:
            event: The OCSF event.
            entry_id: The id of the run or the order: a chain has one entry for each.
            look_back: How many entries of runs, the last one included, may be newer than this one's if it is in the
                chain already.
            reading: What was read already; by default this reads. If its number is taken, it is read anew.
            began_at: Where the chain ended, by the record, when the run began. Its entry cannot be there or below, so
                nothing below is looked at.
            under: The lease that must be held in the very record that shows the head: a later head means a later read.
            witnesses: Looks at the other streams; what it does not return is carried on from the entry before.

        Raises:
            FenceLostError: It is not held; nothing was written (protocol E4).
            LostCompareAndSetError: Others append at the same time; try again.
        """
        stream, taken = self.log.stream, False
        seen: Mapping[str, Witnessed] | None = None
        # What is witnessed is what was done, not a look at it.
        at = None if entry_id.startswith(WITNESS) else datetime.fromtimestamp(event["time"] / 1000, UTC)
        for _ in range(MAX_TRIES):
            record, end = self._read(reading, taken=taken)
            head = record.heads.get(stream)
            if own := self._own(end, entry_id, look_back, began_at):
                if end.after and head != end.after.head:
                    with suppress(LostCompareAndSetError):
                        self.lock.move_head(stream, end.after.head, after=head, at=at)
                return own.head
            if under and (record.holder, record.fence) != (under.holder, under.fence):
                raise FenceLostError(credential=self.credential_id)
            known = end.after.seal.witness if end.after and end.after.seal else {}
            if seen is None:  # One look, however often the number is taken.
                seen = witnesses(record, known)
            sealed = seal(
                event,
                end,
                credential_id=self.credential_id,
                stream=stream,
                signer=self.signer,
                rotation_id=entry_id,
                witness={**known, **seen},
            )
            if not self.log.put(end.seq, sealed.body, sealed.metadata):
                reading, taken = None, True
                continue
            if end.stepped_over or end.differs:
                # For an alarm: somebody else has touched the log, or the lock record.
                logger.error(
                    "the audit log must be examined",
                    extra={
                        "examine": "audit-log",
                        "credential": self.credential_id,
                        "stream": stream,
                        "seq": end.seq,
                    },
                )
            with suppress(LostCompareAndSetError):
                # If this is lost, another writer has taken this entry into the chain already.
                self.lock.move_head(stream, sealed.stored.head, after=head, at=at, witnesses=seen)
            return sealed.stored.head
        raise LostCompareAndSetError(stream=stream)

    def _read(self, reading: Reading | None, *, taken: bool) -> tuple[LockRecord, ChainEnd]:
        if reading:
            return reading.record, reading.end
        record = self.lock.read()
        return record, self.ends.find(record.heads, taken=taken)

    def _own(self, end: ChainEnd, entry_id: str, look_back: int, began_at: int | None) -> Stored | None:
        """The entry at or below the end: the reply was lost, and others may have appended since (protocol E9)."""
        found, newer = end.after, 0
        for _ in range(MAX_LOOK_BACK):
            if found is None:
                return None
            known = found.seal.rotation_id if found.seal else None
            if known == entry_id and self.ends.is_genuine(found):
                return found
            newer += 1 if known is None else is_of_a_run(known)
            if found.number <= 1 or newer > look_back or began_at in (found.number, found.number - 1):
                return None
            found = self.ends.look(found.number - 1) or Stored(number=found.number - 1)
        return None


def is_of_a_run(entry_id: str) -> bool:
    """Whether an entry is a run's. Orders and witnesses are not: any number of them may come at any time."""
    return not entry_id.startswith((ORDER, WITNESS))


# Witnesses: an entry of one stream names the newest entry of the other (protocol E15).
#
# What is named is what the other *log* shows, at the head and beyond, because the head is in a record that others
# may write. Each stream is looked at again when the last look is `REFRESH` ago: by the run that rotates in its
# own entry, and by a runner that found nothing to do in an entry of its own, if the other log has grown.

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
class LogSnapshot:
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
) -> dict[str, LogSnapshot]:
    """The newest entry of each log that is due, or as far as a look gets; nothing of an empty one."""
    now = clock.now()
    ends_at = clock.monotonic() + LOOK_SECONDS

    def has_time(_number: int) -> bool:
        return clock.monotonic() < ends_at

    def newest(log: AuditLog) -> Stored | None:
        return _newest(log, heads.get(log.stream), known.get(log.stream), has_time, side_by_side)

    due = [log for log in logs if is_due(known, log.stream, now)]
    found = side_by_side([partial(newest, log) for log in due])
    return {
        log.stream: LogSnapshot(newest=last, at=now) for log, last in zip(due, found, strict=True) if last
    }


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
        start, above = run_all(side_by_side, partial(_at, log, hint), partial(numbers, hint.seq))
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
    """The event of a witness entry, in the form of OCSF 1.5 (see `lockstep.audit.entry`).

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


LOOK_BACK = 4
"""How many entries of runs may be newer than an order's own, when its reply was lost (protocol E9)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderResult:
    """An order that stands in the record.

    Attributes:
        record: The record afterwards.
        entry: Its audit entry; None where it stood in the record already.
        was_paused: Whether the credential was paused before.
    """

    record: LockRecord
    entry: ChainHead | None
    was_paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Who gives orders.

    Attributes:
        who: The cloud's name of the identity, for the audit entry.
        now: Gives the time.
        new_id: Gives an id that was never used.
    """

    who: str
    now: Callable[[], datetime]
    new_id: Callable[[], str]


def give(order: Order, *, by: Operator, chain: Chain, orders: Orders) -> OrderResult:
    """Give an order: first its audit entry, then the record (protocol O2).

    To give it again is a success without a second entry, also after its reply was lost. If this fails between the two,
    an order is on record that no run has seen; give it again.

    Raises:
        OrderRefusedError: The record does not allow it.
        LostCompareAndSetError: As `Chain.append`.
    """
    before = chain.lock.read()
    if order.is_applied(before):
        return OrderResult(record=before, entry=None)
    order.check(before)
    entry = record_order(order.name, order.details(before), by=by, chain=chain)
    return OrderResult(record=orders.write(order), entry=entry, was_paused=before.paused)


def record_order(name: str, details: dict[str, Any], *, by: Operator, chain: Chain) -> ChainHead:
    """Append the entry of something that an operator does, before it is done (protocol O2)."""
    entry_id = f"{ORDER}{by.new_id()}"
    event = event_of_order(
        name,
        details,
        entry_id=entry_id,
        credential_id=chain.credential_id,
        stream=chain.log.stream,
        who=by.who,
        now=by.now(),
    )
    return chain.append(event, entry_id=entry_id, look_back=LOOK_BACK)
