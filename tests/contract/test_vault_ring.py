"""The ring of Vault secrets: order, calls, quota, what happens to its slots, who reads it (protocol V13, V20)."""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from lockstep.client import CredentialClient, oci_ring_source
from lockstep.oci.ring import RingSlots
from lockstep.oci.vault import Vault
from lockstep.protocol import errors
from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE
from sandbox.emulators.oci import write_config_file
from sandbox.identities import RUNNERS_MAY
from tests.contract.clouds import (
    APP_USER_VERSIONS,
    CREDENTIAL,
    VaultRingHarness,
    sandbox_clients,
    sandbox_vault,
)
from tests.support.client_page import adapted, examples
from tests.support.fence import fence_held
from tests.support.ring_world import TAKEN_OVER, advance, attempt, emulated_ring, ring_world, value


@pytest.fixture
def four() -> Iterator[VaultRingHarness]:
    with emulated_ring() as world:
        yield world


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


# Calls


def test_calls_of_a_generation_that_was_just_named(four: VaultRingHarness) -> None:
    """What is known of the slots is not asked again: 22 calls in all."""
    store, generations = four.store, iter(range(1, 22))

    def rotation() -> None:
        generation = next(generations)
        store.read_current()
        seen = store.prepare(generation, is_new=True)(value(generation)).seen
        assert store.shows(store.prepare_promotion(generation, seen=seen)(fence_held))
        store.prune()

    for _ in range(20):
        rotation()
    four.sandbox.calls.clear()
    rotation()
    assert Counter(record.operation for record in four.sandbox.calls.records) == {
        "get_secret_bundle": 8 + 2,
        "list_secret_versions": 2 + 2,
        "update_secret": 2 + 2,
        "get_secret": 2,
        "schedule_secret_version_deletion": 2,
    }
    assert store.serves(21)


# A slow or busy service


def test_a_secret_that_is_being_updated_is_busy(four: VaultRingHarness) -> None:
    four.sandbox.vault.behaviour.updating_for = timedelta(seconds=5)
    four.store.stage(value(1))
    with pytest.raises(errors.StoreBusyError):
        four.store.promote(1, fence_held)
    four.clock.sleep(5)
    four.store.promote(1, fence_held)
    four.store.stage(value(2))  # In another slot.
    assert four.store.serves(1)


def test_a_staged_value_is_waited_for_where_it_is_read_and_is_not_absent(four: VaultRingHarness) -> None:
    """Management lists it and says that it was created, so staging does not wait."""
    store, clock = four.store, four.clock
    four.sandbox.vault.behaviour.read_lag = timedelta(seconds=3)
    began = clock.monotonic()
    assert (store.stage(value(1)).value, clock.monotonic()) == (value(1), began)
    assert store.read_generation(1) == value(1)
    assert 3 <= clock.monotonic() - began <= 4
    four.sandbox.vault.behaviour.read_lag = timedelta(seconds=60)
    store.stage(value(2))
    for read in (lambda: store.stage(value(2)), lambda: store.read_generation(2)):
        with pytest.raises(errors.ReadSideLaggingError):
            read()
    clock.sleep(60)
    assert store.stage(value(2)).value == value(2)
    store.promote(2, fence_held)
    assert not store.serves(2)
    clock.sleep(60)
    assert store.serves(2)


def test_a_promotion_compares_with_management_and_not_with_the_read_side(four: VaultRingHarness) -> None:
    advance(four, 1)
    four.store.stage(value(2))
    four.sandbox.vault.behaviour.read_lag = timedelta(minutes=1)
    four.rival().promote(2, fence_held)
    four.store.promote(2, fence_held)
    assert four.store.read_current().generation == 1
    assert not four.store.serves(2)
    with pytest.raises(errors.FenceLostError):
        four.store.promote(1, fence_held)


def test_superseded_versions_are_scheduled_for_deletion_except_the_newest(four: VaultRingHarness) -> None:
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
    assert set(scheduled.values()) == {four.clock.now() + timedelta(hours=24, minutes=10)}
    assert four.rival().prune() == 0


def test_pruning_that_fails_is_a_warning(four: VaultRingHarness, caplog: pytest.LogCaptureFixture) -> None:
    advance(four, *range(1, 17))
    with four.sandbox.faults.refuse(
        "schedule_secret_version_deletion", status=429, code="TooManyRequests", times=None
    ):
        advance(four, 17, 18, 19, 20)
    assert [json.loads(r.message)["error"] for r in caplog.records][:1] == ["StoreThrottledError"]
    assert four.rival().prune() == 2 * 5  # The four that failed, and one of the last rotation.
    with four.sandbox.faults.refuse(
        "list_secret_versions", status=404, code="NotAuthorizedOrNotFound", times=None
    ):
        assert four.rival().prune() == 0


