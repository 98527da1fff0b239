"""Several environments: overlays over a plan, variables, and the one file that they come to."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from ruamel.yaml import YAML
from typer.testing import CliRunner

from lockstep.cli.app import app
from lockstep.plan_file import PlanProblemsError, load_plan, load_shipped_plan, load_source, parse_plan
from lockstep.store_kinds.oci_vault import OciVault
from tests.fuzz.harness import Json, inputs, judged, mutated, spelled

ROOT = Path(__file__).parents[2]
BASE = (ROOT / "lockstep.yaml").read_text()


def place_of(text: str) -> str:
    """Line and column of the value of a key in the example."""
    line = BASE[: BASE.index(text)].count("\n") + 1
    return f"{line}:{text.index(': ') + 3}"


HOST, PORT = place_of("    host: orders.example.com"), place_of("    port: 5432")
PROD = """\
extends: lockstep.yaml
lock: {table: lockstep-prod}
stores:
  - kind: oci-vault
    vault_id: ocid1.vault.oc1..prod
    own_compartment_id: null
databases:
  - name: ledger
    host: ledger.prod.internal
    tls: {ca_file: prod.pem}
  - name: stock
    engine: mysql
    host: stock.prod.internal
    port: 3306
    dbname: stock
    tls: {}
    admin_secret: lockstep/admin/stock
credentials:
  - id: multi-cloud/app_user
    interval: 1h
    databases: [orders, stock]
