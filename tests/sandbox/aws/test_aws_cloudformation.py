"""Every resource of a template is created, or the deployment fails."""

import json

import pytest
from botocore.exceptions import ClientError

from sandbox.aws import AwsSandbox

PLACEHOLDER = {"SecretStringTemplate": '{"placeholder": "x"}', "GenerateStringKey": "generated"}


def deploy(aws: AwsSandbox, resource_type: str, **properties: object) -> str:
    resources = {"It": {"Type": resource_type, "Properties": properties}}
    client = aws.client("cloudformation")
    client.create_stack(StackName="stack", TemplateBody=json.dumps({"Resources": resources}))
    (made,) = client.describe_stack_resources(StackName="stack")["StackResources"]
    physical_id: str = made["PhysicalResourceId"]
    return physical_id


def test_a_secret_generates_its_value(aws: AwsSandbox) -> None:
    arn = deploy(
        aws, "AWS::SecretsManager::Secret", Name="multi-cloud/app_user", GenerateSecretString=PLACEHOLDER
    )
    reply = aws.client("secretsmanager").get_secret_value(SecretId="multi-cloud/app_user")
    assert reply["ARN"] == arn
    content = json.loads(reply["SecretString"])
    assert (content["placeholder"], len(content["generated"])) == ("x", 32)


@pytest.mark.parametrize(("described", "overwritten"), [("the same", False), ("by other rules", True)])
def test_a_value_is_overwritten_only_when_its_rules_change(
    aws: AwsSandbox, described: str, *, overwritten: bool
) -> None:
    deploy(aws, "AWS::SecretsManager::Secret", Name="secret", GenerateSecretString=PLACEHOLDER)
    secrets = aws.client("secretsmanager")
    secrets.put_secret_value(SecretId="secret", SecretString="in use")
    rules = {**PLACEHOLDER, "PasswordLength": 40} if overwritten else PLACEHOLDER
    changed = {
        "Type": "AWS::SecretsManager::Secret",
        "Properties": {"Name": "secret", "GenerateSecretString": rules},
    }
    more = {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": described}}
    aws.client("cloudformation").update_stack(
        StackName="stack", TemplateBody=json.dumps({"Resources": {"It": changed, "More": more}})
    )
    assert (secrets.get_secret_value(SecretId="secret")["SecretString"] != "in use") is overwritten


def test_a_key_has_the_spec_of_its_template(aws: AwsSandbox) -> None:
    key = deploy(aws, "AWS::KMS::Key", KeyPolicy={}, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    mac = aws.client("kms").generate_mac(KeyId=key, Message=b"digest", MacAlgorithm="HMAC_SHA_256")
    assert len(mac["Mac"]) == 32


def test_a_bucket_locks_its_objects(aws: AwsSandbox) -> None:
    deploy(
        aws,
        "AWS::S3::Bucket",
        BucketName="audit-log",
        VersioningConfiguration={"Status": "Enabled"},
        ObjectLockEnabled=True,
        ObjectLockConfiguration={"Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 400}}},
    )
    s3 = aws.client("s3")
    s3.put_object(Bucket="audit-log", Key="1", Body=b"entry", ChecksumAlgorithm="SHA256")
    assert s3.head_object(Bucket="audit-log", Key="1")["ObjectLockMode"] == "COMPLIANCE"


def test_a_definition_gets_its_substitutions(aws: AwsSandbox) -> None:
    definition = {"StartAt": "End", "States": {"End": {"Type": "Succeed", "Comment": "${Named} ${Unnamed}"}}}
    machine = deploy(
        aws,
        "AWS::StepFunctions::StateMachine",
        DefinitionString=json.dumps(definition),
        DefinitionSubstitutions={"Named": "table"},
        RoleArn="arn:aws:iam::123456789012:role/machine",
    )
    deployed = aws.client("stepfunctions").describe_state_machine(stateMachineArn=machine)["definition"]
    assert json.loads(deployed)["States"]["End"]["Comment"] == "table ${Unnamed}"


def test_an_unknown_type_fails(aws: AwsSandbox) -> None:
    with pytest.raises(ClientError, match="AWS::Nobody::KnowsThis"):
        deploy(aws, "AWS::Nobody::KnowsThis")
