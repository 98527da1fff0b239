"""Every mistake in a plan file is reported at once, with its place and the rule."""

import pytest

from lockstep.plan.databases import PLAINTEXT_CONSENT
from tests.unit.plan_case import OCI_STORE, VALID, parse, problems_of, with_value

UNSAFE_NAMES = ("..", ".", "...", "a/../b", "a/./b", "/a", "a/", "a//b", "/")


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
    problems = problems_of(with_value(path, value))
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
    assert parse(with_value(path, value))


def test_mistakes_across_sections_are_reported_together() -> None:
    document = with_value("credentials.0.databases", ["nope"])
    document["stores"].append(OCI_STORE)
    key, unknown = problems_of(document)
    assert "runners.aws: needs federation" in key
    assert "the plan has no database nope" in unknown
