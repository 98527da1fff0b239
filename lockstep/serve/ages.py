"""Ages as shapes: the bar of a credential, and the map of all. Pure; across in percent."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lockstep.cli.logins import promoted_at
from lockstep.html.formatting import many, span
from lockstep.serve.looking import Seen

STEPS = 8
"""Parts of an interval that the map tells apart."""
LINKED = 500
"""With more cells they are no links: no keyboard could pass them, and the table has a search."""
MOST_GROUPS = 40
SIZES = ((60, "large"), (600, "middle"), (3000, "small"))
"""Up to how many cells they have which size; more are tiny."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """The life of the current value until the next one is due, in percent of the bar.

    Attributes:
        now: Where now is.
        overlap: Until where the previous value logs in for sure.
        due: Where the next rotation is due.
        title: The same in words.
        late: Whether it was not rotated for two intervals.
    """

    now: float
    overlap: float
    due: float
    title: str
    late: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A credential in the map.

    Attributes:
        look: `a0` to `a8` by the share of the interval that is over, `late`, `off` for paused, or `none`.
    """

    look: str
    title: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Credentials of one database."""

    name: str
    about: str
    cells: Sequence[Cell]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeMap:
    """The map.

    Attributes:
        size: Of the cells: `large`, `middle`, `small`, `tiny`.
        linked: Whether cells are links.
    """

    size: str
    linked: bool
    groups: Sequence[Group]


def bar_of(seen: Seen, now: datetime) -> Bar | None:
    """The bar of a credential; None where nothing was promoted."""
    record, schedule = seen.record, seen.credential.schedule
    since = promoted_at(record, seen.credential)
    if since is None:
        return None
    due = record.next_due_at or since + schedule.interval
    has_previous = any(generation < (record.current_generation or 0) for generation in record.alive)
    overlap = record.not_before if has_previous and record.not_before else since
    end = max(due, now, overlap, since + timedelta(seconds=1))

    def at(moment: datetime) -> float:
        return round(100 * min(max((moment - since) / (end - since), 0.0), 1.0), 1)

    left = (
        f"the previous value works for sure for {span(overlap - now)} more"
        if overlap > now
        else (
            "the previous value may end with the next rotation"
            if has_previous
            else "nothing before it is alive"
        )
    )
    when = f"due in {span(due - now)}" if due > now else f"due since {span(now - due)}"
    return Bar(
        now=at(now),
        overlap=at(overlap),
        due=at(due),
        title=f"current for {span(now - since)}, {left}, {when}",
        late=seen.stale,
    )


def age_map(everything: Sequence[Seen], now: datetime) -> AgeMap:
    """The map of all ages, by database."""
    by_database: dict[str, list[Seen]] = defaultdict(list)
    for one in everything:
        by_database[" + ".join(one.credential.databases)].append(one)
    ordered = sorted(by_database.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    if len(ordered) > MOST_GROUPS:
        rest = [one for _, found in ordered[MOST_GROUPS - 1 :] for one in found]
        ordered = [*ordered[: MOST_GROUPS - 1], ("other databases", rest)]
    size = next((name for most, name in SIZES if len(everything) <= most), "tiny")
    return AgeMap(
        size=size,
        linked=len(everything) <= LINKED,
        groups=[_group(name, found, now) for name, found in ordered],
    )


def _group(name: str, found: Sequence[Seen], now: datetime) -> Group:
    cells = [_cell(one, now) for one in found]
    late = sum(cell.look == "late" for cell in cells)
    since = [at for one in found if (at := promoted_at(one.record, one.credential))]
    oldest = f", the oldest value {span(now - min(since))} old" if since else ""
    return Group(
        name=name,
        about=f"{many(len(cells), 'credential')}{oldest}{f', {late} late' if late else ''}",
        cells=sorted(cells, key=lambda cell: cell.id),
    )


def _cell(seen: Seen, now: datetime) -> Cell:
    since, interval = promoted_at(seen.record, seen.credential), seen.credential.schedule.interval
    if since is None:
        return Cell(look="none", title=f"{seen.credential.id}: never rotated", id=seen.credential.id)
    age = max(now - since, timedelta())
    look = f"a{min(int(STEPS * (age / interval)), STEPS)}"
    more = ""
    if seen.record.paused:
        look, more = "off", ", paused"
    elif seen.stale:
        look, more = "late", ", late"
    return Cell(look=look, title=f"{seen.credential.id}: {span(age)}{more}", id=seen.credential.id)
