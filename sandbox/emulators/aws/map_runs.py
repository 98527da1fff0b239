"""A Map state in distributed mode, as Step Functions runs it: each item is an execution of its own.

moto runs the items as threads of the parent's execution, which share its name and its variables, and the result files
are empty. What is here follows the guide's pages on the distributed mode
(https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html) and on the result files
(https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html), and on the reader of items
(https://docs.aws.amazon.com/step-functions/latest/dg/input-output-itemreader.html). Every failure is tolerated:
`definition` refuses other Maps.
"""

import copy
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event
from typing import Any

from botocore.exceptions import ClientError
from moto.core.responses import ActionResult
from moto.stepfunctions.exceptions import ResourceNotFound
from moto.stepfunctions.parser.api import HistoryEventType, MapRunStatus
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import FailureEventException
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.states import ItemData, MapData
from moto.stepfunctions.parser.asl.parse import asl_parser
from moto.stepfunctions.parser.backend.execution import BaseExecutionWorkerCommunication, Execution
from moto.stepfunctions.parser.quotas import is_within_size_quota

from sandbox.emulators.aws.nested import Judge, backend_of, client_of
from sandbox.emulators.aws.patching import Foreign, Patches
from sandbox.emulators.aws.policies import Call
from sandbox.emulators.aws.strict_states import failure

MOST_AT_ONCE = 10_000
"""Executions of a Map without `MaxConcurrency`."""

_MAP = "moto.stepfunctions.parser.asl.component.state.exec.state_map"
_BACKEND = "moto.stepfunctions.parser.models:StepFunctionsParserBackend"
_COUNTED_AS = {"SUCCEEDED": "succeeded", "FAILED": "failed", "TIMED_OUT": "timedOut", "ABORTED": "aborted"}
_LOOK_SECONDS = 0.05


def apply(patches: Patches, judge: Judge) -> None:
    """Run the items of a distributed Map as AWS does."""
    run_items_as_executions(patches, judge)
    read_items_or_fail(patches)
    take_what_the_service_takes(patches)
    find_children(patches)
    find_runs(patches)


class _Communication(BaseExecutionWorkerCommunication):
    def terminated(self) -> None:
        super().terminated()
        self.execution.ended.set()  # type: ignore[attr-defined]  # of _Child


class _Child(Execution):
    """The execution of one item."""

    def __init__(self, **fields: Foreign) -> None:
        super().__init__(**fields)
        self.ended = Event()

    @property
    def has_begun(self) -> bool:
        """Whether it can be stopped."""
        return self.exec_worker is not None and self.exec_worker.env is not None

    def _get_start_execution_worker_comm(self) -> BaseExecutionWorkerCommunication:
        return _Communication(self)


@dataclass
class _MapRun:
    """One run of a Map state.

    Attributes:
        env: The frame of the parent's execution in which the state is evaluated.
        record: What DescribeMapRun shows but for its counts.
        state: The definition of the Map.
    """

    env: Environment
    record: Foreign
    state: Mapping[str, Any]
    inputs: Sequence[Any]
    children: dict[int, _Child] = field(default_factory=dict)

    def run(self) -> None:
        """Run every item, or until the state has ended."""
        at_once = self.record.max_concurrency or MOST_AT_ONCE
        with ThreadPoolExecutor(max_workers=max(1, min(at_once, len(self.inputs)))) as threads:
            # What is raised here is raised there.
            list(threads.map(self._run_item, range(len(self.inputs))))

    def _run_item(self, index: int) -> None:
        if not self.env.is_running():
            return
        child = self.children[index] = self._child(self.inputs[index])
        child.start()
        while not child.ended.wait(_LOOK_SECONDS):
            if not self.env.is_running() and child.has_begun:
                child.stop(stop_date=datetime.now(UTC), error=None, cause=None)

    def ended(self, *statuses: str) -> list[_Child]:
        """The executions that have ended so, in the order of the items."""
        return [child for _, child in sorted(self.children.items()) if child.exec_status in statuses]

    @property
    def counts(self) -> dict[str, int]:
        """What DescribeMapRun counts, of the items as of their executions."""
        begun = len(self.children)
        ended = {name: len(self.ended(status)) for status, name in _COUNTED_AS.items()}
        written = begun if self.record.status == MapRunStatus.SUCCEEDED else 0
        rest = {"running": begun - sum(ended.values()), "pending": len(self.inputs) - begun}
        return {**ended, **rest, "total": len(self.inputs), "resultsWritten": written}

    def _child(self, item: object) -> _Child:
        parent = backend_of(self.env).describe_execution(self.record.execution_arn)
        name = str(uuid.uuid4())
        machine = copy.copy(parent.state_machine)
        machine.arn = self.record.map_state_machine_arn
        processor = {
            key: value for key, value in self.state["ItemProcessor"].items() if key != "ProcessorConfig"
        }
        machine.definition = json.dumps({"QueryLanguage": "JSONata", **processor})
        label = machine.arn.rpartition("/")[2]
        child = _Child(
            name=name,
            sm_type=machine.sm_type,
            role_arn=machine.roleArn,
            exec_arn=f"{parent.exec_arn.rpartition(':')[0]}/{label}:{name}",
            account_id=parent.account_id,
            region_name=parent.region_name,
            state_machine=machine,
            start_date=datetime.now(UTC),
            cloud_watch_logging_session=None,
            input_data=json.dumps(item, separators=(",", ":"), ensure_ascii=False),
            activity_store={},
        )
        _children(backend_of(self.env))[child.exec_arn] = child
        return child


