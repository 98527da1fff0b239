"""One call of a run fails, at any boundary: a retryable error is tried again, any other error ends the run.

In both cases no application is locked out (protocol I1, F7), and the next run finishes what the failed one began
(protocol I8, M1).
"""

from collections.abc import Callable, Mapping
from contextlib import suppress

import pytest

from lockstep.protocol.errors import (
    AuditLogAccessDeniedError,
    AuditLogUnreachableError,
    DatabaseUnreachableError,
    LockstepError,
    LockTableAccessDeniedError,
    LockTableUnreachableError,
    PrivilegeMissingError,
    StoreAccessDeniedError,
    StoreUnreachableError,
)
from lockstep.protocol.model import Strategy
from tests.support.memory import MemoryWorld
from tests.support.world import (
    Observer,
    assert_in_sync,
    assert_on_record,
    at_every_boundary,
    entries,
    known_logins,
    login_of,
    quiet,
    rotate,
    rotate_again,
    rotation_of,
    served,
    shown,
    status_of,
    undisturbed,
)
from tests.unit.flights import steady

RETRYABLE = {
    "aws": StoreUnreachableError,
    "oci": StoreUnreachableError,
    "db-1": DatabaseUnreachableError,
    "db-2": DatabaseUnreachableError,
    "lock": LockTableUnreachableError,
    "aws log": AuditLogUnreachableError,
    "aws signer": AuditLogUnreachableError,
}
TERMINAL = {
    "aws": StoreAccessDeniedError,
    "oci": StoreAccessDeniedError,
    "db-1": PrivilegeMissingError,
    "db-2": PrivilegeMissingError,
    "lock": LockTableAccessDeniedError,
    "aws log": AuditLogAccessDeniedError,
    "aws signer": AuditLogAccessDeniedError,
}
MANY = 500


class Failure:
    """A hook that fails once, at the n-th boundary."""

    def __init__(self, at: int, errors: Mapping[str, type[LockstepError]], observer: Observer) -> None:
        self.boundary = ""
        self._left = at
        self._errors = errors
        self._observer = observer

    def __call__(self, boundary: str) -> None:
        self._observer.look(boundary)
        if self._left == 0:
            self.boundary = boundary
            self._left -= 1
            raise self._error(boundary)
        self._left -= 1

    def _error(self, boundary: str) -> LockstepError:
        _, where = boundary.split(" ", 1)
        return next(error for name, error in self._errors.items() if where.startswith(f"{name} "))()


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_call_that_fails_once_is_retried_within_the_run(strategy: Strategy) -> None:
    for at in range(MANY):
        world = steady(strategy)
        failure = Failure(at, RETRYABLE, Observer(world))
        at_every_boundary(world, failure)
        result = rotate(world, "third")
        undisturbed(world)
        assert result.outcome == "rotated", failure.boundary
        assert_in_sync(world, result.generation)
        assert_on_record(world)
        if not failure.boundary:
            assert at >= 80
            return
    pytest.fail("the run never ends")


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_refused_call_ends_the_run_and_the_next_run_finishes_it(strategy: Strategy) -> None:
    for at in range(MANY):
        world = steady(strategy)
        failure = Failure(at, TERMINAL, Observer(world))
        at_every_boundary(world, failure)
        try:
            rotate(world, "third")
            failed = False
        except LockstepError:
            failed = True
        undisturbed(world)
        assert failed == bool(failure.boundary)
        if not failed:
            assert at >= 80
            return
        _left_in_order(world, failure.boundary)
        result = rotate_again(world, "fourth", runner="oci")
        assert result.outcome == "rotated", failure.boundary
        assert_in_sync(world, result.generation)
        assert_on_record(world)
    pytest.fail("the run never ends")


def _left_in_order(world: MemoryWorld, boundary: str) -> None:
    """A failed run has released the lock and is on record, unless it never held the lock or was done with it."""
    assert world.locked_out() == []
    if boundary.endswith(("lock acquire", "before lock release")):
        return
    assert world.lock.record.holder is None, boundary
    recorded = {rotation_of(e): status_of(e) for e in entries(world, "aws")}
    is_recorded = boundary == "after aws log put" or "release" in boundary
    assert recorded["third"] == ("Success" if is_recorded else "Failure"), boundary


# A run that was overtaken


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
def test_a_zombie_with_an_advisory_lock_blocks_the_taker_in_that_database(strategy: Strategy) -> None:
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
