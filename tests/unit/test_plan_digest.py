"""The plan digest: what both runners must agree on changes it, and nothing else does (protocol O1)."""

import json
from pathlib import Path
from typing import Any

import pytest

from lockstep.plan.file import parse_plan
from lockstep.protocol.model import Engine, Strategy
from sandbox import plans

Document = dict[str, Any]

CREDENTIAL = "multi-cloud/app_user"
GOLDEN = "83896f9a302fc00e3ed74fb4aba2fe03f2d1a3c4f8d82106efcaeb59700bafde"


def document() -> Document:
    """A plan for both clouds, with two databases and a second credential."""
    return plans.plan_document(
        [
            plans.database("shop", Engine.MYSQL, tls="ca.pem"),
            plans.database("stock", Engine.MYSQL, tls=""),
            plans.database("bills", Engine.MYSQL, tls=""),
        ],
        [
            plans.credential(
                CREDENTIAL,
                "shop",
                "stock",
                "bills",
                strategy=Strategy.ALTERNATING_USERS,
                alternates=["app_a", "app_b"],
                connection_secret="multi-cloud/connection_blob",
            ),
            plans.credential("other/user", "stock", username="other"),
        ],
        oci=plans.OciNames(),
    )


def digest(of: Document, *, base: str = "/etc/lockstep") -> str:
    credential = parse_plan(json.dumps(of), base=Path(base)).credential(CREDENTIAL)
    assert credential
    return credential.plan_digest


def changed(path: str, value: object) -> Document:
    found = document()
    *parents, last = path.split(".")
    place: Any = found
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    place[last] = value
    return found


def reordered(path: str, *order: int) -> Document:
    found: Any = document()
    *parents, last = path.split(".")
    place = found
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    place[last] = [place[last][i] for i in order]
    return dict(found)


def test_the_digest_of_a_plan_stays_the_same_for_ever() -> None:
    """If this fails, an upgrade stops every rotation until an operator has activated every plan anew."""
    assert digest(document()) == GOLDEN


AGREED = {
    "lock.table": "other",
    "lock.region": "eu-west-1",
    "stores.0.region": "eu-west-1",
    "stores.1.region": "eu-zurich-1",
    "stores.1.vault_id": "ocid1.vault.oc1.eu.bbbb",
    "databases.1.engine": "mariadb",
    "databases.1.host": "stock2.example.com",
    "databases.1.port": 3307,
    "databases.1.dbname": "stock",
    "databases.1.verify_hosts": ["replica"],
    "credentials.0.databases": ["shop", "stock"],
    "credentials.0.alternates": ["app_a", "app_c"],
    "credentials.0.account_host": "10.%",
    "credentials.0.interval": "30m",
    "credentials.0.overlap": "10m",
    "credentials.0.secret": "new/app_user",
    "credentials.0.connection_secret": "new/addresses",
}


def test_each_change_gives_a_digest_of_its_own() -> None:
    digests = [digest(document()), *(digest(changed(path, value)) for path, value in AGREED.items())]
    assert len(set(digests)) == len(digests)


def test_a_database_under_another_name_is_another_database() -> None:
    renamed = json.loads(json.dumps(document()).replace('"bills"', '"invoices"'))
    renamed["databases"][2]["host"] = document()["databases"][2]["host"]
    assert digest(renamed) != digest(document())


def test_the_strategy_changes_the_digest() -> None:
    dual = document()
    dual["credentials"][0] |= {"strategy": "dual_password", "username": "app_a"}
    del dual["credentials"][0]["alternates"]
    assert digest(dual) != digest(document())


@pytest.mark.parametrize(
    ("path", "order"),
    [
        ("credentials.0.alternates", (1, 0)),  # Whose turn is next.
        ("credentials.0.databases", (1, 0, 2)),  # The first one is in app_user.
    ],
)
def test_an_order_that_counts_changes_the_digest(path: str, order: tuple[int, ...]) -> None:
    assert digest(reordered(path, *order)) != digest(document())


def test_the_order_of_the_stores_changes_the_digest() -> None:
    """The first store decides (protocol V1)."""
    slow = document()
    for credential in slow["credentials"]:
        credential["interval"] = "2h"
    assert digest({**slow, "stores": slow["stores"][::-1]}) != digest(slow)


@pytest.mark.parametrize(
    ("path", "order"),
    [("databases", (2, 0, 1)), ("credentials", (1, 0)), ("credentials.0.databases", (0, 2, 1))],
)
def test_an_order_that_does_not_count_leaves_the_digest(path: str, order: tuple[int, ...]) -> None:
    assert digest(reordered(path, *order)) == digest(document())


def with_verify_hosts(*hosts: object) -> str:
    return digest(changed("databases.1.verify_hosts", list(hosts)))


def test_each_verify_host_counts_and_not_their_order() -> None:
    both = with_verify_hosts("r1", "r2")
    assert both not in {with_verify_hosts("r1"), with_verify_hosts("r1", "r3"), digest(document())}
    assert both == with_verify_hosts("r2", "r1:3306")
    assert both != with_verify_hosts("r1", "r2:3307")


OWN = {
    "a CA file": ("databases.0.ca_file", "elsewhere/ca.pem"),
    "no CA file": ("databases.0.ca_file", None),
    "an admin secret": ("databases.0.admin_secret", "elsewhere/admin"),
    "a compartment": ("stores.1.compartment_id", "ocid1.compartment.oc1..bbbb"),
    "an audit bucket": ("audit.aws.bucket", "elsewhere"),
    "a MAC key": ("audit.aws.mac_key", "alias/elsewhere"),
    "a key of orders": ("audit.aws.order_key", "alias/elsewhere"),
    "a runner's key": ("runners.aws.oci_key_secret", "elsewhere/oci-key"),
    "the length of a password": ("credentials.0.password_length", 40),
    "another credential": ("credentials.1.interval", "1h"),
}


@pytest.mark.parametrize(("path", "value"), OWN.values(), ids=OWN)
def test_what_each_runner_may_have_its_own_way_leaves_the_digest(path: str, value: object) -> None:
    assert digest(changed(path, value)) == digest(document())


def test_the_folder_of_the_plan_leaves_the_digest() -> None:
    assert digest(document(), base="/var/task") == digest(document())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("credentials.0.interval", "20m"),
        ("credentials.0.interval", "1200s"),
        ("credentials.0.overlap", "16m"),
        ("credentials.0.secret", CREDENTIAL),
        ("databases.1.verify_hosts", []),
        ("credentials.0.alternates", ["app_a", "app_b"]),
        ("credentials.0.account_host", "%"),
    ],
)
def test_a_default_that_is_written_out_leaves_the_digest(path: str, value: object) -> None:
    assert digest(changed(path, value)) == digest(document())
