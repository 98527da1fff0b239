"""Readers of any one slot: with more usernames than slots the value of every slot logs in (protocol V18, V19)."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from lockstep.errors import DatabaseUnreachableError
from lockstep.model import Strategy
from tests.support.memory import make_plan
from tests.unit.ring_world import RingWorld, attempt, ring_world

SLOTS = 3


@pytest.fixture
def world() -> Iterator[RingWorld]:
    plan = make_plan(strategy=Strategy.ALTERNATING_USERS, users=5)
    with ring_world(slots=SLOTS, plan=plan) as made:
        login = made.memory.stores["aws"].read_current().login
        assert login
        for slot in range(SLOTS):  # As a hand-over leaves it.
            made.edit(slot, login)
        made.any_slot = list(range(SLOTS))
        yield made


def fails_to_stage(operation: str) -> None:
    if operation == "stage":
        raise DatabaseUnreachableError


def test_every_slot_logs_in_through_rotations_and_failures(world: RingWorld) -> None:
    for n in range(12):
        if n % 4 == 3:
            # A database is away when the value was staged: the claim is left open and replaced or adopted.
            faults = world.memory.databases["db-1"].faults
            faults.before = fails_to_stage
            assert attempt(world, f"oci-down-{n}") == "DatabaseUnreachableError"
            faults.before = lambda _: None
        assert attempt(world, f"oci-{n}") == "rotated"
        assert world.lockouts == []
    assert len({world.read_slot(slot).username for slot in range(SLOTS)}) == SLOTS


def test_an_emergency_leaves_every_slot_with_a_value_that_lives(world: RingWorld) -> None:
    for n in range(4):
        assert attempt(world, f"oci-{n}") == "rotated"
    before = [world.read_slot(slot) for slot in range(SLOTS)]
    record = world.memory.lock.record
    world.memory.lock.record = replace(record, revoke_through=record.highest_generation)
    assert attempt(world, "oci-emergency") == "rotated"
    assert world.lockouts == []
    assert [world.read_slot(slot) for slot in range(SLOTS)] == [world.read()] * SLOTS
    for database in world.memory.databases.values():
        assert not any(database.accepts(login) for login in before)
    for n in range(4):
        assert attempt(world, f"oci-after-{n}") == "rotated"
    assert world.lockouts == []