"""


def written(folder: Path, overlay: str = PROD, base: str = BASE) -> Path:
    (folder / "lockstep.yaml").write_text(base)
    file = folder / "lockstep.prod.yaml"
    file.write_text(overlay)
    return file


def told(folder: Path, overlay: str, base: str = BASE) -> list[str]:
    with pytest.raises(PlanProblemsError) as caught:
        load_plan(written(folder, overlay, base))
    return [line.replace(f"{folder}/", "") for line in caught.value.lines]


def test_mappings_merge_named_things_merge_and_the_rest_is_replaced(tmp_path: Path) -> None:
    plan, base = load_plan(written(tmp_path)), load_plan(ROOT / "lockstep.yaml")
    assert (plan.lock.table, plan.lock.region) == ("lockstep-prod", base.lock.region)
    assert [s.kind for s in plan.stores] == ["aws-secrets-manager", "oci-vault"]
    vault, below = plan.store(OciVault), base.store(OciVault)
    assert vault
    assert below
    assert (vault.vault_id, vault.compartment_id) == ("ocid1.vault.oc1..prod", below.compartment_id)
    # Null takes the key away.
    assert (vault.own_compartment_id is None, below.own_compartment_id is None) == (True, False)
    assert [d.name for d in plan.databases] == ["orders", "ledger", "stock"]
    ledger = plan.databases[1]
    assert (ledger.host, ledger.port) == ("ledger.prod.internal", 5432)
    assert ledger.tls
    assert ledger.tls.ca_file == tmp_path / "prod.pem"
    app_user, ledger_user = plan.credentials
    assert app_user.databases == ("orders", "stock")
    assert app_user.schedule.interval.total_seconds() == 3600
    assert ledger_user.secret_names == base.credentials[1].secret_names


def test_the_one_file_that_it_comes_to_is_the_same_plan(tmp_path: Path) -> None:
    overlay = written(tmp_path)
    shown = CliRunner().invoke(app, ["plan", "render", "-p", str(overlay)])
    assert shown.exit_code == 0, shown.output
    one = tmp_path / "one.yaml"
    one.write_text(shown.stdout)
    assert shown.stdout.startswith("# Made from lockstep.prod.yaml by `lockstep plan render`.\n")
    assert "extends" not in shown.stdout
    assert load_plan(one) == load_plan(overlay)
    digests = [c.plan_digest for c in load_shipped_plan(one).credentials]
    assert digests == [c.plan_digest for c in load_plan(overlay).credentials]
    # It is its own rendering.
    assert load_source(one).text == shown.stdout


def test_a_plan_of_one_file_is_rendered_as_it_is_written() -> None:
    shown = CliRunner().invoke(app, ["plan", "render", "-p", str(ROOT / "lockstep.yaml")])
    assert shown.stdout == BASE


@pytest.mark.parametrize(
    ("overlay", "base", "expected"),
    [
        ("extends: ../lockstep.yaml", BASE, "lockstep.prod.yaml:1:10: extends: must be the name of a file"),
        ("extends: [a]", BASE, "lockstep.prod.yaml:1:10: extends: must be the name of a file"),
        ("extends: none.yaml", BASE, "lockstep.prod.yaml:1:10: extends: none.yaml: cannot be read: No such file"),
        ("extends: lockstep.yaml", "extends: x.yaml", "lockstep.yaml:1:10: extends: lockstep.yaml is extended by"),
        ("extends: lockstep.yaml", "a: [", "lockstep.yaml:1:5: not valid YAML"),
        ("extends: lockstep.yaml", "- a", "lockstep.yaml:1:1: the file is not a mapping"),
        ("extends: lockstep.yaml\nlock: {table: x}", BASE, "lockstep.prod.yaml:2:15: lock.table: must be 3 to 255"),
        ("extends: lockstep.yaml\nlock: {}\nlock: {}", BASE, "lockstep.prod.yaml:3:1: not valid YAML"),
        ("extends: lockstep.yaml\nlocks: {}", BASE, "lockstep.prod.yaml:2:1: locks: unknown key; did you mean lock?"),
        ("extends: lockstep.yaml\nlock: null", BASE, "lockstep.prod.yaml:1:1: lock: this key is required"),
        (
            "extends: lockstep.yaml\ndatabases: [{name: orders, port: 0}]",
            BASE,
            "lockstep.prod.yaml:2:34: databases[0].port: must be 1 or more",
        ),
        (
            "extends: lockstep.yaml",
            BASE.replace("port: 5432", "port: x"),
            f"lockstep.yaml:{PORT}: databases[1].port: must be a whole number",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_the_file_that_has_it(
    tmp_path: Path, overlay: str, base: str, expected: str
) -> None:
    (problem,) = told(tmp_path, overlay, base)
    assert problem.startswith(expected), problem


@pytest.mark.parametrize(
    ("key", "entries", "place"),
    [
        ("databases", "{name: orders, host: a}, {name: orders, port: 1}", "2:45: databases[1].name"),
        ("databases", "{name: new}, {name: ledger}, {name: new}", "2:49: databases[2].name"),
        ("stores", "{kind: oci-vault, ring: 4}, {kind: oci-vault, ring: 5}", "2:45: stores[1].kind"),
        ("credentials", "{id: a/b}, {}, {id: a/b}", "2:35: credentials[2].id"),
    ],
)
def test_an_overlay_has_one_entry_of_a_name(tmp_path: Path, key: str, entries: str, place: str) -> None:
    """Of two one would be lost, and nobody would hear of it."""
    (problem,) = told(tmp_path, f"extends: lockstep.yaml\n{key}: [{entries}]")
    assert problem.startswith(f"lockstep.prod.yaml:{place}: this overlay has an entry of it already")


def test_what_holds_itself_or_grows_without_bound_is_no_harm(tmp_path: Path) -> None:
    bomb = "\n".join(
        ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}" for n in range(1, 60))]
    )
    for text in ("lock: &a {table: *a}\n", bomb):
        with judged("overlay", PlanProblemsError), pytest.raises(PlanProblemsError):
            load_plan(written(tmp_path, f"extends: lockstep.yaml\n{text}", text))


def test_what_is_shipped_is_one_file(tmp_path: Path) -> None:
    variable = BASE.replace("orders.example.com", "${ORDERS:-orders.example.com}", 1)
    for overlay, place in ((PROD, "1:10"), (variable, HOST)):
        file = written(tmp_path, overlay)
        assert load_plan(file)
        with pytest.raises(PlanProblemsError, match="not valid") as caught:
            load_shipped_plan(file)
        (line,) = caught.value.lines
        assert line.startswith(f"{file}:{place}: extends another file or has variables")
        assert f"lockstep plan render --plan {file}" in line


def test_the_examples_of_the_page_work(tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/environments.md").read_text()
    overlay, variables = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    plan = load_plan(written(tmp_path, overlay))
    assert (plan.lock.table, plan.databases[0].host) == ("lockstep-prod", "orders.prod.internal")
    file = written(tmp_path, f"extends: lockstep.yaml\n{variables}")
    host = parse_plan(file.read_text(), base=tmp_path, environ={"ORDERS_HOST": "x"}).databases[0]
    assert (host.host, host.port) == ("x", 3306)


# ---- Variables


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


def test_one_that_an_overlay_replaces_need_not_be_set(tmp_path: Path) -> None:
    overlay = "extends: lockstep.yaml\ndatabases: [{name: orders, host: orders.internal}]"
    plan = load_plan(written(tmp_path, overlay, with_host("${LOCKSTEP_TEST_UNSET}")))
    assert plan.databases[0].host == "orders.internal"


CLASSES = "    password: {classes: [abcdefghijklmnopqrstuvwxyz, %s]}\n    databases: [orders]"


def test_a_dollar_sign_is_one_unless_a_brace_follows(tmp_path: Path) -> None:
    text = BASE.replace("    databases: [orders]", CLASSES % "'$$-$x$${y}'", 1)
    plan = parse_plan(text, base=Path(), environ={})
    assert plan.credentials[0].password_policy.classes[1] == "$$-$x${y}"
    # What it comes to is written so that it is read as it is.
    overlay = written(tmp_path, "extends: lockstep.yaml\nlock: {table: lockstep}", text)
    one = tmp_path / "one.yaml"
    one.write_text(load_source(overlay).text)
    assert load_shipped_plan(one).credentials[0].password_policy.classes[1] == "$$-$x${y}"


def test_a_value_of_the_environment_is_in_no_message() -> None:
    environ = {"SECRET": "Hunter2 hunter2"}
    with pytest.raises(PlanProblemsError) as caught:
        parse_plan(with_host("${SECRET}"), base=Path(), environ=environ)
    assert "unter2" not in "".join(caught.value.lines) + repr(vars(caught.value))


# ---- Anything


DOCUMENT: Json = YAML(typ="safe", pure=True).load(BASE)


@inputs(150)
@given(mutated(DOCUMENT), mutated({"extends": "lockstep.yaml", **YAML(typ="safe", pure=True).load(PROD)}))
def test_a_mutated_overlay_over_a_mutated_plan(
    tmp_path_factory: pytest.TempPathFactory, base: Json, overlay: Json
) -> None:
    folder = tmp_path_factory.getbasetemp()
    with judged("overlay", PlanProblemsError):
        source = load_source(written(folder, spelled(overlay), spelled(base)))
        one = parse_plan(source.text, base=folder, environ={})
        assert [c.plan_digest for c in one.credentials] == [c.plan_digest for c in source.plan.credentials]


def test_json_of_a_mistake_in_an_overlay_names_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "extends: lockstep.yaml\nlock: {region: x}")
    shown = CliRunner().invoke(app, ["plan", "check", "--json", "-p", str(file)])
    problem: dict[str, Any] = json.loads(shown.stdout)["error"]["problems"][0]
    assert (problem["file"], problem["line"], problem["column"]) == (str(file), 2, 16)
