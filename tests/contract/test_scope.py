"""A call belongs to the invocation that began it, and is not sent when that has ended (protocol F9, F11).

That a process ends itself whose work does not end is in tests/frozen, for both runtimes.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

from lockstep.protocol.deadlines import (
    LAST_CALL_SECONDS,
    Scope,
    always,
    check_scope,
)
from lockstep.protocol.errors import DeadlineExceededError
from lockstep.protocol.workers import at_the_same_time, one_after_the_other
from tests.proof.clock import JumpingClock

BOUND_SECONDS = 30.0


def _never() -> None:
    raise AssertionError("the process must not end")


def _scope(clock: JumpingClock, *, seconds: float = 60.0) -> Scope:
    return Scope(clock, ends_at=clock.monotonic() + seconds, leave=_never)


def test_a_call_is_sent_while_its_scope_is_open_and_without_one_never() -> None:
    scope = _scope(JumpingClock())
    with scope.open(), ThreadPoolExecutor() as pool:
        check_scope()
        at_the_same_time([check_scope, check_scope])
        one_after_the_other([check_scope])
        # A thread that no step waits for sends nothing.
        with pytest.raises(DeadlineExceededError):
            pool.submit(check_scope).result(BOUND_SECONDS)
    for check in (scope.check, check_scope):
        with pytest.raises(DeadlineExceededError):
            check()
    always()


def test_a_worker_keeps_the_scope_of_its_own_invocation() -> None:
    """What it begins is not sent inside a later invocation, although that one is open."""
    clock = JumpingClock()
    later_is_open, began = threading.Event(), threading.Event()
    refused: list[type[Exception]] = []

    def outlives() -> None:
        began.set()
        assert later_is_open.wait(BOUND_SECONDS)
        try:
            check_scope()
        except DeadlineExceededError as error:
            refused.append(type(error))

    with _scope(clock).open():
        step = threading.Thread(target=copy_context().run, args=(at_the_same_time, [outlives]))
        step.start()
        assert began.wait(BOUND_SECONDS)
    with _scope(clock).open():
        check_scope()
        later_is_open.set()
        step.join(BOUND_SECONDS)
    assert refused == [DeadlineExceededError]


def test_no_call_begins_when_its_answer_would_come_too_late() -> None:
    clock = JumpingClock()
    with _scope(clock).open():
        clock.jump(60 - LAST_CALL_SECONDS - 1)
        check_scope()
        clock.jump(1)
        with pytest.raises(DeadlineExceededError):
            check_scope()
    with pytest.raises(DeadlineExceededError), _scope(clock, seconds=LAST_CALL_SECONDS).open():
        pytest.fail("the scope must not open")
