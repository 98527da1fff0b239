"""What the runs say about passwords: the life of each generation, its age, the gaps between rotations."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from lockstep.audit.report.data import Bin, Gap, Life
from lockstep.audit.report.reading import Order, Run
from lockstep.audit.report.words import many

WIDTHS = tuple(
    timedelta(seconds=s)
    for s in (10, 60, 300, 900, 3600, 4 * 3600, 86_400, 7 * 86_400, 28 * 86_400, 364 * 86_400)
)
"""Of the bins of a chart."""
MOST_BINS = 120


def lives(runs: Sequence[Run]) -> list[Life]:
    """The generations that were promoted, oldest first."""
    found: dict[int, Life] = {}
    for run in runs:
        if run.succeeded and run.generation is not None and run.generation not in found:
            base = found.get(run.base) if run.base is not None and run.kind == "heal" else None
            found[run.generation] = Life(
                generation=run.generation,
                stream=run.stream,
                kind=run.kind or "",
                base=run.base,
                born=base.born if base else run.at,
                older=base.older if base else run.kind == "heal",
                begun=run.started,
                promoted=run.at,
            )
    in_order = list(found.values())
    for life, after in pairwise(in_order):
        found[life.generation] = replace(life, superseded=after.promoted)
    _add_deaths(found, runs)
    return list(found.values())


def _add_deaths(found: dict[int, Life], runs: Sequence[Run]) -> None:
    shown: dict[int, dict[str, str]] = {}
    for run in runs:
        databases = {proof.database for proof in run.proofs}
        for proof in run.proofs:
            for death, generations in (("refused", proof.refused), ("unreadable", proof.unreadable)):
                for generation in generations:
                    shown.setdefault(generation, {})[proof.database] = death
        told = {g for proof in run.proofs for g in (*proof.refused, *proof.unreadable)}
        for generation in told:
            deaths = shown[generation]
            if databases <= deaths.keys():
                how = "refused" if set(deaths.values()) == {"refused"} else "unreadable"
                _die(found, generation, run, how)
        for generation in run.ended:
            _die(found, generation, run, "revoked")


def _die(found: dict[int, Life], generation: int, run: Run, death: str) -> None:
    life = found.get(generation)
    if life and life.dead is None and life.promoted <= run.at:
        found[generation] = replace(
            life, tried=run.started, dead=run.at, death=death, hurried=bool(run.ended)
        )


def bins(
    start: datetime, end: datetime, runs: Sequence[Run], of: Sequence[Life], streams: Sequence[str]
) -> list[Bin]:
    """The period in equal parts, at most 120, each with its rotations and the greatest age of the password."""
    width = next((w for w in WIDTHS if (end - start) / w <= MOST_BINS), WIDTHS[-1])
    first = start - (start - datetime(2000, 1, 1, tzinfo=start.tzinfo)) % width
    count = max(1, -((first - end) // width))
    rotated = [dict.fromkeys(streams, 0) for _ in range(count)]
    failed = [0] * count
    for run in runs:
        number = min((run.at - first) // width, count - 1)
        if number < 0:
            continue
        if run.succeeded:
            rotated[number][run.stream] = rotated[number].get(run.stream, 0) + 1
        else:
            failed[number] += 1
    ages: list[timedelta | None] = [None] * count
    for life in of:
        until = min(life.superseded or end, end)
        begin = max(life.promoted, first)
        for number in range((begin - first) // width, min((until - first) // width, count - 1) + 1):
            age = min(until, first + (number + 1) * width) - life.born
            known = ages[number]
            ages[number] = age if known is None else max(known, age)
    return [
        Bin(
            start=first + number * width,
            end=min(first + (number + 1) * width, max(end, first + width)),
            rotated=rotated[number],
            failed=failed[number],
            longest_age=ages[number],
        )
        for number in range(count)
    ]


def pauses(orders: Sequence[Order], end: datetime) -> list[tuple[datetime, datetime]]:
    """Since when until when scheduled runs were off."""
    found, since = [], None
    for order in orders:
        if order.name in {"pause", "retire"}:
            since = since or order.at
        elif since and (order.name == "resume" or (order.name == "revoke" and order.lifts_pause)):
            found.append((since, order.at))
            since = None
    return [*found, (since, end)] if since else found


def gaps(
    of: Sequence[Life],
    runs: Sequence[Run],
    paused: Sequence[tuple[datetime, datetime]],
    unread: Sequence[datetime],
    *,
    limit: timedelta,
    start: datetime,
    end: datetime,
) -> Iterator[Gap]:
    """The times without a rotation that are longer than `limit` and end in the period."""
    promoted = [life.promoted for life in of]
    failed = [run for run in runs if not run.succeeded]
    for before, after in pairwise([*promoted, end]):
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
    paused: Sequence[tuple[datetime, datetime]],
    unread: Sequence[datetime],
) -> Iterator[str]:
    off = [since for since, until in paused if since < end and until > start]
    for since in off[-4:]:
        yield f"paused by an operator from {since:%Y-%m-%d %H:%M}"
    archived = sum(start < at < end for at in unread)
    if archived:
        yield f"{many(archived, 'archived entry', 'archived entries')} in it, which may be rotations, not read"
    names: dict[str, int] = {}
    for run in failed:
        if start <= run.at <= end:
            name = f"{run.error} in {run.stream.upper()}"
            names[name] = names.get(name, 0) + 1
    for name, count in sorted(names.items(), key=lambda item: -item[1])[:4]:
        yield f"{name}: {many(count, 'failed run')}"
    if not (names or off or archived):
        yield "no run is on record in it"
