"""One execution of the state machine, watched until it ends."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from lockstep.aws.clients import aws_client, translated
from lockstep.operate.documents import Rotated, StateOfMachine
from lockstep.operate.formatting import to_second
from lockstep.plan.model import Plan
from lockstep.protocol.errors import Environment, EnvironmentalError, ErrorKind
from lockstep.protocol.messages import RunInput
from lockstep.protocol.names import LIVE, state_machine_name
from lockstep.protocol.ports import Clock
from lockstep.protocol.strict_json import write

TIMEOUT_SECONDS = 660.0
"""The longest time that an execution may run, plus a minute."""


RUNNING = "RUNNING"
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
        self._client = aws_client("stepfunctions", state_machine_arn.split(":")[3])
        with _calls():
            started = self._client.start_execution(
                stateMachineArn=state_machine_arn, input=json.dumps(write(asked))
            )
        self.arn: str = started["executionArn"]

    def look(self) -> Rotated:
        """What is known of it now, with all states so far.

        Raises:
            EnvironmentalError: There is none, or a call failed.
        """
        with _calls():
            shown = self._client.describe_execution(executionArn=self.arn)
            # After the description, so that at the end no state is missing.
            history = self._client.get_execution_history(
                executionArn=self.arn, includeExecutionData=False, maxResults=MOST_EVENTS
            )
        states = [
            StateOfMachine(state=entered["name"], entered_at=to_second(event["timestamp"]))
            for event in history["events"]
            if (entered := event.get("stateEnteredEventDetails"))
        ]
        status, told = shown["status"], dict[str, Any]()
        if status == "SUCCEEDED":
            output = json.loads(shown["output"])
            told = {name: output[name] for name in ("outcome", "generation") if name in output}
        elif status != RUNNING:
            told = {"error": shown.get("error", status), "cause": _message(shown.get("cause", ""))}
        return Rotated(execution=self.arn, status=status, states=states, **told)

    def followed(self, clock: Clock) -> Iterator[Rotated]:
        """What is known of it at each look; the last one has ended, unless it takes too long.

        Raises:
            AwsCallRefusedError: A call failed; the execution goes on.
        """
        deadline = clock.monotonic() + TIMEOUT_SECONDS
        while clock.monotonic() < deadline:
            found = self.look()
            yield found
            if found.status != RUNNING:
                return
            clock.sleep(POLL_SECONDS)


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


def _message(cause: str) -> str:
    """The text of a function's error, without Lambda's wrapping."""
    try:
        return str(json.loads(cause)["errorMessage"])
    except (ValueError, TypeError, KeyError):
        return cause


def _calls() -> Any:  # noqa: ANN401 - a context manager
    return translated(dict.fromkeys(ErrorKind, partial(EnvironmentalError, Environment.AWS_CALL_REFUSED)))
