"""Lambda: runs registered functions behind the HTTP interface of the Invoke API.

A function takes the event's bytes and an `InvocationContext`, and returns an `InvocationResult`. `python_handler` makes
one of a Python handler that runs in this process, with one thread for each call.

Replies follow the developer guide's pages on invoking functions, on errors, on the Python context
object and on quotas.
"""

import json
import re
import sys
import traceback
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from http import HTTPStatus
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PAYLOAD_LIMIT_BYTES = 6 * 1024 * 1024
DEFAULT_TIMEOUT_SECONDS = 3.0
LATEST = "$LATEST"
"""The version that is not published: what the function is now."""
_FUNCTION_NAME = re.compile(
    r"(?:(?:arn:aws:lambda:[a-z0-9-]+:)?\d{12}:function:)?(?P<name>[A-Za-z0-9_-]+)(?::(?P<version>[A-Za-z0-9$_-]+))?"
)
_INVOKE_PATH = re.compile(r"/2015-03-31/functions/(?P<function>.+)/invocations")


class ProcessDied(BaseException):
    """The process that ran the function ended, as after a crash or a lack of memory.

    Raise it from a hook or inside a handler to kill a call at that point. `except Exception` in a handler does not
    catch it.
    """


class LambdaServiceError(Exception):
    """The Lambda service refused a call, and the function did not run.

    Raise it from a `before_call` hook to refuse a call, as in `LambdaServiceError(429, "TooManyRequestsException")`.
    """

    def __init__(self, status: int, code: str, message: str = "") -> None:
        self.status = status
        self.code = code
        super().__init__(message or code)


@dataclass(frozen=True, kw_only=True)
class InvocationContext:
    """One call.

    Attributes:
        function_name: The name under which the function is registered.
        version: The version that runs.
        function_arn: The ARN in Lambda's format, with the version or the alias if the caller named one.
        request_id: The id of the call.
        timeout_seconds: How long the function may run.
        deadline: The end of its time, on the clock of `time.monotonic`.
        grace_seconds: How long after its deadline it is ended.
    """

    function_name: str
    function_arn: str
    request_id: str
    timeout_seconds: float
    deadline: float
    grace_seconds: float = 0.0
    version: str = LATEST


@dataclass(frozen=True)
class InvocationResult:
    """The result of a call.

    Attributes:
        payload: JSON: what the function returned, or the error object.
        function_error: None for success, else how Lambda classes the error (`Unhandled`).
    """

    payload: bytes
    function_error: str | None = None


Invoke = Callable[[bytes, InvocationContext], InvocationResult]
BeforeCall = Callable[[InvocationContext, Any], None]
AfterCall = Callable[[InvocationContext, Any, InvocationResult], None]


@dataclass(frozen=True)
class Registered:
    """A version of a function that can be called.

    Attributes:
        invoke: Runs one call. It may raise `ProcessDied`; every other failure belongs in its result.
        timeout_seconds: How long a call may take.
        version: What an alias leads to; None where it is called by its own version.
    """

    invoke: Invoke
    timeout_seconds: float
    version: str | None = None


Find = Callable[[str, str], Registered | None]
"""Finds a function by name and version or alias, each time it is called."""


class LambdaContext:
    """The context object of a Python handler, as far as the functions read it."""

    def __init__(self, call: InvocationContext) -> None:
        self._deadline = call.deadline
        self.invoked_function_arn = call.function_arn

    def get_remaining_time_in_millis(self) -> int:
        """The milliseconds until Lambda ends the call."""
        return int(max(0.0, self._deadline - monotonic()) * 1000)


