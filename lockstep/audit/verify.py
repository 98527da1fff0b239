"""Verification of the audit log (protocol E11). No entry is trusted before it was checked.

1. Entries are numbered from 1, and each names the hash of the one before it. A number that is left out must be
   accounted for by the entry after it.
2. Each MAC was made with a key of the plan that signs such entries, and never with one that was retired before an
   earlier entry.
3. The lock record's head is in the stream, with its hash and its run.
4. What another stream witnesses is in the stream, with that hash: if a log was cut short together with the lock record,
   the other cloud's contradicts it.
5. What was rotated is on record: the base of each rotation, the generation that the record names, and those that
   witnesses saw in their stores (`lockstep.audit.verify`).

Every stream gets a verdict, whatever is wrong with another one. A problem is over only when a person has acknowledged
it in a signed entry. An archived entry is verified by its seal alone: its event is not read.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from itertools import groupby, pairwise
from operator import attrgetter
from typing import NamedTuple

from lockstep.audit.append import is_of_a_run
from lockstep.audit.chain import Entry, entry_of, parse
from lockstep.audit.checkpoint import (
    ACKNOWLEDGED_IN,
    BEGINNING,
    NOTHING,
    STEPPED_OVER,
    Acknowledged,
    Base,
    Problem,
    acknowledged_in,
    collapsed,
)
from lockstep.audit.entry import NO_PREVIOUS, ORDER, Stored, is_signed, look, signer_of
from lockstep.protocol.errors import (
    AuditLogAccessDeniedError,
    AuditLogUnreachableError,
    AuditVerificationError,
    LockstepError,
    NewerFormatError,
    line_of,
)
from lockstep.protocol.model import ChainHead, ClaimKind, LockRecord
from lockstep.protocol.ports import AuditLog, ObjectVersion, Signer
from lockstep.protocol.workers import READS, SideBySide

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
    recorded, successes, reconciles = _Recorded(known, unread), list[int](), list(unread)
    bases, seen = list[_Named](), list[_Named]()
    for verification in found:
        for entry in verification.entries:
            details = entry.details
            if type(serves := details.get("serves")) is int and serves:
                seen.append(_Named(verification, entry, serves))
            if entry.event.get("status") != "Success" or type(details.get("generation")) is not int:
                continue
            if not is_of_a_run(entry.rotation_id):
                continue
            recorded.add(details["generation"], entry.time)
            successes.append(entry.time)
            if details.get("kind") == ClaimKind.RECONCILE:
                reconciles.append(entry.time)
            elif type(base := details.get("base_generation")) is int and base:
                bases.append(_Named(verification, entry, base))
    _tell_bases(bases, recorded)
    _tell_witnesses(seen, recorded, latest=max(successes, default=0), reconciled=max(reconciles, default=0))
    current = record.current_generation
    if found and any(v.entries for v in found) and current is not None and current not in recorded:
        found[0].problems.append(
            Problem(f"the lock record's current generation is {current}, which no entry records")
        )


def _tell_bases(bases: Sequence[_Named], recorded: _Recorded) -> None:
    for where, entry, base in bases:
        if base not in recorded:
            where.problems.append(Problem(f"began from generation {base}, which no entry records", entry.seq))


def _tell_witnesses(seen: Sequence[_Named], recorded: _Recorded, *, latest: int, reconciled: int) -> None:
    for where, entry, serves in seen:
        # A run that promotes now records later; one that died is reconciled.
        if serves not in recorded and reconciled <= entry.time < latest:
            where.problems.append(
                Problem(f"saw generation {serves} in its store, which no entry records", entry.seq)
            )


_WINDOW = 1_024
"""Entries that are read before the next ones are asked for."""


class Verdict(StrEnum):
    """What is known of a stream."""

    VERIFIED = "verified"
    NOT_WITNESSED = "verified, not witnessed"
    EMPTY = "no entries yet"
    NOT_VERIFIED = "NOT VERIFIED"
    UNREADABLE = "UNREADABLE"


@dataclass(kw_only=True)
class Verification:
    """The result for one stream.

    Attributes:
        entries: Those whose MAC is valid, in order.
        problems: Without those that were acknowledged.
        acknowledged: Problems that a person has examined.
        notes: What is as it should be, and worth a word.
        unreadable: Why the stream could not be read; empty if it was.
        objects: How many the log holds up to the last entry, entries or not.
        archived: Entries of which only the seal was read.
        witnessed: Entries of this stream that another one names, and that are as it says.
        unwitnessed: Entries at the end that no other stream names; None if no other stream was read.
        unwitnessed_since: The time of the first of them, in milliseconds since the epoch.
    """

    stream: str
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unreadable: str = ""
    objects: int = 0
    archived: int = 0
    witnessed: int = 0
    unwitnessed: int | None = None
    unwitnessed_since: int | None = None

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        if self.problems:
            return Verdict.NOT_VERIFIED
        if self.unreadable:
            return Verdict.UNREADABLE
        if not self.entries:
            return Verdict.EMPTY
        return Verdict.NOT_WITNESSED if self.unwitnessed is None else Verdict.VERIFIED

    @property
    def verified(self) -> bool:
        """Whether no problem was found, and the stream was read."""
        return self.verdict in {Verdict.VERIFIED, Verdict.NOT_WITNESSED, Verdict.EMPTY}


def verify(
    credential_id: str,
    logs: Sequence[tuple[AuditLog, Signer]],
    record: LockRecord,
    *,
    since: Mapping[str, Base] = NOTHING,
    total: Callable[[str, int], None] = lambda _stream, _total: None,
    progress: Callable[[str, int], None] = lambda _stream, _done: None,
    side_by_side: SideBySide = READS,
) -> list[Verification]:
    """Verify a credential's chains against themselves, its lock record and each other.

    Args:
        credential_id: The credential.
        logs: Each stream with its keys.
        record: The lock record. It is to be read before this is called: a log only grows.
        since: Of each stream, up to where an earlier verification has read it (`lockstep.audit.checkpoint`).
        total: Called with a stream and the number of its objects.
        progress: Called with a stream and the number of objects that were read.
        side_by_side: Makes reads at the same time.
    """
    found, hashes = [], {}
    for log, signer in logs:
        base = since.get(log.stream, BEGINNING)
        reads = Reads(side_by_side, partial(total, log.stream), partial(progress, log.stream))
        verification, objects = _read(credential_id, log, signer, base, reads)
        if not verification.unreadable:
            _inspect_versions(verification, log)
            _walk(verification, objects, signer, base)
            _compare_head(verification, record.heads.get(log.stream))
            hashes[log.stream] = {o.number: o.hash for o in objects if o.hash}
        found.append(verification)
    _compare_witnesses(found, hashes, since)
    runs = _archived_runs(found)
    if unread := sorted({*_unread(found, record), *(v.stream for v in found if v.unreadable)}):
        for verification in found:
            verification.notes.append(
                f"that every rotation is on record was not checked: the stream {unread[0]} was not read"
            )
    else:
        on_record = {g for base in since.values() for g in base.generations}
        unread_at = [*(e.time for e in runs), *(base.unread for base in since.values() if base.unread)]
        compare(found, record, on_record, unread_at)
        for verification in found if runs else ():
            verification.notes.append(
                f"what {len(runs)} archived entries of runs record was not read: a rotation may be on record there"
            )
    if all(not v.entries and not v.unreadable for v in found) and not _unread(found, record):
        for verification in found:
            verification.problems.append(Problem("the log is empty"))
    orders = [a for v in found if v.stream == ACKNOWLEDGED_IN for a in acknowledged_in(v.entries, v.problems)]
    for verification in found:
        known = since.get(verification.stream, BEGINNING).known
        problems = [p for p in collapsed(verification.problems) if p not in known]
        done = [(p, next((a for a in orders if a.covers(verification.stream, p)), None)) for p in problems]
        verification.problems = [p for p, a in done if a is None]
        verification.acknowledged = [replace(a, problem=p) for p, a in done if a is not None]
    return found


def _unread(found: Sequence[Verification], record: LockRecord) -> set[str]:
    """The streams that are known to exist and were not to be read."""
    named = {name for v in found for e in v.entries[-1:] for name in e.witness}
    return {*record.heads, *named} - {v.stream for v in found}


def _archived_runs(found: Sequence[Verification]) -> list[Entry]:
    """The entries of runs whose events were not read."""
    return [e for v in found if v.archived for e in v.entries if not e.event and is_of_a_run(e.rotation_id)]


class Reads(NamedTuple):
    """How a stream is read."""

    side_by_side: SideBySide
    total: Callable[[int], None]
    progress: Callable[[int], None]


def _read(
    credential_id: str, log: AuditLog, signer: Signer, base: Base, reads: Reads
) -> tuple[Verification, list[Object]]:
    verification, objects = Verification(stream=log.stream), list[Object]()
    try:
        numbers = list(log.numbers())
        new = [number for number in numbers if number >= base.seq]
        if base.seq and len(numbers) - len(new) + 1 != base.objects:
            verification.problems.append(
                Problem(
                    f"the checkpoint has seen {base.objects} objects up to entry {base.seq}: read all of them"
                )
            )
        reads.total(len(new))
        for start in range(0, len(new), _WINDOW):
            window = new[start : start + _WINDOW]
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


def _walk(verification: Verification, objects: Sequence[Object], signer: Signer, base: Base) -> None:
    """The chain from its beginning, or from the checkpoint's entry (1, 2)."""
    problems, last, read = verification.problems, None, objects
    pending: list[Object] = []
    ranks: dict[Signer, tuple[int, int]] = {}
    if base.seq:
        if not (objects and objects[0].entry and objects[0].hash == base.hash):
            problems.append(Problem("is not the entry that the checkpoint names", base.seq))
        else:
            last, objects = objects[0].entry, objects[1:]
            keys = signer_of(signer, last.rotation_id)
            ranks[keys] = keys.rank(last.mac.key_id)
            verification.entries.append(last)
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
    end = last.seq if last else 0
    verification.objects = max(0, base.objects - 1) + sum(o.number <= end for o in read)


