"""Step Functions and Lambda in the sandbox: what they refuse, how an execution fails, and what a version keeps."""

import json
from threading import Event
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.stepfunctions.parser.asl.jsonata.jsonata import JSONataException

from sandbox.emulators.aws import AwsSandbox, ProcessDied
from sandbox.emulators.aws.jsonata import _declare, evaluate
from sandbox.emulators.aws.resources import create_lock_table
from sandbox.emulators.databases.process import free_port
from tests.emulators.aws.conftest import END, NOW, created, definition, invoke, policy, ran, refused
from tests.support.aws import package
from tests.support.programs import until

TOO_BIG = "x" * (256 * 1024 + 1)
KEY = {"credential_id": {"S": "app"}}


def _pass(**fields: object) -> dict[str, Any]:
    return {"Type": "Pass", **fields}


def _map(inner: dict[str, Any], *, mode: str = "DISTRIBUTED", **fields: object) -> dict[str, Any]:
    processor = {"ProcessorConfig": {"Mode": mode}, "StartAt": "Inner", "States": inner}
    own = {"Items": [1], "ItemProcessor": processor, "ToleratedFailurePercentage": 100.0, **fields}
    return {"First": {"Type": "Map", "Label": "Each", "End": True, **own}}


def _dynamodb(action: str, arguments: dict[str, object], **fields: object) -> dict[str, Any]:
    own = {
        "Resource": f"arn:aws:states:::dynamodb:{action}",
        "Arguments": {"TableName": "locks", **arguments},
    }
    return {"Type": "Task", **own, "End": True, **fields}


def _retry(*retriers: dict[str, Any]) -> dict[str, Any]:
    return {"First": invoke("f", Retry=list(retriers))}


CHOICE = {"Type": "Choice", "Choices": [{"Condition": True, "Next": "Nowhere"}], "Default": "End"}
CATCH = [{"ErrorEquals": ["States.ALL"], "Next": "Nowhere"}]
OUTPUT = {"a": [{"b": "{% 1 + %}"}]}
OLD = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
DEFINITIONS: dict[str, dict[str, Any]] = {
    "at /States/First/Choices[0]/Next": {"First": CHOICE, "End": END},
    "at /States/First/Catch[0]/Next": {"First": invoke("f", Catch=CATCH)},
    "State 'Alone' is not reachable": {"First": END, "Alone": END},
    "neither Next nor End": {"First": _pass()},
    "Duplicate state name: First": _map({"Inner": _pass(Next="First"), "First": END}),
    "States.ALL must appear alone and last at /States/First/Retry[0]/ErrorEquals": _retry(
        {"ErrorEquals": ["States.ALL"]}, {"ErrorEquals": ["X"]}
    ),
    "MaxAttempt": _retry({"ErrorEquals": ["X"], "MaxAttempt": 1}),
    "Field 'TimeoutSeconds' is not supported at /States/First": {"First": _pass(End=True, TimeoutSeconds=5)},
    "at /States/First/ItemProcessor/States/Inner/Output/a[0]/b": _map(
        {"Inner": _pass(End=True, Output=OUTPUT)}
    ),
    "$eval": {"First": _pass(End=True, Output="{% $eval('1') %}")},
    "Field 'ReturnValuesOnConditionCheckFailure' is not supported at /States/First/Arguments": {
        "First": _dynamodb("updateItem", {"Key": KEY, **OLD})
    },
    "not recognized": {"First": _dynamodb("query", {"Key": KEY})},
    "A Map that is not distributed": _map({"Inner": END}, mode="INLINE"),
    "tolerate every failure": _map({"Inner": END}, ToleratedFailurePercentage=99.0),
    "A Map without a ResultWriter": _map({"Inner": END}),
}
"""By the reason for which each is refused."""


def test_a_definition_that_cannot_run_is_refused(aws: AwsSandbox) -> None:
    client, arn = aws.client("stepfunctions"), created(aws, {"First": END})

    def update(_aws: AwsSandbox, states: dict[str, Any]) -> None:
        client.update_state_machine(stateMachineArn=arn, definition=definition(states))

    for reason, states in DEFINITIONS.items():
        for call in (created, update):
            with pytest.raises(ClientError) as found:
                call(aws, states)
            assert found.value.response["Error"]["Code"] == "InvalidDefinition"
            assert reason in found.value.response["Error"]["Message"]
    in_jsonpath = json.dumps({"StartAt": "First", "States": {"First": END}})
    with pytest.raises(ClientError, match="NOT_EMULATED: A Succeed in JSONPath at /States/First"):
        client.update_state_machine(stateMachineArn=arn, definition=in_jsonpath)


