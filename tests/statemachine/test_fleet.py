"""A shard of real rotations: the state machine of the fleet over that of rotations, both as they are deployed."""

import json
import re
import time

from lockstep.plan.published import PLANS, shard_name
from lockstep.protocol.schedule import run_key
from sandbox.estate import Estate
from sandbox.steps import deploy_fleet_machine
from tests.statemachine.conftest import Case
from tests.statemachine.test_cli import document, run

BUCKET, DIGEST = "lockstep-fleet-plans", "0" * 64


def test_a_shard_rotates_its_credentials(world: Estate, mariadb: Case, mysql: Case) -> None:
    s3, place = world.aws.client("s3"), {"LocationConstraint": world.aws.region}
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
    fleet_arn = deploy_fleet_machine(world.aws, world.machine_arn, plan_bucket=BUCKET, report_bucket=BUCKET)
    cases = (mariadb, mysql)
    for case in cases:
        case.settle()
    shard = json.dumps([{"credential_id": c.credential.id, "key": run_key(c.credential.id)} for c in cases])
    s3.put_object(Bucket=BUCKET, Key=f"{PLANS}/{DIGEST}/{shard_name('20m-00')}", Body=shard.encode())
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
    [newest_run, _first] = document(run(mysql, "history", "--json"), "history")["runs"]
    assert re.fullmatch(r"f-[0-9]{8}-[0-9a-f]{16}", newest_run["rotation_id"])
    assert (newest_run["trigger"], newest_run["cloud"], newest_run["outcome"]) == (
        "schedule",
        "aws",
        "rotated",
    )
