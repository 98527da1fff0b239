"""What a stack deletes, keeps and replaces."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.aws import AwsSandbox
from tests.sandbox.aws.stacks import Stack, resource
from tests.sandbox.aws.test_cloudformation_names import DOCUMENT, TABLE, TRUST, function
from tests.sandbox.aws.test_cloudformation_rollback import names, secret

TOPIC = resource("AWS::SNS::Topic", TopicName="topic")
KEY_POLICY = {"Version": "2012-10-17", "Statement": []}


@pytest.mark.parametrize(
    ("keep", "left"), [(None, []), ("Delete", []), ("Retain", ["it"]), ("RetainExceptOnCreate", ["it"])]
)
def test_the_deletion_policy_decides_on_deletion_and_on_removal(
    aws: AwsSandbox, keep: str | None, left: list[str]
) -> None:
    stack, other = Stack(aws), Stack(aws, "other")
    stack.create(Topic=TOPIC, It=secret("it", keep=keep))
    assert stack.update(Topic=TOPIC) == "UPDATE_COMPLETE"
    assert names(aws) == left
    for name in left:
        aws.client("secretsmanager").delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    other.create(It=secret("it", keep=keep))
    assert other.delete() == "DELETE_COMPLETE"
    assert names(aws) == left


@pytest.mark.parametrize(("keep", "left"), [(None, ["after"]), ("Retain", ["after", "before"])])
def test_the_update_replace_policy_decides_on_replacement(
    aws: AwsSandbox, keep: str | None, left: list[str]
) -> None:
    stack = Stack(aws)
    stack.create(It=secret("before", keep=keep))
    assert stack.update(It=secret("after", keep=keep)) == "UPDATE_COMPLETE"
    assert names(aws) == left


def test_retain_except_on_create_is_no_update_replace_policy(aws: AwsSandbox) -> None:
    wrong = {**secret("it"), "UpdateReplacePolicy": "RetainExceptOnCreate"}
    with pytest.raises(ClientError, match="UpdateReplacePolicy"):
        Stack(aws).create(It=wrong)


def test_a_replacement_is_made_before_the_old_one_goes(aws: AwsSandbox) -> None:
    """So a fixed name collides, such as that of a function whose package type changes."""
    stack = Stack(aws)
    zipped = function(aws)
    assert stack.create(It=zipped) == "CREATE_COMPLETE"
    uri = f"{aws.account_id}.dkr.ecr.{aws.region}.amazonaws.com/assets:1"
    image: dict[str, Any] = {
        "FunctionName": "taken",
        "Role": zipped["Properties"]["Role"],
        "PackageType": "Image",
        "Code": {"ImageUri": uri},
    }
    assert stack.update(It=resource("AWS::Lambda::Function", **image)) == "UPDATE_ROLLBACK_COMPLETE"
    (reason,) = stack.reasons("CREATE_FAILED")
    assert "HandlerErrorCode: AlreadyExists" in reason
    assert aws.client("lambda").get_function(FunctionName="taken")["Configuration"]["PackageType"] == "Zip"


def test_a_change_of_code_replaces_nothing(aws: AwsSandbox) -> None:
    stack = Stack(aws)
    it = function(aws)
    stack.create(It=it)
    changed = {**it["Properties"], "MemorySize": 512, "Handler": "handler.other"}
    assert stack.update(It=resource("AWS::Lambda::Function", **changed)) == "UPDATE_COMPLETE"
    configuration = aws.client("lambda").get_function_configuration(FunctionName="taken")
    assert (configuration["MemorySize"], configuration["Handler"]) == (512, "handler.other")


def test_a_protected_table_is_not_deleted(aws: AwsSandbox) -> None:
    stack = Stack(aws)
    stack.create(
        It=resource("AWS::DynamoDB::Table", TableName="locks", DeletionProtectionEnabled=True, **TABLE)
    )
    assert stack.delete() == "DELETE_FAILED"
    assert set(stack.physical_ids) == {"It"}
    aws.client("dynamodb").update_table(TableName="locks", DeletionProtectionEnabled=False)
    assert stack.delete() == "DELETE_COMPLETE"


def test_a_bucket_with_objects_is_not_deleted(aws: AwsSandbox) -> None:
    stack, s3 = Stack(aws), aws.client("s3")
    versioned = {"Status": "Enabled"}
    stack.create(It=resource("AWS::S3::Bucket", BucketName="audit-log", VersioningConfiguration=versioned))
    s3.put_object(Bucket="audit-log", Key="1", Body=b"entry")
    assert stack.delete() == "DELETE_FAILED"
    # A delete marker hides the entry, and the bucket is not empty.
    s3.delete_object(Bucket="audit-log", Key="1")
    assert stack.delete() == "DELETE_FAILED"


def test_a_deleted_key_waits_and_its_alias_is_free(aws: AwsSandbox) -> None:
    stack, kms = Stack(aws), aws.client("kms")
    key = resource("AWS::KMS::Key", KeyPolicy=KEY_POLICY, PendingWindowInDays=7)
    alias = resource("AWS::KMS::Alias", AliasName="alias/mine", TargetKeyId={"Ref": "Key"})
    stack.create(Key=key, Alias=alias)
    key_id = stack.physical_ids["Key"]
    assert kms.describe_key(KeyId=key_id)["KeyMetadata"]["KeyUsage"] == "ENCRYPT_DECRYPT"
    assert stack.delete() == "DELETE_COMPLETE"
    assert kms.describe_key(KeyId=key_id)["KeyMetadata"]["KeyState"] == "PendingDeletion"
    assert Stack(aws, "again").create(Key=key, Alias=alias) == "CREATE_COMPLETE"


def test_a_retained_key_loses_its_alias_and_a_retained_alias_keeps_its_name(aws: AwsSandbox) -> None:
    stack, kms = Stack(aws), aws.client("kms")
    key = resource("AWS::KMS::Key", keep="RetainExceptOnCreate", KeyPolicy=KEY_POLICY)
    alias: dict[str, Any] = {"AliasName": "alias/mine", "TargetKeyId": {"Ref": "Key"}}
    stack.create(Key=key, Alias=resource("AWS::KMS::Alias", **alias))
    first = stack.physical_ids["Key"]
    stack.delete()
    assert kms.describe_key(KeyId=first)["KeyMetadata"]["KeyState"] == "Enabled"
    kept = resource("AWS::KMS::Alias", keep="RetainExceptOnCreate", **alias)
    assert stack.create(Key=key, Alias=kept) == "CREATE_COMPLETE"
    second = stack.physical_ids["Key"]
    stack.delete()
    assert kms.describe_key(KeyId="alias/mine")["KeyMetadata"]["KeyId"] == second
    assert stack.create(Key=key, Alias=kept) == "ROLLBACK_COMPLETE"


def test_the_spec_of_a_key_cannot_change(aws: AwsSandbox) -> None:
    stack = Stack(aws)
    stack.create(It=resource("AWS::KMS::Key", KeyPolicy=KEY_POLICY))
    hmac = resource("AWS::KMS::Key", KeyPolicy=KEY_POLICY, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    assert stack.update(It=hmac) == "UPDATE_ROLLBACK_COMPLETE"


def test_a_log_group_that_exists_is_not_what_a_stack_deletes(aws: AwsSandbox) -> None:
    aws.client("logs").create_log_group(logGroupName="log")
    stack = Stack(aws)
    assert stack.create(It=resource("AWS::Logs::LogGroup", LogGroupName="log")) == "ROLLBACK_COMPLETE"
    assert stack.delete() == "DELETE_COMPLETE"
    (group,) = aws.client("logs").describe_log_groups()["logGroups"]
    assert group["logGroupName"] == "log"


def test_a_role_that_others_use_is_not_deleted(aws: AwsSandbox) -> None:
    iam, stack = aws.client("iam"), Stack(aws)
    stack.create(It=resource("AWS::IAM::Role", RoleName="role", AssumeRolePolicyDocument=TRUST))
    iam.put_role_policy(RoleName="role", PolicyName="by-hand", PolicyDocument=json.dumps(DOCUMENT))
    assert stack.delete() == "DELETE_FAILED"


def test_a_policy_that_others_have_attached_is_not_deleted(aws: AwsSandbox) -> None:
    iam, stack = aws.client("iam"), Stack(aws)
    stack.create(
        It=resource("AWS::IAM::ManagedPolicy", ManagedPolicyName="runner", PolicyDocument=DOCUMENT),
        Topic=TOPIC,
    )
    iam.create_user(UserName="standby")
    iam.attach_user_policy(UserName="standby", PolicyArn=stack.physical_ids["It"])
    assert stack.delete() == "DELETE_FAILED"
    assert any("Cannot delete a policy attached to entities." in r for r in stack.reasons("DELETE_FAILED"))
    assert set(stack.physical_ids) == {"It"}
    iam.detach_user_policy(UserName="standby", PolicyArn=stack.physical_ids["It"])
    assert stack.delete() == "DELETE_COMPLETE"


def test_the_boundary_of_a_role_must_exist(aws: AwsSandbox) -> None:
    stack, iam = Stack(aws), aws.client("iam")
    boundary = f"arn:aws:iam::{aws.account_id}:policy/estate"
    it = resource(
        "AWS::IAM::Role", RoleName="role", AssumeRolePolicyDocument=TRUST, PermissionsBoundary=boundary
    )
    assert stack.create(It=it) == "ROLLBACK_COMPLETE"
    (reason,) = stack.reasons("CREATE_FAILED")
    assert "does not exist or is not attachable" in reason
    assert stack.delete() == "DELETE_COMPLETE"
    iam.create_policy(PolicyName="estate", PolicyDocument=json.dumps(DOCUMENT))
    assert stack.create(It=it) == "CREATE_COMPLETE"
