"""One call of a run fails, at any boundary: a retryable error is tried again, any other error ends the run.

In both cases no application is locked out (protocol I1, F7), and the next run finishes what the failed one began
(protocol I8, M1).
"""

from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import NoReturn

import pytest

from lockstep.protocol import errors
from lockstep.protocol.model import Strategy
from tests.proof.memory_observer import InstantObserver
from tests.support import world as w
from tests.support.memory import MemoryWorld
from tests.unit.flights import steady

ERRORS: dict[str, tuple[type[errors.LockstepError], type[errors.LockstepError]]] = {
    "aws": (errors.StoreUnreachableError, errors.StoreAccessDeniedError),
    "oci": (errors.StoreUnreachableError, errors.StoreAccessDeniedError),
    "db-1": (errors.DatabaseUnreachableError, errors.PrivilegeMissingError),
    "db-2": (errors.DatabaseUnreachableError, errors.PrivilegeMissingError),
    "lock": (errors.LockTableUnreachableError, errors.LockTableAccessDeniedError),
    "aws log": (errors.AuditLogUnreachableError, errors.AuditLogAccessDeniedError),
    "aws signer": (errors.AuditLogUnreachableError, errors.AuditLogAccessDeniedError),
}
"""What each double raises: to be tried again, or not."""
BOUNDARIES = 80
"""A run has more."""


class AtBoundary:
    """A hook that acts once, at the n-th boundary, and observes at each."""

    def __init__(self, world: MemoryWorld, at: int, act: Callable[[str], object]) -> None:
        self.boundary = ""
        self._left = at
        self._act = act
        self._observer = InstantObserver(world)
        w.at_every_boundary(world, self)

    def __call__(self, boundary: str) -> None:
        self._observer.look(boundary)
        self._left -= 1
        if self._left == -1:
            self.boundary = boundary
            self._act(boundary)


def _error_at(boundary: str, *, terminal: bool) -> errors.LockstepError:
    where = boundary.split(" ", 1)[1]
    return next(raised[terminal]() for name, raised in ERRORS.items() if where.startswith(f"{name} "))


@pytest.mark.parametrize("terminal", [False, True], ids=["once", "refused"])
@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_call_that_fails_is_retried_within_the_run_or_its_run_is_finished_by_the_next_one(
    strategy: Strategy, *, terminal: bool
) -> None:
    def fails(boundary: str) -> NoReturn:
        raise _error_at(boundary, terminal=terminal)

    for at in count():
        world = steady(strategy)
        failure = AtBoundary(world, at, fails)
        try:
            result, failed = w.rotate(world, "third"), False
        except errors.LockstepError:
            failed = True
        w.undisturbed(world)
        assert failed == (terminal and bool(failure.boundary)), failure.boundary
        if failed:
            _left_in_order(world, failure.boundary)
            result = w.rotate_again(world, "fourth", runner="oci")
        assert result.outcome == "rotated", failure.boundary
        w.assert_in_sync(world, result.generation)
        w.assert_on_record(world)
        if not failure.boundary:
            break
    assert at >= BOUNDARIES


def _left_in_order(world: MemoryWorld, boundary: str) -> None:
    """A failed run has released the lock and is on record, unless it never held the lock or was done with it."""
    assert world.locked_out() == []
    if boundary.endswith(("lock acquire", "before lock release")):
        return
    assert world.lock.record.holder is None, boundary
    recorded = {w.rotation_of(e): w.status_of(e) for e in w.entries(world, "aws")}
    is_recorded = boundary == "after aws log put" or "release" in boundary
    assert recorded["third"] == ("Success" if is_recorded else "Failure"), boundary


def _taken_over_once(world: MemoryWorld) -> None:
    for database in world.databases.values():
        database.kill_connections()
    assert w.rotate_again(world, "taker", runner="oci").outcome == "rotated"


def _taken_over_and_half_done(world: MemoryWorld) -> None:
    """The taker fails in its second database, so its claim is in the record when the zombie wakes up."""
    _taken_over_once(world)
    world.databases["db-2"].unreachable = True
    with suppress(errors.LockstepError):
        w.rotate_again(world, "half-done", runner="aws")
    world.databases["db-2"].unreachable = False


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("meanwhile", [_taken_over_once, _taken_over_and_half_done])
def test_a_zombie_changes_nothing(meanwhile: Callable[[MemoryWorld], None], strategy: Strategy) -> None:
    """Neither stores nor databases (invariant I5)."""
    before: object = None

    def sleeps(_boundary: str) -> None:
        nonlocal before
        with w.quiet(world):
            meanwhile(world)
        before = w.served(world), w.known_logins(world)

    for at in count():
        world = steady(strategy)
        sleep = AtBoundary(world, at, sleeps)
        with suppress(errors.LockstepError):
            w.rotate(world, "zombie")
        w.undisturbed(world)
        if not sleep.boundary:
            break
        if sleep.boundary != "before lock acquire":  # It had no lock to lose yet.
            assert (w.served(world), w.known_logins(world)) == before, sleep.boundary
        assert world.locked_out() == [], sleep.boundary
        w.assert_in_sync(world, w.rotate_again(world, "following", runner="oci").generation)
        w.assert_on_record(world)
    assert at >= BOUNDARIES


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_zombie_with_an_advisory_lock_blocks_the_taker_in_that_database(strategy: Strategy) -> None:
    met = set[str]()

    def taken_over(_boundary: str) -> None:
        try:
            with w.quiet(world):
                w.rotate_again(world, "taker", runner="oci")
        except errors.LockstepError as e:
            met.add(type(e).__name__)

    for at in count(0, 2):
        world = steady(strategy)
        sleep = AtBoundary(world, at, taken_over)
        with suppress(errors.LockstepError):
            w.rotate(world, "zombie")
        w.undisturbed(world)
        if not sleep.boundary:
            break
        generation = w.rotate_again(world, "following", runner="oci").generation
        w.assert_in_sync(world, generation)
        live = {w.shown(w.login_of(world, g)) for g in world.lock.record.valid}
        assert generation in world.lock.record.valid
        assert all(let_in == live for let_in in w.known_logins(world).values())
        w.assert_on_record(world)
    assert met == {"AdvisoryLockBusyError"}
