"""What `lockstep cost` charges for is what the stack makes."""

from datetime import UTC, datetime

import pytest

from cdk import fleetmachine
from cdk.asl import State
from lockstep.cost import Deployed, Line, bill, read_counted
from lockstep.cost.aws import METRICS_OF_LOGS, METRICS_OF_THE_WATCH
from lockstep.cost.fleet import STATES_OF_A_SHARD, STATES_OF_AN_ITEM
from lockstep.plan_file import load_plan
from lockstep.watch import Expected, Table, watch
from tests.infrastructure.cdk_case import BOTH_CLOUDS, FEDERATED, PLAN, Synthesised, synthesised


@pytest.fixture(scope="module", name="stacks")
def _stacks() -> list[tuple[Synthesised, list[Line]]]:
    return [
        (
            synthesised(plan=plan, schedules=True),
            [*bill(load_plan(plan), Deployed(), read_counted()).deployment],
        )
        for plan in (PLAN, BOTH_CLOUDS, FEDERATED)
    ]


@pytest.mark.parametrize(
    ("kind", "item"),
    [
        ("AWS::CloudWatch::Alarm", "CloudWatch, alarms"),
        ("AWS::CloudWatch::Dashboard", "CloudWatch, dashboard"),
        ("AWS::KMS::Key", "KMS, keys that are made"),
    ],
)
def test_what_is_charged_by_the_piece_is_in_the_template(
    stacks: list[tuple[Synthesised, list[Line]]], kind: str, item: str
) -> None:
    for stack, lines in stacks:
        (line,) = (one for one in lines if one.item == item)
        assert len(stack.resources(kind)) == line.quantity


def test_each_credential_has_its_secrets() -> None:
    found = bill(load_plan(BOTH_CLOUDS), Deployed(), read_counted())
    made = sum(
        line.quantity for lines in found.credentials.values() for line in lines if line.price == "secret"
    )
    assert len(synthesised(plan=BOTH_CLOUDS, schedules=True).resources("AWS::SecretsManager::Secret")) == made


def test_metrics_are_those_of_logs_and_of_the_watch(stacks: list[tuple[Synthesised, list[Line]]]) -> None:
    found = watch(
        Table(records={}, unreadable={}),
        Expected(credentials=(), schedules=True, standby=True),
        now=datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert len(found.metrics) == METRICS_OF_THE_WATCH
    for stack, _ in stacks:
        assert len(stack.resources("AWS::Logs::MetricFilter")) == METRICS_OF_LOGS


def test_the_states_of_a_shard_and_of_an_item_are_those_that_are_charged() -> None:
    machine = fleetmachine.machine()
    assert len(_path(machine, "Rotated")) == STATES_OF_A_SHARD
    items = machine["States"]["Rotate"]["ItemProcessor"]
    path = _path(items, "StartRotation")
    assert "AwaitTurn" in path
    assert len(path) == STATES_OF_AN_ITEM


def _path(machine: State, last: str) -> list[str]:
    """The longest way to a state on which nothing fails."""
    ways = [[machine["StartAt"]]]
    found: list[list[str]] = []
    while ways:
        way = ways.pop()
        state = machine["States"][way[-1]]
        if way[-1] == last:
            found.append(way)
        nexts = [choice["Next"] for choice in state.get("Choices", [])]
        ways += [[*way, name] for name in (*nexts, state.get("Default"), state.get("Next")) if name]
    return max(found, key=len)
