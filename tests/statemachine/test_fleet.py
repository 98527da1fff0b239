"""A shard of real rotations: the state machine of the fleet over that of rotations, both as they are deployed."""

import json
import re
import time

import pytest

from lockstep.plan.published import PLANS, shard_name
from lockstep.protocol.schedule import run_key
from sandbox.estate import Estate
from sandbox.steps import deploy_fleet_machine
from tests.statemachine.conftest import Case
from tests.statemachine.test_cli import document, run

BUCKET, DIGEST = "lockstep-fleet-plans", "0" * 64


@pytest.fixture(scope="module")
def fleet_arn(world: Estate) -> str:
    """The state machine of the fleet."""
    place = {"LocationConstraint": world.aws.region}
    world.aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
    return deploy_fleet_machine(world.aws, world.machine_arn, plan_bucket=BUCKET, report_bucket=BUCKET)


def publish(world: Estate, shard: str, *cases: Case) -> None:
    """Write the list of a shard."""
    items = [{"credential_id": c.credential.id, "key": run_key(c.credential.id)} for c in cases]
    world.aws.client("s3").put_object(
        Bucket=BUCKET, Key=f"{PLANS}/{DIGEST}/{shard_name(shard)}", Body=json.dumps(items).encode()
    )


def test_a_shard_rotates_its_credentials(world: Estate, fleet_arn: str, mariadb: Case, mysql: Case) -> None:
    cases = (mariadb, mysql)
    for case in cases:
        case.settle()
    publish(world, "20m-00", *cases)
    given = {"shard": "20m-00", "plan": DIGEST, "trigger": "schedule"}
    before = int(time.time()) // 60
    execution = world.aws.run_execution(fleet_arn, given)
    assert execution.status == "SUCCEEDED", (execution.error, execution.cause)
    assert (execution.output["rotations"], execution.output["failed"]) == (2, 0)
    assert execution.output["tick"] in (before, before + 1)
    for case in cases:
        assert case.locked_out() == []
        newest = case.entries()[-1]
        assert newest.rotation_id == f"f-{execution.output['tick']}-{run_key(case.credential.id)}"
        assert case.lock["current_generation"] == "2"


def test_the_commands_know_such_a_run(world: Estate, fleet_arn: str, plain: Case) -> None:
    plain.settle()
    publish(world, "20m-01", plain)
    given = {"shard": "20m-01", "plan": DIGEST, "trigger": "schedule"}
    assert world.aws.run_execution(fleet_arn, given).status == "SUCCEEDED"
    [newest, _first] = document(run(plain, "history", "--json"), "history")["runs"]
    assert re.fullmatch(r"f-[0-9]{8}-[0-9a-f]{16}", newest["rotation_id"])
    assert (newest["trigger"], newest["cloud"], newest["outcome"]) == ("schedule", "aws", "rotated")
    assert run(plain, "status").exit_code == 0
