"""Every resource of a template is created, or the deployment fails."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.emulators.aws import AwsSandbox
from tests.emulators.aws.conftest import ROLE

DEFINITION = {
    "QueryLanguage": "JSONata",
    "StartAt": "End",
    "States": {"End": {"Type": "Succeed", "Comment": "${Named} ${Unnamed}"}},
}


def deploy(aws: AwsSandbox, **resources: tuple[str, dict[str, Any]]) -> dict[str, str]:
    """Deploy resources; their names, by those in the template."""
    listed = {name: {"Type": kind, "Properties": given} for name, (kind, given) in resources.items()}
    client = aws.client("cloudformation")
    client.create_stack(StackName="stack", TemplateBody=json.dumps({"Resources": listed}))
    made = client.describe_stack_resources(StackName="stack")["StackResources"]
    return {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in made}


def test_a_definition_gets_its_substitutions_and_an_alias_leads_to_its_version(aws: AwsSandbox) -> None:
    preference = {"Type": "CANARY", "StateMachineVersionArn": {"Ref": "Version"}}
    made = deploy(
        aws,
        Machine=(
            "AWS::StepFunctions::StateMachine",
            {
                "DefinitionString": json.dumps(DEFINITION),
                "DefinitionSubstitutions": {"Named": "table"},
                "RoleArn": ROLE,
            },
        ),
        Version=("AWS::StepFunctions::StateMachineVersion", {"StateMachineArn": {"Ref": "Machine"}}),
        Live=("AWS::StepFunctions::StateMachineAlias", {"Name": "live", "DeploymentPreference": preference}),
    )
    states = aws.client("stepfunctions")
    deployed = states.describe_state_machine(stateMachineArn=made["Machine"])["definition"]
    assert json.loads(deployed)["States"]["End"]["Comment"] == "table ${Unnamed}"
    (route,) = states.describe_state_machine_alias(stateMachineAliasArn=made["Live"])["routingConfiguration"]
    assert (route["stateMachineVersionArn"], route["weight"]) == (made["Version"], 100)


def test_an_unknown_type_fails(aws: AwsSandbox) -> None:
    with pytest.raises(ClientError, match="AWS::Nobody::KnowsThis"):
        deploy(aws, It=("AWS::Nobody::KnowsThis", {}))
