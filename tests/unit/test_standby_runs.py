"""A day of the shipped sequence and lock with an AWS that hangs: as simulated in `test_standby.py`."""

from itertools import pairwise

from lockstep.protocol.deadlines import LEASE
from lockstep.protocol.schedule import last_trigger
from tests.support.memory import MemoryWorld
from tests.unit.harness import INTERVAL_SECONDS, rotate


def _hang(world: MemoryWorld, name: str) -> None:
    """A run of AWS that acquires the lock, if it can, and does nothing more."""
    now = world.clock.now()
    if not world.lock.acquire(holder=name, now=now, expires_at=now + LEASE, force=False, leads=True):
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
