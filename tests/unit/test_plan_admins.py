"""How the rotation user of a database logs in: what a plan may say, and what it is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from lockstep.plan.admins import partition_of
from lockstep.plan.credentials import PLAINTEXT_CONSENT
from lockstep.plan.file import PlanProblemsError, parse_plan
from lockstep.plan.model import Plan
from lockstep.protocol.model import AdminCredential, AdminIam, AdminSecret, Engine
from sandbox import plans

ARN = "arn:aws:secretsmanager:eu-west-1:210987654321:secret:dba/rotator-AbC123"
MANAGED = "rds!cluster-11a9f0c2-8d7b-4a55-9d3e-5f0f6b1c2d3e"
RDS_HOST = "orders.abc123.eu-west-1.rds.amazonaws.com"


def _document(*, oci: bool = False, **database: object) -> dict[str, Any]:
    return plans.plan_document(
        [{**plans.database("orders", Engine.MYSQL), **database}],
        [plans.credential("multi-cloud/app_user", "orders")],
        oci=plans.OciNames() if oci else None,
    )


def _parse(document: object) -> Plan:
    return parse_plan(json.dumps(document), base=Path("/etc/lockstep"))


def _problems(document: object) -> str:
    with pytest.raises(PlanProblemsError) as caught:
        _parse(document)
    return "\n".join(caught.value.lines)


@pytest.mark.parametrize(
    "secret",
    [
        "admin",
        "estate/admin+1@db=x",
        ARN,
        ARN.replace("dba/rotator", MANAGED),
        MANAGED,
        "rds!db-1",
        ARN.replace("dba/rotator", "x" * 512),
    ],
)
def test_a_secret_is_a_name_an_arn_or_rds_s_own(secret: str) -> None:
    [database] = _parse(_document(admin_secret=secret)).databases
    assert database.admin == AdminSecret(aws=secret, oci=secret)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "rds!",
        "my!secret",
        "arn:aws:secretsmanager:eu-west-1:210987654321:secret:dba/rotator",
        "arn:aws:secretsmanager:eu-west-1:210987654321:secret:dba-AbC123:password::",
        "arn:aws:ssm:eu-west-1:210987654321:parameter/dba-AbC123",
        ARN + "\n",
    ],
)
def test_anything_else_is_a_mistake(secret: str) -> None:
    assert "databases[0].admin_secret: " in _problems(_document(admin_secret=secret))


@pytest.mark.parametrize("secret", [ARN, MANAGED, ARN.replace("dba/rotator", MANAGED)])
def test_the_oci_runner_needs_a_name_of_its_own_where_vault_cannot_have_the_one_in_aws(secret: str) -> None:
    problems = _problems(_document(oci=True, admin_secret=secret))
    assert "databases[0].oci_admin_secret: needed" in problems
    assert "Vault does not accept" not in problems
    [database] = _parse(_document(oci=True, admin_secret=secret, oci_admin_secret="dba/rotator")).databases
    assert database.admin == AdminSecret(aws=secret, oci="dba/rotator")


def test_only_the_name_in_vault_must_be_one_that_vault_takes() -> None:
    assert _parse(_document(oci=True, admin_secret="a+b", oci_admin_secret="a.b"))
    assert "Vault does not accept the secret name a+b" in _problems(_document(oci=True, admin_secret="a+b"))
    assert "Vault does not accept the secret name c=d" in _problems(
        _document(oci=True, admin_secret="a", oci_admin_secret="c=d")
    )


def test_an_arn_of_a_secret_that_lockstep_rotates_is_no_admin_s() -> None:
    rotated = f"arn:aws:secretsmanager:{plans.AWS_REGION}:210987654321:secret:multi-cloud/app_user-AbC123"
    assert "multi-cloud.app_user appears 2 times" in _problems(_document(admin_secret=rotated))
    assert _parse(_document(admin_secret=rotated.replace(plans.AWS_REGION, "eu-west-1")))


def test_one_login_may_have_a_name_a_dotted_name_and_serve_several_databases() -> None:
    document = _document(oci=True, admin_secret="dba/rotator", oci_admin_secret="dba.rotator")
    document["databases"].append(
        {**plans.database("ledger", Engine.MYSQL), "admin_secret": ARN, "oci_admin_secret": "dba/rotator"}
    )
    assert _parse(document)


@pytest.mark.parametrize(
    ("arn", "problem"),
    [
        (ARN.replace("arn:aws:", "arn:aws-cn:"), "eu-west-1 is a region of aws, not of aws-cn"),
        (ARN.replace("eu-west-1", "cn-north-1"), "cn-north-1 is a region of aws-cn, not of aws"),
        (
            ARN.replace("arn:aws:", "arn:aws-us-gov:").replace("eu-west-1", "us-gov-west-1"),
            "an identity of aws, where the lock table is, has no access to aws-us-gov",
        ),
    ],
)
def test_no_identity_reaches_another_partition(arn: str, problem: str) -> None:
    assert problem in _problems(_document(admin_secret=arn))


def test_a_plan_may_be_of_another_partition() -> None:
    document = _document(
        admin_secret=ARN.replace("arn:aws:", "arn:aws-cn:").replace("eu-west-1", "cn-north-1")
    )
    text = json.dumps(document).replace(plans.AWS_REGION, "cn-northwest-1")
    assert _parse(json.loads(text))


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("eu-central-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-east-1", "aws-us-gov"),
        ("us-iso-east-1", "aws-iso"),
        ("eu-isoe-west-1", "aws-iso-e"),
        ("eusc-de-east-1", "aws-eusc"),
    ],
)
def test_partitions(region: str, partition: str) -> None:
    assert partition_of(region) == partition


def test_rds_keeps_its_secret_beside_the_database() -> None:
    where: dict[str, Any] = {"host": RDS_HOST, "ca_file": "rds.pem", "plaintext": None}
    assert "RDS keeps the secret of orders" in _problems(_document(admin_secret=MANAGED, **where))
    assert _parse(_document(admin_secret=ARN.replace("dba/rotator", MANAGED), **where))
    assert _parse(_document(admin_secret="dba/rotator", **where))


# ---- RDS IAM authentication

IN_RDS: dict[str, Any] = {
    "host": RDS_HOST,
    "ca_file": "rds.pem",
    "plaintext": None,
    "admin_secret": None,
}


@pytest.mark.parametrize("oci", [True, False])
def test_the_admin_may_log_in_as_the_aws_identity_of_each_runner(oci: bool) -> None:  # noqa: FBT001
    plan = _parse(_document(oci=oci, **IN_RDS, admin_iam="lockstep_rotator"))
    assert plan.databases[0].admin == AdminIam(username="lockstep_rotator", region="eu-west-1")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"admin_secret": "a"}, "databases[0]: give exactly one of `admin_secret`"),
        ({"admin_iam": None}, "databases[0]: give exactly one of `admin_secret`"),
        ({"oci_admin_secret": "a"}, "databases[0].oci_admin_secret: allowed only with `admin_secret`"),
        (
            {"ca_file": None, "plaintext": PLAINTEXT_CONSENT},
            "databases[0].admin_iam: needs TLS, since whoever reads its token",
        ),
        ({"host": "orders.example.com"}, "databases[0].admin_iam: RDS takes tokens only for its own name"),
        ({"admin_iam": "x" * 32}, "databases[0].admin_iam"),
        ({"admin_iam": "a'b"}, "databases[0].admin_iam"),
        (
            {"host": "x.abc123.rds.cn-north-1.amazonaws.com.cn"},
            "databases[0].admin_iam: an identity of aws, where the lock table is, has no access to aws-cn",
        ),
        ({"admin_iam": "app"}, "credentials[0].username: app is an account of Lockstep"),
    ],
)
def test_what_cannot_work_with_tokens(changes: dict[str, Any], problem: str) -> None:
    assert problem in _problems(_document(**{**IN_RDS, "admin_iam": "lockstep_rotator", **changes}))


def test_the_name_lockstep_rotator_is_no_application_s_even_if_the_admin_has_another() -> None:
    document = _document(**IN_RDS, admin_iam="dba")
    document["credentials"][0]["username"] = "lockstep_rotator"
    assert "lockstep_rotator is an account of Lockstep" in _problems(document)


# ---- a credential of the plan

ITSELF: dict[str, Any] = {"admin_secret": None, "admin_credential": "lockstep/rotator"}


def _rotated(*databases: str, **rotation_user: object) -> dict[str, Any]:
    """A plan with an application on `orders`, whose rotation user is a credential on these databases."""
    document = _document(**ITSELF)
    document["databases"].append(plans.database("ledger", Engine.MYSQL))
    document["databases"].append(
        {**plans.database("archive", Engine.MYSQL, host="ORDERS.example.com."), **ITSELF}
    )
    document["credentials"].append(
        {**plans.credential("lockstep/rotator", *databases, username="lockstep_rotator"), **rotation_user}
    )
    return document


def test_the_admin_may_be_a_credential_that_is_rotated_there() -> None:
    document = _rotated("orders")
    # On another name of the same server its login works too.
    assert _parse(document).databases[0].admin == AdminCredential(credential="lockstep/rotator")
    assert _parse(document).databases[2].admin == AdminCredential(credential="lockstep/rotator")


def test_a_rotation_user_of_one_server_may_be_an_application_s_login_on_another() -> None:
    assert _parse(_rotated("orders", "ledger", username="rotator"))
    assert "lockstep_rotator is an account of Lockstep" in _problems(_rotated("orders", "ledger"))


def test_two_admins_may_change_each_other() -> None:
    document = _rotated("orders", "ledger", username="rotator")
    document["databases"][1].update(admin_secret=None, admin_credential="lockstep/other")
    document["databases"][0].update(admin_credential="lockstep/other")
    document["databases"][1].update(admin_credential="lockstep/rotator")
    document["databases"][2].update(admin_credential="lockstep/other")
    other = plans.credential("lockstep/other", "orders", "ledger", username="other")
    document["credentials"].append(other)
    assert _parse(document)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (_document(**ITSELF), "databases[0].admin_credential: the plan has no credential lockstep/rotator"),
        (
            _rotated("ledger", username="rotator"),
            "databases[0].admin_credential: lockstep/rotator is not rotated on orders, so its login would not work",
        ),
        (_document(admin_credential="multi-cloud/app_user"), "databases[0]: give exactly one of"),
        (
            _document(**ITSELF, oci_admin_secret="a"),
            "databases[0].oci_admin_secret: allowed only with `admin_secret`",
        ),
        (_rotated("orders", username="app"), "account app at orders.example.com:3306 is used more than once"),
        (_rotated("orders", username="root"), "root is an account of Lockstep or of the server itself"),
    ],
)
def test_what_cannot_work_with_a_credential(document: dict[str, Any], problem: str) -> None:
    assert problem in _problems(document)


def test_an_admin_secret_s_account_is_no_credential_s() -> None:
    document = _rotated("orders")
    document["databases"][0].update(admin_secret="a", admin_credential=None)
    document["databases"].pop()
    assert "lockstep_rotator is an account of Lockstep" in _problems(document)
