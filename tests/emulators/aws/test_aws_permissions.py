"""IAM in the sandbox: how policies decide, and requests of a role judged by them at the moment of the request."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import pytest
from botocore.exceptions import ClientError

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.actions import UnknownNameError, item_context
from sandbox.emulators.aws.executions import Client
from sandbox.emulators.aws.policies import Call, UnknownConditionError, decide
from sandbox.emulators.aws.resources import create_digest_key, create_lock_table, create_mac_key
from tests.emulators.aws.conftest import policy

# The evaluation logic of IAM

SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:multi-cloud/app_user-AbCdEf"
READ = Call(
    action="secretsmanager:GetSecretValue",
    resource=SECRET,
    context={
        "dynamodb:LeadingKeys": ("a", "b"),
        "kms:ViaService": ("x.amazonaws.com",),
        "size": ("1.1",),
        "aws:ResourceTag/lockstep:stack": ("one",),
        "aws:ResourceTag/twice": ("a",),
        "aws:ResourceTag/Twice": ("a",),
        "aws:SourceArn": ("arn:aws:events:eu-central-1:123456789012:rule/lockstep-app",),
    },
)


def _decided(*statements: Mapping[str, object]) -> bool:
    full = [{"Effect": "Allow", "Action": READ.action, "Resource": SECRET, **fields} for fields in statements]
    return decide(READ, full).allowed


CONDITIONS = [
    ("StringEquals", "kms:ViaService", "x.amazonaws.com", True),
    ("StringEquals", "kms:ViaService", "x.*", False),
    ("StringLike", "kms:ViaService", "x.*", True),
    ("ForAllValues:StringEquals", "dynamodb:LeadingKeys", ["a", "b", "c"], True),
    ("ForAllValues:StringEquals", "dynamodb:LeadingKeys", ["a"], False),
    ("ForAllValues:StringEquals", "absent", ["a"], True),
    ("ForAllValues:StringNotLike", "dynamodb:LeadingKeys", ["account#*", "b*"], False),
    ("ForAnyValue:StringEquals", "dynamodb:LeadingKeys", ["b"], True),
    ("ForAnyValue:StringEquals", "dynamodb:LeadingKeys", ["c"], False),
    ("ForAnyValue:StringEquals", "absent", ["c"], False),
    ("ForAnyValue:StringNotEquals", "dynamodb:LeadingKeys", ["b"], True),
    ("StringNotEquals", "kms:ViaService", "x.amazonaws.com", False),
    ("StringNotEquals", "absent", "x", True),
    ("StringEquals", "KMS:viaservice", "x.amazonaws.com", True),
    ("StringEquals", "aws:ResourceTag/Lockstep:Stack", "one", True),
    ("StringEquals", "aws:ResourceTag/lockstep:stack", "ONE", False),
    ("StringEquals", "aws:ResourceTag/twice", "a", False),
    ("ArnLike", "aws:SourceArn", "arn:aws:events:*:*:rule/lockstep-*", True),
    ("ArnLike", "aws:SourceArn", "arn:aws:events:*:rule/lockstep-*", False),
    ("ArnNotLike", "aws:SourceArn", ["arn:aws:events:*:*:rule/other-*", "arn:aws:events:*:rule/*"], True),
    ("Null", "absent", "true", True),
    ("NumericLessThanEquals", "size", "1.1", True),
    ("NumericLessThanEquals", "size", "1.0", False),
    ("StringEqualsIfExists", "absent", "x", True),
    ("StringEqualsIfExists", "kms:ViaService", "y.amazonaws.com", False),
]


@pytest.mark.parametrize(
    ("statements", "allowed"),
    [
        ([{}], True),
        ([{"Action": "secretsmanager:PutSecretValue"}], False),
        ([{"Action": "secretsmanager:getsecretvalue"}], True),
        ([{"Action": ["a:b", "*"]}], True),
        ([{"Resource": SECRET[:-1]}], False),
        ([{"Resource": SECRET[:-6] + "??????"}], True),
        ([{}, {"Effect": "Deny"}], False),
        ([{"Condition": {"Null": {"absent": "true", "kms:ViaService": "true"}}}], False),
        *(([{"Condition": {operator: {key: wanted}}}], holds) for operator, key, wanted, holds in CONDITIONS),
    ],
    ids=str,
)
def test_what_matches_is_allowed_and_a_refusal_takes_precedence(
    statements: list[dict[str, Any]], *, allowed: bool
) -> None:
    assert _decided(*statements) is allowed


@pytest.mark.parametrize(
    "fields",
    [
        {"Condition": {"DateLessThanIfExists": {"kms:ViaService": "x.amazonaws.com"}}},
        {"Condition": {"ForEach:StringEquals": {"kms:ViaService": "x.amazonaws.com"}}},
        {"Condition": {"StringEquals": {"kms:ViaService": "${aws:PrincipalTag/service}"}}},
        {"Condition": {"StringEquals": {"dynamodb:LeadingKeys": "a"}}},
        {"NotResource": "x"},
    ],
    ids=["operator", "quantifier", "variable", "several values", "element"],
)
def test_what_is_not_known_is_an_error(fields: dict[str, object]) -> None:
    with pytest.raises(UnknownConditionError):
        _decided(fields)


# The guard

KEY, ROLE = "AKIAEXAMPLE", "reader"
Asked: TypeAlias = Callable[[Client], object]


class Caller:
    """A role with the statements that it was given last."""

    def __init__(self, aws: AwsSandbox) -> None:
        self.aws, self.iam = aws, aws.client("iam")
        self.iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=policy())
        aws.guard.know(KEY, ROLE)
        aws.client("secretsmanager").create_secret(Name="s", SecretString="{}")

    def may(self, action: object, *more: Mapping[str, object], **fields: object) -> None:
        """Give the role this statement, and the others, and nothing else."""
        document = policy({"Action": action, **fields}, *more)
        self.iam.put_role_policy(RoleName=ROLE, PolicyName="own", PolicyDocument=document)

    def has(self, service: str, *calls: Asked) -> list[bool]:
        """Whether each call that the role signs is allowed; any other error is raised."""
        found = []
        for call in calls:
            try:
                call(self.aws.client_as(KEY, service))
            except ClientError as error:
                if error.response["Error"]["Code"] not in {"AccessDenied", "AccessDeniedException"}:
                    raise
                found.append(False)
            else:
                found.append(True)
        return found

    def reads(self) -> bool:
        """Whether it may read the secret."""
        return self.has("secretsmanager", lambda c: c.get_secret_value(SecretId="s")) == [True]


@pytest.fixture(name="caller")
def _caller(aws: AwsSandbox) -> Caller:
    return Caller(aws)


def test_the_tags_of_a_secret_count_as_they_are_and_its_policy_may_deny(caller: Caller) -> None:
    wanted = {"aws:ResourceTag/lockstep:stack": "lockstep", "aws:ResourceTag/lockstep:secret": ["a", "admin"]}
    caller.may("secretsmanager:GetSecretValue", Condition={"StringEquals": wanted})
    owner = caller.aws.client("secretsmanager")
    found = []
    for key, value in (("stack", "lockstep"), ("secret", "a"), ("stack", "other")):
        owner.tag_resource(SecretId="s", Tags=[{"Key": f"lockstep:{key}", "Value": value}])
        found.append(caller.reads())
    caller.may("secretsmanager:*")
    found.append(caller.reads())
    denial = {"Effect": "Deny", "Principal": "*", "Action": "secretsmanager:GetSecretValue"}
    owner.put_resource_policy(SecretId="s", ResourcePolicy=policy(denial))
    assert [*found, caller.reads()] == [False, True, False, True, False]


def test_a_managed_policy_counts_and_a_boundary_limits(caller: Caller) -> None:
    def made(name: str, action: str) -> str:
        new = caller.iam.create_policy(PolicyName=name, PolicyDocument=policy({"Action": action}))
        return str(new["Policy"]["Arn"])

    found = [caller.reads()]
    caller.iam.attach_role_policy(RoleName=ROLE, PolicyArn=made("may", "secretsmanager:*"))
    found.append(caller.reads())
    caller.iam.put_role_permissions_boundary(RoleName=ROLE, PermissionsBoundary=made("narrow", "s3:*"))
    assert [*found, caller.reads()] == [False, True, False]


def test_a_condition_on_a_key_that_no_request_carries_here_is_an_error(caller: Caller) -> None:
    unknown = {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}
    caller.may("secretsmanager:*", {"Effect": "Deny", "Action": "*", "Condition": unknown})
    with pytest.raises(ClientError) as failed:
        caller.reads()
    assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500


def test_a_key_needs_its_own_policys_consent_and_has_aliases(caller: Caller) -> None:
    kms = caller.aws.client("kms")
    key = create_mac_key(kms)
    by_alias = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/audit"}}
    caller.may("kms:GenerateMac", Resource="arn:aws:kms:eu-central-1:*:key/*", Condition=by_alias)

    def made() -> bool:
        asked = {"KeyId": key, "Message": b"m", "MacAlgorithm": "HMAC_SHA_256"}
        return caller.has("kms", lambda c: c.generate_mac(**asked)) == [True]

    found = [made()]
    kms.create_alias(AliasName="alias/audit", TargetKeyId=key)
    found.append(made())
    people = {"Principal": {"AWS": f"arn:aws:iam::{caller.aws.account_id}:user/admin"}, "Action": "kms:*"}
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=policy(people))
    assert [*found, made()] == [False, True, False]


def test_a_policy_may_name_algorithm_kind_of_message_and_alias(caller: Caller) -> None:
    kms = caller.aws.client("kms")
    key, algorithm = create_digest_key(kms), "RSASSA_PKCS1_V1_5_SHA_256"
    kms.create_alias(AliasName="alias/client", TargetKeyId=key)
    wanted = {
        "kms:SigningAlgorithm": algorithm,
        "kms:MessageType": "DIGEST",
        "kms:RequestAlias": "alias/client",
    }
    caller.may("kms:Sign", Resource=key, Condition={"StringEquals": wanted})
    right = {"KeyId": "alias/client", "MessageType": "DIGEST", "SigningAlgorithm": algorithm}
    other: tuple[dict[str, str], ...] = (
        {},
        {"MessageType": "RAW"},
        {"SigningAlgorithm": "RSASSA_PSS_SHA_256"},
        {"KeyId": key},
    )
    calls = [lambda c, asked=asked: c.sign(Message=bytes(32), **{**right, **asked}) for asked in other]
    assert caller.has("kms", *calls) == [True, False, False, False]


def test_a_scan_has_no_keys(caller: Caller) -> None:
    create_lock_table(caller.aws.client("dynamodb"), "lockstep")
    not_accounts: dict[str, Any] = {"ForAllValues:StringNotLike": {"dynamodb:LeadingKeys": "account#*"}}
    with_key = {**not_accounts, "Null": {"dynamodb:LeadingKeys": "false"}}
    calls: list[Asked] = [
        lambda c: c.scan(TableName="lockstep"),
        lambda c: c.get_item(TableName="lockstep", Key={"credential_id": {"S": "a/b"}}),
        lambda c: c.put_item(TableName="lockstep", Item={"credential_id": {"S": "account#a"}}),
    ]
    for condition, allowed in ((not_accounts, [True, True, False]), (with_key, [False, True, False])):
        caller.may("dynamodb:*", Condition=condition)
        assert caller.has("dynamodb", *calls) == allowed


def test_a_subresource_of_a_bucket_or_object_is_another_action_and_what_is_not_known_is_refused(
    caller: Caller,
) -> None:
    s3, bucket = caller.aws.client("s3"), {"Bucket": "bucket"}
    s3.create_bucket(**bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(**bucket, Key="aws/x/1", Body=b"x")
    objects = {"Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::bucket/*"}
    by_prefix = {"StringLike": {"s3:prefix": "aws/*"}}
    caller.may("s3:ListBucket", objects, Resource="arn:aws:s3:::bucket", Condition=by_prefix)
    calls: list[tuple[Asked, bool]] = [
        (lambda c: c.list_objects_v2(**bucket, Prefix="aws/x/"), True),
        (lambda c: c.list_objects_v2(**bucket), False),
        (lambda c: c.list_object_versions(**bucket, Prefix="aws/x/"), False),
        (lambda c: c.get_bucket_policy(**bucket), False),
        (lambda c: c.get_object(**bucket, Key="aws/x/1"), True),
        (lambda c: c.copy_object(**bucket, Key="aws/x/2", CopySource="bucket/aws/x/1"), False),
    ]
    assert caller.has("s3", *(call for call, _ in calls)) == [allowed for _, allowed in calls]
    caller.may("*")
    calls = [
        (lambda c: c.get_object(**bucket, Key="aws/x/1"), True),
        (lambda c: c.put_bucket_acl(**bucket, ACL="private"), False),
        (lambda c: c.delete_object(**bucket, Key="aws/x/1", BypassGovernanceRetention=True), False),
    ]
    assert caller.has("s3", *(call for call, _ in calls)) == [allowed for _, allowed in calls]


ITEM = {"Key": {"id": {"S": "x"}}}


@pytest.mark.parametrize(
    ("request_", "attributes"),
    [
        ({"UpdateExpression": "SET a = :a, b = if_not_exists(c, :zero) + :one"}, "abc"),
        ({"UpdateExpression": "set a = :a REMOVE b, c ADD d :d DELETE e :e"}, "abcde"),
        ({"UpdateExpression": "SET a.b[1].c = :a REMOVE d[0]"}, "ad"),
        ({"UpdateExpression": "SET #n.x = :a", "ExpressionAttributeNames": {"#n": "p", "#x": "unused"}}, "p"),
        ({"ConditionExpression": "attribute_not_exists(a) OR b <> :b AND NOT (c IN (:c, d))"}, "abcd"),
        ({"ConditionExpression": "size(a) > :n AND b BETWEEN :low AND c"}, "abc"),
        ({"ProjectionExpression": "a, b.c"}, "ab"),
        ({"AttributeUpdates": {"a": {}}, "Expected": {"b": {}}, "AttributesToGet": ["c"]}, "abc"),
    ],
)
def test_update_condition_and_key_count_at_the_top(request_: dict[str, Any], attributes: str) -> None:
    found = item_context("UpdateItem", {**ITEM, **request_})
    assert found["dynamodb:Attributes"] == tuple(sorted(("id", *attributes)))


def test_what_is_returned_is_a_key_of_writes_and_no_placeholder_is_passed_over() -> None:
    for returned in ("NONE", "ALL_NEW"):
        asked = ITEM if returned == "NONE" else {**ITEM, "ReturnValues": returned}
        assert item_context("UpdateItem", asked)["dynamodb:ReturnValues"] == (returned,)
    assert "dynamodb:ReturnValues" not in item_context("GetItem", ITEM)
    with pytest.raises(UnknownNameError):
        item_context("UpdateItem", {**ITEM, "UpdateExpression": "SET #a = :a"})