def run_items_as_executions(patches: Patches, judge: Judge) -> None:
    """Each item is an execution, with its own name, input, variables and history; the role must be allowed to start it.

    A failed one does not stop the others.
    """

    def eval_body(_self: Foreign, env: Environment) -> None:
        eval_input = env.stack.pop()
        record = eval_input.map_run_record
        backend = backend_of(env)
        _records(backend)[record.map_run_arn] = record
        _event(
            env, HistoryEventType.MapRunStarted, mapRunStartedEventDetails={"mapRunArn": record.map_run_arn}
        )
        try:
            _check_role(env, record, judge)
            items = items_of(env, eval_input)
            parent = backend.describe_execution(record.execution_arn)
            states = dict(states_of(json.loads(parent.state_machine.definition)))
            run = record.run = _MapRun(env, record, states[eval_input.state_name], items)
            run.run()
            env.stack.append(_write_results(env, run) if env.is_running() else None)
        except FailureEventException as error:
            name, cause = error.extract_error_cause_pair() or (None, None)
            details = {key: value for key, value in (("error", name), ("cause", cause)) if value}
            _event(env, HistoryEventType.MapRunFailed, mapRunFailedEventDetails=details)
            record.set_stop(status=MapRunStatus.FAILED)
            raise
        except Exception:
            record.set_stop(status=MapRunStatus.FAILED)
            raise
        if env.is_running():
            _event(env, HistoryEventType.MapRunSucceeded)
            record.set_stop(status=MapRunStatus.SUCCEEDED)
        else:
            record.set_stop(status=MapRunStatus.ABORTED)

    patches.replace(
        f"{_MAP}.iteration.distributed_iteration_component:DistributedIterationComponent._eval_body",
        eval_body,
    )


def _write_results(env: Environment, run: _MapRun) -> dict[str, Any]:
    """Write the results by status, and a manifest that names the files; what the state returns."""
    writer, arn = run.state["ResultWriter"], run.record.map_run_arn
    given = _evaluated(writer["Arguments"], env)
    bucket = given["Bucket"]
    prefix = "/".join(filter(None, [given.get("Prefix", "").strip("/"), arn.rpartition(":")[2]]))
    client = client_of(env, "s3")
    files: dict[str, list[dict[str, Any]]] = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
    statuses = {"FAILED": ("FAILED", "TIMED_OUT"), "PENDING": ("ABORTED",), "SUCCEEDED": ("SUCCEEDED",)}

    def put(name: str, content: object) -> dict[str, Any]:
        body = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
        client.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=body)
        return {"Key": f"{prefix}/{name}", "Size": len(body)}

    try:
        for name, listed in files.items():
            if found := run.ended(*statuses[name]):
                listed.append(put(f"{name}_0.json", [_result(child) for child in found]))
        manifest = put("manifest.json", {"DestinationBucket": bucket, "MapRunArn": arn, "ResultFiles": files})
    except ClientError as error:
        raise failure(env, "States.ResultWriterFailed", str(error)) from error
    return {"MapRunArn": arn, "ResultWriterDetails": {"Bucket": bucket, "Key": manifest["Key"]}}


