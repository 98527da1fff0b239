"""A plan that loads: what it says, its text, and what changes between two of them (protocol O1)."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cdk.bundle import load_shipped_plan
from lockstep.cli.app import app
from lockstep.plan.compiled import ApiKeys, ClientKey, CompiledPlan, FederationToAws, FederationToOci
from lockstep.plan.diff import PlanChanges, plan_changes
from lockstep.plan.fields import format_duration, parse_duration
from lockstep.plan.file import PlanProblemsError, load_plan, parse_plan
from lockstep.protocol.model import AdminCredential, AdminIam, AdminSecret, Engine, Strategy, Tls
from lockstep.protocol.strict_json import read, write
from sandbox import plans
from sandbox.plans import TO_AWS, TO_OCI
from tests.unit.test_plan_mistakes import (
    ARN,
    BOTH,
    BY_TOKEN,
    FEDERATED,
    GONE,
    ROOT,
    ROTATED,
    VALID,
    Changes,
    Document,
    edited,
    parse,
    problems_in,
)


def test_a_valid_plan_gets_defaults() -> None:
    plan = parse(VALID)
    credential = plan.credential("multi-cloud/app_user")
    assert credential
    schedule, names = credential.schedule, credential.secret_names
    assert (schedule.interval, schedule.overlap) == (timedelta(minutes=20), timedelta(minutes=16))
    assert schedule.tolerance == timedelta(minutes=2)
    assert (names.app_user, names.connection_blob) == (credential.id, f"{credential.id}.connection")
    assert (credential.usernames, credential.primary.host) == (("app",), "shop.example.com")
    assert credential.password_policy.length == 32
    assert plan.credential("multi-cloud/other") is None
    alternating = parse(edited(VALID, {"credentials.0.strategy": "alternating_users"})).credentials[0]
    assert (alternating.usernames, alternating.owner) == (("app_a", "app_b"), "app_owner")
    # CA files are relative to the plan; a verify host is reached as its database.
    hosts = {"databases.0.verify_hosts": ["r1", "r2:3307"], "databases.1.verify_hosts": ["r3"]}
    shop, stock = parse(edited(VALID, hosts)).databases
    assert [end.name for end in shop.verify_hosts] == ["r1:3306", "r2:3307"]
    of_shop = {shop.tls, credential.primary.tls, *(end.tls for end in shop.verify_hosts)}
    assert of_shop == {Tls(ca_file=Path("/etc/lockstep/ca.pem"))}
    assert stock.verify_hosts[0].tls is None


@given(st.integers(0, 3_000_000_000))
def test_a_written_duration_is_read_back(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert parse_duration(format_duration(duration)) == duration
    assert [parse_duration(text).total_seconds() for text in ("90s", "20 m", "1h 30m")] == [90, 1200, 5400]


def test_the_default_overlap_ends_before_the_next_trigger() -> None:
    for interval in ("15m", "20m", "30m", "1h", "8h", "1d", "3d"):
        schedule = parse(edited(VALID, {"credentials.0.interval": interval})).credentials[0].schedule
        assert schedule.overlap + schedule.tolerance <= schedule.interval
        assert schedule.overlap >= schedule.interval / 2


# How the rotation user of a database logs in


def test_the_rotation_user_has_a_secret_a_token_or_a_credential() -> None:
    secret = edited(BOTH, {"databases.0.admin_secret": ARN, "databases.0.oci_admin_secret": "dba.rotator"})
    assert parse(secret).databases[0].admin == AdminSecret(aws=ARN, oci="dba.rotator")
    one_name = parse(edited(BOTH, {"databases.0.admin_secret": "a"}))
    assert one_name.databases[0].admin == AdminSecret(aws="a", oci="a")
    for both in ({}, {"stores.1": BOTH["stores"][1], **{k: BOTH[k] for k in ("runners", "audit")}}):
        admin = parse(edited(BY_TOKEN, both)).databases[0].admin
        assert admin == AdminIam(username="lockstep_rotator", region="eu-west-1")
    itself, _, other_name = parse(ROTATED).databases
    assert itself.admin == other_name.admin == AdminCredential(credential="lockstep/rotator")


# Identities of the runners


def test_a_plan_without_a_long_lived_key_is_valid() -> None:
    plan = parse(FEDERATED)
    to_oci, to_aws = plan.compiled.to_oci, plan.compiled.to_aws
    assert isinstance(to_oci, FederationToOci)
    assert to_oci.client == ClientKey(kms_key="alias/lockstep-oci-client", certificate="lockstep")
    assert (to_oci.token, to_oci.audience, to_oci.resource_type) == ("rpst", "lockstep", "lockstep")
    assert isinstance(to_aws, FederationToAws)
    assert to_aws.key.version == TO_AWS["key"]["version"]
    assert (to_aws.audience, to_aws.subject) == ("sts.amazonaws.com", "lockstep-oci-runner")
    assert plan.runners.secrets == {}
    assert read(CompiledPlan, write(plan.compiled)) == plan.compiled


def test_functions_that_only_read_may_have_a_key_of_their_own() -> None:
    assert parse(BOTH).compiled.to_oci == ApiKeys(writer="lockstep/oci-key", reader="lockstep/oci-key")
    plan = parse(edited(BOTH, {"runners.aws.oci_reader_key_secret": "lockstep/oci-reader"}))
    assert plan.compiled.to_oci == ApiKeys(writer="lockstep/oci-key", reader="lockstep/oci-reader")
    secret = {**TO_OCI, "kms_key": None, "certificate": None, "client_secret": "lockstep/client"}
    plan = parse(edited(BOTH, {"runners.aws": {"federation": secret}}))
    assert plan.runners.secrets["aws.federation.client_secret"] == "lockstep/client"


# Its text: the places that messages name, variables, and the file without them that is deployed

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
        ("a: " + "[" * 1_000, "1:1: not valid YAML (nested too deeply)"),
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


# What changes: digests, and the order in which it is safe

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


def test_each_change_gives_a_digest_of_its_own_but_what_each_runner_may_have_its_own_way() -> None:
    digests = [GOLDEN, *(digest(edited(DOCUMENT, change)) for change in AGREED)]
    assert len(set(digests)) == len(digests)
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
STOCK, SHOP = "app, database stock", "app, database shop"
BOTH_ACTIVE = "activate, app; activate, other"
NEW_HOST: Changes = {**FEW, "databases.0.host": "new.x"}
MARIADB: Changes = {**FEWER, "databases.0.engine": "mariadb"}
OTHER_VAULT: Changes = {"stores.1.vault_id": "ocid1.vault.oc1..b"}
OTHER_COMPARTMENT: Changes = {"stores.1.compartment_id": "ocid1.x.oc1..b"}
OTHER_TABLE: Changes = {"lock.table": "other"}
ORDERED: dict[str, tuple[Changes, Changes, str]] = {
    # What leaves is left by its readers first.
    "a database": (NOTHING, FEWER, f"readers first, {STOCK}; activate, app; clean up, {STOCK}"),
    "a database that moves": (FEW, NEW_HOST, MOVED.replace("$", SHOP)),
    "another engine": (FEWER, MARIADB, f"readers first, {SHOP}; …"),
    "a store": (NOTHING, NO_VAULT, f"readers first, store oci; {BOTH_ACTIVE}; clean up, store oci"),
    "a region": (NOTHING, {"stores.0.region": "eu-west-1"}, "readers first, store aws; prepare, store…"),
    "a vault that moves": (NOTHING, OTHER_VAULT, "readers first, store oci; …"),
    "a compartment": (NOTHING, OTHER_COMPARTMENT, "readers first, store oci; …"),
    "a credential": (NOTHING, ONE_LESS, "readers first, other; clean up, other"),
    "the lock table": (NOTHING, OTHER_TABLE, f"readers first, lock; prepare, lock; {BOTH_ACTIVE}"),
    "a verify host": (REPLICA, NOTHING, f"readers first, {SHOP}; activate, app"),
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
    for what, changes in (("stock", FEWER), ("oci", NO_VAULT)):
        told = [step.do for step in between(NOTHING, changes).steps if step.phase == "activate"]
        assert f"apply {CREDENTIAL} --from {GOLDEN} --drop {what}" in told[0]


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
