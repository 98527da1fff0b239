"""The report on the audit log, for people and auditors: values made from what verification found, a page, and JSON.

Pure, and the same for the same input. The page has no script and makes no request, and a policy in it forbids both; it
names the style sheet by its hash.

Times are aware and in UTC, durations are seconds. Every entry is read, so that an age is right from the beginning of
the period on; what is listed and counted is of the period. An entry that a problem names is listed, and counts for
nothing.
"""

import base64
import hashlib
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from operator import attrgetter
from typing import Literal

import msgspec
from msgspec import Struct

from lockstep import __version__
from lockstep.audit.confirmed import Digests, Verdict, worst
from lockstep.audit.verify import Verification
from lockstep.operate.formatting import many
from lockstep.operate.html.templates import environment, style
from lockstep.operate.report.entries import (
    ARCHIVED_RUN,
    Order,
    Other,
    Proof,
    Record,
    Run,
    Time,
    read_entry,
    shown,
)
from lockstep.plan.compiled import message
from lockstep.protocol.deadlines import START_LATENESS
from lockstep.protocol.messages import RevocationResult
from lockstep.protocol.model import Credential

VALID = 2
"""The newest generations with a password of their own, which may log in: the current one and the one before it."""
LONGEST_PROBLEM = 400
"""Characters of what verification says."""
ABOUT_ANOTHER = "began from generation"
"""How a problem begins that names the entry after one that is missing."""

Revocation = Literal["refused", "unreadable", "revoked"]
"""How a generation was shown to be revoked; the last: by an emergency."""


class Check(Struct, frozen=True, kw_only=True):
    """What verification found of one stream, or of the digests of one.

    Attributes:
        entries: How many were looked at, or how many digests.
        confirmed_until: When the newest digest was made that the other cloud has confirmed.
        problems: One sentence each.
        error: Why the stream was unreachable.
    """

    stream: str
    verdict: Verdict
    entries: int = 0
    confirmed_until: Time | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    error: str | None = None


class Generation(Struct, kw_only=True):
    """One generation that was promoted.

    Attributes:
        stream: The cloud that promoted it.
        born: When its password was first promoted; earlier than `promoted` for a reconcile, which gives a login again.
        between_seconds: Since the promotion of the generation before it; None for the first on record.
        superseded: When the next generation was promoted; None for the current one.
        age_seconds: Of its password, when it was superseded, or now.
        revoked: When it was on record as revoked on every database.
        revocation: `refused`, `unreadable`, or `revoked` by an emergency.
        overlap_seconds: For how long it logged in beside the next one, at least; None while it does, of an emergency,
            and where the next generation on record was not the next one.
    """

    generation: int
    stream: str
    kind: Literal["new", "reconcile"] | None
    born: Time
    promoted: Time
    between_seconds: float | None
    superseded: Time | None = None
    age_seconds: float = 0.0
    revoked: Time | None = None
    revocation: Revocation | None = None
    overlap_seconds: float | None = None


class Gap(Struct, frozen=True, kw_only=True):
    """A time without a rotation that is longer than any fault of one cloud explains (protocol R8).

    Attributes:
        is_open: Whether it had not ended when the report was made.
        failed: The runs in it that failed.
        archived: The entries in it that were not read, and may be rotations.
    """

    start: Time
    end: Time
    is_open: bool
    failed: int
    archived: int


class DatabaseProofs(Struct, kw_only=True):
    """What all runs showed on one database.

    Attributes:
        accepted: How often it accepted the new generation in a real login.
        refused: Generations that it was seen to refuse.
        unreadable: Generations that no store held any more.
    """

    database: str
    accepted: int = 0
    refused: int = 0
    unreadable: int = 0
    last_refused: Time | None = None
    taken_over: int = 0
    plaintext: bool = False


class Figures(Struct, frozen=True, kw_only=True):
    """The figures of a credential in the period. Durations are None where nothing was measured.

    Attributes:
        rotated: Successes by stream.
        between_limit_seconds: The longest time between two rotations that a fault of one cloud explains.
        shortest_overlap_seconds: The overlap as the entries bound it from below: from the end of the run that promoted
            the next generation to the beginning of the one that showed this one to be revoked.
        archived: Entries of runs that were not read, so nothing here counts them.
        unproven: Generations of which two newer ones were promoted and no proof of revocation is on record.
    """

    rotations: int
    rotated: dict[str, int]
    failed: int
    reconciled: int
    longest_between_seconds: float | None
    between_limit_seconds: float
    longest_age_seconds: float | None
    shortest_overlap_seconds: float | None
    proven_revoked: int
    archived: int
    unproven: tuple[int, ...]


class Planned(Struct, frozen=True, kw_only=True):
    """What today's plan says of a credential."""

    id: str
    strategy: str
    usernames: tuple[str, ...]
    databases: tuple[str, ...]
    interval_seconds: float
    overlap_seconds: float
    plan: str


