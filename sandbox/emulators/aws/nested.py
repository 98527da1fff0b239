"""How a task calls Step Functions itself: it starts an execution, awaits it, and describes a run of a Map.

moto's tasks send the names of the States language where the API wants its own, and fail. Each function corrects one
thing and states the fact that it follows
(https://docs.aws.amazon.com/step-functions/latest/dg/connect-stepfunctions.html).
"""

import json
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from threading import Lock
from typing import Any

import botocore.session
from botocore.exceptions import ClientError
from botocore.model import ServiceModel, StructureShape
from moto.stepfunctions.parser.asl.component.state.exec.state_task.credentials import StateCredentials
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.utils import boto_client
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from sandbox.emulators.aws.patching import Foreign, Patches
from sandbox.emulators.aws.policies import Call
from sandbox.emulators.aws.strict_states import failure

Judge = Callable[[str, Call], bool]
"""Whether the role of this ARN may make a call; a role that is not known may."""

RULE = "StepFunctionsGetEventsForStepFunctionsExecutionRule"
"""By it Step Functions learns that an execution which a task awaits has ended."""

_SERVICE = "moto.stepfunctions.parser.asl.component.state.exec.state_task.service"
_SFN = f"{_SERVICE}.state_task_service_sfn:StateTaskServiceSfn"
_SDK = f"{_SERVICE}.state_task_service_aws_sdk:StateTaskServiceAwsSdk"
_LOOK_SECONDS = 0.02


def apply(patches: Patches, judge: Judge) -> None:
    """Let tasks call Step Functions as on AWS."""
    name_the_arguments(patches)
    name_failed_calls(patches)
    await_executions(patches, judge)
    use_the_names_of_the_sdk(patches)
    take_a_name_once(patches)


def name_the_arguments(patches: Patches) -> None:
    """StartExecution takes `StateMachineArn`, `Name` and `Input`; its answer is `ExecutionArn` and `StartDate`.

    The input is any JSON; without a name there is a new one.
    """

    def normalise_parameters(
        _self: Foreign, parameters: Foreign, *_more: Foreign, **_fields: Foreign
    ) -> None:
        given = dict(parameters)
        parameters.clear()
        parameters["stateMachineArn"] = given["StateMachineArn"]
        parameters["name"] = given.get("Name") or str(uuid.uuid4())
        found = given.get("Input", {})
        parameters["input"] = (
            found if isinstance(found, str) else json.dumps(found, separators=(",", ":"), ensure_ascii=False)
        )

    def normalise_response(_self: Foreign, response: Foreign, *_more: Foreign, **_fields: Foreign) -> None:
        _rename(response)

    patches.define_method(_SFN, "_normalise_parameters", normalise_parameters)
    patches.define_method(_SFN, "_normalise_response", normalise_response)


def name_failed_calls(patches: Patches) -> None:
    """A refused StartExecution is an error of the service's name: of its model, or of its client where it has none.

    moto appends `Exception` to every code, also to those that end with it.
    """
    modelled = {
        shape.metadata.get("error", {}).get("code", shape.name)
        for shape in _model("stepfunctions").error_shapes
    }

    def wrapper(original: Foreign) -> object:
        def from_error(self: Foreign, env: Foreign, ex: Exception) -> object:
            event = original(self, env, ex)
            if isinstance(ex, ClientError):
                code = ex.response["Error"]["Code"]
                name = (
                    f"{code.removesuffix('Exception')}Exception"
                    if code in modelled
                    else "AWSStepFunctionsException"
                )
                return failure(
                    env, f"StepFunctions.{name}", event.event_details["taskFailedEventDetails"]["cause"]
                ).failure_event
            return event

        return from_error

    patches.wrap(f"{_SFN}._from_error", wrapper)


def await_executions(patches: Patches, judge: Judge) -> None:
    """`.sync:2` awaits the end, by a rule that the role must be allowed to make, and reads how it ended.

    Any end but a success fails the task with `States.TaskFailed`, whose cause is what DescribeExecution answers;
    input and output are JSON. A task that is aborted or times out stops what it has started, if it
    may (https://docs.aws.amazon.com/step-functions/latest/dg/connect-to-resource.html#connect-sync).
    """

    def build(_self: Foreign, env: Environment, **_more: Foreign) -> str:
        _check_rule(env, judge)
        return str(env.stack.pop()["ExecutionArn"])

    def look_until_it_ends(_self: Foreign, env: Environment, sync_resolver: str, **_more: Foreign) -> object:
        client, awaited = client_of(env, "stepfunctions"), backend_of(env).describe_execution(sync_resolver)
        while env.is_running():
            if awaited.status != "RUNNING":
                # Only its end is asked for by a call.
                found = client.describe_execution(executionArn=sync_resolver)
                found.pop("ResponseMetadata")
                return _ended(env, found)
            time.sleep(_LOOK_SECONDS)
        with suppress(ClientError):
            client.stop_execution(executionArn=sync_resolver)
        return None

    patches.replace(f"{_SFN}._build_sync2_resolver", build)
    patches.define_method(_SFN, "_eval_sync", look_until_it_ends)


