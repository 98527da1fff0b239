"""A fresh AWS for every test, and a short way to run a state machine in it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from sandbox.emulators.aws import AwsSandbox, Execution, create_state_machine

ROLE = "arn:aws:iam::123456789012:role/machine"
NOW = 1_732_458_000.25


@dataclass
class Clock:
    """A wall clock that moves only when it is told to."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class Naps:
    """Records the delays of the retriers."""

    taken: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


@dataclass
class Runner:
    """Creates a JSONata state machine of the given states and runs it."""

    aws: AwsSandbox
    numbers: Iterator[int] = field(default_factory=count)

    def __call__(self, states: dict[str, Any], execution_input: object = None, **top: object) -> Execution:
        definition = {"QueryLanguage": "JSONata", "StartAt": next(iter(states)), "States": states, **top}
        arn = create_state_machine(
            self.aws.client("stepfunctions"),
            f"machine-{next(self.numbers)}",
            json.dumps(definition),
            {},
            role_arn=ROLE,
        )
        return self.aws.run_execution(arn, {} if execution_input is None else execution_input)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
def aws(clock: Clock, naps: Naps) -> Iterator[AwsSandbox]:
    with AwsSandbox(retry_sleep=naps, wall_clock=clock) as sandbox:
        yield sandbox


@pytest.fixture
def run(aws: AwsSandbox) -> Runner:
    return Runner(aws)


def invoke(function: str, payload: object = "{% $states.input %}", **fields: object) -> dict[str, Any]:
    """A task that calls a function and by default ends the machine."""
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Arguments": {"FunctionName": function, "Payload": payload},
        "Output": "{% $states.result.Payload %}",
        **fields,
    }
    return task if "Next" in task else {**task, "End": True}
