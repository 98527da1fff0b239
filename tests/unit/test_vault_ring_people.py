"""The ring under changes by hand: edits, forgeries, slots that are deleted, restored and added."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from lockstep.protocol.errors import (
    EditedMeanwhileError,
    StagedValueConflictError,
)
from lockstep.protocol.model import Login, SecretStr
from tests.contract.oci_fixtures import APP_USER_VERSIONS, VaultRingHarness
from tests.support.fence import fence_held
from tests.unit.ring_world import (
    advance,
    attempt,
    emulated_ring,
    ring_world,
    slot_generations,
    value,
)


@pytest.fixture
def four() -> Iterator[VaultRingHarness]:
    with emulated_ring() as world:
        yield world


def test_an_edited_idle_slot_is_not_served_and_is_used_next(
    four: VaultRingHarness,
) -> None:
    advance(four, 1, 2, 3, 4)
    copied = json.dumps({"username": "app", "password": "by-hand", "generation": 9})
    four.console.edit(four.ids["app_user"][2], copied)
    assert four.store.read_current().login == value(4).login
    assert slot_generations(four) == [4, 3, 0, 1]
    advance(four, 5)
    assert slot_generations(four) == [4, 3, 5, 1]


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("alone", [False, True])
def test_an_edit_of_the_serving_slot_is_reconciled(*, slots: int, alone: bool) -> None:
    with ring_world(slots=slots, alone=alone) as world:
        for n in range(1, 4):
            assert world.rotate_again(f"oci-{n}").outcome == "rotated"
        copied = json.loads(world.ring.current_text("app_user")) | {"password": "by-hand"}
        world.ring.edit("app_user", json.dumps(copied))
        if slots == 1:
            world.lockouts.clear()  # Applications read the edit until the next run.
        reconciled = world.rotate_again("oci-4")
        assert (reconciled.outcome, world.in_sync()) == ("rotated", True)
        if slots > 1:
            assert world.lockouts == []  # Until then the generation before it is served, and logs in.
        assert world.rotate_again("oci-5").outcome == "rotated"
        assert world.in_sync()


def test_a_login_written_into_every_slot_by_hand_is_taken_over() -> None:
    with ring_world(alone=True) as world:
        world.rotate_again("oci-1")
        world.rotate_again("oci-2")
        by_hand = Login("app", SecretStr("by-hand"))
        for database in world.memory.databases.values():
            database.accounts["app"].passwords = ("by-hand",)
        for slot in range(4):
            world.edit(slot, by_hand, generation=99)
        assert world.store.read_current().login == by_hand
        assert world.rotate_again("oci-3").outcome == "rotated"
        assert world.read() == by_hand
        assert world.in_sync()


def test_a_promotion_of_an_old_version_by_hand_is_reconciled() -> None:
    with ring_world() as world:
        for n in range(1, 7):
            world.rotate_again(f"oci-{n}")
        serving = world.ring.serving("app_user")[0]
        previous = next(v for v in world.ring.console.versions(serving) if "PREVIOUS" in v.stages)
        world.ring.console.promote(serving, previous.version_number)
        assert world.rotate_again("oci-7").outcome == "rotated"
        assert world.in_sync()
        assert world.lockouts == []


def test_an_idle_slot_may_hold_any_text(four: VaultRingHarness) -> None:
    advance(four, 1)
    four.console.edit(four.ids["app_user"][0], "not JSON")
    assert four.store.read_current().login == value(1).login


def test_staging_a_generation_that_is_scheduled_for_deletion_is_a_conflict(four: VaultRingHarness) -> None:
    advance(four, 1)
    four.store.stage(value(2))
    four.console.edit(four.ids["app_user"][2], "displaces it", stage="PENDING")
    slot = four.ids["app_user"][2]
    four.console.schedule(slot, 2, four.clock.now() + timedelta(days=2))
    with pytest.raises(StagedValueConflictError):
        four.store.stage(value(2))


@pytest.mark.parametrize("when", ["before the look", "before the staging", "before the promotion"])
@pytest.mark.parametrize("adds", [True, False])
def test_an_edit_of_the_very_slot_that_takes_the_value_is_seen(
    four: VaultRingHarness, when: str, *, adds: bool
) -> None:
    """Whatever comes after the reading, also before the staging (protocol V21)."""
    advance(four, 1, 2, 3, 4)
    slot = four.ids["app_user"][3]  # It serves 1, the lowest.
    edit = {"username": "app", "password": "by-hand", **({"added": 1} if adds else {})}

    def edited(at: str) -> None:
        if at == when:
            four.console.edit(slot, json.dumps(edit))

    four.store.read_current()
    edited("before the look")
    put = four.store.prepare(5, is_new=True)
    edited("before the staging")
    seen = put(value(5)).seen
    edited("before the promotion")
    if adds:
        with pytest.raises(EditedMeanwhileError):
            four.store.prepare_promotion(5, seen=seen)(fence_held)
        assert json.loads(four.console.current(slot)[1]) == edit
    else:
        four.store.prepare_promotion(5, seen=seen)(fence_held)
        assert four.store.serves(5)


def test_a_version_of_the_name_in_another_slot_is_not_promoted(four: VaultRingHarness) -> None:
    """It was staged there before the lock table was lost: the slot that was seen says which one is meant."""
    advance(four, 1, 2, 3, 4)
    name = APP_USER_VERSIONS.name_of(5)
    four.console.edit(four.ids["app_user"][1], '{"username":"x","password":"y"}', stage="PENDING", name=name)
    four.store.read_current()
    seen = four.store.prepare(5, is_new=True)(value(5)).seen
    four.console.edit(four.ids["app_user"][3], '{"username":"app","password":"by-hand"}')  # Look again.
    promoted = four.store.prepare_promotion(5, seen=seen)(fence_held)
    assert promoted.app_user.startswith("3:")
    assert four.store.read_current().login == value(5).login


# Slots that are deleted, restored and added


@pytest.mark.parametrize("serves", [True, False])
def test_a_ring_works_without_a_deleted_slot_and_uses_it_again_when_restored(
    *, serves: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with ring_world() as world:
        for n in range(1, 5):
            world.rotate_again(f"oci-{n}")
        slot = world.ring.ids["app_user"][world.slot() if serves else (world.slot() + 1) % 4]
        world.ring.ids["app_user"].remove(slot)  # Applications pass over a deleted slot too.
        world.ring.console.remove(slot)
        # The process has cached the slot's OCID.
        outcomes = [attempt(world, f"oci-{n}") for n in (5, 6, 7, 8)]
        assert outcomes == ["rotated"] * 4
        assert world.in_sync()
        assert world.lockouts == []
        assert '"warning": "deleted"' in caplog.text
        world.ring.console.restore(slot)
        world.ring.ids["app_user"].append(slot)
        assert [attempt(world, f"oci-{n}") for n in (9, 10, 11)] == ["rotated"] * 3
        assert world.lockouts == []
