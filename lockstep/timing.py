"""Time-outs, lease and retry policies, for both runners (protocol F3).

`cdk/` writes these into `statemachine.asl.json` and `cdk/fleet.asl.json`; the OCI function uses them as they are. An
adapter tries once, so nothing is retried at two layers (ADR 10).
"""

from dataclasses import dataclass
from datetime import timedelta

from lockstep.errors import LockstepError, LockTableUnreachableError, RetryableError, family

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
"""Ends before the other runner is called, half an interval after this one (protocol L12, R9)."""
RUN = LEASE - STEP - CLOCK_SKEW
"""An execution ends after this time, so that its holder is dead before its lease ends (protocol L12)."""
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

CALLS_AT_ONCE = 24
"""The threads of a process, for calls that run at the same time: two secrets in the four slots of a ring and in three
other stores, or eight databases with three hosts each, do not wait for one another (protocol M10)."""

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
    interval_seconds: int
    max_delay_seconds: int
    backoff_rate: int = 2

    def delay_seconds(self, retries: int) -> float:
        """The longest delay after so many retries."""
        return float(min(self.interval_seconds * self.backoff_rate**retries, self.max_delay_seconds))

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
