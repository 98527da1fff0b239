"""The definitions that Step Functions refuses when a state machine is created."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.emulators.aws import AwsSandbox
from tests.emulators.aws.conftest import ROLE, invoke

_END: dict[str, Any] = {"Type": "Succeed"}


def _map(inner: dict[str, Any]) -> dict[str, Any]:
    processor = {"ProcessorConfig": {"Mode": "INLINE"}, "StartAt": "Inner", "States": inner}
    return {"Type": "Map", "Items": [1], "ItemProcessor": processor, "End": True}


def _dynamodb(action: str, **arguments: object) -> dict[str, Any]:
    return {
        "Type": "Task",
        "Resource": f"arn:aws:states:::dynamodb:{action}",
        "Arguments": {"TableName": "locks", "Key": {"credential_id": {"S": "app"}}, **arguments},
        "End": True,
    }


def _create(aws: AwsSandbox, states: dict[str, Any], **top: object) -> None:
    definition = {"QueryLanguage": "JSONata", "StartAt": "First", "States": states, **top}
    aws.client("stepfunctions").create_state_machine(
        name="machine", definition=json.dumps(definition), roleArn=ROLE
    )


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        pytest.param(
            {"First": {"Type": "Pass", "Next": "Nowhere"}}, "Missing target state 'Nowhere'", id="next"
        ),
        pytest.param(
            {
                "First": {
                    "Type": "Choice",
                    "Choices": [{"Condition": True, "Next": "Nowhere"}],
                    "Default": "End",
                }
            }
            | {"End": _END},
            "at /States/First/Choices[0]/Next",
            id="choice",
        ),
        pytest.param(
            {
                "First": {
                    "Type": "Choice",
                    "Choices": [{"Condition": True, "Next": "End"}],
                    "Default": "Nowhere",
                }
            }
            | {"End": _END},
            "at /States/First/Default",
            id="default",
        ),
        pytest.param(
            {"First": invoke("f", Catch=[{"ErrorEquals": ["States.ALL"], "Next": "Nowhere"}])},
            "at /States/First/Catch[0]/Next",
            id="catch",
        ),
        pytest.param(
            {"First": _map({"Inner": {"Type": "Pass", "Next": "First"}})},
            "Missing target state 'First' at /States/First/ItemProcessor/States/Inner/Next",
            id="out of a map",
        ),
        pytest.param({"Second": _END}, "Missing target state 'First' at /StartAt", id="start"),
        pytest.param({"First": _END, "Alone": _END}, "State 'Alone' is not reachable", id="unreachable"),
        pytest.param(
            {"First": _END, "A": {"Type": "Pass", "Next": "B"}, "B": {"Type": "Pass", "Next": "A"}},
            "State 'B' is not reachable",
            id="unreachable cycle",
        ),
        pytest.param({"First": {"Type": "Pass"}}, "neither Next nor End", id="no way on"),
        pytest.param(
            {"First": _map({"Inner": {"Type": "Pass", "Next": "First"}, "First": _END})},
            "Duplicate state name: First",
            id="duplicate name",
        ),
        pytest.param(
            {"First": invoke("f", Retry=[{"ErrorEquals": ["States.ALL"]}, {"ErrorEquals": ["X"]}])},
            "States.ALL must appear alone and last at /States/First/Retry[0]/ErrorEquals",
            id="wildcard not last",
        ),
        pytest.param(
            {"First": invoke("f", Retry=[{"ErrorEquals": ["X", "States.ALL"]}])},
            "States.ALL must appear alone",
            id="wildcard not alone",
        ),
        pytest.param(
            {"First": invoke("f", Retry=[{"ErrorEquals": ["X"], "MaxAttempt": 1}])},
            "MaxAttempt",
            id="misspelt retry field",
        ),
        pytest.param(
            {"First": {"Type": "Pass", "End": True, "TimeoutSeconds": 5}},
            "Field 'TimeoutSeconds' is not supported at /States/First",
            id="field of another type",
        ),
        pytest.param(
            {"First": {"Type": "Pass", "End": True, "Output": {"a": [{"b": "{% 1 + %}"}]}}},
            "at /States/First/Output/a[0]/b",
            id="no JSONata",
        ),
        pytest.param(
            {"First": _map({"Inner": {"Type": "Pass", "End": True, "Output": "{% ( %}"}})},
            "at /States/First/ItemProcessor/States/Inner/Output",
            id="no JSONata in a map",
        ),
        pytest.param(
            {"First": {"Type": "Pass", "End": True, "Output": "{% $eval('1') %}"}}, "$eval", id="eval"
        ),
        pytest.param(
            {"First": _dynamodb("updateItem", ReturnValuesOnConditionCheckFailure="ALL_OLD")},
            "Field 'ReturnValuesOnConditionCheckFailure' is not supported at /States/First/Arguments",
            id="argument the integration lacks",
        ),
        pytest.param({"First": _dynamodb("query")}, "not recognized", id="action the integration lacks"),
    ],
)
def test_a_definition_that_cannot_run_is_refused(
    aws: AwsSandbox, states: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ClientError) as refused:
        _create(aws, states)
    assert refused.value.response["Error"]["Code"] == "InvalidDefinition"
    assert reason in refused.value.response["Error"]["Message"]


def test_an_update_is_checked_too(aws: AwsSandbox) -> None:
    _create(aws, {"First": _END})
    stepfunctions = aws.client("stepfunctions")
    arn = stepfunctions.list_state_machines()["stateMachines"][0]["stateMachineArn"]
    with pytest.raises(stepfunctions.exceptions.InvalidDefinition):
        stepfunctions.update_state_machine(
            stateMachineArn=arn, definition='{"StartAt": "First", "States": {"Second": {"Type": "Succeed"}}}'
        )
