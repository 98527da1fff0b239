"""Versions of functions and state machines as on AWS: immutable, numbered once, found by their ARN alone."""

import json
from typing import Any

import pytest

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.executions import Client
from tests.emulators.aws.conftest import Runner, policy, refused
from tests.support.aws import package


def says(word: str) -> dict[str, Any]:
    return {"Say": {"Type": "Succeed", "Output": word}}


@pytest.fixture(name="states")
def _states(aws: AwsSandbox) -> Client:
    return aws.client("stepfunctions")


@pytest.fixture(name="machine")
def _machine(run: Runner) -> str:
    return run.create(says("one"), "machine")


def update(states: Client, machine: str, word: str) -> None:
    definition = {"QueryLanguage": "JSONata", "StartAt": "Say", "States": says(word)}
    states.update_state_machine(stateMachineArn=machine, definition=json.dumps(definition))


def publish(states: Client, machine: str) -> str:
    return str(states.publish_state_machine_version(stateMachineArn=machine)["stateMachineVersionArn"])


def test_a_version_runs_what_it_was_published_with(aws: AwsSandbox, states: Client, machine: str) -> None:
    assert "revisionId" not in states.describe_state_machine(stateMachineArn=machine)
    # The same configuration again is no new revision.
    update(states, machine, "one")
    assert publish(states, machine) == publish(states, machine) == f"{machine}:1"
    update(states, machine, "two")
    assert states.describe_state_machine(stateMachineArn=machine)["revisionId"]
    assert publish(states, machine) == f"{machine}:2"
    listed = states.list_state_machine_versions(stateMachineArn=machine)["stateMachineVersions"]
    assert [v["stateMachineVersionArn"] for v in listed] == [f"{machine}:2", f"{machine}:1"]
    said = [aws.run_execution(arn, {}).output for arn in (f"{machine}:1", f"{machine}:2", machine)]
    assert said == ["one", "two", "two"]


def test_an_alias_starts_the_version_that_it_names(aws: AwsSandbox, states: Client, machine: str) -> None:
    first = publish(states, machine)

    def routed(version: str) -> list[dict[str, object]]:
        return [{"stateMachineVersionArn": version, "weight": 100}]

    made = states.create_state_machine_alias(name="live", routingConfiguration=routed(first))
    alias = made["stateMachineAliasArn"]
    update(states, machine, "two")
    second = publish(states, machine)
    execution = aws.run_execution(alias, {}, name="a-name")
    # The execution's own ARN has neither version nor alias.
    assert execution.arn == machine.replace(":stateMachine:", ":execution:") + ":a-name"
    shown = states.describe_execution(executionArn=execution.arn)
    names = ("stateMachineArn", "stateMachineVersionArn", "stateMachineAliasArn")
    assert [execution.output, *map(shown.get, names)] == ["one", machine, first, alias]
    states.update_state_machine_alias(stateMachineAliasArn=alias, routingConfiguration=routed(second))
    assert aws.run_execution(alias, {}).output == "two"
    # A name is taken for all versions.
    assert refused(states.start_execution, stateMachineArn=second, name="a-name") == "ExecutionAlreadyExists"
    assert refused(states.start_execution, stateMachineArn=f"{machine}:3") == "StateMachineDoesNotExist"


def test_a_version_of_a_function_keeps_its_code_and_its_number(aws: AwsSandbox) -> None:
    trust = policy({"Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"})
    role = aws.client("iam").create_role(RoleName="function", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    functions, name = aws.client("lambda"), {"FunctionName": "function"}
    code = {"Handler": "code.handler", "Code": {"ZipFile": package("one")}}
    functions.create_function(**name, Role=role, Runtime="python3.11", **code)
    first = functions.publish_version(**name)
    # Nothing has changed.
    assert functions.publish_version(**name)["Version"] == first["Version"] == "1"
    functions.update_function_code(**name, ZipFile=package("two"))
    second = functions.publish_version(**name)
    hashes = [
        functions.get_function_configuration(**name, Qualifier=q)["CodeSha256"] for q in ("1", "2", "$LATEST")
    ]
    assert hashes == [first["CodeSha256"], second["CodeSha256"], second["CodeSha256"]]
    assert hashes[0] != hashes[1]
    functions.delete_function(**name, Qualifier="2")
    assert functions.publish_version(**name)["Version"] == "3"
