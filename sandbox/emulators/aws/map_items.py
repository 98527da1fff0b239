"""What a Map state in distributed mode reads, and what its definition may hold, as Step Functions takes it.

The facts are in the guide's pages on the distributed mode
(https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html) and on the reader of items
(https://docs.aws.amazon.com/step-functions/latest/dg/input-output-itemreader.html).
"""

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.states import ItemData, MapData
from moto.stepfunctions.parser.quotas import is_within_size_quota

from sandbox.emulators.aws.patching import Foreign, Patches
from sandbox.emulators.aws.strict_states import failure

_MAP = "moto.stepfunctions.parser.asl.component.state.exec.state_map"


def apply(patches: Patches) -> None:
    """Take and refuse what Step Functions does."""
    read_items_or_fail(patches)
    take_what_the_service_takes(patches)


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
            # Results are written, and failures tolerated, by `sandbox.emulators.aws.map_runs`.
            own = {"ResultWriter", "ToleratedFailurePercentage"}
            return {name: _for_moto(value) for name, value in node.items() if name not in own}
        case list():
            return [_for_moto(item) for item in node]
        case _:
            return node
