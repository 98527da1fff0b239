"""A credential's usernames in the plan, and who may read its secrets."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lockstep.cli.app import app
from lockstep.plan.file import PlanProblemsError, parse_plan
from lockstep.plan.model import Plan
from lockstep.protocol.model import Engine, Strategy
from sandbox import plans

NEWEST_SLOT = (
    "in AWS anything that reads the secret; in OCI only what looks for the newest slot: lockstep agent or "
    "lockstep.client"
)


def document(
    *, strategy: Strategy = Strategy.ALTERNATING_USERS, first: bool = False, **more: object
) -> dict[str, Any]:
    credential = plans.credential("multi-cloud/ledger", "db", strategy=strategy, username="ledger")
    found = plans.plan_document(
        [plans.database("db", Engine.MYSQL)], [{**credential, **more}], oci=plans.OciNames()
    )
    if first:
        found["stores"].reverse()
    return found


def plan(**more: Any) -> Plan:  # noqa: ANN401 - values of a plan file
    return parse_plan(json.dumps(document(**more)), base=Path())


def problems(**more: Any) -> str:  # noqa: ANN401 - values of a plan file
    with pytest.raises(PlanProblemsError) as error:
        plan(**more)
    return " ".join(error.value.lines)


def usernames(**more: Any) -> tuple[str, ...]:  # noqa: ANN401 - values of a plan file
    return plan(**more).credentials[0].usernames


def test_the_usernames_are_lettered() -> None:
    assert usernames() == ("ledger_a", "ledger_b")
    assert usernames(alternates=["x", "y"]) == ("x", "y")


def test_two_usernames_alternate() -> None:
    assert "users: unknown" in problems(users=5)
    assert "alternates: too many entries; at most 2" in problems(alternates=["x", "y", "z"])
    assert "alternates: must be different" in problems(alternates=["x", "x"])


@pytest.mark.parametrize(
    ("more", "readers", "works"),
    [
        (
            {},
            NEWEST_SLOT,
            "for up to 40m, and a leaked one for up to 20m after it was replaced, unless it is revoked",
        ),
        (
            {"first": True, "interval": "2h"},
            "anything that reads the secret",
            "for up to 4h, and a leaked one for up to 2h after it was replaced, unless it is revoked",
        ),
    ],
)
def test_plan_check_says_who_may_read_and_how_long_a_value_works(
    tmp_path: Path, more: dict[str, Any], readers: str, works: str
) -> None:
    file = tmp_path / "lockstep.yaml"
    real = document(**more)
    real["databases"][0]["host"] = "db.internal"
    file.write_text(json.dumps(real))
    shown = CliRunner().invoke(app, ["check", "-p", str(file)], env={"COLUMNS": "400"})
    assert f"readers: {readers}\n" in shown.stdout, shown.output
    assert f"a value works: {works}\n" in shown.stdout
    told = json.loads(CliRunner().invoke(app, ["check", "--json", "-p", str(file)]).stdout)
    assert (told["credentials"][0]["readers"], told["credentials"][0]["a_value_works"]) == (readers, works)
