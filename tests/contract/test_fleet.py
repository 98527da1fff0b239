"""The state machine of the fleet, as it is deployed, in the sandbox's interpreter."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from lockstep.shards import run_key
from sandbox.aws import AwsSandbox
from tests.contract.fleet_harness import MINUTE, NOW, TICK, Clock, Fleet


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


def test_rotations_begin_one_after_the_other_in_the_order_of_the_list(fleet: Fleet) -> None:
    ids = [f"team/app-{n}" for n in range(3)]
    fleet.publish(ids)
    execution = fleet.run(every_ms=1100)
    assert execution.status == "SUCCEEDED", (execution.error, execution.cause)
    assert [run["credential_id"] for run in fleet.rotated] == ids
    states = fleet.aws.client("stepfunctions")
    waited = {}
    for child in fleet.children(execution.arn):
        history = states.get_execution_history(executionArn=child["executionArn"])["events"]
        entered = [e["stateEnteredEventDetails"]["name"] for e in history if "stateEnteredEventDetails" in e]
        item = json.loads(states.describe_execution(executionArn=child["executionArn"])["input"])
        waited[item["item"]["credential_id"]] = (item["begins"], "AwaitTurn" in entered)
    begun = int(NOW * 1000)
    assert waited == {c: (begun + n * 1100, n > 0) for n, c in enumerate(ids)}


def test_who_would_begin_too_late_does_not_wait_first(fleet: Fleet, clock: Clock) -> None:
    clock.now = MINUTE + 50
    fleet.publish(["team/a", "team/b"])
    execution = fleet.run(every_ms=60_000)
    assert execution.error == "FleetFailedError"
    # The second one would begin 110 s after its trigger.
    assert [run["credential_id"] for run in fleet.rotated] == ["team/a"]
    [late] = [c for c in fleet.children(execution.arn) if c["status"] == "FAILED"]
    assert late["stopDate"] - late["startDate"] < timedelta(seconds=30)


@pytest.mark.parametrize("every_ms", [0, -1, 1.5, 60_001, "100", None, True])
def test_a_pace_that_is_no_pace_is_refused(fleet: Fleet, every_ms: object) -> None:
    fleet.publish(["team/a"])
    given = fleet.input() | {"every_ms": every_ms}
    execution = fleet.aws.run_execution(fleet.machine_arn, given)
    assert execution.error == "InvalidRequestError"
    assert fleet.rotated == []
