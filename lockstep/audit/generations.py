"""Whether everything that was rotated is on record (protocol E17).

A generation is on record if an entry of any stream says that it was promoted. A claim that nobody finished is replaced
by a heal, which says so itself; so what a heal began from need not be on record.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lockstep.audit.chain import Entry
from lockstep.audit.findings import Problem
from lockstep.model import ClaimKind, LockRecord

if TYPE_CHECKING:
    from lockstep.audit.verify import Verification


def compare(found: Sequence["Verification"], record: LockRecord) -> None:
    """Add the problems of generations that no entry records."""
    entries = [entry for v in found for entry in v.entries]
    recorded = {g for e in entries if _is_success(e) and (g := _number(e, "generation")) is not None}
    heals = [e.time for e in entries if _is_success(e) and e.details.get("kind") == ClaimKind.HEAL]
    successes = [e.time for e in entries if _is_success(e)]
    for verification in found:
        verification.problems += _of_bases(verification.entries, recorded)
        verification.problems += _of_witnesses(verification.entries, recorded, heals, successes)
    current = record.current_generation
    if found and entries and current is not None and current not in recorded:
        found[0].problems.append(
            Problem(f"the lock record's current generation is {current}, which no entry records")
        )


def _of_bases(entries: Iterable[Entry], recorded: set[int]) -> Iterable[Problem]:
    for entry in entries:
        base = _number(entry, "base_generation")
        if not _is_success(entry) or entry.details.get("kind") == ClaimKind.HEAL or not base:
            continue
        if base not in recorded:
            yield Problem(f"began from generation {base}, which no entry records", entry.seq)


def _of_witnesses(
    entries: Iterable[Entry], recorded: set[int], heals: Sequence[int], successes: Sequence[int]
) -> Iterable[Problem]:
    for entry in entries:
        serves = _number(entry, "serves")
        if not serves or serves in recorded:
            continue
        # A run that promotes now records later; one that died is healed.
        is_under_way = not any(time > entry.time for time in successes)
        if not is_under_way and not any(time > entry.time for time in heals):
            yield Problem(f"saw generation {serves} in its store, which no entry records", entry.seq)


def _is_success(entry: Entry) -> bool:
    return entry.event.get("status") == "Success" and "generation" in entry.details


def _number(entry: Entry, name: str) -> int | None:
    value = entry.details.get(name)
    return value if type(value) is int else None
