"""Every mistake in a plan file is told in its line, with the rule; its correction is none. And its JSON Schema."""

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from ruamel.yaml import YAML
from typer.testing import CliRunner

from lockstep.cli.app import app
from lockstep.plan.credentials import PLAINTEXT_CONSENT
from lockstep.plan.file import PlanProblemsError, Problem, parse_plan, plan_schema, schema_text
from lockstep.plan.model import Plan
from lockstep.protocol.model import Engine, Strategy
from sandbox import plans
from sandbox.plans import TO_AWS, TO_OCI
from tests.fuzz.harness import inputs, mutated

ROOT = Path(__file__).parents[2]
SCHEMA = plan_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
Document = dict[str, Any]
Changes = Mapping[str, Any]
"""Other values, each by the path to it, such as `databases.0.host`."""

VALID = plans.plan_document(
    [
        plans.database("shop", Engine.MYSQL, dbname="shop", tls="ca.pem"),
        plans.database("stock", Engine.POSTGRESQL, dbname="stock"),
    ],
    [plans.credential("multi-cloud/app_user", "shop")],
)
BOTH = plans.plan_document(
    [plans.database("shop", Engine.MYSQL), plans.database("stock", Engine.POSTGRESQL)],
    [
        plans.credential("multi-cloud/app_user", "shop"),
        plans.credential(
            "multi-cloud/stock_user", "stock", username="stock", strategy=Strategy.ALTERNATING_USERS
        ),
    ],
    oci=plans.OciNames(),
)
"""A plan for both clouds, with two credentials."""
GONE = "(left out)"
"""In the place of a value: the key is left out. A text, so that the names of tests are the same in each process."""


def edited(of: Mapping[str, Any], changes: Changes) -> Document:
    """A copy with other values; a list may grow by one."""
    document: Document = json.loads(json.dumps(of))
    for path, value in changes.items():
        *parents, last = path.split(".")
        place: Any = document
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if isinstance(place, list):
            place[int(last) : int(last) + 1] = [] if value is GONE else [deepcopy(value)]
        elif value is GONE:
            place.pop(last, None)
        else:
            place[last] = deepcopy(value)
    return document


def parse(document: object) -> Plan:
    return parse_plan(json.dumps(document), base=Path("/etc/lockstep"))


