"""The plan file: every mistake is reported at once, and a plan that loads can be rotated."""

import json
from dataclasses import FrozenInstanceError
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from lockstep.compiled import ApiKeys, ClientKey, CompiledPlan, FederationToAws, FederationToOci
from lockstep.errors import InvalidPlanError
from lockstep.model import Engine, Strategy
from lockstep.plan import Plan
from lockstep.plan_checks import example_values
from lockstep.plan_databases import PLAINTEXT_CONSENT
from lockstep.plan_file import PlanProblemsError, load_plan, parse_plan
from lockstep.shapes import read, write
from lockstep.store_kinds import AwsSecretsManager, OciVault
from sandbox import plans
from sandbox.plans import TO_AWS, TO_OCI

VALID = plans.plan_document(
    [
        plans.database("shop", Engine.MYSQL, dbname="shop", tls={"ca_file": "ca.pem"}),
        plans.database("stock", Engine.POSTGRESQL, dbname="stock"),
    ],
    [plans.credential("multi-cloud/app_user", "shop")],
)
[OCI_STORE] = plans.plan_document([], [], oci=plans.OciNames())["stores"][1:]


UNSAFE_NAMES = ("..", ".", "...", "a/../b", "a/./b", "/a", "a/", "a//b", "/")
BOTH = plans.plan_document(
    [plans.database("shop", Engine.MYSQL), plans.database("stock", Engine.POSTGRESQL)],
    [
        plans.credential("multi-cloud/app_user", "shop"),
        plans.credential(
            "multi-cloud/stock_user",
            "stock",
            username="stock",
            strategy=Strategy.ALTERNATING_USERS,
            secrets=plans.own_secrets("multi-cloud/stock_user"),
        ),
    ],
    oci=plans.OciNames(),
)
"""A plan for both clouds, with two credentials."""


def _with(path: str, value: object, *, of: object = VALID) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(of))
    *parents, last = path.split(".")
    place: Any = document
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    if isinstance(place, list) and int(last) == len(place):
        place.append(value)
    else:
        place[int(last) if last.isdigit() else last] = value
    return document


def _parse(document: object) -> Plan:
    return parse_plan(json.dumps(document), base=Path("/etc/lockstep"))


def _problems(document: object) -> list[str]:
    with pytest.raises(PlanProblemsError) as caught:
        _parse(document)
    return [problem.told for problem in caught.value.problems]


def test_a_valid_plan_gets_defaults() -> None:
    plan = _parse(VALID)
    credential = plan.credential("multi-cloud/app_user")
    assert credential
    assert credential.schedule.interval == timedelta(minutes=20)
    assert credential.schedule.overlap == timedelta(minutes=16)
    assert credential.schedule.tolerance == timedelta(minutes=2)
    assert credential.usernames == ("app",)
    assert credential.secret_names.app_user == "multi-cloud/app_user"
    assert credential.secret_names.connection_blob == "multi-cloud/connection_blob"
    assert credential.primary.host == "shop.example.com"
    assert credential.password_policy.length == 32
    assert plan.store(AwsSecretsManager) is plan.stores[0]
    assert plan.store(OciVault) is None
    assert plan.credential("multi-cloud/other") is None


def test_ca_files_are_relative_to_the_plan() -> None:
    plan = _parse(VALID)
    for server in (plan.databases[0], plan.credentials[0].servers[0]):
        assert server.tls
        assert server.tls.ca_file == Path("/etc/lockstep/ca.pem")


def test_a_verify_host_is_like_its_database_unless_it_says_otherwise() -> None:
    hosts = ["r1", "r2:3307", {"host": "r3", "tls": {"ca_file": "other.pem"}}, {"host": "r4", "tls": {}}]
    server = _parse(_with("databases.0.verify_hosts", hosts)).credentials[0].servers[0]
    assert [end.name for end in server.verify_hosts] == ["r1:3306", "r2:3307", "r3:3306", "r4:3306"]
    folder = Path("/etc/lockstep")
    assert [end.tls and end.tls.ca_file for end in server.verify_hosts] == [
        *(folder / "ca.pem", folder / "ca.pem", folder / "other.pem", None)
    ]
    assert server.ca_files == (folder / "ca.pem", folder / "other.pem")


