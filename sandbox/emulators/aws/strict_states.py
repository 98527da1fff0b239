"""Step Functions as AWS documents it, where moto's interpreter is more lenient or wrong.

Each function corrects one thing and states the fact that it follows. Unless another source is named, the facts are in
the developer guide's pages on error handling, on quotas and on the optimized integrations.
"""

import json
import uuid
from typing import TYPE_CHECKING, cast

from botocore.exceptions import BotoCoreError
from moto.core.exceptions import AWSError
from moto.core.responses import ActionResult
from moto.stepfunctions.exceptions import ValidationException
from moto.stepfunctions.parser import api
from moto.stepfunctions.parser.api import HistoryEventType, InvalidDefinition
from moto.stepfunctions.parser.asl.component.common.error_name.custom_error_name import CustomErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.error_name import ErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.lambda_eval_utils import (
    LambdaFunctionErrorException,
)
from moto.stepfunctions.parser.quotas import is_within_size_quota

from sandbox.emulators.aws.definition import problems
from sandbox.emulators.aws.patching import Foreign, Patches

if TYPE_CHECKING:
    from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails

PAYLOAD_LIMIT_BYTES = 256 * 1024
HISTORY_PAGE = 100
_ASL = "moto.stepfunctions.parser.asl"
_STATE = f"{_ASL}.component.state"
_BACKEND = "moto.stepfunctions.parser.models:StepFunctionsParserBackend"
_CRASHES = frozenset({"Sandbox.Timedout", "Runtime.ExitError"})
_TERMINAL = frozenset({"States.Runtime", "States.DataLimitExceeded"})


def apply(patches: Patches) -> None:
    """Make moto's Step Functions as strict as the real one."""
    send_error_codes(patches)
    check_definitions(patches)
    check_new_executions(patches)
    limit_arguments(patches)
    let_nothing_catch_terminal_errors(patches)
    keep_the_names_of_errors(patches)
    name_crashes(patches)
    take_dynamodb_numbers_as_strings(patches)
    page_histories(patches)


def send_error_codes(patches: Patches) -> None:
    """An error reply has a code; moto sends `InvalidDefinition` and similar errors without one."""
    for error in vars(api).values():
        if isinstance(error, type) and issubclass(error, AWSError) and "code" in vars(error):
            patches.define(error, "TYPE", vars(error)["code"])


def check_definitions(patches: Patches) -> None:
    """A definition that cannot run is refused when the state machine is created.

    moto accepts a dangling Next, an unreachable state, a States.ALL that is not last, invalid JSONata, and arguments
    that the integration does not take.
    """

    def wrapper(original: Foreign) -> object:
        def validate(definition: str) -> None:
            original(definition)
            found = problems(definition)
            if found:
                raise InvalidDefinition(message=f"Invalid State Machine Definition: '{', '.join(found)}'")

        return validate

    patches.wrap(f"{_BACKEND}._validate_definition", wrapper)


def check_new_executions(patches: Patches) -> None:
    """StartExecution takes at most 256 KiB, checks the name, and generates one if there is none.

    moto takes any input and any name, and names every unnamed execution `None`.
    """

    def wrapper(original: Foreign) -> object:
        def start_execution(
            self: Foreign,
            state_machine_arn: str,
            name: str | None,
            execution_input: str | None,
            **rest: Foreign,
        ) -> object:
            if len((execution_input or "").encode()) > PAYLOAD_LIMIT_BYTES:
                raise ValidationException(
                    "1 validation error detected: Value at 'input' failed to satisfy constraint: "
                    f"Member must have length less than or equal to {PAYLOAD_LIMIT_BYTES}"
                )
            name = name or str(uuid.uuid4())
            self._validate_name(name)
            return original(self, state_machine_arn, name, execution_input, **rest)

        return start_execution

    patches.wrap(f"{_BACKEND}.start_execution", wrapper)


def limit_arguments(patches: Patches) -> None:
    """The input and the output of a task are limited to 256 KiB each; moto checks the output only."""

    def wrapper(original: Foreign) -> object:
        def eval_parameters(self: Foreign, env: Foreign) -> object:
            parameters = original(self, env)
            if not is_within_size_quota(parameters):
                raise failure(
                    env,
                    "States.DataLimitExceeded",
                    f"The state/task '{self.name}' was called with arguments that exceed the maximum number of "
                    "bytes service limit.",
                )
            return parameters

        return eval_parameters

    patches.wrap(f"{_STATE}.exec.state_task.state_task:StateTask._eval_parameters", wrapper)


def let_nothing_catch_terminal_errors(patches: Patches) -> None:
    """`States.Runtime` and `States.DataLimitExceeded` end the execution regardless of Retry and Catch.

    According to the guide, States.ALL catches neither, the former "will always cause the execution to fail",
    and the latter is terminal. moto's States.ALL catches both.
    """

    def wrapper(original: Foreign) -> object:
        def eval_body(self: Foreign, env: Foreign) -> None:
            error = env.stack[-1]
            if error is not None and error.error_name in _TERMINAL:
                env.stack[-1] = False
                return
            original(self, env)

        return eval_body

    patches.wrap(f"{_ASL}.component.common.error_name.error_equals_decl:ErrorEqualsDecl._eval_body", wrapper)


