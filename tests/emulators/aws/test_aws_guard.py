"""The guard: requests of a role, judged by its policies and by those of the resource, at the moment of the request."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.actions import UnknownNameError, item_context
from sandbox.emulators.aws.executions import Client
from sandbox.emulators.aws.resources import create_lock_table, create_mac_key
from tests.emulators.aws.conftest import policy

KEY, ROLE = "AKIAEXAMPLE", "reader"
TAGS = [{"Key": "lockstep:stack", "Value": "lockstep"}, {"Key": "lockstep:secret", "Value": "app_user"}]


@dataclass
class Caller:
    """A role with the statements that it was given last."""

    aws: AwsSandbox

    def may(self, action: object, resource: object = "*", *more: dict[str, Any], **fields: object) -> None:
        """Give the role this statement, and the others, and nothing else."""
        statement = {"Action": action, "Resource": resource, **fields}
        self.aws.client("iam").put_role_policy(
            RoleName=ROLE, PolicyName="own", PolicyDocument=policy(statement, *more)
        )

    def is_refused(self, service: str, call: Callable[[Client], object]) -> bool:
        """Whether a call that the role signs is refused for a permission; any other error is raised."""
        try:
            call(self.aws.client_as(KEY, service))
        except ClientError as error:
            if error.response["Error"]["Code"] in {"AccessDenied", "AccessDeniedException"}:
                return True
            raise
        return False


def read(client: Client) -> object:
    return client.get_secret_value(SecretId="s")


@pytest.fixture(name="caller")
def _caller(aws: AwsSandbox) -> Caller:
    aws.client("iam").create_role(RoleName=ROLE, AssumeRolePolicyDocument=policy())
    aws.guard.know(KEY, ROLE)
    aws.client("secretsmanager").create_secret(Name="s", SecretString="{}")
    return Caller(aws)


def test_the_tags_of_a_secret_count_as_they_are_and_its_policy_may_deny(
    aws: AwsSandbox, caller: Caller
) -> None:
    wanted = {"aws:ResourceTag/lockstep:stack": "lockstep"}
    wanted["aws:ResourceTag/lockstep:secret"] = ["app_user", "admin"]  # type: ignore[assignment]  # a condition
    caller.may("secretsmanager:GetSecretValue", Condition={"StringEquals": wanted})
    owner = aws.client("secretsmanager")
    found = [caller.is_refused("secretsmanager", read)]
    for tags in (TAGS[:1], TAGS, [{"Key": "lockstep:stack", "Value": "other"}]):
        owner.tag_resource(SecretId="s", Tags=tags)
        found.append(caller.is_refused("secretsmanager", read))
    caller.may("secretsmanager:*")
    denial = {"Effect": "Deny", "Principal": "*", "Action": "secretsmanager:GetSecretValue"}
    found.append(caller.is_refused("secretsmanager", read))
    owner.put_resource_policy(SecretId="s", ResourcePolicy=policy(denial))
    found.append(caller.is_refused("secretsmanager", read))
    assert found == [True, True, False, True, False, True]


def test_a_key_needs_its_own_policys_consent_and_has_aliases(aws: AwsSandbox, caller: Caller) -> None:
    kms = aws.client("kms")
    key = create_mac_key(kms)
    by_alias = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/audit"}}
    caller.may("kms:GenerateMac", "arn:aws:kms:eu-central-1:*:key/*", Condition=by_alias)

    def is_refused() -> bool:
        return caller.is_refused(
            "kms", lambda c: c.generate_mac(KeyId=key, Message=b"m", MacAlgorithm="HMAC_SHA_256")
        )

    assert is_refused()
    kms.create_alias(AliasName="alias/audit", TargetKeyId=key)
    assert not is_refused()
    people = {"Principal": {"AWS": f"arn:aws:iam::{aws.account_id}:user/admin"}, "Action": "kms:*"}
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=policy(people))
    assert is_refused()


def test_a_scan_has_no_keys(aws: AwsSandbox, caller: Caller) -> None:
    create_lock_table(aws.client("dynamodb"), "lockstep")
    not_accounts: dict[str, Any] = {"ForAllValues:StringNotLike": {"dynamodb:LeadingKeys": "account#*"}}
    with_key = {**not_accounts, "Null": {"dynamodb:LeadingKeys": "false"}}
    calls: list[Callable[[Client], object]] = [
        lambda c: c.scan(TableName="lockstep"),
        lambda c: c.get_item(TableName="lockstep", Key={"credential_id": {"S": "a/b"}}),
        lambda c: c.put_item(TableName="lockstep", Item={"credential_id": {"S": "account#a"}}),
    ]
    for condition, refusals in ((not_accounts, [False, False, True]), (with_key, [True, False, True])):
        caller.may("dynamodb:*", Condition=condition)
        assert [caller.is_refused("dynamodb", call) for call in calls] == refusals


def test_a_managed_policy_counts_and_a_boundary_limits(aws: AwsSandbox, caller: Caller) -> None:
    iam = aws.client("iam")

    def made(name: str, action: str) -> str:
        new = iam.create_policy(PolicyName=name, PolicyDocument=policy({"Action": action}))
        return str(new["Policy"]["Arn"])

    assert caller.is_refused("secretsmanager", read)
    iam.attach_role_policy(RoleName=ROLE, PolicyArn=made("may", "secretsmanager:*"))
    assert not caller.is_refused("secretsmanager", read)
    iam.put_role_permissions_boundary(RoleName=ROLE, PermissionsBoundary=made("narrow", "s3:*"))
    assert caller.is_refused("secretsmanager", read)


OF_S3: dict[str, tuple[Callable[[Client], object], bool]] = {
    "a prefix": (lambda s3: s3.list_objects_v2(Bucket="bucket", Prefix="aws/x/"), True),
    "all": (lambda s3: s3.list_objects_v2(Bucket="bucket"), False),
    "versions": (lambda s3: s3.list_object_versions(Bucket="bucket", Prefix="aws/x/"), False),
    "policy": (lambda s3: s3.get_bucket_policy(Bucket="bucket"), False),
    "an object": (lambda s3: s3.get_object(Bucket="bucket", Key="aws/x/1"), True),
    "a copy": (lambda s3: s3.copy_object(Bucket="bucket", Key="aws/x/2", CopySource="bucket/aws/x/1"), False),
}


@pytest.mark.parametrize(("call", "allowed"), OF_S3.values(), ids=OF_S3)
def test_a_subresource_of_a_bucket_or_object_is_another_action(
    aws: AwsSandbox, caller: Caller, call: Callable[[Client], object], *, allowed: bool
) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="bucket", Key="aws/x/1", Body=b"x")
    objects = {"Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::bucket/*"}
    by_prefix = {"StringLike": {"s3:prefix": "aws/*"}}
    caller.may("s3:ListBucket", "arn:aws:s3:::bucket", objects, Condition=by_prefix)
    assert caller.is_refused("s3", call) is not allowed


def test_what_is_not_known_of_s3_is_refused_whatever_a_policy_says(aws: AwsSandbox, caller: Caller) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="bucket", Key="1", Body=b"x")
    caller.may("*")
    found = [
        caller.is_refused("s3", lambda c: c.get_object(Bucket="bucket", Key="1")),
        caller.is_refused("s3", lambda c: c.put_bucket_acl(Bucket="bucket", ACL="private")),
        caller.is_refused(
            "s3", lambda c: c.delete_object(Bucket="bucket", Key="1", BypassGovernanceRetention=True)
        ),
    ]
    assert found == [False, True, True]


def test_a_condition_on_a_key_that_no_request_carries_here_is_an_error(caller: Caller) -> None:
    unknown = {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}
    denial = {"Effect": "Deny", "Action": "*", "Condition": unknown}
    caller.may("secretsmanager:*", "*", denial)
    with pytest.raises(ClientError) as failed:
        caller.is_refused("secretsmanager", read)
    assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500


ITEM = {"Key": {"id": {"S": "x"}}}


@pytest.mark.parametrize(
    ("request_", "attributes"),
    [
        ({}, ()),
        ({"UpdateExpression": "SET a = :a, b = if_not_exists(c, :zero) + :one"}, ("a", "b", "c")),
        ({"UpdateExpression": "set a = :a REMOVE b, c ADD d :d DELETE e :e"}, ("a", "b", "c", "d", "e")),
        ({"UpdateExpression": "SET a.b[1].c = :a REMOVE d[0]"}, ("a", "d")),
        (
            {"UpdateExpression": "SET #n.x = :a", "ExpressionAttributeNames": {"#n": "plan", "#x": "unused"}},
            ("plan",),
        ),
        ({"ConditionExpression": "attribute_not_exists(a) OR b <> :b AND NOT (c IN (:c, d))"}, tuple("abcd")),
        ({"ConditionExpression": "size(a) > :n AND b BETWEEN :low AND c"}, ("a", "b", "c")),
        ({"ConditionExpression": "begins_with (a, :p)"}, ("a",)),
        ({"ProjectionExpression": "a, b.c"}, ("a", "b")),
        ({"AttributeUpdates": {"a": {}}, "Expected": {"b": {}}, "AttributesToGet": ["c"]}, ("a", "b", "c")),
    ],
)
def test_update_condition_and_key_count_at_the_top(
    request_: dict[str, Any], attributes: tuple[str, ...]
) -> None:
    found = item_context("UpdateItem", {**ITEM, **request_})
    assert found["dynamodb:Attributes"] == tuple(sorted(("id", *attributes)))


def test_what_is_returned_is_a_key_of_writes_and_no_placeholder_is_passed_over() -> None:
    assert item_context("UpdateItem", ITEM)["dynamodb:ReturnValues"] == ("NONE",)
    returned = item_context("UpdateItem", {**ITEM, "ReturnValues": "ALL_NEW"})["dynamodb:ReturnValues"]
    assert returned == ("ALL_NEW",)
    assert "dynamodb:ReturnValues" not in item_context("GetItem", ITEM)
    with pytest.raises(UnknownNameError):
        item_context("UpdateItem", {**ITEM, "UpdateExpression": "SET #a = :a"})