def test_a_verify_host_may_be_stricter_than_a_database_in_plaintext_not_laxer() -> None:
    hosts = ["r1", {"host": "r2", "tls": {}}]
    server = _parse(_with("databases.1.verify_hosts", hosts)).databases[1]
    assert [end.tls is None for end in server.verify_hosts] == [True, False]
    lax = [{"host": "r1", "plaintext": PLAINTEXT_CONSENT}]
    assert _problems(_with("databases.0.verify_hosts", lax)) == [
        "databases[0].verify_hosts[0].plaintext: unknown key"
    ]


def test_a_verify_host_is_a_copy_of_one_server() -> None:
    document = _with("databases.0.verify_hosts", ["replica"])
    same = {**document["databases"][0], "name": "shop-archive", "dbname": "archive"}
    document["databases"].append(same)
    assert _parse(document)
    same["host"] = "other.example.com"
    [problem] = _problems(document)
    assert "databases[2].verify_hosts[0]: replica:3306 is also of shop" in problem


def test_the_hosts_of_an_example_are_named_among_its_values() -> None:
    plan = _parse(_with("databases.0.verify_hosts", ["replica.example.com", "replica.shop.internal"]))
    assert [p for p in example_values(plan) if "verify_hosts" in p] == [
        "databases[0].verify_hosts[0].host: replica.example.com is an example; give your own"
    ]


def test_alternating_users_have_two_names_and_an_owner() -> None:
    document = _with("credentials.0.strategy", "alternating_users")
    credential = _parse(document).credentials[0]
    assert (credential.usernames, credential.owner) == (("app_a", "app_b"), "app_owner")
    document["credentials"][0]["alternates"] = ["app", "app2"]
    assert _parse(document).credentials[0].usernames == ("app", "app2")


def test_the_default_name_of_the_second_secret_follows_the_first() -> None:
    document = _with("credentials.0.id", "app_user")
    assert _parse(document).credentials[0].secret_names.connection_blob == "app_user.connection_blob"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("20m", 1200),
        ("20 m", 1200),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("7d", 604800),
    ],
)
def test_a_duration_is_numbers_with_units(text: str, seconds: int) -> None:
    document = _with("audit.aws.retention", text)
    assert _parse(document).audit.aws.retention == timedelta(seconds=seconds)


