"""The JSON Schema of the plan: current, complete, and never stricter than the plan itself."""

from collections.abc import Iterator
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
from tests.unit.plan_case import BOTH, GONE, edited

ROOT = Path(__file__).parents[2]
SCHEMA = plan_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
PLANS = [ROOT / "lockstep.yaml", *sorted((ROOT / "tests/infrastructure/plan").glob("*.yaml"))]
WITH_CA = edited(BOTH, {"databases.1.plaintext": GONE, "databases.1.ca_file": "a.pem"})


def read(text: str) -> Any:  # noqa: ANN401 - a document
    return YAML(typ="safe", pure=True).load(text)


def test_the_command_prints_it() -> None:
    assert CliRunner().invoke(app, ["plan", "schema"]).stdout == schema_text(SCHEMA)


@pytest.mark.parametrize("file", PLANS, ids=lambda f: str(f.relative_to(ROOT)))
def test_every_plan_of_the_repository_is_valid(file: Path) -> None:
    VALIDATOR.validate(read(file.read_text()))


def mappings(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:  # noqa: ANN401 - a schema
    if isinstance(schema, dict) and schema.get("type") == "object":
        yield path, schema
    if isinstance(schema, dict | list):
        for key, value in schema.items() if isinstance(schema, dict) else enumerate(schema):
            yield from mappings(value, f"{path}/{key}")


def test_every_section_and_every_key_is_described() -> None:
    found = list(mappings(SCHEMA))
    assert len(found) >= 15
    for path, section in found:
        assert section["additionalProperties"] is False, path
        assert section["description"], path
        assert "Attributes:" not in section["description"], path
        for key, value in section["properties"].items():
            assert value.get("description", "").endswith("."), f"{path}: {key}"


REFUSED: list[tuple[str, object]] = [
    ("version", 2),
    ("lock", GONE),
    ("lock.region", "Frankfurt"),
    ("lock.table", "x"),
    ("stores", []),
    ("stores.0.kind", "aws"),
    ("stores.1.vault_id", "vault"),
    ("audit.aws.bucket", "UPPER"),
    ("audit.aws.retention", "20"),
    ("databses", []),
    ("databases.0.port", 0),
    ("databases.0.host", "shop.example.com:3306"),
    ("databases.0.name", "Shop"),
    ("databases.0.plaintext", "yes"),
    ("databases.0.admin_secret", GONE),
    ("databases.0.verify_hosts", "replica"),
    ("databases.0.verify_hosts", ["a b"]),
    ("databases.0.verify_hosts", [f"r{i}" for i in range(16)]),
    ("credentials.0.interval", "often"),
    ("credentials.0.strategy", "dual-password"),
    ("credentials.0.username", "app-user"),
    ("credentials.0.databases", []),
    ("credentials.0.alternates", ["a"]),
    ("credentials.0.password_length", 8),
    ("credentials.0.secret", "a b"),
]
ALLOWED: list[tuple[str, object]] = [
    ("databases.0.ca_file", None),
    ("databases.0.verify_hosts", ["r", "r:3307"]),
    ("credentials.0.overlap", "1h 30m"),
    ("credentials.0.overlap", None),
    ("runners.aws", {}),
    ("databases.0.admin_secret", "rds!cluster-1"),
    ("databases.0.port", "${PORT:-3306}"),
    ("databases.0.host", "orders.${DOMAIN}"),
    ("credentials.0.interval", "${INTERVAL}"),
]


@pytest.mark.parametrize(
    ("path", "value", "valid"), [(*row, False) for row in REFUSED] + [(*row, True) for row in ALLOWED]
)
def test_it_refuses_what_a_schema_can_say_and_nothing_else(path: str, value: object, *, valid: bool) -> None:
    assert VALIDATOR.is_valid(edited(WITH_CA, {path: value})) is valid


@inputs(100)
@given(mutated(WITH_CA))
def test_a_schema_refuses_no_plan_that_is_valid(document: Any) -> None:  # noqa: ANN401 - a document
    text = spelled(document)
    try:
        parse_plan(text, base=Path(), environ={})
    except PlanProblemsError:
        return
    # Numbers may be given as texts: a variable is one, where the file quotes it.
    mistakes = [e for e in VALIDATOR.iter_errors(read(text)) if "integer" not in str(e.schema)]
    assert not mistakes, mistakes