def find_children(patches: Patches) -> None:
    """The executions of items can be described."""

    def describe(original: Foreign) -> object:
        def describe_execution(self: Foreign, execution_arn: str) -> object:
            return _children(self).get(execution_arn) or original(self, execution_arn)

        return describe_execution

    models = "moto.stepfunctions.models:StepFunctionBackend"
    patches.wrap(f"{models}.describe_execution", describe)


def find_runs(patches: Patches) -> None:
    """A run of a Map can be described, and its executions can be listed, also while it runs."""

    def list_executions(original: Foreign) -> object:
        def answer(self: Foreign) -> object:
            arn = self._get_param("mapRunArn")
            if arn is None:
                return original(self)
            wanted = self._get_param("statusFilter")
            run = _run(_record(self.stepfunction_backend, arn))
            children = run.children if run else {}
            return ActionResult(
                {"executions": [_listed(c) for c in list(children.values()) if wanted in (None, c.status)]}
            )

        return answer

    def describe_map_run(self: Foreign, map_run_arn: str) -> dict[str, Any]:
        record = _record(self, map_run_arn)
        found: dict[str, Any] = record.describe()
        more = {
            "failuresNotRedrivable": 0,
            "pendingRedrive": 0,
            **(run.counts if (run := _run(record)) else {}),
        }
        for counts in ("itemCounts", "executionCounts"):
            found[counts] |= more
        return found

    def list_map_runs(self: Foreign, execution_arn: str) -> dict[str, Any]:
        self.describe_execution(execution_arn)
        records = [r for r in list(_records(self).values()) if r.execution_arn == execution_arn]
        return {"mapRuns": [record.list_item() for record in records]}

    patches.wrap("moto.stepfunctions.responses:StepFunctionResponse.list_executions", list_executions)
    patches.replace(f"{_BACKEND}.list_map_runs", list_map_runs)
    patches.replace(f"{_BACKEND}.describe_map_run", describe_map_run)


def _check_role(env: Environment, record: Foreign, judge: Judge) -> None:
    """See https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html."""
    machine, execution = record.map_state_machine_arn.rpartition("/")[0], record.execution_arn
    for call in (
        Call(action="states:StartExecution", resource=machine),
        Call(action="states:DescribeExecution", resource=execution),
    ):
        if not judge(env.aws_execution_details.role_arn, call):
            raise failure(
                env,
                "States.Permissions",
                f"not authorized to perform: {call.action} on resource: {call.resource}",
            )


def _evaluated(arguments: object, env: Environment) -> Any:  # noqa: ANN401 - any JSON
    """A template of JSONata, evaluated as the arguments of a task are."""
    task = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Arguments": arguments, "End": True}
    program: Foreign = asl_parser.AmazonStateLanguageParser.parse(
        json.dumps({"QueryLanguage": "JSONata", "StartAt": "Task", "States": {"Task": task}})
    )[0]
    program.states.states["Task"].parargs.eval(env)
    return env.stack.pop()


def _event(env: Environment, kind: HistoryEventType, **details: Any) -> None:  # noqa: ANN401 - of moto's events
    more: Any = {"event_details": details} if details else {}
    env.event_manager.add_event(context=env.event_history_context, event_type=kind, **more)


def _result(child: _Child) -> dict[str, Any]:
    """An execution in a result file."""
    more = {
        "Output": child.output,
        "OutputDetails": {"Included": True} if child.status == "SUCCEEDED" else None,
        "Error": child.error,
        "Cause": child.cause,
    }
    return {
        "ExecutionArn": child.exec_arn,
        "Input": child.execution_input,
        "InputDetails": {"Included": True},
        "Name": child.name,
        **{name: value for name, value in more.items() if value is not None},
        "RedriveCount": 0,
        "StartDate": child.start_date.isoformat(timespec="milliseconds"),
        "StateMachineArn": child.state_machine_arn,
        "Status": child.status,
        "StopDate": child.stop_date.isoformat(timespec="milliseconds") if child.stop_date else None,
    }


