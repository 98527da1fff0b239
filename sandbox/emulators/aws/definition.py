"""The problems for which Step Functions refuses to create a state machine.

These are the rules of the States language (states-language.net) and of the developer guide that the grammar of moto's
interpreter does not cover. The interpreter checks first, for unknown fields, wrong types and out-of-range numbers.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from jsonata import Jsonata  # type: ignore[import-untyped]  # the package carries no types
from jsonata.jexception import JException  # type: ignore[import-untyped]  # the package carries no types

State = Mapping[str, Any]

_ANY = frozenset({"Type", "Comment", "QueryLanguage"})
_FLOW = frozenset({"Next", "End"})
_FAILING = frozenset({"Retry", "Catch"})
_JSONATA = frozenset({"Assign", "Output"})
_TASK = frozenset({"Resource", "TimeoutSeconds", "HeartbeatSeconds", "Credentials"})
_MAP = frozenset(
    {"ItemProcessor", "ItemSelector", "ItemReader", "ResultWriter", "MaxConcurrency", "Label"}
    | {"ToleratedFailurePercentage"}
)
_FIELDS: Mapping[tuple[str, str], frozenset[str]] = {
    ("JSONata", "Task"): _ANY | _FLOW | _FAILING | _JSONATA | _TASK | {"Arguments"},
    ("JSONata", "Pass"): _ANY | _FLOW | _JSONATA,
    ("JSONata", "Wait"): _ANY | _FLOW | _JSONATA | {"Seconds", "Timestamp"},
    ("JSONata", "Choice"): _ANY | _JSONATA | {"Choices", "Default"},
    ("JSONata", "Succeed"): _ANY | {"Output"},
    ("JSONata", "Fail"): _ANY | {"Error", "Cause"},
    ("JSONata", "Map"): _ANY | _FLOW | _FAILING | _JSONATA | _MAP | {"Items"},
}
_ENDS_BY_TYPE = frozenset({"Choice", "Succeed", "Fail"})
_JSONATA_EXPRESSION = re.compile(r"\{%(.*)%\}", re.DOTALL)
_EVAL = re.compile(r"\$eval\s*\(")
_ALL_MAY_FAIL = 100
_MODULES = {"states": "sfn"}
_INTEGRATIONS = "moto.stepfunctions.parser.asl.component.state.exec.state_task.service"


@dataclass(frozen=True)
class _Scope:
    """The states that can lead to each other: a machine or a Map's processor."""

    path: str
    start_at: str
    states: Mapping[str, State]
    language: str


def problems(definition: str) -> list[str]:
    """List the problems of a definition, in the order of its text; empty if Step Functions accepts it.

    Args:
        definition: Amazon States Language; JSON with `StartAt` and `States`.
    """
    scopes = list(_scopes("", json.loads(definition), "JSONPath"))
    names = Counter(name for scope in scopes for name in scope.states)
    found = [f"DUPLICATE_STATE_NAME: Duplicate state name: {name}" for name in names if names[name] > 1]
    for scope in scopes:
        found += _graph_problems(scope)
        for name, state in scope.states.items():
            found += _state_problems(f"{scope.path}/States/{name}", state, scope.language)
    return found


def _scopes(path: str, machine: State, language: str) -> Iterator[_Scope]:
    language = machine.get("QueryLanguage", language)
    yield _Scope(path=path, start_at=machine["StartAt"], states=machine["States"], language=language)
    for name, state in machine["States"].items():
        inner_language = state.get("QueryLanguage", language)
        if processor := state.get("ItemProcessor"):
            yield from _scopes(f"{path}/States/{name}/ItemProcessor", processor, inner_language)


def _graph_problems(scope: _Scope) -> Iterator[str]:
    targets = [(f"{scope.path}/StartAt", scope.start_at)]
    for name, state in scope.states.items():
        targets += [(f"{scope.path}/States/{name}/{where}", target) for where, target in _targets(state)]
    for where, target in targets:
        if target not in scope.states:
            yield f"MISSING_TRANSITION_TARGET: Missing target state '{target}' at {where}"
    reached = _reachable(scope)
    for name, state in scope.states.items():
        if name not in reached:
            yield f"MISSING_TRANSITION_TARGET: State '{name}' is not reachable at {scope.path}/States/{name}"
        if state["Type"] not in _ENDS_BY_TYPE and not state.keys() & _FLOW:
            yield f"SCHEMA_VALIDATION_FAILED: State has neither Next nor End at {scope.path}/States/{name}"


