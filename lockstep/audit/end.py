"""Where a chain ends, as its log shows it (protocol E6, E7, E8, E10).

The lock record's head is a hint: who writes the record is not who writes the log. Where the log holds the entry that
the head names, the chain goes on from there. An entry above it that continues the chain is taken in: its writer died
before it moved the head. Anything else above it is foreign and is stepped over, and the next entry says so. What the
head, or another stream, vouches for and the log does not hold, is never stepped over: its number stays free, and the
next entry says what is missing.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from lockstep.audit.seal import NO_PREVIOUS, ChainEnd, Differs, Seal, Stored, Witnessed, is_hash, look
from lockstep.errors import (
    AuditConflictError,
    AuditLogAccessDeniedError,
    LockstepError,
    NewerFormatError,
)
from lockstep.model import ChainHead
from lockstep.ports import AuditLog, Signer

MAX_FOREIGN = 1_000
"""Objects that are no entries, before a person must look."""
LAST = 10**12 - 1
"""The highest number that a name can have."""
MAX_TAKEN_IN = 100
"""Objects right above the head that are looked at one by one; from a head that is further behind, the end is looked for
from the top, as where the lock table was restored from a backup."""
FARTHEST = 1_000_000
"""How far a head may be above what the log holds, and keep its numbers free: 38 years at 20 minutes. Numbers have 12
digits, so whoever forges heads would need centuries to use them up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Finds the end of a chain."""

    credential_id: str
    log: AuditLog
    signer: Signer
    other_logs: Callable[[], Sequence[AuditLog]]

    def find(
        self, heads: Mapping[str, ChainHead], *, taken: bool = False, seen: Stored | None = None
    ) -> ChainEnd:
        """The end of the chain.

        Args:
            heads: Those of the lock record.
            taken: Whether the number after the head turned out to be taken.
            seen: An object that was looked at while the record was read. It counts if the head names it.

        Raises:
            AuditConflictError: There is too much that is no entry.
            NewerFormatError: A newer build has written the entry.
        """
        head = heads.get(self.log.stream)
        at = self._at(head, seen) if head else None
        if head and at and at.seal and at.hash == head.hash:
            return self._beyond(at, heads) if taken else ChainEnd(after=at, seq=at.number + 1)
        return self._last_of_all(head, at, heads)

    def _at(self, head: ChainHead, seen: Stored | None) -> Stored | None:
        if seen and (seen.number, seen.hash) == (head.seq, head.hash):
            return seen
        return self.look(head.seq)

    def look(self, number: int) -> Stored | None:
        """The object under a number, by its metadata; None if there is none."""
        return look(self.log, number)

    def is_genuine(self, found: Stored) -> bool:
        """Whether an object is an entry of this chain, by its MAC. One that names a key that is out of use is none.

        Raises:
            NewerFormatError: It is one of a newer build.
        """
        try:
            is_signed = found.mac is not None and self.signer.verify(found.digest, found.mac)
        except AuditLogAccessDeniedError:
            return False  # Anybody can name a retired key. If it is the current one, nothing can be signed either.
        if not is_signed:
            return False
        if found.is_newer:
            raise NewerFormatError(stream=self.log.stream, seq=found.number)
        return found.is_at(self.credential_id, self.log.stream)

    def _beyond(self, last: Stored, heads: Mapping[str, ChainHead]) -> ChainEnd:
        """The end above the entry that the head names: what continues the chain is taken in."""
        foreign: list[int] = []
        head, expected = last, last.number + 1
        for number in self.log.numbers(after=last.number):
            if number != expected:
                break
            if number > head.number + MAX_TAKEN_IN:
                return self._above(self._newest_genuine(head.number) or head, heads, head_differs=())
            found = self.look(number)
            if found and found.seal and found.seal.previous_hash == last.hash and self.is_genuine(found):
                last, foreign = found, []
            else:
                foreign.append(number)
            expected += 1
        if not foreign:
            return ChainEnd(after=last, seq=last.number + 1)
        return self._above(last, heads, head_differs=())

    def _last_of_all(
        self, head: ChainHead | None, at: Stored | None, heads: Mapping[str, ChainHead]
    ) -> ChainEnd:
        """The end where the head names nothing that the log holds; without one, the record was lost (protocol E10)."""
        last = self._newest_genuine(0)
        differs = (_differs("head", head, at),) if head else ()
        return self._above(last, heads, head_differs=differs)

    def _newest_genuine(self, after: int) -> Stored | None:
        """The highest entry above a number; None if nothing there is one."""
        numbers = list(self.log.numbers(after=after))
        for number in islice(reversed(numbers), MAX_FOREIGN + 1):
            found = self.look(number)
            if found and self.is_genuine(found) and self._continues_something(found):
                return found
        if len(numbers) > MAX_FOREIGN:
            raise AuditConflictError(stream=self.log.stream, seq=numbers[-1])
        return None

    def _continues_something(self, found: Stored) -> bool:
        """Whether the entry before it is there: an entry of another log with this key is alone."""
        seal: Seal | None = found.seal
        if seal is None or seal.previous_hash == NO_PREVIOUS:
            return seal is not None
        if seal.stepped_over or seal.differs:
            return True
        before = self.look(seal.seq - 1)
        return before is not None and before.hash == seal.previous_hash

    def _above(
        self, last: Stored | None, heads: Mapping[str, ChainHead], *, head_differs: tuple[Differs, ...]
    ) -> ChainEnd:
        """The end where numbers above the last entry are taken or vouched for."""
        known = last.number if last else 0
        differs = [*head_differs, *self._missing_for_others(known, heads)]
        vouched = max([known, *(d.seq for d in differs if d.seq <= known + FARTHEST)])
        seq = vouched + 1
        for number in self.log.numbers(after=vouched):
            if number != seq:
                break
            if seq - vouched > MAX_FOREIGN:
                raise AuditConflictError(stream=self.log.stream, seq=seq)
            seq += 1
        return ChainEnd(
            after=last,
            seq=seq,
            stepped_over=(vouched + 1, seq - 1) if seq > vouched + 1 else None,
            differs=tuple(differs),
        )

    def _missing_for_others(self, known: int, heads: Mapping[str, ChainHead]) -> list[Differs]:
        """What the newest entries of other streams witness above the last entry (protocol E8).

        A log that does not answer is not waited for: what it witnesses, verification finds.
        """
        missing = []
        for stream, seen in self._seen_by_others(heads):
            if seen.seq > known:
                missing.append(_differs(stream, seen, self.look(seen.seq)))
        return missing

    def _seen_by_others(self, heads: Mapping[str, ChainHead]) -> list[tuple[str, Witnessed]]:
        found = []
        with suppress(LockstepError):
            for log in self.other_logs():
                head = heads.get(log.stream)
                newest = look(log, head.seq) if head else None
                if newest and newest.seal and (seen := newest.seal.witness.get(self.log.stream)):
                    found.append((log.stream, seen))
        return found


def _differs(by: str, named: ChainHead | Witnessed, at: Stored | None) -> Differs:
    """What somebody names, as far as an entry can say it: they may have written anything."""
    return Differs(
        by=by,
        seq=min(named.seq, LAST),
        hash=named.hash if is_hash(named.hash) else "",
        found=at.hash or None if at else None,
    )


def newest_numbers(log: AuditLog, head: ChainHead | None, count: int) -> list[int]:
    """The numbers of the newest objects of a log, the newest first, without listing all of it."""
    start = max(0, (head.seq if head else 0) - count)
    numbers = [*log.numbers(after=start)]
    if len(numbers) < count and start:
        numbers = [*log.numbers()]
    return numbers[: -count - 1 : -1]
