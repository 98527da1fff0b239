"""The text of a plan file: the places that messages name, variables, and the file without them that is deployed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cdk.bundle import load_shipped_plan
from lockstep.cli.app import app
from lockstep.plan.file import PlanProblemsError, load_plan, load_source, parse_plan
from tests.unit.test_plan_mistakes import problems_in

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "lockstep.yaml").read_text()
MISTAKEN = """\
version: 1
lock: {tabel: lockstep, region: Frankfurt}
runner: {}
databases:
  - name: ledger
    verify_hosts: [a b]
    7: x
"""
TOLD = [
    "2:8: lock.tabel: unknown key; did you mean table?",
    "2:33: lock.region: must be the name of a region, such as eu-central-1",
    "3:1: runner: unknown key; did you mean runners?",
    *(f"5:5: databases[0].{key}: this key is required" for key in ("engine", "host", "port", "dbname")),
    "6:20: databases[0].verify_hosts[0]: must be a host name or an IPv4 address, or either with a port, host:port",
    "7:5: databases[0]: a key must be a text; if it looks like something else, put it in quotes",
]


def told(text: str, **environ: str) -> list[str]:
    return [str(problem).removeprefix("lockstep.yaml:") for problem in problems_in(text, environ)]


def test_every_mistake_is_told_with_line_and_column_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = told(MISTAKEN)
    assert [line for line in found if line in TOLD] == TOLD
    places = [tuple(map(int, line.split(":")[:2])) for line in found]
    assert places == sorted(places)
    # JSON has them, too.
    file = tmp_path / "lockstep.yaml"
    file.write_text(MISTAKEN)
    shown = CliRunner().invoke(app, ["check", "--json", "-p", str(file)])
    error = json.loads(shown.stdout)["error"]
    assert (shown.exit_code, error["name"], len(error["problems"])) == (2, "InvalidPlanError", len(found))
    told_of_table = {"place": "lock.tabel", "message": "unknown key; did you mean table?"}
    assert {**told_of_table, "mark": {"file": str(file), "line": 2, "column": 8}} in error["problems"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 1\nlock: [", "2:8: not valid YAML"),
        ("version: 1\nlock: \x07", "2:7: not valid YAML (a character that may not be in a text file)"),
        ("version: 1\nlock: 2026-13-45", "2:7: not valid YAML (a value is not of its type)"),
        ("version: 1\nlock:\n\ttable: x", "3:1: not valid YAML (a tab; indent with spaces)"),
        ("version: 1\nlock:\n  <<: {a: 1}", "3:3: not valid YAML (merge keys are not supported)"),
        ("a: " + "[" * 2_000, "1:1: not valid YAML (nested too deeply)"),
        ("\n# x\n- 1", "3:1: the file is not a mapping"),
        ("version: 9", "1:10: version: 9 is newer than 1"),
    ],
)
@pytest.mark.usefixtures("deep")
def test_a_file_that_is_no_plan_is_told_with_its_place(text: str, expected: str) -> None:
    (problem,) = told(text)
    assert problem.startswith(expected)


def test_what_cannot_be_deployed_has_its_place_too() -> None:
    shown = CliRunner().invoke(app, ["check", "--json", "-p", str(ROOT / "lockstep.yaml")])
    error = json.loads(shown.stdout)["error"]
    assert (shown.exit_code, error["name"]) == (2, "PlanNotDeployable")
    places = [(problem["mark"]["line"], problem["mark"]["column"]) for problem in error["problems"]]
    assert places == sorted(places)
    assert all("example" in EXAMPLE.splitlines()[line - 1][column - 1 :] for line, column in places)


# Variables


OF_ORDERS = "    host: orders.example.com"
HOST = f"{EXAMPLE[: EXAMPLE.index(OF_ORDERS)].count(chr(10)) + 1}:{OF_ORDERS.index(': ') + 3}"
"""Line and column of that host."""


def with_host(host: str) -> str:
    return EXAMPLE.replace(OF_ORDERS, f"    host: {host}", 1)


@pytest.mark.parametrize(
    ("written", "environ", "host"),
    [
        ("${ORDERS}", {"ORDERS": "orders.internal"}, "orders.internal"),
        ("orders.${ENV}.internal", {"ENV": "prod"}, "orders.prod.internal"),
        ("${ORDERS:-orders.internal}", {}, "orders.internal"),
        ('"${ORDERS}"', {"ORDERS": "7"}, "7"),
        ("${ORDERS}", {"ORDERS": "7"}, None),
        ("${ORDERS}", {"ORDERS": ""}, None),
        ("${ORDERS}", {"ORDERS": "${OTHER}", "OTHER": "x"}, None),
        ("${ORDERS}", {"ORDERS": "Hunter2 hunter2"}, None),
    ],
)
def test_a_variable_comes_to_a_value(written: str, environ: dict[str, str], host: str | None) -> None:
    if host is None:
        with pytest.raises(PlanProblemsError, match="not valid") as caught:
            parse_plan(with_host(written), base=Path(), environ=environ)
        (line,) = caught.value.lines
        assert line.startswith(f"lockstep.yaml:{HOST}: databases[0].host: must be")
        assert "unter2" not in line + repr(vars(caught.value))
    else:
        assert parse_plan(with_host(written), base=Path(), environ=environ).databases[0].host == host


def test_all_variables_that_are_not_set_are_told_with_their_places() -> None:
    text = with_host("${A}").replace("port: 5432", "port: ${B}").replace("table: lockstep", "table: ${C}")
    found = told(text, OTHER="x")
    assert [line.split(" ")[3] for line in found] == ["C", "A", "B"]
    assert found[1] == f"{HOST}: the variable A is not set; set it, or give a default: ${{A:-…}}"
    for host in ("a${ORDERS", "${OR DERS}", "${}"):
        assert told(with_host(host))[0].startswith(f"{HOST}: ${{ begins a variable, ${{NAME}} or ")


def test_what_is_shipped_has_no_variables_and_its_rendering_is_the_same_plan(tmp_path: Path) -> None:
    file, one = tmp_path / "lockstep.prod.yaml", tmp_path / "one.yaml"
    file.write_text(with_host("${NONE:-orders.prod.internal}"))
    with pytest.raises(PlanProblemsError, match="not valid") as caught:
        load_shipped_plan(file)
    (line,) = caught.value.lines
    assert line.startswith(f"{file}:{HOST}: has variables")
    assert f"lockstep plan render --plan {file}" in line
    shown = CliRunner().invoke(app, ["plan", "render", "-p", str(file)])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("# Made from lockstep.prod.yaml by `lockstep plan render`.\n")
    one.write_text(shown.stdout)
    assert load_shipped_plan(one) == load_plan(file)
    # A plan without variables is its own rendering.
    own = CliRunner().invoke(app, ["plan", "render", "-p", str(ROOT / "lockstep.yaml")])
    assert own.stdout == EXAMPLE


def test_a_dollar_sign_is_one_unless_a_brace_follows(tmp_path: Path) -> None:
    text = EXAMPLE.replace("# ca_file: ca.pem", "ca_file: '$$-$x$${y}'", 1)
    file, one = tmp_path / "lockstep.yaml", tmp_path / "one.yaml"
    file.write_text(text.replace("port: 3306", "port: ${NONE:-3306}"))
    # What it comes to is written so that it is read as it is.
    one.write_text(load_source(file).text)
    for plan in (parse_plan(text, base=Path(), environ={}), load_shipped_plan(one)):
        ca_file = Path(plan.database_sections[0].ca_file or "")
        assert ca_file.name == "$$-$x${y}"
