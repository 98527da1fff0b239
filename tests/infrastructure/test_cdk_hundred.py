"""A hundred credentials with an OCI runner, deployed by the real CDK CLI onto an account that knows the quotas."""

import json
from collections.abc import Iterator

import pytest

from cdk.bundle import build
from cdk.sizes import characters
from lockstep.model import Engine
from lockstep.quotas import RUNNER_POLICY
from lockstep.tags import SECRET_TAG, STACK_TAG
from sandbox import plans
from sandbox.aws import AwsSandbox
from sandbox.cdk_cli import CdkCli

CREDENTIALS = 100
IDS = [f"multi-cloud/app_{i:03}" for i in range(CREDENTIALS)]


@pytest.fixture(scope="module", name="aws")
def _aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsSandbox]:
    folder = tmp_path_factory.mktemp("hundred")
    with AwsSandbox() as aws:
        plan = plans.write_plan(
            folder / "lockstep.yaml",
            plans.plan_document(
                [plans.database("orders", Engine.MYSQL, host="orders.internal", tls={})],
                [
                    plans.credential(id_, "orders", username=f"app_{i:03}", secrets=plans.own_secrets(id_))
                    for i, id_ in enumerate(IDS)
                ],
                region=aws.region,
                mac_key="alias/lockstep-audit",
                oci=plans.OciNames(),
            ),
        )
        build("aws", plan_file=plan, out=folder / "bundle")
        cli = CdkCli(aws, folder / "cdk.out")
        cli.bootstrap()
        cli.deploy({"plan": str(plan), "packaging": "zip", "bundle": str(folder / "bundle")})
        yield aws


def test_every_secret_is_made_with_its_tags(aws: AwsSandbox) -> None:
    pages = aws.client("secretsmanager").get_paginator("list_secrets").paginate()
    kinds = {
        s["Name"]: {t["Key"]: t["Value"] for t in s["Tags"]}[SECRET_TAG]
        for page in pages
        for s in page["SecretList"]
        if {"Key": STACK_TAG, "Value": "lockstep"} in s["Tags"]
    }
    wanted = {name: kind for id_ in IDS for kind, name in plans.own_secrets(id_).items()}
    assert kinds == wanted


def test_one_rule_starts_them_all(aws: AwsSandbox) -> None:
    pages = aws.client("events").get_paginator("list_rules").paginate()
    rules = {rule["Name"] for page in pages for rule in page["Rules"]}
    assert rules == {"lockstep-20m-00", "lockstep.watch"}


def test_the_policy_of_the_standby_fits(aws: AwsSandbox) -> None:
    iam = aws.client("iam")
    (policy,) = (
        p for p in iam.list_policies(Scope="Local")["Policies"] if p["PolicyName"] == "lockstep-oci-runner"
    )
    document = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])[
        "PolicyVersion"
    ]["Document"]
    statements = (json.loads(document) if isinstance(document, str) else document)["Statement"]
    assert characters(statements) < RUNNER_POLICY