def use_the_names_of_the_sdk(patches: Patches) -> None:
    """A call by `aws-sdk` takes and answers the API's names with a capital first letter; times are text.

    (https://docs.aws.amazon.com/step-functions/latest/dg/supported-services-awssdk.html)
    """

    def normalise_parameters(self: Foreign, parameters: Foreign, *_more: Foreign, **_fields: Foreign) -> None:
        if shape := _operation(self).input_shape:
            self._to_boto_request(parameters, shape)

    def normalise_response(self: Foreign, response: Foreign, *_more: Foreign, **_fields: Foreign) -> None:
        shape = _operation(self).output_shape
        if isinstance(response, dict) and shape:
            renamed = _as_sdk(response, shape)
            response.clear()
            response.update(renamed)

    patches.define_method(_SDK, "_normalise_parameters", normalise_parameters)
    patches.define_method(_SDK, "_normalise_response", normalise_response)


def take_a_name_once(patches: Patches) -> None:
    """Of two calls at the same time with one name, one starts the execution. moto looks and starts without a lock."""
    lock = Lock()

    def wrapper(original: Foreign) -> object:
        def start_execution(*given: Foreign, **more: Foreign) -> object:
            with lock:
                return original(*given, **more)

        return start_execution

    patches.wrap("moto.stepfunctions.parser.models:StepFunctionsParserBackend.start_execution", wrapper)


def backend_of(env: Environment) -> Foreign:
    """The Step Functions in which an execution runs."""
    details = env.aws_execution_details
    return stepfunctions_parser_backends[details.account][details.region]


def client_of(env: Environment, service: str) -> Foreign:
    """A client that signs as the role of the state machine."""
    details = env.aws_execution_details
    return boto_client.boto_client_for(
        region=details.region, service=service, state_credentials=StateCredentials(role_arn=details.role_arn)
    )


def _check_rule(env: Environment, judge: Judge) -> None:
    details = env.aws_execution_details
    arn = f"arn:aws:events:{details.region}:{details.account}:rule/{RULE}"
    for action in ("events:PutTargets", "events:PutRule", "events:DescribeRule"):
        if not judge(details.role_arn, Call(action=action, resource=arn)):
            raise failure(
                env,
                "States.Permissions",
                f"{details.role_arn} is not authorized to create managed-rule {RULE}",
            )


def _ended(env: Environment, found: dict[str, Any]) -> dict[str, Any]:
    found |= {name: json.loads(found[name]) for name in ("input", "output") if name in found}
    _rename(found)
    if found["Status"] != "SUCCEEDED":
        raise failure(env, "States.TaskFailed", json.dumps(found, separators=(",", ":"), ensure_ascii=False))
    return found


def _rename(answer: dict[str, Any]) -> None:
    """Name the fields as the States language does, not those of input and output; write times as numbers."""
    for name in list(answer):
        value = answer.pop(name)
        if isinstance(value, datetime):
            value = int(value.timestamp() * 1000)
        if name in ("inputDetails", "outputDetails"):
            value = {"Included": value.get("included", True)}
        answer[name[0].upper() + name[1:]] = value


def _as_sdk(value: Any, shape: Foreign) -> Any:  # noqa: ANN401 - what a client answers
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, dict) and isinstance(shape, StructureShape):
        return {
            key[0].upper() + key[1:]: _as_sdk(item, shape.members[key])
            for key, item in value.items()
            if key in shape.members
        }
    if isinstance(value, list):
        return [_as_sdk(item, shape.member) for item in value]
    return value


def _operation(task: Foreign) -> Foreign:
    model = _model(task._get_boto_service_name())  # noqa: SLF001 - of moto
    action = task.resource.api_action
    return model.operation_model(action[0].upper() + action[1:])


@cache
def _model(service: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(service)