def test_an_overlap_may_be_zero() -> None:
    credential = _parse(_with("credentials.0.overlap", "0s")).credentials[0]
    assert credential.schedule.overlap == timedelta()


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("version", 2, "version: "),
        ("audit.aws.retention", "20", "audit.aws.retention: write a duration"),
        ("audit.aws.retention", 1200, "audit.aws.retention: write a duration"),
        ("audit.aws.retention", "9999999999999d", "audit.aws.retention: write a duration"),
        ("audit.aws.retention", "-5m", "audit.aws.retention: write a duration"),
        ("audit.aws.retention", "\u0665m", "audit.aws.retention: write a duration"),
        ("audit.aws.retention", "0s", "audit.aws.retention: must be longer than zero"),
        ("audit.aws.retention", "999999d1s", "audit.aws.retention: write a duration"),
        ("credentials.0.tolerance", "999999d" * 900, "credentials[0].tolerance: write a duration"),
        ("credentials.0.interval", "999999d" * 1001, "credentials[0].interval: write a duration"),
        ("audit.aws.retention", "1h-5m", "audit.aws.retention: write a duration"),
        ("audit.aws.retention", "5ms", "audit.aws.retention: write a duration"),
        ("audit.aws.retention", "", "audit.aws.retention: write a duration"),
        ("credentials.0.interval", "0s", "interval: no schedule by wall clock has 0s: it must be 10, 12, 15"),
        ("credentials.0.interval", "8m", "or whole days; use 10m"),
        (
            "credentials.0.interval",
            "950s",
            "interval: no schedule by wall clock has 15m50s: it must be 10, 12, 15",
        ),
        ("credentials.0.interval", "25m", "or whole days; use 20m or 30m"),
        ("credentials.0.interval", "1h30m", "or whole days; use 1h or 2h"),
        ("credentials.0.interval", "5h", "or whole days; use 4h or 6h"),
        ("credentials.0.interval", "36h", "or whole days; use 1d or 2d"),
        (
            "credentials.0.interval",
            "12m",
            "stores[0]: an interval of 12m (multi-cloud/app_user) exhausts Secrets Manager's quota",
        ),
        (
            "credentials.0.tolerance",
            "119s",
            "tolerance: must be at least 2m, because a run may start that late",
        ),
        ("credentials.0.tolerance", "301s", "tolerance: must be at most a quarter of the interval"),
        ("credentials.0.overlap", "1081s", "overlap: must be at most 18m, the interval minus the tolerance"),
        ("credentials.0.alternates", ["a", "b"], "alternates: allowed only with the strategy"),
        ("credentials.0.username", "app-user", "credentials[0].username"),
        ("credentials.0.username", "app'--", "credentials[0].username"),
        ("credentials.0.account_host", "10.%'--", "credentials[0].account_host"),
        ("credentials.0.account_host", "10.\\", "credentials[0].account_host"),
        ("credentials.0.account_host", "", "credentials[0].account_host"),
        ("credentials.0.databases", [], "credentials[0].databases"),
        ("credentials.0.databases", ["shop", "shop"], "credentials[0].databases[1]: shop appears 2 times"),
        (
            "credentials.0.databases",
            ["shop", "shpo"],
            "credentials[0].databases[1]: the plan has no database shpo, only shop, stock",
        ),
        (
            "credentials.0",
            {**VALID["credentials"][0], "databases": ["stock"], "account_host": "10.%"},
            "credentials[0].account_host: accounts of postgresql have no host; leave it out",
        ),
        (
            "credentials.0.databases",
            ["stock"],
            "credentials[0].strategy: postgresql does not allow it; use alternating",
        ),
        ("credentials.0.passwrd", {}, "credentials[0].passwrd: unknown key"),
        ("credentials.0.password", "text", "credentials[0].password: must be a mapping"),
        ("lock", {"table": "t"}, "lock.region: this key is required"),
        ("credentials.0.password", {"length": 15}, "credentials[0].password.length"),
        ("credentials.0.password", {"length": 65}, "credentials[0].password.length"),
        ("credentials.0.password", {"classes": ["abc", "123"]}, "at least 26 different characters"),
        ("credentials.0.password", {"classes": ["abcdefghijklmnopqrstuvwxyz "]}, "credentials[0].password"),
        ("credentials.1", VALID["credentials"][0], "multi-cloud.app_user appears 2 times"),
        (
            "credentials.0.secrets",
            {"app_user": "multi-cloud/x", "connection_blob": "multi-cloud/x"},
            "multi-cloud.x appears 2 times",
        ),
        *(("credentials.0.id", bad, "no slash at its beginning or end") for bad in UNSAFE_NAMES),
        *(("databases.0.admin_secret", bad, "no slash at its beginning or end") for bad in UNSAFE_NAMES),
        ("credentials.0.id", "a+b", "credentials[0].id"),
        ("credentials.0.id", "a@b", "credentials[0].id"),
        ("credentials.0.id", "a=b", "credentials[0].id"),
        (
            "credentials.0.username",
            "lockstep_rotator",
            "username: lockstep_rotator is an account of Lockstep",
        ),
        ("credentials.0.username", "root", "username: root is an account of Lockstep or of the server"),
        ("credentials.0.id", "lockstep/admin/shop", "lockstep.admin.shop appears 2 times"),
        ("databases.0.tls", None, "databases[0]: give either `tls: {}` or `plaintext:"),
        ("databases.0.plaintext", PLAINTEXT_CONSENT, "databases[0]: give either"),
        ("databases.1.plaintext", "yes", "databases[1].plaintext"),
        ("databases.0.port", 0, "databases[0].port"),
        ("databases.0.host", "shop example", "databases[0].host"),
        ("databases.0.engine", "oracle", "databases[0].engine"),
        ("databases.0.name", "Shop", "databases[0].name"),
        ("databases.0.verify_hosts", "replica", "databases[0].verify_hosts"),
        ("databases.0.verify_hosts", ["replica:"], "databases[0].verify_hosts[0].port"),
        ("databases.0.verify_hosts", ["replica:0"], "databases[0].verify_hosts[0].port"),
        ("databases.0.verify_hosts", ["a b"], "databases[0].verify_hosts[0].host"),
        (
            "databases.0.verify_hosts",
            [{"port": 1}],
            "databases[0].verify_hosts[0].host: this key is required",
        ),
        (
            "databases.0.verify_hosts",
            [{"host": "a", "ca": "b"}],
            "databases[0].verify_hosts[0].ca: unknown key",
        ),
        ("databases.0.verify_hosts", [f"r{i}" for i in range(16)], "databases[0].verify_hosts"),
        ("databases.0.verify_hosts", ["r", "R:3306"], "databases[0].verify_hosts[1]: r:3306 appears 2 times"),
        (
            "databases.0.verify_hosts",
            ["shop.example.com"],
            "databases[0].verify_hosts[0]: shop.example.com:3306 is the database's own host",
        ),
        (
            "databases.0.verify_hosts",
            ["stock.example.com:5432"],
            "databases[0].verify_hosts[0]: stock.example.com:5432 is stock, a database of the plan",
        ),
        (
            "databases.0.verify_hosts",
            [{"host": "replica.abc.eu-west-1.rds.amazonaws.com", "tls": {}}],
            "databases[0].verify_hosts[0]: RDS signs its certificates with private CAs",
        ),
        (
            "databases.0.verify_hosts",
            ["shop.cluster-ro-abc123.eu-central-1.rds.amazonaws.com"],
            "databases[0].verify_hosts[0].host: this name stands for several hosts",
        ),
        ("databases.1.name", "shop", "databases[1].name: shop appears 2 times"),
        ("stores", [], "stores"),
        ("stores.0.kind", "hashicorp-vault", "stores[0]"),
        (
            "stores.1",
            OCI_STORE,
            "runners.aws: needs federation, or instead oci_key_secret, because one store is in OCI",
        ),
        ("stores.1", {**OCI_STORE, "ring": 0}, "ring"),
        ("stores.1", {**OCI_STORE, "vault_id": "vault"}, "vault_id"),
        ("runners", {"oci": {"aws_key_secret": "k"}}, "runners.oci: needs a store of kind oci-vault"),
        ("lock.table", "a", "lock.table"),
        ("lock.region", "Frankfurt", "lock.region"),
        ("stores.0.region", "eu-central", "stores[0]"),
        ("audit.aws.region", "", "audit.aws.region"),
        ("audit.aws.mac_key", "lockstep mac", "audit.aws.mac_key"),
        (
            "audit.aws.mac_key",
            "arn:aws:kms:us-east-1:111122223333:key/12345678-1234-1234-1234-123456789012",
            "audit.aws.mac_key: its region is us-east-1, but audit.aws.region is eu-central-1",
        ),
        ("audit.aws.storage_class", "GLACIER", "audit.aws.storage_class"),
    ],
)
def test_a_mistake_is_reported_with_its_place_and_the_rule(path: str, value: object, expected: str) -> None:
    problems = _problems(_with(path, value))
    assert any(expected in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("credentials.0.interval", "15m"),
        ("credentials.0.id", "x" * 55),
        ("credentials.0.id", "a..b/.c-d_e"),
        ("credentials.0.tolerance", "300s"),
        ("credentials.0.overlap", "1080s"),
    ],
)
def test_limits_are_allowed(path: str, value: str) -> None:
    assert _parse(_with(path, value))


