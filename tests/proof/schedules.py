"""Schedules of races, drawn from seeds: what happens, and when.

Most random orders find nothing: the runners alternate, and the fence stops one of them at once. One long sleep at the
wrong moment finds more. So a schedule has few events (K. Burckhardt et al., "A randomized scheduler with
probabilistic guarantees of finding bugs", 2010: a bug that takes d switches is found with d-1 random switch points),
and a sleep mostly outlasts the lease, and with it the sessions that databases end when they are idle.
"""

import random
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Literal, NamedTuple

from lockstep.protocol.errors import LockstepError
from lockstep.protocol.model import Strategy
from tests.proof.scenarios import SCENARIOS, world_of
from tests.support.world import at_every_boundary, rotate

LONGEST_STEPS = 450
"""The steps of a race of two runners without retries. Events are put at random steps below this."""
OVERLAPPING = 0.5
"""The part of the races in which calls overlap."""
What = Literal["sleep", "die", "fail", "lose"]
WHATS: tuple[What, ...] = ("sleep", "die", "fail", "lose")
_DECISIVE = re.compile(
    r"before (.+ (stage|promote)( app_user| connection_blob)?|.+ retire|db-\d lock"
    r"|lock (acquire|claim|require|require_lease|begin_promotion|block|release)|.+ log put)"
)


class Event(NamedTuple):
    """Something that happens at a step of the whole race.

    Attributes:
        what: The runner sleeps and `to` goes on; it dies; its call fails before the effect; its reply is lost.
        jump: While it sleeps its lease ends.
        kill: While it sleeps the databases end its session, and with it the advisory lock.
    """

    step: int
    what: What
    to: int = 0
    jump: bool = False
    kill: bool = False


class Schedule(NamedTuple):
    """All that a race depends on.

    Attributes:
        overlaps: Whether the calls that a step makes side by side overlap; else they run one after the other.
    """

    seed: int
    scenario: str
    strategy: Strategy
    runners: tuple[str, ...]
    turns: int
    due: tuple[bool, ...]
    recoverer: str
    events: tuple[Event, ...]
    overlaps: bool = False


def schedule_of(seed: int, *, scenarios: Sequence[str] = tuple(SCENARIOS)) -> Schedule:
    """The schedule of a seed."""
    rng = random.Random(seed)  # noqa: S311 - it must be the same every time
    names = tuple(rng.choice(("aws", "oci")) for _ in range(rng.choice((2, 2, 2, 3))))
    scenario, strategy = rng.choice(scenarios), rng.choice(list(Strategy))
    events, step = list[Event](), 0
    decisive = decisive_steps(scenario, strategy)
    for _ in range(rng.choice((1, 2, 2, 3, 3, 4))):
        # Mostly right at a change, counted from where the runner that was woken begins; else anywhere.
        is_at_change = rng.random() < 0.6
        step = step + rng.choice(decisive) if is_at_change else int(rng.triangular(0, LONGEST_STEPS, 80))
        jump = rng.random() < 0.7
        what, to = rng.choices(WHATS, (7, 1, 1, 1))[0], rng.randrange(len(names))
        events.append(Event(step, what, to, jump=jump, kill=jump and rng.random() < 0.8))
    turns = rng.choice((1, 2, 2, 3))
    return Schedule(
        seed=seed,
        scenario=scenario,
        strategy=strategy,
        runners=names,
        turns=turns,
        due=tuple(rng.random() < 0.7 for _ in range(turns * len(names))),
        recoverer=rng.choice(("aws", "oci")),
        events=tuple(sorted(events, key=lambda e: e.step)),
        overlaps=rng.random() < OVERLAPPING,
    )


@cache
def decisive_steps(scenario: str, strategy: Strategy) -> tuple[int, ...]:
    """The steps of a run that nothing disturbs at which it is about to change something, or to read the fence."""
    world, seen = world_of(scenario, strategy), list[str]()
    at_every_boundary(world, seen.append)
    with suppress(LockstepError):
        rotate(world, "alone")
    return tuple(i for i, boundary in enumerate(seen, start=1) if _DECISIVE.fullmatch(boundary))


def simpler(schedule: Schedule) -> list[Schedule]:
    """The same with one thing less, or earlier, in each."""
    events = schedule.events
    found = [schedule._replace(events=events[:i] + events[i + 1 :]) for i in range(len(events))]
    if len(schedule.runners) > 2:
        found.append(schedule._replace(runners=schedule.runners[:-1]))
    if schedule.turns > 1:
        found.append(schedule._replace(turns=schedule.turns - 1))
    if schedule.overlaps:
        found.append(schedule._replace(overlaps=False))
    if schedule.scenario != "steady":
        found.append(schedule._replace(scenario="steady"))
    for i, event in enumerate(events):
        easier = [event._replace(jump=False, kill=False)] * event.jump + [
            event._replace(kill=False)
        ] * event.kill
        easier += [event._replace(step=event.step - back) for back in (64, 16, 4, 1) if event.step >= back]
        found += [schedule._replace(events=(*events[:i], e, *events[i + 1 :])) for e in easier]
    return found
