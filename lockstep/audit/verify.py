"""Verification of the audit log (protocol E11). No entry is trusted before it was checked.

1. Entries are numbered from 1, and each names the hash of the one before it. A number that is left out must be
   accounted for by the entry after it.
2. Each MAC was made with a key of the plan that signs such entries, and never with one that was retired before an
   earlier entry.
3. What was rotated is on record: the base of each rotation.

Every stream gets a verdict, whatever is wrong with another one. An archived entry is verified by its seal alone: its
event is not read.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from itertools import groupby, pairwise
from operator import attrgetter
from typing import NamedTuple

from lockstep.audit.append import is_of_a_run
from lockstep.audit.chain import Entry, entry_of, parse
from lockstep.audit.entry import NO_PREVIOUS, ORDER, Stored, is_signed, look, signer_of
from lockstep.protocol.errors import (
    AuditLogAccessDeniedError,
    AuditLogUnreachableError,
    AuditVerificationError,
    LockstepError,
    NewerFormatError,
    line_of,
)
from lockstep.protocol.model import ClaimKind
from lockstep.protocol.ports import AuditLog, ObjectVersion, Signer
from lockstep.protocol.workers import READS, SideBySide


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a stream.

    Attributes:
        what: What is wrong: of entries without a subject, else a sentence.
        first: The number of the entry, or the first of them; 0 for objects that are no entries; None if it is about
            no object.
        last: The last of several.
    """

    what: str
    first: int | None = None
    last: int | None = None

    @property
    def end(self) -> int | None:
        """The number of the last entry."""
        return self.first if self.last is None else self.last

    def __str__(self) -> str:
        """As a sentence."""
        if not self.first:
            return self.what
        if self.first == self.end:
            return f"entry {self.first}: {self.what}"
        return f"entries {self.first} to {self.end}: {self.what}"


def collapsed(problems: Iterable[Problem]) -> list[Problem]:
    """The problems by number, with the same problem of neighbours as one."""
    found: list[Problem] = []
    for problem in sorted(set(problems), key=lambda p: (p.first or 0, p.what)):
        before = found[-1] if found else None
        if (
            before
            and before.what == problem.what
            and before.end is not None
            and problem.first == before.end + 1
        ):
            found[-1] = Problem(problem.what, before.first, problem.end)
        else:
            found.append(problem)
    return found


# Reading one object of a log for verification: an entry, or what is wrong with it (protocol E11, E12).

NOT_RESTORED = "NotRestored"
"""The code of the error for an archived object."""


class Object(NamedTuple):
    """What stands under a number: an entry, or what is wrong with it; and its hash, if it has one."""

    number: int
    entry: Entry | None
    wrong: str = ""
    hash: str = ""
    archived: bool = False


def read_object(credential_id: str, log: AuditLog, signer: Signer, number: int) -> Object:
    """The object under a number.

    Raises:
        AuditLogUnreachableError, AuditLogAccessDeniedError: The log or a key cannot be asked.
        NewerFormatError: A newer build wrote it.
    """
    try:
        body = log.read(number)
    except AuditLogUnreachableError as error:
        if error.where.get("code") != NOT_RESTORED:
            raise
        return _archived(credential_id, log, signer, number)
    if body is None:
        return Object(number, None, "is gone: it was deleted meanwhile")
    try:
        entry = parse(body, credential_id=credential_id, stream=log.stream, seq=number)
    except AuditVerificationError as error:
        return Object(number, None, f"is {error.where['code']}")
    except NewerFormatError:
        return _of_a_newer_format(log, signer, number)
    if not signer_of(signer, entry.rotation_id).verify(entry.digest, entry.mac):
        return Object(
            number, None, f"has a MAC that does not match, of key {entry.mac.key_id[:200]}", entry.hash
        )
    wrong = _unlike_its_event(entry)
    return Object(number, entry, wrong, entry.hash)


def _of_a_newer_format(log: AuditLog, signer: Signer, number: int) -> Object:
    """Nothing can be said of an entry that a newer build wrote; anybody can write that one did."""
    found = look(log, number) or Stored(number=number)
    if is_signed(signer, found):
        raise NewerFormatError(stream=log.stream, seq=number)
    return Object(number, None, "is of an unknown format, without a MAC of this chain's key", found.hash)


def _unlike_its_event(entry: Entry) -> str:
    metadata = entry.event.get("metadata")
    uid = metadata.get("uid") if isinstance(metadata, dict) else None
    if ("order" in entry.details) != entry.rotation_id.startswith(ORDER):
        return "is of another kind than its event"  # Else its key would be the wrong one for what it says.
    return "" if uid == entry.rotation_id else "names another run than its event"


