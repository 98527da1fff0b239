"""Versions of functions and state machines as on AWS: immutable, numbered once, found by their ARN alone."""

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.aws import AwsSandbox, InvocationResult
from sandbox.aws.executions import Client
from tests.sandbox.aws.stacks import Resource, Stack, resource

ROLE = "arn:aws:iam::123456789012:role/machine"
MINUTES = 3
ALARM = "canary"
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


def test_a_number_is_not_used_again(states: Client, machine: str) -> None:
    states.delete_state_machine_version(stateMachineVersionArn=publish(states, machine))
    assert publish(states, machine) == f"{machine}:2"


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


def test_what_an_alias_names_is_kept(states: Client, machine: str) -> None:
    first = publish(states, machine)
    routing = [{"stateMachineVersionArn": first, "weight": 100}]
    alias = states.create_state_machine_alias(name="live", routingConfiguration=routing)[
        "stateMachineAliasArn"
    ]
    assert refused(states.delete_state_machine_version, stateMachineVersionArn=first) == "ConflictException"
    assert (
        refused(
            states.create_state_machine_alias,
            name="live",
            description="another",
            routingConfiguration=routing,
        )
        == "ConflictException"
    )
    nothing = [{"stateMachineVersionArn": f"{machine}:7", "weight": 100}]
    assert (
        refused(states.update_state_machine_alias, stateMachineAliasArn=alias, routingConfiguration=nothing)
        == "ResourceNotFound"
    )
    assert (
        refused(states.create_state_machine_alias, name="1", routingConfiguration=routing)
        == "ValidationException"
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


# CloudFormation


def stack_of(says: str, **alias: object) -> Mapping[str, Resource]:
    """A machine with a version and an alias `live`."""
    to_version = {"StateMachineVersionArn": {"Ref": "Version"}}
    moved = (
        {"DeploymentPreference": {**to_version, **alias}}
        if alias
        else {"RoutingConfiguration": [{**to_version, "Weight": 100}]}
    )
    return {
        "Machine": resource(
            "AWS::StepFunctions::StateMachine",
            StateMachineName="machine",
            RoleArn=ROLE,
            DefinitionString=definition(says),
        ),
        "Version": resource(
            "AWS::StepFunctions::StateMachineVersion",
            keep="RetainExceptOnCreate",
            StateMachineArn={"Ref": "Machine"},
            StateMachineRevisionId={"Fn::GetAtt": ["Machine", "StateMachineRevisionId"]},
        ),
        "Live": resource("AWS::StepFunctions::StateMachineAlias", Name="live", **moved),
    }


CANARY: Mapping[str, object] = {
    "Type": "CANARY",
    "Percentage": 99,
    "Interval": MINUTES,
    "Alarms": [ALARM],
}


@pytest.fixture(name="stack")
def _stack(aws: AwsSandbox) -> Stack:
    return Stack(aws)


def live(stack: Stack) -> Mapping[str, int]:
    """The weight of each version, by its number."""
    client = stack.aws.client("stepfunctions")
    found = client.describe_state_machine_alias(stateMachineAliasArn=stack.physical_ids["Live"])
    return {
        route["stateMachineVersionArn"].rpartition(":")[2]: route["weight"]
        for route in found["routingConfiguration"]
    }


def numbers(stack: Stack) -> list[str]:
    listed = stack.aws.client("stepfunctions").list_state_machine_versions(
        stateMachineArn=stack.physical_ids["Machine"]
    )
    return [v["stateMachineVersionArn"].rpartition(":")[2] for v in listed["stateMachineVersions"]]


def test_a_changed_machine_gets_a_version_and_its_alias_moves(stack: Stack) -> None:
    assert stack.create(**stack_of("one")) == "CREATE_COMPLETE"
    assert live(stack) == {"1": 100}
    assert stack.update(tags={"team": "a"}, **stack_of("one")) == "UPDATE_COMPLETE"
    assert numbers(stack) == ["1"]
    assert stack.update(**stack_of("two")) == "UPDATE_COMPLETE"
    assert (live(stack), numbers(stack)) == ({"2": 100}, ["2", "1"])
    assert stack.delete() == "DELETE_COMPLETE"


def test_the_first_deployment_waits_for_nothing(aws: AwsSandbox, stack: Stack) -> None:
    aws.deployment_minute = lambda: pytest.fail("it waits")
    assert stack.create(**stack_of("one", **CANARY)) == "CREATE_COMPLETE"
    assert live(stack) == {"1": 100}


def test_a_canary_goes_first_and_the_rest_follows(aws: AwsSandbox, stack: Stack) -> None:
    stack.create(**stack_of("one", **CANARY))
    seen: list[Mapping[str, int]] = []
    arn = stack.physical_ids["Live"]

    def minute() -> None:
        routes = aws.client("stepfunctions").describe_state_machine_alias(stateMachineAliasArn=arn)
        seen.append({r["stateMachineVersionArn"][-1]: r["weight"] for r in routes["routingConfiguration"]})

    aws.deployment_minute = minute
    assert stack.update(**stack_of("two", **CANARY)) == "UPDATE_COMPLETE"
    assert seen == [{"2": 99, "1": 1}] * MINUTES
    assert live(stack) == {"2": 100}


@pytest.fixture(name="alarm")
def _alarm(aws: AwsSandbox) -> Any:  # noqa: ANN401 - a call
    cloudwatch = aws.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName=ALARM,
        Namespace="AWS/Lambda",
        MetricName="Errors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
    )
    return lambda: cloudwatch.set_alarm_state(AlarmName=ALARM, StateValue="ALARM", StateReason="a test")