def _targets(state: State) -> Iterator[tuple[str, str]]:
    for field in ("Next", "Default"):
        if field in state:
            yield field, state[field]
    for field in ("Choices", "Catch"):
        for index, rule in enumerate(state.get(field, [])):
            if "Next" in rule:
                yield f"{field}[{index}]/Next", rule["Next"]


def _reachable(scope: _Scope) -> set[str]:
    reached: set[str] = set()
    waiting = [scope.start_at]
    while waiting:
        name = waiting.pop()
        if name in scope.states and name not in reached:
            reached.add(name)
            waiting += [target for _, target in _targets(scope.states[name])]
    return reached


def _state_problems(path: str, state: State, language: str) -> Iterator[str]:
    language = state.get("QueryLanguage", language)
    if (language, state["Type"]) not in _FIELDS:
        yield f"NOT_EMULATED: A {state['Type']} in {language} at {path}"
    for field in state.keys() - _FIELDS.get((language, state["Type"]), state.keys()):
        yield f"SCHEMA_VALIDATION_FAILED: Field '{field}' is not supported at {path}"
    for field in sorted(_FAILING & state.keys()):
        yield from _wildcard_problems(f"{path}/{field}", state[field])
    if language == "JSONata":
        own = {key: value for key, value in state.items() if key != "ItemProcessor"}
        yield from _expression_problems(path, own)
    yield from _argument_problems(path, state)
    yield from _map_problems(path, state)


def _wildcard_problems(path: str, rules: Sequence[State]) -> Iterator[str]:
    """`States.ALL` must be the only error of the last retrier or catcher."""
    for index, rule in enumerate(rules):
        errors = rule["ErrorEquals"]
        if "States.ALL" in errors and (len(errors) > 1 or index < len(rules) - 1):
            yield f"SCHEMA_VALIDATION_FAILED: States.ALL must appear alone and last at {path}[{index}]/ErrorEquals"


def _expression_problems(path: str, value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _expression_problems(f"{path}/{key}", item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _expression_problems(f"{path}[{index}]", item)
    elif isinstance(value, str) and (expression := _JSONATA_EXPRESSION.fullmatch(value)):
        if _EVAL.search(expression[1]):
            yield f"SCHEMA_VALIDATION_FAILED: The function $eval is not supported at {path}"
        try:
            Jsonata(expression[1])
        except JException as error:
            yield f"SCHEMA_VALIDATION_FAILED: The JSONata expression is invalid ({error}) at {path}"


def _argument_problems(path: str, state: State) -> Iterator[str]:
    """Step Functions refuses arguments that an optimized integration does not take; moto drops them."""
    match state.get("Resource", "").split(":", 6):
        case ["arn", _, "states", "", "", "dynamodb" | "lambda" | "states" as service, action]:
            if action.endswith(".sync"):
                yield f"NOT_EMULATED: {state['Resource']} at {path}"
            supported = import_module(f"{_INTEGRATIONS}.state_task_service_{_MODULES.get(service, service)}")
            allowed = supported._SUPPORTED_API_PARAM_BINDINGS[action.split(".")[0].lower()]  # noqa: SLF001  moto's own list
            arguments = state.get("Arguments", {})
            for argument in arguments if isinstance(arguments, dict) else {}:
                if argument not in allowed:
                    yield f"SCHEMA_VALIDATION_FAILED: Field '{argument}' is not supported at {path}/Arguments"


def _map_problems(path: str, state: State) -> Iterator[str]:
    """Of Maps those are emulated whose items are executions of their own, may all fail, and end in files."""
    if state["Type"] != "Map":
        return
    mode = state["ItemProcessor"].get("ProcessorConfig", {}).get("Mode")
    if mode != "DISTRIBUTED" or state.get("ToleratedFailurePercentage") != _ALL_MAY_FAIL:
        yield f"NOT_EMULATED: A Map that is not distributed, or does not tolerate every failure, at {path}"
    if "ResultWriter" not in state:
        yield f"NOT_EMULATED: A Map without a ResultWriter at {path}"
