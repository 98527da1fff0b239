"""One execution of the state machine, watched until it ends."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from lockstep.aws.clients import ErrorKind, aws_client, translated
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


@dataclass(frozen=True, kw_only=True)
class Ended:
    """An execution that has ended.

    Attributes:
        status: As Step Functions says it: `SUCCEEDED`, `FAILED`, `TIMED_OUT`, `ABORTED`.
        output: What it returned; empty unless it succeeded.
        error: Its error; None if it succeeded.
        cause: The text of the error.
    """

    arn: str
    status: str
    output: dict[str, Any]
    error: str | None
    cause: str


def started(state_machine_arn: str, asked: RunInput) -> str:
    """Start an execution; its ARN.

    Args:
        state_machine_arn: What to start.
        asked: Its input.

    Raises:
        EnvironmentalError: There is no such state machine, or the call failed.
    """
    with _calls():
        made = _client_of(state_machine_arn).start_execution(
            stateMachineArn=state_machine_arn, input=json.dumps(write(asked))
        )
    return str(made["executionArn"])


def awaited(arn: str, clock: Clock) -> Ended | None:
    """How an execution has ended, once it has; None: it goes on, and is not waited for any longer.

    Raises:
        EnvironmentalError: A call failed; the execution goes on.
    """
    client, deadline = _client_of(arn), clock.monotonic() + TIMEOUT_SECONDS
    while clock.monotonic() < deadline:
        with _calls():
            shown = client.describe_execution(executionArn=arn)
        if shown["status"] != "RUNNING":
            return _ended(arn, shown)
        clock.sleep(POLL_SECONDS)
    return None


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


def _ended(arn: str, shown: Mapping[str, Any]) -> Ended:
    succeeded = shown["status"] == "SUCCEEDED"
    return Ended(
        arn=arn,
        status=shown["status"],
        output=dict(json.loads(shown["output"])) if succeeded else {},
        error=None if succeeded else shown.get("error", shown["status"]),
        cause="" if succeeded else _message(shown.get("cause", "")),
    )


def _message(cause: str) -> str:
    """The text of a function's error, without Lambda's wrapping."""
    try:
        return str(json.loads(cause)["errorMessage"])
    except (ValueError, TypeError, KeyError):
        return cause


def _calls() -> Any:  # noqa: ANN401 - a context manager
    return translated(dict.fromkeys(ErrorKind, partial(EnvironmentalError, Environment.AWS_CALL_REFUSED)))
