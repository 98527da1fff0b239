"""What is known of all credentials, as a page shows it: conditions, ages, rows. Pure.

What is the matter with a credential, in one word, and the command that shows or fixes it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Literal
from urllib.parse import quote

from lockstep.operate.formatting import NONE, absolute, error_text, many, number, relative, span
from lockstep.operate.page.snapshot import FleetSnapshot, Snapshot
from lockstep.operate.state import next_cloud, promoted_at
from lockstep.protocol.errors import LockstepError, described, line_of
from lockstep.protocol.lock_rule import due_at


class Condition(StrEnum):
    """The word, the gravest first."""

    OUT_OF_SYNC = "not in sync"
    REVOKING = "emergency"
    UNREADABLE = "unreadable"
    BLOCKED = "blocked"
    OTHER_PLAN = "other plan"
    FAILED = "last run failed"
    LATE = "late"
    UNKNOWN = "not known"
    PAUSED = "paused"
    ROTATING = "rotating"
    NEW = "never rotated"
    UNREAD = "not read yet"
    IN_SYNC = "in sync"


LOOKS = {
    **dict.fromkeys((Condition.OUT_OF_SYNC, Condition.REVOKING, Condition.UNREADABLE), "bad"),
    **dict.fromkeys((Condition.BLOCKED, Condition.OTHER_PLAN, Condition.FAILED, Condition.LATE), "warn"),
    **dict.fromkeys((Condition.UNKNOWN, Condition.PAUSED), "warn"),
    **dict.fromkeys((Condition.NEW, Condition.UNREAD), "calm"),
    Condition.ROTATING: "busy",
    Condition.IN_SYNC: "good",
}
"""The look of its chip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure at the head of a page."""

    name: str
    value: str
    note: str
    bad: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Something that a person should know.

    Attributes:
        ids: The credentials of which it is true.
        text: One sentence.
        command: What fixes it, or shows more, for the first of them; advice that is no command stands in `text`.
    """

    ids: tuple[str, ...]
    condition: Condition
    text: str
    command: str = ""

    @property
    def look(self) -> str:
        """Its look."""
        return LOOKS[self.condition]


def condition(seen: Snapshot, now: datetime) -> Condition:
    """The gravest one; `IN_SYNC` where there is nothing to tell."""
    return min(_conditions(seen, now), key=list(Condition).index)


def _conditions(seen: Snapshot, now: datetime) -> Iterator[Condition]:
    state = seen.state
    if seen.problem:
        yield Condition.UNREADABLE
    if seen.runner(now):
        # What is half done is not out of sync: a run is promoting.
        yield Condition.ROTATING
    elif state.is_in_sync is None:
        is_away = any(isinstance(answer, LockstepError) for answer in state.look.answers.values())
        yield Condition.UNREAD if seen.read_at is None else Condition.UNKNOWN if is_away else Condition.NEW
    for alarm in alarms(seen, now):
        yield alarm.condition
    yield Condition.NEW if seen.unrotated else Condition.IN_SYNC


def alarms(seen: Snapshot, now: datetime) -> Iterator[Alarm]:
    """What a person should know of a credential."""
    of = seen.credential.id
    for state, text, command in (*_by_record(seen), *_by_stores(seen, now), *_by_last_run(seen)):
        yield Alarm(ids=(of,), condition=state, text=text, command=command.format(of))


def together(alarms: Iterable[Alarm]) -> list[Alarm]:
    """Those that say the same as one, the gravest first."""
    found: dict[tuple[Condition, str], Alarm] = {}
    for alarm in alarms:
        first = found.setdefault((alarm.condition, alarm.text), alarm)
        if first is not alarm:
            found[alarm.condition, alarm.text] = replace(first, ids=first.ids + alarm.ids)
    return sorted(found.values(), key=lambda alarm: list(Condition).index(alarm.condition))


def _by_record(seen: Snapshot) -> Iterator[tuple[Condition, str, str]]:
    record = seen.record
    if seen.problem:
        yield Condition.UNREADABLE, f"The lock record cannot be read: {seen.problem}.", ""
    if record.is_revoking:
        text = f"Emergency: every generation up to {record.revoke_through} must die; the next run does it."
        yield Condition.REVOKING, text, "lockstep rotate {} --force"
    for database in sorted(record.blocked):
        text = f"No run asks {database} any more, because it refused logins."
        yield Condition.BLOCKED, text, f"lockstep unblock {{}} {database}"
    if record.plan and seen.credential.plan_digest not in {record.plan, record.activate}:
        text = "Another plan than this file is the active one, so no run under this file changes anything."
        yield Condition.OTHER_PLAN, text, f"lockstep plan activate {{}} --from {record.plan}"
    if record.paused:
        yield Condition.PAUSED, "No scheduled run begins.", "lockstep resume {}"
    elif seen.stale:
        yield Condition.LATE, "It was not rotated for two intervals.", "lockstep status -c {}"


