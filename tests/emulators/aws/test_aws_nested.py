"""Tasks that start executions: what they send, what they answer, and which errors they have."""

import json
import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.emulators.aws import AwsSandbox, create_state_machine
from tests.emulators.aws.conftest import ROLE, Runner, invoke

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
def _child(aws: AwsSandbox) -> str:
    definition = {"QueryLanguage": "JSONata", "StartAt": "Look", "States": CHILD}
    return create_state_machine(
        aws.client("stepfunctions"), "child", json.dumps(definition), {}, role_arn=ROLE
    )


@pytest.fixture(name="gate")
def _gate(aws: AwsSandbox) -> Iterator[Event]:
    gate = Event()
    aws.lambda_host.register_handler("wait", lambda *_: gate.wait(30), timeout_seconds=30)
    yield gate
    gate.set()


def start(child: str, pattern: str = ".sync:2", **arguments: object) -> dict[str, Any]:
    """A state that starts an execution, and one that an error leads to."""
    task = {
        "Type": "Task",
        "Resource": f"arn:aws:states:::states:startExecution{pattern}",
        "Arguments": {"StateMachineArn": child, **arguments},
        "Catch": CATCH,
        "Next": "Done",
    }
    return {"Start": task, "Done": {"Type": "Succeed"}, "Caught": {"Type": "Succeed"}}


def wait_for(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_start_answers_at_once(aws: AwsSandbox, run: Runner, child: str, gate: Event) -> None:
    output = run(start(child, "", Name="one", Input={"wait": True})).output
    assert output.keys() == {"ExecutionArn", "StartDate"}
    assert isinstance(output["StartDate"], int)
    found = aws.client("stepfunctions").describe_execution(executionArn=output["ExecutionArn"])
    assert (found["name"], found["status"]) == ("one", "RUNNING")
    gate.set()


@pytest.mark.parametrize(("pattern", "is_json"), [(".sync", False), (".sync:2", True)])
def test_a_start_that_awaits_the_end_answers_how_it_ended(
    run: Runner, child: str, pattern: str, *, is_json: bool
) -> None:
    output = run(start(child, pattern, Name="one", Input={"a": 1})).output
    assert (output["Name"], output["Status"]) == ("one", "SUCCEEDED")
    assert output["StateMachineArn"] == child
    assert all(isinstance(output[name], int) for name in ("StartDate", "StopDate"))
    assert output["Input"] == ({"a": 1} if is_json else '{"a":1}')
    said = output["Output"] if is_json else json.loads(output["Output"])
    assert said == {"said": {"a": 1}}


def test_an_execution_that_fails_fails_the_task_with_its_description(run: Runner, child: str) -> None:
    caught = run(start(child, Name="one", Input={"fail": True})).output
    assert caught["Error"] == "States.TaskFailed"
    cause = json.loads(caught["Cause"])
    assert (cause["Error"], cause["Cause"], cause["Status"]) == ("BadError", "it is bad", "FAILED")
    assert cause["Input"] == {"fail": True}


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


def test_one_name_with_one_input_joins_what_is_running(aws: AwsSandbox, child: str, gate: Event) -> None:
    states = aws.client("stepfunctions")
    asked = {"wait": True}
    states.start_execution(stateMachineArn=child, name="one", input=json.dumps(asked, separators=(",", ":")))
    definition = {
        "QueryLanguage": "JSONata",
        "StartAt": "Start",
        "States": start(child, Name="one", Input=asked),
    }
    joining = create_state_machine(states, "joining", json.dumps(definition), {}, role_arn=ROLE)
    arn = states.start_execution(stateMachineArn=joining, input="{}")["executionArn"]

    def has_begun() -> bool:
        events = states.get_execution_history(executionArn=arn)["events"]
        return any(event["type"] == "TaskSubmitted" for event in events)

    wait_for(has_begun)
    gate.set()
    wait_for(lambda: states.describe_execution(executionArn=arn)["status"] != "RUNNING")
    output = json.loads(states.describe_execution(executionArn=arn)["output"])
    assert output["Status"] == "SUCCEEDED"
    assert len(states.list_executions(stateMachineArn=child)["executions"]) == 1


def test_a_task_that_is_given_up_stops_what_it_awaits(
    aws: AwsSandbox, run: Runner, child: str, gate: Event
) -> None:
    states = start(child, Name="one", Input={"wait": True})
    states["Start"]["TimeoutSeconds"] = 3  # It has started by then what it awaits.
    assert run(states).output["Error"] == "States.Timeout"
    arn = child.replace(":stateMachine:", ":execution:") + ":one"
    wait_for(lambda: aws.client("stepfunctions").describe_execution(executionArn=arn)["status"] != "RUNNING")
    assert aws.client("stepfunctions").describe_execution(executionArn=arn)["status"] == "ABORTED"
    history = aws.client("stepfunctions").get_execution_history(executionArn=arn)["events"]
    assert history[-1]["type"] == "ExecutionAborted"
    gate.set()


def test_an_argument_that_is_not_taken_is_refused(run: Runner, child: str) -> None:
    with pytest.raises(ClientError, match="Field 'Nmae' is not supported"):
        run(start(child, Nmae="one"))


def test_a_call_of_the_sdk_answers_in_its_names(aws: AwsSandbox, run: Runner, child: str) -> None:
    aws.run_execution(child, {"a": 1}, name="one")
    arn = child.replace(":stateMachine:", ":execution:") + ":one"
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:sfn:describeExecution",
        "Arguments": {"ExecutionArn": arn},
        "End": True,
    }
    output = run({"Describe": task}).output
    assert (output["Name"], output["Status"], output["Input"]) == ("one", "SUCCEEDED", '{"a": 1}')
    assert output["StartDate"].endswith("Z")
