"""One execution of the state machine, watched until it ends."""

import json
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

from lockstep.aws.clients import ErrorKind, aws_client, translated
from lockstep.operate.documents import Rotated, StateOfMachine
from lockstep.operate.formatting import to_second
from lockstep.plan.model import Plan
from lockstep.protocol.errors import (
    Environment,
    EnvironmentalError,
)
from lockstep.protocol.messages import RunInput
from lockstep.protocol.names import LIVE, state_machine_name
from lockstep.protocol.ports import Clock
from lockstep.protocol.strict_json import write

TIMEOUT_SECONDS = 660.0
"""The longest time that an execution may run, plus a minute."""


POLL_SECONDS = 1.0
MOST_EVENTS = 1000
"""The most that a page of a history has: all of a rotation's, which has some hundred."""


class Execution:
    """An execution that was started here, and is looked at again and again.

    Args:
        state_machine_arn: What to start.
        asked: Its input.
    """

    def __init__(self, state_machine_arn: str, asked: RunInput) -> None:
        self._client = _client_of(state_machine_arn)
        with _calls():
            started = self._client.start_execution(
                stateMachineArn=state_machine_arn, input=json.dumps(write(asked))
            )
        self.arn: str = started["executionArn"]

    def look(self) -> tuple[dict[str, Any], tuple[StateOfMachine, ...]]:
        """Its description, and all states so far.

        Raises:
            EnvironmentalError: There is none, or a call failed.
        """
        with _calls():
            shown = self._client.describe_execution(executionArn=self.arn)
            # After the description, so that at the end no state is missing.
            history = self._client.get_execution_history(
                executionArn=self.arn, includeExecutionData=False, maxResults=MOST_EVENTS
            )
            entered = [
                (event["stateEnteredEventDetails"]["name"], event["timestamp"])
                for event in history["events"]
                if "stateEnteredEventDetails" in event
            ]
        return shown, tuple(_until_next(entered, shown.get("stopDate")))

    def followed(self, clock: Clock) -> Iterator[tuple[Rotated | None, tuple[StateOfMachine, ...]]]:
        """How it has ended, None as long as it has not, and all states so far, at each look; gives up after a while.

        Raises:
            AwsCallRefusedError: A call failed; the execution goes on.
        """
        deadline = clock.monotonic() + TIMEOUT_SECONDS
        while clock.monotonic() < deadline:
            shown, states = self.look()
            if shown["status"] != "RUNNING":
                yield _ended(self.arn, shown, states), states
                return
            yield None, states
            clock.sleep(POLL_SECONDS)


def _client_of(arn: str) -> Any:  # noqa: ANN401 - botocore makes its clients' types at run time
    """A client of Step Functions where that is."""
    return aws_client("stepfunctions", arn.split(":")[3])


def require_machine(arn: str) -> None:
    """Look whether there is such a state machine, or alias of one.

    Raises:
        AwsCallRefusedError: There is none, or AWS does not say.
    """
    with _calls():
        _client_of(arn).describe_state_machine(stateMachineArn=arn)


def located(plan: Plan, stack: str) -> str:
    """The ARN of the alias `live` of the stack's state machine, in the plan's region and the caller's account.

    Raises:
        EnvironmentalError: AWS does not say which account that is.
    """
    region = plan.lock.region
    with _calls():
        caller = aws_client("sts", region).get_caller_identity()
        partition, account = str(caller["Arn"]).split(":")[1], caller["Account"]
    return f"arn:{partition}:states:{region}:{account}:stateMachine:{state_machine_name(stack)}:{LIVE}"


def _until_next(entered: list[tuple[str, datetime]], stopped: datetime | None) -> Iterator[StateOfMachine]:
    for (name, at), left_at in zip(entered, [*(at for _, at in entered[1:]), stopped], strict=False):
        seconds = (left_at - at).total_seconds() if left_at else None
        yield StateOfMachine(state=name, entered_at=to_second(at), seconds=seconds)


def _ended(arn: str, shown: dict[str, Any], states: tuple[StateOfMachine, ...]) -> Rotated:
    status = shown["status"]
    if status != "SUCCEEDED":
        error, cause = shown.get("error", status), _message(shown.get("cause", ""))
        return Rotated(execution=arn, status=status, error=error, cause=cause, states=states)
    output = json.loads(shown["output"])
    told = {name: output[name] for name in ("outcome", "generation") if name in output}
    return Rotated(execution=arn, status=status, **told, states=states)


def _message(cause: str) -> str:
    """The text of a function's error, without Lambda's wrapping."""
    try:
        return str(json.loads(cause)["errorMessage"])
    except (ValueError, TypeError, KeyError):
        return cause


def _calls() -> Any:  # noqa: ANN401 - a context manager
    return translated(dict.fromkeys(ErrorKind, partial(EnvironmentalError, Environment.AWS_CALL_REFUSED)))
