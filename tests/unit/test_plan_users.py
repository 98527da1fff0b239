"""The number of a credential's usernames in the plan: two, or more than any store has slots (protocol V18)."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lockstep.cli.app import app
from lockstep.plan.diff import Phase, plan_changes
from lockstep.plan.file import PlanProblemsError, parse_plan
from lockstep.plan.model import Plan
from lockstep.protocol.model import Engine, Strategy
from sandbox import plans

FIVE = ("ledger_a", "ledger_b", "ledger_c", "ledger_d", "ledger_e")

NEWEST_SLOT = (
    "in AWS anything that reads the secret; in OCI only what looks for the newest slot: lockstep agent or "
    "lockstep.client. With users: 5 (alternating_users) anything may read any one slot"
)


def document(
    *, strategy: Strategy = Strategy.ALTERNATING_USERS, vault: dict[str, object] | None = None, **more: object
) -> dict[str, Any]:
    credential = plans.credential("multi-cloud/ledger", "db", strategy=strategy, username="ledger")
    found = plans.plan_document(
        [plans.database("db", Engine.MYSQL)], [{**credential, **more}], oci=plans.OciNames()
    )
    found["stores"][1].update(vault or {})
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
    assert usernames() == FIVE[:2]
    assert usernames(users=2) == FIVE[:2]
    assert usernames(users=5) == FIVE
    assert usernames(alternates=["x", "y", "z", "u", "v"]) == ("x", "y", "z", "u", "v")


def test_the_default_number_leaves_the_digest() -> None:
    assert plan().credentials[0].plan_digest == plan(users=2).credentials[0].plan_digest
    assert plan().credentials[0].plan_digest != plan(users=5).credentials[0].plan_digest


@pytest.mark.parametrize("count", [3, 4])
def test_more_than_two_usernames_are_more_than_there_are_slots(count: int) -> None:
    assert f"credentials[0].users: {count} usernames are served by up to 4 slots" in problems(users=count)


def test_slots_that_only_readers_read_count() -> None:
    assert "served by up to 5 slots, so none would be free; use 6 or more" in problems(
        users=5, vault={"readers_ring": 5}
    )
    assert usernames(users=6, vault={"readers_ring": 5})[-1] == "ledger_f"


def test_dual_passwords_have_one_username() -> None:
    assert "users: allowed only with" in problems(strategy=Strategy.DUAL_PASSWORD, users=5)
    assert "users: allowed only with" in problems(users=5, alternates=["x", "y"])
    assert "alternates: must be different" in problems(alternates=["x", "y", "x", "u", "v"])


def test_usernames_are_appended_before_the_plan_is_active() -> None:
    found = plan_changes(plan(), plan(users=5))
    assert found.refusals == ()
    assert [step.phase for step in found.steps] == [Phase.PREPARE, Phase.ACTIVATE, Phase.READERS_LAST]
    assert "create ledger_c, ledger_d, ledger_e on every database" in found.steps[0].text
    assert (
        "the usernames ledger_a, ledger_b, ledger_c" in plan_changes(plan(users=5), plan()).refusals[0].text
    )


def test_usernames_come_before_slots_and_readers_before_the_ring() -> None:
    """Five slots need six usernames; readers read them before values are staged there (protocol V16, V18)."""
    four, five = plan(users=5), plan(users=6, vault={"readers_ring": 5})
    assert "served by up to 5 slots" in problems(users=5, vault={"readers_ring": 5})
    assert "served by up to 5 slots" in problems(users=5, vault={"ring": 5})
    steps = plan_changes(four, five).steps
    assert "create ledger_f on every database" in next(
        s.text for s in steps if s.what == "multi-cloud/ledger"
    )
    assert any(s.phase is Phase.READERS_FIRST and "read 5 slots" in s.text for s in steps)
    grown = plan_changes(five, plan(users=6, vault={"ring": 5}))
    assert grown.refusals == ()
    [refusal] = plan_changes(four, plan(users=6, vault={"ring": 5})).refusals
    assert "First let every reader read 5 slots" in refusal.text


@pytest.mark.parametrize(
    ("more", "readers", "works"),
    [
        (
            {"users": 5},
            "anything that reads any one slot in OCI, or the secret in AWS",
            "for up to 1h40m, and a leaked one for up to 1h20m after it was replaced, unless it is revoked",
        ),
        (
            {},
            NEWEST_SLOT,
            "for up to 40m, and a leaked one for up to 20m after it was replaced, unless it is revoked",
        ),
        (
            {"vault": {"ring": 1}, "interval": "2h"},
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
    shown = CliRunner().invoke(app, ["plan", "check", "-p", str(file)], env={"COLUMNS": "400"})
    assert f"readers: {readers}\n" in shown.stdout, shown.output
    assert f"a value works: {works}\n" in shown.stdout
    told = json.loads(CliRunner().invoke(app, ["plan", "check", "--json", "-p", str(file)]).stdout)
    assert (told["credentials"][0]["readers"], told["credentials"][0]["a_value_works"]) == (readers, works)
