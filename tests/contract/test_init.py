"""`lockstep init`: the plan that it writes, and what it takes from identities."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from lockstep.cli.app import app
from lockstep.plan.file import SCHEMA_NAME, load_plan, plan_schema
from lockstep.protocol.model import Strategy
from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.estate import environment

AUDIT = ["--region", "eu-central-1", "--bucket", "acme-audit", "--new"]
AWS = ["-d", "mysql://orders.internal:3307/orders", *AUDIT]
OCI = ["--compartment", "ocid1.compartment.oc1..acme", "--oci-region", "eu-frankfurt-1"]
LEDGER = ["-d", "postgresql://ledger.internal/ledger"]
NOWHERE = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
CLOUD_VARIABLES = ("AWS_", "OCI_", "LOCKSTEP_")


def init(folder: Path, *words: str, given: str = "", variables: Mapping[str, str] = NOWHERE) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(CLOUD_VARIABLES)]:
            patch.delenv(name)
        with environment(variables):
            return CliRunner().invoke(app, ["init", "-p", str(folder / "lockstep.yaml"), *words], input=given)


def check(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["check", "-p", str(folder / "lockstep.yaml"), *words])


@pytest.mark.parametrize(
    ("words", "strategy", "usernames"),
    [
        (["--in-use"], Strategy.DUAL_PASSWORD, ["app_user"]),
        ([*LEDGER, "--username", "books"], Strategy.ALTERNATING_USERS, ["books_a", "books_b"]),
        ([*LEDGER, "--username", "books", "--in-use"], Strategy.ALTERNATING_USERS, ["books", "books_b"]),
        (["-d", "mariadb://a.internal/orders", "-d", "mysql://b.internal/no"], Strategy.DUAL_PASSWORD, None),
    ],
)
def test_a_script_gets_a_plan_that_the_check_accepts(
    tmp_path: Path, words: list[str], strategy: Strategy, usernames: list[str] | None
) -> None:
    made = init(tmp_path, *AWS, *words)
    assert made.exit_code == 0, made.output
    assert check(tmp_path).exit_code == 0, check(tmp_path).output
    plan = load_plan(tmp_path / "lockstep.yaml")
    assert (plan.credentials[0].strategy, plan.databases[0].port) == (strategy, 3307)
    assert list(plan.credentials[0].usernames) == (usernames or ["app_user"])
    assert len(plan.credentials[0].databases) == 1 + words.count("-d")
    assert "lockstep check" in made.output
    assert ("lockstep import" in made.output) is ("--in-use" in words)
    # Its schema is beside it, named in its first line, and it is valid by that.
    text = (tmp_path / "lockstep.yaml").read_text()
    assert text.startswith(f"# yaml-language-server: $schema={SCHEMA_NAME}\n")
    schema = json.loads((tmp_path / SCHEMA_NAME).read_text())
    assert schema == plan_schema()
    jsonschema.Draft202012Validator(schema).validate(YAML(typ="safe", pure=True).load(text))


def test_whether_the_login_is_in_use_is_asked_where_no_option_says_it(tmp_path: Path) -> None:
    assert "lockstep import" in init(tmp_path, *AWS[:-1], given="y\n").output


def test_every_key_that_is_a_comment_may_be_added(tmp_path: Path) -> None:
    init(tmp_path, *LEDGER, *AUDIT)
    file = tmp_path / "lockstep.yaml"
    keys = "ca_file|order_key|verify_hosts|secret|alternates|overlap|events|  aws"
    text = re.sub(rf"# ({keys}):", r"\1:", file.read_text())
    file.write_text(text.replace("[NAME, NAME]", "[one, two]").replace("secret: NAME", "secret: crm/login"))
    (tmp_path / "ca.pem").touch()
    assert check(tmp_path).exit_code == 0, check(tmp_path).output
    (credential,) = load_plan(file).credentials
    assert (credential.usernames, credential.secret_names.app_user) == (("one", "two"), "crm/login")


STEPS = [
    "lockstep check",
    "make deploy-oci",
    "lockstep identity publish",
    "make deploy-aws",
    "lockstep import",
]
"""In the order in which they can be done."""


def test_with_oci_the_plan_has_sessions_and_the_check_names_what_nobody_knows_yet(tmp_path: Path) -> None:
    tmp_path = tmp_path / "a folder"
    tmp_path.mkdir()
    made = init(tmp_path, *AWS, *OCI, "--in-use")
    assert made.exit_code == 0
    assert sorted(STEPS, key=made.output.index) == STEPS
    assert made.output.count(f"PLAN='{tmp_path}/lockstep.yaml'") == 2
    plan = load_plan(tmp_path / "lockstep.yaml")
    assert [*plan.runners.secrets] == ["aws.federation.client_secret"]
    assert plan.runners.oci
    assert plan.runners.oci.federation
    place = "https://objectstorage.eu-frankfurt-1.oraclecloud.com/n/examplenamespace/b/lockstep-issuer/o"
    assert plan.runners.oci.federation.issuer == place
    told = check(tmp_path)
    assert told.exit_code == 2
    for key in ("aws.federation.domain_url", "audit.oci.namespace", "oci.federation.role_arn"):
        assert f"{key}: " in told.stderr
    own = (tmp_path / "lockstep.yaml").read_text().replace("idcs-example", "idcs-1")
    own = own.replace("examplenamespace", "acme").replace("111122223333", "222233334444")
    (tmp_path / "lockstep.yaml").write_text(own)
    told = check(tmp_path)
    assert told.exit_code == 0
    for key in ("stores[1].vault_id", "runners.oci.federation.key.endpoint"):
        [line] = [line for line in told.stdout.splitlines() if f" {key}: " in line]
        assert "is a placeholder; replace it with the value that `make deploy-oci` prints" in line


def test_a_file_is_never_replaced_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "lockstep.yaml").write_text("mine")
    refused = init(tmp_path, *AWS)
    assert (refused.exit_code, (tmp_path / "lockstep.yaml").read_text()) == (2, "mine")
    assert "--force" in refused.stderr
    assert not (tmp_path / SCHEMA_NAME).exists()
    (tmp_path / SCHEMA_NAME).write_text("{}")  # that of another version
    assert init(tmp_path, *AWS, "--force").exit_code == 0
    assert json.loads((tmp_path / SCHEMA_NAME).read_text()) == plan_schema()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (AUDIT, "Missing option '--database'"),
        (AWS[:-1], "Give --in-use, or --new"),
        ([*AWS[:2], *AUDIT[2:]], "your AWS profile names no region: give --region"),
        ([*AWS, "--compartment", "acme", *OCI[2:]], "stores[1].compartment_id: must be an OCID"),
        ([*AWS, "-d", "postgres://h/d"], "did you mean postgresql?"),
        ([*AWS, "-d", "mysql://app:hunter2@h/d"], "a plan has no passwords"),
        ([*AWS, "--username", 'x"\n  y: z'], "credentials[0].username: must be letters"),
        ([*AWS, "--username", "lockstep_rotator"], "credentials[0].username: lockstep_rotator is an account"),
    ],
)
def test_what_makes_no_plan_is_told_and_not_written(tmp_path: Path, words: list[str], told: str) -> None:
    refused = init(tmp_path, *words)
    assert refused.exit_code == 2
    assert told in refused.stderr
    assert "hunter2" not in refused.output
    assert list(tmp_path.iterdir()) == []


def test_databases_have_names_and_admins_of_their_own_and_one_of_rds_needs_its_cas(tmp_path: Path) -> None:
    urls = ("mysql://a.internal/orders", "postgresql://Db.abc.eu-central-1.rds.amazonaws.com/My_App1")
    made = init(tmp_path, *AWS, *(word for url in urls for word in ("-d", url)))
    assert made.exit_code == 0, made.output
    assert "global-bundle.pem" in made.output
    missing = check(tmp_path)
    assert (missing.exit_code, "rds.pem is not a file" in missing.stderr) == (2, True)
    (tmp_path / "rds.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    assert check(tmp_path).exit_code == 0
    sections = load_plan(tmp_path / "lockstep.yaml").database_sections
    assert [(s.name, s.host, s.port, s.dbname) for s in sections] == [
        ("orders", "orders.internal", 3307, "orders"),
        ("orders-2", "a.internal", 3306, "orders"),
        ("my-app", "db.abc.eu-central-1.rds.amazonaws.com", 5432, "My_App1"),
    ]
    assert [s.admin_secret for s in sections] == [f"lockstep/admin/{s.name}" for s in sections]


def test_what_the_identities_know_is_not_given(tmp_path: Path) -> None:
    with AwsSandbox() as aws, OciSandbox() as tenancy:
        variables = {
            **aws.environment(),
            CONFIG_FILE_VARIABLE: str(write_config_file(tmp_path, "operator", tenancy.config())),
            OCI_ENDPOINT_VARIABLE: tenancy.endpoint,
        }
        words = [*LEDGER, *AUDIT[2:], "--compartment", tenancy.compartment_id]
        made = init(tmp_path, *words, variables=variables)
    assert made.exit_code == 0, made.output
    document = YAML(typ="safe", pure=True).load((tmp_path / "lockstep.yaml").read_text())
    assert document["stores"][1]["region"] == tenancy.config()["region"]
    audit, region = document["audit"]["oci"], document["lock"]["region"]
    assert (audit["namespace"], region) == (tenancy.namespace, aws.region)
    role = document["runners"]["oci"]["federation"]["role_arn"]
    assert role == f"arn:aws:iam::{aws.account_id}:role/lockstep-oci-runner"