def _archived(credential_id: str, log: AuditLog, signer: Signer, number: int) -> Object:
    found = look(log, number) or Stored(number=number)
    if not (found.seal and found.mac and found.is_at(credential_id, log.stream)):
        return Object(number, None, "is archived, and its metadata are no seal", archived=True)
    if not is_signed(signer, found):
        return Object(number, None, "has a MAC that does not match", found.hash, archived=True)
    entry = entry_of(found.seal, {}, mac=found.mac, digest=found.digest, entry_hash=found.hash)
    return Object(number, entry, "", found.hash, archived=True)


# What the versions of a log's objects show of deletion and overwriting (protocol E13).
#
# Object Lock and versioning keep what was written, not what a read meets. A delete marker hides an entry and
# frees its name, so that another entry can be written under it. The list of versions shows both, also after the
# marker is gone, if the name was written again.

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


# Whether everything that was rotated is on record (protocol E17).
#
# A generation is on record if an entry of any stream says that it was promoted. A claim that nobody finished is
# replaced by a reconcile, which says so itself; so what a reconcile began from need not be on record. The event of an
# archived entry is not read, but its seal says that it is a run's, and when it was written: so which generations
# it can record.


class _Named(NamedTuple):
    """A generation that an entry of a stream names."""

    where: "Verification"
    entry: Entry
    generation: int


class _Recorded:
    """The generations on record, and those that archived entries of runs can record.

    Args:
        unread: The times of the archived entries.
    """

    def __init__(self, unread: Sequence[int]) -> None:
        self._unread = unread
        self._times: dict[int, int] = {}

    def add(self, generation: int, time: int) -> None:
        """An entry of this time records it."""
        self._times.setdefault(generation, time)

    def __contains__(self, generation: int) -> bool:
        """Whether it is on record, or may be: generations only grow."""
        if generation in self._times:
            return True
        after = max((time for g, time in self._times.items() if g < generation), default=0)
        before = min((time for g, time in self._times.items() if g > generation), default=None)
        return any(after <= time and (before is None or time <= before) for time in self._unread)


def compare(found: Sequence["Verification"], unread: Sequence[int]) -> None:
    """Add the problems of generations that no entry records.

    Args:
        found: The streams, all of them read.
        unread: The times of runs' entries whose events were not read.
    """
    recorded, bases = _Recorded(unread), list[_Named]()
    for verification in found:
        for entry in verification.entries:
            details = entry.details
            if entry.event.get("status") != "Success" or type(details.get("generation")) is not int:
                continue
            if not is_of_a_run(entry.rotation_id):
                continue
            recorded.add(details["generation"], entry.time)
            if (
                details.get("kind") != ClaimKind.RECONCILE
                and type(base := details.get("base_generation")) is int
                and base
            ):
                bases.append(_Named(verification, entry, base))
    for where, entry, base in bases:
        if base not in recorded:
            where.problems.append(Problem(f"began from generation {base}, which no entry records", entry.seq))


_WINDOW = 1_024
"""Entries that are read before the next ones are asked for."""


class Verdict(StrEnum):
    """What is known of a stream."""

    VERIFIED = "verified"
    EMPTY = "no entries yet"
    NOT_VERIFIED = "NOT VERIFIED"
    UNREADABLE = "UNREADABLE"


@dataclass(kw_only=True)
class Verification:
    """The result for one stream.

    Attributes:
        entries: Those whose MAC is valid, in order.
        notes: What is as it should be, and worth a word.
        unreadable: Why the stream could not be read; empty if it was.
        archived: Entries of which only the seal was read.
    """

    stream: str
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unreadable: str = ""
    archived: int = 0

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        if self.problems:
            return Verdict.NOT_VERIFIED
        if self.unreadable:
            return Verdict.UNREADABLE
        return Verdict.VERIFIED if self.entries else Verdict.EMPTY

    @property
    def verified(self) -> bool:
        """Whether no problem was found, and the stream was read."""
        return self.verdict in {Verdict.VERIFIED, Verdict.EMPTY}


def verify(
    credential_id: str,
    logs: Sequence[tuple[AuditLog, Signer]],
    *,
    unread: Collection[str] = (),
    total: Callable[[str, int], None] = lambda _stream, _total: None,
    progress: Callable[[str, int], None] = lambda _stream, _done: None,
    side_by_side: SideBySide = READS,
) -> list[Verification]:
    """Verify a credential's chains against themselves and each other.

    Args:
        credential_id: The credential.
        logs: Each stream with its keys.
        unread: Streams that exist and are not among these: what they record is not known.
        total: Called with a stream and the number of its objects.
        progress: Called with a stream and the number of objects that were read.
        side_by_side: Makes reads at the same time.
    """
    found = []
    for log, signer in logs:
        reads = Reads(side_by_side, partial(total, log.stream), partial(progress, log.stream))
        verification, objects = _read(credential_id, log, signer, reads)
        if not verification.unreadable:
            _inspect_versions(verification, log)
            _walk(verification, objects, signer)
        found.append(verification)
    runs = _archived_runs(found)
    if missing := sorted({*unread, *(v.stream for v in found if v.unreadable)}):
        for verification in found:
            verification.notes.append(
                f"that every rotation is on record was not checked: the stream {missing[0]} was not read"
            )
    else:
        compare(found, [e.time for e in runs])
        for verification in found if runs else ():
            verification.notes.append(
                f"what {len(runs)} archived entries of runs record was not read: a rotation may be on record there"
            )
    if all(not v.entries and not v.unreadable for v in found) and not unread:
        for verification in found:
            verification.problems.append(Problem("the log is empty"))
    for verification in found:
        verification.problems = collapsed(verification.problems)
    return found


