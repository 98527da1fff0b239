"""Versions of functions and state machines as on AWS: immutable, numbered once, found by their ARN alone."""

import io
import json
import zipfile
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.emulators.aws import AwsSandbox, InvocationResult
from sandbox.emulators.aws.executions import Client

ROLE = "arn:aws:iam::123456789012:role/machine"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}


def definition(says: str) -> str:
    """A machine whose executions say a word."""
    state = {"Type": "Succeed", "Output": says}
    return json.dumps({"QueryLanguage": "JSONata", "StartAt": "Say", "States": {"Say": state}})


def package(text: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("code.py", text)
    return data.getvalue()


def refused(call: Any, **arguments: object) -> str:  # noqa: ANN401 - a method of a boto3 client
    with pytest.raises(ClientError) as error:
        call(**arguments)
    code: str = error.value.response["Error"]["Code"]
    return code


@pytest.fixture(name="states")
def _states(aws: AwsSandbox) -> Client:
    return aws.client("stepfunctions")


@pytest.fixture(name="machine")
def _machine(states: Client) -> str:
    arn: str = states.create_state_machine(name="machine", definition=definition("one"), roleArn=ROLE)[
        "stateMachineArn"
    ]
    return arn


@pytest.fixture(name="function")
def _function(aws: AwsSandbox) -> Client:
    role = aws.client("iam").create_role(RoleName="function", AssumeRolePolicyDocument=json.dumps(TRUST))[
        "Role"
    ]
    client = aws.client("lambda")
    client.create_function(
        FunctionName="function",
        Role=role["Arn"],
        Runtime="python3.11",
        Handler="code.handler",
        Code={"ZipFile": package("one")},
    )
    return client


def publish(states: Client, machine: str) -> str:
    arn: str = states.publish_state_machine_version(stateMachineArn=machine)["stateMachineVersionArn"]
    return arn


def test_a_version_runs_what_it_was_published_with(aws: AwsSandbox, states: Client, machine: str) -> None:
    first = publish(states, machine)
    assert first == f"{machine}:1"
    states.update_state_machine(stateMachineArn=machine, definition=definition("two"))
    assert publish(states, machine) == f"{machine}:2"
    said = [aws.run_execution(arn, {}).output for arn in (first, f"{machine}:2", machine)]
    assert said == ["one", "two", "two"]
    shown = states.describe_state_machine(stateMachineArn=first)
    assert (shown["stateMachineArn"], shown["definition"]) == (first, definition("one"))


def test_a_revision_is_published_once(states: Client, machine: str) -> None:
    assert "revisionId" not in states.describe_state_machine(stateMachineArn=machine)
    assert publish(states, machine) == publish(states, machine) == f"{machine}:1"
    # The same configuration again is no new revision.
    states.update_state_machine(stateMachineArn=machine, definition=definition("one"))
    assert publish(states, machine) == f"{machine}:1"
    states.update_state_machine(stateMachineArn=machine, definition=definition("two"))
    revision = states.describe_state_machine(stateMachineArn=machine)["revisionId"]
    assert (
        refused(states.publish_state_machine_version, stateMachineArn=machine, revisionId="INITIAL")
        == "ConflictException"
    )
    states.publish_state_machine_version(stateMachineArn=machine, revisionId=revision)
    listed = states.list_state_machine_versions(stateMachineArn=machine)["stateMachineVersions"]
    assert [v["stateMachineVersionArn"] for v in listed] == [f"{machine}:2", f"{machine}:1"]


def test_an_alias_starts_the_version_that_it_names(aws: AwsSandbox, states: Client, machine: str) -> None:
    first = publish(states, machine)
    alias = states.create_state_machine_alias(
        name="live", routingConfiguration=[{"stateMachineVersionArn": first, "weight": 100}]
    )["stateMachineAliasArn"]
    assert alias == f"{machine}:live"
    states.update_state_machine(stateMachineArn=machine, definition=definition("two"))
    second = publish(states, machine)
    execution = aws.run_execution(alias, {}, name="a-name")
    # The execution's own ARN has neither version nor alias.
    assert execution.arn == machine.replace(":stateMachine:", ":execution:") + ":a-name"
    assert execution.output == "one"
    shown = states.describe_execution(executionArn=execution.arn)
    assert (shown["stateMachineArn"], shown["stateMachineVersionArn"], shown["stateMachineAliasArn"]) == (
        machine,
        first,
        alias,
    )
    states.update_state_machine_alias(
        stateMachineAliasArn=alias, routingConfiguration=[{"stateMachineVersionArn": second, "weight": 100}]
    )
    assert aws.run_execution(alias, {}).output == "two"
    # A name is taken for all versions.
    assert refused(states.start_execution, stateMachineArn=second, name="a-name") == "ExecutionAlreadyExists"
    assert len(states.list_executions(stateMachineArn=alias)["executions"]) == 2
    assert [e["name"] for e in states.list_executions(stateMachineArn=first)["executions"]] == ["a-name"]


@pytest.mark.parametrize("qualifier", ["2", "canary"])
def test_a_version_or_alias_that_does_not_exist_starts_nothing(
    states: Client, machine: str, qualifier: str
) -> None:
    publish(states, machine)
    assert (
        refused(states.start_execution, stateMachineArn=f"{machine}:{qualifier}")
        == "StateMachineDoesNotExist"
    )


def test_a_version_of_a_function_keeps_its_code_and_its_number(function: Client) -> None:
    first = function.publish_version(FunctionName="function")
    assert first["FunctionArn"].endswith(":function:function:1")
    # Nothing has changed.
    assert function.publish_version(FunctionName="function")["Version"] == "1"
    function.update_function_code(FunctionName="function", ZipFile=package("two"))
    second = function.publish_version(FunctionName="function")
    hashes = [
        function.get_function_configuration(FunctionName="function", Qualifier=q)["CodeSha256"]
        for q in ("1", "2", "$LATEST")
    ]
    assert hashes == [first["CodeSha256"], second["CodeSha256"], second["CodeSha256"]]
    assert hashes[0] != hashes[1]
    function.delete_function(FunctionName="function", Qualifier="2")
    assert function.publish_version(FunctionName="function")["Version"] == "3"


def test_a_version_is_not_called_by_another_name(aws: AwsSandbox) -> None:
    aws.lambda_host.register_handler("echo", lambda event, _: event)
    assert refused(aws.client("lambda").invoke, FunctionName="echo:1") == "ResourceNotFoundException"
    aws.lambda_host.register("echo", lambda payload, _: InvocationResult(payload), version="1")
    reply = aws.client("lambda").invoke(FunctionName="echo", Qualifier="1", Payload=b"7")
    assert (reply["Payload"].read(), reply["ExecutedVersion"]) == (b"7", "1")
    assert refused(aws.client("lambda").invoke, FunctionName="echo:2") == "ResourceNotFoundException"
