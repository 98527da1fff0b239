"""Who rotates when: the standby's rules, and a simulated day under every way in which AWS can fail."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product

import pytest

from lockstep.protocol import deadlines
from lockstep.protocol.schedule import cloud_of, last_trigger, next_runner, standby_due_by, turn_after
from tests.support.world import INTERVAL_SECONDS, make_world, rotate
from tests.unit.standby_day import Aws, Behaviour, Day, dice, late, schedule, somewhere

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
INTERVAL = timedelta(minutes=20)
PHASE = timedelta(minutes=7)
PLAN = schedule(INTERVAL)
LONGEST_MINUTES = 31
"""From one promotion to the next, where an interval is 20 minutes."""
EVERY_MINUTE = 60
"""How often the standby is called where there are many shards, in seconds."""


def _at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def _flapping(_trigger: int, chance: random.Random = dice(7)) -> Aws:  # noqa: B008 - one sequence for all
    return chance.choice(list(Aws))


# The turn


@pytest.mark.parametrize(
    ("now", "due", "rotates"),
    [
        (10, 8, True),
        (10, 10, True),
        (10, 10.1, False),
        (12.5, 12, True),  # It was rotated late in its last turn.
        (12.5, 12.1, False),
        (18, 15, False),
        (20.5, 18, False),  # A run of AWS may still start.
        (28.9, 18, False),
        (29, 18, True),  # It is half past, by a clock that is ahead.
        (29, 29.5, False),
        (30, 18, True),
    ],
)
def test_what_falls_due_between_turns_waits_for_one(now: float, due: float, *, rotates: bool) -> None:
    # (protocol R8)
    for phase in (timedelta(), PHASE):
        plan = schedule(INTERVAL, phase=phase)
        assert (_at(due) + phase <= standby_due_by(plan, _at(now) + phase)) is rotates


@pytest.mark.parametrize(
    ("interval", "due", "runner"),
    [
        (INTERVAL, 8, "oci"),
        (INTERVAL, 10, "oci"),
        (INTERVAL, 10.1, "aws"),
        (INTERVAL, 20, "aws"),
        (INTERVAL, 20.1, "oci"),
        (timedelta(hours=4), 30, "oci"),
        (timedelta(hours=4), 31, "aws"),
        (timedelta(days=3), 12 * 60, "aws"),
        (timedelta(days=3), 12 * 60 + 1, "oci"),
    ],
)
def test_the_runner_of_the_first_trigger_is_the_next(interval: timedelta, due: float, runner: str) -> None:
    # (protocol R8)
    for phase in (timedelta(), PHASE):
        assert next_runner(schedule(interval, phase=phase), _at(due) + phase) == runner


@pytest.mark.parametrize(("name", "cloud"), [("f-29412000-0a1b", "aws"), ("1f0e.12", "oci"), ("a.b", "aws")])
def test_the_name_of_a_run_tells_its_cloud(name: str, cloud: str) -> None:
    assert cloud_of(name) == cloud


# Time


def test_a_lease_of_aws_has_ended_when_the_standby_is_called() -> None:
    # (protocol R9)
    shortest = deadlines.SHORTEST_SHARED_INTERVAL
    assert shortest == INTERVAL
    assert shortest / 2 - deadlines.LEASE >= deadlines.START_LATENESS + deadlines.CLOCK_SKEW
    assert shortest / 2 - deadlines.LEASE >= timedelta(seconds=90)
    margin = deadlines.LEASE - deadlines.RUN
    assert margin >= timedelta(seconds=120)


# A day


def _worst(
    behaviour: Behaviour,
    minutes: int = 20,
    *,
    days: int = 10,
    others_every: int = 0,
    phase: timedelta = PHASE,
) -> float:
    """The longest gap in minutes, over so many days, with the clock of AWS behind, right and ahead."""
    skew = deadlines.CLOCK_SKEW.total_seconds()
    return max(
        Day(
            plan=schedule(timedelta(minutes=minutes), phase=phase),
            behaviour=behaviour,
            jitter=late(seed),
            position=somewhere(seed),
            aws_clock=ahead,
            others_every=others_every,
            hours=24 if minutes < 720 else 240,
        )
        .live()
        .longest_gap_minutes
        for seed in range(days)
        for ahead in (-skew, 0.0, skew)
    )


@pytest.mark.parametrize(
    ("comes_to", "longest", "rotations"),
    [
        (Aws.WORKS, 22, 72),
        (Aws.DEAD, 31, 72),
        (Aws.HANGS, 31, 72),
        (Aws.FAILS, 31, 72),
        (Aws.FAILS_PENDING, 31, 72),
        (Aws.DIES_PROMOTED, 23, 73),  # What AWS promoted last counts again when the standby finishes it.
        (Aws.SLOW, 27, 72),
    ],
)
def test_whatever_aws_does_the_gap_is_under_31_minutes(comes_to: Aws, longest: float, rotations: int) -> None:
    # (protocol R8, R9)
    assert longest - 2 < _worst(lambda _: comes_to) <= longest
    assert _worst(lambda _: comes_to, others_every=EVERY_MINUTE) <= longest
    assert len(Day(plan=PLAN, behaviour=lambda _: comes_to).live().promoted) == rotations


def _repeating(sequence: Sequence[Aws]) -> Behaviour:
    return lambda number: sequence[(number - 1) % len(sequence)]


@pytest.mark.parametrize(("lateness", "ahead", "others_every"), [(0, 60, 0), (109, -60, EVERY_MINUTE)])
def test_no_sequence_of_four_leaves_a_longer_gap(lateness: int, ahead: int, others_every: int) -> None:
    ways = (Aws.WORKS, Aws.DEAD, Aws.HANGS, Aws.FAILS_PENDING, Aws.DIES_PROMOTED, Aws.SLOW)
    for sequence in product(ways, repeat=4):
        day = Day(
            plan=schedule(INTERVAL, phase=PHASE),
            behaviour=_repeating(sequence),
            position=lambda: lateness,
            aws_clock=ahead,
            others_every=others_every,
            hours=3,
        ).live()
        assert day.longest_gap_minutes <= LONGEST_MINUTES, sequence


@pytest.mark.parametrize(
    ("minutes", "longest"), [(20, 31), (30, 46), (60, 91), (120, 151), (360, 391), (1440, 1471), (2880, 2911)]
)
@pytest.mark.parametrize("others_every", [0, 20 * EVERY_MINUTE])
def test_at_every_interval_a_turn_ends_the_gap(minutes: int, longest: int, others_every: int) -> None:
    # (protocol R8)
    ways: list[Behaviour] = [*(lambda _, way=way: way for way in Aws), _flapping]
    gaps = [_worst(behaviour, minutes, days=2, others_every=others_every) for behaviour in ways]
    assert longest - 2 < max(gaps) <= longest


# A standby that stops


@pytest.mark.parametrize(("minutes", "longest"), [(20, 32), (60, 92), (120, 212), (1440, 2852), (2880, 4292)])
def test_a_standby_that_stops_leaves_what_is_due_to_aws(minutes: int, longest: int) -> None:
    # (protocol R8)
    interval = timedelta(minutes=minutes)
    day = Day(
        plan=schedule(interval, phase=PHASE),
        behaviour=lambda number: Aws.FAILS if number == (1 if minutes < 2880 else 2) else Aws.WORKS,
        position=lambda: 109,
        standby_until=(PHASE + interval + turn_after(interval)).total_seconds(),
        hours=minutes / 10,
    ).live()
    assert [who for _, who in day.promoted[:3]] == ["aws", "oci", "aws"]
    assert longest - 2 < day.longest_gap_minutes <= longest


def test_a_day_of_the_shipped_runs_with_an_aws_that_hangs() -> None:
    """Its runs acquire the lock, if they can, and do nothing more (protocol R8, R9)."""
    world = make_world()
    world.by_wall_clock()
    interval = world.credential.schedule.interval
    assert last_trigger(interval, world.clock.now(), timedelta()) == world.clock.now()
    rotate(world, "first")
    rotated = [world.clock.now()]
    for number in range(72):
        if number:
            now = world.clock.now()
            ends = now + deadlines.LEASE
            world.lock.acquire(holder=f"aws-{number}", now=now, expires_at=ends, force=False)
        world.clock.sleep(INTERVAL_SECONDS / 2)
        if rotate(world, f"oci-{number}", runner="oci").outcome == "rotated":
            rotated.append(world.clock.now())
        world.clock.sleep(INTERVAL_SECONDS / 2)
    gaps = [(after - before).total_seconds() / 60 for before, after in pairwise(rotated)]
    assert (len(rotated), max(gaps)) == (72, 30)
    assert world.locked_out() == []
