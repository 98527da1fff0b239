"""An input of the state machine of the fleet that is not valid, which changes nothing."""

import json
from collections.abc import Iterator

import pytest

from sandbox.aws import AwsSandbox
from tests.support.fleet_machine import Clock, Fleet


@pytest.fixture(name="fleet", scope="module")
def _fleet() -> Iterator[Fleet]:
    """One for all of them, since none starts anything."""
    with AwsSandbox(wall_clock=Clock()) as aws:
        fleet = Fleet(aws)
        fleet.deploy()
        fleet.publish(["team/app"])
        yield fleet


@pytest.mark.parametrize(
    "given",
    [
        {"shard": None},
        {"shard": ""},
        {"shard": "20m-0"},
        {"shard": "../20m-00"},
        {"shard": "20m-00/../../x"},
        {"shard": "20m-000"},
        {"shard": 20},
        {"plan": None},
        {"plan": "d1" * 31},
        {"plan": "D1" * 32},
        {"plan": "x/" * 32},
        {"time": "2026-11-27"},
        {"time": "2026-11-27T17:40:00+01:00"},
        {"time": "2026-13-27T17:40:00Z"},
        {"time": "2026-11-27T17:42:00Z"},
        {"time": 1_795_801_200},
        {"concurrency": 0},
        {"concurrency": -3},
        {"concurrency": 2.5},
        {"concurrency": 1001},
        {"concurrency": "5"},
        {"concurrency": True},
        {"every_ms": 0},
        {"every_ms": -1},
        {"every_ms": 1.5},
        {"every_ms": 60_001},
        {"every_ms": "100"},
        {"every_ms": True},
        {"trigger": ""},
        {"trigger": "with space"},
        {"trigger": "x" * 201},
        {"host": "db.example.com"},
    ],
    ids=json.dumps,
)
def test_an_input_that_is_not_valid_changes_nothing(fleet: Fleet, given: dict[str, object]) -> None:
    fleet.publish(["team/app"])
    execution = fleet.aws.run_execution(fleet.machine_arn, fleet.input(**given))
    assert (execution.status, execution.error) == ("FAILED", "InvalidRequestError")
    assert execution.states_entered == ["CheckInput", "InvalidInput"]
    assert fleet.rotated == []


@pytest.mark.parametrize("given", [None, [], "20m-00", 3])
def test_an_input_that_is_no_object_changes_nothing(fleet: Fleet, given: object) -> None:
    execution = fleet.aws.run_execution(fleet.machine_arn, given)
    assert (execution.status, execution.error) == ("FAILED", "InvalidRequestError")
