import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.aws import (
    AwsSandbox,
    InvocationContext,
    InvocationResult,
    LambdaHost,
    LambdaServiceError,
    ProcessDied,
)
from sandbox.aws.lambda_host import LambdaContext
from tests.sandbox.aws.conftest import Runner, invoke


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


def test_a_handler_knows_its_call(aws: AwsSandbox) -> None:
    def tell(_event: object, context: LambdaContext) -> dict[str, object]:
        return {
            "name": context.function_name,
            "arn": context.invoked_function_arn,
            "request": context.aws_request_id,
            "left": context.get_remaining_time_in_millis(),
        }

    aws.lambda_host.new_id = lambda: "request-1"
    aws.lambda_host.register_handler("tell", tell, timeout_seconds=60)
    told, _ = _call(aws, "tell")
    assert told["name"] == "tell"
    assert told["arn"] == aws.lambda_host.arn("tell")
    assert told["request"] == "request-1"
    assert 30_000 < told["left"] <= 60_000


def test_an_exception_becomes_lambdas_error_object(aws: AwsSandbox) -> None:
    def refuse(_event: object, _context: object) -> None:
        raise PolicyRefusedError("too short")

    aws.lambda_host.register_handler("refuse", refuse)
    body, function_error = _call(aws, "refuse")
    assert function_error == "Unhandled"
    assert (body["errorType"], body["errorMessage"]) == ("PolicyRefusedError", "too short")
    assert "refuse" in body["stackTrace"][0]


@pytest.mark.parametrize("result", [{1, 2}, float("nan"), object()], ids=["set", "nan", "object"])
def test_a_result_that_is_not_json_cannot_be_marshalled(aws: AwsSandbox, result: object) -> None:
    aws.lambda_host.register_handler("odd", lambda _event, _context: result)
    body, function_error = _call(aws, "odd")
    assert (body["errorType"], function_error) == ("Runtime.MarshalError", "Unhandled")


def test_an_unknown_function_is_not_found(aws: AwsSandbox) -> None:
    with pytest.raises(ClientError) as refused:
        _call(aws, "nobody")
    assert refused.value.response["Error"]["Code"] == "ResourceNotFoundException"
    aws.lambda_host.register_handler("nobody", lambda event, _: event)
    _call(aws, "nobody")
    aws.lambda_host.unregister("nobody")
    with pytest.raises(ClientError):
        _call(aws, "nobody")


def test_only_synchronous_calls_are_answered(aws: AwsSandbox) -> None:
    aws.lambda_host.register_handler("echo", lambda event, _: event)
    with pytest.raises(ClientError, match="synchronous invocations only"):
        aws.client("lambda").invoke(FunctionName="echo", InvocationType="Event")


def test_a_body_that_is_not_json_never_reaches_the_function(aws: AwsSandbox) -> None:
    aws.lambda_host.register_handler("echo", lambda event, _: event)
    with pytest.raises(ClientError) as refused:
        aws.client("lambda").invoke(FunctionName="echo", Payload=b"{")
    assert refused.value.response["Error"]["Code"] == "InvalidRequestContentException"


def test_six_megabytes_are_the_limit_both_ways() -> None:
    host = LambdaHost(region="eu-central-1", account_id="123456789012")
    host.register("big", lambda _payload, _call: InvocationResult(b'"' + b"x" * 6 * 1024 * 1024 + b'"'))
    answer = host.invoke("big", b"{}")
    assert json.loads(answer.payload)["errorType"] == "Function.ResponseSizeTooLarge"
    with pytest.raises(LambdaServiceError) as refused:
        host.invoke("big", b'"' + b"x" * 6 * 1024 * 1024 + b'"')
    assert refused.value.code == "RequestTooLargeException"


def test_calls_run_in_parallel(aws: AwsSandbox, run: Runner) -> None:
    together = threading.Barrier(3, timeout=10)
    aws.lambda_host.register_handler(
        "meet", lambda _event, _context: together.wait() >= 0, timeout_seconds=15
    )
    execution = run(
        {
            "Each": {
                "Type": "Map",
                "Items": [1, 2, 3],
                "ItemProcessor": {
                    "ProcessorConfig": {"Mode": "INLINE"},
                    "StartAt": "Meet",
                    "States": {"Meet": invoke("meet")},
                },
                "End": True,
            }
        }
    )
    assert execution.output == [True, True, True]


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


def test_hooks_see_the_call_the_event_and_the_result(aws: AwsSandbox) -> None:
    seen: list[object] = []
    aws.lambda_host.register_handler("echo", lambda event, _: event)
    aws.lambda_host.before_call = lambda call, event: seen.append((call.function_name, event))
    aws.lambda_host.after_call = lambda call, event, result: seen.append((call.function_name, event, result))
    _call(aws, "echo", {"a": 1})
    assert seen == [("echo", {"a": 1}), ("echo", {"a": 1}, InvocationResult(b'{"a": 1}'))]


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


def test_another_kind_of_host_answers_behind_the_same_address(aws: AwsSandbox, run: Runner) -> None:
    def shout(payload: bytes, call: InvocationContext) -> InvocationResult:
        return InvocationResult(json.dumps([call.function_name, payload.decode().upper()]).encode())

    aws.lambda_host.register("shout", shout)
    assert _call(aws, "shout", "hi") == (["shout", '"HI"'], None)
    assert run({"Shout": invoke("shout", {"a": "b"})}).output == ["shout", '{"A": "B"}']


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