def test_the_default_overlap_ends_before_the_next_trigger() -> None:
    for interval in ("15m", "20m", "30m", "1h", "8h", "1d", "3d"):
        document = _with("credentials.0.interval", interval)
        schedule = _parse(document).credentials[0].schedule
        assert schedule.overlap + schedule.tolerance <= schedule.interval
        assert schedule.overlap >= schedule.interval / 2


def test_with_two_runners_a_lease_must_end_before_the_standby_is_called() -> None:
    # (protocol R9)
    def at(interval: str) -> str:
        document = plans.plan_document(
            [plans.database("shop", Engine.MYSQL)],
            [plans.credential("app_user", "shop", interval=interval)],
            oci=plans.OciNames(),
        )
        document["stores"][1]["ring"] = 6
        return json.dumps(document)

    with pytest.raises(PlanProblemsError) as caught:
        parse_plan(at("15m"), base=Path())
    assert "credentials[0].interval: with runners.oci it must be at least 20m" in " ".join(caught.value.lines)
    assert parse_plan(at("20m"), base=Path())
    document = json.loads(at("15m"))
    del document["runners"]["oci"]
    assert _parse(document)


def test_all_mistakes_are_reported_at_once() -> None:
    document = _with("credentials.0.username", "app-user")
    document["databases"][0]["port"] = 0
    document["lock"]["tabel"] = "x"
    problems = _problems(document)
    for place in ("credentials[0].username: ", "databases[0].port: ", "lock.tabel: unknown key"):
        assert any(problem.startswith(place) for problem in problems)


