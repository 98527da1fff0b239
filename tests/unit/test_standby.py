"""Who rotates when: the standby's rules, and days of the shipped runs under every way in which AWS can fail.

Also how runs of the standby's sequence end; `tests/oci_fn` compares it with the machine.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from msgspec import structs

from functions.apply_db import step as apply_db
from functions.audit import step as audit
from functions.update_secrets import step as update_secrets
from lockstep.protocol import deadlines, errors
from lockstep.protocol.deadlines import TOLERANCE
from lockstep.protocol.model import Schedule
from lockstep.protocol.schedule import cloud_of, last_trigger, next_runner, period, standby_due_by, turn_after
from tests.support import world as w
from tests.support.memory import MemoryWorld
from tests.unit.flights import steady

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
INTERVAL = timedelta(minutes=20)
PHASE = timedelta(minutes=7)


def schedule(
    interval: timedelta, tolerance: timedelta = TOLERANCE, *, phase: timedelta = timedelta()
) -> Schedule:
    """A schedule with the plan's default overlap."""
    return Schedule(interval=interval, overlap=interval - 2 * tolerance, tolerance=tolerance, phase=phase)


def _at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


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
    assert timedelta(seconds=120) <= deadlines.LEASE - deadlines.RUN


# Days


def _hangs(world: MemoryWorld, run: str) -> None:
    """It acquires the lock and does nothing more."""
    now = world.clock.now()
    world.lock.acquire(holder=run, now=now, expires_at=now + deadlines.LEASE, force=False)


def _fails(world: MemoryWorld, run: str) -> None:
    """It releases the lock after a failure; a generation is in flight."""
    down = {"before db-2 stage": errors.DatabaseUnreachableError(database="db-2")}
    with w.struck(world, down), suppress(errors.DatabaseUnreachableError):
        w.rotate(world, run)


def _dies_promoted(world: MemoryWorld, run: str) -> None:
    """It promotes, and dies before the release."""
    with w.struck(world, {"before aws log put": w.Killed}), suppress(w.Killed):
        w.rotate(world, run)


def _flaps(world: MemoryWorld, run: str) -> None:
    AWS[random.Random(run).choice(["works", "is dead", "hangs", "fails", "dies promoted"])](world, run)  # noqa: S311 - not for secrets


AWS: dict[str, Callable[[MemoryWorld, str], object]] = {
    "works": w.rotate,
    "is dead": lambda _world, _run: None,
    "hangs": _hangs,
    "fails": _fails,
    "dies promoted": _dies_promoted,
    "flaps": _flaps,
}
"""What its triggers come to, but for the first one. They begin as late as they may."""
ALIKE = {"20m": 31, "30m": 46, "1h": 91, "2h": 151, "6h": 391, "1d": 1471, "2d": 2911}


@pytest.mark.parametrize(
    ("aws", "interval", "longest"),
    [
        *(("works", "20m", 22), ("dies promoted", "20m", 29)),
        *((aws, interval, n) for interval, n in ALIKE.items() for aws in ("is dead", "hangs", "fails")),
        ("flaps", "20m", 31),
    ],
)
@pytest.mark.parametrize("others", [False, True])
def test_whatever_aws_does_a_turn_of_the_standby_ends_the_gap(
    aws: str, interval: str, longest: float, *, others: bool
) -> None:
    """Also where other credentials have the standby called more often (protocol R8, R9)."""
    world = w.make_world(interval=interval)
    world.by_wall_clock()
    plan, began = world.credential.schedule, world.clock.now()
    assert last_trigger(plan.interval, began, timedelta()) == began
    every, after = period(plan.interval).total_seconds(), turn_after(plan.interval).total_seconds()
    days = 5 * plan.interval.total_seconds()
    called = [n * every + deadlines.LAST_START.total_seconds() for n in range(1, int(days / every))]
    turns = range(int(after), int(days), int(after / 2 if others else 2 * after))
    promoted = [0.0]
    w.rotate(world, "first")
    for at, by_aws in sorted([*((at, True) for at in called), *((float(at), False) for at in turns)]):
        world.clock.sleep(at - world.clock.monotonic())
        before = w.served(world)["oci"][0]
        if by_aws:
            AWS[aws](world, f"aws-{at:.0f}")
        else:
            w.rotate(world, f"oci-{at:.0f}", runner="oci")
        assert world.locked_out() == []
        promoted += [world.clock.monotonic()] * (w.served(world)["oci"][0] != before)
    gaps = [(after - before) / 60 for before, after in pairwise(promoted)]
    # What is in flight is finished by any call, so the gap may end before a turn.
    assert (0 if aws in {"fails", "flaps"} else longest - 2) < max(gaps) <= longest
    assert min(gaps) >= plan.overlap.total_seconds() / 60


# Runs that fail


@pytest.mark.parametrize("step", ["apply_db", "update_secrets", "audit"])
def test_a_deployment_between_two_steps_ends_the_run_and_the_next_run_converges(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps of one run must not act under two plans (protocol I10)."""
    world = steady()
    module = {"apply_db": apply_db, "update_secrets": update_secrets, "audit": audit}[step]
    run, deployed = module.run, structs.replace(world.credential, plan_digest="of-another-plan")
    monkeypatch.setattr(
        module, "run", lambda request, ports: run(request, replace(ports, credential=deployed))
    )
    with pytest.raises(errors.PlanNotActiveError):
        w.rotate(world, "third")
    monkeypatch.undo()
    assert world.locked_out() == []
    w.assert_in_sync(world, w.rotate_again(world, "following").generation)


def test_a_run_out_of_time_records_its_failure_and_releases_the_lock() -> None:
    world = w.make_world(faults={"after db-1 lock": lambda: world.clock.sleep(400)})
    with pytest.raises(errors.DeadlineExceededError):
        w.rotate(world, "slow")
    w.undisturbed(world)
    assert world.lock.record.holder is None
    [entry] = w.entries(world, "aws")
    assert entry.event["status_code"] == "DeadlineExceededError"
    w.assert_in_sync(world, w.rotate_again(world, "next", runner="oci").generation)