def _account(problems: list[Problem], last: Entry | None, entry: Entry, pending: Sequence[Object]) -> None:
    """What stands between two entries that are valid in themselves."""
    after, expected = (last.seq, last.hash) if last else (0, NO_PREVIOUS)
    is_next = entry.previous_hash == expected
    foreign = {o.number: o.wrong for o in pending}
    vouched = max((d.seq for d in entry.differs), default=after) if is_next else after
    over = entry.stepped_over if is_next and entry.stepped_over else (0, 0)
    for differs in entry.differs:
        was = f"was {differs.found[:16]}" if differs.found else "was missing, or no entry"
        problems.append(
            Problem(
                f"{was} when entry {entry.seq} was written; {differs.by} named entry {differs.seq} as "
                f"{differs.hash[:16]}",
                min(after + 1, differs.seq),
                differs.seq,
            )
        )
    for number, wrong in foreign.items():
        stepped = over[0] <= number <= over[1]
        problems.append(Problem(f"{wrong}{STEPPED_OVER.format(entry.seq)}" if stepped else wrong, number))
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


def _compare_head(verification: Verification, head: ChainHead | None) -> None:
    """The lock record's head (3). A run may have died, or be, between its entry and its head."""
    entries = {e.seq: e for e in verification.entries}
    last = verification.entries[-1].seq if entries else 0
    if head is None:
        if last > FIRST_ENTRIES:
            verification.problems.append(
                Problem("the lock record names no head of this stream: was its table made again?")
            )
        return
    at = entries.get(head.seq)
    if at is None or at.hash != head.hash:
        verification.problems.append(
            Problem(f"the lock record's head is entry {head.seq}, which the log does not hold", head.seq)
        )
    elif at.rotation_id != head.rotation_id:
        verification.problems.append(Problem("is not of the run that the lock record's head names", head.seq))
    elif last > head.seq:
        verification.notes.append(f"{last - head.seq} entries are newer than the lock record's head")


FIRST_ENTRIES = 4
"""Entries that may be there before the record names a head: runs that died between both."""


def _compare_witnesses(
    found: Sequence[Verification], hashes: Mapping[str, Mapping[int, str]], since: Mapping[str, Base]
) -> None:
    """What each stream says of the others (4)."""
    for verification in found:
        name = verification.stream
        if name not in hashes:
            continue
        others = [v for v in found if v.stream != name and v.stream in hashes]
        if not others:
            continue
        newest = 0
        for other in others:
            named = {(w.seq, w.hash): e.seq for e in reversed(other.entries) if (w := e.witness.get(name))}
            for (seq, entry_hash), by in sorted(named.items()):
                if seq < since.get(name, BEGINNING).seq:
                    continue  # It was compared for the checkpoint.
                if hashes[name].get(seq) == entry_hash:
                    newest = max(newest, seq)
                else:
                    verification.problems.append(
                        Problem(f"is missing or different: entry {by} of {other.stream} witnesses it", seq)
                    )
        tail = [e for e in verification.entries if e.seq > newest]
        verification.witnessed = len(verification.entries) - len(tail)
        verification.unwitnessed = len(tail)
        verification.unwitnessed_since = min((e.time for e in tail), default=None)
