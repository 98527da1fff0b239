"""Readers of any one slot: with more usernames than slots the value of every slot logs in (protocol V18, V19)."""

import json
from collections.abc import Iterator
from dataclasses import replace
from unittest.mock import patch

import pytest

from lockstep.protocol.errors import DatabaseUnreachableError, ReadSideLaggingError
from lockstep.protocol.model import Strategy
from lockstep.protocol.ring import MAX_IN_USE
from lockstep.stores.credential import POLL_SECONDS
from tests.support.fence import fence_held
from tests.support.memory import PLACEHOLDER_TEXT, MemoryWorld, make_plan
from tests.support.memory_ring import MemoryRing
from tests.unit.harness import rotate_again
from tests.unit.ring_world import RingWorld, attempt, ring_world

SLOTS = 3


@pytest.fixture
def world() -> Iterator[RingWorld]:
    plan = make_plan(strategy=Strategy.ALTERNATING_USERS, users=5)
    with ring_world(slots=SLOTS, plan=plan) as made:
        login = made.memory.stores["aws"].read_current().login
        assert login
        for slot in range(SLOTS):  # As an import leaves it.
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


def test_a_value_that_was_abandoned_before_an_outage_is_ended_after_it(world: RingWorld) -> None:
    """Runs that fail before they claim raise the fence, and the next generation is as high: nothing is between."""
    for n in range(4):
        assert attempt(world, f"oci-{n}") == "rotated"
    refused: set[str] = set()

    def refuses(password: str) -> bool:
        if len(refused) < 2:
            refused.add(password)
        return password in refused

    world.memory.databases["db-2"].refuses = refuses
    assert attempt(world, "oci-refused") == "PasswordRefusedByPolicyError"
    abandoned = world.memory.stores["aws"].read_generation(world.memory.lock.record.highest_generation)
    assert abandoned
    assert world.memory.databases["db-1"].accepts(abandoned.login)
    world.memory.lock.record = replace(world.memory.lock.record, fence=1_000)
    assert attempt(world, "oci-after") == "rotated"
    assert world.read().username == abandoned.login.username
    assert not world.memory.databases["db-1"].accepts(abandoned.login)
    assert world.lockouts == []


def test_the_first_value_is_in_every_slot(world: RingWorld) -> None:
    """At bootstrap the slots hold placeholders, and a reader of one would wait until its turn."""
    looks, world.sandbox.on_call = world.sandbox.on_call, lambda *_: None
    for slot in world.ring.ids["app_user"]:
        world.ring.console.edit(slot, PLACEHOLDER_TEXT)
    memory = world.memory
    memory.stores["aws"].edit("app_user", PLACEHOLDER_TEXT)
    memory.lock.record = replace(memory.lock.record, take_over=frozenset(memory.databases))
    assert attempt(world, "oci-first") == "rotated"
    assert [world.read_slot(slot) for slot in range(SLOTS)] == [world.read()] * SLOTS
    world.sandbox.on_call = looks
    for n in range(4):
        assert attempt(world, f"oci-{n}") == "rotated"
    assert world.lockouts == []


def test_a_reconcile_replaces_what_other_slots_serve_and_is_revoked(world: RingWorld) -> None:
    """A database was restored from a backup: it knows what one slot serves, and not what the others do."""
    for n in range(4):
        assert attempt(world, f"oci-{n}") == "rotated"
    world.any_slot = []
    served, old = world.read(), [world.read_slot(slot) for slot in range(SLOTS)]
    for username, account in world.memory.databases["db-1"].accounts.items():
        if username != served.username:
            account.passwords = ("of-the-backup",)
    world.memory.stores["aws"].edit("app_user", json.dumps({"username": "x", "password": "typed"}))
    assert attempt(world, "oci-reconcile") == "rotated"
    assert [world.read_slot(slot) for slot in range(SLOTS)] == [served] * SLOTS != old
    world.any_slot = list(range(SLOTS))
    for n in range(4):
        assert attempt(world, f"oci-after-{n}") == "rotated"
    assert world.lockouts == []


