"""`make rollback-aws` moves the aliases that rules start, to versions that can run."""

import json
from collections.abc import Callable, Iterator, Mapping

import pytest
from moto.cloudformation.models import cloudformation_backends

from cdk import rollback
from sandbox.emulators.aws import AwsSandbox
from tests.infrastructure.cdk_case import PLAN
from tests.support.aws import package

STACK = "lockstep"
FUNCTION = "lockstep-audit"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}


@pytest.fixture(name="aws")
def _aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsSandbox]:
    """An account whose machine has three versions, each of which calls its version of a function."""
    with AwsSandbox() as aws:
        for name, value in aws.environment().items():
            monkeypatch.setenv(name, value)
        role = aws.client("iam").create_role(RoleName="role", AssumeRolePolicyDocument=json.dumps(TRUST))
        arn = role["Role"]["Arn"]
        functions, states = aws.client("lambda"), aws.client("stepfunctions")
        functions.create_function(
            FunctionName=FUNCTION,
            Role=arn,
            Runtime="python3.12",
            Handler="code.handler",
            Code={"ZipFile": package("0")},
        )
        machine = states.create_state_machine(name=STACK, definition=calling(FUNCTION), roleArn=arn)
        for number in ("1", "2", "3"):
            functions.update_function_code(FunctionName=FUNCTION, ZipFile=package(number))
            called = functions.publish_version(FunctionName=FUNCTION)["FunctionArn"]
            named = {"stateMachineArn": machine["stateMachineArn"]}
            states.update_state_machine(**named, definition=calling(called))
            version = states.publish_state_machine_version(**named)["stateMachineVersionArn"]
        for alias in ("live", "canary", "gate"):
            states.create_state_machine_alias(
                name=alias, routingConfiguration=[{"stateMachineVersionArn": version, "weight": 100}]
            )
        template = {
            "Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "page"}}},
            "Outputs": {"StateMachineArn": {"Value": f"{machine['stateMachineArn']}:live"}},
        }
        aws.client("cloudformation").create_stack(StackName=STACK, TemplateBody=json.dumps(template))
        yield aws


def calling(function: str) -> str:
    """The definition of a machine."""
    state = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": True}
    state["Arguments"] = {"FunctionName": function}
    return json.dumps({"QueryLanguage": "JSONata", "StartAt": "Call", "States": {"Call": state}})


@pytest.fixture(name="roll_back")
def _roll_back(aws: AwsSandbox) -> Callable[..., int]:
    assert aws
    return lambda *more: rollback.main(["-c", f"stack={STACK}", "-c", f"plan={PLAN}", *more])


def aliases(aws: AwsSandbox) -> Mapping[str, str]:
    """The version that each alias leads to."""
    client = aws.client("stepfunctions")
    (machine,) = client.list_state_machines()["stateMachines"]
    arns = {alias: f"{machine['stateMachineArn']}:{alias}" for alias in ("live", "canary", "gate")}
    found = {a: client.describe_state_machine_alias(stateMachineAliasArn=arn) for a, arn in arns.items()}
    return {
        a: f["routingConfiguration"][0]["stateMachineVersionArn"].rpartition(":")[2] for a, f in found.items()
    }


def test_one_command_leads_back_and_forth(
    aws: AwsSandbox, roll_back: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert roll_back("--dry-run") == 0
    assert "lockstep: live would be moved from version 3 to 2" in capsys.readouterr().out
    assert set(aliases(aws).values()) == {"3"}
    assert roll_back() == 0
    assert "lockstep: canary moved from version 3 to 2" in capsys.readouterr().out
    # Nothing starts by the gate.
    assert aliases(aws) == {"live": "2", "canary": "2", "gate": "3"}
    assert roll_back("--to", "3") == 0
    assert set(aliases(aws).values()) == {"3"}


def test_a_version_that_cannot_run_any_more_is_not_gone_back_to(
    aws: AwsSandbox, roll_back: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    aws.client("lambda").delete_function(FunctionName=FUNCTION, Qualifier="1")
    assert roll_back("--to", "1") == 2
    assert "version 1 calls what was deleted" in capsys.readouterr().err
    assert roll_back("--to", "77") == 2
    assert "there is no version 77" in capsys.readouterr().err
    assert set(aliases(aws).values()) == {"3"}


def test_a_deployment_under_way_moves_them_itself(
    aws: AwsSandbox, roll_back: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (stack,) = cloudformation_backends[aws.account_id][aws.region].stacks.values()
    stack.status = "UPDATE_IN_PROGRESS"
    assert roll_back() == 2
    assert "cancel-update-stack" in capsys.readouterr().err
    assert set(aliases(aws).values()) == {"3"}
