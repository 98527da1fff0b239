"""What the versions of a log's objects show of deletion and overwriting (protocol E13).

Object Lock and versioning keep what was written, not what a read meets. A delete marker hides an entry and frees its
name, so that another entry can be written under it. The list of versions shows both, also after the marker is gone, if
the name was written again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby
from operator import attrgetter

from lockstep.ports import ObjectVersion

MAX_NAME = 200
"""Characters of a name of an object that is not ours; S3 and Object Storage allow 1,024 bytes."""


class Trace(StrEnum):
    """What was done to an object."""

    HIDDEN = "hidden by a delete marker"
    DELETED = "deleted and written again"
    REWRITTEN = "written more than once"
    FOREIGN = "not an entry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Traces of one kind on neighbouring objects.

    Attributes:
        first: The lowest number of an entry; 0 for objects that are not entries.
        last: The highest number.
        objects: How many objects.
        name: The name of the first object.
    """

    trace: Trace
    first: int
    last: int
    objects: int
    name: str

    def __str__(self) -> str:
        """One sentence, with nothing of a foreign name that a terminal would interpret."""
        if self.trace is Trace.FOREIGN:
            name = ascii(self.name[:MAX_NAME])
            return (
                f"{name} is not an entry"
                if self.objects == 1
                else f"{self.objects} objects are not entries, the first is {name}"
            )
        if self.objects == 1:
            return f"entry {self.first} was {self.trace}"
        return f"{self.objects} entries from {self.first} to {self.last} were {self.trace}"


def findings(history: Iterable[ObjectVersion]) -> Iterator[Finding]:
    """What is wrong with a chain's history; nothing for a log that was only appended to.

    Holds one object's summary in memory at a time, however many versions somebody has written.

    Args:
        history: As `AuditLog.history` returns it: the versions of an object follow each other, the latest first.
    """
    pending: Finding | None = None
    for found in _of_each_object(history):
        if pending and pending.trace is found.trace and _are_neighbours(pending, found):
            pending = replace(pending, last=found.last, objects=pending.objects + 1)
            continue
        if pending:
            yield pending
        pending = found
    if pending:
        yield pending


def _of_each_object(history: Iterable[ObjectVersion]) -> Iterator[Finding]:
    for name, versions in groupby(history, key=attrgetter("key")):
        latest, contents, markers = None, 0, 0
        for version in versions:
            latest = latest or version
            if version.is_delete_marker:
                markers += 1
            else:
                contents += 1
        if latest and (trace := _trace(latest, contents=contents, markers=markers)):
            yield Finding(trace=trace, first=latest.seq, last=latest.seq, objects=1, name=name)


def _trace(latest: ObjectVersion, *, contents: int, markers: int) -> Trace | None:
    if latest.seq == 0:
        return Trace.FOREIGN
    if latest.is_delete_marker:
        return Trace.HIDDEN
    if markers:
        return Trace.DELETED
    return Trace.REWRITTEN if contents > 1 else None


def _are_neighbours(before: Finding, found: Finding) -> bool:
    return found.first == 0 or found.first == before.last + 1