def problems_in(text: str, environ: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(PlanProblemsError) as caught:
        parse_plan(text, base=Path("/etc/lockstep"), environ=environ)
    return tuple(caught.value.problems)


def problems_of(document: object) -> list[str]:
    return [str(replace(problem, mark=None)) for problem in problems_in(json.dumps(document))]


# The mistakes

Rows = dict[str, list[tuple[str, object, str, object]]]

UNSAFE_NAMES = ("..", "a/./b", "/a", "a/", "a//b")
SLASHES = "no slash at its beginning or end, no two slashes in a row, no part of only dots"
KMS = "arn:aws:kms:us-east-1:111122223333:key/12345678-1234-1234-1234-123456789012"
ARN = "arn:aws:secretsmanager:eu-west-1:210987654321:secret:dba/rotator-AbC123"
OURS = "arn:aws:secretsmanager:eu-central-1:210987654321:secret:multi-cloud/app_user-AbC123"
RDS = "shop.abc123.eu-west-1.rds.amazonaws.com"
TOPIC = "ocid1.onstopic.oc1.eu.a"
RESERVED = "is an account of Lockstep or of the server itself"
BEFORE = "an RDS Proxy refuses all but the current value"
OF_URL, PLAIN_URL = "must be an address", "http://a.b"
OF_HOST = "must be a host name or an IPv4 address"
OF_SECRET = "must be the name of a secret, its complete ARN"
ONE_WAY = "give exactly one of `admin_secret`"
KINDS = "must be aws-secrets-manager or oci-vault"
ENGINES = "must be mysql, mariadb or postgresql"
STRATEGIES = "must be dual_password or alternating_users"

IN_AWS: Rows = {
    "": [
        ("version", 2, "2 is newer than 1", 1),
        ("lock", GONE, "this key is required", VALID["lock"]),
        ("stores", [], "too few entries", VALID["stores"]),
        ("audit", 7, "must be a mapping", VALID["audit"]),
        ("events", {"oci": TOPIC}, "events.oci: needs runners.oci, which sends there", {"aws": "a-bus"}),
        ("events", {"aws": "a bus"}, "must be letters, digits and / _ . -, at most 256", GONE),
        ("runners", {"oci": {"aws_key_secret": "k"}}, "runners.oci: needs a store of kind oci-vault", GONE),
    ],
    "lock": [
        ("tabel", "lockstep", "unknown key; did you mean table?", GONE),
        ("region", "Frankfurt", "must be the name of a region, such as eu-central-1", "eu-central-1"),
    ],
    "stores.0": [("kind", "aws", f"{KINDS}; did you mean aws-secrets-manager?", "aws-secrets-manager")],
    "audit.aws": [
        ("bucket", "b" * 58, "must be 3 to 57", "b" * 57),  # With `-plans` it has 63.
        *(("retention", wrong, "write a duration", "20d") for wrong in ("20", "-5m", "5ms")),
        ("retention", "0s", "must be longer than zero", "1s"),
        ("mac_key", "lockstep mac", "must be the id, the alias", KMS),
        ("retired_mac_keys", ["alias/a"], "must be the ARN of a KMS key", [KMS]),
        ("order_key", "alias/lockstep", "signs or signed other entries", "alias/lockstep-orders"),
        # A policy with the ARN of an alias as its resource lets nobody use the key.
        ("order_key", KMS.replace("key/", "alias/"), "must be the id, the alias", GONE),
    ],
    "credentials.0": [
        ("interval", "5h", "no schedule by wall clock has 5h", "6h"),
        ("interval", "12m", "exhausts Secrets Manager's quota of versions within a day; use an", "15m"),
        ("strategy", "dual-password", f"{STRATEGIES}; did you mean dual_password?", "dual_password"),
        ("overlap", "1081s", "must be at most 18m, the interval minus the 2m", "1080s"),
        # The overlap of 16 minutes, less one in which a store may still give the value before.
        ("readers_keep", "901s", "needs an overlap of 16m1s, and so an interval of 18m1s or more", "15m"),
        ("alternates", ["a", "b"], "allowed only with the strategy alternating_users", GONE),
        ("username", "app'--", "beginning with no digit, at most 30 in all", "app__"),
        ("username", "root", f"root {RESERVED}", "rooted"),
        ("account_host", "10.%'--", "must be a host name or an address", "10.%"),
        ("databases", ["shop", "shop"], "server shop.example.com:3306 appears 2 times", ["shop"]),
        ("databases", ["shop", "shpo"], "no database shpo, only shop, stock; did you mean shop?", ["shop"]),
        ("databases", ["stock"], "strategy: postgresql does not allow it; use alternating_users", ["shop"]),
        ("password_length", 15, "must be greater than or equal to 16", 16),
        ("password", "hunter2", "a plan holds no password", GONE),
        ("secret", "multi-cloud/app_user.connection", "app_user.connection appears 2 times", "a"),
        *(("id", wrong, SLASHES, "a..b/.c-d_e") for wrong in UNSAFE_NAMES),
        ("id", "a+b", "must be letters, digits and / _ . -", "x" * 55),
        ("id", "lockstep/admin/shop", "databases[0].admin_secret: with dots for slashes, secret name", "a"),
    ],
    "databases.0": [
        ("name", "Orders", "must be lower-case letters, digits and hyphens", "shop"),
        ("engine", "Mysql", f"{ENGINES}; did you mean mysql?", "mysql"),
        ("host", "shop.example.com:3306", f"{OF_HOST}, without a port", "shop.example.com"),
        ("port", 99_999, "must be less than or equal to 65535", 65_535),
        ("dbname", 12, "must be a text; if it looks like a number or a date, put it in quotes", "shop"),
        ("tls", True, "unknown key; connections are TLS in any case", GONE),
        ("plaintext", PLAINTEXT_CONSENT, "no certificate is verified without TLS", GONE),
        ("verify_hosts", ["replica:"], OF_HOST, ["replica:1"]),
        ("verify_hosts", ["replica:0"], "its port must be 1 to 65535", ["replica:65535"]),
        ("verify_hosts", [f"r{i}" for i in range(16)], "at most 15", [f"r{i}" for i in range(15)]),
        ("verify_hosts", ["r", "R:3306"], "r:3306 appears 2 times", ["r", "R:3307"]),
        ("verify_hosts", ["shop.example.com"], "is shop, which is proven as", ["shop2.example.com"]),
        ("verify_hosts", ["stock.example.com:5432"], "is stock, which is proven as", []),
        ("verify_hosts", [RDS.replace(".abc", ".cluster-ro-abc")], "stands for several hosts", [RDS]),
        ("host", RDS.replace(".abc", ".proxy-abc"), BEFORE, RDS),
        *(("admin_secret", wrong, SLASHES, "a.b/c") for wrong in UNSAFE_NAMES),
        *(("admin_secret", name, OF_SECRET, "a/b+1@c=x") for name in ("", "rds!", "my!secret", f"{ARN}\n")),
        *(("admin_secret", ARN.replace(part, ""), OF_SECRET, ARN) for part in ("-AbC123", "secretsmanager:")),
        # It is a secret that Lockstep rotates, or one of that name elsewhere.
        ("admin_secret", OURS, "multi-cloud.app_user appears 2 times", OURS.replace("central", "west")),
        ("admin_credential", "multi-cloud/app_user", ONE_WAY, GONE),
    ],
}
IN_BOTH: Rows = {
    "": [("events", {"oci": "lockstep"}, "must be the OCID of a topic", {"oci": TOPIC})],
    "runners.aws": [
        ("oci_key_secret", GONE, "needs federation, or instead oci_key_secret", "k"),
        ("federation", TO_OCI, "give federation or oci_key_secret, not both", GONE),
    ],
    "runners": [
        ("oci", {}, "give federation, or instead aws_key_secret", {"aws_key_secret": "k"}),
        ("aws", {"oci_reader_key_secret": "k"}, "needs oci_key_secret beside it", {"oci_key_secret": "k"}),
    ],
    "audit.oci": [("namespace", "a/\nb", "must be letters, digits and _ -", "a")],
    "stores.1": [
        ("compartment_id", GONE, "this key is required", "ocid1.compartment.oc1..a"),
        ("vault_id", "x", "must be an OCID, which begins with ocid1.", "ocid1.vault.oc1..a"),
    ],
    "databases.0": [
        ("admin_secret", ARN, "oci_admin_secret: needed", "a/b"),
        ("admin_secret", "a+b", "stores[1]: Vault does not accept the secret name a+b", "a.b"),
    ],
    "credentials.0": [("interval", "15m", "15m is too short with runners.oci: the lease", "20m")],
    "credentials.1": [
        ("id", "multi-cloud.app_user", "with dots for slashes, secret name multi-cloud.app_user", "b"),
        ("alternates", ["x", "y", "z"], "too many entries; at most 2", ["x", "y"]),
        ("alternates", ["x", "x"], "must be different", ["x", "x2"]),
        # On another server `app` is another account.
        ("alternates", ["pg_monitor", "b"], f"pg_monitor {RESERVED}", ["app", "b"]),
        ("alternates", ["stock_owner", "b"], "account stock_owner at stock.example.com:5432 appears", GONE),
        ("account_host", "10.%", "accounts of postgresql have no host; leave it out", GONE),
    ],
}
FEDERATED = edited(BOTH, {"runners": {"aws": {"federation": TO_OCI}, "oci": {"federation": TO_AWS}}})
IN_FEDERATED: Rows = {
    "runners.aws.federation": [
        ("client_secret", "k", "give kms_key and certificate, or instead of both client_secret", GONE),
        *(("domain_url", wrong, OF_URL, "https://a.b:443") for wrong in (PLAIN_URL, "https://a.b/")),
    ],
    "runners.oci.federation": [
        *(("issuer", wrong, OF_URL, "https://a.b/c") for wrong in (PLAIN_URL, "https://a.b/?c")),
        ("role_arn", "arn:aws:iam::1:user/u", "must be the ARN of a role", TO_AWS["role_arn"]),
    ],
}
SYSTEM_CAS = edited(VALID, {"databases.0.ca_file": GONE})
PRIVATE_CAS = "private CAs; download the bundle of its region and give it as `ca_file`"
IN_SYSTEM_CAS: Rows = {
    "databases.0": [
        ("host", f"{RDS.upper()}.", PRIVATE_CAS, f"{RDS}.example.com"),
        ("verify_hosts", [RDS], PRIVATE_CAS, ["replica.example.com"]),
    ]
}
BY_TOKEN = edited(
    VALID,
    {"databases.0.host": RDS, "databases.0.admin_secret": GONE, "databases.0.admin_iam": "lockstep_rotator"},
)
IN_RDS: Rows = {
    "databases.0": [
        ("admin_secret", "a", ONE_WAY, GONE),
        ("oci_admin_secret", "a", "allowed only with `admin_secret`", GONE),
        ("host", "orders.example.com", "admin_iam: RDS takes tokens only for its own name", RDS),
        ("host", RDS.replace("eu-west-1", "global"), "admin_iam: RDS takes tokens only for its own", RDS),
        ("admin_iam", "x" * 31, "at most", "x" * 30),
        ("admin_iam", "app", f"credentials[0].username: app {RESERVED}", "dba"),
        ("plaintext", PLAINTEXT_CONSENT, "admin_iam: needs TLS, since whoever reads its token", GONE),
    ]
}
BY_CREDENTIAL = "databases[0].admin_credential"
ITSELF: Document = {"admin_secret": None, "admin_credential": "lockstep/rotator"}
ROTATED = plans.plan_document(
    [
        plans.database("orders", Engine.MYSQL, verify_hosts=["replica"], **ITSELF),
        plans.database("ledger", Engine.MYSQL),
        # On another name of the same server its login works too.
        plans.database("archive", Engine.MYSQL, host="ORDERS.example.com.", **ITSELF),
    ],
    [
        plans.credential("multi-cloud/app_user", "orders"),
        plans.credential("lockstep/rotator", "archive", username="lockstep_rotator"),
    ],
)
"""The rotation user of `orders` is a credential that is rotated there."""
IN_ROTATED: Rows = {
    "databases.0": [
        ("admin_credential", "other", "no credential other is rotated on orders", "lockstep/rotator")
    ],
    "databases.1": [("verify_hosts", ["replica"], "replica:3306 is also of orders", ["another"])],
    "databases.2": [("engine", "mariadb", "orders.example.com:3306 is mysql, as orders says", "mysql")],
    "credentials.1": [
        ("username", "app", "account app at orders.example.com:3306 appears 2 times", "rotator"),
        ("databases", ["archive", "orders"], "server orders.example.com:3306 appears 2 times", ["orders"]),
        ("databases", ["orders", "ledger"], f"lockstep_rotator {RESERVED}", ["orders"]),
        ("databases", ["ledger"], f"{BY_CREDENTIAL}: no credential lockstep/rotator is", ["orders"]),
    ],
}
OF = (VALID, IN_AWS), (BOTH, IN_BOTH), (FEDERATED, IN_FEDERATED), (SYSTEM_CAS, IN_SYSTEM_CAS)
EVERY = [
    pytest.param(of, section, *row, id=f"{section}.{row[0]} {row[1]}"[:70])
    for of, rows in (*OF, (BY_TOKEN, IN_RDS), (ROTATED, IN_ROTATED))
    for section, listed in rows.items()
    for row in listed
]


SHAPE = re.compile(
    r"must be(?! longer| different| at most| the name of a secret)|unknown key|this key|too (few|many)|at most"
    r"|beginning|write a duration|a plan holds|2 is newer"
)
"""What the plan says of a mistake that a schema can see."""


@pytest.mark.parametrize(("of", "section", "key", "wrong", "told", "right"), EVERY)
def test_a_mistake_is_told_in_its_line_and_corrected(
    of: Document, section: str, key: str, wrong: object, told: str, right: object
) -> None:
    path = f"{section}.{key}".removeprefix(".")
    text = json.dumps(edited(of, {path: wrong}), indent=1)
    found = [problem for problem in problems_in(text) if told in str(problem)]
    assert found, problems_in(text)
    around, place = (
        "".join(f"[{p}]" if p.isdigit() else f".{p}" for p in at.split("."))[1:] for at in (section, path)
    )
    for problem in found:
        assert problem.place.startswith(around) or told.startswith(problem.place)
        assert problem.mark
        if problem.place == place and wrong is not GONE:
            line = text.splitlines()[problem.mark.line - 1]
            assert f'"{key}"' in line
            assert line[problem.mark.column - 1] != " "
    assert parse(edited(of, {path: right}))
    # The schema refuses what a schema can say, and nothing else.
    assert VALIDATOR.is_valid(edited(of, {path: wrong})) is (not SHAPE.match(told))
    assert VALIDATOR.is_valid(edited(of, {path: right}))


OF_RUNNERS = ("aws.oci_key_secret", "oci.aws_key_secret")
FIXED = ("databases.0.admin_secret", "audit.oci.mac_secret", *(f"runners.{key}" for key in OF_RUNNERS))
TAKEN = ("multi-cloud.app_user", "multi-cloud/app_user.connection", "multi-cloud/app_user.0")


def test_a_secret_that_lockstep_reads_is_none_that_it_rotates_nor_another_one_except_for_admins() -> None:
    for place, name in product(FIXED, TAKEN):
        problems = problems_of(edited(BOTH, {place: name}))
        assert any(f"{name.replace('/', '.')} appears 2 times" in p for p in problems), problems
    for one, other in combinations(FIXED, 2):
        problems = problems_of(edited(BOTH, {one: "lockstep/shared", other: "lockstep.shared"}))
        assert any("lockstep.shared appears 2 times" in p for p in problems)
    assert parse(edited(BOTH, {"databases.1.admin_secret": "lockstep/admin/shop"}))


# The schema


def yaml(text: str) -> Any:  # noqa: ANN401 - a document
    return YAML(typ="safe", pure=True).load(text)


def test_the_command_prints_it_and_every_plan_of_the_repository_is_valid() -> None:
    assert CliRunner().invoke(app, ["plan", "schema"]).stdout == schema_text(SCHEMA)
    for file in [ROOT / "lockstep.yaml", *(ROOT / "tests/infrastructure/plan").glob("*.yaml")]:
        VALIDATOR.validate(yaml(file.read_text()))


def test_every_section_and_every_key_is_described() -> None:
    sections = [SCHEMA, *(part for part in SCHEMA["$defs"].values() if part.get("type") == "object")]
    assert len(sections) > 15
    for section in sections:
        assert section["additionalProperties"] is False, section
        for part in (section, *section["properties"].values()):
            assert part.get("description", "").endswith("."), part


def test_it_allows_what_is_left_out_and_variables() -> None:
    variables: Changes = {"databases.0.port": "${PORT:-3306}", "credentials.0.interval": "${INTERVAL}"}
    VALIDATOR.validate(edited(BOTH, {**variables, "databases.0.ca_file": None, "runners.aws": {}}))


@inputs(100)
@given(mutated(BOTH))
def test_a_schema_refuses_no_plan_that_is_valid(document: Any) -> None:  # noqa: ANN401 - a document
    text = json.dumps(document)
    try:
        parse_plan(text, base=Path(), environ={})
    except PlanProblemsError:
        return
    # Numbers may be given as texts: a variable is one, where the file quotes it.
    mistakes = [e for e in VALIDATOR.iter_errors(yaml(text)) if "integer" not in str(e.schema)]
    assert not mistakes, mistakes
