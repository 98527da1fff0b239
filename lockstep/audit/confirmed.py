"""Verification of digests: each cloud's against themselves and against what the other cloud has confirmed (E15).

1. Each digest is of its hour and its cloud, signed by a key of the plan, and not more than `TOLERANCE` from the date of
   its object.
2. Each goes on from the one before it.
3. What the other cloud has confirmed is there. If it is not, the signature that the other cloud has kept says whose
   fault that is.

What digests say of chains is compared with these by `lockstep.audit.verify`. A digest that is late or left out is no
problem, and is told.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from itertools import accumulate

from msgspec.structs import replace

from lockstep.audit.digest import (
    TOLERANCE,
    UNSEEN,
    Digest,
    Evidence,
    Head,
    Named,
    hour_at,
    hour_of,
)
from lockstep.audit.entry import NO_PREVIOUS
from lockstep.protocol.errors import LockstepError, line_of
from lockstep.protocol.workers import SideBySide, at_the_same_time

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_TOLERANCE = TOLERANCE.total_seconds() * 1000
_WINDOW = 256
"""Digests that are read before the next ones are asked for."""
_LISTED = 24
_SHOWN = 200
"""Characters of a text that a digest holds."""


class Verdict(StrEnum):
    """What is known of a stream, or of all of them, from best to worst."""

    VERIFIED = "verified"
    EMPTY = "no entries yet"
    NOT_CONFIRMED = "verified, not confirmed"
    UNREADABLE = "UNREADABLE"
    NOT_VERIFIED = "NOT VERIFIED"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of a whole; an empty chain beside another one has no say, and nothing at all is not verified."""
    told = set(verdicts)
    return max(told - {Verdict.EMPTY} or told, key=list(Verdict).index, default=Verdict.NOT_VERIFIED)


@dataclass(frozen=True, slots=True)
class Since:
    """A digest from which on is verified: what was before it, an earlier verification has seen.

    Attributes:
        hash: The beginning of its hash.
    """

    stream: str
    hour: str
    hash: str


