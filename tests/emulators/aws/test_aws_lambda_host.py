"""Functions: found by every spelling of their name, ended as on Lambda, and what a state machine sees of it."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from sandbox.emulators.aws import AwsSandbox, ProcessDied
from tests.emulators.aws.conftest import Runner, invoke, refused

Handler = Callable[[Any, Any], Any]


def _call(aws: AwsSandbox, function: str, event: object = None) -> tuple[Any, str | None]:
    answer = aws.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event))
    return json.loads(answer["Payload"].read()), answer.get("FunctionError")


def test_a_function_is_found_by_every_spelling_of_its_name(aws: AwsSandbox) -> None:
    aws.lambda_host.register_handler("echo", lambda event, _: event)
    arn = aws.lambda_host.arn("echo")
    for function in ("echo", f"{aws.account_id}:function:echo", arn, f"{arn}:$LATEST"):
        assert _call(aws, function, {"a": [1, None, "é"]}) == ({"a": [1, None, "é"]}, None), function


def test_an_unknown_function_is_not_found(aws: AwsSandbox, run: Runner) -> None:
    assert refused(aws.client("lambda").invoke, FunctionName="nobody") == "ResourceNotFoundException"
    assert run({"Call": invoke("nobody")}).error == "Lambda.ResourceNotFoundException"


def _kill(*_: object) -> None:
    raise ProcessDied


def _die(*_: object) -> None:
    try:
        _kill()
    except Exception:  # noqa: BLE001  what a careless handler does
        pytest.fail("a handler outlived its process")


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (_die, "Runtime.ExitError"),
        (lambda *_: threading.Event().wait(20), "Sandbox.Timedout"),
    ],
    ids=["dies", "takes too long"],
)
def test_what_dies_or_takes_too_long_has_the_documented_names(
    aws: AwsSandbox, run: Runner, handler: Handler, error: str
) -> None:
    aws.lambda_host.register_handler("gone", handler, timeout_seconds=0.2)
    body, function_error = _call(aws, "gone")
    assert (body["errorType"], function_error) == (error, "Unhandled")
    assert run({"Call": invoke("gone")}).error == "Lambda.Unknown"
