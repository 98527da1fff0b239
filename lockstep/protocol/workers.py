"""Workers: what does not depend on each other runs at the same time, within a step."""

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, Protocol, TypeVar, overload

from lockstep.protocol.errors import LockstepError, RetryableError

CALLS_AT_ONCE = 24
"""The threads of a process, for calls that run at the same time: two secrets in the four slots of a ring and in three
other stores, or eight databases with three hosts each, do not wait for one another (protocol M10)."""


T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
E = TypeVar("E", bound=BaseException)


class SideBySide(Hashable, Protocol):
    """Runs independent calls and joins them all: each has ended when this returns or raises.

    Every call is made, also after another one has failed. A call may itself run others side by side.
    """

    def __call__(self, calls: Sequence[Callable[[], T]], /) -> tuple[T, ...]:
        """The results, in the order of the calls.

        Raises:
            BaseException: Of the errors the first that trying again does not help, else the first, in the order of the
                calls: a step is not tried again because something else did not answer.
        """


class Workers:
    """A `SideBySide` with threads, which are made when they are first needed, and kept.

    Each call sees the caller's context variables. The caller makes the first call itself, and then those that no
    thread has begun: so a call that runs others side by side never waits for a free thread (protocol M10).

    Args:
        threads: The most that there will be, besides the callers' own.
    """

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="lockstep")

    def __call__(self, calls: Sequence[Callable[[], T]], /) -> tuple[T, ...]:
        """As `SideBySide`."""
        bound = [partial(copy_context().run, call) for call in calls]
        others = [self._threads.submit(call) for call in bound[1:]]
        ended: list[Future[Any]] = [_made(call) for call in bound[:1]]
        for call, other in zip(bound[1:], others, strict=True):
            ended.append(_made(call if other.cancel() else other.result))
        if errors := [error for future in ended if (error := future.exception())]:
            raise gravest(errors)
        return tuple(future.result() for future in ended)


def gravest(errors: Sequence[E]) -> E:
    """The first error that trying again does not help, else the first."""
    return next((error for error in errors if not isinstance(error, RetryableError)), errors[0])


def _made(call: Callable[[], T]) -> "Future[T]":
    """Make a call in this thread; what became of it."""
    future: Future[T] = Future()
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 - raised by the future, after the other calls
        future.set_exception(error)
    return future


at_the_same_time = Workers(CALLS_AT_ONCE)
"""The workers of this process: made once, whatever the number of invocations."""


def one_after_the_other(calls: Sequence[Callable[[], T]], /) -> tuple[T, ...]:
    """A `SideBySide` without threads: the same order every time."""
    results: list[T] = []
    errors: list[Exception] = []
    for call in calls:
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001 - raised after the other calls
            errors = [*errors, error]
    if errors:
        raise gravest(errors)
    return tuple(results)


@overload
def run_all(side_by_side: SideBySide, a: Callable[[], A], b: Callable[[], B], /) -> tuple[A, B]: ...
@overload
def run_all(
    side_by_side: SideBySide, a: Callable[[], A], b: Callable[[], B], c: Callable[[], C], /
) -> tuple[A, B, C]: ...
def run_all(side_by_side: SideBySide, /, *calls: Callable[[], object]) -> object:
    """Run calls side by side whose results have different types."""
    return side_by_side(calls)


def outcome(call: Callable[[], T]) -> T | LockstepError:
    """What a call returns, or the error of Lockstep that it raises, so that one of several may fail."""
    try:
        return call()
    except LockstepError as error:
        return error
