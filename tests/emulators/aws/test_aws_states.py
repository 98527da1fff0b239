"""The sandbox's interpreter is as strict as Step Functions."""

import threading
from threading import Event
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.resources import create_lock_table
from sandbox.emulators.databases.process import free_port
from tests.emulators.aws.conftest import Naps, Runner, invoke

_TOO_BIG = "x" * (256 * 1024 + 1)
_CATCH_ALL = [{"ErrorEquals": ["States.ALL"], "Next": "Caught"}]
_RETRY_ALL = [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 2}]


class AdvisoryLockBusyError(Exception):
    pass


def _busy(_event: object, _context: object) -> None:
    raise AdvisoryLockBusyError


def test_states_all_catches_an_error_of_a_function(aws: AwsSandbox, run: Runner, naps: Naps) -> None:
    aws.lambda_host.register_handler("busy", _busy)
    execution = run(
        {"Try": invoke("busy", Retry=_RETRY_ALL, Catch=_CATCH_ALL), "Caught": {"Type": "Succeed"}}
    )
    assert execution.states_entered == ["Try", "Caught"]
    assert naps.taken == [1, 2]


@pytest.mark.parametrize("catch", ["States.ALL", "States.DataLimitExceeded"])
def test_nothing_catches_a_result_over_the_limit(
    aws: AwsSandbox, run: Runner, naps: Naps, catch: str
) -> None:
    aws.lambda_host.register_handler("big", lambda *_: _TOO_BIG)
    execution = run(
        {
            "Try": invoke("big", Retry=_RETRY_ALL, Catch=[{"ErrorEquals": [catch], "Next": "Caught"}]),
            "Caught": {"Type": "Succeed"},
        }
    )
    assert (execution.status, execution.error) == ("FAILED", "States.DataLimitExceeded")
    assert naps.taken == []


def test_nothing_catches_arguments_over_the_limit(aws: AwsSandbox, run: Runner) -> None:
    called: list[object] = []
    aws.lambda_host.register_handler("take", lambda event, _: called.append(event))
    execution = run(
        {
            "Try": invoke("take", {"text": "{% $pad('', 262145, 'x') %}"}, Catch=_CATCH_ALL),
            "Caught": {"Type": "Succeed"},
        }
    )
    assert (execution.status, execution.error) == ("FAILED", "States.DataLimitExceeded")
    assert called == []


@pytest.mark.parametrize("catch", ["States.ALL", "States.Runtime"])
def test_nothing_catches_a_runtime_error(aws: AwsSandbox, run: Runner, catch: str) -> None:
    create_lock_table(aws.client("dynamodb"), "locks")
    execution = run(
        {
            "Put": {
                "Type": "Task",
                "Resource": "arn:aws:states:::dynamodb:putItem",
                "Arguments": {
                    "TableName": "locks",
                    "Item": {"credential_id": {"S": "app"}, "fence": {"N": "{% 1 + 1 %}"}},
                },
                "Catch": [{"ErrorEquals": [catch], "Next": "Caught"}],
                "End": True,
            },
            "Caught": {"Type": "Succeed"},
        }
    )
    assert (execution.status, execution.error) == ("FAILED", "States.Runtime")
    assert execution.cause is not None
    assert "'N' must be a STRING" in execution.cause


def test_a_failed_condition_has_its_own_name(aws: AwsSandbox, run: Runner) -> None:
    create_lock_table(aws.client("dynamodb"), "locks")
    put = {
        "Type": "Task",
        "Resource": "arn:aws:states:::dynamodb:putItem",
        "Arguments": {
            "TableName": "locks",
            "Item": {"credential_id": {"S": "app"}},
            "ConditionExpression": "attribute_not_exists(credential_id)",
        },
        "Catch": [{"ErrorEquals": ["DynamoDB.ConditionalCheckFailedException"], "Next": "Skipped"}],
        "Next": "Acquired",
    }
    states = {"Put": put, "Acquired": {"Type": "Succeed"}, "Skipped": {"Type": "Succeed"}}
    assert run(states).states_entered == ["Put", "Acquired"]
    assert run(states).states_entered == ["Put", "Skipped"]


