"""What an account says of the names of a deployment: made, adopted, taken back, or refused with what to change."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from cdk.account import Account
from cdk.account_buckets import new_objects_only
from cdk.estate import Adopt
from cdk.existing import Estate, look
from cdk.settings import Deployment, Settings, read_deployment
from cdk.sizes import synthesise
from cdk.template import Template
from sandbox.aws import AwsSandbox
from tests.infrastructure.cdk_case import PLAN

BUCKET = "example-lockstep-audit"
OWN = [{"Key": "lockstep:stack", "Value": "lockstep"}]
LOG = "/aws/lambda/lockstep-generate"
SECRET = "multi-cloud/app_user"


@pytest.fixture(name="aws")
def _aws() -> Iterator[AwsSandbox]:
    with AwsSandbox() as aws:
        yield aws


@cache
def _template() -> Template:
    deployment = _deployment()
    with TemporaryDirectory() as folder:
        return synthesise(deployment.plan, deployment.settings, Path(folder))


def _deployment(**settings: object) -> Deployment:
    return read_deployment(Settings.model_validate({"plan": PLAN, **settings}))


def _look(aws: AwsSandbox, **settings: object) -> Estate:
    return look(_deployment(**settings), _template(), Account(aws.client, aws.region))


def _make_table(aws: AwsSandbox, *, tags: list[dict[str, str]] = OWN, key: str = "credential_id") -> None:
    aws.client("dynamodb").create_table(
        TableName="lockstep",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
        KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        Tags=tags,
    )


def _make_secret(
    aws: AwsSandbox, name: str = SECRET, *, tags: list[dict[str, str]] = OWN, **more: str
) -> None:
    aws.client("secretsmanager").create_secret(Name=name, SecretString="{}", Tags=tags, **more)


def _make_key(aws: AwsSandbox, alias: str | None, *, tags: list[dict[str, str]] = OWN, **more: str) -> str:
    kms = aws.client("kms")
    kms_tags = [{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in tags]
    # moto knows no default of it.
    more.setdefault("KeyUsage", "ENCRYPT_DECRYPT")
    key = kms.create_key(Tags=kms_tags, **more)["KeyMetadata"]
    if alias:
        kms.create_alias(AliasName=alias, TargetKeyId=key["KeyId"])
    arn: str = key["Arn"]
    return arn


def _make_bucket(aws: AwsSandbox, *, tags: list[dict[str, str]] = OWN, days: int = 400) -> None:
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
    policy = {"Version": "2012-10-17", "Statement": [new_objects_only(BUCKET, "aws")]}
    s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))
    if tags:
        s3.put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": tags})


def _make_everything(aws: AwsSandbox, tags: list[dict[str, str]]) -> Mapping[str, str]:
    """Everything that outlives a stack; the ARNs of both keys."""
    keys = {
        "encryption": _make_key(aws, "alias/lockstep", tags=tags),
        "mac": _make_key(
            aws, "alias/lockstep-audit", tags=tags, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC"
        ),
    }
    _make_table(aws, tags=tags)
    _make_bucket(aws, tags=tags)
    for resource in _template().of_type("AWS::SecretsManager::Secret").values():
        _make_secret(aws, resource["Properties"]["Name"], tags=tags, KmsKeyId=keys["encryption"])
    for resource in _template().of_type("AWS::Logs::LogGroup").values():
        aws.client("logs").create_log_group(
            logGroupName=resource["Properties"]["LogGroupName"],
            tags={tag["Key"]: tag["Value"] for tag in tags},
        )
    return keys


ALL = {"lock_table": True, "audit_bucket": True, "mac_key": True, "secrets": True, "log_groups": True}


def test_in_an_empty_account_everything_is_made(aws: AwsSandbox) -> None:
    assert _look(aws) == Estate(adopt=Adopt(), taken=(), notes=(), problems=())


def test_what_a_stack_left_behind_is_taken_back_without_asking(aws: AwsSandbox) -> None:
    keys = _make_everything(aws, OWN)
    estate = _look(aws)
    assert estate.problems == ()
    assert estate.adopt == Adopt.model_validate({**ALL, "encryption_key": keys["encryption"]})
    assert "table lockstep: this stack made it" in estate.taken


def test_what_is_of_others_is_refused_with_the_line_that_adopts_it(aws: AwsSandbox) -> None:
    keys = _make_everything(aws, [])
    problems = _look(aws).problems
    assert len(problems) == len(_template().of_type("AWS::SecretsManager::Secret")) + len(
        _template().of_type("AWS::Logs::LogGroup")
    ) + len(["table", "bucket", "encryption key", "MAC key"])
    text = "\n".join(problems)
    for line in (
        '"lock_table": true',
        '"audit_bucket": true',
        '"mac_key": true',
        f'"encryption_key": "{keys["encryption"]}"',
        f'"secrets": ["{SECRET}"]',
        f'"log_groups": ["{LOG}"]',
    ):
        assert f"to adopt it, add {line} to adopt" in text


def test_each_line_adopts_what_it_names(aws: AwsSandbox) -> None:
    keys = _make_everything(aws, [])
    # Its policy must let the services in, as Lockstep's own does.
    aws.client("kms").put_key_policy(
        KeyId=keys["encryption"], PolicyName="default", Policy=json.dumps(_policy_for_services(aws))
    )
    estate = _look(aws, adopt={**ALL, "encryption_key": keys["encryption"]})
    assert estate.problems == ()
    assert estate.adopt == Adopt.model_validate({**ALL, "encryption_key": keys["encryption"]})
    (note,) = (n for n in estate.notes if "lockstep adopt" in n)
    assert SECRET in note


def _policy_for_services(aws: AwsSandbox) -> Mapping[str, Any]:
    services = [f"logs.{aws.region}.amazonaws.com", "cloudwatch.amazonaws.com"]
    allow = {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {**allow, "Principal": {"AWS": f"arn:aws:iam::{aws.account_id}:root"}},
            {**allow, "Principal": {"Service": services}},
        ],
    }


def test_an_encryption_key_must_let_the_services_in(aws: AwsSandbox) -> None:
    arn = _make_key(aws, None)
    problems = _look(aws, adopt={"encryption_key": arn}).problems
    assert [p.partition(" use it; ")[0].rpartition(" ")[2] for p in problems] == [
        f"logs.{aws.region}.amazonaws.com",
        "cloudwatch.amazonaws.com",
    ]


def test_the_policy_of_an_encryption_key_must_let_the_roles_in(aws: AwsSandbox) -> None:
    arn = _make_key(aws, None)
    policy = _policy_for_services(aws)
    only_one_person = {
        **policy["Statement"][0],
        "Principal": {"AWS": f"arn:aws:iam::{aws.account_id}:user/a"},
    }
    statements = [only_one_person, policy["Statement"][1]]
    aws.client("kms").put_key_policy(
        KeyId=arn, PolicyName="default", Policy=json.dumps({**policy, "Statement": statements})
    )
    (problem,) = _look(aws, adopt={"encryption_key": arn}).problems
    assert "lets no IAM policy of the account grant its use" in problem


def test_some_secrets_are_adopted_and_the_others_are_made(aws: AwsSandbox) -> None:
    _make_secret(aws, tags=[])
    for adopted in (True, [SECRET]):
        assert _look(aws, adopt={"secrets": adopted}).adopt.secrets == (SECRET,)


@pytest.mark.parametrize(
    "line",
    [
        {"lock_table": True},
        {"audit_bucket": True},
        {"mac_key": True},
        {"secrets": [SECRET]},
        {"log_groups": [LOG]},
        {"encryption_key": "arn:aws:kms:eu-central-1:123456789012:key/12345678-1234-1234-1234-123456789012"},
    ],
)
def test_what_is_to_be_adopted_must_exist(aws: AwsSandbox, line: Mapping[str, object]) -> None:
    (problem,) = _look(aws, adopt=line).problems
    assert "does not" in problem


def test_another_stacks_secret_is_not_adopted(aws: AwsSandbox) -> None:
    _make_secret(aws, tags=[{"Key": "lockstep:stack", "Value": "other"}])
    (problem,) = _look(aws).problems
    assert "is of the stack other" in problem
    (problem,) = _look(aws, adopt={"secrets": True}).problems
    assert "only one stack may rotate a secret" in problem


def test_a_secret_that_is_being_deleted_is_restored_first(aws: AwsSandbox) -> None:
    _make_secret(aws)
    aws.client("secretsmanager").delete_secret(SecretId=SECRET, RecoveryWindowInDays=7)
    (problem,) = _look(aws).problems
    assert f"aws secretsmanager restore-secret --secret-id {SECRET}" in problem


def test_the_keys_of_adopted_and_admins_secrets_are_told_to_the_policies(aws: AwsSandbox) -> None:
    key, admin_key = _make_key(aws, None), _make_key(aws, None)
    _make_secret(aws, KmsKeyId=key)
    _make_secret(aws, "lockstep/admin/orders", tags=[], KmsKeyId=admin_key)
    _make_secret(aws, "lockstep/admin/ledger", tags=[])  # With the key of AWS, which needs no permission.
    assert _look(aws).adopt.keys == tuple(sorted([key, admin_key]))


def test_a_table_with_another_key_is_refused(aws: AwsSandbox) -> None:
    _make_table(aws, key="id")
    (problem,) = _look(aws).problems
    assert "the partition key credential_id (S) alone" in problem


SPECS = {
    "alias/lockstep": ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"),
    "alias/lockstep-audit": ("HMAC_256", "GENERATE_VERIFY_MAC"),
}


@pytest.mark.parametrize("alias", SPECS)
def test_a_key_that_is_being_deleted_is_kept_first(aws: AwsSandbox, alias: str) -> None:
    spec, usage = SPECS[alias]
    key_id = _make_key(aws, alias, KeySpec=spec, KeyUsage=usage).rpartition("/")[2]
    aws.client("kms").schedule_key_deletion(KeyId=key_id, PendingWindowInDays=7)
    (problem,) = _look(aws).problems
    assert f"aws kms cancel-key-deletion --key-id {key_id}" in problem


def test_a_mac_key_must_compute_macs(aws: AwsSandbox) -> None:
    _make_key(aws, "alias/lockstep-audit")
    (problem,) = _look(aws).problems
    assert "must be HMAC_256 for GENERATE_VERIFY_MAC" in problem


def test_a_bucket_is_told_everything_that_it_lacks_with_the_command(aws: AwsSandbox) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": aws.region})
    s3.put_bucket_encryption(
        Bucket=BUCKET,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]
        },
    )
    problems = _look(aws, adopt={"audit_bucket": True}).problems
    commands = (
        "put-bucket-versioning",
        "put-object-lock-configuration",
        "NewObjectsOnly",
        "put-bucket-encryption",
    )
    assert len(problems) == len(commands)
    for problem, command in zip(problems, commands, strict=True):
        assert command in problem


@pytest.mark.parametrize(
    ("days", "mode", "message"),
    [(30, "compliance", "locks entries for 30 days"), (400, "governance", "Object Lock in mode COMPLIANCE")],
)
def test_a_bucket_must_lock_entries_as_long_and_as_hard_as_the_plan_says(
    aws: AwsSandbox, days: int, mode: str, message: str
) -> None:
    _make_bucket(aws, days=days)
    (problem,) = _look(aws, object_lock=mode).problems
    assert message in problem


def test_names_that_cannot_be_adopted_must_be_free(aws: AwsSandbox) -> None:
    aws.client("sns").create_topic(Name="lockstep-page")
    aws.client("events").put_rule(Name="lockstep-multi-cloud.app_user", ScheduleExpression="rate(1 day)")
    problems = _look(aws).problems
    assert sorted(p.split(" exists")[0] for p in problems) == [
        "AWS::Events::Rule lockstep-multi-cloud.app_user",
        "AWS::SNS::Topic lockstep-page",
    ]


def test_a_network_must_exist_and_belong_together(aws: AwsSandbox) -> None:
    ec2 = aws.client("ec2")
    vpc, other = (ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"] for _ in range(2))
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24", AvailabilityZone="eu-central-1a")["Subnet"]
    group = ec2.create_security_group(GroupName="g", Description="g", VpcId=other)["GroupId"]

    def problems(zone: str, subnet_id: str) -> tuple[str, ...]:
        chosen = {
            "id": vpc,
            "availability_zones": [zone],
            "subnet_ids": [subnet_id],
            "security_group_ids": [group],
        }
        return _look(aws, vpc=chosen).problems

    assert problems("eu-central-1b", subnet["SubnetId"]) == (
        f"vpc.availability_zones: {subnet['SubnetId']} is in eu-central-1a",
        f"vpc.security_group_ids: {group} is in {other}",
    )
    assert any("not all of subnet-" in p for p in problems("eu-central-1a", "subnet-0123456789abcdef0"))


def test_a_boundary_must_exist(aws: AwsSandbox) -> None:
    (problem,) = _look(aws, permissions_boundary="estate").problems
    assert problem == f"permissions_boundary: arn:aws:iam::{aws.account_id}:policy/estate does not exist"


def test_a_topic_must_exist(aws: AwsSandbox) -> None:
    topic = f"arn:aws:sns:eu-central-1:{aws.account_id}:pages"
    (problem,) = _look(aws, adopt={"topics": {"page": topic}}).problems
    assert problem == f"adopt.topics.page: {topic} does not exist"
