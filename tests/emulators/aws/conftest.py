"""A fresh AWS for every test, and what the tests ask of it."""

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.emulators.aws import AwsSandbox, Execution, create_state_machine
from tests.support.aws import Clock

NOW = 1_732_458_000.25
NUMBERS = count()
END: dict[str, Any] = {"Type": "Succeed"}


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def aws(clock: Clock) -> Iterator[AwsSandbox]:
    with AwsSandbox(wall_clock=clock) as sandbox:
        yield sandbox


def definition(states: Mapping[str, object], **top: object) -> str:
    """A JSONata state machine of these states, which begins with the first one."""
    return json.dumps({"QueryLanguage": "JSONata", "StartAt": next(iter(states)), "States": states, **top})


def created(aws: AwsSandbox, states: Mapping[str, object], **top: object) -> str:
    """The ARN of a new state machine."""
    role = "arn:aws:iam::123456789012:role/machine"
    client, name = aws.client("stepfunctions"), f"machine-{next(NUMBERS)}"
    return create_state_machine(client, name, definition(states, **top), {}, role_arn=role)


def ran(aws: AwsSandbox, states: Mapping[str, object], given: object = None, **top: object) -> Execution:
    """An execution of a new state machine, with this input."""
    return aws.run_execution(created(aws, states, **top), {} if given is None else given)


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


def refused(call: Callable[..., object], **asked: object) -> str:
    """The code with which a call is refused."""
    with pytest.raises(ClientError) as caught:
        call(**asked)
    return str(caught.value.response["Error"]["Code"])


def policy(*statements: Mapping[str, object]) -> str:
    """A policy of these statements, which allow on every resource where they say nothing else."""
    filled = [{"Effect": "Allow", "Resource": "*", **statement} for statement in statements]
    return json.dumps({"Version": "2012-10-17", "Statement": filled})
