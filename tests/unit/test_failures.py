"""One call of a run fails, at any boundary: a retryable error is tried again, any other error ends the run.

In both cases no application is locked out (protocol I1, F7), and the next run finishes what the failed one began
(protocol I8, M8).
"""

from collections.abc import Mapping

import pytest

from lockstep.protocol.errors import (
    AuditLogAccessDeniedError,
    AuditLogUnreachableError,
    DatabaseRejectedError,
    DatabaseUnreachableError,
    LockstepError,
    LockTableAccessDeniedError,
    LockTableUnreachableError,
    StoreAccessDeniedError,
    StoreUnreachableError,
)
from lockstep.protocol.model import Strategy
from tests.support.memory import MemoryWorld
from tests.unit.flights import steady
from tests.unit.harness import (
    Observer,
    assert_in_sync,
    assert_on_record,
    at_every_boundary,
    entries,
    rotate,
    rotate_again,
    rotation_of,
    status_of,
    undisturbed,
)

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
    "db-1": DatabaseRejectedError,
    "db-2": DatabaseRejectedError,
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
        if "oci log" in failure.boundary:
            # What the other cloud's log refuses is a witness, which no rotation waits for (protocol E15).
            assert not failed, failure.boundary
            continue
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
    is_recorded = boundary in {"after aws log put", "before lock move_head", "after lock move_head"}
    assert recorded["third"] == ("Success" if is_recorded or "release" in boundary else "Failure"), boundary