def test_mistakes_across_sections_are_reported_together() -> None:
    document = _with("credentials.0.databases", ["nope"])
    document["stores"].append(OCI_STORE)
    key, unknown = _problems(document)
    assert "runners.aws: needs federation" in key
    assert "the plan has no database nope" in unknown


def test_a_plan_is_frozen() -> None:
    plan = _parse(VALID)
    with pytest.raises(ValueError, match="frozen"):
        plan.lock.table = "other"
    with pytest.raises(FrozenInstanceError):
        plan.credentials[0].id = "other"  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(
    "text",
    [
        "",
        "just text",
        "- a\n- list",
        "a: [",
        "a: 1\na: 2",
        "\x00",
        "a: " + "[" * 1_000,
        "a: 2026-99-99",
        "a: !!int x",
        "!!python/object:os.system x",
        "&a [*a]",
        "%YAML 9.9\n---\na: 1",
    ],
)
@pytest.mark.usefixtures("deep")
def test_a_text_that_is_not_a_plan_is_a_problem(text: str) -> None:
    with pytest.raises(PlanProblemsError) as caught:
        parse_plan(text, base=Path())
    assert caught.value.problems


def test_a_yaml_mistake_is_reported_with_its_line() -> None:
    with pytest.raises(PlanProblemsError) as caught:
        parse_plan("version: 1\nlock: [", base=Path())
    assert caught.value.lines[0].startswith("lockstep.yaml:2:8: not valid YAML")


def test_a_plan_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "lockstep.yaml"
    file.write_text(json.dumps(VALID), encoding="utf-8")
    server = load_plan(file).databases[0]
    assert server.tls
    assert server.tls.ca_file == tmp_path / "ca.pem"


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(PlanProblemsError) as missing:
        load_plan(tmp_path / "nope.yaml")
    assert "cannot be read" in missing.value.lines[0]
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(PlanProblemsError) as caught:
        load_plan(binary)
    assert "UTF-8" in caught.value.lines[0]


def test_the_error_does_not_quote_the_plan() -> None:
    with pytest.raises(PlanProblemsError) as caught:
        _parse(_with("credentials.0.username", "hunter2-hunter2"))
    assert isinstance(caught.value, InvalidPlanError)
    assert "hunter2" not in str(caught.value) + "".join(caught.value.lines)