# JSONata


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("4 / 2", 2),
        ("$string($floor($toMillis('2024-11-24T14:20:00.250Z') / 1000) + 1200)", "1732459200"),
        ("{'given': 1, 'missing': $nothing, 'empty': null}", {"given": 1, "empty": None}),
        ("($x := {'a': [{'b': 1}]}; $x.a)", [{"b": 1}]),
        ("$exists($parse('null'))", True),
        ("$substring($hash('abc', 'SHA-256'), 0, 16)", "ba7816bf8f01cfea"),
    ],
)
def test_an_expression_results_in_plain_json(expression: str, value: object) -> None:
    result = evaluate(f"({expression})")
    assert (result, type(result)) == (value, type(value))


@pytest.mark.parametrize("expression", ["1 +", "1 / 0", "$number('x')", "$sum", "$nobody()"])
def test_a_result_that_is_not_json_is_an_error(expression: str) -> None:
    with pytest.raises(JSONataException):
        evaluate(f"({expression})")


@pytest.mark.parametrize("value", [2**53, 'a"b\\c\n{% 1 %}', "$x", ["", None], {"": {"é": [1]}}])
def test_a_variable_keeps_its_value_and_is_never_part_of_the_expression(value: object) -> None:
    assert evaluate(f"({_declare({'$x': {'value': value}})}$x)") == {"value": value}


# How an execution fails


def _kill() -> None:
    raise ProcessDied


def _die(*_: object) -> None:
    try:
        _kill()
    except Exception:  # noqa: BLE001  what a careless handler does
        pytest.fail("a handler outlived its process")


@pytest.fixture(name="functions")
def _functions(aws: AwsSandbox) -> Event:
    """Functions and a table for the executions; when it is set, what is slow ends."""
    create_lock_table(aws.client("dynamodb"), "locks")
    released = Event()
    host = aws.lambda_host
    host.register_handler("big", lambda *_: TOO_BIG)
    host.register_handler("echo", lambda event, _: event)
    host.register_handler("dies", _die)
    host.register_handler("too-slow", lambda *_: Event().wait(20), timeout_seconds=0.2)
    host.register_handler("slow", lambda *_: released.wait(60), timeout_seconds=90)
    return released


PUT = _dynamodb("putItem", {"Item": {**KEY, "fence": {"N": "{% 1 + 1 %}"}}})
TERMINAL: list[tuple[dict[str, Any], str, str]] = [
    (invoke("big"), "States.ALL", "States.DataLimitExceeded"),
    (invoke("echo", {"text": "{% $pad('', 262145, 'x') %}"}), "States.ALL", "States.DataLimitExceeded"),
    (PUT, "States.ALL", "States.Runtime"),
    (PUT, "States.Runtime", "States.Runtime"),
]


@pytest.mark.usefixtures("functions")
def test_nothing_catches_a_terminal_error_and_any_other_has_a_name(aws: AwsSandbox) -> None:
    def caught(name: str) -> dict[str, Any]:
        return {"Catch": [{"ErrorEquals": [name], "Next": "Caught"}]}

    for task, name, error in TERMINAL:
        retry = {"Retry": [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 2}]}
        execution = ran(aws, {"Try": {**task, **caught(name), **retry}, "Caught": END})
        assert (execution.status, execution.error) == ("FAILED", error)
        assert execution.text.count('"TaskScheduled"') < 2
    for expression in ("1 + 'a'", "$states.input.nothing", "function(){1}"):
        ask = invoke("echo", {"it": f"{{% {expression} %}}"}, **caught("States.QueryEvaluationError"))
        assert ran(aws, {"Ask": ask, "Caught": END}).states_entered == ["Ask", "Caught"]
    for function, error in (
        ("dies", "Lambda.Unknown"),
        ("too-slow", "Lambda.Unknown"),
        ("nobody", "Lambda.ResourceNotFoundException"),
    ):
        assert ran(aws, {"Call": invoke(function)}).error == error
    assert refused(aws.client("lambda").invoke, FunctionName="nobody") == "ResourceNotFoundException"
    assert refused(lambda: ran(aws, {"Done": END}, TOO_BIG)) == "ValidationException"


@pytest.mark.usefixtures("functions")
def test_a_service_that_does_not_answer_or_takes_too_long_has_a_name(aws: AwsSandbox) -> None:
    answer = Event()

    def wait(_service: str, _operation: str) -> None:
        answer.wait(30)

    aws.on_request = wait
    assert ran(aws, {"Get": _dynamodb("getItem", {"Key": KEY}, TimeoutSeconds=1)}).error == "States.Timeout"
    answer.set()
    aws.route_tasks_to(free_port())
    assert ran(aws, {"Get": _dynamodb("getItem", {"Key": KEY})}).error == "DynamoDB.SdkClientException"


