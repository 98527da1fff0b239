"""What changes between two plans, and the order in which it is safe."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lockstep.cli.app import app
from lockstep.plan.diff import Phase, PlanChanges, plan_changes
from lockstep.plan.file import parse_plan
from lockstep.plan.model import Plan
from lockstep.protocol.model import Engine, Strategy
from sandbox import plans
from tests.unit.plan_case import GONE, Changes, Document, edited

DOCUMENT = plans.plan_document(
    [plans.database("shop", Engine.POSTGRESQL), plans.database("stock", Engine.MYSQL)],
    [
        plans.credential(
            "app",
            *("shop", "stock"),
            strategy=Strategy.ALTERNATING_USERS,
            alternates=["app_a", "app_b"],
            connection_secret="blob",
        ),
        plans.credential("other", "stock", username="other"),
    ],
    oci=plans.OciNames(),
)
NOTHING: Changes = {}
NO_VAULT: Changes = {"stores.1": GONE, "runners.oci": GONE, "audit.oci": GONE}
SLOW: Changes = {"credentials.0.interval": "2h", "credentials.1.interval": "2h"}
RENAMED: Changes = {"credentials.0.secret": "new/app_user"}
VAULT_FIRST: Changes = {**SLOW, "stores": DOCUMENT["stores"][::-1]}
SHOP, STOCK = "app, database shop", "app, database stock"


def plan(of: Document) -> Plan:
    return parse_plan(json.dumps(of), base=Path())


def between(before: Changes, after: Changes) -> PlanChanges:
    return plan_changes(plan(edited(DOCUMENT, before)), plan(edited(DOCUMENT, after)))


def steps(before: Changes, after: Changes) -> list[tuple[Phase, str]]:
    found = between(before, after)
    assert found.refusals == ()
    return [(step.phase, step.what) for step in found.steps]


def test_what_each_runner_may_have_its_own_way_is_no_change() -> None:
    """What that is: `tests/unit/test_plan_digest.py`."""
    changes = {"credentials.0.password_length": 40, "databases": DOCUMENT["databases"][::-1]}
    assert between(NOTHING, changes) == PlanChanges(safe=True, refusals=(), steps=())


USERNAMES = "app: the usernames app_a, app_b stay, in this order"
REFUSED: dict[str, tuple[Changes, Changes, str]] = {
    "the strategy": (
        NOTHING,
        {
            "credentials.0.strategy": "dual_password",
            "credentials.0.alternates": GONE,
            "credentials.0.databases": ["stock"],
            "credentials.0.username": "app_a",
        },
        "app: the strategy of an id never changes",
    ),
    "the order of usernames": (NOTHING, {"credentials.0.alternates": ["app_b", "app_a"]}, USERNAMES),
    "a username": (NOTHING, {"credentials.0.alternates": ["app_a", "app_c"]}, USERNAMES),
    # Its readers would keep the last value, which dies two rotations later.
    "a secret's name": (NOTHING, RENAMED, "app and blob would keep a password that a later rotation revokes"),
    "the host part of accounts": (
        NOTHING,
        {"credentials.1.account_host": "10.%"},
        "its accounts would be others",
    ),
    # It would keep a value in another slot than readers, or the runners, look at (protocol V13).
    "a vault becomes the first store": (
        SLOW,
        VAULT_FIRST,
        "store oci: a vault that is the first store keeps",
    ),
    "a vault is the first store no more": (
        VAULT_FIRST,
        SLOW,
        "store oci: a vault that is the first store keeps",
    ),
}


@pytest.mark.parametrize(("before", "after", "why"), REFUSED.values(), ids=REFUSED)
def test_what_never_changes_is_refused(before: Changes, after: Changes, why: str) -> None:
    found = between(before, after)
    assert not found.safe
    assert any(why in f"{refusal.what}: {refusal.why}" for refusal in found.refusals)


LEAVING: dict[str, tuple[Changes, str]] = {
    "a database": ({"credentials.0.databases": ["stock"]}, SHOP),
    "a database that moves": ({"databases.0.host": "new.example.net"}, SHOP),
    "a database of another engine": ({"databases.1.engine": "mariadb"}, STOCK),
    "a store": (NO_VAULT, "store oci"),
    "a store that moves": ({"stores.0.region": "eu-west-1"}, "store aws"),
    "a vault that moves": ({"stores.1.vault_id": "ocid1.vault.oc1..b"}, "store oci"),
    "a compartment that changes": ({"stores.1.compartment_id": "ocid1.compartment.oc1..b"}, "store oci"),
    "a credential": ({"credentials.1": GONE}, "other"),
    "the lock table": ({"lock.table": "another"}, "lock"),
}


@pytest.mark.parametrize(("changes", "what"), LEAVING.values(), ids=LEAVING)
def test_what_leaves_is_left_by_its_readers_first(changes: Changes, what: str) -> None:
    found = steps(NOTHING, changes)
    assert found[0] == (Phase.READERS_FIRST, what)
    assert found == sorted(found, key=lambda step: list(Phase).index(step[0]))


SHORT: Changes = {"credentials.0.overlap": "10m"}
REPLICA: Changes = {"databases.0.verify_hosts": ["replica.example.net"]}
WHOLE: dict[str, tuple[Changes, Changes, str]] = {
    "a cloud leaves after its readers": (
        *(NOTHING, NO_VAULT),
        "readers first, store oci; activate, app; activate, other; clean up, store oci",
    ),
    "a store that comes is read last": (
        *(NO_VAULT, NOTHING),
        "prepare, store oci; activate, app; activate, other; readers last, store oci",
    ),
    "a database that comes is taken over and used last": (
        *({"credentials.0.databases": ["shop"]}, NOTHING),
        "prepare, app, database stock; activate, app; readers last, app, database stock",
    ),
    "a credential that comes": (
        *({"credentials.1": GONE}, NOTHING),
        "prepare, other; activate, other; readers last, other",
    ),
    "a verify host comes": (NOTHING, REPLICA, "activate, app"),
    "a verify host that leaves": (REPLICA, NOTHING, "readers first, app, database shop; activate, app"),
    "readers follow a shorter overlap before": (NOTHING, SHORT, "readers first, app; activate, app"),
    "readers follow a longer overlap after": (SHORT, NOTHING, "activate, app; readers last, app"),
}


@pytest.mark.parametrize(("before", "after", "expected"), WHOLE.values(), ids=WHOLE)
def test_the_steps_are_in_the_safe_order(before: Changes, after: Changes, expected: str) -> None:
    found = [f"{phase.name.lower().replace('_', ' ')}, {what}" for phase, what in steps(before, after)]
    assert "; ".join(found) == expected


def test_apply_wants_what_leaves_named_and_the_plan_that_it_replaces() -> None:
    digest = plan(DOCUMENT).credentials[0].plan_digest
    orders: dict[str, Changes] = {"shop": {"credentials.0.databases": ["stock"]}, "oci": NO_VAULT}
    for what, changes in orders.items():
        told = [step.do for step in between(NOTHING, changes).steps if step.phase is Phase.ACTIVATE]
        assert f"apply app --from {digest} --drop {what}" in told[0]


def test_the_command_prints_the_steps_in_order_or_refuses(tmp_path: Path) -> None:
    def diff(after: Changes, *words: str) -> tuple[int, str, str]:
        for name, changes in (("old", NOTHING), ("new", after)):
            (tmp_path / name).write_text(json.dumps(edited(DOCUMENT, changes)))
        files = [str(tmp_path / name) for name in ("old", "new")]
        shown = CliRunner().invoke(app, ["plan", "diff", *files, *words])
        return shown.exit_code, shown.stdout, shown.stderr

    code, told, _ = diff(NO_VAULT)
    assert (code, told.startswith("1. store oci: no application reads it any more")) == (0, True)
    assert "\n2. app: deploy the plan to both clouds, then: lockstep apply" in told
    code, told, _ = diff(RENAMED, "--json")
    printed = json.loads(told)
    assert (code, printed["safe"], printed["refusals"][0]["what"]) == (1, False, "app")
    code, told, refused = diff(RENAMED)
    assert (code, told, "would keep a password that a later rotation revokes" in refused) == (1, "", True)
    assert diff(NOTHING)[1].startswith("nothing")
