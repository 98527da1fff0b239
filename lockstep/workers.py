"""Workers: what does not depend on each other runs at the same time, within a step."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Protocol, TypeVar

from lockstep.timing import DATABASES_AT_ONCE

T = TypeVar("T")


class SideBySide(Protocol):
    """Runs independent calls and joins them all: each has ended when this returns or raises.

    Every call is made, also after another one has failed.
    """

    def __call__(self, calls: Sequence[Callable[[], T]], /) -> tuple[T, ...]:
        """The results, in the order of the calls.

        Raises:
            BaseException: What the first call that failed has raised, first in the order of the calls.
        """


def at_the_same_time(
    calls: Sequence[Callable[[], T]], /, *, at_most: int = DATABASES_AT_ONCE
) -> tuple[T, ...]:
    """A `SideBySide` with threads.

    Each call sees the caller's context variables.
    """
    with ThreadPoolExecutor(max_workers=at_most, thread_name_prefix="lockstep") as workers:
        futures = [workers.submit(copy_context().run, call) for call in calls]
    return tuple(future.result() for future in futures)


def one_after_the_other(calls: Sequence[Callable[[], T]], /) -> tuple[T, ...]:
    """A `SideBySide` without threads: the same order every time."""
    results: list[T] = []
    failure: Exception | None = None
    for call in calls:
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001 - raised after the other calls
            failure = failure or error
    if failure:
        raise failure
    return tuple(results)