def test_a_reconcile_leaves_a_slot_that_was_edited_since(world: RingWorld) -> None:
    assert attempt(world, "oci-1") == "rotated"
    assert attempt(world, "oci-2") == "rotated"
    login, edits = world.read(), [1]
    assert world.slot() == SLOTS - 1  # The reconcile is promoted in the slot before it.

    def edit_once(when: str, operation: str, _resource: str) -> None:
        if (when, operation) == ("before", "get_secret") and edits:  # UpdateSecrets has begun.
            edits.pop()
            world.edit(0, login, team="ledger")

    world.memory.stores["aws"].edit("app_user", json.dumps({"username": "x", "password": "typed"}))
    world.sandbox.on_call = edit_once
    assert attempt(world, "oci-reconcile") == "rotated"
    assert json.loads(world.ring.console.current(world.ring.ids["app_user"][0])[1])["team"] == "ledger"
    assert attempt(world, "oci-after") == "rotated"
    assert json.loads(world.ring.current_text("app_user"))["team"] == "ledger"


def test_a_reconcile_says_which_slot_it_leaves_since_it_is_full(
    world: RingWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """Its readers have a login that may be revoked, until somebody makes room."""
    assert attempt(world, "oci-1") == "rotated"
    assert attempt(world, "oci-2") == "rotated"
    login, world.any_slot = world.read(), []
    slot = world.ring.ids["app_user"][0]
    while len(world.ring.console.versions(slot)) < MAX_IN_USE:  # Lockstep deletes no version of others.
        world.edit(0, login)
    world.memory.stores["aws"].edit("app_user", json.dumps({"username": "x", "password": "typed"}))
    assert attempt(world, "oci-reconcile") == "rotated"
    [warning] = [json.loads(r.message) for r in caplog.records if "slot left" in r.message]
    assert warning == {
        "warning": "slot left as it is",
        "error": "StoreQuotaExceededError",
        "store": "oci",
        "secret": world.ring.names["app_user"].replace("/", ".") + ".0",
    }


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


def test_a_spread_is_waited_for_in_every_slot() -> None:
    """A reader of a slot that lags would still get what is about to die."""
    memory = MemoryWorld.create(make_plan(strategy=Strategy.ALTERNATING_USERS), users=3)
    for n in range(3):
        assert rotate_again(memory, f"run-{n}").outcome == "rotated"
    stores, generation = memory.ports().stores, memory.lock.record.current_generation
    assert generation
    lagging = [False] * 4  # Of each secret, two looks.

    def shows(_self: MemoryRing, _version: str) -> bool:
        return lagging.pop() if lagging else True

    before = memory.clock.monotonic()
    with patch.object(MemoryRing, "shows", shows):
        stores.spread(generation, fence_held, memory.clock)
    assert memory.clock.monotonic() == before + 2 * POLL_SECONDS
    assert rotate_again(memory, "run-4").outcome == "rotated"
    generation = memory.lock.record.current_generation
    assert generation
    with patch.object(MemoryRing, "shows", lambda *_: False), pytest.raises(ReadSideLaggingError):
        stores.spread(generation, fence_held, memory.clock)


def test_with_one_username_a_full_slot_does_not_hold_up_an_emergency() -> None:
    """Nobody reads that slot alone, so its value may die."""
    with ring_world(slots=SLOTS) as world:
        for n in range(SLOTS):
            assert attempt(world, f"oci-{n}") == "rotated"
        leaked, other = world.read(), (world.slot() + 1) % SLOTS
        slot = world.ring.ids["app_user"][other]
        while len(world.ring.console.versions(slot)) < MAX_IN_USE:
            world.edit(other, leaked)
        record = world.memory.lock.record
        world.memory.lock.record = replace(record, revoke_through=record.highest_generation)
        assert attempt(world, "oci-emergency") == "rotated"
        assert not any(database.accepts(leaked) for database in world.memory.databases.values())
        assert attempt(world, "oci-after") == "rotated"
        assert world.lockouts == []
