"""Append one signed entry to a credential's chain in one stream (protocol E6, E7, E8, E9, E10).

The log decides where the chain ends; the lock record's head is a hint where to look (`lockstep.audit.end`). The object
is written only if its number is free. A retry that finds its own entry goes on (protocol E9). The head is moved by
compare-and-set on itself, not under the fence, because a run that lost its lock still owes its record (protocol L8),
and an operator gives orders without the lock.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lockstep.audit.chain import seal
from lockstep.audit.end import Ends
from lockstep.audit.seal import ChainEnd, Stored, Witnessed
from lockstep.errors import FenceLostError, LostCompareAndSetError
from lockstep.model import ChainHead, Lease, LockRecord
from lockstep.ports import AuditLog, Lock, Signer

logger = logging.getLogger("lockstep")

MAX_TRIES = 4
"""Numbers that others take while one append tries, before it gives up with a retryable error."""

ORDER = "order-"
"""The beginning of the id of an operator's order, which stands in the place of a run's id."""
WITNESS = "witness-"
"""The same for a witness entry."""
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
            AuditConflictError: The log holds too much that is not Lockstep's (protocol E8).
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