def test_each_strategy_has_one_or_two_usernames() -> None:
    for strategy in Strategy:
        document = _with("credentials.0.strategy", strategy.value)
        assert len(_parse(document).credentials[0].usernames) == (
            1 if strategy is Strategy.DUAL_PASSWORD else 2
        )


def test_servers_are_resolved_and_not_a_key_of_the_file() -> None:
    assert [s.name for s in _parse(VALID).credentials[0].servers] == list(
        _parse(VALID).credentials[0].databases
    )
    assert any("servers: unknown key" in p for p in _problems(_with("credentials.0.servers", [])))


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("runners.oci", {}, "runners.oci: give federation, or instead aws_key_secret"),
        ("runners.aws", {"oci_reader_key_secret": "k"}, "runners.aws.oci_reader_key_secret: needs oci_key"),
        ("runners.aws.federation", TO_OCI, "runners.aws: give federation or oci_key_secret, not both"),
        (
            "runners.aws",
            {"federation": {**TO_OCI, "client": {}}},
            "runners.aws.federation.client: give kms_key",
        ),
        (
            "runners.aws",
            {"federation": {**TO_OCI, "client": {"kms_key": "alias/k"}}},
            "runners.aws.federation.client: give kms_key and certificate",
        ),
        *(
            (
                "runners.aws",
                {"federation": {**TO_OCI, "domain_url": url}},
                "runners.aws.federation.domain_url",
            )
            for url in (
                "http://d.example.com",
                "https://d.example.com/",
                "https://u:p@d.example.com",
                "https://d.example.com:8443",
            )
        ),
        *(
            ("runners.oci", {"federation": {**TO_AWS, "issuer": url}}, "runners.oci.federation.issuer")
            for url in ("http://i.example.com", "https://i.example.com:443/o", "https://i.example.com/o/?a=b")
        ),
        (
            "runners.oci",
            {"federation": {**TO_AWS, "role_arn": "arn:aws:iam::1:user/u"}},
            "runners.oci.federation.role_arn: must be the ARN of a role",
        ),
    ],
)
def test_a_mistake_in_an_identity_is_reported(path: str, value: object, expected: str) -> None:
    problems = _problems(_with(path, value, of=BOTH))
    assert any(problem.startswith(expected) for problem in problems), problems


def test_a_plan_without_a_long_lived_key_is_valid() -> None:
    plan = _parse(_with("runners", {"aws": {"federation": TO_OCI}, "oci": {"federation": TO_AWS}}, of=BOTH))
    to_oci, to_aws = plan.compiled.to_oci, plan.compiled.to_aws
    assert isinstance(to_oci, FederationToOci)
    assert to_oci.client == ClientKey(
        kind="kms-key", kms_key="alias/lockstep-oci-client", certificate="lockstep"
    )
    assert (to_oci.token, to_oci.audience, to_oci.resource_type) == ("rpst", "lockstep", "lockstep")
    assert isinstance(to_aws, FederationToAws)
    assert to_aws.key.version == TO_AWS["key"]["version"]
    assert (to_aws.audience, to_aws.subject) == ("sts.amazonaws.com", "lockstep-oci-runner")
    assert list(plan.runners.keys) == []
    assert read(CompiledPlan, write(plan.compiled)) == plan.compiled


def test_the_address_of_a_domain_may_be_as_oci_shows_it() -> None:
    url = "https://idcs-1.identity.oraclecloud.com:443"
    plan = _parse(_with("runners.aws", {"federation": {**TO_OCI, "domain_url": url}}, of=BOTH))
    to_oci = plan.compiled.to_oci
    assert isinstance(to_oci, FederationToOci)
    assert to_oci.domain_url == url


