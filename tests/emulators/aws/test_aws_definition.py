"""The definitions that Step Functions refuses when a state machine is created."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.emulators.aws import AwsSandbox
from tests.emulators.aws.conftest import Runner, invoke

END: dict[str, Any] = {"Type": "Succeed"}


def _pass(**fields: object) -> dict[str, Any]:
    return {"Type": "Pass", **fields}


def _choice(to: str, default: str) -> dict[str, Any]:
    return {"Type": "Choice", "Choices": [{"Condition": True, "Next": to}], "Default": default}


def _map(inner: dict[str, Any], *, mode: str = "DISTRIBUTED", percentage: float = 100.0) -> dict[str, Any]:
    processor = {"ProcessorConfig": {"Mode": mode}, "StartAt": "Inner", "States": inner}
    fields = {"Items": [1], "ItemProcessor": processor, "ToleratedFailurePercentage": percentage}
    return {"Type": "Map", **fields, "End": True}


def _dynamodb(action: str, **arguments: object) -> dict[str, Any]:
    key = {"TableName": "locks", "Key": {"credential_id": {"S": "app"}}}
    resource = f"arn:aws:states:::dynamodb:{action}"
    return {"Type": "Task", "Resource": resource, "Arguments": {**key, **arguments}, "End": True}


def _retry(*retriers: dict[str, Any]) -> dict[str, Any]:
    return invoke("f", Retry=list(retriers))


DEFINITIONS: dict[str, tuple[dict[str, Any], str]] = {
    "choice": ({"First": _choice("Nowhere", "End"), "End": END}, "at /States/First/Choices[0]/Next"),
    "catch": (
        {"First": invoke("f", Catch=[{"ErrorEquals": ["States.ALL"], "Next": "Nowhere"}])},
        "at /States/First/Catch[0]/Next",
    ),
    "unreachable": ({"First": END, "Alone": END}, "State 'Alone' is not reachable"),
    "no way on": ({"First": _pass()}, "neither Next nor End"),
    "duplicate name": (
        {"First": _map({"Inner": _pass(Next="First"), "First": END})},
        "Duplicate state name: First",
    ),
    "wildcard not last": (
        {"First": _retry({"ErrorEquals": ["States.ALL"]}, {"ErrorEquals": ["X"]})},
        "States.ALL must appear alone and last at /States/First/Retry[0]/ErrorEquals",
    ),
    "misspelt retry field": ({"First": _retry({"ErrorEquals": ["X"], "MaxAttempt": 1})}, "MaxAttempt"),
    "field of another type": (
        {"First": _pass(End=True, TimeoutSeconds=5)},
        "Field 'TimeoutSeconds' is not supported at /States/First",
    ),
    "no JSONata in a map": (
        {"First": _map({"Inner": _pass(End=True, Output={"a": [{"b": "{% 1 + %}"}]})})},
        "at /States/First/ItemProcessor/States/Inner/Output/a[0]/b",
    ),
    "eval": ({"First": _pass(End=True, Output="{% $eval('1') %}")}, "$eval"),
    "argument the integration lacks": (
        {"First": _dynamodb("updateItem", ReturnValuesOnConditionCheckFailure="ALL_OLD")},
        "Field 'ReturnValuesOnConditionCheckFailure' is not supported at /States/First/Arguments",
    ),
    "action the integration lacks": ({"First": _dynamodb("query")}, "not recognized"),
    "inline map": ({"First": _map({"Inner": END}, mode="INLINE")}, "A Map that is not distributed"),
    "failures that count": ({"First": _map({"Inner": END}, percentage=99)}, "tolerate every failure"),
    "results in no file": ({"First": _map({"Inner": END})}, "A Map without a ResultWriter"),
}


@pytest.mark.parametrize(("states", "reason"), DEFINITIONS.values(), ids=DEFINITIONS)
def test_a_definition_that_cannot_run_is_refused(run: Runner, states: dict[str, Any], reason: str) -> None:
    with pytest.raises(ClientError) as found:
        run.create(states, "machine")
    assert found.value.response["Error"]["Code"] == "InvalidDefinition"
    assert reason in found.value.response["Error"]["Message"]


def test_an_update_is_checked_too_and_jsonpath_is_not_emulated(aws: AwsSandbox, run: Runner) -> None:
    arn = run.create({"First": END}, "machine")
    update = aws.client("stepfunctions").update_state_machine
    with pytest.raises(ClientError, match="NOT_EMULATED: A Succeed in JSONPath at /States/First") as found:
        update(stateMachineArn=arn, definition=json.dumps({"StartAt": "First", "States": {"First": END}}))
    assert found.value.response["Error"]["Code"] == "InvalidDefinition"
