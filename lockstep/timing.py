"""Time-outs, lease and retry policies, for both runners (protocol F3).

`cdk/statemachine.py` writes these into `statemachine.asl.json`; the OCI function uses them as they are. An adapter
tries once, so nothing is retried at two layers (ADR 10).
"""

from dataclasses import dataclass
from datetime import timedelta

from lockstep.errors import LockstepError, LockTableUnreachableError, RetryableError, family

RUN = timedelta(seconds=600)
"""An execution of the state machine ends after this time."""
STEP = timedelta(seconds=60)
"""A step that the state machine called may run this much longer."""
LOCK_CALL = timedelta(seconds=10)
CLOCK_SKEW = timedelta(seconds=60)
"""The largest difference between the clocks of two runners."""
LEASE = timedelta(seconds=900)
"""Longer than RUN, STEP and CLOCK_SKEW together, so a holder is dead before its lease ends (protocol L12)."""

DATABASES_AT_ONCE = 8
"""The number of databases of a credential that are worked on at the same time (protocol M10)."""


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


STEP_POLICY = RetryPolicy(
    errors=tuple(family(RetryableError)), attempts=4, interval_seconds=2, max_delay_seconds=20
)
"""For a step: every error of the retryable family."""

LOCK_POLICY = RetryPolicy(
    errors=(LockTableUnreachableError,), attempts=5, interval_seconds=1, max_delay_seconds=10
)
"""For a call of the lock table by the runner itself."""
