"""What fails is rolled back: a creation to nothing but what is retained, an update to what there was."""

import pytest
from botocore.exceptions import ClientError

from sandbox.aws import AwsSandbox
from tests.sandbox.aws.stacks import Resource, Stack, resource
from tests.sandbox.aws.test_cloudformation_names import DOCUMENT, PLACEHOLDER, TABLE, TRUST


def secret(name: str, *, keep: str | None = None) -> Resource:
    return resource("AWS::SecretsManager::Secret", Name=name, keep=keep, GenerateSecretString=PLACEHOLDER)


def colliding(after: str) -> Resource:
    """A resource that cannot be created, since its name is taken."""
    return {**resource("AWS::Logs::LogGroup", LogGroupName="taken"), "DependsOn": after}


@pytest.fixture(autouse=True)
def _taken(aws: AwsSandbox) -> None:
    aws.client("logs").create_log_group(logGroupName="taken")


def names(aws: AwsSandbox) -> list[str]:
    return sorted(s["Name"] for s in aws.client("secretsmanager").list_secrets()["SecretList"])


@pytest.mark.parametrize(
    ("keep", "left"), [(None, []), ("Delete", []), ("RetainExceptOnCreate", []), ("Retain", ["it"])]
)
def test_a_failed_creation_keeps_only_what_has_retain(
    aws: AwsSandbox, keep: str | None, left: list[str]
) -> None:
    stack = Stack(aws)
    assert stack.create(It=secret("it", keep=keep), Bad=colliding("It")) == "ROLLBACK_COMPLETE"
    assert names(aws) == left
    assert stack.happened("It")[-1] == ("DELETE_SKIPPED" if left else "DELETE_COMPLETE")
    assert stack.physical_ids == {}
    # The same can be tried again only after the names are free.
    assert stack.delete() == "DELETE_COMPLETE"
    aws.client("logs").delete_log_group(logGroupName="taken")
    assert stack.create(It=secret("it"), Bad=colliding("It")) == (
        "ROLLBACK_COMPLETE" if left else "CREATE_COMPLETE"
    )


def test_a_stack_that_was_rolled_back_cannot_be_updated(aws: AwsSandbox) -> None:
    stack = Stack(aws)
    stack.create(It=secret("it"), Bad=colliding("It"))
    with pytest.raises(ClientError, match="is in ROLLBACK_COMPLETE state and can not be updated"):
        stack.update(It=secret("it"))
    with pytest.raises(ClientError, match="already exists and cannot be created again"):
        stack.create(It=secret("it"))


def test_a_failed_update_restores_what_there_was(aws: AwsSandbox) -> None:
    stack = Stack(aws)
    stack.create(It=secret("it"), Locks=resource("AWS::DynamoDB::Table", TableName="locks", **TABLE))
    protected = resource("AWS::DynamoDB::Table", TableName="locks", **TABLE, DeletionProtectionEnabled=True)
    status = stack.update(It=secret("it"), Locks=protected, New=secret("new"), Bad=colliding("New"))
    assert status == "UPDATE_ROLLBACK_COMPLETE"
    assert names(aws) == ["it"]
    assert set(stack.physical_ids) == {"It", "Locks"}
    described = aws.client("dynamodb").describe_table(TableName="locks")["Table"]
    assert not described.get("DeletionProtectionEnabled")
    # The stack takes the next update, and what it had created is made again.
    aws.client("logs").delete_log_group(logGroupName="taken")
    assert stack.update(It=secret("it"), Locks=protected, New=secret("new"), Bad=colliding("New")) == (
        "UPDATE_COMPLETE"
    )
    assert names(aws) == ["it", "new"]


@pytest.mark.parametrize(("keep", "left"), [("RetainExceptOnCreate", []), ("Retain", ["new"])])
def test_a_failed_update_keeps_only_new_things_that_have_retain(
    aws: AwsSandbox, keep: str, left: list[str]
) -> None:
    stack = Stack(aws)
    stack.create(Topic=resource("AWS::SNS::Topic", TopicName="topic"))
    topic = resource("AWS::SNS::Topic", TopicName="topic")
    stack.update(Topic=topic, New=secret("new", keep=keep), Bad=colliding("New"))
    assert names(aws) == left
    assert stack.status == "UPDATE_ROLLBACK_COMPLETE"


def test_what_a_failed_update_replaced_is_there_as_before(aws: AwsSandbox) -> None:
    stack = Stack(aws)
    stack.create(It=secret("before"))
    arn = stack.physical_ids["It"]
    stack.update(It=secret("after"), Bad=colliding("It"))
    assert names(aws) == ["before"]
    assert stack.physical_ids["It"] == arn


def test_a_rollback_that_cannot_delete_says_so(aws: AwsSandbox) -> None:
    """Something else attached a policy to the role that was just made."""
    iam = aws.client("iam")
    stack = Stack(aws)
    policy = resource(
        "AWS::IAM::ManagedPolicy",
        keep="Retain",
        PolicyDocument=DOCUMENT,
        Roles=[{"Ref": "Role"}],
    )
    role = resource("AWS::IAM::Role", RoleName="role", AssumeRolePolicyDocument=TRUST)
    assert stack.create(Role=role, Policy=policy, Bad=colliding("Policy")) == "ROLLBACK_FAILED"
    assert set(stack.physical_ids) == {"Role"}
    (attached,) = iam.list_attached_role_policies(RoleName="role")["AttachedPolicies"]
    iam.detach_role_policy(RoleName="role", PolicyArn=attached["PolicyArn"])
    assert stack.delete() == "DELETE_COMPLETE"


def test_a_change_set_belongs_to_its_stack(aws: AwsSandbox) -> None:
    """The CDK CLI gives all of them one name, and waits until the one that it has deleted is gone."""
    first, second = Stack(aws, "first"), Stack(aws, "second")
    first.create(It=secret("one"))
    second.create(It=secret("two"))
    client = aws.client("cloudformation")
    found = client.describe_change_set(StackName="first", ChangeSetName="change")
    assert found["StackName"] == "first"
    client.delete_change_set(StackName="first", ChangeSetName="change")
    with pytest.raises(ClientError, match="does not exist") as gone:
        client.describe_change_set(StackName="first", ChangeSetName="change")
    assert gone.value.response["Error"]["Code"] == "ChangeSetNotFound"
    assert client.describe_change_set(StackName="second", ChangeSetName="change")["StackName"] == "second"