class CredentialReport(Struct, frozen=True, kw_only=True):
    """The report on one credential.

    Attributes:
        runs: Those of the period, in the order of time.
    """

    credential: Planned
    checks: tuple[Check, ...]
    verdict: Verdict
    runs: tuple[Run, ...]
    orders: tuple[Order, ...]
    others: tuple[Other, ...]
    figures: Figures
    generations: tuple[Generation, ...]
    gaps: tuple[Gap, ...]
    proofs: tuple[DatabaseProofs, ...]


class Report(Struct, frozen=True, kw_only=True):
    """The whole report. Times are RFC 3339 in UTC, durations are seconds.

    Attributes:
        format: It grows with a change that an old reader does not understand.
        verdict: The worst of all credentials, and of the digests.
        lock: Name and region of the lock table, which tells two deployments apart.
    """

    format: Literal[1] = 1
    verdict: Verdict
    made_at: Time
    since: Time
    lock: str
    version: str
    digests: tuple[Check, ...]
    credentials: tuple[CredentialReport, ...]


def build(
    credentials: Sequence[CredentialReport],
    digests: Iterable[Digests] = (),
    *,
    since: datetime,
    now: datetime,
    lock: str = "",
) -> Report:
    """The report.

    Args:
        credentials: The report on each, of the same period.
        digests: Of each cloud.
        since: The beginning of the period.
        now: Its end, and the time of the report.
        lock: Name and region of the lock table.
    """
    checks = tuple(
        _check(d, d.verdict(now), len(d.genuine), d.confirmed.moment if d.confirmed else None)
        for d in digests
    )
    return Report(
        verdict=worst([*(c.verdict for c in credentials), *(c.verdict for c in checks)]),
        made_at=now,
        since=since,
        lock=lock,
        version=__version__,
        digests=checks,
        credentials=tuple(credentials),
    )


def _check(
    found: Digests | Verification, verdict: Verdict, entries: int, confirmed_until: datetime | None = None
) -> Check:
    """With texts that are fit to be shown: verification quotes names from a bucket."""
    return Check(
        stream=found.stream,
        verdict=verdict,
        entries=entries,
        confirmed_until=confirmed_until,
        problems=tuple(shown(str(problem), LONGEST_PROBLEM) for problem in found.problems),
        notes=tuple(shown(note, LONGEST_PROBLEM) for note in found.notes),
        error=shown(found.unreadable, LONGEST_PROBLEM) or None,
    )


def report_on(
    credential: Credential, found: Sequence[Verification], *, since: datetime, now: datetime
) -> CredentialReport:
    """The report on one credential.

    Args:
        credential: As the plan has it.
        found: What verification found of each of its streams.
        since: The beginning of the period.
        now: Its end.
    """
    read = _Evidence(credential, found, since, now)
    schedule = credential.schedule
    return CredentialReport(
        credential=message(
            Planned,
            credential,
            interval_seconds=schedule.interval.total_seconds(),
            overlap_seconds=schedule.overlap.total_seconds(),
            plan=credential.plan_digest,
        ),
        checks=tuple(_check(v, v.verdict, len(v.entries)) for v in found),
        verdict=worst([v.verdict for v in found]),
        runs=tuple(read.runs),
        orders=tuple(read.orders),
        others=tuple(read.others),
        figures=read.figures(),
        generations=tuple(g for g in read.generations if (g.revoked or g.superseded or now) >= since),
        gaps=tuple(read.gaps()),
        proofs=tuple(_proofs(read.runs)),
    )


class _Evidence:
    """What is on record of a credential; the arguments as of `report_on`.

    Attributes:
        all_runs: Those before the period too.
        between_limit: The longest time between two rotations that a fault of one cloud explains (protocol R8).
        unread: When runs ended whose entries were not read.
    """

    def __init__(
        self, credential: Credential, found: Sequence[Verification], since: datetime, now: datetime
    ) -> None:
        records = [record for v in found for record in _records(v)]
        records.sort(key=lambda record: (record.at or now, record.stream, record.seq))
        self.since, self.now = since, now
        self.between_limit = 2 * credential.schedule.interval + START_LATENESS
        self.streams = [v.stream for v in found]
        self.all_runs = [record for record in records if isinstance(record, Run)]
        self.orders = [order for order in records if isinstance(order, Order) and order.at >= since]
        self.others = [r for r in records if isinstance(r, Other) and (r.at is None or r.at >= since)]
        self.runs = [run for run in self.all_runs if run.at >= since]
        self.generations = _generations(self.all_runs, now)
        self.unread = [o.at for o in self.others if o.at and o.outcome == ARCHIVED_RUN]

    def figures(self) -> Figures:
        """The figures."""
        rotated = Counter(run.stream for run in self.runs if run.succeeded)
        promoted = [g for g in self.generations if g.promoted >= self.since]
        between = [g.between_seconds for g in promoted if g.between_seconds is not None]
        ages = [g.age_seconds for g in self.generations if (g.superseded or self.now) >= self.since]
        revoked = [g for g in self.generations if g.revoked and g.revoked >= self.since]
        overlaps = [g.overlap_seconds for g in revoked if g.overlap_seconds is not None]
        return Figures(
            rotations=rotated.total(),
            rotated={stream: rotated[stream] for stream in self.streams},
            failed=len(self.runs) - rotated.total(),
            reconciled=sum(run.succeeded and run.kind == "reconcile" for run in self.runs),
            longest_between_seconds=max(between, default=None),
            between_limit_seconds=self.between_limit.total_seconds(),
            longest_age_seconds=max(ages, default=None),
            shortest_overlap_seconds=min(overlaps, default=None),
            proven_revoked=sum(g.revocation == "refused" for g in revoked),
            archived=len(self.unread),
            unproven=_unproven(self.generations, self.since),
        )

    def gaps(self) -> Iterator[Gap]:
        """The times without a rotation that are longer than a fault of one cloud explains, and end in the period."""
        for before, after in pairwise([*(g.promoted for g in self.generations), self.now]):
            if after - before > self.between_limit and after > self.since:
                yield Gap(
                    start=before,
                    end=after,
                    is_open=after is self.now,
                    failed=sum(not run.succeeded and before <= run.at <= after for run in self.all_runs),
                    archived=sum(before < at < after for at in self.unread),
                )


