"""The scope of an invocation: no call outlives the step that made it (protocol F10, F11, F12).

A function's process is frozen between its invocations. A call that is under way at that moment would take effect in a
later invocation, inside another rotation. So each call belongs to the scope in which it was begun: a context variable,
which `lockstep.workers` copies into its threads. A thread that its step has left behind keeps the scope of its own
invocation, which is closed, whatever invocation its process is in by then.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from lockstep.errors import DeadlineExceededError, StepEndedError
from lockstep.ports import Clock

BeforeSend = Callable[[], None]
"""Called before each request, connect and statement. Raises if it must not be sent."""

LAST_CALL_SECONDS = 2.0
"""Before the end of an invocation, in which no call begins and those under way may still be answered."""
LEAVE_SECONDS = 0.5
"""Before the end of an invocation, in which its process ends if it is still at work."""
EXIT_CODE = 75
"""Of a process that ended itself; `EX_TEMPFAIL` of sysexits.h."""

logger = logging.getLogger("lockstep")


def end_process() -> None:
    """End this process at once, with every thread and connection in it. Returns never."""
    logger.error("the step does not end in time, so its process does")
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(EXIT_CODE)


class Scope:
    """One invocation of a step, or of a whole run in OCI.

    Args:
        clock: The clock of `ends_at`.
        ends_at: When the platform ends the invocation, in the clock's monotonic seconds.
        leave: Called in another thread LEAVE_SECONDS before, if the scope is still open then. By default it ends the
            process. A host that runs handlers in its own process replaces it.
    """

    def __init__(self, clock: Clock, *, ends_at: float, leave: Callable[[], None] = end_process) -> None:
        self._clock = clock
        self._ends_at = ends_at
        self._leave = leave
        self._closed = threading.Event()

    def check(self) -> None:
        """Return if a call of this scope may be sent.

        Raises:
            StepEndedError: The scope is closed.
            DeadlineExceededError: Its time is over, or would be before the call is answered.
        """
        if self._closed.is_set():
            raise StepEndedError
        if self._clock.monotonic() >= self._ends_at - LAST_CALL_SECONDS:
            raise DeadlineExceededError

    @contextmanager
    def open(self) -> Iterator[None]:
        """Calls that begin inside the block belong to this scope.

        Raises:
            DeadlineExceededError: There is no time for any call.
        """
        self.check()
        token = _current.set(self)
        watch = threading.Thread(target=self._watch, name="lockstep-deadline", daemon=True)
        watch.start()
        try:
            yield
        finally:
            self._closed.set()
            watch.join()
            _current.reset(token)

    def _watch(self) -> None:
        seconds = self._ends_at - LEAVE_SECONDS - self._clock.monotonic()
        if not self._closed.wait(min(max(seconds, 0.0), threading.TIMEOUT_MAX)):
            self._leave()


_current: ContextVar[Scope | None] = ContextVar("scope", default=None)


def check_scope() -> None:
    """The `BeforeSend` of a function: the call belongs to an open scope.

    Raises:
        StepEndedError: The scope is closed, or the call belongs to none: its thread was not started by
            `lockstep.workers`, so no step waits for it.
        DeadlineExceededError: As `Scope.check`.
    """
    scope = _current.get()
    if scope is None:
        raise StepEndedError
    scope.check()


def always() -> None:
    """The `BeforeSend` of a process that is never frozen, such as a command: every call may be sent."""
