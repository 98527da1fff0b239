"""A run sleeps at any boundary until another has taken over, then wakes up (protocol I5).

It must not change any store's current value or any database, and what it records must be true.
"""

from collections.abc import Callable
from contextlib import suppress

import pytest

from lockstep.protocol.errors import LockstepError
from lockstep.protocol.model import Strategy
from tests.support.memory import MemoryWorld
from tests.unit.flights import steady
from tests.unit.harness import (
    Observer,
    assert_in_sync,
    assert_on_record,
    at_every_boundary,
    known_logins,
    login_of,
    quiet,
    rotate,
    rotate_again,
    served,
    shown,
    undisturbed,
)

MANY = 500


class Sleep:
    """A hook that lets a run sleep at its n-th boundary while others act."""

    def __init__(self, at: int, world: MemoryWorld, meanwhile: Callable[[MemoryWorld], None]) -> None:
        self.boundary = ""
        self.before_waking: object = None
        self._left = at
        self._world = world
        self._meanwhile = meanwhile
        self._observer = Observer(world)

    def __call__(self, boundary: str) -> None:
        self._observer.look(boundary)
        if self._left == 0:
            self.boundary = boundary
            with quiet(self._world):
                self._meanwhile(self._world)
            self.before_waking = outside(self._world)
        self._left -= 1


def outside(world: MemoryWorld) -> object:
    """Everything that a zombie must not change (invariant I5)."""
    return served(world), known_logins(world)


def _connections_die(world: MemoryWorld) -> None:
    for database in world.databases.values():
        database.kill_connections()


def _taken_over_once(world: MemoryWorld) -> None:
    _connections_die(world)
    assert rotate_again(world, "taker", runner="oci").outcome == "rotated"


def _taken_over_twice(world: MemoryWorld) -> None:
    _taken_over_once(world)
    assert rotate_again(world, "taker-again", runner="aws").outcome == "rotated"


def _taken_over_and_half_done(world: MemoryWorld) -> None:
    """The taker fails in its second database, so its claim is in the record when the zombie wakes up."""
    _taken_over_once(world)
    world.databases["db-2"].unreachable = True
    with suppress(LockstepError):
        rotate_again(world, "half-done", runner="aws")
    world.databases["db-2"].unreachable = False


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("meanwhile", [_taken_over_once, _taken_over_twice, _taken_over_and_half_done])
def test_a_run_that_was_taken_over_changes_nothing(
    meanwhile: Callable[[MemoryWorld], None], strategy: Strategy
) -> None:
    for at in range(MANY):
        world = steady(strategy)
        sleep = Sleep(at, world, meanwhile)
        at_every_boundary(world, sleep)
        with suppress(LockstepError):
            rotate(world, "zombie")
        undisturbed(world)
        if not sleep.boundary:
            assert at >= 80
            return
        if sleep.boundary != "before lock acquire":  # It had no lock to lose yet.
            assert outside(world) == sleep.before_waking, sleep.boundary
        assert world.locked_out() == [], sleep.boundary
        result = rotate_again(world, "following", runner="oci")
        assert_in_sync(world, result.generation)
        assert_on_record(world)
    pytest.fail("the run never ends")


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_zombie_with_an_advisory_lock_blocks_the_taker_in_that_database(
    strategy: Strategy,
) -> None:
    met = set()
    for at in range(MANY):
        world = steady(strategy)

        def meanwhile(world: MemoryWorld) -> None:
            try:
                rotate_again(world, "taker", runner="oci")
            except LockstepError as e:
                met.add(type(e).__name__)

        sleep = Sleep(at, world, meanwhile)
        at_every_boundary(world, sleep)
        with suppress(LockstepError):
            rotate(world, "zombie")
        undisturbed(world)
        if not sleep.boundary:
            break
        result = rotate_again(world, "following", runner="oci")
        assert_in_sync(world, result.generation)
        live = {shown(login_of(world, g)) for g in world.lock.record.valid}
        assert result.generation in world.lock.record.valid
        assert all(let_in == live for let_in in known_logins(world).values())
        assert_on_record(world)
    assert met == {"AdvisoryLockBusyError"}