def _archived_runs(found: Sequence[Verification]) -> list[Entry]:
    """The entries of runs whose events were not read."""
    return [e for v in found if v.archived for e in v.entries if not e.event and is_of_a_run(e.rotation_id)]


class Reads(NamedTuple):
    """How a stream is read."""

    side_by_side: SideBySide
    total: Callable[[int], None]
    progress: Callable[[int], None]


def _read(
    credential_id: str, log: AuditLog, signer: Signer, reads: Reads
) -> tuple[Verification, list[Object]]:
    verification, objects = Verification(stream=log.stream), list[Object]()
    try:
        numbers = list(log.numbers())
        reads.total(len(numbers))
        for start in range(0, len(numbers), _WINDOW):
            window = numbers[start : start + _WINDOW]
            objects += reads.side_by_side(
                [partial(read_object, credential_id, log, signer, n) for n in window]
            )
            reads.progress(len(objects))
    except LockstepError as error:
        verification.unreadable = line_of(error)
    verification.archived = sum(o.archived for o in objects)
    if verification.archived:
        verification.notes.append(
            f"{verification.archived} entries are archived: their seals were verified, their events were not read"
        )
    return verification, objects


def _inspect_versions(verification: Verification, log: AuditLog) -> None:
    """What was deleted or overwritten, as far as this reader may list versions."""
    try:
        verification.problems += [
            Problem(found.trace, found.first, found.last) if found.first else Problem(str(found), 0)
            for found in findings(log.history())
        ]
    except AuditLogAccessDeniedError:
        verification.notes.append(
            "delete markers and older versions were not looked for: no right to list them"
        )
    except LockstepError as error:
        verification.unreadable = line_of(error)


def _walk(verification: Verification, objects: Sequence[Object], signer: Signer) -> None:
    """The chain from its beginning (1, 2)."""
    problems, last = verification.problems, None
    pending: list[Object] = []
    ranks: dict[Signer, tuple[int, int]] = {}
    for found in objects:
        entry = found.entry
        if entry is None:
            pending.append(found)
            continue
        if found.wrong:
            problems.append(Problem(found.wrong, entry.seq))
        _account(problems, last, entry, pending)
        pending = []
        keys = signer_of(signer, entry.rotation_id)
        if (of := keys.rank(entry.mac.key_id)) < ranks.get(keys, of):
            problems.append(Problem("is signed with a key that was retired before", entry.seq))
        ranks[keys] = max(ranks.get(keys, of), of)
        verification.entries.append(entry)
        last = entry
    problems += [Problem(o.wrong, o.number) for o in pending]


def _account(problems: list[Problem], last: Entry | None, entry: Entry, pending: Sequence[Object]) -> None:
    """What stands between two entries that are valid in themselves."""
    after, expected = (last.seq, last.hash) if last else (0, NO_PREVIOUS)
    is_next = entry.previous_hash == expected
    foreign = {o.number: o.wrong for o in pending}
    differs = entry.differs
    vouched = differs.seq if differs and is_next else after
    over = entry.stepped_over if is_next and entry.stepped_over else (0, 0)
    if differs:
        was = f"was {differs.found[:16]}" if differs.found else "was missing, or no entry"
        problems.append(
            Problem(
                f"{was} when entry {entry.seq} was written; the lock record's head was entry {differs.seq}, "
                f"{differs.hash[:16]}",
                min(after + 1, differs.seq),
                differs.seq,
            )
        )
    for number, wrong in foreign.items():
        stepped = over[0] <= number <= over[1]
        over_it = f"; entry {entry.seq} has stepped over it" if stepped else ""
        problems.append(Problem(f"{wrong}{over_it}", number))
    missing = [(max(low, vouched + 1), high) for low, high in _missing(after, entry.seq, foreign)]
    missing = [(low, high) for low, high in missing if low <= high]
    for low, high in missing:
        stepped = over[0] <= low and high <= over[1]
        gone = f"is gone, and was no entry: entry {entry.seq} has stepped over it"
        problems.append(Problem(gone if stepped else "is missing", low, high))
    if not is_next and not foreign and not missing:
        problems.append(Problem(f"does not name the hash of entry {after}", entry.seq))


def _missing(after: int, before: int, foreign: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The first and last of the numbers between two entries under which there is nothing."""
    for low, high in pairwise([after, *sorted(foreign), before]):
        if high - low > 1:
            yield low + 1, high - 1
