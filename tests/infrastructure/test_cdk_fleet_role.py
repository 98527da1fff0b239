"""The role of the state machine of the fleet: each of its permissions is needed, and no more is."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Stack

from cdk.keys import NamedKey
from cdk.permissions import Grants
from lockstep.plan.file import parse_plan
from lockstep.protocol.model import Engine
from lockstep.protocol.names import CANARY, LIVE
from sandbox import plans
from sandbox.aws import AwsSandbox
from sandbox.aws.interpreter import access_key
from sandbox.aws.policies import as_list
from sandbox.steps import FLEET_ROLE
from tests.support.fleet_machine import PLANS, Clock, Fleet

WITHOUT_CALLS = {"DeliverLogs", "Trace"}
"""What Step Functions does beside an execution."""


def _grants() -> Grants:
    document = plans.plan_document(
        [plans.database("orders", Engine.MYSQL)],
        [plans.credential("team/app", "orders")],
        oci=plans.OciNames(),
    )
    return Grants(
        plan=parse_plan(json.dumps(document), base=Path()),
        stack="lockstep",
        table_arn="arn:table",
        bucket_arn="arn:bucket",
        plan_bucket_arn="arn:plans",
        key_arns=["arn:key"],
        mac_key=NamedKey(arn="arn:mac"),
    )


def _resolved(value: Any, pseudo: Mapping[str, str]) -> Any:  # noqa: ANN401 - any JSON
    match value:
        case {"Ref": name}:
            return pseudo[name]
        case {"Fn::Join": [separator, parts]}:
            return separator.join(_resolved(part, pseudo) for part in parts)
        case dict():
            return {key: _resolved(item, pseudo) for key, item in value.items()}
        case list():
            return [_resolved(item, pseudo) for item in value]
        case _:
            return value


def statements(aws: AwsSandbox, rotation_arn: str) -> dict[str, dict[str, Any]]:
    """By their names, as CloudFormation resolves them."""
    pseudo = {"AWS::Partition": "aws", "AWS::Region": aws.region, "AWS::AccountId": aws.account_id}
    made = _grants().fleet_machine(f"arn:aws:s3:::{PLANS}", rotation_arn, [LIVE, CANARY])
    found = Stack(App(), "lockstep").resolve([s.to_statement_json() for s in made])
    return {statement["Sid"]: _resolved(statement, pseudo) for statement in found}


SIDS = sorted({s.sid or "" for s in _grants().fleet_machine("arn:b", "arn:r", [LIVE])} - WITHOUT_CALLS)


@pytest.fixture(name="fleet", scope="module")
def _fleet() -> Iterator[Fleet]:
    with AwsSandbox(retry_sleep=lambda _seconds: None, wall_clock=Clock()) as aws:
        fleet = Fleet(aws, report_bucket=PLANS)
        fleet.deploy(canary="team/b")
        iam = aws.client("iam")
        iam.create_role(
            RoleName=FLEET_ROLE, AssumeRolePolicyDocument='{"Version": "2012-10-17", "Statement": []}'
        )
        aws.guard.know(access_key(f"arn:aws:iam::{aws.account_id}:role/{FLEET_ROLE}"), FLEET_ROLE)
        yield fleet


def _give(fleet: Fleet, given: list[dict[str, Any]]) -> None:
    fleet.aws.client("iam").put_role_policy(
        RoleName=FLEET_ROLE,
        PolicyName="own",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": given}),
    )


def test_the_role_may_do_what_the_machine_does(fleet: Fleet) -> None:
    found = statements(fleet.aws, fleet.rotation_arn)
    _give(fleet, list(found.values()))
    fleet.publish(["team/a", "team/b"], shard="20m-01")
    fleet.aws.guard.records.clear()
    execution = fleet.run(shard="20m-01")
    assert execution.status == "SUCCEEDED", (execution.error, execution.cause)
    used = {r.verdict.statement["Sid"] for r in fleet.aws.guard.records if r.verdict.statement}
    assert used == found.keys() - WITHOUT_CALLS
    # Of a report in parts, which only a large one is.
    called = {r.call.action for r in fleet.aws.guard.records} | {
        "s3:AbortMultipartUpload",
        "s3:GetObject",
        "s3:ListMultipartUploadParts",
    }
    granted = {action for sid in used for action in as_list(found[sid]["Action"])}
    assert granted == called


@pytest.mark.parametrize("number", range(len(SIDS)), ids=SIDS)
def test_nothing_works_without_one_of_its_permissions(fleet: Fleet, number: int) -> None:
    shard = f"20m-{10 + number}"
    left = statements(fleet.aws, fleet.rotation_arn)
    del left[SIDS[number]]
    _give(fleet, list(left.values()))
    fleet.publish([f"team/{shard}"], shard=shard)
    execution = fleet.run(shard=shard)
    assert execution.status == "FAILED"


def test_it_starts_rotations_by_an_alias_only(fleet: Fleet) -> None:
    _give(fleet, list(statements(fleet.aws, fleet.rotation_arn).values()))
    key = access_key(FLEET_ROLE)
    states = fleet.aws.client_as(key, "stepfunctions")
    with pytest.raises(states.exceptions.ClientError, match="not authorized"):
        states.start_execution(stateMachineArn=fleet.rotation_arn, input="{}")
    states.start_execution(stateMachineArn=f"{fleet.rotation_arn}:{LIVE}", input='{"credential_id": "x"}')


def test_a_stopped_map_lets_rotations_end_by_themselves(fleet: Fleet) -> None:
    """It may not stop them: one that is stopped half-way holds its lock until the lease ends."""
    _give(fleet, list(statements(fleet.aws, fleet.rotation_arn).values()))
    fleet.publish(["team/long"], shard="20m-02")
    fleet.hold()
    arn = fleet.start(shard="20m-02")
    before = len(fleet.rotated)
    fleet.await_rotations(before + 1)
    fleet.aws.client("stepfunctions").stop_execution(executionArn=arn)
    fleet.await_status(arn, "ABORTED")
    [run] = [r for r in fleet.runs() if r["status"] == "RUNNING"]
    fleet.go_on()
    assert fleet.end_of(run["executionArn"])["status"] == "SUCCEEDED"
