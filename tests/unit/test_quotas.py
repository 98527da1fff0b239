"""What a plan needs of the clouds' limits: each breaks exactly where it should, and `check` tells."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lockstep.cli import app
from lockstep.plan.file import parse_plan
from lockstep.plan.limits import Use, broken, busiest, uses
from lockstep.plan.model import Plan
from lockstep.protocol.model import Engine
from lockstep.protocol.ring import SLOTS
from sandbox import plans
from tests.support.scaled import scaled

OCI = plans.OciNames()
LISTED = "arn:aws:secretsmanager:eu-central-1:333344445555:secret:dba/orders-{:06}"


def document(*, oci: bool = True, standby: bool = True, **credential: Any) -> dict[str, Any]:  # noqa: ANN401 - as in a plan
    """A plan of one credential."""
    made = plans.plan_document(
        [plans.database("orders", Engine.MYSQL, host="orders.internal", tls="")],
        [plans.credential("multi-cloud/app_user", "orders", **credential)],
        oci=OCI if oci else None,
    )
    if not standby:
        del made["runners"]["oci"]
    return made


def plan_of(made: dict[str, Any]) -> Plan:
    return parse_plan(json.dumps(made), base=Path())


def named(plan: Plan, name: str) -> Use:
    (found,) = (use for use in uses(plan) if name in use.name)
    return found


def test_a_small_plan_fits() -> None:
    assert not any(use.exceeded for use in uses(plan_of(document())))


def test_shards_of_a_fleet_begin_in_their_minute() -> None:
    assert not named(scaled(plan_of(document()), 10_000), "Lockstep, time").exceeded


def test_a_ring_needs_two_secrets_for_each_slot() -> None:
    plan = plan_of(document(standby=False))
    assert named(plan, "OCI Vault, secrets").need == 2 * SLOTS
    assert not named(scaled(plan, 625), "OCI Vault, secrets").exceeded
    assert named(scaled(plan, 626), "OCI Vault, secrets").exceeded
    assert broken(scaled(plan, 626)) == []


@pytest.mark.parametrize("managed", [False, True])
def test_admins_that_are_known_by_arn_fill_the_policy_of_one_function(*, managed: bool) -> None:
    made = document(oci=False)
    database = made["databases"][0]

    def with_admins(count: int) -> Use:
        made["databases"] = [
            {
                **database,
                "name": f"orders-{i}",
                "host": f"orders-{i}.internal",
                "admin_secret": f"rds!cluster-{i:06}" if managed else LISTED.format(i),
            }
            for i in range(count)
        ]
        made["credentials"][0]["databases"] = ["orders-0"]
        return named(plan_of(made), "IAM, inline")

    one, two = with_admins(1), with_admins(2)
    most = 1 + int((one.limit - one.need) // (two.need - one.need))
    assert not with_admins(most).exceeded
    assert with_admins(most + 1).exceeded


@pytest.mark.parametrize(("need", "exceeded"), [(100, False), (100.01, True)])
def test_all_of_a_limit_still_fits(need: float, *, exceeded: bool) -> None:
    use = Use("x", need, 100, "y", "change")
    assert use.exceeded is exceeded
    assert ("change" in str(use)) is exceeded


def check(tmp_path: Path, made: dict[str, Any], *words: str) -> tuple[int, str]:
    """Exit code and output of `lockstep check`."""
    file = tmp_path / "lockstep.yaml"
    file.write_text(json.dumps(made))
    shown = CliRunner().invoke(app, ["check", "-p", str(file), *words])
    return shown.exit_code, shown.stdout + shown.stderr


def fleet(count: int) -> dict[str, Any]:
    """A plan of so many credentials, as a file has it."""
    made = document()
    first = made["credentials"][0]
    made["credentials"] = [
        {
            **first,
            "id": f"app-{i}",
            "username": f"app_{i}",
        }
        for i in range(count)
    ]
    return made


def at_midnight(count: int) -> dict[str, Any]:
    """Such a plan, in which each of six classes begins at midnight."""
    made = fleet(count)
    for number, credential in enumerate(made["credentials"]):
        credential["interval"] = f"{(1, 2, 4, 6, 8, 12)[number % 6]}h"
    return made


def test_plan_check_refuses_a_plan_beyond_a_limit_that_nobody_raises(tmp_path: Path) -> None:
    told = "Secrets Manager, writes in the busiest minute"
    code, text = check(tmp_path, at_midnight(660))
    assert (code, told in text) == (0, False)
    code, text = check(tmp_path, at_midnight(900))
    assert (code, told in text, "use longer intervals" in text) == (2, True, True)


def test_plan_check_tells_the_shards_and_the_busiest_minute(tmp_path: Path) -> None:
    made = fleet(250)
    code, text = check(tmp_path, made)
    found = busiest(plan_of(made).shards)
    assert code == 0
    assert f"5 shards; at the busiest minute, {found}, {found.rotations} rotations begin" in text
    assert "and 230 more credentials: --json has them all" in text
    assert "shard" not in check(tmp_path, document())[1]
    code, text = check(tmp_path, made, "--json")
    starts = json.loads(text)["starts"]
    assert (starts["shards"], starts["rotations"]) == (5, found.rotations)
    assert starts["concurrency"].keys() == {f"20m-0{number}" for number in range(5)}
