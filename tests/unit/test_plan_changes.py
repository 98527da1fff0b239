"""What changes between two plans: their digests (protocol O1), and the order in which it is safe."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lockstep.cli.app import app
from lockstep.plan.diff import PlanChanges, plan_changes
from lockstep.plan.file import parse_plan
from lockstep.protocol.model import Engine, Strategy
from sandbox import plans
from tests.unit.test_plan_mistakes import GONE, Changes, Document, edited, parse

CREDENTIAL = "multi-cloud/app_user"
GOLDEN = "83896f9a302fc00e3ed74fb4aba2fe03f2d1a3c4f8d82106efcaeb59700bafde"
DOCUMENT = plans.plan_document(
    [
        plans.database("shop", Engine.MYSQL, tls="ca.pem"),
        plans.database("stock", Engine.MYSQL, tls=""),
        plans.database("bills", Engine.MYSQL, tls=""),
    ],
    [
        plans.credential(
            CREDENTIAL,
            *("shop", "stock", "bills"),
            strategy=Strategy.ALTERNATING_USERS,
            alternates=["app_a", "app_b"],
            connection_secret="multi-cloud/connection_blob",
        ),
        plans.credential("other/user", "stock", username="other"),
    ],
    oci=plans.OciNames(),
)
SLOW: Changes = {"credentials.0.interval": "2h", "credentials.1.interval": "2h"}
DATABASES, STORES, CREDENTIALS = (DOCUMENT[key] for key in ("databases", "stores", "credentials"))


def digest(of: Document, *, base: str = "/etc/lockstep") -> str:
    credential = parse_plan(json.dumps(of), base=Path(base)).credential(CREDENTIAL)
    assert credential
    return credential.plan_digest


def test_the_digest_of_a_plan_stays_the_same_for_ever_and_in_every_folder() -> None:
    """If this fails, an upgrade stops every rotation until an operator has activated every plan anew."""
    assert digest(DOCUMENT) == digest(DOCUMENT, base="/var/task") == GOLDEN


VERIFY_HOSTS: list[list[str]] = [["r1"], ["r1", "r2"], ["r1", "r3"], ["r1", "r2:3307"]]
AGREED: list[Changes] = [
    {"lock.table": "other"},
    {"lock.region": "eu-west-1"},
    {"stores.0.region": "eu-west-1"},
    {"stores.1.region": "eu-zurich-1"},
    {"stores.1.vault_id": "ocid1.vault.oc1.eu.bbbb"},
    {"databases.1.engine": "mariadb"},
    {"databases.1.host": "stock2.example.com"},
    {"databases.1.port": 3307},
    {"databases.1.dbname": "stock"},
    *[{"databases.1.verify_hosts": hosts} for hosts in VERIFY_HOSTS],
    {"databases.2.name": "invoices", "credentials.0.databases.2": "invoices"},
    {"credentials.0.databases": ["shop", "stock"]},
    {"credentials.0.databases": ["stock", "shop", "bills"]},  # The first one is in app_user.
    {"credentials.0.alternates": ["app_a", "app_c"]},
    {"credentials.0.alternates": ["app_b", "app_a"]},  # Whose turn is next.
    {"credentials.0.alternates": GONE, "credentials.0.strategy": "dual_password"},
    {"credentials.0.account_host": "10.%"},
    {"credentials.0.interval": "30m"},
    {"credentials.0.overlap": "10m"},
    {"credentials.0.secret": "new/app_user"},
    {"credentials.0.connection_secret": "new/addresses"},
    SLOW,
    {**SLOW, "stores": STORES[::-1]},  # The first store decides (protocol V1).
]


def test_each_change_gives_a_digest_of_its_own() -> None:
    digests = [GOLDEN, *(digest(edited(DOCUMENT, change)) for change in AGREED)]
    assert len(set(digests)) == len(digests)


OWN: list[Changes] = [
    {"databases.0.ca_file": "elsewhere/ca.pem"},
    {"databases.0.ca_file": None},
    {"databases.0.admin_secret": "elsewhere/admin"},
    {"stores.1.compartment_id": "ocid1.compartment.oc1..bbbb"},
    {"audit.aws.bucket": "elsewhere", "audit.aws.mac_key": "alias/x", "audit.aws.order_key": "alias/y"},
    {"runners.aws.oci_key_secret": "elsewhere/oci-key"},
    {"credentials.0.password_length": 40},
    {"credentials.1.interval": "1h"},  # Of another credential.
    {"databases": [DATABASES[n] for n in (2, 0, 1)]},
    {"credentials": CREDENTIALS[::-1]},
    {"credentials.0.databases": ["shop", "bills", "stock"]},  # After the first one.
    # Defaults, spelled out.
    {"credentials.0.interval": "1200s", "credentials.0.overlap": "16m", "credentials.0.account_host": "%"},
    {"credentials.0.secret": CREDENTIAL, "databases.1.verify_hosts": []},
]


def test_what_each_runner_may_have_its_own_way_leaves_the_digest() -> None:
    for changes in OWN:
        assert digest(edited(DOCUMENT, changes)) == GOLDEN, changes
    one, other = ({"databases.1.verify_hosts": hosts} for hosts in (["r1", "r2"], ["r2", "r1:3306"]))
    assert digest(edited(DOCUMENT, one)) == digest(edited(DOCUMENT, other))


# The order of changes

NOTHING: Changes = {}
NO_VAULT: Changes = {"stores.1": GONE, "runners.oci": GONE, "audit.oci": GONE}
RENAMED: Changes = {"credentials.0.secret": "new/app_user"}
VAULT_FIRST: Changes = {**SLOW, "stores": DOCUMENT["stores"][::-1]}
REVERSED: Changes = {"credentials.0.alternates": ["app_b", "app_a"]}
DUAL: Changes = {"credentials.0.strategy": "dual_password", "credentials.0.alternates": GONE}


def between(before: Changes, after: Changes) -> PlanChanges:
    return plan_changes(parse(edited(DOCUMENT, before)), parse(edited(DOCUMENT, after)))


OF_APP = f"{CREDENTIAL}: "
RING = "store oci: a vault that is the first store keeps"
REFUSED: dict[str, tuple[Changes, Changes, str]] = {
    "the strategy": (NOTHING, DUAL, f"{OF_APP}strategy, usernames of an id never changes"),
    "the order of usernames": (NOTHING, REVERSED, f"{OF_APP}usernames of"),
    # Its readers would keep the last value, which dies two rotations later.
    "a secret's name": (NOTHING, RENAMED, f"{OF_APP}secret_names of an id never changes"),
    "the host of accounts": (NOTHING, {"credentials.1.account_host": "10.%"}, "other/user: account_host of"),
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
FEW: Changes = {**FEWER, **NO_VAULT}
ONE_LESS: Changes = {"credentials.1": GONE}
MOVED = "readers first, $; prepare, $; activate, app; readers last, $; clean up, $"
STOCK = "app, database stock"
BOTH_ACTIVE = "activate, app; activate, other"
ORDERED: dict[str, tuple[Changes, Changes, str]] = {
    # What leaves is left by its readers first.
    "a database": (NOTHING, FEWER, f"readers first, {STOCK}; activate, app; clean up, {STOCK}"),
    "a database that moves": (
        FEW,
        {**FEW, "databases.0.host": "new.x"},
        MOVED.replace("$", "app, database shop"),
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
    "a credential": (NOTHING, ONE_LESS, "readers first, other; clean up, other"),
    "the lock table": (
        NOTHING,
        {"lock.table": "other"},
        f"readers first, lock; prepare, lock; {BOTH_ACTIVE}",
    ),
    "a verify host": (REPLICA, NOTHING, "readers first, app, database shop; activate, app"),
    "a longer overlap": (NOTHING, SHORT, "readers first, app; activate, app"),
    # What comes is used by its readers last.
    "a new store": (NO_VAULT, NOTHING, f"prepare, store oci; {BOTH_ACTIVE}; readers last, store oci"),
    "a new database": (FEWER, NOTHING, f"prepare, {STOCK}; activate, app; readers last, {STOCK}"),
    "a new credential": (ONE_LESS, NOTHING, "prepare, other; activate, other; readers last, other"),
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
    for what, changes in (("stock", FEWER), ("oci", NO_VAULT)):
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
    # What each runner may have its own way is no change.
    assert diff({"credentials.0.password_length": 40})[1].startswith("nothing")