def _by_stores(seen: Snapshot, now: datetime) -> Iterator[tuple[Condition, str, str]]:
    state = seen.state
    if state.is_in_sync is False and not seen.unrotated and not seen.runner(now):
        forecast = state.next_run
        text = f"The stores do not serve the same login. The next run: {forecast.meaning if forecast else 'not known'}."
        yield Condition.OUT_OF_SYNC, text, "lockstep status -c {}"
    for name, value in state.look.answers.items():
        if isinstance(value, LockstepError):
            text = f"What store {name} serves is not known. {line_of(value)}"
            yield Condition.UNKNOWN, text, "" if described(value).advice else "lockstep status -c {}"


def _by_last_run(seen: Snapshot) -> Iterator[tuple[Condition, str, str]]:
    last = seen.state.last_run
    if last and last.error:
        text = f"The last run failed with {last.error}: {error_text(last.error)} {last.advice or ''}".strip()
        yield Condition.FAILED, text, "lockstep history -c {}"


# Ages as shapes: the bar of a credential, and the map of all. Pure; across in percent.

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


def bar_of(seen: Snapshot, now: datetime) -> Bar | None:
    """The bar of a credential; None where nothing was promoted."""
    record, schedule = seen.record, seen.credential.schedule
    since = promoted_at(record, seen.credential)
    if since is None:
        return None
    due = record.next_due_at or since + schedule.interval
    has_previous = any(generation < (record.current_generation or 0) for generation in record.valid)
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
            else "nothing before it is valid"
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


def age_map(everything: Sequence[Snapshot], now: datetime) -> AgeMap:
    """The map of all ages, by database."""
    by_database: dict[str, list[Snapshot]] = defaultdict(list)
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


def _group(name: str, found: Sequence[Snapshot], now: datetime) -> Group:
    cells = [_cell(one, now) for one in found]
    late = sum(cell.look == "late" for cell in cells)
    since = [at for one in found if (at := promoted_at(one.record, one.credential))]
    oldest = f", the oldest value {span(now - min(since))} old" if since else ""
    return Group(
        name=name,
        about=f"{many(len(cells), 'credential')}{oldest}{f', {late} late' if late else ''}",
        cells=sorted(cells, key=lambda cell: cell.id),
    )


def _cell(seen: Snapshot, now: datetime) -> Cell:
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


# What is known of all credentials, as a page shows it. Pure.

