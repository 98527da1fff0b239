"""Verification of the audit log (protocol E11). No entry is trusted before it was checked.

1. Entries are numbered from 1, and each names the hash of the one before it. A number that is left out must be
   accounted for by the entry after it.
2. Each MAC was made with a key of the plan that signs such entries, and never with one that was retired before an
   earlier entry.
3. What digests say of the chain is so: each entry that one names is there, and none that one lacks is older.
4. What was rotated is on record: the base of each rotation.

Who may not verify MACs verifies an entry by the digests after it (`lockstep.audit.confirmed`). Every stream gets a
verdict, whatever is wrong with another one. An archived entry is verified by its seal alone: its event is not read.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from itertools import groupby, pairwise
from operator import attrgetter
from typing import NamedTuple

from lockstep.audit.chain import Entry, entry_of, parse
from lockstep.audit.confirmed import UNSAID, Said, Since, Verdict, late, verify_digests, worst
from lockstep.audit.digest import TOLERANCE, Evidence, require_macs
from lockstep.audit.entry import ORDER, is_of_a_run, is_signed, look, milliseconds, signer_of
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
from lockstep.protocol.workers import SideBySide, at_the_same_time

Progress = Callable[[str, int, int], None]


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


# Reading one object of a log for verification: an entry, or what is wrong with it (protocol E11).

_TOLERANCE = TOLERANCE.total_seconds() * 1000
_LONGEST = 3_600_000
"""Milliseconds that a run may have begun before its entry: no run takes an hour."""
NOT_RESTORED = "NotRestored"
"""The code of the error for an archived object."""


class Object(NamedTuple):
    """What stands under a number: an entry, or what is wrong with it; its hash, if it has one; and its date."""

    number: int
    entry: Entry | None
    wrong: str = ""
    hash: str = ""
    archived: bool = False
    at: int = 0


def read_object(credential_id: str, log: AuditLog, signer: Signer | None, number: int) -> Object:
    """The object under a number. Without keys its MAC is not verified.

    Raises:
        AuditLogUnreachableError, AuditLogAccessDeniedError: The log or a key cannot be asked.
        NewerFormatError: A newer build wrote it.
    """
    try:
        body = log.read(number)
    except AuditLogUnreachableError as error:
        if error.where.get("code") != NOT_RESTORED:
            raise
        return read_archived(credential_id, log, signer, number)
    if body is None:
        return Object(number, None, "is gone: it was deleted meanwhile")
    try:
        entry = parse(body, credential_id=credential_id, stream=log.stream, seq=number)
    except AuditVerificationError as error:
        return Object(number, None, f"is {error.where['code']}")
    except NewerFormatError:
        return _of_a_newer_format(log, signer, number)
    if signer and not signer_of(signer, entry.rotation_id).verify(entry.digest, entry.mac):
        return Object(
            number, None, f"has a MAC that does not match, of key {entry.mac.key_id[:200]!a}", entry.hash
        )
    return Object(number, entry, _unlike_its_event(entry), entry.hash)


def _of_a_newer_format(log: AuditLog, signer: Signer | None, number: int) -> Object:
    """Nothing can be said of an entry that a newer build wrote; anybody can write that one did."""
    found = look(log, number)
    if signer and is_signed(signer, found):
        raise NewerFormatError(stream=log.stream, seq=number)
    return Object(number, None, "is of an unknown format, without a MAC of this chain's key", found.hash)


def _unlike_its_event(entry: Entry) -> str:
    metadata = entry.event.get("metadata")
    uid = metadata.get("uid") if isinstance(metadata, dict) else None
    if isinstance(entry.details.get("order"), str) != entry.rotation_id.startswith(ORDER):
        return "is of another kind than its event"  # Else its key would be the wrong one for what it says.
    started = entry.event.get("start_time", entry.time)
    began_in_time = type(started) is int and -_TOLERANCE <= entry.time - started <= _LONGEST
    if entry.event.get("time") != entry.time or not began_in_time:
        return "names another time than its event"
    return "" if uid == entry.rotation_id else "names another run than its event"


def read_archived(credential_id: str, log: AuditLog, signer: Signer | None, number: int) -> Object:
    """The same of an archived object, by its metadata."""
    found = look(log, number)
    if not (found.seal and found.mac and found.is_at(credential_id, log.stream)):
        return Object(number, None, "is archived, and its metadata are no seal", archived=True)
    if signer and not is_signed(signer, found):
        return Object(number, None, "has a MAC that does not match", found.hash, archived=True)
    entry = entry_of(found.seal, {}, mac=found.mac, digest=found.digest, entry_hash=found.hash)
    return Object(number, entry, "", found.hash, archived=True)


def read_unverified(credential_id: str, log: AuditLog, signer: Signer | None, number: int) -> Entry | None:
    """An entry that is only shown; None if there is none. Keys are asked for an archived one alone, if they are given.

    Raises:
        AuditLogUnreachableError, AuditLogAccessDeniedError: The log or a key cannot be asked.
        NewerFormatError: It is of a newer format, as anybody can write.
    """
    try:
        body = log.read(number)
        return parse(body, credential_id=credential_id, stream=log.stream, seq=number) if body else None
    except AuditLogUnreachableError as error:
        if error.where.get("code") != NOT_RESTORED:
            raise
        return read_archived(credential_id, log, signer, number).entry
    except AuditVerificationError:
        return None


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


def findings(history: Iterable[ObjectVersion]) -> Iterator[Problem]:
    """What is wrong with a chain's history; nothing for a log that was only appended to.

    Holds one object's summary in memory at a time, however many versions somebody has written.

    Args:
        history: As `AuditLog.history` returns it: the versions of an object follow each other, the latest first.
    """
    foreign, first = 0, ""
    for name, versions in groupby(history, key=attrgetter("key")):
        seq, trace = _trace(versions)
        if trace is Trace.FOREIGN:
            foreign, first = foreign + 1, first or ascii(name[:MAX_NAME])
        elif trace:
            yield Problem(trace, seq)
    if foreign:
        told = f"{foreign} objects are not entries, the first is {first}"
        yield Problem(told if foreign > 1 else f"{first} is not an entry", 0)


def _trace(versions: Iterable[ObjectVersion]) -> tuple[int, Trace | None]:
    """The number of an object, and what was done to it."""
    contents, markers = 0, 0
    latest: ObjectVersion | None = None
    for version in versions:
        latest = latest or version
        markers += version.is_delete_marker
        contents += not version.is_delete_marker
    if latest is None or latest.seq == 0:
        return 0, Trace.FOREIGN
    if latest.is_delete_marker:
        return latest.seq, Trace.HIDDEN
    if markers:
        return latest.seq, Trace.DELETED
    return latest.seq, Trace.REWRITTEN if contents > 1 else None


# Whether everything that was rotated is on record (protocol E17).
#
# A generation is on record if an entry of any stream says that it was promoted. A claim that nobody finished is
# replaced by a reconcile, which says so itself; so what a reconcile began from need not be on record. The event of an
# archived entry is not read, but its seal says that it is a run's, and when it was written: so which generations
# it can record.


class _Recorded:
    """The generations on record, and those that archived entries of runs can record.

    Args:
        unread: The times of the archived entries.
    """

    def __init__(self, unread: Sequence[int]) -> None:
        self._unread = unread
        self._times: dict[int, int] = {}

    def lowest(self, since: float) -> float:
        """The lowest one that was recorded since a time."""
        return min((g for g, time in self._times.items() if time >= since), default=float("inf"))

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


def compare(found: Sequence["Verification"], unread: Sequence[int], *, since: int) -> None:
    """Add the problems of generations that no entry records.

    Args:
        found: The streams, all of them read.
        unread: The times of runs' entries whose events were not read.
        since: From when on entries of all streams were read: what was on record before is not known.
    """
    recorded, bases = _Recorded(unread), list[tuple[Verification, Entry, int]]()
    for verification in found:
        for entry in verification.entries:
            if entry.promoted is None:
                continue
            recorded.add(entry.promoted, entry.time)
            base, kind = entry.details.get("base_generation"), entry.details.get("kind")
            if kind != ClaimKind.RECONCILE and type(base) is int and base:
                bases.append((verification, entry, base))
    lowest = recorded.lowest(since + _TOLERANCE) if since else 0
    for where, entry, base in bases:
        if base not in recorded and base > lowest:
            where.problems.append(Problem(f"began from generation {base}, which no entry records", entry.seq))


_WINDOW = 1_024
"""Entries that are read before the next ones are asked for."""


@dataclass(kw_only=True)
class Verification:
    """The result for one stream.

    Attributes:
        entries: Those whose MAC is valid, in order.
        notes: What is as it should be, and worth a word.
        unreadable: Why the stream could not be read; empty if it was.
        archived: Entries of which only the seal was read.
        uncovered: Entries that are newer than what the newest digest names.
    """

    stream: str
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unreadable: str = ""
    archived: int = 0
    uncovered: int = 0

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        if self.problems:
            return Verdict.NOT_VERIFIED
        if self.unreadable:
            return Verdict.UNREADABLE
        return Verdict.VERIFIED if self.entries else Verdict.EMPTY


def verify(
    credential_id: str,
    logs: Sequence[tuple[AuditLog, Signer | None]],
    *,
    said: Mapping[str, Said] = {},
    unread: Collection[str] = (),
    progress: Progress = lambda _stream, _done, _total: None,
    side_by_side: SideBySide = at_the_same_time,
) -> list[Verification]:
    """Verify a credential's chains against themselves, digests and each other.

    Args:
        credential_id: The credential, or the folder of its chain.
        logs: Each stream with its keys; None where this reader may not verify by them.
        said: What the digests of each stream say of the chain.
        unread: Streams that exist and are not among these: what they record is not known.
        progress: Called with a stream, the number of its objects that were read, and of all.
        side_by_side: Makes reads at the same time.
    """
    found = []
    for log, signer in logs:
        by_digests = said.get(log.stream, UNSAID)
        verification, objects = _read(credential_id, log, signer, by_digests, progress, side_by_side)
        if not verification.unreadable:
            _inspect_versions(verification, log, by_digests)
            _walk(verification, objects, signer, by_digests)
            _compare_digests(verification, {o.number: o.at for o in objects}, by_digests)
        found.append(verification)
    # Entries of runs whose events were not read.
    runs = [e for v in found if v.archived for e in v.entries if not e.event and is_of_a_run(e.rotation_id)]
    if missing := [*unread, *(v.stream for v in found if v.unreadable)]:
        for verification in found:
            verification.notes.append(
                f"that every rotation is on record was not checked: the stream {missing[0]} was not read"
            )
    else:
        starts = [s.start.began for s in said.values() if s.start]
        compare(found, [e.time for e in runs], since=max(starts, default=0))
        for verification in found if runs else ():
            verification.notes.append(
                f"what {len(runs)} archived entries of runs record was not read: a rotation may be on record there"
            )
    for verification in found:
        verification.problems = collapsed(verification.problems)
    return found


def _read(
    credential_id: str,
    log: AuditLog,
    signer: Signer | None,
    said: Said,
    progress: Progress,
    side_by_side: SideBySide,
) -> tuple[Verification, list[Object]]:
    verification, objects = Verification(stream=log.stream), list[Object]()
    try:
        after = log.dated(after=max(0, said.seq - 1))
        dated = [(number, at) for number, at in after if number == said.seq or said.is_after(at)]
        for start in range(0, len(dated), _WINDOW):
            window = dated[start : start + _WINDOW]
            read = side_by_side([partial(read_object, credential_id, log, signer, n) for n, _ in window])
            objects += [o._replace(at=milliseconds(at)) for o, (_, at) in zip(read, window, strict=True)]
            progress(log.stream, len(objects), len(dated))
    except LockstepError as error:
        verification.unreadable = line_of(error)
    verification.archived = sum(o.archived for o in objects)
    if verification.archived:
        verification.notes.append(
            f"{verification.archived} entries are archived: their seals were verified, their events were not read"
        )
    return verification, objects


def _inspect_versions(verification: Verification, log: AuditLog, said: Said) -> None:
    """What was deleted or overwritten, as far as this reader may list versions."""
    try:
        new = (v for v in log.history() if v.seq > said.seq or (v.seq == 0 and said.is_after(v.at)))
        verification.problems += findings(new)
    except AuditLogAccessDeniedError:
        verification.notes.append(
            "delete markers and older versions were not looked for: no right to list them"
        )
    except LockstepError as error:
        verification.unreadable = line_of(error)


def _walk(verification: Verification, objects: Sequence[Object], signer: Signer | None, said: Said) -> None:
    """The chain from its beginning, or from the entry that the first digest names (1, 2)."""
    problems, last = verification.problems, (said.seq, said.hash)
    pending: list[Object] = []
    ranks: dict[Signer, tuple[int, int]] = {}
    if said.seq and objects and objects[0].number == said.seq:
        if objects[0].hash != said.hash:
            problems.append(Problem("is not the entry that the first digest names", said.seq))
        objects = objects[1:]
    elif said.seq and said.must_hold_first:
        problems.append(Problem("is gone, and the first digest names it", said.seq))
    for found in objects:
        entry = found.entry
        if entry is None:
            pending.append(found)
            continue
        if found.wrong:
            problems.append(Problem(found.wrong, entry.seq))
        _account(problems, last, entry, pending)
        pending = []
        if signer:
            keys = signer_of(signer, entry.rotation_id)
            if (of := keys.rank(entry.mac.key_id)) < ranks.get(keys, of):
                problems.append(Problem("is signed with a key that was retired before", entry.seq))
            ranks[keys] = max(ranks.get(keys, of), of)
        if abs(found.at - entry.time) > _TOLERANCE:
            problems.append(Problem("is dated more than 15 minutes from its object", entry.seq))
        verification.entries.append(entry)
        last = (entry.seq, entry.hash)
    problems += [Problem(o.wrong, o.number) for o in pending]


def _compare_digests(verification: Verification, dates: Mapping[int, int], said: Said) -> None:
    """What digests say of the chain (3)."""
    entries, problems = verification.entries, verification.problems
    there = {e.seq: (e.hash, dates[e.seq]) for e in entries}
    wrong = [
        (head, claim)
        for claim in said.claims
        if (head := claim.head)
        and head.seq > said.seq
        and claim.at >= said.kept
        and there.get(head.seq) != (head.hash, head.at)
    ]
    if wrong:
        (first, claim), (last, latest) = wrong[0], wrong[-1]
        told = f"is gone, or another one than digests from {claim.first.hour} to {latest.last.hour} name"
        problems.append(Problem(told, min(first.seq, last.seq), max(first.seq, last.seq)))
    if found := late(said.claims, [e.seq for e in entries], [dates[e.seq] for e in entries]):
        number, digest = found
        problems.append(Problem(f"is older than the digest of {digest.hour}, which lacks it", number))
    newest = said.claims[-1].head if said.claims else None
    verification.uncovered = sum(e.seq > (newest.seq if newest else 0) for e in entries)


def _account(problems: list[Problem], last: tuple[int, str], entry: Entry, pending: Sequence[Object]) -> None:
    """What stands between two entries that are valid in themselves."""
    after, expected = last
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


class Verifier:
    """Verifies an audit log: its digests when this is made, then each chain.

    Args:
        evidence: The log of each cloud.
        now: The time.
        since: The digest at which to begin; by default the oldest that must still be there.
        side_by_side: Makes reads at the same time.

    Attributes:
        evidence: As given.
        digests: What was found of each cloud's digests.
    """

    def __init__(
        self,
        evidence: Sequence[Evidence],
        *,
        now: datetime,
        since: Since | None = None,
        side_by_side: SideBySide = at_the_same_time,
    ) -> None:
        self.evidence, self._now, self._side_by_side = evidence, now, side_by_side
        retention = max((e.retention for e in evidence), default=timedelta())
        self._kept = milliseconds(now - retention)
        self.digests = verify_digests(
            evidence, now=now, retention=retention, since=since, side_by_side=side_by_side
        )
        self._signers = {e.stream: self._macs(e) for e in evidence}
        names_another = any(digest.other for d in self.digests.values() for digest in d.genuine)
        self._unread = sorted({"aws", "oci"} - self.digests.keys()) if names_another else []

    def _macs(self, evidence: Evidence) -> Signer | None:
        digests = self.digests[evidence.stream]
        try:
            require_macs(evidence.signer)
        except AuditLogAccessDeniedError:
            digests.notes.append("entries are verified by digests alone: no right to verify by their keys")
            return None
        except LockstepError as error:
            digests.error = digests.error or error
        return evidence.signer

    def folders(self) -> list[str]:
        """Every chain that a bucket has or a digest names, whether a plan has its credential or not."""
        found = {folder for digests in self.digests.values() for folder in digests.claims}
        for evidence in self.evidence:
            try:
                found.update(evidence.chains.folders())
            except LockstepError as error:
                digests = self.digests[evidence.stream]
                digests.error = digests.error or error
        return sorted(found)

    def chain(
        self,
        folder: str,
        *,
        progress: Progress = lambda _stream, _done, _total: None,
    ) -> list[Verification]:
        """Verify a chain in every cloud; `progress` as of `verify`."""
        said = {
            stream: Said(claims=digests.claims_of(folder), start=digests.starts_at, kept=self._kept)
            for stream, digests in self.digests.items()
        }
        return verify(
            folder,
            [(e.log(folder), self._signers[e.stream]) for e in self.evidence],
            said=said,
            unread=self._unread,
            progress=progress,
            side_by_side=self._side_by_side,
        )

    def verdict(self, chains: Iterable[Verification]) -> Verdict:
        """The gravest verdict of digests and chains."""
        verdicts = {v.verdict for v in chains} | {d.verdict(self._now) for d in self.digests.values()}
        return worst(verdicts)
