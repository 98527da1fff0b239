"""The JSON Schema of the plan: current, complete, and never stricter than the plan itself."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from ruamel.yaml import YAML
from typer.testing import CliRunner

from lockstep.cli.app import app
from lockstep.plan.file import PlanProblemsError, parse_plan, plan_schema, schema_text
from tests.fuzz.harness import inputs, mutated, spelled
from tests.unit.plan_case import BOTH, Document, edited
from tests.unit.test_plan_mistakes import EVERY

ROOT = Path(__file__).parents[2]
SCHEMA = plan_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
PLANS = [ROOT / "lockstep.yaml", *sorted((ROOT / "tests/infrastructure/plan").glob("*.yaml"))]


def read(text: str) -> Any:  # noqa: ANN401 - a document
    return YAML(typ="safe", pure=True).load(text)


def test_the_command_prints_it() -> None:
    assert CliRunner().invoke(app, ["plan", "schema"]).stdout == schema_text(SCHEMA)


@pytest.mark.parametrize("file", PLANS, ids=lambda f: str(f.relative_to(ROOT)))
def test_every_plan_of_the_repository_is_valid(file: Path) -> None:
    VALIDATOR.validate(read(file.read_text()))


def test_every_section_and_every_key_is_described() -> None:
    found = {path: part for path, part in SCHEMA["$defs"].items() if part.get("type") == "object"}
    assert len(found) >= 15
    for path, section in {**found, "": SCHEMA}.items():
        assert section["additionalProperties"] is False, path
        assert section["description"], path
        assert "Attributes:" not in section["description"], path
        for key, value in section["properties"].items():
            assert value.get("description", "").endswith("."), f"{path}: {key}"


SHAPE = re.compile(
    r"must be(?! longer| different| at most| the name of a secret)|unknown key|this key|too (few|many)|at most"
    r"|beginning|write a duration|a plan holds|2 is newer"
)
"""What the plan says of a mistake that a schema can see."""


@pytest.mark.parametrize(("of", "section", "key", "wrong", "told", "right"), EVERY)
def test_it_refuses_what_a_schema_can_say_and_nothing_else(
    of: Document, section: str, key: str, wrong: object, told: str, right: object
) -> None:
    path = f"{section}.{key}".removeprefix(".")
    assert VALIDATOR.is_valid(edited(of, {path: wrong})) is (not SHAPE.match(told))
    assert VALIDATOR.is_valid(edited(of, {path: right}))


def test_it_allows_what_is_left_out_and_variables() -> None:
    variables = {"databases.0.port": "${PORT:-3306}", "databases.0.host": "orders.${DOMAIN}"}
    left_out: dict[str, object] = {
        "databases.0.ca_file": None,
        "credentials.0.overlap": None,
        "runners.aws": {},
    }
    VALIDATOR.validate(edited(BOTH, {**variables, **left_out, "credentials.0.interval": "${INTERVAL}"}))


@inputs(100)
@given(mutated(BOTH))
def test_a_schema_refuses_no_plan_that_is_valid(document: Any) -> None:  # noqa: ANN401 - a document
    text = spelled(document)
    try:
        parse_plan(text, base=Path(), environ={})
    except PlanProblemsError:
        return
    # Numbers may be given as texts: a variable is one, where the file quotes it.
    mistakes = [e for e in VALIDATOR.iter_errors(read(text)) if "integer" not in str(e.schema)]
    assert not mistakes, mistakes
