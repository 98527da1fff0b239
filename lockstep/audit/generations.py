"""Whether everything that was rotated is on record (protocol E17).

A generation is on record if an entry of any stream says that it was promoted. A claim that nobody finished is replaced
by a heal, which says so itself; so what a heal began from need not be on record. The event of an archived entry is not
read, but its seal says that it is a run's, and when it was written: so which generations it can record.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lockstep.audit.chain import Entry
from lockstep.audit.findings import Problem
from lockstep.model import ClaimKind, LockRecord

if TYPE_CHECKING:
    from lockstep.audit.verify import Verification


class _Named(NamedTuple):
    """A generation that an entry of a stream names."""

    where: "Verification"
    entry: Entry
    generation: int


class _Recorded:
    """The generations on record, and those that archived entries of runs can record.

    Args:
        known: Those that are known to be on record.
        unread: The times of the archived entries.
    """

    def __init__(self, known: Collection[int], unread: Sequence[int]) -> None:
        self._known, self._unread = known, unread
        self._times: dict[int, int] = {}

    def add(self, generation: int, time: int) -> None:
        """An entry of this time records it."""
        self._times.setdefault(generation, time)

    def __contains__(self, generation: int) -> bool:
        """Whether it is on record, or may be: generations only grow."""
        if generation in self._known or generation in self._times:
            return True
        after = max((time for g, time in self._times.items() if g < generation), default=0)
        before = min((time for g, time in self._times.items() if g > generation), default=None)
        return any(after <= time and (before is None or time <= before) for time in self._unread)


def compare(
    found: Sequence["Verification"], record: LockRecord, known: Collection[int], unread: Sequence[int]
) -> None:
    """Add the problems of generations that no entry records.

    Args:
        found: The streams, all of them read.
        record: The lock record.
        known: Generations that were known to be on record.
        unread: The times of runs' entries whose events were not read.
    """
    recorded, successes, heals = _Recorded(known, unread), list[int](), list(unread)
    bases, seen = list[_Named](), list[_Named]()
    for verification in found:
        for entry in verification.entries:
            details = entry.details
            if type(serves := details.get("serves")) is int and serves:
                seen.append(_Named(verification, entry, serves))
            if entry.event.get("status") != "Success" or type(details.get("generation")) is not int:
                continue
            recorded.add(details["generation"], entry.time)
            successes.append(entry.time)
            if details.get("kind") == ClaimKind.HEAL:
                heals.append(entry.time)
            elif type(base := details.get("base_generation")) is int and base:
                bases.append(_Named(verification, entry, base))
    _tell_bases(bases, recorded)
    _tell_witnesses(seen, recorded, latest=max(successes, default=0), healed=max(heals, default=0))
    current = record.current_generation
    if found and any(v.entries for v in found) and current is not None and current not in recorded:
        found[0].problems.append(
            Problem(f"the lock record's current generation is {current}, which no entry records")
        )


def _tell_bases(bases: Sequence[_Named], recorded: _Recorded) -> None:
    for where, entry, base in bases:
        if base not in recorded:
            where.problems.append(Problem(f"began from generation {base}, which no entry records", entry.seq))


def _tell_witnesses(seen: Sequence[_Named], recorded: _Recorded, *, latest: int, healed: int) -> None:
    for where, entry, serves in seen:
        # A run that promotes now records later; one that died is healed.
        if serves not in recorded and healed <= entry.time < latest:
            where.problems.append(
                Problem(f"saw generation {serves} in its store, which no entry records", entry.seq)
            )