def test_an_alarm_rolls_the_whole_stack_back(aws: AwsSandbox, stack: Stack, alarm: Any) -> None:  # noqa: ANN401 - see the fixture
    stack.create(**stack_of("one", **CANARY))
    aws.deployment_minute = alarm
    assert stack.update(**stack_of("two", **CANARY)) == "UPDATE_ROLLBACK_COMPLETE"
    assert live(stack) == {"1": 100}
    # The version of a failed deployment is removed, so the next one can publish.
    assert numbers(stack) == ["1"]
    machine = stack.physical_ids["Machine"]
    assert json.loads(
        aws.client("stepfunctions").describe_state_machine(stateMachineArn=machine)["definition"]
    ) == json.loads(definition("one"))
    aws.client("cloudwatch").set_alarm_state(AlarmName=ALARM, StateValue="OK", StateReason="a test")
    aws.deployment_minute = lambda: None
    assert stack.update(**stack_of("two", **CANARY)) == "UPDATE_COMPLETE"
    assert (live(stack), numbers(stack)) == ({"3": 100}, ["3", "1"])


def test_an_alarm_that_is_on_before_stops_the_deployment_before_anything_moves(
    aws: AwsSandbox,
    stack: Stack,
    alarm: Any,  # noqa: ANN401 - see the fixture
) -> None:
    stack.create(**stack_of("one", **CANARY))
    alarm()
    aws.deployment_minute = lambda: pytest.fail("it has moved")
    assert stack.update(**stack_of("two", **CANARY)) == "UPDATE_ROLLBACK_COMPLETE"


def test_an_alias_that_someone_moves_meanwhile_fails_the_deployment(aws: AwsSandbox, stack: Stack) -> None:
    stack.create(**stack_of("one", **CANARY))
    arn, first = stack.physical_ids["Live"], stack.physical_ids["Version"]
    aws.deployment_minute = lambda: aws.client("stepfunctions").update_state_machine_alias(
        stateMachineAliasArn=arn, routingConfiguration=[{"stateMachineVersionArn": first, "weight": 100}]
    )
    assert stack.update(**stack_of("two", **CANARY)) == "UPDATE_ROLLBACK_COMPLETE"
    assert any("drift detected" in reason for reason in stack.reasons("UPDATE_FAILED"))


def test_all_at_once_looks_at_no_alarm(stack: Stack, alarm: Any) -> None:  # noqa: ANN401 - see the fixture
    at_once = {"Type": "ALL_AT_ONCE", "Alarms": [ALARM]}
    stack.create(**stack_of("one", **at_once))
    alarm()
    assert stack.update(**stack_of("two", **at_once)) == "UPDATE_COMPLETE"
    assert live(stack) == {"2": 100}


def test_a_version_of_an_unchanged_function_fails(aws: AwsSandbox, stack: Stack, function: Client) -> None:
    del function
    version = resource("AWS::Lambda::Version", keep="Retain", FunctionName="function")
    assert stack.create(First=version) == "CREATE_COMPLETE"
    assert stack.physical_ids["First"].endswith(":function:function:1")
    assert stack.update(First=version, Again=version) == "UPDATE_ROLLBACK_COMPLETE"
    assert any("A version for this Lambda function exists ( 1 )" in r for r in stack.reasons("CREATE_FAILED"))
    assert aws.client("lambda").get_function(FunctionName="function", Qualifier="1")
