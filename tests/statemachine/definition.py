"""The definition as data, and its expressions evaluated as in Step Functions."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonata import Jsonata  # type: ignore[import-untyped]  # the package carries no types

JsonObject = dict[str, Any]

MACHINE: JsonObject = json.loads(
    (Path(__file__).parents[2] / "statemachine.asl.json").read_text(encoding="utf-8")
)
STATES: JsonObject = MACHINE["States"]
TASKS = {name: state for name, state in STATES.items() if state["Type"] == "Task"}
LAMBDAS = {name: state for name, state in TASKS.items() if state["Resource"].endswith(":lambda:invoke")}
TABLE_CALLS = {name: state for name, state in TASKS.items() if "dynamodb" in state["Resource"]}


def walk(node: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from walk(value, (*path, key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from walk(value, (*path, str(number)))
    else:
        yield path, node


def expressions(node: object = MACHINE) -> Iterator[str]:
    for _, value in walk(node):
        if isinstance(value, str) and value.startswith("{%"):
            assert value.endswith("%}"), value
            yield value[2:-2].strip()


def evaluate(template: object, variables: Mapping[str, object]) -> Any:  # noqa: ANN401 - any JSON
    """A template with its expressions evaluated as in Step Functions."""
    if isinstance(template, dict):
        return {key: evaluate(value, variables) for key, value in template.items()}
    if isinstance(template, list):
        return [evaluate(value, variables) for value in template]
    if not (isinstance(template, str) and template.startswith("{%")):
        return template
    declared = "".join(f"${name} := {json.dumps(value)};" for name, value in variables.items())
    result = Jsonata(f"({declared} {template[2:-2]})").evaluate(None)
    return json.loads(json.dumps(result))
