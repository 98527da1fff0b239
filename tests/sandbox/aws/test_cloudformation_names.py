"""A name that exists is refused, whoever has it: CloudFormation takes nothing over."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from sandbox.aws import AwsSandbox
from tests.sandbox.aws.stacks import Resource, Stack, resource

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}
DOCUMENT = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}]}
DEFINITION = json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}})
ROLE = "arn:aws:iam::123456789012:role/machine"
TABLE: Mapping[str, Any] = {
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "BillingMode": "PAY_PER_REQUEST",
}
PLACEHOLDER = {"SecretStringTemplate": '{"placeholder": "x"}', "GenerateStringKey": "generated"}


def code(aws: AwsSandbox) -> Mapping[str, Any]:
    """A package that is uploaded."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("handler.py", "")
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="staging", CreateBucketConfiguration={"LocationConstraint": aws.region})
    s3.put_object(Bucket="staging", Key="code.zip", Body=archive.getvalue())
    return {"S3Bucket": "staging", "S3Key": "code.zip"}


def function(aws: AwsSandbox) -> Resource:
    role = aws.client("iam").create_role(RoleName="role", AssumeRolePolicyDocument=json.dumps(TRUST))
    return resource(
        "AWS::Lambda::Function",
        FunctionName="taken",
        Code=code(aws),
        Handler="handler.handler",
        Runtime="python3.13",
        Role=role["Role"]["Arn"],
    )


def alias(aws: AwsSandbox) -> Resource:
    key = aws.client("kms").create_key()["KeyMetadata"]["KeyId"]
    return resource("AWS::KMS::Alias", AliasName="alias/taken", TargetKeyId=key)


def metric_filter(aws: AwsSandbox) -> Resource:
    aws.client("logs").create_log_group(logGroupName="log")
    transformation = {"MetricNamespace": "N", "MetricName": "M", "MetricValue": "1"}
    return resource(
        "AWS::Logs::MetricFilter",
        FilterName="taken",
        LogGroupName="log",
        FilterPattern="",
        MetricTransformations=[transformation],
    )


NAMED: Mapping[str, Callable[[AwsSandbox], Resource]] = {
    "function": function,
    "table": lambda _: resource("AWS::DynamoDB::Table", TableName="taken", **TABLE),
    "bucket": lambda _: resource("AWS::S3::Bucket", BucketName="taken"),
    "secret": lambda _: resource(
        "AWS::SecretsManager::Secret", Name="taken", GenerateSecretString=PLACEHOLDER
    ),
    "alias": alias,
    "role": lambda _: resource("AWS::IAM::Role", RoleName="taken", AssumeRolePolicyDocument=TRUST),
    "managed policy": lambda _: resource(
        "AWS::IAM::ManagedPolicy", ManagedPolicyName="taken", PolicyDocument=DOCUMENT
    ),
    "log group": lambda _: resource("AWS::Logs::LogGroup", LogGroupName="taken"),
    "metric filter": metric_filter,
    "rule": lambda _: resource("AWS::Events::Rule", Name="taken", ScheduleExpression="rate(1 day)"),
    "topic": lambda _: resource("AWS::SNS::Topic", TopicName="taken"),
    "queue": lambda _: resource("AWS::SQS::Queue", QueueName="taken"),
    "state machine": lambda _: resource(
        "AWS::StepFunctions::StateMachine",
        StateMachineName="taken",
        DefinitionString=DEFINITION,
        RoleArn=ROLE,
    ),
    "alarm": lambda _: resource(
        "AWS::CloudWatch::Alarm",
        AlarmName="taken",
        Namespace="N",
        MetricName="M",
        Statistic="Sum",
        Period=300,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    ),
    "dashboard": lambda _: resource(
        "AWS::CloudWatch::Dashboard", DashboardName="taken", DashboardBody='{"widgets": []}'
    ),
    "parameter": lambda _: resource("AWS::SSM::Parameter", Name="taken", Type="String", Value="x"),
    "repository": lambda _: resource("AWS::ECR::Repository", RepositoryName="taken"),
}


@pytest.mark.parametrize("what", NAMED)
def test_a_name_that_exists_is_refused(aws: AwsSandbox, what: str) -> None:
    it = NAMED[what](aws)
    first, second = Stack(aws, "first"), Stack(aws, "second")
    assert first.create(It=it) == "CREATE_COMPLETE"
    assert second.create(It=it) == "ROLLBACK_COMPLETE"
    (reason,) = second.reasons("CREATE_FAILED")
    assert "HandlerErrorCode: AlreadyExists" in reason
    # The owner keeps what it has.
    assert first.delete() == "DELETE_COMPLETE"
    assert second.delete() == "DELETE_COMPLETE"
    assert Stack(aws, "third").create(It=it) == "CREATE_COMPLETE"


def test_the_name_of_a_secret_that_is_scheduled_for_deletion_is_taken(aws: AwsSandbox) -> None:
    secrets = aws.client("secretsmanager")
    secrets.create_secret(Name="taken", SecretString="in use")
    secrets.delete_secret(SecretId="taken")
    stack = Stack(aws)
    assert stack.create(It=NAMED["secret"](aws)) == "ROLLBACK_COMPLETE"
    (reason,) = stack.reasons("CREATE_FAILED")
    assert "scheduled for deletion" in reason
