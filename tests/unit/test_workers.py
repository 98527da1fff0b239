"""Independent calls run at the same time, and all have ended when their step goes on (protocol M10)."""

from contextvars import ContextVar
from functools import partial
from threading import Event
from typing import Any
from unittest.mock import Mock

import pytest

from lockstep.protocol.errors import DatabaseUnreachableError, ReplicaRejectedError, StoreUnreachableError
from lockstep.protocol.workers import SideBySide, Workers, at_the_same_time, one_after_the_other

BOUND_SECONDS = 30.0
BOTH = pytest.mark.parametrize("side_by_side", [at_the_same_time, one_after_the_other])


@BOTH
def test_the_results_are_in_the_order_of_the_calls(side_by_side: SideBySide) -> None:
    assert side_by_side([partial(int, number) for number in range(20)]) == tuple(range(20))
    assert side_by_side([]) == ()


def test_calls_that_run_others_side_by_side_never_wait_for_a_free_thread() -> None:
    workers = Workers(2)

    def tree(depth: int) -> int:
        return sum(workers([partial(tree, depth - 1)] * 3)) if depth else 1

    assert workers([partial(tree, 4)] * 3) == (81, 81, 81)


@BOTH
def test_every_call_is_made_and_the_first_failure_that_is_the_gravest_is_raised(
    side_by_side: SideBySide,
) -> None:
    """Else a step would be tried again, and show a login again that was refused."""
    made: list[str] = []
    unreachable: list[Any] = [
        Mock(side_effect=StoreUnreachableError),
        Mock(side_effect=DatabaseUnreachableError),
    ]
    rejected = Mock(side_effect=ReplicaRejectedError)
    with pytest.raises(StoreUnreachableError):
        side_by_side([lambda: made.append("first"), *unreachable, lambda: made.append("last")])
    assert sorted(made) == ["first", "last"]
    with pytest.raises(ReplicaRejectedError):
        side_by_side([*unreachable, rejected])


def test_a_failure_is_raised_only_when_every_call_has_ended() -> None:
    failed, ended = Event(), Event()

    def slow() -> None:
        assert failed.wait(BOUND_SECONDS)
        ended.set()

    def fails() -> None:
        failed.set()
        raise StoreUnreachableError(store="aws")

    for calls in ([fails, slow], [slow, fails]):
        failed.clear()
        ended.clear()
        with pytest.raises(StoreUnreachableError):
            at_the_same_time(calls)
        assert ended.is_set()


def test_a_worker_sees_the_context_of_its_caller() -> None:
    variable = ContextVar("variable", default="nobody's")
    variable.set("the caller's")
    assert at_the_same_time([variable.get, variable.get]) == ("the caller's", "the caller's")
