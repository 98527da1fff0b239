"""What changes between two plans, and the order in which it is safe."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lockstep.cli.app import app
from lockstep.plan.diff import Phase, PlanChanges, plan_changes
from lockstep.plan.file import parse_plan
from lockstep.plan.model import Plan
from lockstep.protocol.model import Engine, Strategy
from sandbox import plans

CREDENTIAL = "multi-cloud/app_user"
Document = dict[str, Any]
Edit = Callable[[Document], object]


def document() -> Document:
    return plans.plan_document(
        [plans.database("shop", Engine.POSTGRESQL), plans.database("stock", Engine.MYSQL)],
        [
            plans.credential(
                CREDENTIAL,
                "shop",
                "stock",
                strategy=Strategy.ALTERNATING_USERS,
                alternates=["app_a", "app_b"],
                connection_secret="multi-cloud/blob",
            ),
            plans.credential("other/user", "stock", username="other"),
        ],
        oci=plans.OciNames(),
    )


def plan(of: Document) -> Plan:
    return parse_plan(json.dumps(of), base=Path())


def edited(edit: Edit, before: Document | None = None) -> Document:
    found = deepcopy(before or document())
    edit(found)
    return found


def changes(edit: Edit, *, before: Edit = lambda _: None) -> PlanChanges:
    old = edited(before)
    return plan_changes(plan(old), plan(edited(edit, old)))


def steps(found: PlanChanges) -> list[tuple[Phase, str]]:
    assert found.refusals == ()
    return [(step.phase, step.what) for step in found.steps]


def refused(found: PlanChanges) -> str:
    assert found.refusals
    return "\n".join(f"{refusal.what}: {refusal.why}" for refusal in found.refusals)


def credential(**more: object) -> Edit:
    return lambda of: of["credentials"][0].update(more)


def vault(**more: object) -> Edit:
    return lambda of: of["stores"][1].update(more)


def no_vault(of: Document) -> None:
    del of["stores"][1]
    of["runners"].pop("oci", None)
    of["audit"].pop("oci", None)


def test_the_same_plan_has_no_steps() -> None:
    assert changes(lambda _: None) == PlanChanges(safe=True, refusals=(), steps=())


@pytest.mark.parametrize(
    "edit",
    [
        lambda of: of["databases"][0].update(admin_secret="elsewhere/admin"),
        lambda of: of["credentials"][0].update(password_length=40),
        lambda of: of["databases"].reverse(),
    ],
    ids=["an admin secret", "the length of a password", "the order of the servers"],
)
def test_what_each_runner_may_have_its_own_way_is_no_change(edit: Edit) -> None:
    assert changes(edit).steps == ()


# What never changes


def test_the_strategy_of_an_id_never_changes() -> None:
    def dual(of: Document) -> None:
        of["credentials"][0].update(strategy="dual_password", databases=["stock"], username="app_a")
        del of["credentials"][0]["alternates"]

    assert f"{CREDENTIAL}: the strategy of an id never changes" in refused(changes(dual))


@pytest.mark.parametrize("alternates", [["app_b", "app_a"], ["app_a", "app_c"]])
def test_existing_usernames_stay_in_their_order(alternates: list[str]) -> None:
    text = refused(changes(credential(alternates=alternates)))
    assert f"{CREDENTIAL}: the usernames app_a, app_b stay, in this order" in text


def test_the_secrets_of_an_id_are_not_renamed() -> None:
    """Its readers would keep the last value, which dies two rotations later."""
    renamed = credential(secret="new/app_user")
    assert "multi-cloud/app_user and multi-cloud/blob would keep a value that dies" in refused(
        changes(renamed)
    )


def test_the_host_part_of_accounts_stays() -> None:
    def host(of: Document) -> None:
        of["credentials"][1]["account_host"] = "10.%"

    assert "other/user: account_host: its accounts would be others" in refused(changes(host))


# What leaves is left by its readers first


LEAVING: dict[str, tuple[Edit, str]] = {
    "a database": (credential(databases=["stock"]), f"{CREDENTIAL}, database shop"),
    "a database that moves": (
        lambda of: of["databases"][0].update(host="new.example.net"),
        f"{CREDENTIAL}, database shop",
    ),
    "a database of another engine": (
        lambda of: of["databases"][1].update(engine="mariadb"),
        f"{CREDENTIAL}, database stock",
    ),
    "a store": (no_vault, "store oci"),
    "a store that moves": (lambda of: of["stores"][0].update(region="eu-west-1"), "store aws"),
    "a vault that moves": (vault(vault_id="ocid1.vault.oc1..b"), "store oci"),
    "a compartment that changes": (vault(compartment_id="ocid1.compartment.oc1..b"), "store oci"),
    "a credential": (lambda of: of["credentials"].pop(1), "other/user"),
    "the lock table": (lambda of: of["lock"].update(table="another"), "lock"),
}


@pytest.mark.parametrize(("edit", "what"), LEAVING.values(), ids=LEAVING)
def test_what_leaves_is_left_by_its_readers_first(edit: Edit, what: str) -> None:
    found = steps(changes(edit))
    assert found[0] == (Phase.READERS_FIRST, what)
    assert found == sorted(found, key=lambda step: list(Phase).index(step[0]))


def test_apply_wants_what_leaves_named() -> None:
    assert "--drop shop" in "".join(
        step.do for step in changes(credential(databases=["stock"])).steps if step.phase is Phase.ACTIVATE
    )


def test_a_cloud_leaves_after_its_readers() -> None:
    found = changes(no_vault)
    digests = {c.id: c.plan_digest for c in plan(document()).credentials}
    assert steps(found) == [
        (Phase.READERS_FIRST, "store oci"),
        (Phase.ACTIVATE, CREDENTIAL),
        (Phase.ACTIVATE, "other/user"),
        (Phase.CLEAN_UP, "store oci"),
    ]
    assert f"apply {CREDENTIAL} --from {digests[CREDENTIAL]} --drop oci" in found.steps[1].do


# What comes is used last


def test_a_store_that_comes_is_read_last() -> None:
    found = plan_changes(plan(edited(no_vault)), plan(document()))
    assert [step for step in steps(found) if step[1] == "store oci"] == [
        (Phase.PREPARE, "store oci"),
        (Phase.READERS_LAST, "store oci"),
    ]


def test_a_database_that_comes_is_taken_over_and_used_last() -> None:
    found = changes(credential(databases=["shop", "stock"]), before=credential(databases=["shop"]))
    where = f"{CREDENTIAL}, database stock"
    assert steps(found) == [
        (Phase.PREPARE, where),
        (Phase.ACTIVATE, CREDENTIAL),
        (Phase.READERS_LAST, where),
    ]


def test_a_verify_host_that_leaves_is_left_by_its_readers() -> None:
    def replicas(*hosts: str) -> Edit:
        return lambda of: of["databases"][0].update(verify_hosts=list(hosts))

    found = changes(replicas(), before=replicas("replica.example.net"))
    assert steps(found)[0] == (Phase.READERS_FIRST, f"{CREDENTIAL}, database shop")
    assert steps(changes(replicas("replica.example.net"))) == [(Phase.ACTIVATE, CREDENTIAL)]


def test_a_credential_that_comes() -> None:
    found = plan_changes(plan(edited(lambda of: of["credentials"].pop(1))), plan(document()))
    assert steps(found) == [
        (Phase.PREPARE, "other/user"),
        (Phase.ACTIVATE, "other/user"),
        (Phase.READERS_LAST, "other/user"),
    ]


def test_readers_follow_the_overlap_on_the_safe_side() -> None:
    shorter = changes(credential(overlap="10m"))
    assert steps(shorter) == [(Phase.READERS_FIRST, CREDENTIAL), (Phase.ACTIVATE, CREDENTIAL)]
    longer = changes(credential(overlap="15m"), before=credential(overlap="10m"))
    assert steps(longer) == [(Phase.ACTIVATE, CREDENTIAL), (Phase.READERS_LAST, CREDENTIAL)]


def test_whether_a_vault_is_the_first_store_does_not_change() -> None:
    """It would keep a value in another slot than readers, or the runners, look at (protocol V13)."""

    def first(of: Document) -> None:
        of["stores"].reverse()
        for one in of["credentials"]:
            one["interval"] = "2h"

    def slow(of: Document) -> None:
        for one in of["credentials"]:
            one["interval"] = "2h"

    assert "store oci: a vault that is the first store keeps" in refused(changes(first, before=slow))
    assert "store oci: a vault that is the first store keeps" in refused(changes(first, before=first))


# The command


@pytest.fixture
def files(tmp_path: Path) -> Callable[[Edit], tuple[str, str]]:
    def write(edit: Edit) -> tuple[str, str]:
        old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
        old.write_text(json.dumps(document()))
        new.write_text(json.dumps(edited(edit)))
        return str(old), str(new)

    return write


def test_the_command_prints_the_steps_in_order(files: Callable[[Edit], tuple[str, str]]) -> None:
    shown = CliRunner().invoke(app, ["plan", "diff", *files(no_vault)])
    assert shown.exit_code == 0
    assert shown.stdout.startswith("1. store oci: no application reads it any more")
    assert "\n2. multi-cloud/app_user: deploy the plan to both clouds, then: lockstep apply" in (shown.stdout)


def test_the_command_refuses(files: Callable[[Edit], tuple[str, str]]) -> None:
    renamed = credential(secret="new/app_user")
    shown = CliRunner().invoke(app, ["plan", "diff", *files(renamed), "--json"])
    assert shown.exit_code == 1
    printed = json.loads(shown.stdout)
    assert (printed["safe"], printed["refusals"][0]["what"]) == (False, CREDENTIAL)
    shown = CliRunner().invoke(app, ["plan", "diff", *files(renamed)])
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "would keep a value that dies" in shown.stderr
    assert CliRunner().invoke(app, ["plan", "diff", *files(lambda _: None)]).stdout.startswith("nothing")
