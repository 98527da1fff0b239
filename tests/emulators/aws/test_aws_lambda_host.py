import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.emulators.aws import (
    AwsSandbox,
    InvocationContext,
    LambdaServiceError,
    ProcessDied,
)
from tests.emulators.aws.conftest import Runner, invoke


class PolicyRefusedError(Exception):
    pass


def _call(aws: AwsSandbox, function: str, event: object = None) -> tuple[Any, str | None]:
    answer = aws.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event))
    return json.loads(answer["Payload"].read()), answer.get("FunctionError")


@pytest.mark.parametrize(
    "spelling",
    ["{name}", "{account}:function:{name}", "{arn}", "{arn}:$LATEST"],
    ids=str,
)
def test_a_function_is_found_by_every_spelling_of_its_name(aws: AwsSandbox, spelling: str) -> None:
    name = "echo-function"
    aws.lambda_host.register_handler(name, lambda event, _: event)
    function = spelling.format(name=name, account=aws.account_id, arn=aws.lambda_host.arn(name))
    assert _call(aws, function, {"a": [1, None, "é"]}) == ({"a": [1, None, "é"]}, None)


def test_an_unknown_function_is_not_found(aws: AwsSandbox) -> None:
    with pytest.raises(ClientError) as refused:
        _call(aws, "nobody")
    assert refused.value.response["Error"]["Code"] == "ResourceNotFoundException"
    aws.lambda_host.register_handler("nobody", lambda event, _: event)
    _call(aws, "nobody")
    aws.lambda_host.unregister("nobody")
    with pytest.raises(ClientError):
        _call(aws, "nobody")


def test_a_call_that_takes_too_long_is_answered_as_timed_out(aws: AwsSandbox) -> None:
    released = threading.Event()
    aws.lambda_host.register_handler("slow", lambda *_: released.wait(10), timeout_seconds=0.2)
    body, function_error = _call(aws, "slow")
    released.set()
    assert (body["errorType"], function_error) == ("Sandbox.Timedout", "Unhandled")
    assert body["errorMessage"].endswith("Error: Task timed out after 0.20 seconds")


def _leave(_event: object, _context: object) -> None:
    raise SystemExit(1)


def _die(_event: object, _context: object) -> None:
    try:
        _kill()
    except Exception:  # noqa: BLE001  what a careless handler does
        pytest.fail("a handler outlived its process")


@pytest.mark.parametrize("handler", [_leave, _die])
def test_a_process_that_exits_or_dies_is_an_exit_error(
    aws: AwsSandbox, handler: Callable[[Any, Any], None]
) -> None:
    aws.lambda_host.register_handler("gone", handler)
    body, function_error = _call(aws, "gone")
    assert (body["errorType"], function_error) == ("Runtime.ExitError", "Unhandled")


def test_a_hook_kills_a_call_before_its_effect(aws: AwsSandbox) -> None:
    effects: list[Any] = []
    aws.lambda_host.register_handler("act", lambda event, _: effects.append(event))
    aws.lambda_host.before_call = _kill
    assert _call(aws, "act", 1)[0]["errorType"] == "Runtime.ExitError"
    assert effects == []


def test_a_hook_kills_a_call_after_its_effect(aws: AwsSandbox) -> None:
    effects: list[Any] = []
    aws.lambda_host.register_handler("act", lambda event, _: effects.append(event))
    aws.lambda_host.after_call = _kill
    assert _call(aws, "act", 1)[0]["errorType"] == "Runtime.ExitError"
    assert effects == [1]


def _kill(*_: object) -> None:
    raise ProcessDied


def test_a_throttled_call_is_retried_by_the_machine(aws: AwsSandbox, run: Runner) -> None:
    refusals = iter(
        [LambdaServiceError(429, "TooManyRequestsException"), LambdaServiceError(500, "ServiceException")]
    )

    def throttle(_call: InvocationContext, _event: object) -> None:
        for refusal in refusals:
            raise refusal

    aws.lambda_host.before_call = throttle
    aws.lambda_host.register_handler("echo", lambda event, _: event)
    retry = [{"ErrorEquals": ["Lambda.TooManyRequestsException", "Lambda.ServiceException"]}]
    assert run({"Echo": invoke("echo", Retry=retry)}, {"a": 1}).output == {"a": 1}


def test_the_machine_sees_the_class_name_and_the_error_object(aws: AwsSandbox, run: Runner) -> None:
    def refuse(_event: object, _context: object) -> None:
        raise PolicyRefusedError("too short")

    aws.lambda_host.register_handler("refuse", refuse)
    execution = run({"Refuse": invoke("refuse")})
    assert (execution.status, execution.error) == ("FAILED", "PolicyRefusedError")
    assert execution.cause is not None
    assert json.loads(execution.cause)["errorMessage"] == "too short"


def test_the_machine_cannot_call_an_unknown_function(run: Runner) -> None:
    assert run({"Call": invoke("nobody")}).error == "Lambda.ResourceNotFoundException"


@pytest.mark.parametrize(
    "handler", [_leave, lambda *_: threading.Event().wait(20)], ids=["crash", "time-out"]
)
def test_the_machine_sees_a_crash_or_time_out_as_documented(
    aws: AwsSandbox, run: Runner, handler: Callable[[Any, Any], Any]
) -> None:
    aws.lambda_host.register_handler("gone", handler, timeout_seconds=0.2)
    assert run({"Call": invoke("gone")}).error == "Lambda.Unknown"


@pytest.mark.parametrize(
    ("handler", "seconds", "error"),
    [(_leave, 30.0, "Runtime.ExitError"), (lambda *_: threading.Event().wait(20), 0.2, "Sandbox.Timedout")],
    ids=["crash", "time-out"],
)
def test_the_machine_may_see_a_crash_or_time_out_by_its_type(
    handler: Callable[[Any, Any], Any], seconds: float, error: str
) -> None:
    with AwsSandbox(crash_name="errorType") as aws:
        aws.lambda_host.register_handler("gone", handler, timeout_seconds=seconds)
        assert Runner(aws)({"Call": invoke("gone")}).error == error
