"""Connects moto's Step Functions interpreter to the sandbox: its address, its clocks, its deployments."""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from threading import Lock, Thread
from types import SimpleNamespace
from typing import Any

import boto3
from botocore.config import Config
from moto.core.config import default_user_config
from moto.stepfunctions.parser.api import ExecutionStatus, HistoryEventType
from moto.stepfunctions.parser.asl.component.eval_component import EvalComponent
from moto.stepfunctions.parser.asl.eval.program_state import ProgramEnded, ProgramError, ProgramTimedOut
from moto.stepfunctions.parser.asl.parse.preprocessor import Preprocessor
from moto.stepfunctions.parser.asl.utils import boto_client
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from sandbox.emulators.aws.patching import Foreign, Patches

_PARSER = "moto.stepfunctions.parser"
_LONGEST_LAMBDA_SECONDS = 900
_PARALLEL_CALLS = 50
_LOOK_SECONDS = 0.05


def apply(
    patches: Patches, port: int, retry_sleep: Callable[[float], None], wall_clock: Callable[[], float]
) -> None:
    """Let moto run state machines whose tasks call the sandbox."""
    patches.set_item(default_user_config, "stepfunctions", {"execute_state_machine": True})
    call_the_sandbox(patches, port)
    sign_as_the_role(patches)
    sleep_between_attempts(patches, retry_sleep)
    tell_the_time(patches, wall_clock)
    run_what_cloudformation_deploys(patches)
    read_strings_as_json(patches)
    remember_definitions(patches)
    end_executions_at_once(patches)
    stop_at_once(patches)


def call_the_sandbox(patches: Patches, port: int) -> None:
    """Tasks call this sandbox's port through clients of their own session.

    moto calls the port that an environment variable names. It creates its clients in boto3's default session, in which
    two threads must not create clients at once.
    """
    module = f"{_PARSER}.asl.utils.boto_client"
    patches.replace(f"{module}:moto_server_port", lambda: str(port))
    patches.replace(f"{module}:boto3", _Clients())


def access_key(role_arn: str) -> str:
    """The access key with which the calls of a state machine's role are signed."""
    return f"states-{role_arn.rpartition('/')[2]}"


def sign_as_the_role(patches: Patches) -> None:
    """A task's call is signed as the role of its state machine; moto signs all with one key."""

    def wrapper(_original: Foreign) -> object:
        def boto_client_for(region: str, service: str, state_credentials: Foreign) -> Foreign:
            # Looked up at each call: it is patched too.
            found: Foreign = boto_client
            return found.boto3.client(
                service_name=service,
                region_name=region,
                endpoint_url=f"http://localhost:{found.moto_server_port()}",
                aws_access_key_id=access_key(state_credentials.role_arn),
                aws_secret_access_key="sk",
                config=Config(parameter_validation=False, retries={"total_max_attempts": 1}),
            )

        return boto_client_for

    original = boto_client.boto_client_for
    for name, module in list(sys.modules.items()):
        if name.startswith(_PARSER) and vars(module).get("boto_client_for") is original:
            patches.wrap(f"{name}:boto_client_for", wrapper)


def sleep_between_attempts(patches: Patches, retry_sleep: Callable[[float], None]) -> None:
    """Retriers sleep by `retry_sleep`; every other sleep is unchanged."""
    module = f"{_PARSER}.asl.component.common.retry.retrier_decl"
    patches.replace(f"{module}:time", SimpleNamespace(sleep=retry_sleep))


def tell_the_time(patches: Patches, wall_clock: Callable[[], float]) -> None:
    """`StartTime` and `EnteredTime` of the context object are the sandbox's time, in AWS's format."""

    def now() -> str:
        moment = datetime.fromtimestamp(wall_clock(), UTC)
        return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"

    for place, moment in (
        ("backend.execution_worker:ExecutionData", "StartTime"),
        ("asl.component.state.state:StateData", "EnteredTime"),
    ):
        patches.replace(f"{_PARSER}.{place}", lambda moment=moment, **fields: fields | {moment: now()})


def run_what_cloudformation_deploys(patches: Patches) -> None:
    """A state machine from CloudFormation can be executed; moto stores it where only its stub looks."""
    patches.replace("moto.stepfunctions.models:stepfunctions_backends", stepfunctions_parser_backends)


def read_strings_as_json(patches: Patches) -> None:
    r"""A string of the definition may use JSON's escapes: `\"`, `\\`, `\n`, `\u00e9`.

    moto reads some strings by Python's rules, and others without any.
    """

    def text_of(parser_rule_context: Foreign) -> str:
        text: str = parser_rule_context.getText()
        return str(json.loads(text)) if text.startswith('"') else text

    def wrapper(original: Foreign) -> object:
        def inner_string_of(parser_rule_context: Foreign) -> str | None:
            is_null = original(parser_rule_context) is None
            return None if is_null else text_of(parser_rule_context)

        return inner_string_of

    preprocessor = f"{_PARSER}.asl.parse.preprocessor"
    patches.replace(f"{preprocessor}:from_string_literal", text_of)
    patches.wrap(f"{preprocessor}:Preprocessor._inner_string_of", wrapper)


