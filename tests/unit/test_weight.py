"""How much there is to hold: ceilings, which only go down. Raising one takes a decision that says what went for it."""

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

from lockstep.cli.app import app
from lockstep.plan.model import Plan
from tests.unit.test_protocol_citations import clauses

ROOT = Path(__file__).parents[2]
PRODUCT = ("lockstep", "functions", "oci_fn")
NO_CODE = {"NL", "NEWLINE", "INDENT", "DEDENT", "ENDMARKER", "COMMENT"}
SLACK = 1.05
"""A ceiling further than this above what there is must be lowered."""


@cache
def _files(*folders: str) -> tuple[Path, ...]:
    return tuple(sorted(p for f in folders for p in (ROOT / f).rglob("*.py") if "cdk.out" not in p.parts))


@cache
def _code(path: Path) -> int:
    """Lines of code: no docstrings, comments or blanks."""
    text = path.read_text(encoding="utf-8")
    documentation: set[int] = set()
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            documentation.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if tokenize.tok_name[token.type] not in NO_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - documentation)


def _sum(*folders: str) -> int:
    return sum(_code(p) for p in _files(*folders))


def _rooms() -> dict[str, list[Path]]:
    """The files of code of each folder of `lockstep/`."""
    found = defaultdict(list)
    for path in _files("lockstep"):
        if _code(path) and path.name not in {"__init__.py", "__main__.py"}:
            found[str(path.parent.relative_to(ROOT))].append(path)
    return found


def _leaves(command: object) -> list[object]:
    inner = getattr(command, "commands", None)
    return [leaf for c in inner.values() for leaf in _leaves(c)] if inner else [command]


def _commands() -> list[object]:
    return _leaves(get_command(app))


def _options() -> int:
    every = (p for c in _commands() for p in getattr(c, "params", ()))
    return sum(p.param_type_name == "option" and p.name != "help" for p in every)


def _errors() -> int:
    texts = [p.read_text(encoding="utf-8") for p in _files(*PRODUCT)]
    return sum(len(re.findall(r"^class \w+Error\b", text, re.MULTILINE)) for text in texts)


def _keys() -> int:
    """The keys of all sections of the plan."""
    schema = Plan.model_json_schema()
    return sum(len(section.get("properties", ())) for section in (schema, *schema["$defs"].values()))


CEILINGS: dict[str, tuple[Callable[[], int], int]] = {
    "code lines of lockstep, functions and oci_fn": (lambda: _sum(*PRODUCT), 20_140),
    "code lines of cdk": (lambda: _sum("cdk"), 4_410),
    "code lines of tests": (lambda: _sum("tests"), 32_040),
    "code lines of the sandbox": (lambda: _sum("sandbox"), 12_465),
    "code lines of the longest file": (lambda: max(map(_code, _files(*PRODUCT, "cdk"))), 405),
    "rooms of lockstep": (lambda: len({r.split("/")[1] for r in _rooms()}), 12),
    "files of the largest room": (lambda: max(len(found) for found in _rooms().values()), 15),
    "files below 60 code lines": (lambda: sum(0 < _code(p) < 60 for p in _files("lockstep")), 22),
    "commands": (lambda: len(_commands()), 29),
    "options": (_options, 60),
    "keys of the plan": (_keys, 75),
    "classes of errors": (_errors, 71),
    "clauses of the protocol": (lambda: len(clauses()), 98),
}


@pytest.mark.parametrize("what", CEILINGS)
def test_nothing_grows_and_a_ceiling_that_is_out_of_reach_is_lowered(what: str) -> None:
    measure, ceiling = CEILINGS[what]
    assert measure() <= ceiling
    assert measure() * SLACK + 1 >= ceiling
