"""Every mistake in a plan file is reported at once, with its place and the rule."""

from itertools import combinations

import pytest

from lockstep.plan.compiled import ApiKeys, ClientKey, CompiledPlan, FederationToAws, FederationToOci
from lockstep.plan.credentials import PLAINTEXT_CONSENT
from lockstep.protocol.model import Engine
from lockstep.protocol.strict_json import read, write
from sandbox import plans
from sandbox.plans import TO_AWS, TO_OCI
from tests.unit.plan_case import BOTH, OCI_STORE, VALID, parse, problems_of, with_value

UNSAFE_NAMES = ("..", ".", "...", "a/../b", "a/./b", "/a", "a/", "a//b", "/")


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("version", 2, "version: "),
        ("audit.aws.retention", "20", "audit.aws.retention: write a duration"),
        ("audit.aws.retention", "-5m", "audit.aws.retention: write a duration"),
        ("audit.aws.retention", "0s", "audit.aws.retention: must be longer than zero"),
        ("audit.aws.retention", "5ms", "audit.aws.retention: write a duration"),
        ("credentials.0.interval", "0s", "interval: no schedule by wall clock has 0s: it must be 15, 20"),
        ("credentials.0.interval", "8m", "or whole days; use 20m"),
        ("credentials.0.interval", "25m", "or whole days; use 20m or 30m"),
        ("credentials.0.interval", "5h", "or whole days; use 4h or 6h"),
        (
            "credentials.0.interval",
            "12m",
            "credentials[0].interval: 12m exhausts Secrets Manager's quota",
        ),
        ("credentials.0.overlap", "1081s", "overlap: must be at most 18m, the interval minus the 2m"),
        ("credentials.0.alternates", ["a", "b"], "alternates: allowed only with the strategy"),
        ("credentials.0.username", "app'--", "credentials[0].username"),
        ("credentials.0.account_host", "10.%'--", "credentials[0].account_host"),
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
        ("credentials.0.password_length", 15, "credentials[0].password_length: must be 16 or more"),
        ("credentials.0.password", "hunter2", "credentials[0].password: a plan holds no password"),
        ("databases.0.password", "hunter2", "databases[0].password: a plan holds no password"),
        ("databases.0.tls", True, "databases[0].tls: unknown key; connections are TLS in any case"),
        ("credentials.1", VALID["credentials"][0], "multi-cloud.app_user appears 2 times"),
        ("credentials.0.secret", "multi-cloud/app_user.connection", "app_user.connection appears 2 times"),
        ("credentials.0.connection_secret", "multi-cloud/app_user", "multi-cloud.app_user appears 2 times"),
        *(("credentials.0.id", bad, "no slash at its beginning or end") for bad in UNSAFE_NAMES),
        *(("databases.0.admin_secret", bad, "no slash at its beginning or end") for bad in UNSAFE_NAMES),
        ("credentials.0.id", "a+b", "credentials[0].id"),
        (
            "credentials.0.username",
            "lockstep_rotator",
            "username: lockstep_rotator is an account of Lockstep",
        ),
        ("credentials.0.username", "root", "username: root is an account of Lockstep or of the server"),
        ("credentials.0.id", "lockstep/admin/shop", "lockstep.admin.shop appears 2 times"),
        ("databases.0.plaintext", PLAINTEXT_CONSENT, "databases[0].plaintext: no certificate is verified"),
        ("databases.0.verify_hosts", "replica", "databases[0].verify_hosts"),
        (
            "databases.0.verify_hosts",
            ["replica:"],
            "databases[0].verify_hosts[0]: must be a host name or an IPv4",
        ),
        ("databases.0.verify_hosts", ["replica:0"], "databases[0].verify_hosts[0]: its port must be 1 to"),
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
            "databases.0",
            {
                **{key: value for key, value in VALID["databases"][0].items() if key != "ca_file"},
                "verify_hosts": ["replica.abc.eu-west-1.rds.amazonaws.com"],
            },
            "databases[0].verify_hosts[0]: RDS signs its certificates with private CAs",
        ),
        (
            "databases.0.verify_hosts",
            ["shop.cluster-ro-abc123.eu-central-1.rds.amazonaws.com"],
            "databases[0].verify_hosts[0]: this name stands for several hosts",
        ),
        (
            "stores.1",
            OCI_STORE,
            "runners.aws: needs federation, or instead oci_key_secret, because one store is in OCI",
        ),
        ("runners", {"oci": {"aws_key_secret": "k"}}, "runners.oci: needs a store of kind oci-vault"),
        ("audit.aws.mac_key", "lockstep mac", "audit.aws.mac_key"),
        (
            "audit.aws.mac_key",
            "arn:aws:kms:us-east-1:111122223333:key/12345678-1234-1234-1234-123456789012",
            "audit.aws.mac_key: its region is us-east-1, but the log is in that of the lock, eu-central-1",
        ),
        ("audit.aws.order_key", "alias/lockstep", "order_key: alias/lockstep signs or signed other entries"),
        ("audit.aws.order_key", "arn:aws:kms:eu-central-1:111122223333:alias/lockstep", "signs or signed"),
    ],
)
def test_a_mistake_is_reported_with_its_place_and_the_rule(path: str, value: object, expected: str) -> None:
    problems = problems_of(with_value(path, value))
    assert any(expected in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("credentials.0.interval", "15m"),
        ("credentials.0.id", "x" * 55),
        ("credentials.0.id", "a..b/.c-d_e"),
        ("credentials.0.overlap", "1080s"),
    ],
)
def test_limits_are_allowed(path: str, value: str) -> None:
    assert parse(with_value(path, value))


