"""Who rotates when: the standby's rules, and a simulated day under every way in which AWS can fail."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product

import pytest

from lockstep.protocol import deadlines
from lockstep.protocol.model import RunnerHeartbeat
from lockstep.protocol.schedule import (
    bounds,
    last_trigger,
    trusts,
    turn_after,
    yields,
)
from tests.support.memory import MemoryWorld
from tests.unit.harness import INTERVAL_SECONDS, rotate
from tests.unit.standby_day import (
    Aws,
    Behaviour,
    Day,
    dice,
    late,
    schedule,
    somewhere,
)

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
INTERVAL = timedelta(minutes=20)
PHASE = timedelta(minutes=7)
PLAN = schedule(INTERVAL)
GOAL_MINUTES = 45
EVERY_MINUTE = 60
"""How often the standby is called where there are many shards, in seconds."""


def _at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def _always(comes_to: Aws) -> Behaviour:
    return lambda _: comes_to


def _flapping(seed: int) -> Behaviour:
    chance = dice(seed)
    return lambda _: chance.choice(list(Aws))


def _repeating(sequence: Sequence[Aws]) -> Behaviour:
    return lambda number: sequence[(number - 1) % len(sequence)]


# Trust


@pytest.mark.parametrize(
    ("heartbeat", "trusted"),
    [
        (RunnerHeartbeat(), False),
        (RunnerHeartbeat(seen_at=_at(-10)), True),
        (RunnerHeartbeat(seen_at=_at(-20)), False),
        (RunnerHeartbeat(seen_at=_at(1)), True),  # The clock of AWS is ahead.
        (RunnerHeartbeat(began_at=_at(-10)), False),
        (RunnerHeartbeat(seen_at=_at(-10), began_at=_at(-30)), False),
        (RunnerHeartbeat(seen_at=_at(-10), began_at=_at(-59)), False),
        (RunnerHeartbeat(seen_at=_at(-10), began_at=_at(-60)), True),
        (RunnerHeartbeat(seen_at=_at(-30), began_at=_at(-90)), False),
    ],
)
def test_aws_is_trusted_when_it_was_seen_and_left_nothing_unfinished(
    heartbeat: RunnerHeartbeat,
    trusted: bool,  # noqa: FBT001 - a row of the table
) -> None:
    # (protocol R8)
    assert trusts(heartbeat, bounds(PLAN, NOON)) is trusted


@pytest.mark.parametrize(
    ("now", "due", "left"),
    [
        (10, 8, True),  # AWS has its turn at 20.
        (30, 28, True),
        (30, 20, False),  # AWS had its turn at 20.
        (30, 18, False),
        (30, 23, False),  # AWS began late, by a clock that is ahead, and had its turn at 20.
        (30, 23.1, True),
        (30, None, False),  # never rotated
        (20.5, 18, True),  # A run of AWS may still start.
        (28.9, 18, True),
        (29, 18, False),  # It is half past, by a clock that is ahead.
    ],
)
def test_the_standby_yields_until_aws_has_had_its_turn(now: float, due: float | None, left: bool) -> None:  # noqa: FBT001 - a row of the table
    # (protocol R8)
    trusted = RunnerHeartbeat(seen_at=_at(now - 10))
    next_due_at = None if due is None else _at(due)
    for phase in (timedelta(), PHASE):
        limits = bounds(schedule(INTERVAL, phase=phase), _at(now) + phase)
        shifted = next_due_at and next_due_at + phase
        assert yields(RunnerHeartbeat(seen_at=_at(now - 10) + phase), shifted, limits) is left
    limits = bounds(PLAN, _at(now))
    for distrusted in (replace(trusted, began_at=_at(now - 10)), RunnerHeartbeat()):
        waits = next_due_at is not None and next_due_at > limits.turn_by
        assert yields(distrusted, next_due_at, limits) is waits


@pytest.mark.parametrize(
    ("now", "due", "left"),
    [
        (10, 8, False),
        (12.5, 12, False),  # It was rotated late in its last turn.
        (13, 12.5, True),
        (18, 15, True),
        (29, 15, False),
    ],
)
def test_what_falls_due_between_two_turns_waits_for_the_next_one(now: float, due: float, left: bool) -> None:  # noqa: FBT001 - a row of the table
    # (protocol R8)
    assert yields(RunnerHeartbeat(), _at(due), bounds(PLAN, _at(now))) is left


@pytest.mark.parametrize(("hours", "minutes"), [(1, 30), (8, 30), (24, 30), (72, 30)])
def test_the_turn_comes_half_an_hour_after_aws_at_longer_intervals(hours: int, minutes: int) -> None:
    # (protocol R2, R8)
    plan = schedule(timedelta(hours=hours), phase=PHASE)
    due = NOON.replace(hour=0) - timedelta(minutes=1)
    midnight = NOON.replace(hour=0) + PHASE
    trusted = RunnerHeartbeat(seen_at=midnight - timedelta(minutes=1))
    assert yields(trusted, due, bounds(plan, midnight + timedelta(minutes=minutes - 2)))
    assert not yields(trusted, due, bounds(plan, midnight + timedelta(minutes=minutes)))


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
        (Aws.HANGS, 41, 55),
        (Aws.FAILS, 41, 55),
        (Aws.FAILS_PENDING, 41, 55),
        (Aws.OTHER_PLAN, 41, 55),
        (Aws.DIES_PROMOTED, 32, 73),  # What AWS promoted last counts again when the standby finishes it.
        (Aws.SLOW, 37, 49),
        (Aws.SKIPS, 41, 37),
    ],
)
def test_whatever_aws_does_all_day_the_gap_stays_under_45_minutes(
    comes_to: Aws, longest: float, rotations: int
) -> None:
    # (protocol R8, R9)
    assert longest - 1.5 < _worst(_always(comes_to)) <= longest < GOAL_MINUTES
    assert _worst(_always(comes_to), others_every=EVERY_MINUTE) <= longest + 1.5 < GOAL_MINUTES
    assert len(Day(plan=PLAN, behaviour=_always(comes_to)).live().promoted) == rotations


@pytest.mark.parametrize("others_every", [0, EVERY_MINUTE])
def test_an_aws_that_flaps_leaves_no_longer_gap(others_every: int) -> None:
    assert _worst(_flapping(7), days=60, others_every=others_every) <= GOAL_MINUTES


@pytest.mark.parametrize("others_every", [0, EVERY_MINUTE])
@pytest.mark.parametrize(("lateness", "ahead"), [(0, -60), (0, 60), (109, -60), (109, 60)])
def test_no_repeated_sequence_of_four_leaves_a_longer_gap(
    lateness: int, ahead: int, others_every: int
) -> None:
    ways = (Aws.WORKS, Aws.DEAD, Aws.HANGS, Aws.FAILS_PENDING, Aws.SLOW, Aws.SKIPS)
    for sequence in product(ways, repeat=4):
        day = Day(
            plan=schedule(INTERVAL, phase=PHASE),
            behaviour=_repeating(sequence),
            position=lambda: lateness,
            aws_clock=ahead,
            others_every=others_every,
            hours=3,
        ).live()
        assert day.longest_gap_minutes <= GOAL_MINUTES, sequence


@pytest.mark.parametrize("minutes", [30, 60, 120, 1440, 2880])
def test_at_every_interval_the_gap_is_two_intervals_and_two_minutes(minutes: int) -> None:
    # (protocol R8)
    for behaviour in [*(_always(way) for way in Aws), _flapping(7)]:
        assert _worst(behaviour, minutes, days=2) <= 2 * minutes + 2, minutes


@pytest.mark.parametrize(
    ("minutes", "others_every"), [(60, 20), (30, 20), (180, 120), (1440, 20), (60, 1), (1440, 1)]
)
def test_where_others_have_the_standby_called_a_turn_is_added(minutes: int, others_every: int) -> None:
    """A run that finishes another one's generation, or obeys an order, is between two turns."""
    after = turn_after(timedelta(minutes=minutes)) / timedelta(minutes=1)
    for behaviour in [*(_always(way) for way in Aws), _flapping(7)]:
        gap = _worst(behaviour, minutes, days=2, others_every=others_every * 60)
        assert gap <= 2 * minutes + after, minutes


