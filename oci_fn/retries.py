"""The retry policies of `lockstep.protocol.deadlines`, for a runner without Step Functions (protocol F3)."""

import random
from collections.abc import Callable
from typing import TypeVar

from lockstep.protocol.deadlines import STEP_POLICY, RetryPolicy
from lockstep.protocol.errors import DeadlineExceededError, LockstepError, UnexpectedError
from lockstep.protocol.ports import Clock

Result = TypeVar("Result")


class Retries:
    """Calls a function, and calls it again as the policy says.

    Attributes:
        states_ms: How long the calls of each state took, with what was waited between tries, in milliseconds.

    Args:
        clock: Waits between tries.
        deadline: In the clock's monotonic seconds. After it no call begins, except the owed ones of a failed run
            (protocol F3).
        jitter: Returns the factor of a delay, 0 to 1.
    """

    def __init__(self, clock: Clock, *, deadline: float, jitter: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._deadline = deadline
        self._jitter = jitter
        self.states_ms: dict[str, int] = {}

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
        began = self._clock.monotonic()
        try:
            return self._try(state, work, policy=policy, is_owed=is_owed)
        finally:
            took_ms = round((self._clock.monotonic() - began) * 1000)
            self.states_ms[state] = self.states_ms.get(state, 0) + took_ms

    def _try(self, state: str, work: Callable[[], Result], *, policy: RetryPolicy, is_owed: bool) -> Result:
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
            except Exception as e:  # noqa: BLE001 - its text may hold a secret (protocol F1)
                raise UnexpectedError(code=type(e).__name__) from None