def _records(found: Verification) -> Iterator[Record]:
    doubted: dict[int, str] = {}
    number = attrgetter("seq")
    for problem in found.problems:
        if problem.first and problem.end and not problem.what.startswith(ABOUT_ANOTHER):
            low = bisect_left(found.entries, problem.first, key=number)
            high = bisect_right(found.entries, problem.end, key=number)
            doubted |= {entry.seq: problem.what for entry in found.entries[low:high]}
    for entry in found.entries:
        yield read_entry(entry, shown(doubted.get(entry.seq, ""), LONGEST_PROBLEM))


def _generations(runs: Iterable[Run], now: datetime) -> list[Generation]:
    """The generations that were promoted, oldest first."""
    found: dict[int, Generation] = {}
    successors: dict[int, Run] = {}
    told: dict[int, dict[str, RevocationResult]] = defaultdict(dict)
    newest: Generation | None = None
    for run in runs:
        if run.succeeded and run.generation is not None and run.generation not in found:
            if newest:
                newest.superseded, successors[newest.generation] = run.at, run
            base = found.get(run.base_generation or 0) if run.kind == "reconcile" else None
            newest = found[run.generation] = Generation(
                generation=run.generation,
                stream=run.stream,
                kind=run.kind,
                born=base.born if base else run.at,
                promoted=run.at,
                between_seconds=(run.at - newest.promoted).total_seconds() if newest else None,
            )
        for database, proof in run.databases.items():
            for number, result in proof.revoked.items():
                told[number][database] = result
        for number in {number for proof in run.databases.values() for number in proof.revoked}:
            if run.databases.keys() <= told[number].keys():
                is_refused = set(told[number].values()) == {RevocationResult.REFUSED}
                _end(found.get(number), run, "refused" if is_refused else "unreadable", successors)
        for number in run.revoked_on_purpose:
            _end(found.get(number), run, "revoked", successors)
    for one in found.values():
        one.age_seconds = max(((one.superseded or now) - one.born).total_seconds(), 0.0)
    return list(found.values())


def _end(one: Generation | None, run: Run, revocation: Revocation, successors: Mapping[int, Run]) -> None:
    if one is None or one.revoked:
        return
    one.revoked, one.revocation = run.at, revocation
    after = successors.get(one.generation)
    if after and after.base_generation == one.generation and not run.revoked_on_purpose:
        one.overlap_seconds = max((run.started - after.at).total_seconds(), 0.0)


def _unproven(found: Sequence[Generation], start: datetime) -> tuple[int, ...]:
    newer, old = 0, []
    for one in reversed(found):
        if newer >= VALID and one.revoked is None and one.promoted >= start:
            old.append(one.generation)
        newer += one.kind == "new"
    return tuple(reversed(old))


def _proofs(runs: Iterable[Run]) -> Iterator[DatabaseProofs]:
    found: dict[str, list[tuple[Run, Proof]]] = defaultdict(list)
    for run in runs:
        for database, proof in run.databases.items():
            found[database].append((run, proof))
    for name, here in sorted(found.items()):
        refused = {g: run.at for run, proof in here for g in proof.revoked_as(RevocationResult.REFUSED)}
        yield DatabaseProofs(
            database=name,
            accepted=len(here),
            refused=len(refused),
            unreadable=len({g for _, p in here for g in p.revoked_as(RevocationResult.UNREADABLE)}),
            last_refused=max(refused.values(), default=None),
            taken_over=sum(proof.taken_over for _, proof in here),
            plaintext=any(proof.plaintext for _, proof in here),
        )


# Its forms.


def page(report: Report) -> str:
    """The page, which is one file."""
    templates = environment("lockstep.operate.report")
    digest = hashlib.sha256(style(templates, "page.css").encode()).digest()
    checks = [check for c in report.credentials for check in c.checks]
    return templates.get_template("page.html.j2").render(
        r=report,
        style_hash=base64.b64encode(digest).decode(),
        entries=many(sum(check.entries for check in checks), "signed entry", "signed entries"),
        chains=many(len(checks), "chain"),
    )


def as_json(report: Report) -> str:
    """One JSON document, with every entry of the period."""
    return msgspec.json.encode(report).decode() + "\n"
