"""The retry policies of `lockstep.timing`, for a runner without Step Functions (protocol F3)."""

import random
from collections.abc import Callable
from typing import TypeVar

from lockstep.errors import DeadlineExceededError, LockstepError, UnexpectedError
from lockstep.ports import Clock
from lockstep.timing import STEP_POLICY, RetryPolicy

Result = TypeVar("Result")


class Retries:
    """Calls a function, and calls it again as the policy says.

    Args:
        clock: Waits between tries.
        deadline: In the clock's monotonic seconds. After it no call begins, except the owed ones of a failed run
            (protocol F8).
        jitter: Returns the factor of a delay, 0 to 1.
    """

    def __init__(self, clock: Clock, *, deadline: float, jitter: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._deadline = deadline
        self._jitter = jitter

    def call(
        self,
        state: str,
        work: Callable[[], Result],
        *,
        policy: RetryPolicy = STEP_POLICY,
        is_owed: bool = False,
    ) -> Result:
        """Do the work.

        Args:
            state: The state that does this work in the state machine.
            work: Returns, or raises one of Lockstep's errors.
            policy: When to try again.
            is_owed: The first try begins even after the deadline.

        Raises:
            LockstepError: The work's last error.
            DeadlineExceededError: The deadline has passed; `code` is the state.
        """
        retries = 0
        while True:
            if self._clock.monotonic() >= self._deadline and (retries or not is_owed):
                raise DeadlineExceededError(code=state)
            try:
                return work()
            except LockstepError as e:
                if not isinstance(e, policy.errors) or retries == policy.attempts:
                    raise
                self._clock.sleep(policy.delay_seconds(retries) * self._jitter())
                retries += 1
            except Exception as e:  # noqa: BLE001 - its text may hold a secret (protocol F6)
                raise UnexpectedError(code=type(e).__name__) from None