def remember_definitions(patches: Patches) -> None:
    """A definition is parsed once, and its tree made a program for each execution, which keeps its state there.

    moto parses it for each execution, which takes longer than most of its states.
    """

    def wrapper(original: Foreign) -> object:
        @lru_cache
        def tree_of(definition: str) -> Foreign:
            _, tree = original(definition)
            return tree

        def parse(definition: str) -> tuple[Foreign, Foreign]:
            tree = tree_of(definition)
            return Preprocessor().visit(tree), tree

        return parse

    patches.wrap(f"{_PARSER}.asl.parse.asl_parser:AmazonStateLanguageParser.parse", wrapper)


def end_executions_at_once(patches: Patches) -> None:
    """An execution ends with all its results present, and nothing is recorded afterwards.

    moto shows SUCCEEDED a moment before there is an output, returns an output that is a string or null as invalid JSON,
    and lets the remains of a timed-out execution write to its history.
    """

    def reflect_execution_status(self: Foreign) -> None:
        execution = self.execution
        env = execution.exec_worker.env
        execution.stop_date = datetime.now(UTC)
        match env.program_state():
            case ProgramEnded():
                execution.output = json.dumps(env.states.get_input(), separators=(",", ":"))
                status = ExecutionStatus.SUCCEEDED
            case ProgramError() as state:
                details = state.error or {}
                execution.error = details.get("error")
                execution.cause = details.get("cause")
                status = ExecutionStatus.FAILED
            case ProgramTimedOut():
                env.event_manager.add_event(
                    context=env.event_history_context,
                    event_type=HistoryEventType.ExecutionTimedOut,
                    event_details={"executionTimedOutEventDetails": {"error": "States.Timeout"}},
                )
                status = ExecutionStatus.TIMED_OUT
            case _:
                events = env.event_manager.get_event_history()
                if events[-1]["type"] != HistoryEventType.ExecutionAborted:
                    env.event_manager.add_event(
                        context=env.event_history_context,
                        event_type=HistoryEventType.ExecutionAborted,
                        event_details={"executionAbortedEventDetails": {}},
                    )
                status = ExecutionStatus.ABORTED
        env.event_manager.add_event = lambda **_: env.event_history_context.last_published_event_id
        execution.exec_status = status

    module = f"{_PARSER}.backend.execution"
    patches.replace(
        f"{module}:BaseExecutionWorkerCommunication._reflect_execution_status", reflect_execution_status
    )


def stop_at_once(patches: Patches) -> None:
    """An execution that is stopped has ended, whatever its state is waiting for; moto lets that state end first."""

    def eval_program(self: Foreign, env: Foreign) -> None:
        limit = self.timeout_seconds.timeout_seconds if self.timeout_seconds else None
        deadline = None if limit is None else time.monotonic() + limit
        env.next_state_name = self.start_at.start_at_name
        states = Thread(target=EvalComponent.eval, args=(self, env), daemon=True)
        states.start()
        while states.is_alive() and env.is_running():
            left = _LOOK_SECONDS if deadline is None else min(_LOOK_SECONDS, deadline - time.monotonic())
            if left <= 0:
                env.set_timed_out()
            else:
                states.join(left)
        if isinstance(env.program_state(), ProgramEnded | ProgramError):
            # What it has recorded last is still to come.
            states.join()

    patches.replace(f"{_PARSER}.asl.component.program.program:Program.eval", eval_program)


def abort_running_executions() -> None:
    """Stop every running execution, so that none continues after the sandbox has stopped."""
    for regions in stepfunctions_parser_backends.values():
        for backend in regions.values():
            for machine in backend.state_machines:
                for execution in machine.executions:
                    if execution.status == "RUNNING":
                        execution.stop(stop_date=datetime.now(UTC), error=None, cause=None)


class _Clients:
    """Replaces the module boto3: one thread-safe client per service, region and access key."""

    def __init__(self) -> None:
        self._session: Any = boto3.Session()
        self._lock = Lock()
        self._clients: dict[tuple[str, str, str], Any] = {}

    def client(self, *, service_name: str, region_name: str, config: Config, **fields: str) -> Foreign:
        bounded = config.merge(
            Config(
                connect_timeout=2,
                # Longer than any function's time-out, so that the latter ends the call.
                read_timeout=_LONGEST_LAMBDA_SECONDS + 10,
                max_pool_connections=_PARALLEL_CALLS,
            )
        )
        with self._lock:
            key = (service_name, region_name, fields["aws_access_key_id"])
            if key not in self._clients:
                self._clients[key] = self._session.client(
                    service_name, region_name=region_name, config=bounded, **fields
                )
            return self._clients[key]