@dataclass(slots=True)
class Claim:
    """What digests after one another say of a chain.

    Attributes:
        head: Its newest entry; None: there is no such chain.
        first, last: The first and the last of these digests.
        at: When the entry was written, at the earliest: after the digest that did not have it yet, whatever is said.
    """

    head: Head | None
    first: Digest
    last: Digest
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the digests of a cloud say of one chain.

    Attributes:
        claims: In the digests' order.
        start: The digest from whose entry on the chain is verified; None: from the first entry on.
        kept: Objects that were written before may be deleted; in milliseconds since the epoch.
    """

    claims: Sequence[Claim] = ()
    start: Digest | None = None
    kept: int = 0

    @property
    def seq(self) -> int:
        """The number of the entry that is taken as it is; 0: of none."""
        return self._head.seq if self._head else 0

    @property
    def hash(self) -> str:
        """Its hash; for none what the first entry names."""
        return self._head.hash if self._head else NO_PREVIOUS

    @property
    def must_hold_first(self) -> bool:
        """Whether that entry must still be there."""
        return self._head is not None and self._head.at >= self.kept

    @property
    def _head(self) -> Head | None:
        return self.claims[0].head if self.start and self.claims else None

    def is_after(self, moment: datetime) -> bool:
        """Whether a time is not before the digest at which verification begins, however far clocks are off."""
        return self.start is None or moment > self.start.moment - TOLERANCE


UNSAID = Said()


@dataclass(kw_only=True)
class Digests:
    """The digests of one cloud, as far as they were verified.

    Attributes:
        genuine: Those signed by a key of the plan, the oldest first, without what they say of chains.
        claims: What they say of each chain.
        starts_at: The digest whose entries are taken as they are; None: chains are verified from their first entry on.
        unknown: Those that are signed by no key of the plan.
        confirmed: The newest one that the other cloud has confirmed; of one cloud alone the newest one.
        gone: Digests that others name, and that are not there.
        error: Why they could not be read.
    """

    stream: str
    genuine: list[Digest] = field(default_factory=list)
    claims: dict[str, list[Claim]] = field(default_factory=dict)
    starts_at: Digest | None = None
    unknown: set[Named] = field(default_factory=set)
    confirmed: Digest | None = None
    gone: set[Named] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: LockstepError | None = None

    @property
    def unreadable(self) -> str:
        """Why they could not be read, in a line; empty if they were."""
        return line_of(self.error) if self.error else ""

    def add(self, digest: Digest) -> None:
        """The next digest, of which no more is kept than what it says anew of chains."""
        before = self.genuine[-1] if self.genuine else None
        bare = replace(digest, chains={})
        for folder in sorted(self.claims.keys() | digest.chains.keys()):
            head = digest.chains.get(folder)
            known = self.claims.setdefault(
                folder, [Claim(None, self.genuine[0], before, 0)] if before else []
            )
            if known and known[-1].head == head:
                known[-1].last = bare
                continue
            at: float = head.at if head else 0
            newest = known[-1].head.seq if known and known[-1].head else 0
            if before and head and head.seq > newest:
                at = max(at, before.began - _TOLERANCE)
            known.append(Claim(head, bare, bare, at))
        self.genuine.append(bare)

    def claims_of(self, folder: str) -> Sequence[Claim]:
        """What the digests say of a chain; that they lack it, where none names it."""
        unnamed = [Claim(None, self.genuine[0], self.genuine[-1], 0)] if self.genuine else []
        return self.claims.get(folder, unnamed)

    def verdict(self, now: datetime) -> Verdict:
        """The verdict: a digest less than `UNSEEN` old must be confirmed."""
        if self.problems:
            return Verdict.NOT_VERIFIED
        if self.unreadable:
            return Verdict.UNREADABLE
        is_confirmed = self.confirmed is not None and now - self.confirmed.moment < UNSEEN
        return Verdict.VERIFIED if is_confirmed else Verdict.NOT_CONFIRMED


def verify_digests(
    evidence: Sequence[Evidence],
    *,
    now: datetime,
    retention: timedelta,
    since: Since | None = None,
    side_by_side: SideBySide = at_the_same_time,
) -> dict[str, Digests]:
    """Read and verify the digests of each cloud, and compare them with each other.

    Args:
        evidence: The audit log of each cloud.
        now: The time.
        retention: How long nobody may delete an object.
        since: The digest to begin at; by default the oldest one that must still be there.
        side_by_side: Makes reads at the same time.
    """
    # The digest of that hour may have been made before what must still be there.
    kept = hour_at(now - retention + _HOUR)
    found: dict[str, Digests] = {}
    bounds: dict[str, str] = {}
    starts = {since.stream: since.hour} if since else {}
    # The cloud of `since` first: it says where the other one begins.
    for of in sorted(evidence, key=lambda e: since is None or e.stream != since.stream):
        bounds[of.stream] = max(kept, starts.get(of.stream, ""))
        found[of.stream] = digests = _read(of, bounds[of.stream], side_by_side)
        if since and of.stream == since.stream:
            named = (d for d in digests.genuine if d.hour == since.hour and d.hash.startswith(since.hash))
            at = next(named, None)
            if at is None:
                digests.problems.append(f"the digest {since.hour}:{since.hash} is not there")
            elif at.other:
                starts |= {e.stream: at.other.digest.hour for e in evidence if e.stream != of.stream}
        _check(digests, kept, is_whole=of.stream not in starts)
        # What is older than the first digest of all may be deleted before it.
        if digests.genuine and digests.genuine[0].moment < now - retention + _DAY:
            digests.starts_at = digests.genuine[0]
        _tell_missing_hours(digests, now)
    _confirm(evidence, found, bounds)
    return found


def recent_digests(
    evidence: Sequence[Evidence], *, now: datetime, side_by_side: SideBySide = at_the_same_time
) -> dict[str, Digests]:
    """The digests of the last hours of each cloud, and what the other has confirmed of them; earlier ones are not read.

    This shows whether the logs are confirmed up to now, and verifies nothing that was before.
    """
    start = hour_at(now - UNSEEN - _HOUR)
    found = {of.stream: _read(of, start, side_by_side, after=start) for of in evidence}
    _confirm(evidence, found, dict.fromkeys(found, start))
    return found


def _confirm(evidence: Sequence[Evidence], found: Mapping[str, Digests], bounds: Mapping[str, str]) -> None:
    for of in evidence:
        for by in evidence:
            if by.stream != of.stream:
                _compare(found[of.stream], of, found[by.stream], bounds[of.stream])
    if len(evidence) == 1:
        alone = found[evidence[0].stream]
        alone.confirmed = alone.genuine[-1] if alone.genuine and not alone.genuine[-1].other else None


def _read(evidence: Evidence, start: str, side_by_side: SideBySide, *, after: str = "") -> Digests:
    found = Digests(stream=evidence.stream)
    try:
        names = list(evidence.digests.listed(after=after))
        ours = sorted(
            (item for item in names if hour_of(item.name) >= start and hour_of(item.name)),
            key=lambda item: (hour_of(item.name), item.name),
        )
        for first in range(0, len(ours), _WINDOW):
            window = ours[first : first + _WINDOW]
            for item, digest in zip(
                window, side_by_side([partial(evidence.read, i) for i in window]), strict=True
            ):
                if not isinstance(digest, str):
                    is_signed = evidence.is_signed(digest.named, digest.signature)
                    found.add(digest) if is_signed else found.unknown.add(digest.named)
                elif hour_at(item.at) >= start:  # What stood there before is no news.
                    found.problems.append(f"{item.name} {digest}")
    except LockstepError as error:
        found.error = error
        return found
    if strange := [i.name for i in names if not hour_of(i.name) and hour_at(i.at) >= start]:
        found.problems.append(f"{len(strange)} objects are no digests, the first is {strange[0][:_SHOWN]!a}")
    if found.unknown:
        hours = sorted(found.unknown)
        found.notes.append(
            f"{len(hours)} digests from {hours[0].hour} to {hours[-1].hour} are signed by no key of the plan "
            f"(audit.{evidence.stream}.digest_keys, docs/deploy.md#digests)"
        )
    return found


def _check(digests: Digests, kept: str, *, is_whole: bool) -> None:
    """The digests of a cloud against themselves (1, 2)."""
    known = {digest.named for digest in digests.genuine}
    forks = dict[Named, Digest]()
    for number, digest in enumerate(digests.genuine):
        if digest.is_misdated:
            minutes = round((digest.moment - digest.at).total_seconds() / 60)
            digests.problems.append(
                f"the digest of {digest.hour} is dated {minutes:+d} minutes from its object"
            )
        digests.problems += [
            f"the digest of {digest.hour} says: {ascii(told[:_SHOWN])[1:-1]}" for told in digest.problems
        ]
        before = digest.previous
        if before is None:
            if number:
                digests.problems.append(f"the digest of {digest.hour} does not follow another one")
            continue
        if before in digests.unknown:
            digests.problems.append(
                f"the digest of {digest.hour} goes on from that of {before.hour}, which no key of the plan has signed"
            )
        elif before not in known and before.hour >= kept and (number or is_whole):
            digests.gone.add(before)
        other = forks.setdefault(before, digest)
        if other.hour != digest.hour:
            digests.problems.append(
                f"the digests of {other.hour} and of {digest.hour} go on from the same one"
            )
    digests.problems += [f"the digest {name} is gone" for name in sorted(digests.gone)]
    first = digests.genuine[0] if digests.genuine else None
    digests.starts_at = first if first and (first.previous or not is_whole) else None


def _tell_missing_hours(digests: Digests, now: datetime) -> None:
    have = {digest.hour for digest in digests.genuine}
    first = datetime.fromisoformat(f"{min(have, default=hour_at(now))}:00:00+00:00")
    hours = (hour_at(first + n * _HOUR) for n in range((now - first) // _HOUR))
    if missing := [hour for hour in hours if hour not in have]:
        digests.notes.append(
            f"{len(missing)} hours have no digest, the last: {', '.join(missing[-_LISTED:])}"
        )


def _compare(of: Digests, keys: Evidence, by: Digests, start: str) -> None:
    """What one cloud has confirmed of another one's digests (3)."""
    if of.unreadable or by.unreadable:
        return
    genuine = {digest.named: digest for digest in of.genuine}
    for digest in by.genuine:
        if digest.other is None:
            continue
        named = digest.other.digest
        if found := genuine.get(named):
            if of.confirmed is None or of.confirmed.hour < found.hour:
                of.confirmed = found
        elif named.hour >= start and named not in of.gone:
            if keys.is_signed(named, digest.other.signature):
                of.gone.add(named)
                of.problems.append(
                    f"the digest {named} is gone, or another one: {by.stream} has confirmed it at {digest.hour}"
                )
            elif keys.keys and named not in of.unknown:
                by.problems.append(
                    f"the digest of {digest.hour} names {named} of {of.stream}, which no key of the plan has signed"
                )


def late(claims: Iterable[Claim], seqs: Sequence[int], dates: Sequence[int]) -> tuple[int, Digest] | None:
    """The first entry that is too old for a digest that lacks it, and that digest.

    Args:
        claims: What digests say of the chain.
        seqs: The numbers of its entries, ascending.
        dates: When their objects were written, in milliseconds since the epoch.
    """
    oldest = [*accumulate(reversed(dates), min)][::-1]
    for claim in claims:
        after, limit = bisect_right(seqs, claim.head.seq if claim.head else 0), claim.last.began - _TOLERANCE
        if after < len(seqs) and oldest[after] < limit:
            return next(seqs[n] for n in range(after, len(seqs)) if dates[n] < limit), claim.last
    return None
