"""Behaviour that only the ring of Vault secrets has: the order of the slots, the calls, the quota."""

import json
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Literal

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from lockstep.protocol import ring
from lockstep.protocol.errors import (
    FenceLostError,
    ReadSideLaggingError,
    StoreBusyError,
    StoreQuotaExceededError,
)
from lockstep.protocol.model import CredentialValue, Login, SecretStr
from lockstep.protocol.ports import Clock
from lockstep.protocol.ring import Slot, Version
from sandbox.emulators.oci import OciSandbox
from tests.contract.oci_fixtures import APP_USER_VERSIONS, VaultRingHarness
from tests.support.fence import fence_held
from tests.unit.ring_world import TAKEN_OVER, advance, emulated_ring, ring_world, value


@pytest.fixture
def four() -> Iterator[VaultRingHarness]:
    with emulated_ring() as world:
        yield world


@pytest.fixture
def sandbox(four: VaultRingHarness) -> OciSandbox:
    return four.sandbox


@pytest.fixture
def clock(four: VaultRingHarness) -> Clock:
    return four.clock


def operations(sandbox: OciSandbox, operation: Callable[[], object]) -> dict[str, int]:
    sandbox.calls.clear()
    operation()
    made = [record.operation for record in sandbox.calls.records]
    return {name: made.count(name) for name in dict.fromkeys(made)}


# The order of the slots


def test_slots_take_turns_and_the_serving_slot_is_never_written(four: VaultRingHarness) -> None:
    seen = []
    for generation in range(1, 10):
        serving = four.serving("app_user")[0]
        before = [v.version_number for v in four.console.versions(serving)]
        four.store.stage(value(generation))
        assert [v.version_number for v in four.console.versions(serving)] == before
        four.store.promote(generation, fence_held)
        seen.append(four.ids["app_user"].index(four.serving("app_user")[0]))
    assert seen == [3, 2, 1, 0, 3, 2, 1, 0, 3]


def test_an_existing_login_stays_readable_until_every_slot_was_used(
    four: VaultRingHarness,
) -> None:
    four.edit("app_user", json.dumps({"username": "app", "password": "before"}))
    advance(four, 1, 2, 3, 4)
    assert four.store.read_generation(0) == CredentialValue(0, Login("app", SecretStr("before")))
    advance(four, 5, 6, 7, 8)
    assert four.store.read_generation(0) is None


def test_a_ring_of_one_slot_behaves_like_one_secret() -> None:
    with emulated_ring(slots=1) as one:
        advance(one, 1, 2, 3)
        stages = {v.version_number: v.stages for v in one.console.versions(one.ids["app_user"][0])}
    assert stages == {1: ["DEPRECATED"], 2: ["DEPRECATED"], 3: ["PREVIOUS"], 4: ["CURRENT", "LATEST"]}


def test_the_two_secrets_may_be_served_from_different_slots(four: VaultRingHarness) -> None:
    four.console.edit(four.ids["app_user"][2], "by hand")
    advance(four, 1)
    four.console.edit(four.ids["connection_blob"][1], "by hand")
    advance(four, 2)
    assert four.store.serves(2)


# Calls


def test_calls_of_a_generation_that_was_just_named(sandbox: OciSandbox, four: VaultRingHarness) -> None:
    """What is known of the slots is not asked again: 22 calls in all."""
    store = four.store
    for generation in range(1, 21):
        store.read_current()
        seen = store.prepare(generation, is_new=True)(value(generation)).seen
        store.prepare_promotion(generation, seen=seen)(fence_held)
        store.prune()
    found: list[Any] = []
    made = {
        "read_current": operations(sandbox, store.read_current),
        "prepare": operations(sandbox, lambda: found.append(store.prepare(21, is_new=True))),
        "stage": operations(sandbox, lambda: found.append(found[0](value(21)))),
        "look": operations(sandbox, lambda: found.append(store.prepare_promotion(21, seen=found[1].seen))),
        "promote": operations(sandbox, lambda: found.append(found[2](fence_held))),
        "shows": operations(sandbox, lambda: found.append(store.shows(found[3]))),
        "prune": operations(sandbox, lambda: found.append(store.prune())),
    }
    assert found[4:] == [True, 2]
    assert made == {
        "read_current": {"get_secret_bundle": 8},
        "prepare": {"list_secret_versions": 2},
        "stage": {"update_secret": 2},
        "look": {"list_secret_versions": 2, "get_secret": 2},
        "promote": {"update_secret": 2},
        "shows": {"get_secret_bundle": 2},
        "prune": {"schedule_secret_version_deletion": 2},
    }
    assert store.serves(21)


