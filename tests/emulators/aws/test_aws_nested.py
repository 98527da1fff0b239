"""Tasks that start executions: what they send, what they answer, and which errors they have."""

import json
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest

from sandbox.emulators.aws import AwsSandbox
from tests.emulators.aws.conftest import Runner, invoke
from tests.support.settling import until

CHILD = {
    "Look": {
        "Type": "Choice",
        "Choices": [
            {"Condition": "{% $states.input.fail = true %}", "Next": "Bad"},
            {"Condition": "{% $states.input.wait = true %}", "Next": "Wait"},
        ],
        "Default": "Good",
    },
    "Bad": {"Type": "Fail", "Error": "BadError", "Cause": "it is bad"},
    "Wait": invoke("wait"),
    "Good": {"Type": "Succeed", "Output": {"said": "{% $states.input %}"}},
}
CATCH = [{"ErrorEquals": ["States.ALL"], "Output": "{% $states.errorOutput %}", "Next": "Caught"}]


@pytest.fixture(name="child")
def _child(run: Runner) -> str:
    return run.create(CHILD, "child")


@pytest.fixture(name="gate")
def _gate(aws: AwsSandbox) -> Iterator[Event]:
    gate = Event()
    aws.lambda_host.register_handler("wait", lambda *_: gate.wait(30), timeout_seconds=30)
    yield gate
    gate.set()


def start(child: str, **arguments: object) -> dict[str, Any]:
    """A state that starts an execution and awaits it, and one that an error leads to."""
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::states:startExecution.sync:2",
        "Arguments": {"StateMachineArn": child, **arguments},
        "Catch": CATCH,
        "Next": "Done",
    }
    return {"Start": task, "Done": {"Type": "Succeed"}, "Caught": {"Type": "Succeed"}}


def test_a_start_that_awaits_the_end_answers_how_it_ended(run: Runner, child: str) -> None:
    output = run(start(child, Name="one", Input={"a": 1})).output
    found = {name: output[name] for name in ("Name", "Status", "StateMachineArn", "Input", "Output")}
    assert list(found.values()) == ["one", "SUCCEEDED", child, {"a": 1}, {"said": {"a": 1}}]
    assert all(isinstance(output[name], int) for name in ("StartDate", "StopDate"))


def test_an_execution_that_fails_fails_the_task_with_its_description(run: Runner, child: str) -> None:
    caught = run(start(child, Name="one", Input={"fail": True})).output
    cause = json.loads(caught["Cause"])
    assert (caught["Error"], cause["Error"], cause["Cause"], cause["Status"], cause["Input"]) == (
        *("States.TaskFailed", "BadError", "it is bad", "FAILED"),
        {"fail": True},
    )


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            {"StateMachineArn": "arn:aws:states:eu-central-1:123456789012:stateMachine:no"},
            "StateMachineDoesNotExist",
        ),
        ({"Name": "with space"}, "InvalidName"),
        ({"Name": "taken", "Input": {"other": 1}}, "ExecutionAlreadyExists"),
        ({"Name": "taken"}, "ExecutionAlreadyExists"),
    ],
)
def test_a_refused_start_has_the_name_of_its_error(
    aws: AwsSandbox, run: Runner, child: str, arguments: dict[str, Any], error: str
) -> None:
    aws.run_execution(child, {}, name="taken")
    caught = run(start(arguments.get("StateMachineArn", child), **arguments)).output
    assert caught["Error"] == f"StepFunctions.{error}Exception"


def test_a_task_given_up_stops_what_it_awaits(aws: AwsSandbox, run: Runner, child: str, gate: Event) -> None:
    states = start(child, Name="one", Input={"wait": True})
    states["Start"]["TimeoutSeconds"] = 3  # It has started by then what it awaits.
    assert run(states).output["Error"] == "States.Timeout"
    arn = child.replace(":stateMachine:", ":execution:") + ":one"
    client = aws.client("stepfunctions")
    until(lambda: client.describe_execution(executionArn=arn)["status"] == "ABORTED")
    history = client.get_execution_history(executionArn=arn)["events"]
    assert history[-1]["type"] == "ExecutionAborted"
    gate.set()
