"""Executions that have ended, with their history."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Client: TypeAlias = Any
"""A boto3 client: its methods are made at run time."""


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
    output: Any
    error: str | None
    cause: str | None
    history: Sequence[Mapping[str, Any]]
    input: Any = None

    @property
    def states_entered(self) -> list[str]:
        """The names of the states in the order in which they were entered."""
        return [
            event["stateEnteredEventDetails"]["name"]
            for event in self.history
            if "stateEnteredEventDetails" in event
        ]

    @property
    def milliseconds(self) -> int:
        """The time from the first event to the last."""
        took: float = (self.history[-1]["timestamp"] - self.history[0]["timestamp"]).total_seconds()
        return round(took * 1000)

    @property
    def text(self) -> str:
        """Everything that a reader of the execution's record sees, for tests that search it for secrets."""
        return json.dumps(
            [self.output, self.error, self.cause, self.history], default=str, ensure_ascii=False
        )


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