def test_a_slot_without_room_makes_staging_look_at_every_slot(
    sandbox: OciSandbox, four: VaultRingHarness
) -> None:
    advance(four, 1, 2, 3, 4)
    full = four.ids["app_user"][3]  # It serves 1, the lowest.
    for n in range(40):
        try:
            four.console.edit(full, "{}", stage="PENDING", name=f"by-hand-{n}")
        except oci.exceptions.ServiceError:
            break
    four.store.read_current()
    made = operations(sandbox, lambda: four.store.prepare(5, is_new=True)(value(5)))
    assert made["list_secret_versions"] == 1 + 4 + 1
    assert [v.name for v in four.console.versions(full) if APP_USER_VERSIONS.generation_of(v.name) == 5] == []
    four.store.promote(5, fence_held)
    assert four.store.serves(5)


# A slow or busy service


@pytest.mark.parametrize("code", ["IncorrectState", "Conflict"])
def test_a_secret_that_is_being_updated_is_busy(
    sandbox: OciSandbox, four: VaultRingHarness, clock: Clock, code: str
) -> None:
    sandbox.vault.behaviour.updating_for = timedelta(seconds=5)
    sandbox.vault.behaviour.busy_code = code
    four.store.stage(value(1))
    with pytest.raises(StoreBusyError) as error:
        four.store.promote(1, fence_held)
    assert error.value.where["code"] == code
    clock.sleep(5)
    four.store.promote(1, fence_held)
    four.store.stage(value(2))  # In another slot.
    assert four.store.serves(1)


def test_a_staged_value_is_waited_for_where_it_is_read(
    sandbox: OciSandbox, four: VaultRingHarness, clock: Clock
) -> None:
    """Management says that it was created, so staging does not wait. Management lists it: it is not absent."""
    sandbox.vault.behaviour.read_lag = timedelta(seconds=3)
    began = clock.monotonic()
    assert four.store.stage(value(1)).value == value(1)
    assert clock.monotonic() == began
    assert four.store.read_generation(1) == value(1)
    assert 3 <= clock.monotonic() - began <= 4


def test_a_read_side_that_stays_behind_is_an_error_and_keeps_the_staged_value(
    sandbox: OciSandbox, four: VaultRingHarness, clock: Clock
) -> None:
    sandbox.vault.behaviour.read_lag = timedelta(seconds=60)
    four.store.stage(value(1))
    with pytest.raises(ReadSideLaggingError):
        four.store.stage(value(1))
    with pytest.raises(ReadSideLaggingError):  # Management lists it, so it is not reported as absent.
        four.store.read_generation(1)
    clock.sleep(60)
    assert four.store.stage(value(1)).value == value(1)
    four.store.promote(1, fence_held)
    assert not four.store.serves(1)
    clock.sleep(60)
    assert four.store.serves(1)


def test_a_promotion_compares_with_management_and_not_with_the_read_side(
    sandbox: OciSandbox, four: VaultRingHarness
) -> None:
    advance(four, 1)
    four.store.stage(value(2))
    sandbox.vault.behaviour.read_lag = timedelta(minutes=1)
    four.rival().promote(2, fence_held)
    four.store.promote(2, fence_held)
    assert four.store.read_current().generation == 1
    assert not four.store.serves(2)
    with pytest.raises(FenceLostError):
        four.store.promote(1, fence_held)


# Abandoned versions and the quota


@pytest.mark.parametrize("replaced", ["DEPRECATED", "PENDING"])
def test_an_abandoned_version_is_never_served(
    sandbox: OciSandbox, four: VaultRingHarness, replaced: Literal["DEPRECATED", "PENDING"]
) -> None:
    sandbox.vault.behaviour.replaced_pending = replaced
    advance(four, 1)
    four.store.stage(value(2))
    for generation in range(3, 20):
        advance(four, generation)
        assert four.store.read_current().login == value(generation).login
    assert four.store.read_generation(2) in (None, value(2))


def test_superseded_versions_are_scheduled_for_deletion_except_the_newest(
    four: VaultRingHarness, clock: Clock
) -> None:
    four.slots = 1
    four.store = four.store_on(four.vault)
    four.store.stage(value(1))
    four.store.promote(1, fence_held)
    assert four.store.prune() == 0
    for generation in (2, 3, 4, 5, 6):
        four.store.stage(value(generation))
        four.store.promote(generation, fence_held)
    assert four.rival().prune() == 2 * 3
    versions = four.console.versions(four.ids["app_user"][0])
    scheduled = {v.version_number: v.time_of_deletion for v in versions if v.time_of_deletion}
    # Lockstep did not write 1, the placeholder. 7 is current, 6 previous, 5 the newest superseded one.
    assert list(scheduled) == [2, 3, 4]
    assert set(scheduled.values()) == {clock.now() + timedelta(hours=24, minutes=10)}
    assert four.rival().prune() == 0


