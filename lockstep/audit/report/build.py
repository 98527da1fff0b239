"""From evidence to the report: pure, and the same for the same input.

Every record is read, so that an age is right from the beginning of the period on; what is listed and counted is of the
period. An entry that verification doubts is listed, and counts for nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import TypeVar

from lockstep import __version__
from lockstep.audit.report.data import (
    Behind,
    Check,
    CredentialEvidence,
    CredentialReport,
    DatabaseProofs,
    Emergency,
    FailureName,
    Figures,
    Life,
    OtherKind,
    Report,
    worst,
)
from lockstep.audit.report.lives import bins, gaps, lives, pauses
from lockstep.audit.report.meanings import meaning_of
from lockstep.audit.report.reading import Order, Other, Record, Run, read_event
from lockstep.audit.report.text import clean
from lockstep.model import Schedule
from lockstep.timing import START_LATENESS

RecordT = TypeVar("RecordT", Run, Order, Other)

ALIVE = 2
"""The newest generations with a password of their own, which may log in: the current one and the one before it."""
MOST_NAMES = 50
"""Names of errors, triggers and kinds that are listed one by one; the rest is one line."""
REST = "(others)"
ARCHIVED = "archived "
NOT_READ = "it is archived: restore it to have it read"
LONGEST_PROBLEM = 400
"""Characters of what verification says."""


def build(
    evidence: Sequence[CredentialEvidence], *, since: datetime, now: datetime, lock: str = ""
) -> Report:
    """The report.

    Args:
        evidence: Of each credential.
        since: The beginning of the period.
        now: Its end, and the time of the report.
        lock: Name and region of the lock table.
    """
    return Report(
        made_at=now,
        since=since,
        lock=lock,
        version=__version__,
        credentials=tuple(_credential(one, since, now) for one in evidence),
    )


def _credential(evidence: CredentialEvidence, since: datetime, now: datetime) -> CredentialReport:
    records = _records(evidence, now)
    all_runs = _of(records, Run)
    all_orders = _of(records, Order)
    runs = tuple(run for run in all_runs if run.at >= since)
    orders = tuple(order for order in all_orders if order.at >= since)
    others = tuple(other for other in _of(records, Other) if other.at is None or other.at >= since)
    told = [*(run.at for run in runs), *(order.at for order in orders)]
    start = max(since, min(told, default=since)) if all(r.at >= since for r in all_runs) else since
    found, paused = lives(all_runs), pauses(all_orders, now)
    unread = [o.at for o in others if o.at and o.what == f"{ARCHIVED}run"]
    limit = between_limit(evidence.credential.schedule)
    streams = [stream.check.stream for stream in evidence.streams]
    return CredentialReport(
        credential=evidence.credential,
        checks=tuple(_cleaned(stream.check) for stream in evidence.streams),
        verdict=worst([stream.check.verdict for stream in evidence.streams]),
        start=start,
        end=now,
        runs=runs,
        orders=orders,
        others=others,
        figures=replace(
            _figures(runs, found, evidence.credential.schedule, start, now, streams), archived=len(unread)
        ),
        lives=tuple(life for life in found if (life.dead or life.superseded or now) >= start),
        bins=tuple(bins(start, now, runs, found, streams)),
        gaps=tuple(gaps(found, all_runs, paused, unread, limit=limit, start=start, end=now)),
        emergencies=tuple(_emergencies(all_runs, all_orders, since)),
        failures=tuple(_failures(runs)),
        behind=tuple(_behind(runs)),
        proofs=tuple(_proofs(runs)),
        other_kinds=tuple(_other_kinds(others)),
        plans=tuple(_plans(runs)),
        paused=tuple(pause for pause in paused if pause[1] >= start),
    )


def _cleaned(check: Check) -> Check:
    """With texts that are fit to be shown: verification quotes names from a bucket."""
    return replace(
        check,
        problems=tuple(clean(text, LONGEST_PROBLEM) for text in check.problems),
        acknowledged=tuple(clean(text, LONGEST_PROBLEM) for text in check.acknowledged),
        notes=tuple(clean(text, LONGEST_PROBLEM) for text in check.notes),
        error=clean(check.error, LONGEST_PROBLEM) if check.error else None,
    )


def between_limit(schedule: Schedule) -> timedelta:
    """The longest time between two rotations that a fault of one cloud explains (protocol R8)."""
    return 2 * schedule.interval + START_LATENESS


def _records(evidence: CredentialEvidence, now: datetime) -> list[Record]:
    found = [
        read_event(s.check.stream, seq, event, now=now, why=s.doubtful.get(seq, ""))
        for s in evidence.streams
        for seq, event in s.events
    ]
    unread = [
        Other(stream=s.check.stream, seq=a.seq, at=a.at, what=f"{ARCHIVED}{a.what}", details="", why=NOT_READ)
        for s in evidence.streams
        for a in s.archived
    ]
    return sorted([*found, *unread], key=lambda r: (r.at or now, r.stream, r.seq))


def _of(records: Iterable[Record], kind: type[RecordT]) -> list[RecordT]:
    return [record for record in records if isinstance(record, kind)]


def _figures(
    runs: Sequence[Run],
    found: Sequence[Life],
    schedule: Schedule,
    start: datetime,
    now: datetime,
    streams: Sequence[str],
) -> Figures:
    rotated = dict.fromkeys(streams, 0)
    for run in runs:
        if run.succeeded:
            rotated[run.stream] = rotated.get(run.stream, 0) + 1
    ends = [life.promoted for life in found]
    between = [after - before for before, after in pairwise(ends) if after >= start]
    ages = [
        min(life.superseded or now, now) - life.born for life in found if (life.superseded or now) >= start
    ]
    overlaps = [o for before, life in pairwise(found) if (o := _overlap(before, life)) and o[1] >= start]
    lower = [low for low, _, _ in overlaps]
    dead = [life for life in found if life.dead and life.dead >= start]
    return Figures(
        rotated=rotated,
        failed=sum(not run.succeeded for run in runs),
        healed=sum(run.succeeded and run.kind == "heal" for run in runs),
        adopted=sum(run.succeeded and run.adopted_from is not None for run in runs),
        typical_between=_median(between),
        longest_between=max(between, default=None),
        between_limit=between_limit(schedule),
        longest_age=max(ages, default=None),
        age_now=now - found[-1].born if found else None,
        shortest_overlap=min(lower, default=None),
        typical_overlap=_median(lower),
        short_overlaps=sum(high < schedule.overlap for _, _, high in overlaps),
        proven_dead=sum(life.death == "refused" for life in dead),
        refused_logins=sum(len(proof.refused) for run in runs for proof in run.proofs),
        unreadable=sum(life.death == "unreadable" for life in dead),
        archived=0,
        taken_over=max(
            (life.promoted for life in found if life.older and life.promoted >= start), default=None
        ),
        unproven=_unproven(found, start),
    )


def _median(durations: Sequence[timedelta]) -> timedelta | None:
    return timedelta(seconds=round(median(d.total_seconds() for d in durations))) if durations else None


def _overlap(life: Life, after: Life) -> tuple[timedelta, datetime, timedelta] | None:
    """The overlap at least, when it ended, and the overlap at most.

    None while it lasts, for an emergency, and where the next generation that is on record was not the next one.
    """
    if life.dead is None or life.tried is None or life.hurried or life.superseded is None:
        return None
    if after.base != life.generation:
        return None
    return max(life.tried - life.superseded, timedelta()), life.dead, life.dead - after.begun


def _unproven(found: Sequence[Life], start: datetime) -> tuple[int, ...]:
    newer, old = 0, []
    for life in reversed(found):
        if newer >= ALIVE and life.dead is None and life.promoted >= start:
            old.append(life.generation)
        newer += life.kind == "new"
    return tuple(reversed(old))


def _emergencies(runs: Sequence[Run], orders: Sequence[Order], since: datetime) -> Iterable[Emergency]:
    used: set[tuple[str, int]] = set()
    for order in orders:
        if order.name == "revoke":
            over = next((r for r in runs if r.succeeded and r.at >= order.at and _fulfils(r, order)), None)
            if over:
                used.add((over.stream, over.seq))
            if order.at >= since or (over and over.at >= since):
                yield Emergency(ordered=order, over=over, ended=over.ended if over else ())
    for run in runs:
        if run.ended and run.at >= since and (run.stream, run.seq) not in used:
            yield Emergency(ordered=None, over=run, ended=run.ended)


def _fulfils(run: Run, order: Order) -> bool:
    return bool(run.ended) and (order.through is None or (run.generation or 0) > order.through)


def _failures(runs: Sequence[Run]) -> Iterable[FailureName]:
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        if run.error is not None:
            name = run.error if run.error in by_name or len(by_name) < MOST_NAMES else REST
            by_name.setdefault(name, []).append(run)
    for name, failed in sorted(by_name.items(), key=lambda item: (-len(item[1]), item[0])):
        yield FailureName(
            name=name,
            meaning=meaning_of(name),
            count=len(failed),
            by_stream={s: sum(r.stream == s for r in failed) for s in sorted({r.stream for r in failed})},
            first=failed[0].at,
            last=failed[-1].at,
        )


def who_is_behind(run: Run) -> str:
    """Who was behind a run: the schedule of a cloud, or a person."""
    match run.trigger, run.stream:
        case "schedule", "oci":
            return "standby, on schedule (OCI)"
        case "schedule", stream:
            return f"schedule ({stream.upper()})"
        case "cli", stream:
            return f"an operator, by lockstep rotate ({stream.upper()})"
        case "manual", stream:
            return f"a person who started it ({stream.upper()})"
        case trigger, stream:
            return f"“{trigger}” ({stream.upper()})"


def _behind(runs: Sequence[Run]) -> Iterable[Behind]:
    by_who: dict[str, list[Run]] = {}
    for run in runs:
        who = who_is_behind(run)
        by_who.setdefault(who if who in by_who or len(by_who) < MOST_NAMES else REST, []).append(run)
    for who, theirs in sorted(by_who.items(), key=lambda item: (-len(item[1]), item[0])):
        yield Behind(
            who=who,
            rotated=sum(run.succeeded for run in theirs),
            failed=sum(not run.succeeded for run in theirs),
            forced=sum(run.forced for run in theirs),
        )


def _proofs(runs: Sequence[Run]) -> Iterable[DatabaseProofs]:
    shown: dict[str, list[tuple[Run, int]]] = {}
    for run in runs:
        for number, proof in enumerate(run.proofs):
            name = proof.database if proof.database in shown or len(shown) < MOST_NAMES else REST
            shown.setdefault(name, []).append((run, number))
    for name in sorted(shown):
        here = [(run, run.proofs[number]) for run, number in shown[name]]
        yield DatabaseProofs(
            database=name,
            accepted=sum(proof.outcome in {"applied", "proven"} for _, proof in here),
            refused=len({g for _, proof in here for g in proof.refused}),
            unreadable=len({g for _, proof in here for g in proof.unreadable}),
            last_refused=max((run.at for run, proof in here if proof.refused), default=None),
            enrolled=sum(proof.enrolled for _, proof in here),
            plaintext=any(proof.plaintext for _, proof in here),
        )


def _other_kinds(others: Sequence[Other]) -> Iterable[OtherKind]:
    kinds: dict[tuple[str, str, str], list[Other]] = {}
    for other in others:
        key = (other.what, other.stream, other.why)
        if key not in kinds and len(kinds) >= MOST_NAMES:
            key = (REST, other.stream, "")
        kinds.setdefault(key, []).append(other)
    for (what, stream, why), found in sorted(kinds.items()):
        times = [other.at for other in found if other.at]
        yield OtherKind(
            what=what,
            stream=stream,
            why=why,
            count=len(found),
            first=min(times, default=None),
            last=max(times, default=None),
            example=found[-1].details,
        )


def _plans(runs: Sequence[Run]) -> Iterable[tuple[str, datetime]]:
    seen = ""
    for run in runs:
        if run.succeeded and run.plan and run.plan != seen:
            seen = run.plan
            yield run.plan, run.at