def test_functions_that_only_read_may_have_a_key_of_their_own() -> None:
    assert _parse(BOTH).compiled.to_oci == ApiKeys(
        kind="api-keys", writer="lockstep/oci-key", reader="lockstep/oci-key"
    )
    plan = _parse(_with("runners.aws.oci_reader_key_secret", "lockstep/oci-reader", of=BOTH))
    assert plan.compiled.to_oci == ApiKeys(
        kind="api-keys", writer="lockstep/oci-key", reader="lockstep/oci-reader"
    )
    secret = {**TO_OCI, "client": {"secret": "lockstep/client"}}
    plan = _parse(_with("runners.aws", {"federation": secret}, of=BOTH))
    assert dict(plan.runners.keys)["runners.aws.federation.client.secret"] == "lockstep/client"


@pytest.mark.parametrize(
    "runner",
    [
        {"oci_key_secret": "lockstep/one"},
        {"oci_key_secret": "lockstep/one", "oci_reader_key_secret": "lockstep/two"},
        {"federation": TO_OCI},
        {"federation": {**TO_OCI, "client": {"secret": "lockstep/client"}}},
    ],
)
def test_a_compiled_plan_names_the_secrets_with_which_the_runner_proves_itself(runner: object) -> None:
    plan = _parse(_with("runners.aws", runner, of=BOTH))
    assert plan.compiled.secrets_for_oci == set(plan.runners.aws.secrets.values())


FIXED = (
    "databases.0.admin_secret",
    "runners.aws.oci_key_secret",
    "runners.oci.aws_key_secret",
    "audit.oci.mac_secret",
)
TAKEN = (
    "multi-cloud/app_user",
    "multi-cloud.app_user",
    "multi-cloud/connection_blob",
    "multi-cloud/stock_user-connection_blob",
    "multi-cloud/app_user.0",
    "multi-cloud.stock_user.3",
)


@pytest.mark.parametrize("place", FIXED)
@pytest.mark.parametrize("name", TAKEN)
def test_a_secret_that_lockstep_reads_is_none_that_it_rotates(place: str, name: str) -> None:
    problems = _problems(_with(place, name, of=BOTH))
    assert any(f"{name.replace('/', '.')} appears 2 times" in p for p in problems), problems


def test_credentials_with_one_default_blob_are_told_the_field_and_the_way_out() -> None:
    first = VALID["credentials"][0]
    others = [{**first, "id": f"team/app_{n}", "username": f"app_{n}"} for n in range(3)]
    (told,) = [p for p in _problems({**VALID, "credentials": others}) if "secret name" in p]
    assert told == (
        "credentials[1].secrets.connection_blob: with dots for slashes, secret name team.connection_blob "
        "appears 3 times, first in credentials[0].secrets.connection_blob; each must be unique. By default it is the "
        "same for all ids with the same part before the last slash: give each credential names of its own, "
        "`secrets: {app_user: …, connection_blob: …}`"
    )


@pytest.mark.parametrize(("one", "other"), list(combinations(FIXED, 2)))
def test_secrets_that_lockstep_reads_are_different_ones(one: str, other: str) -> None:
    document = _with(other, "lockstep.shared", of=_with(one, "lockstep/shared", of=BOTH))
    assert any("lockstep.shared appears 2 times" in p for p in _problems(document))


def test_databases_may_share_their_admin_secret() -> None:
    assert _parse(_with("databases.1.admin_secret", "lockstep/admin/shop", of=BOTH))


@pytest.mark.parametrize(
    ("changes", "account"),
    [
        ({"credentials.0": {**BOTH["credentials"][1], "id": "x"}}, "stock_a"),
        ({"credentials.1.alternates": ["stock_owner", "stock_b"]}, "stock_owner"),
        ({"credentials.1.databases": ["shop"], "credentials.1.alternates": ["app", "app2"]}, "app"),
        (
            {
                "credentials.1.databases": ["shop", "stock"],
                "credentials.1.alternates": ["app", "app2"],
            },
            "app",
        ),
        # Two names of one server.
        (
            {
                "databases.1": plans.database("stock", Engine.MYSQL, host="SHOP.example.com.", port=3306),
                "credentials.1.alternates": ["app2", "app"],
            },
            "app",
        ),
        (
            {
                "databases.0.host": "localhost",
                "databases.1": plans.database("stock", Engine.MYSQL, host="127.0.0.1", port=3306),
                "credentials.1.alternates": ["app2", "app"],
            },
            "app",
        ),
    ],
    ids=str,
)
def test_an_account_belongs_to_one_credential(changes: dict[str, object], account: str) -> None:
    document = BOTH
    for path, value in changes.items():
        document = _with(path, value, of=document)
    problems = " ".join(_problems(document))
    assert f"account {account} at " in problems
    assert "give each credential accounts of its own" in problems