def test_mistakes_across_sections_are_reported_together() -> None:
    document = with_value("credentials.0.databases", ["nope"])
    document["stores"].append(OCI_STORE)
    key, unknown = problems_of(document)
    assert "runners.aws: needs federation" in key
    assert "the plan has no database nope" in unknown


# Identities


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("runners.oci", {}, "runners.oci: give federation, or instead aws_key_secret"),
        ("runners.aws", {"oci_reader_key_secret": "k"}, "runners.aws.oci_reader_key_secret: needs oci_key"),
        ("runners.aws.federation", TO_OCI, "runners.aws: give federation or oci_key_secret, not both"),
        (
            "runners.aws",
            {"federation": {**TO_OCI, "client_secret": "k"}},
            "runners.aws.federation: give kms_key",
        ),
        (
            "runners.aws",
            {"federation": {**TO_OCI, "certificate": None}},
            "runners.aws.federation: give kms_key and certificate",
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
    problems = problems_of(with_value(path, value, of=BOTH))
    assert any(problem.startswith(expected) for problem in problems), problems


def test_a_plan_without_a_long_lived_key_is_valid() -> None:
    plan = parse(
        with_value("runners", {"aws": {"federation": TO_OCI}, "oci": {"federation": TO_AWS}}, of=BOTH)
    )
    to_oci, to_aws = plan.compiled.to_oci, plan.compiled.to_aws
    assert isinstance(to_oci, FederationToOci)
    assert to_oci.client == ClientKey(kms_key="alias/lockstep-oci-client", certificate="lockstep")
    assert (to_oci.token, to_oci.audience, to_oci.resource_type) == ("rpst", "lockstep", "lockstep")
    assert isinstance(to_aws, FederationToAws)
    assert to_aws.key.version == TO_AWS["key"]["version"]
    assert (to_aws.audience, to_aws.subject) == ("sts.amazonaws.com", "lockstep-oci-runner")
    assert list(plan.runners.keys) == []
    assert read(CompiledPlan, write(plan.compiled)) == plan.compiled


def test_the_address_of_a_domain_may_be_as_oci_shows_it() -> None:
    url = "https://idcs-1.identity.oraclecloud.com:443"
    plan = parse(with_value("runners.aws", {"federation": {**TO_OCI, "domain_url": url}}, of=BOTH))
    to_oci = plan.compiled.to_oci
    assert isinstance(to_oci, FederationToOci)
    assert to_oci.domain_url == url


def test_functions_that_only_read_may_have_a_key_of_their_own() -> None:
    assert parse(BOTH).compiled.to_oci == ApiKeys(writer="lockstep/oci-key", reader="lockstep/oci-key")
    plan = parse(with_value("runners.aws.oci_reader_key_secret", "lockstep/oci-reader", of=BOTH))
    assert plan.compiled.to_oci == ApiKeys(writer="lockstep/oci-key", reader="lockstep/oci-reader")
    secret = {**TO_OCI, "kms_key": None, "certificate": None, "client_secret": "lockstep/client"}
    plan = parse(with_value("runners.aws", {"federation": secret}, of=BOTH))
    assert dict(plan.runners.keys)["runners.aws.federation.client_secret"] == "lockstep/client"


# What is there once


FIXED = (
    "databases.0.admin_secret",
    "runners.aws.oci_key_secret",
    "runners.oci.aws_key_secret",
    "audit.oci.mac_secret",
)
TAKEN = (
    "multi-cloud/app_user",
    "multi-cloud.app_user",
    "multi-cloud/app_user.connection",
    "multi-cloud/stock_user.connection",
    "multi-cloud/app_user.0",
    "multi-cloud.stock_user.3",
)


@pytest.mark.parametrize("place", FIXED)
@pytest.mark.parametrize("name", TAKEN)
def test_a_secret_that_lockstep_reads_is_none_that_it_rotates(place: str, name: str) -> None:
    problems = problems_of(with_value(place, name, of=BOTH))
    assert any(f"{name.replace('/', '.')} appears 2 times" in p for p in problems), problems


@pytest.mark.parametrize(("one", "other"), list(combinations(FIXED, 2)))
def test_secrets_that_lockstep_reads_are_different_ones(one: str, other: str) -> None:
    document = with_value(other, "lockstep.shared", of=with_value(one, "lockstep/shared", of=BOTH))
    assert any("lockstep.shared appears 2 times" in p for p in problems_of(document))


def test_databases_may_share_their_admin_secret() -> None:
    assert parse(with_value("databases.1.admin_secret", "lockstep/admin/shop", of=BOTH))


@pytest.mark.parametrize(
    ("changes", "account"),
    [
        ({"credentials.0": {**BOTH["credentials"][1], "id": "x"}}, "stock_a"),
        ({"credentials.1.alternates": ["stock_owner", "stock_b"]}, "stock_owner"),
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
    ],
    ids=str,
)
def test_an_account_belongs_to_one_credential(changes: dict[str, object], account: str) -> None:
    document = BOTH
    for path, value in changes.items():
        document = with_value(path, value, of=document)
    problems = " ".join(problems_of(document))
    assert f"account {account} at " in problems
    assert "give each credential accounts of its own" in problems


def test_the_same_username_on_two_servers_is_two_accounts() -> None:
    assert parse(with_value("credentials.1.alternates", ["app", "app2"], of=BOTH))


def test_a_credential_names_a_server_once() -> None:
    document = with_value("databases.1", plans.database("stock", Engine.MYSQL, host="shop.example.com"))
    document["credentials"][0]["databases"] = ["shop", "stock"]
    [problem] = problems_of(document)
    assert "credentials[0].databases: shop and stock are one server, shop.example.com:3306" in problem


def test_a_server_has_one_engine() -> None:
    document = with_value("databases.1", plans.database("stock", Engine.MARIADB, host="shop.example.com"))
    [problem] = problems_of(document)
    assert (
        "databases[1].engine: shop and stock are one server, shop.example.com:3306, with two engines"
        in problem
    )
