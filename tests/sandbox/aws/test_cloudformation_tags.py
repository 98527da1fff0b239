"""Tags: those of the stack, over them those of the template, and CloudFormation's own."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from sandbox.aws import AwsSandbox
from sandbox.aws.executions import Client
from tests.sandbox.aws.stacks import Stack
from tests.sandbox.aws.test_cloudformation_names import NAMED

Tags = Mapping[str, str]


def pairs(tags: list[Mapping[str, Any]], key: str = "Key", value: str = "Value") -> Tags:
    return {tag[key]: tag[value] for tag in tags}


READ: Mapping[str, tuple[str, Callable[[Client, str], Tags]]] = {
    "function": ("lambda", lambda c, i: c.get_function(FunctionName=i)["Tags"]),
    "table": (
        "dynamodb",
        lambda c, i: pairs(
            c.list_tags_of_resource(ResourceArn=c.describe_table(TableName=i)["Table"]["TableArn"])["Tags"]
        ),
    ),
    "bucket": ("s3", lambda c, i: pairs(c.get_bucket_tagging(Bucket=i)["TagSet"])),
    "secret": ("secretsmanager", lambda c, i: pairs(c.describe_secret(SecretId=i)["Tags"])),
    "role": ("iam", lambda c, i: pairs(c.list_role_tags(RoleName=i)["Tags"])),
    "managed policy": ("iam", lambda c, i: pairs(c.list_policy_tags(PolicyArn=i)["Tags"])),
    "log group": ("logs", lambda c, i: c.list_tags_log_group(logGroupName=i)["tags"]),
    "topic": ("sns", lambda c, i: pairs(c.list_tags_for_resource(ResourceArn=i)["Tags"])),
    "queue": ("sqs", lambda c, i: c.list_queue_tags(QueueUrl=i)["Tags"]),
    "state machine": (
        "stepfunctions",
        lambda c, i: pairs(c.list_tags_for_resource(resourceArn=i)["tags"], "key", "value"),
    ),
    "rule": (
        "events",
        lambda c, i: pairs(c.list_tags_for_resource(ResourceARN=c.describe_rule(Name=i)["Arn"])["Tags"]),
    ),
    "alarm": (
        "cloudwatch",
        lambda c, i: pairs(
            c.list_tags_for_resource(
                ResourceARN=c.describe_alarms(AlarmNames=[i])["MetricAlarms"][0]["AlarmArn"]
            )["Tags"]
        ),
    ),
}


def with_tags(it: Mapping[str, Any], tags: Tags) -> Mapping[str, Any]:
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    return {**it, "Properties": {**it["Properties"], "Tags": listed}}


@pytest.mark.parametrize("what", READ)
def test_a_resource_has_its_tags(aws: AwsSandbox, what: str) -> None:
    service, read = READ[what]
    stack, it = Stack(aws), NAMED[what](aws)
    stack.create(
        It=with_tags(it, {"own": "template", "both": "template"}), tags={"both": "stack", "team": "stack"}
    )
    physical_id = stack.physical_ids["It"]
    tags = read(aws.client(service), physical_id)
    assert {"own": "template", "both": "template", "team": "stack"}.items() <= tags.items()
    assert tags["aws:cloudformation:stack-name"] == "stack"
    assert tags["aws:cloudformation:logical-id"] == "It"
    changed = with_tags(it, {"both": "changed"})
    assert stack.update(It=changed, tags={"team": "other"}) == "UPDATE_COMPLETE"
    tags = read(aws.client(service), physical_id)
    assert {k: v for k, v in tags.items() if not k.startswith("aws:")} == {"both": "changed", "team": "other"}


def test_a_key_has_its_tags(aws: AwsSandbox) -> None:
    stack, kms = Stack(aws), aws.client("kms")
    key: Any = {"Type": "AWS::KMS::Key", "Properties": {"KeyPolicy": json.loads('{"Statement": []}')}}
    stack.create(It=with_tags(key, {"own": "template"}))
    tags = pairs(kms.list_resource_tags(KeyId=stack.physical_ids["It"])["Tags"], "TagKey", "TagValue")
    assert tags["own"] == "template"
    assert tags["aws:cloudformation:stack-name"] == "stack"
