"""Time-outs, leases and retries of both runners, and the scope that no call outlives (protocol F3, F9).

The scope of an invocation: no call outlives the step that made it (protocol F9, F11).

A function's process is frozen between its invocations. A call that is under way at that moment would take effect in a
later invocation, inside another rotation. So each call belongs to the scope in which it was begun: a context variable,
which `lockstep.protocol.workers` copies into its threads. A thread that its step has left behind keeps the scope of
its own invocation, which is closed, whatever invocation its process is in by then.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from lockstep.protocol.errors import (
    DeadlineExceededError,
    LockstepError,
    LockTableUnreachableError,
    RetryableError,
    family,
)
from lockstep.protocol.ports import Clock
from lockstep.protocol.workers import CALLS_AT_ONCE

ResultT = TypeVar("ResultT")
DeadlineGuard = Callable[[], None]
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
            DeadlineExceededError: The scope is closed (code `step-ended`); or its time is over, or would be before the
                call is answered.
        """
        if self._closed.is_set():
            raise DeadlineExceededError(code="step-ended")
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
    """The `DeadlineGuard` of a function: the call belongs to an open scope.

    Raises:
        DeadlineExceededError: As `Scope.check`; or the call belongs to no scope: its thread was not started by
            `lockstep.protocol.workers`, so no step waits for it.
    """
    scope = _current.get()
    if scope is None:
        raise DeadlineExceededError(code="step-ended")
    scope.check()


def always() -> None:
    """The `DeadlineGuard` of a process that is never frozen, such as a command: every call may be sent."""


# Time-outs, lease and retry policies, for both runners (protocol F3).
#
# `cdk/` writes these into `statemachine.asl.json` and `cdk/fleet.asl.json`; the OCI function uses them as they
# are. An adapter tries once, so nothing is retried at two layers (ADR 10).

STEP = timedelta(seconds=60)
"""A step that the state machine called may run this much longer than its execution."""
LOCK_CALL = timedelta(seconds=10)
CLOCK_SKEW = timedelta(seconds=60)
"""The largest difference between the clocks of two runners."""
TRIGGER_LATENESS = timedelta(seconds=60)
"""EventBridge and Resource Scheduler call within the minute that `cron` names, not at its beginning."""
POSITION_LATENESS = timedelta(seconds=60)
"""The runs of a trigger begin within this time: one that has not begun by then is left to the other runner."""
START_LATENESS = TRIGGER_LATENESS + POSITION_LATENESS
"""A run that AWS's schedule starts has acquired the lock this long after the time that `cron` names, or it is skipped
(protocol R2)."""
LAST_START = START_LATENESS - LOCK_CALL
"""No run is started later than this after that time, since it acquires the lock a little later."""
LEASE = timedelta(seconds=420)
"""Ends before the other runner is called, half an interval after this one (protocol R9)."""
IMPORT_LEASE = timedelta(minutes=10)
"""For so long `lockstep import` holds the lock at most."""
PREPARED_AT_MOST = 4
"""So often a run prepares: at most a search, base that is refused, another search, and what that has found."""
RUN = LEASE - STEP - CLOCK_SKEW
"""An execution ends after this time, so that its holder is dead before its lease ends (protocol R9)."""
RUN_AWAITED = RUN + STEP
"""Who has started an execution of a rotation awaits its end for this time: it ends by itself, and is seen later."""
SHARD = START_LATENESS + RUN_AWAITED + STEP
"""The rotations of a shard have ended after this time, and their report is written."""
SHORTEST_SHARED_INTERVAL = 2 * (LEASE + START_LATENESS + CLOCK_SKEW)
"""The shortest interval with two runners (protocol R9)."""
TOLERANCE = START_LATENESS
"""The least tolerance of a schedule: a run may start late, and the next one on time, by the same clock. Between a run
of one runner and the next trigger of the other lies half an interval."""

BATCH = 10
"""Credentials that one call of the standby rotates, one after the other (protocol R5). A rotation takes seconds, so
each comes within a minute or two of the call; what is more is handed on to other calls."""


CONNECTIONS = CALLS_AT_ONCE + 1
"""What a client keeps open: one for each of those threads, and the caller's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """After which errors a call is tried again, how often, and after how long.

    Attributes:
        errors: The errors that may pass.
        attempts: Retries after the first try.
        interval_seconds: The delay before the first retry; each further delay is `backoff_rate` times as long.
        max_delay_seconds: No delay is longer. With full jitter, a runner waits a random part of the delay.
    """

    errors: tuple[type[LockstepError], ...]
    attempts: int
    interval_seconds: float
    max_delay_seconds: int
    backoff_rate: int = 2

    def delay_seconds(self, retries: int) -> float:
        """The longest delay after so many retries."""
        return float(min(self.interval_seconds * self.backoff_rate**retries, self.max_delay_seconds))

    def call(self, work: Callable[[], ResultT], sleep: Callable[[float], None]) -> ResultT:
        """Do the work, and again after an error that may pass; raises its last error."""
        for retries in range(self.attempts):
            try:
                return work()
            except self.errors:
                sleep(self.delay_seconds(retries))
        return work()

    @property
    def longest(self) -> timedelta:
        """All delays together, at their longest."""
        return timedelta(seconds=sum(map(self.delay_seconds, range(self.attempts))))


STEP_POLICY = RetryPolicy(
    errors=tuple(family(RetryableError)), attempts=4, interval_seconds=2, max_delay_seconds=20
)
"""For a step: every error of the retryable family."""

LOCK_POLICY = RetryPolicy(
    errors=(LockTableUnreachableError,), attempts=5, interval_seconds=1, max_delay_seconds=10
)
"""For a call of the lock table by the runner itself."""

START_POLICY = RetryPolicy(errors=(), attempts=3, interval_seconds=2, max_delay_seconds=8)
"""For the start of a rotation by the state machine of the fleet."""


# Time-outs of calls to clouds and databases. `Runner` takes them as an argument; the defaults fit the retries.


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudTimeouts:
    """Bounds of a call of a cloud.

    Attributes:
        connect_seconds: For a connection.
        read_seconds: For each wait for a part of the answer.
    """

    connect_seconds: float = 3.0
    read_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseTimeouts:
    """Bounds of every wait for a database server.

    Attributes:
        connect_seconds: For each address of the host.
        io_seconds: For each read or write, TLS included.
        lock_seconds: For the advisory lock, and for any lock inside the server that a statement needs. At least 1,
            since some servers take 0 for no bound. Less than `io_seconds`, so that the server gives up first and
            nothing happens there after the runner has left.
        idle_seconds: After which the server ends a silent admin session, and with it the advisory lock, so that a
            frozen or disconnected runner blocks others no longer than this. Must be longer than what the caller does
            between entering `exclusive` and its last statement.
    """

    connect_seconds: float = 5.0
    io_seconds: float = 10.0
    lock_seconds: int = 5
    idle_seconds: int = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """The bounds of all waits of a runner."""

    cloud: CloudTimeouts = CloudTimeouts()
    database: DatabaseTimeouts = DatabaseTimeouts()
