"""The quotas that a stack meets, as the services count."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.aws import AwsSandbox
from tests.sandbox.aws.stacks import Resource, Stack, resource
from tests.sandbox.aws.test_cloudformation_names import TRUST


def document(characters: int) -> dict[str, Any]:
    """A policy of exactly this many characters, without white space."""
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": ""}
    empty = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":""}]}'
    statement["Resource"] = "arn:aws:s3:::".ljust(characters - len(empty), "x")
    return {"Version": "2012-10-17", "Statement": [statement]}


def role(*sizes: int) -> Resource:
    policies = [{"PolicyName": f"p{n}", "PolicyDocument": document(size)} for n, size in enumerate(sizes)]
    return resource("AWS::IAM::Role", RoleName="role", AssumeRolePolicyDocument=TRUST, Policies=policies)


@pytest.mark.parametrize(("size", "status"), [(6144, "CREATE_COMPLETE"), (6145, "ROLLBACK_COMPLETE")])
def test_a_managed_policy_has_6144_characters(aws: AwsSandbox, size: int, status: str) -> None:
    stack = Stack(aws)
    assert stack.create(It=resource("AWS::IAM::ManagedPolicy", PolicyDocument=document(size))) == status
    assert aws.client("iam").list_policies(Scope="Local")["Policies"] == [] or status == "CREATE_COMPLETE"


@pytest.mark.parametrize(
    ("sizes", "status"),
    [((10240,), "CREATE_COMPLETE"), ((5120, 5120), "CREATE_COMPLETE"), ((5120, 5121), "ROLLBACK_COMPLETE")],
)
def test_the_inline_policies_of_a_role_have_10240_characters_together(
    aws: AwsSandbox, sizes: tuple[int, ...], status: str
) -> None:
    stack = Stack(aws)
    assert stack.create(It=role(*sizes)) == status
    # Nothing is left of a role whose policies are refused.
    assert bool(aws.client("iam").list_roles()["Roles"]) == (status == "CREATE_COMPLETE")


def test_a_policy_of_its_own_counts_as_an_inline_policy_of_its_role(aws: AwsSandbox) -> None:
    more = resource(
        "AWS::IAM::Policy", PolicyName="more", PolicyDocument=document(5121), Roles=[{"Ref": "Role"}]
    )
    assert Stack(aws).create(Role=role(5120), More=more) == "ROLLBACK_COMPLETE"


@pytest.mark.parametrize(("count", "status"), [(20, "CREATE_COMPLETE"), (21, "ROLLBACK_COMPLETE")])
def test_a_queue_policy_has_20_statements(aws: AwsSandbox, count: int, status: str) -> None:
    queue = resource("AWS::SQS::Queue", QueueName="queue")
    statements = [
        {
            "Sid": f"S{n}",
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": "*",
        }
        for n in range(count)
    ]
    policy = resource(
        "AWS::SQS::QueuePolicy",
        Queues=[{"Ref": "Queue"}],
        PolicyDocument={"Version": "2012-10-17", "Statement": statements},
    )
    assert Stack(aws).create(Queue=queue, Policy=policy) == status


def test_a_bus_has_300_rules(aws: AwsSandbox) -> None:
    """The rules of everybody in the account count."""
    events = aws.client("events")
    for number in range(299):
        events.put_rule(Name=f"rule-{number}", ScheduleExpression="rate(1 day)")
    rule = resource("AWS::Events::Rule", ScheduleExpression="rate(1 day)")
    assert Stack(aws, "fits").create(It=rule) == "CREATE_COMPLETE"
    assert Stack(aws, "one-more").create(It=rule) == "ROLLBACK_COMPLETE"


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({f"T{n}": resource("AWS::SNS::Topic") for n in range(501)}, "Number of resources, 501"),
        ({"T": resource("AWS::SNS::Topic", DisplayName="x" * 1_000_000)}, "Template size"),
        (
            {"T": resource("AWS::SNS::Topic", DisplayName={"Ref": "Gone"})},
            r"Unresolved resource dependencies \[Gone\]",
        ),
        (
            {
                "A": resource("AWS::SNS::Topic", DisplayName={"Fn::GetAtt": ["B", "TopicName"]}),
                "B": resource("AWS::SNS::Topic", DisplayName={"Fn::GetAtt": ["A", "TopicName"]}),
            },
            "Circular dependency",
        ),
    ],
    ids=["resources", "bytes", "unresolved", "circular"],
)
def test_a_template_is_refused_before_anything_is_touched(
    aws: AwsSandbox, resources: dict[str, Any], words: str
) -> None:
    with pytest.raises(ClientError, match=words):
        Stack(aws).create(**resources)
    assert aws.client("cloudformation").list_stacks()["StackSummaries"] == []
