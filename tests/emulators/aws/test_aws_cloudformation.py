"""Every resource of a template is created, or the deployment fails."""

import json

import pytest
from botocore.exceptions import ClientError

from sandbox.emulators.aws import AwsSandbox


def deploy(aws: AwsSandbox, resource_type: str, **properties: object) -> str:
    resources = {"It": {"Type": resource_type, "Properties": properties}}
    client = aws.client("cloudformation")
    client.create_stack(StackName="stack", TemplateBody=json.dumps({"Resources": resources}))
    (made,) = client.describe_stack_resources(StackName="stack")["StackResources"]
    physical_id: str = made["PhysicalResourceId"]
    return physical_id


def test_a_key_has_the_spec_of_its_template(aws: AwsSandbox) -> None:
    key = deploy(aws, "AWS::KMS::Key", KeyPolicy={}, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    mac = aws.client("kms").generate_mac(KeyId=key, Message=b"digest", MacAlgorithm="HMAC_SHA_256")
    assert len(mac["Mac"]) == 32


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


def test_an_alias_leads_to_its_version(aws: AwsSandbox) -> None:
    definition = {"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}
    resources = {
        "Machine": {
            "Type": "AWS::StepFunctions::StateMachine",
            "Properties": {
                "StateMachineName": "machine",
                "DefinitionString": json.dumps(definition),
                "RoleArn": "arn:aws:iam::123456789012:role/machine",
            },
        },
        "Version": {
            "Type": "AWS::StepFunctions::StateMachineVersion",
            "Properties": {"StateMachineArn": {"Ref": "Machine"}},
        },
        "Live": {
            "Type": "AWS::StepFunctions::StateMachineAlias",
            "Properties": {
                "Name": "live",
                "DeploymentPreference": {
                    "Type": "CANARY",
                    "StateMachineVersionArn": {"Ref": "Version"},
                },
            },
        },
    }
    outputs = {"Live": {"Value": {"Ref": "Live"}}}
    client = aws.client("cloudformation")
    client.create_stack(
        StackName="stack", TemplateBody=json.dumps({"Resources": resources, "Outputs": outputs})
    )
    (told,) = client.describe_stacks(StackName="stack")["Stacks"][0]["Outputs"]
    alias = aws.client("stepfunctions").describe_state_machine_alias(stateMachineAliasArn=told["OutputValue"])
    (route,) = alias["routingConfiguration"]
    assert (route["stateMachineVersionArn"].rpartition(":")[2], route["weight"]) == ("1", 100)
