"""What the forms of the rotation user need of IAM: the statements alone, without a synthesis."""

import json
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Stack

from cdk.permissions import Grants, NamedKey
from lockstep.plan.file import parse_plan
from lockstep.protocol.model import Engine
from sandbox import plans
from tests.infrastructure.cdk_case import synthesised

ARN = "arn:aws:secretsmanager:eu-west-1:210987654321:secret:dba/rotator-AbC123"


def _databases(count: int, **admin: object) -> list[dict[str, Any]]:
    return [
        {
            **plans.database(f"db-{n}", Engine.MYSQL, host=f"db{n}.abc123.eu-west-1.rds.amazonaws.com"),
            "ca_file": "rds.pem",
            "plaintext": None,
            "admin_secret": None,
            **admin,
        }
        for n in range(count)
    ]


def _statements(databases: list[dict[str, Any]], who: str) -> dict[str, Any]:
    credential = plans.credential("multi-cloud/app_user", *(d["name"] for d in databases))
    document = plans.plan_document(databases, [credential], oci=plans.OciNames())
    plan = parse_plan(json.dumps(document), base=Path())
    grants = Grants(
        plan=plan,
        stack="lockstep",
        table_arn="arn:table",
        plan_bucket_arn="arn:aws:s3:::audit-plans",
        bucket_arn="arn:bucket",
        key_arns=["arn:key"],
        mac_key=NamedKey(arn="arn:mac"),
        order_key=NamedKey(arn="arn:orders"),
        digest_key=NamedKey(arn="arn:digests"),
    )
    stack = Stack(App(), "lockstep")
    statements = {s["Sid"]: s for s in (s.to_statement_json() for s in getattr(grants, who)())}
    return dict(stack.resolve(statements))


@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("who", ["apply_db", "oci_runner"])
def test_both_runners_may_log_in_as_the_admin_of_any_number_of_databases(who: str, count: int) -> None:
    statement = _statements(_databases(count, admin_iam="dba"), who)["DatabaseLogin"]
    assert statement["Action"] == "rds-db:connect"
    partition, account = {"Ref": "AWS::Partition"}, {"Ref": "AWS::AccountId"}
    parts = ["arn:", partition, ":rds-db:eu-west-1:", account, ":dbuser:*/dba"]
    assert statement["Resource"] == {"Fn::Join": ["", parts]}


@pytest.mark.parametrize("who", ["generate", "update_secrets", "audit"])
def test_no_other_function_may(who: str) -> None:
    assert "DatabaseLogin" not in _statements(_databases(1, admin_iam="dba"), who)


def test_a_secret_that_is_given_by_its_arn_is_named_by_it() -> None:
    databases = _databases(2, admin_secret=ARN, oci_admin_secret="dba")
    assert _statements(databases, "apply_db")["ReadAdmins"]["Resource"] == ARN
    assert ARN not in json.dumps(_statements(databases, "oci_runner"))


def test_a_stack_without_any_admin_secret_passes_its_own_checks() -> None:
    stack = synthesised(plan=Path("tests/infrastructure/plan/iam.yaml"))
    who = {title for title, statement in stack.policies() if statement.get("Sid") == "DatabaseLogin"}
    assert who == {"apply_db", "OCI runner"}