# With positions in a shard, and with shards


@pytest.mark.parametrize("queue", [120, 300])
def test_while_aws_is_dead_a_standby_with_a_queue_keeps_the_interval(queue: int) -> None:
    chance = dice(queue)
    day = Day(
        plan=schedule(INTERVAL, phase=PHASE),
        behaviour=_always(Aws.DEAD),
        others_every=EVERY_MINUTE,
        queue=lambda: chance.uniform(0, queue),
    ).live()
    assert day.rotations_by("oci") in {71, 72}
    assert day.longest_gap_minutes <= GOAL_MINUTES


def test_with_many_shards_aws_leads_again_after_one_failed_run() -> None:
    def one_failure(number: int) -> Aws:
        return Aws.FAILS_PENDING if number == 10 else Aws.WORKS

    day = Day(plan=schedule(INTERVAL, phase=PHASE), behaviour=one_failure, others_every=EVERY_MINUTE).live()
    assert day.promoted[-1][1] == "aws"
    assert day.rotations_by("oci") <= 3


# The shipped sequence and lock


def _hang(world: MemoryWorld, name: str) -> None:
    """A run of AWS that acquires the lock, if it can, and does nothing more."""
    now = world.clock.now()
    if not world.lock.acquire(
        holder=name, now=now, expires_at=now + deadlines.LEASE, force=False, leads=True
    ):
        world.lock.note_skip(now)


def test_a_day_of_the_shipped_runs_with_an_aws_that_hangs() -> None:
    # (protocol R8, R9)
    world = MemoryWorld.create()
    world.by_wall_clock()
    interval = world.credential.schedule.interval
    assert last_trigger(interval, world.clock.now()) == world.clock.now()
    rotate(world, "first")
    rotated = [world.clock.now()]
    for number in range(72):
        if number:
            _hang(world, f"aws-{number}")
        world.clock.sleep(INTERVAL_SECONDS / 2)
        if rotate(world, f"oci-{number}", runner="oci").outcome == "rotated":
            rotated.append(world.clock.now())
        world.clock.sleep(INTERVAL_SECONDS / 2)
    gaps = [(after - before).total_seconds() / 60 for before, after in pairwise(rotated)]
    assert (len(rotated), max(gaps)) == (55, 40)
    assert world.locked_out() == []