def test_a_service_that_does_not_answer_is_an_error_of_the_sdk(aws: AwsSandbox, run: Runner) -> None:
    aws.route_tasks_to(free_port())
    get = {
        "Type": "Task",
        "Resource": "arn:aws:states:::dynamodb:getItem",
        "Arguments": {"TableName": "locks", "Key": {"credential_id": {"S": "app"}}},
        "End": True,
    }
    assert run({"Get": get}).error == "DynamoDB.SdkClientException"


def test_a_call_of_a_service_that_takes_too_long_times_out(aws: AwsSandbox, run: Runner) -> None:
    create_lock_table(aws.client("dynamodb"), "locks")
    answer = Event()

    def on_request(_service: str, _operation: str) -> None:
        answer.wait(30)

    aws.on_request = on_request
    get = {
        "Type": "Task",
        "Resource": "arn:aws:states:::dynamodb:getItem",
        "Arguments": {"TableName": "locks", "Key": {"credential_id": {"S": "app"}}},
        "TimeoutSeconds": 1,
        "End": True,
    }
    error = run({"Get": get}).error
    answer.set()
    assert error == "States.Timeout"


def _each(task: dict[str, Any], **fields: object) -> dict[str, Any]:
    return {
        "Each": {
            "Type": "Map",
            "Items": [1, 2],
            "ItemProcessor": {
                "ProcessorConfig": {"Mode": "INLINE"},
                "StartAt": "Inner",
                "States": {"Inner": task},
            },
            "End": True,
            **fields,
        },
        "Caught": {"Type": "Succeed", "Output": "{% $states.input.Error %}"},
    }


def test_a_time_out_inside_a_map_keeps_its_name(aws: AwsSandbox, run: Runner) -> None:
    released = threading.Event()
    aws.lambda_host.register_handler("slow", lambda *_: released.wait(60), timeout_seconds=90)
    execution = run(_each(invoke("slow", TimeoutSeconds=1), Catch=_CATCH_ALL))
    released.set()
    assert (execution.status, execution.output) == ("SUCCEEDED", "States.Timeout")


def test_an_error_inside_a_map_keeps_its_name(aws: AwsSandbox, run: Runner) -> None:
    aws.lambda_host.register_handler("busy", _busy)
    assert run(_each(invoke("busy"), Catch=_CATCH_ALL)).output == "AdvisoryLockBusyError"


def test_a_terminal_error_inside_a_map_ends_the_execution(aws: AwsSandbox, run: Runner) -> None:
    aws.lambda_host.register_handler("big", lambda *_: _TOO_BIG)
    execution = run(_each(invoke("big"), Catch=_CATCH_ALL))
    assert (execution.status, execution.error) == ("FAILED", "States.DataLimitExceeded")


def test_a_timed_out_execution_ends_its_history_there(aws: AwsSandbox, run: Runner) -> None:
    released = threading.Event()
    aws.lambda_host.register_handler("slow", lambda *_: released.wait(60), timeout_seconds=90)
    execution = run({"Try": invoke("slow")}, TimeoutSeconds=1)
    assert (execution.status, execution.error, execution.cause) == ("TIMED_OUT", None, None)
    assert execution.history[-1]["type"] == "ExecutionTimedOut"
    assert execution.history[-1]["executionTimedOutEventDetails"]["error"] == "States.Timeout"
    released.set()
    history = aws.client("stepfunctions").get_execution_history(executionArn=execution.arn)
    assert len(history["events"]) == len(execution.history)


def test_the_history_is_complete(aws: AwsSandbox, run: Runner) -> None:
    aws.lambda_host.register_handler("echo", lambda event, _: event)
    execution = run({"Echo": invoke("echo", Next="Done"), "Done": {"Type": "Succeed"}}, {"a": "visible"})
    assert [event["type"] for event in execution.history] == [
        "ExecutionStarted",
        "TaskStateEntered",
        "TaskScheduled",
        "TaskStarted",
        "TaskSucceeded",
        "TaskStateExited",
        "SucceedStateEntered",
        "SucceedStateExited",
        "ExecutionSucceeded",
    ]
    assert execution.text.count("visible") >= 5


def test_an_input_over_the_limit_is_refused(run: Runner) -> None:
    with pytest.raises(ClientError) as refused:
        run({"Done": {"Type": "Succeed"}}, _TOO_BIG)
    assert refused.value.response["Error"]["Code"] == "ValidationException"
