"""A fresh AWS for every test, and a short way to run a state machine in it."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from sandbox.emulators.aws import AwsSandbox, Execution, create_state_machine
from sandbox.emulators.aws.executions import Client
from tests.support.aws import Clock

ROLE = "arn:aws:iam::123456789012:role/machine"
NOW = 1_732_458_000.25


@dataclass
class Runner:
    """Creates a JSONata state machine of the given states and runs it."""

    aws: AwsSandbox
    numbers: Iterator[int] = field(default_factory=count)

    def __call__(self, states: dict[str, Any], execution_input: object = None, **top: object) -> Execution:
        arn = self.create(states, f"machine-{next(self.numbers)}", **top)
        return self.aws.run_execution(arn, {} if execution_input is None else execution_input)

    def create(self, states: dict[str, Any], name: str, **top: object) -> str:
        """Create it; its ARN."""
        definition = {"QueryLanguage": "JSONata", "StartAt": next(iter(states)), "States": states, **top}
        client = self.aws.client("stepfunctions")
        return create_state_machine(client, name, json.dumps(definition), {}, role_arn=ROLE)


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def naps() -> list[float]:
    """The delays of the retriers."""
    return []


@pytest.fixture
def aws(clock: Clock, naps: list[float]) -> Iterator[AwsSandbox]:
    with AwsSandbox(retry_sleep=naps.append, wall_clock=clock) as sandbox:
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


def refused(call: Callable[..., object], **asked: object) -> str:
    """The code with which a call is refused."""
    with pytest.raises(ClientError) as caught:
        call(**asked)
    return str(caught.value.response["Error"]["Code"])


def any_client(aws: AwsSandbox, service: str, *, key: str, token: str | None = None, **config: Any) -> Client:  # noqa: ANN401 - of botocore
    """A client that checks nothing itself and asks once."""
    make: Any = boto3.client
    own = Config(parameter_validation=False, retries={"total_max_attempts": 1}, **config)
    identity = {"aws_access_key_id": key, "aws_secret_access_key": "x", "aws_session_token": token}
    return make(service, endpoint_url=aws.url, region_name=aws.region, config=own, **identity)


def policy(*statements: Mapping[str, object]) -> str:
    """A policy of these statements, which allow on every resource where they say nothing else."""
    filled = [{"Effect": "Allow", "Resource": "*", **statement} for statement in statements]
    return json.dumps({"Version": "2012-10-17", "Statement": filled})