@dataclass
class LambdaHost:
    """A WSGI application that answers Invoke for the functions registered with it.

    A call that exceeds its function's timeout is answered as timed out. The thread of an in-process handler cannot be
    stopped and continues, where Lambda would freeze it: a zombie in the sandbox can do more harm than a real one.

    Attributes:
        region: The functions' region, for their ARNs.
        account_id: Their account, for their ARNs.
        before_call: Called in the call's thread before the function, with the parsed event. May block, or raise
            `ProcessDied` or `LambdaServiceError`. May be set at any time.
        after_call: The same after the function has run, with its result. If it raises `ProcessDied`, the function's
            effects remain, but the caller gets no reply.
        find: Asked for a function or a version that is not registered.
        grace_seconds: How long after its deadline a call is ended. More than 0 for a test of what a function does just
            before, which a busy machine does late.
    """

    region: str
    account_id: str
    before_call: BeforeCall | None = None
    after_call: AfterCall | None = None
    find: Find | None = None
    grace_seconds: float = 0.0
    _functions: dict[str, Registered] = field(default_factory=dict, init=False, repr=False)

    def register(
        self, name: str, invoke: Invoke, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    ) -> None:
        """Answer calls of `name` with `invoke`, which replaces an earlier registration.

        Args:
            name: The function's name, without path, version or alias.
            invoke: Runs one call. It may raise `ProcessDied`; every other failure belongs in its result.
            timeout_seconds: How long a call may take.
        """
        self._functions[name] = Registered(invoke, timeout_seconds)

    def register_handler(
        self,
        name: str,
        handler: Callable[[Any, Any], object],
        *,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> None:
        """Answer calls of `name` with a Python handler in this process."""
        self.register(name, python_handler(handler), timeout_seconds=timeout_seconds)

    def arn(self, name: str) -> str:
        """A function's ARN."""
        return f"arn:aws:lambda:{self.region}:{self.account_id}:function:{name}"

    def invoke(self, function: str, payload: bytes) -> InvocationResult:
        """Call a function and wait for its reply, at most for its timeout.

        Args:
            function: Its name, partial ARN or ARN, with or without a version or alias.
            payload: The event, JSON.

        Raises:
            LambdaServiceError: The call did not reach the function.
        """
        return self._invoke(function, payload, str(uuid.uuid4()))[0]

    def answers(self, method: str, path: str) -> bool:
        """Whether a request calls a function."""
        return method == "POST" and _INVOKE_PATH.fullmatch(path) is not None

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer `POST /2015-03-31/functions/<name or ARN>/invocations`."""
        request = Request(environ)
        request_id = str(uuid.uuid4())
        try:
            function = _in_path(request)
            result, executed = self._invoke(function, request.get_data(), request_id)
        except LambdaServiceError as error:
            response = Response(
                json.dumps({"Type": "User", "Message": str(error)}),
                status=error.status,
                headers={"x-amzn-ErrorType": error.code},
                content_type="application/json",
            )
        else:
            response = Response(
                result.payload, headers={"X-Amz-Executed-Version": executed}, content_type="application/json"
            )
            if result.function_error:
                response.headers["X-Amz-Function-Error"] = result.function_error
        response.headers["x-amzn-RequestId"] = request_id
        return response(environ, start_response)

    def _invoke(self, function: str, payload: bytes, request_id: str) -> tuple[InvocationResult, str]:
        """The result, and the version that has run."""
        name, version = _name_and_version(function)
        arn = self.arn(name) if version is None else f"{self.arn(name)}:{version}"
        registered = self._registered(name, version or LATEST)
        if registered is None:
            raise LambdaServiceError(
                HTTPStatus.NOT_FOUND, "ResourceNotFoundException", f"Function not found: {arn}"
            )
        if len(payload) > PAYLOAD_LIMIT_BYTES:
            raise LambdaServiceError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "RequestTooLargeException",
                f"Request must be smaller than {PAYLOAD_LIMIT_BYTES} bytes for the InvokeFunction operation",
            )
        try:
            event = json.loads(payload or b"{}")
        except ValueError as error:
            raise LambdaServiceError(
                HTTPStatus.BAD_REQUEST,
                "InvalidRequestContentException",
                "Could not parse request body into json",
            ) from error
        call = InvocationContext(
            function_name=name,
            function_arn=arn,
            version=registered.version or version or LATEST,
            request_id=request_id,
            timeout_seconds=registered.timeout_seconds,
            deadline=monotonic() + registered.timeout_seconds,
            grace_seconds=self.grace_seconds,
        )
        answer: Future[InvocationResult] = Future()
        Thread(
            target=self._run, args=(registered.invoke, payload or b"{}", event, call, answer), daemon=True
        ).start()
        return self._answered(answer, call), call.version

    def _registered(self, name: str, version: str) -> Registered | None:
        known = self._functions.get(name) if version == LATEST else None
        return self.find(name, version) if known is None and self.find else known

    def _answered(self, answer: "Future[InvocationResult]", call: InvocationContext) -> InvocationResult:
        done, _ = wait([answer], timeout=call.timeout_seconds + call.grace_seconds)
        if not done:
            return _died(call, "Sandbox.Timedout", f"Task timed out after {call.timeout_seconds:.2f} seconds")
        result = answer.result()
        if len(result.payload) > PAYLOAD_LIMIT_BYTES:
            return _died(
                call,
                "Function.ResponseSizeTooLarge",
                f"Response payload size exceeded {PAYLOAD_LIMIT_BYTES} bytes",
            )
        return result

    def _run(
        self,
        invoke: Invoke,
        payload: bytes,
        event: object,
        call: InvocationContext,
        answer: "Future[InvocationResult]",
    ) -> None:
        try:
            if self.before_call:
                self.before_call(call, event)
            result = invoke(payload, call)
            if self.after_call:
                self.after_call(call, event, result)
        except ProcessDied:
            answer.set_result(_died(call, "Runtime.ExitError", "Runtime exited with error: signal: killed"))
        except BaseException as error:  # noqa: BLE001  no error may be lost in this thread; the waiting thread raises it
            answer.set_exception(error)
        else:
            answer.set_result(result)


def python_handler(handler: Callable[[Any, Any], object]) -> Invoke:
    """Make a function of a Python handler `(event, context) -> result`, as the Python runtime does.

    The event and the result pass through JSON. An exception becomes an error object with the exception's class name,
    text and stack trace; `SystemExit` is a crash.
    """

    def invoke(payload: bytes, call: InvocationContext) -> InvocationResult:
        try:
            result = handler(json.loads(payload), LambdaContext(call))
        except SystemExit as leaving:
            raise ProcessDied from leaving
        except Exception as error:  # noqa: BLE001  the runtime reports every exception of a handler
            return _raised(call, type(error).__name__, str(error))
        try:
            return InvocationResult(json.dumps(result, ensure_ascii=False, allow_nan=False).encode())
        except (TypeError, ValueError) as error:
            return _raised(call, "Runtime.MarshalError", f"Unable to marshal response: {error}")

    return invoke


def _raised(call: InvocationContext, error_type: str, message: str) -> InvocationResult:
    frames = traceback.extract_tb(sys.exc_info()[2])[1:]
    return _unhandled(
        errorMessage=message,
        errorType=error_type,
        requestId=call.request_id,
        stackTrace=traceback.format_list(frames),
    )


def _died(call: InvocationContext, error_type: str, message: str) -> InvocationResult:
    return _unhandled(errorType=error_type, errorMessage=f"RequestId: {call.request_id} Error: {message}")


def _unhandled(**body: object) -> InvocationResult:
    return InvocationResult(json.dumps(body).encode(), function_error="Unhandled")


def _in_path(request: Request) -> str:
    """The function that a request names, with the qualifier of its query."""
    if request.headers.get("X-Amz-Invocation-Type", "RequestResponse") != "RequestResponse":
        raise LambdaServiceError(501, "NotImplemented", "the sandbox runs synchronous invocations only")
    found, qualifier = _INVOKE_PATH.fullmatch(request.path), request.args.get("Qualifier")
    function = found["function"] if found else ""
    return f"{function}:{qualifier}" if qualifier else function


def _name_and_version(function: str) -> tuple[str, str | None]:
    """Both in `name`, `name:version`, `account:function:name` or an ARN; None without a version or alias."""
    spelled = _FUNCTION_NAME.fullmatch(function)
    return (spelled["name"], spelled["version"]) if spelled else (function, None)
