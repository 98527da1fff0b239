"""The guard: requests of a role, judged by its policies and by those of the resource, at the moment of the request."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.executions import Client
from sandbox.emulators.aws.resources import create_lock_table

KEY = "AKIAEXAMPLE"
ROLE = "reader"
ANY_SECRET = "arn:aws:secretsmanager:eu-central-1:*:secret:*"
BY_TAG = {
    "StringEquals": {
        "aws:ResourceTag/lockstep:stack": "lockstep",
        "aws:ResourceTag/lockstep:secret": ["app_user", "admin"],
    }
}
TAGS = [
    {"Key": "lockstep:stack", "Value": "lockstep"},
    {"Key": "lockstep:secret", "Value": "app_user"},
]
DENIED = {"AccessDenied", "AccessDeniedException"}


@dataclass
class Caller:
    """A role with one statement."""

    aws: AwsSandbox

    def may(self, action: object, resource: object, **more: object) -> None:
        """Give the role this statement, and nothing else."""
        statement = {"Effect": "Allow", "Action": action, "Resource": resource, **more}
        self.aws.client("iam").put_role_policy(
            RoleName=ROLE, PolicyName="own", PolicyDocument=policy(statement)
        )

    def client(self, service: str) -> Client:
        """A client that signs as the role."""
        return self.aws.client_as(KEY, service)


def policy(*statements: Mapping[str, object]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@pytest.fixture(name="caller")
def _caller(aws: AwsSandbox) -> Caller:
    aws.client("iam").create_role(RoleName=ROLE, AssumeRolePolicyDocument=policy())
    aws.guard.know(KEY, ROLE)
    return Caller(aws)


def refused(call: Callable[[], object]) -> bool:
    """Whether the call is refused for a permission; any other error is raised."""
    try:
        call()
    except ClientError as error:
        if error.response["Error"]["Code"] in DENIED:
            return True
        raise
    return False


def test_the_tags_of_a_secret_count_as_they_are_at_the_call(aws: AwsSandbox, caller: Caller) -> None:
    caller.may("secretsmanager:GetSecretValue", ANY_SECRET, Condition=BY_TAG)
    owner = aws.client("secretsmanager")
    owner.create_secret(Name="s", SecretString="{}")

    def read() -> object:
        return caller.client("secretsmanager").get_secret_value(SecretId="s")

    assert refused(read)
    owner.tag_resource(SecretId="s", Tags=TAGS[:1])
    assert refused(read)
    owner.tag_resource(SecretId="s", Tags=TAGS)
    assert not refused(read)
    owner.tag_resource(SecretId="s", Tags=[{"Key": "lockstep:stack", "Value": "other"}])
    assert refused(read)
    owner.tag_resource(SecretId="s", Tags=TAGS)
    owner.untag_resource(SecretId="s", TagKeys=["lockstep:secret"])
    assert refused(read)


def test_the_policy_of_a_secret_may_deny(aws: AwsSandbox, caller: Caller) -> None:
    caller.may("secretsmanager:*", ANY_SECRET)
    owner = aws.client("secretsmanager")
    owner.create_secret(Name="s", SecretString="{}")
    denial = {"Effect": "Deny", "Principal": "*", "Action": "secretsmanager:PutSecretValue", "Resource": "*"}
    owner.put_resource_policy(SecretId="s", ResourcePolicy=policy(denial))
    assert not refused(lambda: caller.client("secretsmanager").get_secret_value(SecretId="s"))
    assert refused(lambda: caller.client("secretsmanager").put_secret_value(SecretId="s", SecretString="x"))


def test_a_key_without_the_consent_of_its_own_policy_serves_nobody(aws: AwsSandbox, caller: Caller) -> None:
    kms = aws.client("kms")
    key = kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]["Arn"]
    caller.may("kms:GenerateMac", key)

    def sign() -> object:
        return caller.client("kms").generate_mac(KeyId=key, Message=b"m", MacAlgorithm="HMAC_SHA_256")

    assert not refused(sign)
    people = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{aws.account_id}:user/admin"},
        "Action": "kms:*",
        "Resource": "*",
    }
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=policy(people))
    assert refused(sign)


def test_a_key_is_known_by_the_aliases_that_it_has_now(aws: AwsSandbox, caller: Caller) -> None:
    kms = aws.client("kms")
    key = kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]["Arn"]
    caller.may(
        "kms:GenerateMac",
        "arn:aws:kms:eu-central-1:*:key/*",
        Condition={"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/audit"}},
    )

    def sign() -> object:
        return caller.client("kms").generate_mac(KeyId=key, Message=b"m", MacAlgorithm="HMAC_SHA_256")

    assert refused(sign)
    kms.create_alias(AliasName="alias/first", TargetKeyId=key)
    assert refused(sign)
    kms.create_alias(AliasName="alias/audit", TargetKeyId=key)
    assert not refused(sign)
    kms.delete_alias(AliasName="alias/audit")
    assert refused(sign)


def test_a_scan_has_no_keys(aws: AwsSandbox, caller: Caller) -> None:
    create_lock_table(aws.client("dynamodb"), "lockstep")
    table = "arn:aws:dynamodb:eu-central-1:*:table/lockstep"
    not_accounts: dict[str, Any] = {"ForAllValues:StringNotLike": {"dynamodb:LeadingKeys": "account#*"}}
    with_key = {**not_accounts, "Null": {"dynamodb:LeadingKeys": "false"}}

    def scan() -> object:
        return caller.client("dynamodb").scan(TableName="lockstep")

    def get(key: str) -> object:
        return caller.client("dynamodb").get_item(TableName="lockstep", Key={"credential_id": {"S": key}})

    def put(key: str) -> object:
        return caller.client("dynamodb").put_item(TableName="lockstep", Item={"credential_id": {"S": key}})

    caller.may("dynamodb:*", table, Condition=not_accounts)
    assert not refused(scan)
    caller.may("dynamodb:*", table, Condition=with_key)
    assert refused(scan)
    assert not refused(lambda: get("a/b"))
    assert refused(lambda: get("account#a"))
    assert not refused(lambda: put("a/b"))
    assert refused(lambda: put("account#a"))


def test_a_managed_policy_counts_and_a_boundary_limits(aws: AwsSandbox, caller: Caller) -> None:
    iam = aws.client("iam")
    aws.client("secretsmanager").create_secret(Name="s", SecretString="{}")

    def made(name: str, action: str) -> str:
        statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
        arn: str = iam.create_policy(PolicyName=name, PolicyDocument=policy(statement))["Policy"]["Arn"]
        return arn

    def read() -> object:
        return caller.client("secretsmanager").get_secret_value(SecretId="s")

    assert refused(read)
    iam.attach_role_policy(RoleName=ROLE, PolicyArn=made("may", "secretsmanager:*"))
    assert not refused(read)
    iam.put_role_permissions_boundary(RoleName=ROLE, PermissionsBoundary=made("narrow", "s3:*"))
    assert refused(read)
    iam.put_role_permissions_boundary(RoleName=ROLE, PermissionsBoundary=made("wide", "secretsmanager:Get*"))
    assert not refused(read)


@pytest.mark.parametrize(
    ("call", "allowed"),
    [
        (lambda s3: s3.list_objects_v2(Bucket="bucket", Prefix="aws/x/"), True),
        (lambda s3: s3.list_objects_v2(Bucket="bucket"), False),
        (lambda s3: s3.list_object_versions(Bucket="bucket", Prefix="aws/x/"), False),
        (lambda s3: s3.get_bucket_policy(Bucket="bucket"), False),
        (
            lambda s3: s3.put_bucket_versioning(
                Bucket="bucket", VersioningConfiguration={"Status": "Enabled"}
            ),
            False,
        ),
        (lambda s3: s3.get_object(Bucket="bucket", Key="aws/x/1"), True),
        (lambda s3: s3.get_object_tagging(Bucket="bucket", Key="aws/x/1"), False),
        (lambda s3: s3.put_object_tagging(Bucket="bucket", Key="aws/x/1", Tagging={"TagSet": []}), False),
        (lambda s3: s3.copy_object(Bucket="bucket", Key="aws/x/2", CopySource="bucket/aws/x/1"), False),
    ],
    ids=["prefix", "all", "versions", "policy", "versioning", "object", "tags", "tag", "copy"],
)
def test_a_subresource_of_a_bucket_or_object_is_another_action(
    aws: AwsSandbox, caller: Caller, call: Callable[[Client], object], *, allowed: bool
) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="bucket", Key="aws/x/1", Body=b"x")
    listing = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::bucket"}
    listing["Condition"] = {"StringLike": {"s3:prefix": "aws/*"}}  # type: ignore[assignment]  # a statement
    objects = {
        "Effect": "Allow",
        "Action": ["s3:GetObject", "s3:PutObject"],
        "Resource": "arn:aws:s3:::bucket/*",
    }
    aws.client("iam").put_role_policy(
        RoleName=ROLE, PolicyName="own", PolicyDocument=policy(listing, objects)
    )
    assert refused(lambda: call(caller.client("s3"))) is not allowed


def test_a_condition_on_a_key_that_no_request_carries_here_is_an_error(
    aws: AwsSandbox, caller: Caller
) -> None:
    aws.client("secretsmanager").create_secret(Name="s", SecretString="{}")
    denial = {"Effect": "Deny", "Action": "*", "Resource": "*"}
    denial["Condition"] = {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}  # type: ignore[assignment]  # a statement
    caller.may("secretsmanager:*", "*")
    aws.client("iam").put_role_policy(RoleName=ROLE, PolicyName="more", PolicyDocument=policy(denial))
    with pytest.raises(ClientError) as failed:
        caller.client("secretsmanager").get_secret_value(SecretId="s")
    assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
