"""One call of a run fails, at any boundary: a retryable error is tried again, any other error ends the run.

In both cases no application is locked out (protocol I1, F7), and the next run finishes what the failed one began
(protocol I8, M1).
"""

from collections.abc import Callable
from itertools import count

import pytest

from lockstep.protocol import errors
from lockstep.protocol.deadlines import LOCK_POLICY, STEP_POLICY, RetryPolicy
from lockstep.protocol.model import Strategy
from oci_fn.retries import Retries
from tests.proof.memory_observer import InstantObserver
from tests.support import world as w
from tests.support.memory import FakeClock, MemoryWorld
from tests.unit.flights import steady

ERRORS: dict[str, tuple[type[errors.LockstepError], type[errors.LockstepError]]] = {
    **dict.fromkeys(("aws", "oci"), (errors.StoreUnreachableError, errors.StoreAccessDeniedError)),
    **dict.fromkeys(("db-1", "db-2"), (errors.DatabaseUnreachableError, errors.PrivilegeMissingError)),
    "lock": (errors.LockTableUnreachableError, errors.LockTableAccessDeniedError),
    **dict.fromkeys(
        ("aws log", "aws signer"), (errors.AuditLogUnreachableError, errors.AuditLogAccessDeniedError)
    ),
}
"""What each double raises: to be tried again, or not."""
BOUNDARIES = 80
"""A run has more."""


class FailsAt:
    """A hook that raises once, at the n-th boundary, and observes at each."""

    def __init__(self, world: MemoryWorld, at: int, *, terminal: bool) -> None:
        self.boundary = ""
        self._left, self._terminal = at, terminal
        self._observer = InstantObserver(world)
        w.at_every_boundary(world, self)

    def __call__(self, boundary: str) -> None:
        self._observer.look(boundary)
        self._left -= 1
        if self._left == -1:
            self.boundary = boundary
            where = boundary.split(" ", 1)[1]
            raise next(
                raised[self._terminal]() for name, raised in ERRORS.items() if where.startswith(f"{name} ")
            )


@pytest.mark.parametrize("terminal", [False, True], ids=["once", "refused"])
@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_call_that_fails_is_retried_within_the_run_or_its_run_is_finished_by_the_next_one(
    strategy: Strategy, *, terminal: bool
) -> None:
    for at in count():
        world = steady(strategy)
        failure = FailsAt(world, at, terminal=terminal)
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


# The retry policies, as the OCI function follows them (protocol F3)


class _Clock(FakeClock):
    """Records the delays."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.delays.append(seconds)
        super().sleep(seconds)


def _failing(*raised: type[Exception]) -> tuple[list[str], Callable[[], str]]:
    """A list with one item for each try, and work that raises these errors in order and then returns."""
    left, done = list(raised), []

    def work() -> str:
        done.append("tried")
        if left:
            raise left.pop(0)
        return "result"

    return done, work


def _retries(clock: _Clock, *, deadline: float = 600) -> Retries:
    return Retries(clock, deadline=clock.monotonic() + deadline, jitter=lambda: 0.5)


@pytest.mark.parametrize(
    ("policy", "error", "delays"),
    [
        (STEP_POLICY, errors.StoreUnreachableError, [1, 2, 4, 8]),
        (LOCK_POLICY, errors.LockTableUnreachableError, [0.5, 1, 2, 4, 5]),
    ],
)
def test_a_call_is_retried_with_growing_delays_until_the_retries_are_used_up(
    policy: RetryPolicy, error: type[errors.LockstepError], delays: list[float]
) -> None:
    clock = _Clock()
    _, work = _failing(*[error] * policy.attempts)
    assert _retries(clock).call("State", work, policy=policy) == "result"
    assert clock.delays == delays
    done, work = _failing(*[error] * (policy.attempts + 1))
    with pytest.raises(error):
        _retries(_Clock()).call("State", work, policy=policy)
    assert len(done) == policy.attempts + 1


@pytest.mark.parametrize(
    ("policy", "error", "raised"),
    [
        (STEP_POLICY, errors.FenceLostError, errors.FenceLostError),
        (LOCK_POLICY, errors.FenceLostError, errors.FenceLostError),
        (LOCK_POLICY, errors.StoreUnreachableError, errors.StoreUnreachableError),
        (STEP_POLICY, ValueError, errors.UnexpectedError),
    ],
)
def test_an_error_that_the_policy_does_not_name_is_raised_at_once_and_a_foreign_one_without_its_text(
    policy: RetryPolicy, error: type[Exception], raised: type[errors.LockstepError]
) -> None:
    done, work = _failing(error)
    with pytest.raises(raised) as caught:
        _retries(_Clock()).call("State", work, policy=policy)
    assert done == ["tried"]
    assert caught.value.where == ({"code": "ValueError"} if error is ValueError else {})


@pytest.mark.parametrize(("deadline", "is_owed", "tries"), [(3.5, False, 3), (0, False, 0), (0, True, 1)])
def test_no_try_begins_after_the_deadline_but_the_first_one_of_a_call_that_is_owed(
    deadline: float, tries: int, *, is_owed: bool
) -> None:
    done, work = _failing(*[errors.StoreUnreachableError] * 4)
    with pytest.raises(errors.DeadlineExceededError) as caught:
        _retries(_Clock(), deadline=deadline).call("State", work, is_owed=is_owed)
    assert len(done) == tries
    assert caught.value.where == {"code": "State"}


def test_it_tells_how_long_each_state_took_with_its_retries_and_failures() -> None:
    clock = _Clock()
    retries = _retries(clock)
    for _ in range(2):
        _, work = _failing(errors.StoreUnreachableError)
        retries.call("Generate", work)

    def fails() -> None:
        clock.sleep(0.25)
        raise errors.FenceLostError

    with pytest.raises(errors.FenceLostError):
        retries.call("ApplyDb", fails)
    assert retries.states_ms == {"Generate": 2000, "ApplyDb": 250}