def test_the_same_username_on_two_servers_is_two_accounts() -> None:
    assert _parse(_with("credentials.1.alternates", ["app", "app2"], of=BOTH))


def test_a_credential_names_a_server_once() -> None:
    document = _with("databases.1", plans.database("stock", Engine.MYSQL, host="shop.example.com"))
    document["credentials"][0]["databases"] = ["shop", "stock"]
    [problem] = _problems(document)
    assert "credentials[0].databases: shop and stock are one server, shop.example.com:3306" in problem


def test_a_server_has_one_engine() -> None:
    document = _with("databases.1", plans.database("stock", Engine.MARIADB, host="shop.example.com"))
    [problem] = _problems(document)
    assert (
        "databases[1].engine: shop and stock are one server, shop.example.com:3306, with two engines"
        in problem
    )


@pytest.mark.parametrize(("engine", "is_refused"), [(Engine.MYSQL, True), (Engine.MARIADB, False)])
def test_a_username_fits_the_server(engine: Engine, *, is_refused: bool) -> None:
    document = _with("databases.0.engine", engine.value)
    document["credentials"][0] |= {"strategy": "alternating_users", "username": "x" * 31}
    if is_refused:
        assert any("mysql takes at most 32 characters" in p for p in _problems(document))
    else:
        assert _parse(document)


@pytest.mark.parametrize("username", ["postgres", "rdsadmin", "pg_monitor"])
def test_an_account_of_the_server_itself_is_not_rotated(username: str) -> None:
    document = _with("credentials.1.alternates", [username, "stock_b"], of=BOTH)
    assert any(f"{username} is an account of Lockstep or of the server" in p for p in _problems(document))


@pytest.mark.parametrize(
    ("host", "is_refused"),
    [
        ("shop.abcdef.eu-central-1.rds.amazonaws.com", True),
        ("shop.cluster-abcdef.eu-central-1.rds.amazonaws.com", True),
        ("Shop.cluster-ro-abcdef.eu-central-1.RDS.amazonaws.com.", True),
        ("shop.abcdef.rds.cn-north-1.amazonaws.com.cn", True),
        ("shop.abcdef.cn-north-1.rds.amazonaws.com.cn", True),
        # A proxy's certificate is of a public authority.
        ("shop.proxy-abcdef.eu-central-1.rds.amazonaws.com", False),
        ("rds.amazonaws.com.example.com", False),
    ],
)
def test_tls_to_rds_needs_its_cas(host: str, *, is_refused: bool) -> None:
    document = _with("databases.0.host", host)
    assert _parse(document)
    document["databases"][0]["tls"] = {}
    if is_refused:
        [problem] = _problems(document)
        assert problem.startswith("databases[0]: RDS signs its certificates with private CAs")
        assert "ca_file" in problem
    else:
        assert _parse(document)


def test_example_values_are_named_with_their_places() -> None:
    plan = load_plan(Path(__file__).parents[2] / "lockstep.yaml")
    places = [problem.partition(": ")[0] for problem in example_values(plan)]
    assert places == [
        "databases[0].host",
        "databases[1].host",
        "audit.aws.bucket",
        "stores[1].compartment_id",
        "stores[1].own_compartment_id",
        "stores[1].vault_id",
        "audit.oci.namespace",
        "runners.aws.federation.domain_url",
        "runners.oci.federation.issuer",
        "runners.oci.federation.role_arn",
        "runners.oci.federation.key.id",
        "runners.oci.federation.key.version",
        "runners.oci.federation.key.endpoint",
    ]
