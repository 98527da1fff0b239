"""What `check` says of a plan that is not valid: where, what may be there, and what was probably meant."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lockstep.cli.app import app
from lockstep.plan.file import PlanProblemsError, parse_plan

TEXT = """\
version: 1
lock: {tabel: lockstep, region: Frankfurt}
stores:
  - kind: aws
    region: eu-central-1
  - kind: oci-vault
    region: eu-central
    vault_id: x
    ring: many
databases:
  - name: Orders
    engine: postgres
    host: orders.example.com:5432
    port: 99999
    dbname: 12
    ca_flie: x
    admin_secret: /x
  - name: ledger
    engine: Mysql
    verify_hosts: [a b]
audit: 7
runner: {}
credentials:
  - id: multi-cloud/app_user
    strategy: dual-password
    username: App User
    intervall: 20m
    overlap: 2 minutes
    databases: []
"""
TOLD = """\
2:8: lock.tabel: unknown key; did you mean table?
2:33: lock.region: must be the name of a region, such as eu-central-1
4:11: stores[0].kind: must be aws-secrets-manager or oci-vault; did you mean aws-secrets-manager?
6:5: stores[1].compartment_id: this key is required
7:13: stores[1].region: must be the name of a region, such as eu-central-1
8:15: stores[1].vault_id: must be an OCID, which begins with ocid1.
9:5: stores[1].ring: unknown key
11:11: databases[0].name: must be lower-case letters, digits and hyphens, beginning with a letter, at most 63 in all
12:13: databases[0].engine: must be mysql, mariadb or postgresql; did you mean postgresql?
13:11: databases[0].host: must be a host name or an IPv4 address, without a port
14:11: databases[0].port: must be 65535 or less
15:13: databases[0].dbname: must be a text; if it looks like a number or a date, put it in quotes
16:5: databases[0].ca_flie: unknown key; did you mean ca_file?
17:19: databases[0].admin_secret: no slash at its beginning or end, no two slashes in a row, no part of only dots
18:5: databases[1].host: this key is required
18:5: databases[1].port: this key is required
18:5: databases[1].dbname: this key is required
19:13: databases[1].engine: must be mysql, mariadb or postgresql; did you mean mysql?
20:20: databases[1].verify_hosts[0]: must be a host name or an IPv4 address, or either with a port, host:port
21:8: audit: must be a mapping
22:1: runner: unknown key; did you mean runners?
25:15: credentials[0].strategy: must be dual_password or alternating_users; did you mean dual_password?
26:15: credentials[0].username: must be letters, digits and underscores, beginning with no digit, at most 31 in all
27:5: credentials[0].intervall: unknown key; did you mean interval?
28:14: credentials[0].overlap: write a duration as a number with its unit, such as 20m, 6h or 7d
29:5: credentials[0].databases: too few entries; at least 1
"""


def told(text: str) -> list[str]:
    with pytest.raises(PlanProblemsError) as caught:
        parse_plan(text, base=Path())
    return [line.removeprefix("lockstep.yaml:") for line in caught.value.lines]


def test_every_mistake_is_told_with_line_and_column_in_the_order_of_the_file() -> None:
    assert told(TEXT) == TOLD.splitlines()


ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "lockstep.yaml").read_text()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("databases:\n", "databses:\n", "databses: unknown key; did you mean databases?"),
        ("lock:\n", "lock:\n  colour: red\n", "lock.colour: unknown key"),
        ("    port: 5432", "    port: .inf", "databases[1].port: must be a whole number"),
        ("lock:\n", "lock:\n  7: x\n", "lock: a key must be a text; if it looks like something else"),
        ("lock:\n", "7: x\nlock:\n", ": a key must be a text"),
        ("host: ledger.example.com", "host: ledger", None),
    ],
)  # fmt: skip
def test_a_mistake_in_the_example(before: str, after: str, expected: str | None) -> None:
    text = EXAMPLE.replace(before, after, 1)
    assert text != EXAMPLE
    if expected is None:
        assert parse_plan(text, base=Path())
        return
    (problem,) = [line for line in told(text) if expected in line]
    line, column, _ = problem.split(":", 2)
    # The place is the one that was changed.
    changed = next(
        n for n, (a, b) in enumerate(zip(EXAMPLE.split("\n"), text.split("\n"), strict=False), 1) if a != b
    )
    assert int(line) == changed
    assert text.split("\n")[changed - 1][int(column) - 1] != " "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 1\nlock: [", "2:8: not valid YAML"),
        ("version: 1\nlock: \x07", "2:7: not valid YAML (a character that may not be in a text file)"),
        ("version: 1\nlock: 2026-13-45", "2:7: not valid YAML (a value is not of its type)"),
        ("version: 1\nversion: 1", "2:1: not valid YAML"),
        ("version: 1\nlock:\n\ttable: x", "3:1: not valid YAML (a tab; indent with spaces)"),
        ("version: 1\nlock:\n  <<: {a: 1}", "3:3: not valid YAML (merge keys are not supported)"),
        ("a: " + "[" * 20_000, "1:1: not valid YAML (nested too deeply)"),
        ("", "1:1: the file is not a mapping"),
        ("\n# x\n- 1", "3:1: the file is not a mapping"),
        ("version: 9", "1:10: version: 9 is newer than 1"),
    ],
)
@pytest.mark.usefixtures("deep")
def test_a_file_that_is_no_plan_is_told_with_its_place(text: str, expected: str) -> None:
    (problem,) = told(text)
    assert problem.startswith(expected)


def test_json_has_the_places(tmp_path: Path) -> None:
    file = tmp_path / "lockstep.yaml"
    file.write_text(TEXT)
    shown = CliRunner().invoke(app, ["check", "--json", "-p", str(file)])
    document = json.loads(shown.stdout)
    error = document["error"]
    assert (shown.exit_code, error["name"]) == (2, "InvalidPlanError")
    assert error["problems"][0] == {
        "file": str(file),
        "line": 2,
        "column": 8,
        "place": "lock.tabel",
        "message": "unknown key; did you mean table?",
    }
    assert len(error["problems"]) == len(TOLD.splitlines())


def test_what_cannot_be_deployed_has_its_place_too(tmp_path: Path) -> None:
    file = tmp_path / "lockstep.yaml"
    file.write_text(EXAMPLE)
    shown = CliRunner().invoke(app, ["check", "--json", "-p", str(file)])
    document = json.loads(shown.stdout)
    error = document["error"]
    assert (shown.exit_code, error["name"]) == (2, "PlanNotDeployable")
    lines = [problem["line"] for problem in error["problems"]]
    assert lines == sorted(lines)
    for problem in error["problems"]:
        assert "example" in EXAMPLE.splitlines()[problem["line"] - 1]
        assert EXAMPLE.splitlines()[problem["line"] - 1][problem["column"] - 2] == " "
    text = CliRunner().invoke(app, ["check", "-p", str(file)])
    assert re.search(rf"{re.escape(str(file))}:\d+:\d+: audit.aws.bucket: ", text.stderr)
