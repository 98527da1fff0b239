"""Variables of a plan, and the file without them that is deployed."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lockstep.cli.app import app
from lockstep.plan.file import PlanProblemsError, load_plan, load_shipped_plan, load_source, parse_plan
from lockstep.plan.model import Plan

ROOT = Path(__file__).parents[2]
BASE = (ROOT / "lockstep.yaml").read_text()


def place_of(text: str) -> str:
    """Line and column of the value of a key in the example."""
    line = BASE[: BASE.index(text)].count("\n") + 1
    return f"{line}:{text.index(': ') + 3}"


HOST = place_of("    host: orders.example.com")


def written(folder: Path, text: str) -> Path:
    file = folder / "lockstep.prod.yaml"
    file.write_text(text)
    return file


def test_the_file_without_variables_is_the_same_plan(tmp_path: Path) -> None:
    file = written(tmp_path, with_host("${NONE:-orders.prod.internal}"))
    shown = CliRunner().invoke(app, ["plan", "render", "-p", str(file)])
    assert shown.exit_code == 0, shown.output
    one = tmp_path / "one.yaml"
    one.write_text(shown.stdout)
    assert shown.stdout.startswith("# Made from lockstep.prod.yaml by `lockstep plan render`.\n")
    assert load_plan(one) == load_plan(file)
    digests = [c.plan_digest for c in load_shipped_plan(one).credentials]
    assert digests == [c.plan_digest for c in load_plan(file).credentials]
    # It is its own rendering.
    assert load_source(one).text == shown.stdout


def test_a_plan_without_variables_is_rendered_as_it_is_written() -> None:
    shown = CliRunner().invoke(app, ["plan", "render", "-p", str(ROOT / "lockstep.yaml")])
    assert shown.stdout == BASE


def test_what_is_shipped_has_no_variables(tmp_path: Path) -> None:
    file = written(tmp_path, with_host("${ORDERS:-orders.example.com}"))
    assert load_plan(file)
    with pytest.raises(PlanProblemsError, match="not valid") as caught:
        load_shipped_plan(file)
    (line,) = caught.value.lines
    assert line.startswith(f"{file}:{HOST}: has variables")
    assert f"lockstep plan render --plan {file}" in line


def test_the_example_of_the_page_works(tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/environments.md").read_text()
    (variables,) = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    host, port = (line.strip() for line in variables.splitlines()[2:])
    text = with_host(host.removeprefix("host: ")).replace("port: 3306", port, 1)
    orders = parse_plan(text, base=tmp_path, environ={"ORDERS_HOST": "x"}).databases[0]
    assert (orders.host, orders.port) == ("x", 3306)


def with_host(host: str) -> str:
    return BASE.replace("    host: orders.example.com", f"    host: {host}", 1)


@pytest.mark.parametrize(
    ("written", "environ", "host"),
    [
        ("${ORDERS}", {"ORDERS": "orders.internal"}, "orders.internal"),
        ("orders.${ENV}.internal", {"ENV": "prod"}, "orders.prod.internal"),
        ("${A}.${B:-b}", {"A": "a"}, "a.b"),
        ("${ORDERS:-orders.internal}", {}, "orders.internal"),
        ("${ORDERS:-orders.internal}", {"ORDERS": ""}, "orders.internal"),
        ("${ORDERS:-orders.internal}", {"ORDERS": "x"}, "x"),
        ('"${ORDERS}"', {"ORDERS": "x"}, "x"),
        ("${ORDERS}", {"ORDERS": "7"}, None),
        ('"${ORDERS}"', {"ORDERS": "7"}, "7"),
        ("${ORDERS}", {"ORDERS": "a: b"}, None),
        ("${ORDERS}", {"ORDERS": ""}, None),
        ("${ORDERS}", {"ORDERS": "${OTHER}", "OTHER": "x"}, None),
    ],
)
def test_a_variable_comes_to_a_value(written: str, environ: dict[str, str], host: str | None) -> None:
    if host is None:
        with pytest.raises(PlanProblemsError, match="not valid") as caught:
            parse_plan(with_host(written), base=Path(), environ=environ)
        (line,) = caught.value.lines
        assert line.startswith(f"lockstep.yaml:{HOST}: databases[0].host: must be")
    else:
        assert parse_plan(with_host(written), base=Path(), environ=environ).databases[0].host == host


def test_a_number_may_be_a_variable() -> None:
    for port in ("${PORT}", "'${PORT}'", "${NONE:-3307}"):
        text = BASE.replace("port: 3306", f"port: {port}")
        assert parse_plan(text, base=Path(), environ={"PORT": "3307"}).databases[0].port == 3307


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("${ORDERS}", "the variable ORDERS is not set; set it, or give a default: ${ORDERS:-…}"),
        (
            "a${ORDERS",
            "${ begins a variable, ${NAME} or ${NAME:-default}; for these characters themselves write $${",
        ),
        ("${OR DERS}", "${ begins a variable"),
        ("${}", "${ begins a variable"),
    ],
)
def test_a_variable_that_is_not_set_is_told_with_its_place(host: str, expected: str) -> None:
    with pytest.raises(PlanProblemsError) as caught:
        parse_plan(with_host(host), base=Path(), environ={"OTHER": "x"})
    (line,) = caught.value.lines
    assert line.startswith(f"lockstep.yaml:{HOST}: databases[0].host: {expected}")


def test_all_variables_that_are_not_set_are_told() -> None:
    text = with_host("${A}").replace("port: 5432", "port: ${B}").replace("table: lockstep", "table: ${C}")
    with pytest.raises(PlanProblemsError) as caught:
        parse_plan(text, base=Path(), environ={})
    assert [line.split(" ")[4] for line in caught.value.lines] == ["C", "A", "B"]


def namespace_of(plan: Plan) -> str:
    assert plan.audit.oci
    return plan.audit.oci.namespace


def test_a_dollar_sign_is_one_unless_a_brace_follows(tmp_path: Path) -> None:
    text = BASE.replace("namespace: examplenamespace", "namespace: '$$-$x$${y}'", 1)
    assert namespace_of(parse_plan(text, base=Path(), environ={})) == "$$-$x${y}"
    # What it comes to is written so that it is read as it is.
    file = written(tmp_path, text.replace("port: 3306", "port: ${NONE:-3306}"))
    one = tmp_path / "one.yaml"
    one.write_text(load_source(file).text)
    assert namespace_of(load_shipped_plan(one)) == "$$-$x${y}"


def test_a_value_of_the_environment_is_in_no_message() -> None:
    environ = {"SECRET": "Hunter2 hunter2"}
    with pytest.raises(PlanProblemsError) as caught:
        parse_plan(with_host("${SECRET}"), base=Path(), environ=environ)
    assert "unter2" not in "".join(caught.value.lines) + repr(vars(caught.value))
