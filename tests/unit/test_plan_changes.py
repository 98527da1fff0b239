"""What changes between two plans, and the order in which it is safe."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lockstep.cli.app import app
from lockstep.plan.diff import PlanChanges, plan_changes
from tests.unit.plan_case import GONE, Changes, edited, parse
from tests.unit.test_plan_digest import CREDENTIAL, DOCUMENT, SLOW

NOTHING: Changes = {}
NO_VAULT: Changes = {"stores.1": GONE, "runners.oci": GONE, "audit.oci": GONE}
RENAMED: Changes = {"credentials.0.secret": "new/app_user"}
VAULT_FIRST: Changes = {**SLOW, "stores": DOCUMENT["stores"][::-1]}
DUAL: Changes = {"credentials.0.strategy": "dual_password", "credentials.0.alternates": GONE}


def between(before: Changes, after: Changes) -> PlanChanges:
    return plan_changes(parse(edited(DOCUMENT, before)), parse(edited(DOCUMENT, after)))


def test_what_each_runner_may_have_its_own_way_is_no_change() -> None:
    """What that is: `tests/unit/test_plan_digest.py`."""
    changes = {"credentials.0.password_length": 40, "databases": DOCUMENT["databases"][::-1]}
    assert between(NOTHING, changes) == PlanChanges(safe=True, refusals=(), steps=())


OF_APP = f"{CREDENTIAL}: "
RING = "store oci: a vault that is the first store keeps"
REFUSED: dict[str, tuple[Changes, Changes, str]] = {
    "the strategy": (NOTHING, DUAL, f"{OF_APP}strategy, usernames of an id never changes"),
    "the order of usernames": (
        NOTHING,
        {"credentials.0.alternates": ["app_b", "app_a"]},
        f"{OF_APP}usernames of",
    ),
    # Its readers would keep the last value, which dies two rotations later.
    "a secret's name": (NOTHING, RENAMED, f"{OF_APP}secret_names of an id never changes"),
    "the host of accounts": (
        NOTHING,
        {"credentials.1.account_host": "10.%"},
        "other/user: account_host of an id",
    ),
    # It would keep a value in another slot than readers, or the runners, look at (protocol V13).
    "a vault becomes the first store": (SLOW, VAULT_FIRST, RING),
    "a vault is the first store no more": (VAULT_FIRST, SLOW, RING),
}


@pytest.mark.parametrize(("before", "after", "why"), REFUSED.values(), ids=REFUSED)
def test_what_never_changes_is_refused(before: Changes, after: Changes, why: str) -> None:
    found = between(before, after)
    assert not found.safe
    assert any(f"{refusal.what}: {refusal.why}".startswith(why) for refusal in found.refusals)


SHORT: Changes = {"credentials.0.overlap": "10m"}
REPLICA: Changes = {"databases.0.verify_hosts": ["replica.example.net"]}
FEWER: Changes = {"credentials.0.databases": ["shop", "bills"]}
STOCK = "app, database stock"
BOTH_ACTIVE = "activate, app; activate, other"
ORDERED: dict[str, tuple[Changes, Changes, str]] = {
    # What leaves is left by its readers first.
    "a database": (NOTHING, FEWER, f"readers first, {STOCK}; activate, app; clean up, {STOCK}"),
    "a database that moves": (
        *({**FEWER, **NO_VAULT}, {**FEWER, **NO_VAULT, "databases.0.host": "new.example.net"}),
        "readers first, $; prepare, $; activate, app; readers last, $; clean up, $".replace(
            "$", "app, database shop"
        ),
    ),
    "another engine": (
        FEWER,
        {**FEWER, "databases.0.engine": "mariadb"},
        "readers first, app, database shop; …",
    ),
    "a store": (NOTHING, NO_VAULT, f"readers first, store oci; {BOTH_ACTIVE}; clean up, store oci"),
    "a store that moves": (
        NOTHING,
        {"stores.0.region": "eu-west-1"},
        "readers first, store aws; prepare, store…",
    ),
    "a vault that moves": (
        NOTHING,
        {"stores.1.vault_id": "ocid1.vault.oc1..b"},
        "readers first, store oci; …",
    ),
    "a compartment": (NOTHING, {"stores.1.compartment_id": "ocid1.x.oc1..b"}, "readers first, store oci; …"),
    "a credential": (NOTHING, {"credentials.1": GONE}, "readers first, other; clean up, other"),
    "the lock table": (
        NOTHING,
        {"lock.table": "another"},
        f"readers first, lock; prepare, lock; {BOTH_ACTIVE}",
    ),
    "a verify host": (REPLICA, NOTHING, "readers first, app, database shop; activate, app"),
    "a longer overlap": (NOTHING, SHORT, "readers first, app; activate, app"),
    # What comes is used by its readers last.
    "a new store": (NO_VAULT, NOTHING, f"prepare, store oci; {BOTH_ACTIVE}; readers last, store oci"),
    "a new database": (FEWER, NOTHING, f"prepare, {STOCK}; activate, app; readers last, {STOCK}"),
    "a new credential": (
        {"credentials.1": GONE},
        NOTHING,
        "prepare, other; activate, other; readers last, other",
    ),
    "a new verify host": (NOTHING, REPLICA, "activate, app"),
    "a new, longer overlap": (SHORT, NOTHING, "activate, app; readers last, app"),
}


@pytest.mark.parametrize(("before", "after", "expected"), ORDERED.values(), ids=ORDERED)
def test_the_steps_are_in_the_safe_order(before: Changes, after: Changes, expected: str) -> None:
    changes = between(before, after)
    found = "; ".join(f"{step.phase.replace('_', ' ')}, {step.what}" for step in changes.steps)
    short = found.replace(CREDENTIAL, "app").replace("other/user", "other")
    assert changes.safe
    assert short.startswith(expected[:-1]) if expected.endswith("…") else short == expected


def test_apply_wants_what_leaves_named_and_the_plan_that_it_replaces() -> None:
    digest = parse(DOCUMENT).credentials[0].plan_digest
    orders: dict[str, Changes] = {"stock": FEWER, "oci": NO_VAULT}
    for what, changes in orders.items():
        told = [step.do for step in between(NOTHING, changes).steps if step.phase == "activate"]
        assert f"apply {CREDENTIAL} --from {digest} --drop {what}" in told[0]


def test_the_command_prints_the_steps_in_order_or_refuses(tmp_path: Path) -> None:
    def diff(after: Changes, *words: str) -> tuple[int, str, str]:
        for name, changes in (("old", NOTHING), ("new", after)):
            (tmp_path / name).write_text(json.dumps(edited(DOCUMENT, changes)))
        files = [str(tmp_path / name) for name in ("old", "new")]
        shown = CliRunner().invoke(app, ["plan", "diff", *files, *words])
        return shown.exit_code, shown.stdout, shown.stderr

    code, told, _ = diff(NO_VAULT)
    assert (code, told.startswith("1. store oci: no application reads it any more")) == (0, True)
    assert f"\n2. {CREDENTIAL}: deploy the plan to both clouds, then: lockstep apply" in told
    code, told, _ = diff(RENAMED, "--json")
    printed = json.loads(told)
    assert (code, printed["safe"], printed["refusals"][0]["what"]) == (1, False, CREDENTIAL)
    code, told, refused = diff(RENAMED)
    assert (code, told, "would keep logins that a later rotation revokes" in refused) == (1, "", True)
    assert diff(NOTHING)[1].startswith("nothing")
