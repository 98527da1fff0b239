"""The OCI function follows the retry policies (protocol F3)."""

from collections.abc import Callable

import pytest

from lockstep.protocol import errors
from lockstep.protocol.deadlines import LOCK_POLICY, STEP_POLICY, RetryPolicy
from oci_fn.retries import Retries
from tests.support.memory import FakeClock


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
def test_a_call_is_retried_with_growing_delays(
    policy: RetryPolicy, error: type[errors.LockstepError], delays: list[float]
) -> None:
    clock = _Clock()
    _, work = _failing(*[error] * policy.attempts)
    assert _retries(clock).call("State", work, policy=policy) == "result"
    assert clock.delays == delays


@pytest.mark.parametrize("policy", [STEP_POLICY, LOCK_POLICY])
def test_the_last_error_is_raised_when_the_retries_are_used_up(policy: RetryPolicy) -> None:
    done, work = _failing(*[errors.LockTableUnreachableError] * (policy.attempts + 1))
    with pytest.raises(errors.LockTableUnreachableError):
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
