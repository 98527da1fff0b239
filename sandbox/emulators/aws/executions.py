"""Runs a state machine to its end and keeps its history."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Client: TypeAlias = Any
"""A boto3 client: its methods are made at run time."""

Json: TypeAlias = Any
Event = Mapping[str, Any]


class ExecutionStillRunningError(Exception):
    """The execution exceeded its time and was stopped."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """An execution that has ended.

    Attributes:
        arn: Names the execution.
        status: `SUCCEEDED`, `FAILED`, `TIMED_OUT` or `ABORTED`.
        output: What it returned, parsed; None unless it succeeded.
        error: The error's name; None unless it failed.
        cause: The error's text; None unless it failed.
        history: All events in the order of their ids, as `GetExecutionHistory` gives them.
        input: What it was started with.
    """

    arn: str
    status: str
    output: Json
    error: str | None
    cause: str | None
    history: Sequence[Event]
    input: Json = None

    @property
    def states_entered(self) -> list[str]:
        """The names of the states in the order in which they were entered."""
        return [
            event["stateEnteredEventDetails"]["name"]
            for event in self.history
            if "stateEnteredEventDetails" in event
        ]

    @property
    def text(self) -> str:
        """Everything that a reader of the execution's record sees, for tests that search it for secrets."""
        return json.dumps(
            [self.output, self.error, self.cause, self.history], default=str, ensure_ascii=False
        )


def run_execution(
    stepfunctions: Client,
    state_machine_arn: str,
    execution_input: Json,
    *,
    timeout_seconds: float = 30.0,
    name: str | None = None,
    poll_seconds: float = 0.05,
) -> Execution:
    """Start an execution and wait for its end.

    Args:
        stepfunctions: A boto3 client.
        state_machine_arn: What to run.
        execution_input: Any JSON value.
        timeout_seconds: How long it may run.
        name: The execution's name; made by the client if None.
        poll_seconds: Between two looks at it. Each look takes ten milliseconds of processor time.

    Raises:
        ExecutionStillRunningError: It exceeded its time.
    """
    given_name = {"name": name} if name else {}
    arn = stepfunctions.start_execution(
        stateMachineArn=state_machine_arn, input=json.dumps(execution_input), **given_name
    )["executionArn"]
    deadline = time.monotonic() + timeout_seconds
    while stepfunctions.describe_execution(executionArn=arn)["status"] == "RUNNING":
        if time.monotonic() > deadline:
            stepfunctions.stop_execution(executionArn=arn)
            raise ExecutionStillRunningError(f"{arn} ran for more than {timeout_seconds} s")
        time.sleep(poll_seconds)
    return ended(stepfunctions, arn)


def ended(stepfunctions: Client, arn: str) -> Execution:
    """An execution that has ended."""
    description = stepfunctions.describe_execution(executionArn=arn)
    pages = stepfunctions.get_paginator("get_execution_history").paginate(executionArn=arn)
    return Execution(
        arn=arn,
        input=json.loads(description["input"]),
        status=description["status"],
        output=json.loads(description["output"]) if "output" in description else None,
        error=description.get("error"),
        cause=description.get("cause"),
        history=[event for page in pages for event in page["events"]],
    )
