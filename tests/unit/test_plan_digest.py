"""The plan digest: what both runners must agree on changes it, and nothing else does (protocol O1)."""

import json
from pathlib import Path

import pytest

from lockstep.plan.file import parse_plan
from lockstep.protocol.model import Engine, Strategy
from sandbox import plans
from tests.unit.plan_case import GONE, Changes, Document, edited

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


OWN: dict[str, Changes] = {
    "a CA file": {"databases.0.ca_file": "elsewhere/ca.pem"},
    "no CA file": {"databases.0.ca_file": None},
    "an admin secret": {"databases.0.admin_secret": "elsewhere/admin"},
    "a compartment": {"stores.1.compartment_id": "ocid1.compartment.oc1..bbbb"},
    "an audit bucket": {"audit.aws.bucket": "elsewhere"},
    "a MAC key": {"audit.aws.mac_key": "alias/elsewhere"},
    "a key of orders": {"audit.aws.order_key": "alias/elsewhere"},
    "a runner's key": {"runners.aws.oci_key_secret": "elsewhere/oci-key"},
    "the length of a password": {"credentials.0.password_length": 40},
    "another credential": {"credentials.1.interval": "1h"},
    "an order of databases": {"databases": [DATABASES[n] for n in (2, 0, 1)]},
    "an order of credentials": {"credentials": CREDENTIALS[::-1]},
    "an order after the first database": {"credentials.0.databases": ["shop", "bills", "stock"]},
    "the default interval": {"credentials.0.interval": "1200s"},
    "the default overlap": {"credentials.0.overlap": "16m"},
    "the default secret": {"credentials.0.secret": CREDENTIAL},
    "no verify hosts": {"databases.1.verify_hosts": []},
    "the default host of accounts": {"credentials.0.account_host": "%"},
}


@pytest.mark.parametrize("changes", OWN.values(), ids=OWN)
def test_what_each_runner_may_have_its_own_way_leaves_the_digest(changes: Changes) -> None:
    assert digest(edited(DOCUMENT, changes)) == GOLDEN


def test_the_order_of_verify_hosts_leaves_the_digest() -> None:
    one, other = ({"databases.1.verify_hosts": hosts} for hosts in (["r1", "r2"], ["r2", "r1:3306"]))
    assert digest(edited(DOCUMENT, one)) == digest(edited(DOCUMENT, other))
