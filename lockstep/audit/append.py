"""Append one signed entry to a credential's chain in one stream (protocol E6, E7, E9).

The log decides where the chain ends; the lock record's head is a hint where to look (`lockstep.audit.chain`). The
object is written only if its number is free. A retry that finds its own entry goes on (protocol E9). Nothing is
written to the lock record: the run that gives the lock back moves the head (protocol L10).
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lockstep.audit.chain import Ends, seal
from lockstep.audit.entry import (
    ORDER,
    ChainEnd,
    Stored,
    event_of_order,
    is_of_a_run,
)
from lockstep.protocol.errors import FenceLostError, LostCompareAndSetError
from lockstep.protocol.model import ChainHead, Lease, LockRecord
from lockstep.protocol.orders import Order, Orders
from lockstep.protocol.ports import Lock

logger = logging.getLogger("lockstep")

MAX_TRIES = 4
"""Numbers that others take while one append tries, before it gives up with a retryable error."""

MAX_LOOK_BACK = 64
"""Objects that a search for an own entry looks at, whatever they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain(Ends):
    """A credential's chain in one stream, with what it takes to extend it."""

    lock: Lock

    def append(
        self,
        event: Mapping[str, Any],
        *,
        entry_id: str,
        look_back: int,
        record: LockRecord | None = None,
        seen: Stored | None = None,
        began_at: int | None = None,
        under: Lease | None = None,
    ) -> ChainHead:
        """Append an entry, unless it is in the chain already.

        Args:
            event: The OCSF event.
            entry_id: The id of the run or the order: a chain has one entry for each.
            look_back: How many entries of runs, the last one included, may be newer than this one's if it is in the
                chain already.
            record: The lock record, if it was read already. If the number after its head is taken, it is read anew.
            seen: An object that was looked at while the record was read; as of `find`.
            began_at: Where the chain ended, by the record, when the run began. Its entry cannot be there or below, so
                nothing below is looked at.
            under: The lease that must be held in the very record that shows the head: a later head means a later read.

        Raises:
            FenceLostError: It is not held; nothing was written (protocol E4).
            LostCompareAndSetError: Others append at the same time; try again.
        """
        stream, taken = self.log.stream, False
        for _ in range(MAX_TRIES):
            record = record or self.lock.read()
            end = self.find(record.heads.get(stream), taken=taken, seen=seen)
            if own := self._own(end, entry_id, look_back, began_at):
                return own.head
            if under and (record.holder, record.fence) != (under.holder, under.fence):
                raise FenceLostError(credential=self.credential_id)
            sealed = seal(
                event,
                end,
                credential_id=self.credential_id,
                stream=stream,
                signer=self.signer,
                rotation_id=entry_id,
            )
            if not self.log.put(end.seq, sealed.body, sealed.metadata):
                record, seen, taken = None, None, True
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
            return sealed.stored.head
        raise LostCompareAndSetError(stream=stream)

    def _own(self, end: ChainEnd, entry_id: str, look_back: int, began_at: int | None) -> Stored | None:
        """The entry at or below the end: the reply was lost, and others may have appended since (protocol E9)."""
        found, newer = end.after, 0
        for _ in range(MAX_LOOK_BACK):
            if found is None:
                return None
            known = found.seal.rotation_id if found.seal else None
            if known == entry_id and self.is_genuine(found):
                return found
            newer += 1 if known is None else is_of_a_run(known)
            if found.number <= 1 or newer > look_back or began_at in (found.number, found.number - 1):
                return None
            found = self.look(found.number - 1)
        return None


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