def test_refused_generations_do_not_fill_the_ring_and_one_without_room_is_an_error_and_serves_on(
    four: VaultRingHarness,
) -> None:
    def stage(*generations: int) -> None:
        for generation in generations:
            four.store.stage(value(generation))

    # A server's policy refuses the password of many runs, and each run stages a new one.
    advance(four, *range(1, 5))
    stage(*range(5, 95))
    four.store.promote(94, fence_held)
    advance(four, 95)
    assert four.store.serves(95)
    four.sandbox.vault.behaviour.replaced_pending = "PENDING"  # Vault does not delete PENDING versions.
    with pytest.raises(errors.StoreQuotaExceededError):
        stage(*range(96, 294))
    assert four.store.read_current().login == value(95).login


# A slot that is denied, deleted, edited or not there


RUNNER_RIGHTS = RUNNERS_MAY[1:]


def vault_without(world: VaultRingHarness, denied: str, rights: tuple[str, ...], *lacking: str) -> Vault:
    """The vault for an identity with these rights on every slot, of which it lacks some on one."""
    key = world.sandbox.new_api_key("limited", "SECRET_INSPECT")
    for secret_id in [secret_id for ids in world.ids.values() for secret_id in ids]:
        granted = [right for right in rights if secret_id != denied or right not in lacking]
        world.sandbox.identity.permit("limited", *granted, resource=secret_id)
    return sandbox_vault(world.sandbox, sandbox_clients(world.sandbox, key))


# The runner: a missing right is not absence


@pytest.mark.parametrize(
    ("lacking", "error"),
    [
        (RUNNER_RIGHTS, errors.StoreAccessDeniedError),
        (("SECRET_READ", "SECRET_BUNDLE_READ"), errors.StoreAccessDeniedError),
        # It may also be new, and not on the read side yet.
        (("SECRET_BUNDLE_READ",), errors.ReadSideLaggingError),
        *(((right,), errors.StoreAccessDeniedError) for right in RUNNER_RIGHTS[:3]),
    ],
)
def test_a_slot_that_is_denied_is_not_a_missing_one_and_nothing_is_promoted_around_it(
    four: VaultRingHarness, lacking: tuple[str, ...], error: type[errors.LockstepError]
) -> None:
    """Another slot would do for the runner, but not for the readers of the slot that it cannot see."""
    advance(four, 1, 2, 3, 4)
    limited = four.store_on(vault_without(four, four.ids["app_user"][3], RUNNER_RIGHTS, *lacking))
    with pytest.raises(error) as caught:  # noqa: PT012 - in one of the three
        limited.read_current()
        limited.stage(value(5))
        limited.promote(5, fence_held)
    assert caught.value.where["secret"] == "multi-cloud.app_user.3"
    assert slot_generations(four) == [4, 3, 2, 1]


@pytest.mark.parametrize("is_known", [True, False], ids=["OCID known", "OCID looked up"])
@pytest.mark.parametrize("slot", [2, 3])
def test_a_deleted_slot_that_no_list_shows_stops_the_run(
    four: VaultRingHarness, slot: int, *, is_known: bool
) -> None:
    """Whether Vault lists deleted secrets is not confirmed: if not, they look like slots that were never created.

    So does one that was moved to another compartment; a reader, who does not know how many slots there are, passes over
    no such gap either.
    """
    advance(four, 1, 2, 3, 4)
    four.sandbox.vault.behaviour.lists_deleted = False
    gone = four.ids["app_user"].pop(slot)
    four.console.remove(gone)
    store = four.store if is_known else four.rival()
    for read in (store.read_current, reader_on(sandbox_vault(four.sandbox)).newest)[: 4 - slot]:
        with pytest.raises(errors.SecretNotFoundError) as error:
            read()
        assert error.value.where["secret"] == f"multi-cloud.app_user.{slot}"
    four.console.restore(gone)
    assert store.read_current().login == value(4).login


# A reader: a missing right is not absence


def slot_generations(world: VaultRingHarness) -> list[int]:
    """The generation that each slot of `app_user` serves."""
    return [
        APP_USER_VERSIONS.generation_of(world.console.current(secret_id)[0])
        for secret_id in world.ids["app_user"]
    ]


def reader_on(vault: Vault) -> RingSlots:
    return RingSlots(vault, APP_USER_VERSIONS)


def test_a_reader_passes_over_a_deleted_slot_and_over_none_that_it_may_not_read(
    four: VaultRingHarness,
) -> None:
    advance(four, 1, 2, 3, 4)
    newest = four.serving("app_user")[0]
    limited = reader_on(vault_without(four, newest, ("SECRET_BUNDLE_READ",), "SECRET_BUNDLE_READ"))
    with pytest.raises(errors.StoreAccessDeniedError) as error:
        limited.newest()
    assert error.value.where["secret"] == "multi-cloud.app_user.0"
    reader = reader_on(sandbox_vault(four.sandbox))
    assert "password-4" in str(reader.newest().text)
    four.console.remove(newest)
    assert "password-3" in str(reader.newest().text)