ROWS = 50
"""Of a page of the table."""
MOST_ALARMS = 12
MOST_RUNNING = 8
"""Runs that are shown with their steps."""
CLOUDS = {"aws": "AWS", "oci": "OCI"}
Order = Literal["state", "age", "name"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a browser asks for.

    Attributes:
        text: Part of an id, of a database or of a state.
        order: Of the rows.
        page: From 1.
    """

    text: str = ""
    order: Order = "state"
    page: int = 1

    def address(self, page: int) -> str:
        """The address of another page of the same."""
        return f"/?q={quote(self.text)}&order={self.order}&page={page}#credentials"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A credential in the table.

    Attributes:
        who: The cloud that rotates next.
    """

    seen: Snapshot
    condition: Condition
    age: timedelta | None
    who: str
    bar: Bar | None

    @property
    def look(self) -> str:
        """The look of its chip."""
        return LOOKS[self.condition]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All of it.

    Attributes:
        verdict: One sentence, of the look `look`.
        more: What is left out of the alarms.
        running: Credentials of which a run has the lock, `MOST_RUNNING` at most.
        also: How many more there are.
        found: How many credentials there are that were asked for.
        pages: How many pages they take.
    """

    look: str
    verdict: str
    figures: Sequence[Figure]
    alarms: Sequence[Alarm]
    more: int
    running: Sequence[Snapshot]
    also: int
    rows: Sequence[Row]
    found: int
    pages: int
    asked: Asked


def fleet(look: FleetSnapshot, asked: Asked, now: datetime) -> Fleet:
    """What a page shows of a look."""
    everything = list(look.seen.values())
    states = {one.credential.id: condition(one, now) for one in everything}
    told = together(alarm for one in everything for alarm in alarms(one, now))
    found = _sorted(
        [one for one in everything if _matches(one, states, asked.text)], states, asked.order, now
    )
    pages = max(1, -(-len(found) // ROWS))
    asked = replace(asked, page=min(asked.page, pages))
    first = (asked.page - 1) * ROWS
    grave, verdict = _verdict(states)
    running = look.running(now)
    return Fleet(
        look=grave,
        verdict=verdict,
        figures=tuple(_figures(everything, states, now)),
        alarms=told[:MOST_ALARMS],
        more=max(0, len(told) - MOST_ALARMS),
        running=running[:MOST_RUNNING],
        also=max(0, len(running) - MOST_RUNNING),
        rows=[row(one, states[one.credential.id], now) for one in islice(found, first, first + ROWS)],
        found=len(found),
        pages=pages,
        asked=asked,
    )


def href_of(credential_id: str) -> str:
    """The address of a credential's page."""
    return f"/credential/{quote(credential_id)}"


def age_of(seen: Snapshot, now: datetime) -> timedelta | None:
    """How long the current generation has been served; None where none was promoted."""
    since = promoted_at(seen.record, seen.credential)
    return max(now - since, timedelta()) if since else None


def row(seen: Snapshot, state: Condition, now: datetime) -> Row:
    """A row of the table."""
    return Row(seen=seen, condition=state, age=age_of(seen, now), who=who(seen, now), bar=bar_of(seen, now))


def who(seen: Snapshot, now: datetime) -> str:
    """The cloud whose trigger rotates next."""
    return CLOUDS[next_cloud(seen.record, seen.credential, now, has_standby=seen.state.has_standby)]


def _verdict(states: dict[str, Condition]) -> tuple[str, str]:
    counts = Counter(LOOKS[state] for state in states.values())
    whole = len(states)
    if counts["bad"]:
        return "bad", f"{counts['bad']} of {many(whole, 'credential')} needs a person"
    if counts["warn"]:
        return "warn", f"{counts['warn']} of {many(whole, 'credential')} to look at"
    ready = sum(state in {Condition.IN_SYNC, Condition.ROTATING} for state in states.values())
    if ready < whole:
        return (
            "calm",
            f"{ready} of {many(whole, 'credential')} in sync, the others were not rotated or read yet",
        )
    return (
        "good",
        "The credential is in sync" if whole == 1 else f"All {number(whole)} credentials are in sync",
    )


def _figures(everything: Sequence[Snapshot], states: dict[str, Condition], now: datetime) -> Iterator[Figure]:
    in_sync = sum(one.state.is_in_sync is True for one in everything)
    rotating = [one for one in everything if one.runner(now)]
    pending = sum(one.record.claim is not None for one in everything)
    calm = sum(states[one.credential.id] is Condition.UNREAD for one in everything)
    yield Figure(
        name="In sync",
        value=f"{number(in_sync)} of {number(len(everything))}",
        note=f"{number(calm)} not read yet" if calm else "every store serves the same login",
        bad=any(LOOKS[state] == "bad" for state in states.values()),
    )
    aged = [(age, one) for one in everything if (age := age_of(one, now)) is not None]
    age, oldest = max(aged, key=lambda pair: pair[0], default=(None, None))
    yield Figure(
        name="Oldest value",
        value=span(age),
        note=f"{oldest.credential.id}; its interval is {span(oldest.credential.schedule.interval)}"
        if oldest
        else "none was rotated yet",
        bad=bool(oldest and oldest.stale and not oldest.record.paused),
    )
    yield _next_figure(everything, now)
    yield Figure(
        name="In flight",
        value=number(pending),
        note=f"{many(len(rotating), 'run')} under way" if rotating else "no run is under way",
    )


def _next_figure(everything: Sequence[Snapshot], now: datetime) -> Figure:
    due = [
        (due, one)
        for one in everything
        if one.record.next_due_at and not one.record.paused and (due := due_at(one.record))
    ]
    at, one = min(due, key=lambda pair: pair[0], default=(None, None))
    if at is None or one is None:
        return Figure(name="Next rotation", value=NONE, note="nothing is scheduled")
    value = "due" if at <= now else relative(at, now)
    return Figure(
        name="Next rotation",
        value=value,
        note=f"{one.credential.id} by {who(one, now)}, {absolute(at, now)}",
    )


def _matches(seen: Snapshot, states: dict[str, Condition], text: str) -> bool:
    texts = (seen.credential.id, *seen.credential.databases, states[seen.credential.id].value)
    return any(text.lower() in one.lower() for one in texts)


def _sorted(
    found: list[Snapshot], states: dict[str, Condition], order: Order, now: datetime
) -> list[Snapshot]:
    never = timedelta(-1)
    match order:
        case "name":
            return sorted(found, key=lambda one: one.credential.id)
        case "age":
            return sorted(found, key=lambda one: age_of(one, now) or never, reverse=True)
        case "state":
            rank = list(Condition).index
            return sorted(found, key=lambda one: rank(states[one.credential.id]))
