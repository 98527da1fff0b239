"""The JSON Schema of the plan: current, complete, and never stricter than the plan itself."""

import json
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
from lockstep.protocol.model import Engine
from sandbox import plans
from tests.fuzz.harness import inputs, mutated, spelled

ROOT = Path(__file__).parents[2]
SCHEMA = plan_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
PLANS = [ROOT / "lockstep.yaml", *sorted((ROOT / "tests/infrastructure/plan").glob("*.yaml"))]
VALID = plans.plan_document(
    [
        plans.database("shop", Engine.MYSQL),
        plans.database("stock", Engine.POSTGRESQL, tls="a.pem"),
    ],
    [plans.credential("multi-cloud/app_user", "shop")],
    oci=plans.OciNames(),
)


def read(file: Path) -> Any:  # noqa: ANN401 - a document
    return YAML(typ="safe", pure=True).load(file.read_text())


def test_the_command_prints_it() -> None:
    assert CliRunner().invoke(app, ["plan", "schema"]).stdout == schema_text(SCHEMA)


@pytest.mark.parametrize("file", PLANS, ids=lambda f: str(f.relative_to(ROOT)))
def test_every_plan_of_the_repository_is_valid(file: Path) -> None:
    VALIDATOR.validate(read(file))


def mappings(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:  # noqa: ANN401 - a schema
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from mappings(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for i, value in enumerate(schema):
            yield from mappings(value, f"{path}/{i}")


def test_every_section_and_every_key_is_described() -> None:
    found = list(mappings(SCHEMA))
    assert len(found) >= 15
    for path, section in found:
        assert section["additionalProperties"] is False, path
        assert section["description"], path
        assert "Attributes:" not in section["description"], path
        for key, value in section["properties"].items():
            assert value.get("description"), f"{path}: {key}"
            assert value["description"].endswith("."), f"{path}: {key}"


def changed(path: str, value: object) -> Any:  # noqa: ANN401 - a document
    document = json.loads(json.dumps(VALID))
    *parents, last = path.split(".")
    place = document
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    if value is GONE:
        del place[last]
    else:
        place[int(last) if last.isdigit() else last] = value
    return document


GONE = object()


@pytest.mark.parametrize(
    ("path", "value"),
    [
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
    ],
)
def test_what_a_schema_can_say_is_refused(path: str, value: object) -> None:
    assert not VALIDATOR.is_valid(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("databases.0.ca_file", None),
        ("databases.0.verify_hosts", ["r", "r:3307"]),
        ("credentials.0.overlap", "1h 30m"),
        ("credentials.0.overlap", None),
        ("runners.aws", {}),
        ("databases.0.admin_secret", "rds!cluster-1"),
        ("databases.0.port", "${PORT:-3306}"),
        ("databases.0.host", "orders.${DOMAIN}"),
        ("credentials.0.interval", "${INTERVAL}"),
    ],
)
def test_what_the_plan_allows_is_not_refused(path: str, value: object) -> None:
    VALIDATOR.validate(changed(path, value))


@inputs(200)
@given(mutated(VALID))
def test_a_schema_refuses_no_plan_that_is_valid(document: Any) -> None:  # noqa: ANN401 - a document
    text = spelled(document)
    try:
        parse_plan(text, base=Path(), environ={})
    except PlanProblemsError:
        return
    # Numbers may be given as texts: a variable is one, where the file quotes it.
    mistakes = [
        e for e in VALIDATOR.iter_errors(YAML(typ="safe", pure=True).load(text)) if not of_a_number(e)
    ]
    assert not mistakes, mistakes


def of_a_number(error: jsonschema.ValidationError) -> bool:
    return "integer" in str(error.schema)
