"""An account, and what is in it before a stack is deployed: what `cdk.existing` is asked about in tests."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from cdk import plan_policy
from cdk.account import Account
from cdk.account_buckets import audit_policy
from cdk.deployment import Deployment, read_deployment
from cdk.existing import Estate, look
from cdk.settings import Settings
from cdk.sizes import synthesise
from cdk.template import Template
from sandbox.aws import AwsSandbox
from tests.infrastructure.cdk_case import PLAN

BUCKET = "example-lockstep-audit"
PLAN_BUCKET = "example-lockstep-audit-plans"
OWN = [{"Key": "lockstep:stack", "Value": "lockstep"}]


@cache
def template() -> Template:
    plain = deployment()
    with TemporaryDirectory() as folder:
        return synthesise(plain.plan, plain.settings, Path(folder))


def deployment(**settings: object) -> Deployment:
    return read_deployment(Settings.model_validate({"plan": PLAN, **settings}))


def looked_at(aws: AwsSandbox, **settings: object) -> Estate:
    return look(deployment(**settings), template(), Account(aws.client, aws.region))


def make_table(aws: AwsSandbox, *, tags: list[dict[str, str]] = OWN, key: str = "credential_id") -> None:
    aws.client("dynamodb").create_table(
        TableName="lockstep",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
        KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        Tags=tags,
    )


def make_secret(aws: AwsSandbox, name: str, **more: str) -> None:
    aws.client("secretsmanager").create_secret(Name=name, SecretString="{}", **more)


def make_key(aws: AwsSandbox, alias: str | None, *, tags: list[dict[str, str]] = OWN, **more: str) -> str:
    kms = aws.client("kms")
    kms_tags = [{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in tags]
    # moto knows no default of it.
    more.setdefault("KeyUsage", "ENCRYPT_DECRYPT")
    key = kms.create_key(Tags=kms_tags, **more)["KeyMetadata"]
    if alias:
        kms.create_alias(AliasName=alias, TargetKeyId=key["KeyId"])
    arn: str = key["Arn"]
    return arn


def make_bucket(aws: AwsSandbox, *, tags: list[dict[str, str]] = OWN, days: int = 400) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(
        Bucket=BUCKET,
        ObjectLockEnabledForBucket=True,
        CreateBucketConfiguration={"LocationConstraint": aws.region},
    )
    s3.put_object_lock_configuration(
        Bucket=BUCKET,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": days}},
        },
    )
    plain = deployment()
    wanted = audit_policy(Account(aws.client, aws.region), plain.plan.audit.aws, plain.settings)
    policy = {"Version": "2012-10-17", "Statement": wanted.statements()}
    s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))
    if tags:
        s3.put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": tags})


def make_plan_bucket(aws: AwsSandbox, *, tags: list[dict[str, str]] = OWN) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=PLAN_BUCKET, CreateBucketConfiguration={"LocationConstraint": aws.region})
    s3.put_bucket_versioning(Bucket=PLAN_BUCKET, VersioningConfiguration={"Status": "Enabled"})
    wanted = plan_policy.statement(f"arn:aws:s3:::{PLAN_BUCKET}")
    policy = {"Version": "2012-10-17", "Statement": [wanted]}
    s3.put_bucket_policy(Bucket=PLAN_BUCKET, Policy=json.dumps(policy))
    if tags:
        s3.put_bucket_tagging(Bucket=PLAN_BUCKET, Tagging={"TagSet": tags})


def make_everything(aws: AwsSandbox, tags: list[dict[str, str]]) -> Mapping[str, str]:
    """Everything that outlives a stack; the ARNs of its keys."""
    keys = {"encryption": make_key(aws, "alias/lockstep", tags=tags)}
    for kind in ("audit", "orders"):
        alias = f"alias/lockstep-{kind}"
        keys[kind] = make_key(aws, alias, tags=tags, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    make_key(aws, "alias/lockstep-digests", tags=tags, KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")
    make_table(aws, tags=tags)
    make_bucket(aws, tags=tags)
    make_plan_bucket(aws, tags=tags)
    for resource in template().of_type("AWS::Logs::LogGroup").values():
        aws.client("logs").create_log_group(
            logGroupName=resource["Properties"]["LogGroupName"],
            tags={tag["Key"]: tag["Value"] for tag in tags},
        )
    return keys


def policy_for_services(aws: AwsSandbox) -> Mapping[str, Any]:
    services = [f"logs.{aws.region}.amazonaws.com", "cloudwatch.amazonaws.com"]
    allow = {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {**allow, "Principal": {"AWS": f"arn:aws:iam::{aws.account_id}:root"}},
            {**allow, "Principal": {"Service": services}},
        ],
    }


@contextmanager
def refusing(*operations: str, code: str = "AccessDeniedException") -> Iterator[None]:
    """Let the account refuse some calls, by their names in the API."""
    answer: Callable[..., object] = getattr(BaseClient, "_make_api_call")  # noqa: B009 - botocore has no name for it

    def refused(client: BaseClient, name: str, parameters: Mapping[str, Any]) -> object:
        if name in operations:
            raise ClientError({"Error": {"Code": code, "Message": "not permitted"}}, name)
        return answer(client, name, parameters)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", refused)
        yield