def keep_the_names_of_errors(patches: Patches) -> None:
    """A Fail state fails with its own error name, for moto a custom one, which may not begin with `States.`."""
    patches.replace(f"{_STATE}.fail.state_fail:CustomErrorName", _error_name)


def name_crashes(patches: Patches) -> None:
    """A Lambda that crashes or times out fails its task with the error `Lambda.Unknown`.

    The guide says so ("Unhandled errors in Lambda are reported as Lambda.Unknown", which "include out-of-memory errors
    and function timeouts"). Published state machines also retry on `Runtime.ExitError`; that is not emulated.
    """

    def wrapper(original: Foreign) -> object:
        def from_error(self: Foreign, env: Foreign, ex: Exception) -> object:
            event = original(self, env, ex)
            if isinstance(ex, LambdaFunctionErrorException):
                error_type = _error_type(ex.payload)
                if error_type is None or error_type in _CRASHES:
                    event.error_name = _error_name("Lambda.Unknown")
                    next(iter(event.event_details.values()))["error"] = "Lambda.Unknown"
            return event

        return from_error

    task = f"{_STATE}.exec.state_task"
    patches.wrap(f"{task}.service.state_task_service_lambda:StateTaskServiceLambda._from_error", wrapper)
    patches.wrap(f"{task}.state_task_lambda:StateTaskLambda._from_error", wrapper)


def take_dynamodb_numbers_as_strings(patches: Patches) -> None:
    """The DynamoDB integration takes `{"N": "5"}`; with `{"N": 5}` the task cannot start (States.Runtime)."""

    def wrapper(original: Foreign) -> object:
        def eval_service_task(
            self: Foreign,
            env: Foreign,
            resource_runtime_part: Foreign,
            normalised_parameters: Foreign,
            **rest: Foreign,
        ) -> None:
            for kind, value in _attribute_values(normalised_parameters):
                if not isinstance(value, str):
                    raise failure(
                        env,
                        "States.Runtime",
                        f"The arguments could not be used to start the Task: the value for the field '{kind}' "
                        "must be a STRING",
                    )
            original(self, env, resource_runtime_part, normalised_parameters, **rest)

        return eval_service_task

    module = f"{_STATE}.exec.state_task.service.state_task_service_dynamodb"
    patches.wrap(f"{module}:StateTaskServiceDynamoDB._eval_service_task", wrapper)
    patches.wrap(f"{module}:StateTaskServiceDynamoDB._from_error", _name_failures)


def failure(env: Foreign, error: str, cause: str, *, evaluation: bool = False) -> FailureEventException:
    """The exception by which moto's interpreter reports an error of the States language."""
    event_type = HistoryEventType.EvaluationFailed if evaluation else HistoryEventType.TaskFailed
    kind = "evaluationFailedEventDetails" if evaluation else "taskFailedEventDetails"
    details = cast("EventDetails", {kind: {"error": error, "cause": cause}})
    return FailureEventException(
        FailureEvent(env=env, error_name=_error_name(error), event_type=event_type, event_details=details)
    )


def _name_failures(original: Foreign) -> object:
    """A task out of time and a call without an answer have names; moto gives all that is no ClientError one name.

    (https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html)
    """

    def from_error(self: Foreign, env: Foreign, ex: Exception) -> object:
        if isinstance(ex, FailureEventException):
            return ex.failure_event
        if isinstance(ex, TimeoutError):
            return self._get_timed_out_failure_event(env)
        if isinstance(ex, BotoCoreError):
            return failure(env, "DynamoDB.SdkClientException", str(ex)).failure_event
        return original(self, env, ex)

    return from_error


def _error_name(error_name: str) -> ErrorName:
    if error_name in {known.to_name() for known in StatesErrorNameType}:
        return StatesErrorName.from_name(error_name)
    return CustomErrorName(error_name)


def _error_type(payload: str) -> str | None:
    body = json.loads(payload)
    error_type = body.get("errorType") if isinstance(body, dict) else None
    return error_type if isinstance(error_type, str) else None


def _attribute_values(parameters: Foreign) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    match parameters:
        case {"N": value} | {"S": value} if len(parameters) == 1:
            found.append((next(iter(parameters)), value))
        case dict():
            for value in parameters.values():
                found += _attribute_values(value)
        case list():
            for value in parameters:
                found += _attribute_values(value)
    return found


def page_histories(patches: Patches) -> None:
    """GetExecutionHistory gives pages, a hundred events unless the caller says otherwise, on request the newest first.

    moto gives all events, the oldest first, whatever the caller asks
    (https://docs.aws.amazon.com/step-functions/latest/apireference/API_GetExecutionHistory.html).
    """

    def get_execution_history(self: Foreign) -> ActionResult:
        found = self.stepfunction_backend.get_execution_history(self._get_param("executionArn"))
        events = list(found["events"])
        if self._get_bool_param("reverseOrder", False):
            events.reverse()
        start = int(self._get_param("nextToken") or 0)
        end = start + (int(self._get_param("maxResults") or 0) or HISTORY_PAGE)
        more = {"nextToken": str(end)} if end < len(events) else {}
        return ActionResult({"events": events[start:end], **more})

    patches.replace(
        "moto.stepfunctions.responses:StepFunctionResponse.get_execution_history", get_execution_history
    )
