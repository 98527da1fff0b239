"""What is known of all credentials, as a page shows it. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Literal
from urllib.parse import quote

from lockstep.audit.report.page import Figure
from lockstep.cli.logins import promoted_at
from lockstep.cli.outlook import leader
from lockstep.cli.times import absolute, relative
from lockstep.html.formatting import NONE, many, number, span
from lockstep.lock_rule import due_at
from lockstep.serve.ages import Bar, bar_of
from lockstep.serve.conditions import LOOKS, Alarm, Condition, alarms, condition, together
from lockstep.serve.looking import Look, Seen

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
        due: When the next rotation is due.
        who: The cloud that rotates next.
        last: How its last run ended.
        runner: The cloud in which it ran.
    """

    id: str
    href: str
    databases: str
    condition: Condition
    look: str
    generation: str
    age: str
    due: str
    who: str
    last: str
    runner: str
    bar: Bar | None


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
    running: Sequence[Seen]
    also: int
    rows: Sequence[Row]
    found: int
    pages: int
    asked: Asked


def fleet(look: Look, asked: Asked, now: datetime) -> Fleet:
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


def age_of(seen: Seen, now: datetime) -> timedelta | None:
    """How long the current generation has been served; None where none was promoted."""
    since = promoted_at(seen.record, seen.credential)
    return max(now - since, timedelta()) if since else None


def row(seen: Seen, state: Condition, now: datetime) -> Row:
    """A row of the table."""
    record, last = seen.record, seen.state.last_run
    due = record.next_due_at
    return Row(
        id=seen.credential.id,
        href=href_of(seen.credential.id),
        databases=", ".join(seen.credential.databases),
        condition=state,
        look=LOOKS[state],
        generation=str(record.current_generation) if record.current_generation is not None else NONE,
        age=span(age_of(seen, now)),
        due="paused" if record.paused else relative(due, now) if due else NONE,
        who=who(seen, now),
        last=f"{last.outcome} {relative(last.ended_at, now)}" if last else NONE,
        runner=CLOUDS[last.cloud] if last else "",
        bar=bar_of(seen, now),
    )


def who(seen: Seen, now: datetime) -> str:
    """The cloud whose trigger rotates next."""
    return CLOUDS[leader(seen.record, seen.credential, now, has_standby=seen.state.has_standby)]


def _verdict(states: dict[str, Condition]) -> tuple[str, str]:
    counts = Counter(LOOKS[state] for state in states.values())
    whole = len(states)
    if counts["bad"]:
        return "bad", f"{counts['bad']} of {many(whole, 'credential')} needs a person"
    if counts["warn"]:
        return "warn", f"{counts['warn']} of {many(whole, 'credential')} to look at"
    ready = sum(state in {Condition.IN_STEP, Condition.ROTATING} for state in states.values())
    if ready < whole:
        return (
            "calm",
            f"{ready} of {many(whole, 'credential')} in step, the others were not rotated or read yet",
        )
    return (
        "good",
        "The credential is in step" if whole == 1 else f"All {number(whole)} credentials are in step",
    )


def _figures(everything: Sequence[Seen], states: dict[str, Condition], now: datetime) -> Iterator[Figure]:
    in_step = sum(one.state.is_in_step is True for one in everything)
    rotating = [one for one in everything if one.runner(now)]
    pending = sum(one.record.claim is not None for one in everything)
    calm = sum(states[one.credential.id] is Condition.UNREAD for one in everything)
    yield Figure(
        name="In step",
        value=f"{number(in_step)} of {number(len(everything))}",
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


def _next_figure(everything: Sequence[Seen], now: datetime) -> Figure:
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


def _matches(seen: Seen, states: dict[str, Condition], text: str) -> bool:
    texts = (seen.credential.id, *seen.credential.databases, states[seen.credential.id].value)
    return any(text.lower() in one.lower() for one in texts)


def _sorted(found: list[Seen], states: dict[str, Condition], order: Order, now: datetime) -> list[Seen]:
    never = timedelta(-1)
    match order:
        case "name":
            return sorted(found, key=lambda one: one.credential.id)
        case "age":
            return sorted(found, key=lambda one: age_of(one, now) or never, reverse=True)
        case "state":
            rank = list(Condition).index
            return sorted(found, key=lambda one: rank(states[one.credential.id]))