def test_pruning_that_fails_is_a_warning(
    sandbox: OciSandbox, four: VaultRingHarness, caplog: pytest.LogCaptureFixture
) -> None:
    advance(four, *range(1, 17))
    with sandbox.faults.refuse(
        "schedule_secret_version_deletion", status=429, code="TooManyRequests", times=None
    ):
        advance(four, 17, 18, 19, 20)
    assert [json.loads(r.message)["error"] for r in caplog.records][:1] == ["StoreThrottledError"]
    assert four.rival().prune() == 2 * 5  # The four that failed, and one of the last rotation.
    with sandbox.faults.refuse(
        "list_secret_versions", status=404, code="NotAuthorizedOrNotFound", times=None
    ):
        assert four.rival().prune() == 0


def test_refused_generations_do_not_fill_the_ring(four: VaultRingHarness) -> None:
    # A server's policy refuses the password of many runs, and each run stages a new one.
    advance(four, *range(1, 5))
    for generation in range(5, 95):
        four.store.stage(value(generation))
    four.store.promote(94, fence_held)
    advance(four, 95)
    assert four.store.serves(95)


def test_a_ring_without_room_is_an_error_and_changes_nothing(
    sandbox: OciSandbox, four: VaultRingHarness
) -> None:
    sandbox.vault.behaviour.replaced_pending = "PENDING"  # Vault does not delete PENDING versions.
    advance(four, 1)

    def stage_many() -> None:
        for generation in range(2, 200):
            four.store.stage(value(generation))

    with pytest.raises(StoreQuotaExceededError):
        stage_many()
    assert four.store.read_current().login == value(1).login


# The rules of `lockstep.protocol.ring`


def slot(index: int, *versions: Version) -> Slot:
    return Slot(index=index, secret_id=f"slot-{index}", versions=versions)


def version(number: int, generation: int, *stages: str, deleted: bool = False) -> Version:
    return Version(
        number=number, generation=generation, stages=frozenset(stages), is_pending_deletion=deleted
    )


def test_the_only_slot_left_is_used_although_it_serves() -> None:
    last = slot(2, version(1, 9, "CURRENT"))
    assert ring.staging_slot([last], 10) is last


def test_a_full_slot_is_passed_over() -> None:
    full = slot(0, version(1, 1, "CURRENT"), *(version(n, 100 + n, "PENDING") for n in range(2, 31)))
    next_lowest = slot(1, version(1, 2, "CURRENT"))
    serving = slot(2, version(1, 3, "CURRENT"))
    assert ring.staging_slot([full, next_lowest, serving], 200) is next_lowest
    assert ring.staging_slot([full, serving], 200) is None


def test_a_version_that_may_be_in_flight_is_not_disposable() -> None:
    revoked = [version(n, n, "DEPRECATED") for n in (1, 2, 3)]
    others = [
        version(4, 0, "DEPRECATED"),
        version(5, 5, "DEPRECATED", deleted=True),
        version(6, 6, "PREVIOUS"),
        version(7, 10, "CURRENT"),
        version(8, 11, "DEPRECATED"),
        version(9, 12, "PENDING"),
    ]
    one = slot(0, *revoked, *others)
    assert ring.disposable(one, below=10) == revoked[:2]
    # Once generation 13 is claimed, 11 is abandoned. It stays because it is the newest superseded version.
    assert ring.disposable(one, below=13) == revoked


def test_no_more_deletions_are_scheduled_than_vault_allows() -> None:
    revoked = [version(n, n, "DEPRECATED") for n in range(1, 6)]
    leaving = [version(n, n, "DEPRECATED", deleted=True) for n in range(6, 34)]
    one = slot(0, *revoked, *leaving, version(99, 99, "CURRENT"))
    assert ring.disposable(one, below=99) == revoked[:2]


def test_a_version_scheduled_for_deletion_does_not_hold_its_generation() -> None:
    one = slot(0, version(1, 4, "DEPRECATED", deleted=True), version(2, 5, "CURRENT"))
    assert ring.holder([one], 4) is None


# Secrets


def test_nothing_secret_is_logged_even_at_debug(
    four: VaultRingHarness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    advance(four, 1)
    four.rival().read_current()
    assert caplog.records
    assert "password-1" not in caplog.text


def test_rotations_through_all_slots_lock_no_application_out() -> None:
    with ring_world() as world:
        assert world.read() == TAKEN_OVER
        for n in range(1, 12):
            assert world.rotate_again(f"oci-{n}").outcome == "rotated"
            assert world.in_sync()
        assert world.lockouts == []
