"""The sandbox's interpreter is as strict as Step Functions."""

from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.resources import create_lock_table
from sandbox.emulators.databases.process import free_port
from tests.emulators.aws.conftest import Runner, invoke, refused

TOO_BIG = "x" * (256 * 1024 + 1)
CAUGHT: dict[str, Any] = {"Caught": {"Type": "Succeed", "Output": "{% $states.input.Error %}"}}
RETRY_ALL = [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 2}]


def dynamodb(action: str, arguments: dict[str, Any], **fields: object) -> dict[str, Any]:
    """A task that reads or puts an item of the table `locks`."""
    own = {
        "Resource": f"arn:aws:states:::dynamodb:{action}",
        "Arguments": {"TableName": "locks", **arguments},
    }
    return {"Type": "Task", **own, "End": True, **fields}


@pytest.fixture(name="functions", autouse=True)
def _functions(aws: AwsSandbox) -> Iterator[None]:
    create_lock_table(aws.client("dynamodb"), "locks")
    released = Event()
    host = aws.lambda_host
    host.register_handler("big", lambda *_: TOO_BIG)
    host.register_handler("echo", lambda event, _: event)
    host.register_handler("slow", lambda *_: released.wait(60), timeout_seconds=90)
    yield
    released.set()


KEY = {"credential_id": {"S": "app"}}
PUT = dynamodb("putItem", {"Item": {**KEY, "fence": {"N": "{% 1 + 1 %}"}}})
TERMINAL: dict[str, tuple[dict[str, Any], str, str]] = {
    "a result over the limit": (invoke("big"), "States.ALL", "States.DataLimitExceeded"),
    "arguments over the limit": (
        invoke("echo", {"text": "{% $pad('', 262145, 'x') %}"}),
        "States.ALL",
        "States.DataLimitExceeded",
    ),
    "a number that is no text": (PUT, "States.ALL", "States.Runtime"),
    "a number, by its name": (PUT, "States.Runtime", "States.Runtime"),
}


@pytest.mark.parametrize(("task", "catch", "error"), TERMINAL.values(), ids=TERMINAL)
def test_nothing_catches_a_terminal_error(
    run: Runner, naps: list[float], task: dict[str, Any], catch: str, error: str
) -> None:
    caught = {"Retry": RETRY_ALL, "Catch": [{"ErrorEquals": [catch], "Next": "Caught"}]}
    execution = run({"Try": {**task, **caught}, **CAUGHT})
    assert (execution.status, execution.error, naps) == ("FAILED", error, [])
    if error == "States.Runtime":
        assert "'N' must be a STRING" in (execution.cause or "")


def test_a_service_that_does_not_answer_or_takes_too_long_has_a_name(aws: AwsSandbox, run: Runner) -> None:
    answer = Event()

    def wait(_service: str, _operation: str) -> None:
        answer.wait(30)

    aws.on_request = wait
    assert run({"Get": dynamodb("getItem", {"Key": KEY}, TimeoutSeconds=1)}).error == "States.Timeout"
    answer.set()
    aws.route_tasks_to(free_port())
    assert run({"Get": dynamodb("getItem", {"Key": KEY})}).error == "DynamoDB.SdkClientException"


def test_a_timed_out_execution_ends_its_history_there(run: Runner) -> None:
    execution = run({"Try": invoke("slow")}, TimeoutSeconds=1)
    assert (execution.status, execution.error, execution.cause) == ("TIMED_OUT", None, None)
    last = execution.history[-1]
    assert last["type"] == "ExecutionTimedOut"
    assert last["executionTimedOutEventDetails"]["error"] == "States.Timeout"


def test_the_history_is_complete_and_in_pages(aws: AwsSandbox, run: Runner) -> None:
    execution = run({"Echo": invoke("echo", Next="Done"), "Done": {"Type": "Succeed"}}, {"a": "visible"})
    types = [
        *("ExecutionStarted", "TaskStateEntered", "TaskScheduled", "TaskStarted", "TaskSucceeded"),
        *("TaskStateExited", "SucceedStateEntered", "SucceedStateExited", "ExecutionSucceeded"),
    ]
    assert [event["type"] for event in execution.history] == types
    assert execution.text.count("visible") >= 5
    assert run({"Fail": {"Type": "Fail", "Error": "States.Timeout"}}).error == "States.Timeout"
    page = aws.client("stepfunctions").get_execution_history(
        executionArn=execution.arn, maxResults=2, reverseOrder=True
    )
    assert ([event["type"] for event in page["events"]], "nextToken" in page) == (types[:-3:-1], True)
    assert refused(lambda: run({"Done": {"Type": "Succeed"}}, TOO_BIG)) == "ValidationException"