# What people do to slots


@pytest.mark.parametrize("text", ['{"username":"app","password":"by-hand","generation":9}', "not JSON"])
def test_an_edited_idle_slot_is_not_served_and_is_used_next(four: VaultRingHarness, text: str) -> None:
    advance(four, 1, 2, 3, 4)
    four.console.edit(four.ids["app_user"][2], text)
    assert four.store.read_current().login == value(4).login
    assert slot_generations(four) == [4, 3, 0, 1]
    advance(four, 5)
    assert slot_generations(four) == [4, 3, 5, 1]


@pytest.mark.parametrize(("slots", "alone"), [(1, True), (4, False), (4, True)])
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


def test_staging_a_generation_that_is_scheduled_for_deletion_is_a_conflict(four: VaultRingHarness) -> None:
    advance(four, 1)
    four.store.stage(value(2))
    four.console.edit(four.ids["app_user"][2], "displaces it", stage="PENDING")
    slot = four.ids["app_user"][2]
    late = oci.vault.models.ScheduleSecretVersionDeletionDetails(
        time_of_deletion=four.clock.now() + timedelta(days=2)
    )
    four.console.vaults.schedule_secret_version_deletion(slot, 2, late)
    with pytest.raises(errors.StagedValueConflictError):
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


# Rotations over a ring


def test_rotations_through_all_slots_lock_nobody_out_and_keep_other_keys(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Those of the newest edit, whichever slot it is in (protocol V20)."""
    caplog.set_level(logging.DEBUG)

    def teams() -> list[object]:
        return [json.loads(world.ring.console.current(i)[1]).get("team") for i in world.ring.ids["app_user"]]

    with ring_world() as world:
        assert world.read() == TAKEN_OVER
        world.edit(0, TAKEN_OVER, team="payments")
        for n in range(1, 12):
            assert world.rotate_again(f"oci-{n}").outcome == "rotated"
            assert world.in_sync()
        assert (world.lockouts, teams()) == ([], ["payments"] * 4)
        assert world.read().password.reveal() not in caplog.text
        for slot, team in enumerate(("ledger", "taxes")):
            world.memory.clock.sleep(1)
            world.edit(slot, world.read(), team=team)
            assert [attempt(world, f"{team}-{n}") for n in range(5)] == ["rotated"] * 5
            assert teams() == [team] * 4


# The client


def test_a_client_reads_the_highest_generation_whatever_a_copy_claims_as_the_page_shows(
    four: VaultRingHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, secret_names = (
        write_config_file(tmp_path, "application", four.sandbox.config()),
        CREDENTIAL.secret_names,
    )
    monkeypatch.setenv(CONFIG_FILE_VARIABLE, str(config))
    monkeypatch.setenv(OCI_ENDPOINT_VARIABLE, four.sandbox.endpoint)
    source = oci_ring_source(
        secret_names.app_user,
        region="eu-frankfurt-1",
        compartment_id=four.sandbox.compartment_id,
        vault_id=four.sandbox.vault_id,
        credential_id=CREDENTIAL.id,
    )
    with pytest.raises(
        errors.SecretMalformedError, match="never rotated: `lockstep rotate --force CREDENTIAL`"
    ):
        source()
    advance(four, 1, 2, 3, 4, 5)
    found, login = source(), value(5).login
    assert (found.username, found.password, found.generation) == (login.username, login.password, 5)
    older = next(i for i in four.ids["app_user"] if i != four.serving("app_user")[0])
    copied = {"username": "app", "password": "copied-by-hand", "generation": 999}
    four.console.edit(older, json.dumps(copied))
    assert source() == found
    own = {
        "multi-cloud/ledger_user": secret_names.app_user,
        "multi-cloud/ledger_user.connection": secret_names.connection_blob,
        "ocid1.compartment.oc1..aaaa": four.sandbox.compartment_id,
        "ocid1.vault.oc1.eu-frankfurt-1.aaaa": four.sandbox.vault_id,
    }
    [example] = [e for e in examples() if "oci_ring_source" in e]
    here: dict[str, CredentialClient] = {}
    exec(compile(adapted(example, own), "docs/client.md", "exec"), here)  # noqa: S102 - the page's example
    shown = here["credential"].get()
    assert (shown, set(shown.databases)) == (found, {server.name for server in CREDENTIAL.servers})
    for secret_id in four.ids["app_user"]:
        four.console.remove(secret_id)
    with pytest.raises(errors.SecretNotFoundError):
        source()
    four.sandbox.stop()
    with pytest.raises(errors.StoreUnreachableError):
        source()
