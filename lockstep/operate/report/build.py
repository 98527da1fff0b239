"""From what verification found to the report: pure, and the same for the same input.

Every record is read, so that an age is right from the beginning of the period on; what is listed and counted is of the
period. An entry that verification doubts is listed, and counts for nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Literal, TypeVar

from msgspec.structs import replace

from lockstep import __version__
from lockstep.audit.chain import Entry
from lockstep.audit.confirmed import Digests, worst
from lockstep.audit.entry import is_of_a_run
from lockstep.audit.verify import Verification
from lockstep.operate.formatting import at_milliseconds, many
from lockstep.operate.report.data import (
    Check,
    CredentialEvidence,
    CredentialReport,
    DatabaseProofs,
    Figures,
    Gap,
    Generation,
    Order,
    Other,
    Period,
    Planned,
    Proof,
    Record,
    Report,
    Run,
    StreamEvidence,
)
from lockstep.operate.report.events import read_event, sanitize
from lockstep.protocol.deadlines import START_LATENESS
from lockstep.protocol.model import Credential, Schedule

RecordT = TypeVar("RecordT", Run, Order, Other)
Pause = tuple[datetime, datetime]
"""Since when until when scheduled runs were off."""

VALID = 2
"""The newest generations with a password of their own, which may log in: the current one and the one before it."""
MOST_NAMES = 50
"""Databases that are listed one by one; the rest is one line."""
REST = "(others)"
ARCHIVED = "archived "
NOT_READ = "it is archived: restore it to have it read"
LONGEST_PROBLEM = 400
"""Characters of what verification says."""
WIDTHS = tuple(
    timedelta(seconds=s)
    for s in (10, 60, 300, 900, 3600, 4 * 3600, 86_400, 7 * 86_400, 28 * 86_400, 364 * 86_400)
)
"""Of the parts of the period."""
MOST_PERIODS = 120
DOUBTED = (
    "names another run",
    "names another time",
    "is of another kind",
    "is dated more than",
    "is signed with a key that was retired",
    "does not name the hash",
    "is missing or different",
)
"""How a problem begins that is about the entry itself; others are about what is missing beside it."""


def evidence(credential: Credential, found: Sequence[Verification]) -> CredentialEvidence:
    """The evidence of one credential.

    Args:
        credential: As the plan has it.
        found: Of each of its streams.
    """
    return CredentialEvidence(credential=credential, streams=tuple(_stream(v) for v in found))


def build(
    found: Sequence[CredentialEvidence],
    digests: Iterable[Digests] = (),
    *,
    since: datetime,
    now: datetime,
    lock: str = "",
) -> Report:
    """The report.

    Args:
        found: The evidence of each credential.
        digests: Of each cloud.
        since: The beginning of the period.
        now: Its end, and the time of the report.
        lock: Name and region of the lock table.
    """
    credentials = tuple(_credential(one, since, now) for one in found)
    checks = tuple(_sanitized(_of_digests(one, now)) for one in digests)
    return Report(
        verdict=worst([*(c.verdict for c in credentials), *(c.verdict for c in checks)]),
        made_at=now,
        since=since,
        lock=lock,
        version=__version__,
        digests=checks,
        credentials=credentials,
    )


def _of_digests(found: Digests, now: datetime) -> Check:
    return Check(
        stream=found.stream,
        verdict=found.verdict(now),
        entries=len(found.genuine),
        confirmed_until=found.confirmed.moment if found.confirmed else None,
        problems=tuple(found.problems),
        notes=tuple(found.notes),
        error=found.unreadable or None,
    )


def _stream(v: Verification) -> StreamEvidence:
    return StreamEvidence(
        check=Check(
            stream=v.stream,
            verdict=v.verdict,
            entries=len(v.entries),
            problems=tuple(map(str, v.problems)),
            notes=tuple(v.notes),
            error=v.unreadable or None,
        ),
        events=[(entry.seq, entry.event) for entry in v.entries if entry.event],
        archived=[_archived(entry) for entry in v.entries if not entry.event],
        doubtful={
            problem.first: problem.what
            for problem in v.problems
            if problem.first and problem.first == problem.end and problem.what.startswith(DOUBTED)
        },
    )


def _archived(entry: Entry) -> tuple[int, datetime | None, str]:
    return entry.seq, at_milliseconds(entry.time), "run" if is_of_a_run(entry.rotation_id) else "order"


def _credential(found: CredentialEvidence, since: datetime, now: datetime) -> CredentialReport:
    records, credential = _records(found, now), found.credential
    all_runs, all_orders = _of(records, Run), _of(records, Order)
    runs = tuple(run for run in all_runs if run.at >= since)
    orders = tuple(order for order in all_orders if order.at >= since)
    others = tuple(other for other in _of(records, Other) if other.at is None or other.at >= since)
    first = min([*(run.at for run in runs), *(order.at for order in orders)], default=since)
    start = max(since, first) if len(runs) == len(all_runs) else since
    generations = _generations(all_runs)
    unread = [o.at for o in others if o.at and o.what == f"{ARCHIVED}run"]
    streams = [stream.check.stream for stream in found.streams]
    return CredentialReport(
        credential=_planned(credential),
        checks=tuple(_sanitized(stream.check) for stream in found.streams),
        verdict=worst([stream.check.verdict for stream in found.streams]),
        start=start,
        end=now,
        runs=runs,
        orders=orders,
        others=others,
        figures=replace(
            _figures(runs, generations, credential.schedule, start, now),
            rotated={stream: sum(r.succeeded and r.stream == stream for r in runs) for stream in streams},
            archived=len(unread),
        ),
        generations=tuple(g for g in generations if (g.revoked or g.superseded or now) >= start),
        periods=tuple(_periods(start, now, runs, generations, streams)),
        gaps=tuple(
            _gaps(
                generations,
                all_runs,
                _pauses(all_orders, now),
                unread,
                limit=between_limit(credential.schedule),
                start=start,
                end=now,
            )
        ),
        proofs=tuple(_proofs(runs)),
    )


def _planned(credential: Credential) -> Planned:
    return Planned(
        id=credential.id,
        strategy=credential.strategy.value,
        usernames=tuple(credential.usernames),
        databases=tuple(credential.databases),
        interval_seconds=credential.schedule.interval.total_seconds(),
        overlap_seconds=credential.schedule.overlap.total_seconds(),
        plan=credential.plan_digest,
    )


def _sanitized(check: Check) -> Check:
    """With texts that are fit to be shown: verification quotes names from a bucket."""
    return replace(
        check,
        problems=tuple(sanitize(text, LONGEST_PROBLEM) for text in check.problems),
        notes=tuple(sanitize(text, LONGEST_PROBLEM) for text in check.notes),
        error=sanitize(check.error, LONGEST_PROBLEM) if check.error else None,
    )


def between_limit(schedule: Schedule) -> timedelta:
    """The longest time between two rotations that a fault of one cloud explains (protocol R8)."""
    return 2 * schedule.interval + START_LATENESS


def _records(found: CredentialEvidence, now: datetime) -> list[Record]:
    records = [
        read_event(s.check.stream, seq, event, now=now, why=s.doubtful.get(seq, ""))
        for s in found.streams
        for seq, event in s.events
    ]
    unread = [
        Other(stream=s.check.stream, seq=seq, at=at, what=f"{ARCHIVED}{what}", details="", why=NOT_READ)
        for s in found.streams
        for seq, at, what in s.archived
    ]
    return sorted([*records, *unread], key=lambda r: (r.at or now, r.stream, r.seq))


def _of(records: Iterable[Record], kind: type[RecordT]) -> list[RecordT]:
    return [record for record in records if isinstance(record, kind)]


def _generations(runs: Sequence[Run]) -> list[Generation]:
    """The generations that were promoted, oldest first."""
    found: dict[int, Generation] = {}
    for run in runs:
        if run.succeeded and run.generation is not None and run.generation not in found:
            base = found.get(run.base) if run.base is not None and run.kind == "reconcile" else None
            found[run.generation] = Generation(
                generation=run.generation,
                stream=run.stream,
                kind=run.kind,
                base=run.base,
                born=base.born if base else run.at,
                older=base.older if base else run.kind == "reconcile",
                begun=run.started,
                promoted=run.at,
            )
    for one, after in pairwise(list(found.values())):
        found[one.generation] = replace(one, superseded=after.promoted)
    _add_revocations(found, runs)
    for one, after in pairwise(list(found.values())):
        found[one.generation] = _with_overlap(one, after)
    return list(found.values())


def _add_revocations(found: dict[int, Generation], runs: Sequence[Run]) -> None:
    shown: dict[int, dict[str, str]] = {}
    for run in runs:
        databases = {proof.database for proof in run.proofs}
        for proof in run.proofs:
            for revocation, numbers in (("refused", proof.refused), ("unreadable", proof.unreadable)):
                for number in numbers:
                    shown.setdefault(number, {})[proof.database] = revocation
        for number in {g for proof in run.proofs for g in (*proof.refused, *proof.unreadable)}:
            revocations = shown[number]
            if databases <= revocations.keys():
                is_refused = set(revocations.values()) == {"refused"}
                _die(found, number, run, "refused" if is_refused else "unreadable")
        for number in run.ended:
            _die(found, number, run, "revoked")


def _die(
    found: dict[int, Generation],
    number: int,
    run: Run,
    revocation: Literal["refused", "unreadable", "revoked"],
) -> None:
    one = found.get(number)
    if one and one.revoked is None and one.promoted <= run.at:
        found[number] = replace(
            one, tried=run.started, revoked=run.at, revocation=revocation, hurried=bool(run.ended)
        )


def _with_overlap(one: Generation, after: Generation) -> Generation:
    if one.revoked is None or one.tried is None or one.superseded is None:
        return one
    if one.hurried or after.base != one.generation:
        return one
    return replace(
        one,
        overlap_seconds=max((one.tried - one.superseded).total_seconds(), 0.0),
        longest_overlap_seconds=(one.revoked - after.begun).total_seconds(),
    )


def _figures(
    runs: Sequence[Run],
    found: Sequence[Generation],
    schedule: Schedule,
    start: datetime,
    now: datetime,
) -> Figures:
    between = [
        (after.promoted - before.promoted).total_seconds()
        for before, after in pairwise(found)
        if after.promoted >= start
    ]
    ages = [
        (min(g.superseded or now, now) - g.born).total_seconds()
        for g in found
        if (g.superseded or now) >= start
    ]
    revoked = [g for g in found if g.revoked and g.revoked >= start]
    overlaps = [g.overlap_seconds for g in revoked if g.overlap_seconds is not None]
    return Figures(
        rotated={},
        failed=sum(not run.succeeded for run in runs),
        reconciled=sum(run.succeeded and run.kind == "reconcile" for run in runs),
        adopted=sum(run.succeeded and run.adopted_from is not None for run in runs),
        typical_between_seconds=round(median(between)) if between else None,
        longest_between_seconds=max(between, default=None),
        between_limit_seconds=between_limit(schedule).total_seconds(),
        longest_age_seconds=max(ages, default=None),
        shortest_overlap_seconds=min(overlaps, default=None),
        short_overlaps=sum(
            g.longest_overlap_seconds is not None
            and g.longest_overlap_seconds < schedule.overlap.total_seconds()
            for g in revoked
        ),
        proven_revoked=sum(g.revocation == "refused" for g in revoked),
        refused_logins=sum(len(proof.refused) for run in runs for proof in run.proofs),
        archived=0,
        taken_over=max((g.promoted for g in found if g.older and g.promoted >= start), default=None),
        unproven=_unproven(found, start),
    )


def _unproven(found: Sequence[Generation], start: datetime) -> tuple[int, ...]:
    newer, old = 0, []
    for one in reversed(found):
        if newer >= VALID and one.revoked is None and one.promoted >= start:
            old.append(one.generation)
        newer += one.kind == "new"
    return tuple(reversed(old))


def _periods(
    start: datetime, end: datetime, runs: Sequence[Run], found: Sequence[Generation], streams: Sequence[str]
) -> Iterator[Period]:
    """The period in equal parts, at most 120, each with its rotations and the greatest age of the password."""
    width = next((w for w in WIDTHS if (end - start) / w <= MOST_PERIODS), WIDTHS[-1])
    first = start - (start - datetime(2000, 1, 1, tzinfo=start.tzinfo)) % width
    count = max(1, -((first - end) // width))
    rotated = [dict.fromkeys(streams, 0) for _ in range(count)]
    failed = [0] * count
    for run in runs:
        number = min((run.at - first) // width, count - 1)
        if run.succeeded:
            rotated[number][run.stream] += 1
        else:
            failed[number] += 1
    ages: list[float | None] = [None] * count
    for one in found:
        until = min(one.superseded or end, end)
        begin = max(one.promoted, first)
        for number in range((begin - first) // width, min((until - first) // width, count - 1) + 1):
            age = (min(until, first + (number + 1) * width) - one.born).total_seconds()
            ages[number] = max(ages[number] or age, age)
    for number in range(count):
        yield Period(
            start=first + number * width,
            end=min(first + (number + 1) * width, max(end, first + width)),
            rotated=rotated[number],
            failed=failed[number],
            longest_age_seconds=ages[number],
        )


def _pauses(orders: Sequence[Order], end: datetime) -> list[Pause]:
    found, since = [], None
    for order in orders:
        if order.name in {"pause", "retire"}:
            since = since or order.at
        elif since and (order.name == "resume" or (order.name == "revoke" and order.lifts_pause)):
            found.append((since, order.at))
            since = None
    return [*found, (since, end)] if since else found


def _gaps(
    found: Sequence[Generation],
    runs: Sequence[Run],
    paused: Sequence[Pause],
    unread: Sequence[datetime],
    *,
    limit: timedelta,
    start: datetime,
    end: datetime,
) -> Iterator[Gap]:
    """The times without a rotation that are longer than `limit` and end in the period."""
    failed = [run for run in runs if not run.succeeded]
    for before, after in pairwise([*(g.promoted for g in found), end]):
        if after - before > limit and after > start:
            yield Gap(
                start=before,
                end=after,
                is_open=after is end,
                why=tuple(_explained(before, after, failed, paused, unread)),
            )


def _explained(
    start: datetime,
    end: datetime,
    failed: Sequence[Run],
    paused: Sequence[Pause],
    unread: Sequence[datetime],
) -> Iterator[str]:
    off = [since for since, until in paused if since < end and until > start]
    for since in off[-4:]:
        yield f"paused by an operator from {since:%Y-%m-%d %H:%M}"
    archived = sum(start < at < end for at in unread)
    if archived:
        yield f"{many(archived, 'archived entry', 'archived entries')} in it, which may be rotations, not read"
    names = Counter(f"{run.error} in {run.stream.upper()}" for run in failed if start <= run.at <= end)
    for name, count in names.most_common(4):
        yield f"{name}: {many(count, 'failed run')}"
    if not (names or off or archived):
        yield "no run is on record in it"


def _proofs(runs: Sequence[Run]) -> Iterator[DatabaseProofs]:
    shown: dict[str, list[tuple[Run, Proof]]] = {}
    for run in runs:
        for proof in run.proofs:
            name = proof.database if proof.database in shown or len(shown) < MOST_NAMES else REST
            shown.setdefault(name, []).append((run, proof))
    for name, here in sorted(shown.items()):
        yield DatabaseProofs(
            database=name,
            accepted=sum(proof.outcome in {"applied", "proven"} for _, proof in here),
            refused=len({g for _, proof in here for g in proof.refused}),
            unreadable=len({g for _, proof in here for g in proof.unreadable}),
            last_refused=max((run.at for run, proof in here if proof.refused), default=None),
            taken_over=sum(proof.taken_over for _, proof in here),
            plaintext=any(proof.plaintext for _, proof in here),
        )
