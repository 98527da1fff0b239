"""Append one signed entry to a credential's chain in one stream (protocol E6, E7, E8, E9, E10).

The object is written only if its number is free (protocol E6). A retry that finds its own entry goes on (protocol E9).
The entry of a writer that died between its write and the move of the head is taken into the chain first (protocol E7).
The head is moved by compare-and-set on itself, not under the fence, because a run that lost its lock still owes its
record (protocol L8), and an operator gives orders without the lock.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lockstep.audit.chain import NO_PREVIOUS, seal
from lockstep.errors import AuditConflictError, FenceLostError, LostCompareAndSetError
from lockstep.model import ChainHead, Lease, LockRecord
from lockstep.ports import AuditLog, EntrySummary, Lock, Signer

MAX_TRIES = 4
"""Entries of others that one append takes into the chain before it gives up with a retryable error."""

ORDER = "order-"
"""The beginning of the id of an operator's order, which stands in the place of a run's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A credential's chain in one stream, with what it takes to extend it."""

    credential_id: str
    lock: Lock
    log: AuditLog
    signer: Signer

    def append(
        self, event: Mapping[str, Any], *, entry_id: str, look_back: int, under: Lease | None = None
    ) -> ChainHead:
        """Append an entry, unless it is in the chain already.

        Args:
            event: The OCSF event.
            entry_id: The id of the run or the order: a chain has one entry for each.
            look_back: How many entries of runs, the head included, may be newer than this one's if it is in the chain
                already.
            under: The lease that must still be held when the head is read: a later head means a later read.

        Raises:
            FenceLostError: It is not held; nothing was written (protocol E4).
            AuditConflictError: The log holds an entry that does not continue the chain (protocol E8).
            LostCompareAndSetError: Others append at the same time; try again.
        """
        stream = self.log.stream
        for _ in range(MAX_TRIES):
            record = self.lock.read()
            head = record.heads.get(stream)
            if head and (own := self._own(head, entry_id, look_back)):
                return own
            if under and (record.holder, record.fence) != (under.holder, under.fence):
                raise FenceLostError(credential=self.credential_id)
            others = {name: other for name, other in record.heads.items() if name != stream}
            body, summary = seal(
                event,
                credential_id=self.credential_id,
                stream=stream,
                after=head,
                others=others,
                signer=self.signer,
                rotation_id=entry_id,
            )
            is_new = self.log.put(body, summary)
            standing = summary if is_new else self._standing(record, summary)
            moved = ChainHead(seq=standing.seq, hash=standing.hash, rotation_id=standing.rotation_id)
            with suppress(LostCompareAndSetError):
                # If this is lost, another writer has moved the head to the same entry: the chain has no other
                # continuation.
                self.lock.move_head(
                    stream,
                    moved,
                    after=head,
                    at=datetime.fromtimestamp(event["time"] / 1000, UTC),
                    # What another writer's entry names is not known here.
                    witnesses=others if is_new else (),
                )
            if moved.rotation_id == entry_id:
                return moved
        raise LostCompareAndSetError(stream=stream)

    def _own(self, head: ChainHead, entry_id: str, look_back: int) -> ChainHead | None:
        """The entry at or below the head: the reply was lost, and others have appended since (protocol E9)."""
        if head.rotation_id == entry_id:
            return head
        seq, newer = head.seq, _runs(head.rotation_id)
        while seq > 1 and newer <= look_back:
            seq -= 1
            found = self.log.summary(seq)
            if found and found.rotation_id == entry_id:
                return ChainHead(seq=found.seq, hash=found.hash, rotation_id=entry_id)
            newer += _runs(found.rotation_id) if found else 1
        return None

    def _standing(self, record: LockRecord, refused: EntrySummary) -> EntrySummary:
        """The entry whose number ours wanted, if it continues the chain (protocol E7, E8)."""
        log = self.log
        # No head in the record, but entries in the log: the lock table was lost. The log's end is the head
        # (protocol E10).
        lost_record = log.stream not in record.heads
        standing = log.summary(log.last_seq() if lost_record else refused.seq)
        if standing is None:
            raise LostCompareAndSetError(stream=log.stream, seq=refused.seq)
        if not lost_record and standing.previous_hash != refused.previous_hash:
            raise AuditConflictError(stream=log.stream, seq=refused.seq)
        if standing.seq == 1 and standing.previous_hash != NO_PREVIOUS:
            raise AuditConflictError(stream=log.stream, seq=standing.seq)
        return standing


def _runs(entry_id: str) -> int:
    """1 for a run's entry. Orders do not count: an operator may give any number of them at any time."""
    return 0 if entry_id.startswith(ORDER) else 1
