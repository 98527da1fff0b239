"""Independent calls run at the same time, and all have ended when their step goes on (protocol M10)."""

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from threading import Barrier, Event
from threading import enumerate as living_threads

import pytest

from lockstep.errors import DatabaseUnreachableError, LockstepError, StoreUnreachableError
from lockstep.timing import DATABASES_AT_ONCE
from lockstep.workers import SideBySide, at_the_same_time, one_after_the_other

BOUND_SECONDS = 30.0
BOTH = pytest.mark.parametrize("side_by_side", [at_the_same_time, one_after_the_other])


def _failing(error: LockstepError) -> Callable[[], int]:
    def call() -> int:
        raise error

    return call


@BOTH
def test_the_results_are_in_the_order_of_the_calls(side_by_side: SideBySide) -> None:
    assert side_by_side([partial(int, number) for number in range(20)]) == tuple(range(20))
    assert side_by_side([]) == ()


def test_the_order_does_not_depend_on_who_ends_first() -> None:
    second_has_ended = Event()

    def first() -> int:
        assert second_has_ended.wait(BOUND_SECONDS)
        return 1

    def second() -> int:
        second_has_ended.set()
        return 2

    assert at_the_same_time([first, second]) == (1, 2)


def test_as_many_calls_as_databases_run_at_the_same_time() -> None:
    barrier = Barrier(DATABASES_AT_ONCE)
    at_the_same_time([lambda: barrier.wait(BOUND_SECONDS)] * DATABASES_AT_ONCE)


@BOTH
def test_every_call_is_made_and_the_first_failure_in_order_is_raised(side_by_side: SideBySide) -> None:
    made: list[str] = []
    calls = [
        lambda: made.append("first"),
        _failing(StoreUnreachableError(store="aws")),
        _failing(DatabaseUnreachableError(database="db-1")),
        lambda: made.append("last"),
    ]
    with pytest.raises(StoreUnreachableError):
        side_by_side(calls)
    assert sorted(made) == ["first", "last"]


def test_a_failure_is_raised_only_when_every_call_has_ended() -> None:
    failed, ended = Event(), Event()

    def slow() -> None:
        assert failed.wait(BOUND_SECONDS)
        ended.set()

    def fails() -> None:
        failed.set()
        raise StoreUnreachableError(store="aws")

    before = set(living_threads())
    with pytest.raises(StoreUnreachableError):
        at_the_same_time([fails, slow])
    assert ended.is_set()
    assert set(living_threads()) <= before


def test_a_worker_sees_the_context_of_its_caller() -> None:
    variable = ContextVar("variable", default="nobody's")
    variable.set("the caller's")
    assert at_the_same_time([variable.get, variable.get]) == ("the caller's", "the caller's")


def test_without_threads_the_calls_run_in_order() -> None:
    made: list[int] = []
    one_after_the_other([partial(made.append, number) for number in range(5)])
    assert made == [0, 1, 2, 3, 4]
