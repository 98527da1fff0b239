"""A secret, an account and a server belong to one place of a plan."""

from itertools import combinations

import pytest

from lockstep.protocol.model import Engine
from sandbox import plans
from tests.unit.plan_case import BOTH, VALID, parse, problems_of, with_value

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
    problems = problems_of(with_value(place, name, of=BOTH))
    assert any(f"{name.replace('/', '.')} appears 2 times" in p for p in problems), problems


def test_credentials_with_one_default_blob_are_told_the_field_and_the_way_out() -> None:
    first = VALID["credentials"][0]
    others = [{**first, "id": f"team/app_{n}", "username": f"app_{n}"} for n in range(3)]
    (told,) = [p for p in problems_of({**VALID, "credentials": others}) if "secret name" in p]
    assert told == (
        "credentials[1].secrets.connection_blob: with dots for slashes, secret name team.connection_blob "
        "appears 3 times, first in credentials[0].secrets.connection_blob; each must be unique. By default it is the "
        "same for all ids with the same part before the last slash: give each credential names of its own, "
        "`secrets: {app_user: …, connection_blob: …}`"
    )


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
