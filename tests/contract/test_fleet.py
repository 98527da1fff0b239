"""The state machine of the fleet, as it is deployed, in the sandbox's interpreter."""

import json
from collections.abc import Iterator

import pytest

from lockstep.shards import run_key
from sandbox.aws import AwsSandbox
from tests.contract.fleet_harness import TICK, Clock, Fleet


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock()


@pytest.fixture(name="fleet")
def _fleet(clock: Clock) -> Iterator[Fleet]:
    with AwsSandbox(retry_sleep=lambda _seconds: None, wall_clock=clock) as aws:
        fleet = Fleet(aws)
        fleet.deploy()
        yield fleet


def test_each_credential_of_a_shard_is_rotated_once(fleet: Fleet) -> None:
    ids = [f"team/app-{n}" for n in range(7)]
    fleet.publish(ids)
    execution = fleet.run()
    assert execution.status == "SUCCEEDED", (execution.error, execution.cause)
    assert sorted(fleet.rotated, key=lambda e: e["credential_id"]) == [
        {"credential_id": c, "trigger": "schedule"} for c in ids
    ]
    assert {run["name"] for run in fleet.runs()} == {f"f-{TICK}-{run_key(c)}" for c in ids}
    assert {k: v for k, v in execution.output.items() if k != "report"} == {
        "shard": "20m-00",
        "tick": TICK,
        "rotations": 7,
        "failed": 0,
    }
    outputs = [json.loads(entry["Output"]) for entry in fleet.results(execution)["SUCCEEDED"]]
    assert outputs == [{"credential_id": c, "outcome": "rotated"} for c in ids]
