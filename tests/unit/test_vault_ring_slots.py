"""A slot that is denied, deleted, edited or not there."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from lockstep.oci.vault import Vault
from lockstep.protocol import names
from lockstep.protocol.errors import (
    ReadSideLaggingError,
    SecretNotFoundError,
    StagedValueConflictError,
    StoreAccessDeniedError,
)
from lockstep.protocol.model import Login, SecretStr
from lockstep.stores.ring import RingReader
from sandbox.emulators.oci import OciSandbox
from tests.contract.harness import PLACEHOLDER_TEXT
from tests.contract.oci_fixtures import (
    APP_USER_VERSIONS,
    OciConsole,
    VaultRingHarness,
    sandbox_clients,
    sandbox_vault,
)
from tests.support.fence import fence_held
from tests.unit.ring_world import (
    advance,
    attempt,
    emulated_ring,
    login_read,
    ring_world,
    slot_generations,
    value,
)

RUNNER_RIGHTS = (
    "SECRET_READ",
    "SECRET_UPDATE",
    "SECRET_VERSION_INSPECT",
    "SECRET_VERSION_DELETE",
    "SECRET_BUNDLE_READ",
)
READER_RIGHTS = ("SECRET_BUNDLE_READ",)


@pytest.fixture
def four() -> Iterator[VaultRingHarness]:
    with emulated_ring() as world:
        yield world


def vault_without(world: VaultRingHarness, denied: str, rights: tuple[str, ...], *lacking: str) -> Vault:
    """The vault for an identity with these rights on every slot, of which it lacks some on one."""
    key = world.sandbox.new_api_key("limited", "SECRET_INSPECT")
    for secret_id in [secret_id for ids in world.ids.values() for secret_id in ids]:
        granted = [right for right in rights if secret_id != denied or right not in lacking]
        world.sandbox.identity.permit("limited", *granted, resource=secret_id)
    return sandbox_vault(world.sandbox, sandbox_clients(world.sandbox, key))


# The runner: a missing right is not absence


@pytest.mark.parametrize("lacking", [RUNNER_RIGHTS, ("SECRET_READ", "SECRET_BUNDLE_READ")])
def test_a_slot_that_is_denied_is_not_a_missing_one(four: VaultRingHarness, lacking: tuple[str, ...]) -> None:
    advance(four, 1, 2, 3, 4)
    limited = four.store_on(vault_without(four, four.ids["app_user"][2], RUNNER_RIGHTS, *lacking))
    with pytest.raises(StoreAccessDeniedError) as error:
        limited.read_current()
    assert error.value.where["secret"] == "multi-cloud.app_user.2"


def test_a_slot_whose_values_are_denied_is_not_passed_over(four: VaultRingHarness) -> None:
    advance(four, 1, 2, 3, 4)
    denied = four.ids["app_user"][0]
    limited = four.store_on(vault_without(four, denied, RUNNER_RIGHTS, "SECRET_BUNDLE_READ"))
    with pytest.raises(ReadSideLaggingError) as error:  # It may also be new, and not on the read side yet.
        limited.read_current()
    assert error.value.where["code"] == "NotAuthorizedOrNotFound"


@pytest.mark.parametrize("right", RUNNER_RIGHTS[:3])
def test_nothing_is_promoted_around_a_denied_slot(four: VaultRingHarness, right: str) -> None:
    """Another slot would do for the runner, but not for the readers of the slot that it cannot see."""
    advance(four, 1, 2, 3, 4)
    before = slot_generations(four)
    limited = four.store_on(vault_without(four, four.ids["app_user"][3], RUNNER_RIGHTS, right))

    def rotate() -> None:
        limited.stage(value(5))
        limited.promote(5, fence_held)

    with pytest.raises(StoreAccessDeniedError):
        rotate()
    assert slot_generations(four) == before


@pytest.mark.parametrize("is_known", [True, False], ids=["OCID known", "OCID looked up"])
def test_a_deleted_slot_that_the_list_does_not_show_stops_the_runner(
    four: VaultRingHarness, *, is_known: bool
) -> None:
    """Whether Vault lists deleted secrets is not confirmed: if not, they look like slots that were never created."""
    advance(four, 1, 2, 3, 4)
    four.sandbox.vault.behaviour.lists_deleted = False
    gone = four.ids["app_user"].pop(2)
    before = slot_generations(four)
    four.console.remove(gone)
    store = four.store if is_known else four.rival()
    with pytest.raises(SecretNotFoundError) as error:
        store.read_current()
    assert error.value.where["secret"] == "multi-cloud.app_user.2"
    with pytest.raises(SecretNotFoundError):
        reader_on(sandbox_vault(four.sandbox)).newest()
    assert slot_generations(four) == before
    four.console.restore(gone)
    assert store.read_current().login == value(4).login


# A reader: a missing right is not absence


def reader_on(vault: Vault) -> RingReader:
    return RingReader(vault, APP_USER_VERSIONS)


def test_a_reader_that_may_not_read_the_newest_slot_gets_an_error_and_not_an_older_value(
    four: VaultRingHarness,
) -> None:
    advance(four, 1, 2, 3, 4)
    newest = four.serving("app_user")[0]
    limited = reader_on(vault_without(four, newest, READER_RIGHTS, *READER_RIGHTS))
    with pytest.raises(StoreAccessDeniedError) as error:
        limited.newest()
    assert error.value.where["secret"] == "multi-cloud.app_user.0"


def test_a_reader_passes_over_a_deleted_slot(four: VaultRingHarness) -> None:
    advance(four, 1, 2, 3, 4)
    reader = reader_on(sandbox_vault(four.sandbox))
    assert login_read(reader) == value(4).login
    four.console.remove(four.serving("app_user")[0])
    assert login_read(reader) == value(3).login


def test_a_reader_reads_a_ring_of_one_slot() -> None:
    """That of the first store (protocol V13)."""
    with emulated_ring(slots=1) as one:
        advance(one, 1, 2)
        assert login_read(reader_on(sandbox_vault(one.sandbox))) == value(2).login


def test_a_reader_does_not_pass_over_a_gap() -> None:
    """A slot that is not listed below one that is was moved to another compartment, or was deleted long ago."""
    with OciSandbox() as sandbox:
        console = OciConsole(sandbox)
        for slot in (0, 2):
            console.create_secret(names.slot_name(APP_USER_VERSIONS.secret, slot), PLACEHOLDER_TEXT)
        with pytest.raises(SecretNotFoundError) as error:
            reader_on(sandbox_vault(sandbox)).newest()
    assert error.value.where["secret"] == "multi-cloud.app_user.1"


# What people do to slots


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