def _listed(child: _Child) -> dict[str, Any]:
    return {
        "executionArn": child.exec_arn,
        "stateMachineArn": child.state_machine_arn,
        "name": child.name,
        "status": child.status,
        "startDate": child.start_date,
        **({"stopDate": child.stop_date} if child.stop_date else {}),
    }


def _children(backend: Foreign) -> dict[str, _Child]:
    found: dict[str, _Child] = backend.__dict__.setdefault("_children_of_maps", {})
    return found


def _record(backend: Foreign, map_run_arn: str) -> Foreign:
    found = _records(backend).get(map_run_arn)
    if found is None:
        raise ResourceNotFound(map_run_arn)
    return found


def _run(record: Foreign) -> _MapRun | None:
    """What runs its items, once they are read."""
    found: _MapRun | None = vars(record).get("run")
    return found


def _records(backend: Foreign) -> dict[str, Foreign]:
    found: dict[str, Foreign] = backend.__dict__.setdefault("_map_runs", {})
    return found


def read_items_or_fail(patches: Patches) -> None:
    """An object that cannot be read, or is no JSON array, is `States.ItemReaderFailed`."""

    def wrapper(original: Foreign) -> object:
        def eval_body(self: Foreign, env: Environment) -> None:
            try:
                original(self, env)
            except (ClientError, json.JSONDecodeError) as error:
                raise failure(env, "States.ItemReaderFailed", str(error)) from error

        return eval_body

    patches.wrap(f"{_MAP}.item_reader.item_reader_decl:ItemReader._eval_body", wrapper)


def take_what_the_service_takes(patches: Patches) -> None:
    """A definition may have what moto's grammar refuses; what it takes and should not fails the state.

    A percentage may be a whole number, and a ResultWriter has Arguments. A concurrency must be a whole number.
    """

    def parse(original: Foreign) -> object:
        def parse_definition(definition: str) -> object:
            if '"DISTRIBUTED"' not in definition:
                return original(definition)
            return original(json.dumps(_for_moto(json.loads(definition)), ensure_ascii=False))

        return parse_definition

    def eval_max_concurrency(self: Foreign, env: Environment) -> int:
        self.string_jsonata.eval(env=env)
        value = env.stack.pop()
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise failure(
                env,
                "States.QueryEvaluationError",
                f"MaxConcurrency is no whole number: {value!r}",
                evaluation=True,
            )
        return value

    patches.wrap("moto.stepfunctions.parser.asl.parse.asl_parser:AmazonStateLanguageParser.parse", parse)
    patches.replace(
        f"{_MAP}.max_concurrency:MaxConcurrencyJSONata._eval_max_concurrency", eval_max_concurrency
    )


def items_of(env: Environment, eval_input: Foreign) -> list[Any]:
    """The input of each item's execution."""
    map_input = copy.deepcopy(env.states.get_input())
    if eval_input.item_reader:
        eval_input.item_reader.eval(env=env)
        items = env.stack.pop()
    else:
        items = eval_input.input_items
    selector = eval_input.item_selector or eval_input.parameters
    if selector is None:
        return list(items)
    found = []
    for index, item in enumerate(items):
        frame = env.open_frame()
        frame.states.context_object.context_object_data["Map"] = MapData(
            Item=ItemData(Index=index, Value=item)
        )
        frame.states.reset(input_value=copy.deepcopy(map_input))
        frame.stack = [copy.deepcopy(map_input)]
        selector.eval(frame)
        found.append(frame.stack[-1])
        env.delete_frame(frame)
        if not is_within_size_quota(found[-1]):
            raise failure(env, "States.DataLimitExceeded", "The input of an item exceeds the limit.")
    return found


def states_of(machine: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The states of a machine and of its Maps, by their names."""
    for name, state in machine["States"].items():
        yield name, state
        yield from states_of(state.get("ItemProcessor", {"States": {}}))


def _for_moto(node: Any) -> Any:  # noqa: ANN401 - any JSON
    match node:
        case dict():
            # Results are written, and failures tolerated, by `map_runs`
            own = {"ResultWriter", "ToleratedFailurePercentage"}
            return {name: _for_moto(value) for name, value in node.items() if name not in own}
        case list():
            return [_for_moto(item) for item in node]
        case _:
            return node