def test_the_history_tells_times_and_contents_and_ends_with_a_time_out(
    aws: AwsSandbox, functions: Event
) -> None:
    output = {
        "start": "{% $states.context.Execution.StartTime %}",
        "now": "{% $now() %}",
        "ms": "{% $millis() %}",
    }
    states = {"Echo": invoke("echo", Next="Tell"), "Tell": _pass(Output=output, End=True)}
    execution = ran(aws, states, {"a": "visible"})
    time = "2024-11-24T14:20:00.250Z"
    assert execution.output == {"start": time, "now": time, "ms": round(NOW * 1000)}
    assert execution.text.count("visible") >= 5
    timed_out = ran(aws, {"Try": invoke("slow")}, TimeoutSeconds=1)
    assert (timed_out.status, timed_out.error, timed_out.cause) == ("TIMED_OUT", None, None)
    assert timed_out.history[-1]["executionTimedOutEventDetails"]["error"] == "States.Timeout"
    functions.set()


def test_a_task_given_up_stops_the_execution_that_it_awaits(aws: AwsSandbox, functions: Event) -> None:
    child = created(aws, {"Wait": invoke("slow")})
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::states:startExecution.sync:2",
        "Arguments": {"StateMachineArn": child, "Name": "one"},
        "TimeoutSeconds": 3,  # It has started by then what it awaits.
        "End": True,
    }
    assert ran(aws, {"Start": task}).error == "States.Timeout"
    arn = child.replace(":stateMachine:", ":execution:") + ":one"
    client = aws.client("stepfunctions")
    until(lambda: client.describe_execution(executionArn=arn)["status"] == "ABORTED")
    functions.set()


@pytest.mark.parametrize("concurrency", ["-1", "2.5", "'3'", "true"])
def test_a_maps_concurrency_is_a_whole_number(aws: AwsSandbox, concurrency: str) -> None:
    writer = {"Resource": "arn:aws:states:::s3:putObject", "Arguments": {"Bucket": "files", "Prefix": "out"}}
    states = _map({"Inner": END}, MaxConcurrency=f"{{% {concurrency} %}}", ResultWriter=writer)
    assert ran(aws, states).error == "States.QueryEvaluationError"


# Versions: immutable, numbered once, found by their ARN alone


def _says(word: str) -> dict[str, Any]:
    return {"Say": {**END, "Output": word}}


def test_a_version_runs_what_it_was_published_with_and_an_alias_what_it_names(aws: AwsSandbox) -> None:
    states, machine = aws.client("stepfunctions"), created(aws, _says("one"))

    def published(word: str) -> str:
        states.update_state_machine(stateMachineArn=machine, definition=definition(_says(word)))
        return str(states.publish_state_machine_version(stateMachineArn=machine)["stateMachineVersionArn"])

    # The same configuration again is no new revision.
    versions = [published(word) for word in ("one", "one", "two")]
    assert versions == [f"{machine}:{number}" for number in (1, 1, 2)]
    route = [{"stateMachineVersionArn": versions[0], "weight": 100}]
    alias = states.create_state_machine_alias(name="live", routingConfiguration=route)["stateMachineAliasArn"]
    said = [aws.run_execution(arn, {}).output for arn in (*versions[1:], machine)]
    execution = aws.run_execution(alias, {}, name="a-name")
    assert [*said, execution.output] == ["one", "two", "two", "one"]
    # The execution's own ARN has neither version nor alias, and a name is taken for all versions.
    assert execution.arn == machine.replace(":stateMachine:", ":execution:") + ":a-name"
    taken = {"stateMachineArn": versions[2], "name": "a-name"}
    assert refused(states.start_execution, **taken) == "ExecutionAlreadyExists"
    assert refused(states.start_execution, stateMachineArn=f"{machine}:3") == "StateMachineDoesNotExist"


def test_a_version_of_a_function_keeps_its_code_and_its_number(aws: AwsSandbox) -> None:
    trust = policy({"Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"})
    role = aws.client("iam").create_role(RoleName="function", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    functions, name = aws.client("lambda"), {"FunctionName": "function"}
    code = {"Handler": "code.handler", "Code": {"ZipFile": package("one")}}
    functions.create_function(**name, Role=role, Runtime="python3.11", **code)
    published = [functions.publish_version(**name)["Version"]]
    hashes = [functions.get_function_configuration(**name)["CodeSha256"]]
    published.append(functions.publish_version(**name)["Version"])  # Nothing has changed.
    functions.update_function_code(**name, ZipFile=package("two"))
    published.append(functions.publish_version(**name)["Version"])
    hashes += [functions.get_function_configuration(**name, Qualifier=q)["CodeSha256"] for q in "12"]
    assert hashes[0] == hashes[1] != hashes[2]
    functions.delete_function(**name, Qualifier="2")
    published.append(functions.publish_version(**name)["Version"])
    assert published == ["1", "1", "2", "3"]
