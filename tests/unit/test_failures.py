"""One call of a run fails, at any boundary: a retryable error is tried again, any other error ends the run.

In both cases no application is locked out (protocol I1, L1), and the next run finishes what the failed one began
(protocol I8, M1).
"""

import traceback
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
CANARY = "hunter2"
BOUNDARIES = 80
"""A run has more."""


def fails_at(world: MemoryWorld, at: int, how: str) -> list[str]:
    """Let the n-th boundary fail once, and observe at each; where it did is in the list."""
    observer, numbers, failed = InstantObserver(world), count(), list[str]()

    def hook(boundary: str) -> None:
        observer.look(boundary)
        if next(numbers) == at:
            failed.append(boundary)
            if how == "foreign":
                raise ValueError(CANARY)
            where = boundary.split(" ", 1)[1]
            retryable, terminal = next(e for name, e in ERRORS.items() if where.startswith(f"{name} "))
            raise retryable if how == "once" else terminal

    w.at_every_boundary(world, hook)
    return failed


@pytest.mark.parametrize("how", ["once", "refused", "foreign"])
@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_call_that_fails_is_retried_within_the_run_or_its_run_is_finished_by_the_next_one(
    strategy: Strategy, how: str
) -> None:
    """A foreign error ends its run, too, and is not quoted."""
    for at in count():
        world = steady(strategy)
        boundary = fails_at(world, at, how)
        shown = ""
        try:
            result = w.rotate(world, "third")
        except errors.LockstepError as e:
            shown = "".join(traceback.format_exception(e))
        w.undisturbed(world)
        assert (bool(shown), CANARY in shown) == (how != "once" and bool(boundary), False), boundary
        if shown:
            _left_in_order(world, *boundary)
            result = w.rotate_again(world, "fourth", runner="oci")
        assert result.outcome == "rotated", boundary
        w.assert_in_sync(world, result.generation)
        w.assert_on_record(world)
        if not boundary:
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


class Work:
    """Work that raises these errors in order and then returns, and when it was tried."""

    def __init__(self, *raised: type[Exception], deadline: float = 600) -> None:
        self.clock, self.left = FakeClock(), list(raised)
        self.tried: list[float] = []
        self.retries = Retries(self.clock, deadline=deadline, jitter=lambda: 0.5)

    def __call__(self) -> str:
        self.tried.append(self.clock.monotonic())
        if self.left:
            raise self.left.pop(0)
        return "result"


@pytest.mark.parametrize(
    ("policy", "error", "tried"),
    [
        (STEP_POLICY, errors.StoreUnreachableError, [0, 1, 3, 7, 15]),
        (LOCK_POLICY, errors.LockTableUnreachableError, [0, 0.5, 1.5, 3.5, 7.5, 12.5]),
    ],
)
def test_a_call_is_retried_with_growing_delays_until_the_retries_are_used_up(
    policy: RetryPolicy, error: type[errors.LockstepError], tried: list[float]
) -> None:
    work, failing = Work(*[error] * policy.attempts), Work(*[error] * (policy.attempts + 1))
    with pytest.raises(error):
        failing.retries.call("State", failing, policy=policy)
    for _ in range(2):  # The second time it works at once.
        assert work.retries.call("State", work, policy=policy) == "result"
    assert (failing.tried, work.tried) == (tried, [*tried, tried[-1]])
    for retries in (failing.retries, work.retries):
        assert retries.states_ms == {"State": tried[-1] * 1000}


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
    work = Work(error)
    with pytest.raises(raised) as caught:
        work.retries.call("State", work, policy=policy)
    assert work.tried == [0]
    assert caught.value.where == ({"code": "ValueError"} if error is ValueError else {})


@pytest.mark.parametrize(("deadline", "is_owed", "tries"), [(3.5, False, 3), (0, False, 0), (0, True, 1)])
def test_no_try_begins_after_the_deadline_but_the_first_one_of_a_call_that_is_owed(
    deadline: float, tries: int, *, is_owed: bool
) -> None:
    work = Work(*[errors.StoreUnreachableError] * 4, deadline=deadline)
    with pytest.raises(errors.DeadlineExceededError) as caught:
        work.retries.call("State", work, is_owed=is_owed)
    assert len(work.tried) == tries
    assert caught.value.where == {"code": "State"}
