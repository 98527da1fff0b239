"""`lockstep init`: the plan that it writes, what it offers of both clouds, and what it asks where it may not list."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import jsonschema
import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
from pydantic import TypeAdapter
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from lockstep.cli.app import app
from lockstep.cli.init import DatabaseAnswer, database_of, username_of
from lockstep.plan.fields import Username
from lockstep.plan.file import SCHEMA_NAME, load_plan, plan_schema
from lockstep.plan.stores import OciVault
from lockstep.protocol.model import Engine, Strategy
from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE
from sandbox.aws import AwsSandbox
from sandbox.estate import environment
from sandbox.oci import OciSandbox, write_config_file

AWS = [
    "--yes",
    "-d",
    "mysql://orders.internal:3307/orders",
    "--region",
    "eu-central-1",
    "--bucket",
    "acme-audit",
]
OCI = [
    "--oci-region",
    "eu-frankfurt-1",
    "--compartment",
    "ocid1.compartment.oc1..acme",
    "--namespace",
    "acme",
]
SESSIONS = [*OCI, "--account", "123456789012", "--domain-url", "https://idcs-1.identity.oraclecloud.com"]
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


# ---- With arguments


@pytest.mark.parametrize(
    ("words", "flags", "strategy"),
    [
        ([], [], Strategy.DUAL_PASSWORD),
        (["-d", "postgresql://ledger.internal/ledger"], [], Strategy.ALTERNATING_USERS),
        ([*OCI, "--keys"], [], Strategy.DUAL_PASSWORD),
        ([*OCI, "--keys", "--vault", "ocid1.vault.oc1..acme"], [], Strategy.DUAL_PASSWORD),
        (SESSIONS, [], Strategy.DUAL_PASSWORD),
        (["-d", "mariadb://a.internal/orders", "-d", "mysql://b.internal/no"], [], Strategy.DUAL_PASSWORD),
    ],
)
def test_a_script_gets_a_plan_that_the_check_accepts(
    tmp_path: Path, words: list[str], flags: list[str], strategy: Strategy
) -> None:
    made = init(tmp_path, *AWS, *words)
    assert made.exit_code == 0, made.output
    assert check(tmp_path, *flags).exit_code == 0, check(tmp_path, *flags).output
    plan = load_plan(tmp_path / "lockstep.yaml")
    assert (plan.credentials[0].strategy, plan.databases[0].port) == (strategy, 3307)
    assert len(plan.credentials[0].databases) == 1 + words.count("-d")
    assert "lockstep check" in made.output
    # Its schema is beside it, named in its first line, and it is valid by that.
    text = (tmp_path / "lockstep.yaml").read_text()
    assert text.startswith(f"# yaml-language-server: $schema={SCHEMA_NAME}\n")
    schema = json.loads((tmp_path / SCHEMA_NAME).read_text())
    assert schema == plan_schema()
    jsonschema.Draft202012Validator(schema).validate(YAML(typ="safe", pure=True).load(text))


def test_with_oci_the_plan_has_sessions_and_the_check_names_what_only_the_deployment_knows(
    tmp_path: Path,
) -> None:
    made = init(tmp_path, *AWS, *SESSIONS)
    assert made.exit_code == 0, made.output
    assert "lockstep identity publish" in made.output
    plan = load_plan(tmp_path / "lockstep.yaml")
    assert list(plan.runners.keys) == []
    assert plan.runners.oci
    to_oci, to_aws = plan.runners.aws.federation, plan.runners.oci.federation
    assert to_oci
    assert to_aws
    assert to_oci.domain_url == "https://idcs-1.identity.oraclecloud.com"
    assert to_aws.issuer == "https://objectstorage.eu-frankfurt-1.oraclecloud.com/n/acme/b/lockstep-issuer/o"
    assert to_aws.role_arn == "arn:aws:iam::123456789012:role/lockstep-oci-runner"
    told = check(tmp_path).stdout
    for key in (
        "runners.oci.federation.key.id",
        "runners.oci.federation.key.version",
        "runners.oci.federation.key.endpoint",
    ):
        [line] = [line for line in told.splitlines() if f" {key}: " in line]
        assert "is an example; give your own, which `make deploy-oci` prints" in line
    assert "domain_url" not in told


def test_the_steps_after_it_are_in_the_order_in_which_they_can_be_done(tmp_path: Path) -> None:
    steps = [
        "lockstep check",
        "make deploy-oci",
        "runners_oci_federation",
        "lockstep identity publish",
        "aws iam enable-outbound-web-identity-federation",
        "make deploy-aws",
        "oci_fn/terraform/README.md#sessions-instead-of-keys",
    ]
    told = init(tmp_path, *AWS, *SESSIONS).output
    assert sorted(steps, key=told.index) == steps
    with_keys = init(tmp_path, *AWS, *OCI, "--keys", "--force").output
    assert (
        with_keys.index("make deploy-oci")
        < with_keys.index("its outputs")
        < with_keys.index("make deploy-aws")
    )
    assert "outputs" not in init(tmp_path, *AWS, "--force").output


def test_a_database_of_rds_needs_its_cas(tmp_path: Path) -> None:
    host = "orders.abc.eu-central-1.rds.amazonaws.com"
    made = init(tmp_path, *AWS, "-d", f"postgresql://{host}/ledger")
    assert "global-bundle.pem" in made.output
    assert check(tmp_path).exit_code == 2
    (tmp_path / "rds.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    assert check(tmp_path).exit_code == 0


def test_a_file_is_never_replaced_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "lockstep.yaml").write_text("mine")
    refused = init(tmp_path, *AWS)
    assert (refused.exit_code, (tmp_path / "lockstep.yaml").read_text()) == (2, "mine")
    assert "--force" in refused.stderr
    assert not (tmp_path / SCHEMA_NAME).exists()
    assert init(tmp_path, *AWS, "--force").exit_code == 0
    (tmp_path / "lockstep.yaml").unlink()
    assert init(tmp_path, *AWS).exit_code == 0
    (tmp_path / "lockstep.yaml").unlink()
    (tmp_path / SCHEMA_NAME).write_text("{}")
    assert init(tmp_path, *AWS).exit_code == 2
    assert (tmp_path / SCHEMA_NAME).read_text() == "{}"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--yes"], "also give --database, --region, --bucket"),
        (
            [*AWS, "--oci-region", "eu-frankfurt-1"],
            "also give --compartment, --namespace, --account, --domain-url; or --keys instead of the last",
        ),
        ([*AWS, *SESSIONS, "--account", "12"], "runners.oci.federation.role_arn: must be the ARN of a role"),
        ([*AWS, "-d", "postgres://h/d"], "did you mean postgresql?"),
        ([*AWS, "-d", "mysql://app:hunter2@h/d"], "a plan has no passwords"),
        ([*AWS, "-d", "mysql://h"], "write ENGINE://HOST:PORT/DBNAME"),
        ([*AWS, "--bucket", "Not A Bucket"], "audit.aws.bucket: must be 3 to 63 lower-case letters"),
        ([*AWS, "--mac-key", 'x"\n  y: z'], "audit.aws.mac_key: must be the id"),
    ],
)
def test_what_makes_no_plan_is_told_and_nothing_is_written(
    tmp_path: Path, words: list[str], told: str
) -> None:
    refused = init(tmp_path, *words)
    assert refused.exit_code == 2
    assert told in refused.stderr
    assert "hunter2" not in refused.output
    assert list(tmp_path.iterdir()) == []


def test_a_database_is_named_by_its_url() -> None:
    assert database_of("postgresql://Db.Internal/My_App1") == DatabaseAnswer(
        name="my-app",
        engine=Engine.POSTGRESQL,
        host="db.internal",
        port=5432,
        dbname="My_App1",
        admin_secret="lockstep/admin/my-app",
    )


def test_databases_of_one_name_get_names_and_admins_of_their_own(tmp_path: Path) -> None:
    urls = ("mysql://a.internal/orders", "mysql://b.internal/ledger")
    made = init(tmp_path, *AWS, *(word for url in urls for word in ("-d", url)))
    assert made.exit_code == 0, made.output
    sections = load_plan(tmp_path / "lockstep.yaml").database_sections
    assert [(s.name, s.host) for s in sections] == [
        ("orders", "orders.internal"),
        ("orders-2", "a.internal"),
        ("ledger", "b.internal"),
    ]
    assert [s.admin_secret for s in sections] == [f"lockstep/admin/{s.name}" for s in sections]


@pytest.mark.parametrize(
    ("credential", "username"),
    [
        ("multi-cloud/app_user", "app_user"),
        ("team/orders-app", "orders_app"),
        ("team/9.lives", "_lives"),
        ("2026", "app_user"),
        ("a" * 40, "a" * 31),
    ],
)
def test_the_username_that_is_offered_is_one(credential: str, username: str) -> None:
    assert username_of(credential) == username
    assert TypeAdapter(Username).validate_python(username) == username


# ---- With questions

# Engine, host, port, database, another, login, username, clouds, region, admin, bucket, key
ALONE = "mysql\norders.internal\n\norders\nn\n\n\naws\neu-central-1\n\nacme-audit\n\n"


def test_without_any_identity_it_asks_for_names(tmp_path: Path) -> None:
    made = init(tmp_path, given=ALONE)
    assert made.exit_code == 0, made.output
    assert made.output.count("cannot be listed") == 1
    assert "AwsCredentialsMissingError" in made.output
    assert check(tmp_path).exit_code == 0
    assert load_plan(tmp_path / "lockstep.yaml").audit.aws.bucket == "acme-audit"


def test_a_wrong_answer_is_asked_again(tmp_path: Path) -> None:
    answers = ALONE.replace(
        "mysql\norders.internal\n\n", "mysq\nmysql\norders.internal:3306\norders.internal\nx\n0\n\n"
    )
    made = init(tmp_path, given=answers)
    assert made.exit_code == 0, made.output
    for told in (
        "must be mysql or mariadb or postgresql; did you mean mysql?",
        "must be a host name or an IPv4 address, without a port",
        "must be a whole number",
        "must be 1 or more",
    ):
        assert told in made.output


def test_who_ends_it_gets_no_file(tmp_path: Path) -> None:
    made = init(tmp_path, given="mysql\norders.internal\n")
    assert made.exit_code == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(name="clouds", scope="module")
def _clouds(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[AwsSandbox, OciSandbox, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("identity")
    with AwsSandbox() as aws, OciSandbox() as tenancy:
        aws.client("secretsmanager").create_secret(Name="dba/orders", SecretString="{}")
        aws.client("s3").create_bucket(
            Bucket="acme-audit", CreateBucketConfiguration={"LocationConstraint": aws.region}
        )
        key = aws.client("kms").create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
        aws.client("kms").create_alias(AliasName="alias/audit", TargetKeyId=key["KeyMetadata"]["KeyId"])
        storage = tenancy.client(oci.object_storage.ObjectStorageClient)
        details = oci.object_storage.models.CreateBucketDetails(
            name="acme-archive", compartment_id=tenancy.compartment_id, storage_tier="Archive"
        )
        storage.create_bucket(tenancy.namespace, details)
        config = write_config_file(folder, "operator", tenancy.config())
        yield (
            aws,
            tenancy,
            {
                **aws.environment(),
                CONFIG_FILE_VARIABLE: str(config),
                OCI_ENDPOINT_VARIABLE: tenancy.endpoint,
            },
        )


def test_what_the_clouds_have_is_offered(
    tmp_path: Path, clouds: tuple[AwsSandbox, OciSandbox, dict[str, str]]
) -> None:
    aws, tenancy, variables = clouds
    (vpc,) = aws.client("ec2").describe_vpcs()["Vpcs"]
    # Clouds, region, then the first choice of each list: admin, bucket, key; OCI; network.
    answers = (
        "postgresql\norders.internal\n\norders\nn\n\n\nboth\n\n1\n1\n1\n"
        f"eu-frankfurt-1\n{tenancy.compartment_id}\n1\n\n1\n"
        "\n12\n123456789012\nhttps://idcs-1.identity.oraclecloud.com\n1\n"
    )
    made = init(tmp_path, given=answers, variables=variables)
    assert made.exit_code == 0, made.output
    assert "cannot be listed" not in made.output
    plan = load_plan(tmp_path / "lockstep.yaml")
    vault = plan.store(OciVault)
    assert vault
    assert plan.audit.oci
    assert vault.vault_id == tenancy.vault_id
    assert (plan.audit.oci.namespace, plan.audit.oci.bucket) == (tenancy.namespace, "acme-archive")
    assert (plan.audit.aws.bucket, plan.audit.aws.mac_key) == ("acme-audit", "alias/audit")
    assert plan.database_sections[0].admin_secret == "dba/orders"
    assert plan.lock.region == aws.region
    assert "must be the 12 digits of an account of AWS" in made.output
    assert plan.runners.aws.federation
    assert f'"id": "{vpc["VpcId"]}"' in made.output
    assert "subnet-" in made.output
    assert check(tmp_path).exit_code == 0
