"""The retries of `statemachine.asl.json`, for a runner without Step Functions."""

import random
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lockstep.errors import (
    DeadlineExceededError,
    LockstepError,
    LockTableUnreachableError,
    UnexpectedError,
)
from lockstep.ports import Clock

Result = TypeVar("Result")


class Retries:
    """Calls work with the Retry block of a state.

    Args:
        definition: The parsed state machine.
        clock: Waits between tries.
        deadline: On the clock's monotonic seconds; no call is begun after it, but for what a failed run owes.
        jitter: Draws the part of a delay that is waited, 0 to 1.
    """

    def __init__(
        self,
        definition: Mapping[str, Any],
        clock: Clock,
        *,
        deadline: float,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._states = definition["States"]
        self._clock = clock
        self._deadline = deadline
        self._jitter = jitter

    def call(self, path: tuple[str, ...], work: Callable[[], Result], *, is_owed: bool = False) -> Result:
        """Do the work, again where the state says so.

        Args:
            path: The state's name, after the names of the Maps around it.
            work: Raises one of our errors, or returns.
            is_owed: Begun also when the time is up, though not again then.

        Raises:
            LockstepError: What the work raised at last.
            DeadlineExceededError: The time is up.
        """
        rules = _retry_rules(self._states, path)
        tries = [0] * len(rules)
        while True:
            if self._clock.monotonic() >= self._deadline and (any(tries) or not is_owed):
                raise DeadlineExceededError
            try:
                return work()
            except LockstepError as e:
                number = next((i for i, rule in enumerate(rules) if _matches(rule, e)), None)
                if number is None or tries[number] >= rules[number]["MaxAttempts"]:
                    raise
                self._clock.sleep(_delay(rules[number], tries[number]) * self._jitter())
                tries[number] += 1
            except Exception as e:  # noqa: BLE001 - as the Lambda face does: its text may hold a secret
                raise UnexpectedError(code=type(e).__name__) from None


def _delay(rule: Mapping[str, Any], tries: int) -> float:
    return float(min(rule["IntervalSeconds"] * rule["BackoffRate"] ** tries, rule["MaxDelaySeconds"]))


def _retry_rules(states: Mapping[str, Any], path: tuple[str, ...]) -> list[Any]:
    state = states[path[0]]
    for name in path[1:]:
        state = state["ItemProcessor"]["States"][name]
    rules: list[Any] = state["Retry"]
    return rules


def _matches(rule: Mapping[str, Any], error: LockstepError) -> bool:
    names = rule["ErrorEquals"]
    # Where the state machine calls DynamoDB itself, its errors have DynamoDB's names.
    from_dynamodb = isinstance(error, LockTableUnreachableError) and any(
        n.startswith("DynamoDB.") for n in names
    )
    return type(error).__name__ in names or from_dynamodb
