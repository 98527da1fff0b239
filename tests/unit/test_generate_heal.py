"""Generate after a change from outside: an edited secret, a lost lock table or an old copy of it."""

from dataclasses import replace

import pytest

from lockstep.errors import (
    FenceLostError,
    InvalidRequestError,
    LostCompareAndSetError,
    StoresDivergedError,
)
from lockstep.messages import (
    CandidateRef,
    ProbeResult,
    Probes,
)
from lockstep.model import LockRecord, Login, SecretStr, Strategy
from tests.support.memory import MemoryWorld, make_plan
from tests.support.memory_store import SecretKind
from tests.unit.flights import PHASES, asked_to_probe, both_strategies, dies, run_generate, steady
from tests.unit.harness import (
    INTERVAL_SECONDS,
    Killed,
    another_login,
    assert_in_step,
    at_every_boundary,
    edit,
    generated,
    held,
    login_of,
    rotate,
    rotate_again,
    served,
    set_password,
    shown,
    undisturbed,
)


def _loses_its_lock_table(world: MemoryWorld) -> None:
    world.lock.record = LockRecord(credential_id=world.credential.id)


# Healing


@pytest.mark.parametrize("edited", ["aws", "oci"])
@both_strategies
def test_an_edit_that_does_not_log_in_is_probed_and_replaced(edited: str, strategy: Strategy) -> None:
    world = steady(strategy)
    current = login_of(world, 2)
    edit(world.stores[edited], another_login(world))
    asked_to_probe(world, held(world, "third"))
    assert world.lock.record.claim is None
    world.clock.sleep(INTERVAL_SECONDS)
    result = rotate(world, "fourth")
    assert_in_step(world, result.generation)
    assert login_of(world, result.generation or 0) == current
    assert world.passwords.count == 2


@both_strategies
def test_an_edit_of_the_only_store_is_replaced_by_the_last_value(strategy: Strategy) -> None:
    world = steady(strategy, stores=1)
    current = login_of(world, 2)
    edit(world.stores["aws"], another_login(world))
    result = rotate(world, "third")
    assert_in_step(world, result.generation)
    assert login_of(world, result.generation or 0) == current


@both_strategies
def test_a_password_changed_by_hand_in_every_database_wins(strategy: Strategy) -> None:
    world = steady(strategy)
    changed = Login(login_of(world, 2).username, SecretStr("changed-by-hand"))
    set_password(world, changed)
    edit(world.stores["oci"], changed)
    result = rotate(world, "third")
    assert_in_step(world, result.generation)
    assert login_of(world, result.generation or 0) == changed


@pytest.mark.parametrize("secret", ["app_user", "connection_blob"])
def test_a_text_copied_by_hand_is_generation_0(secret: SecretKind) -> None:
    world = steady()
    current = login_of(world, 2)
    store = world.stores["oci"]
    store.edit(secret, store.current_text(secret))
    result = rotate(world, "third")
    assert result.generation == 3
    assert_in_step(world, 3)
    assert login_of(world, 3) == current


def test_without_a_winner_nothing_is_changed() -> None:
    world = steady()
    before = served(world)
    set_password(world, another_login(world, "in-no-store"))
    edit(world.stores["oci"], another_login(world))
    with pytest.raises(StoresDivergedError):
        rotate(world, "third")
    assert world.lock.record.claim is None
    assert served(world)["aws"] == before["aws"]


def test_a_login_that_only_one_database_accepts_does_not_win() -> None:
    world = steady()
    typed = another_login(world)
    world.databases["db-2"].accounts["app"].passwords = (typed.password.reveal(),)
    edit(world.stores["oci"], typed)
    with pytest.raises(StoresDivergedError):
        rotate(world, "third")


def test_placeholders_beside_a_recorded_generation_have_diverged() -> None:
    world = MemoryWorld.create(placeholder=True)
    world.lock.record = replace(world.lock.record, current_generation=5)
    with pytest.raises(StoresDivergedError):
        run_generate(world, held(world))


def test_probes_must_come_from_every_database() -> None:
    world = steady()
    edit(world.stores["oci"], another_login(world))
    rotation = held(world, "third")
    asked = asked_to_probe(world, rotation)
    for databases in ((), ("db-1",), ("db-1", "db-2", "db-3")):
        answers = tuple(ProbeResult(database=d, accepted=(True, True)) for d in databases)
        with pytest.raises(InvalidRequestError):
            run_generate(world, rotation, probes=Probes(candidates=asked.candidates, databases=answers))
    assert world.lock.record.claim is None


def test_a_winner_that_is_no_longer_stored_is_a_retryable_error() -> None:
    world = steady()
    edit(world.stores["oci"], another_login(world))
    rotation = held(world, "third")
    candidates = (CandidateRef(store="aws", version="gone"),)
    answers = tuple(ProbeResult(database=d, accepted=(True,)) for d in world.databases)
    with pytest.raises(LostCompareAndSetError):
        run_generate(world, rotation, probes=Probes(candidates=candidates, databases=answers))


@pytest.mark.parametrize(
    "phase", ["after lock claim", "after aws stage app_user", "after aws promote app_user"]
)
@both_strategies
def test_a_heal_in_flight_gives_way_to_a_login_that_works_now(phase: str, strategy: Strategy) -> None:
    world = steady(strategy)
    edit(world.stores["oci"], another_login(world))
    dies(world, phase)
    once_more = Login(login_of(world, 2).username, SecretStr("changed-once-more"))
    set_password(world, once_more)
    edit(world.stores["oci"], once_more)
    result = rotate(world, "taker")
    assert_in_step(world, result.generation)
    assert login_of(world, result.generation or 0) == once_more


@pytest.mark.parametrize(
    "phase", ["after lock claim", "after aws stage app_user", "after aws promote app_user"]
)
@both_strategies
def test_a_heal_in_flight_whose_login_still_works_is_finished_under_its_own_generation(
    phase: str, strategy: Strategy
) -> None:
    world = steady(strategy)
    edit(world.stores["oci"], another_login(world))
    dies(world, phase)
    claim = world.lock.record.claim
    assert claim
    result = rotate(world, "taker")
    assert (result.generation, result.adopted) == (claim.generation, True)
    assert_in_step(world, claim.generation)


@pytest.mark.parametrize("phase", PHASES[:6])
@both_strategies
def test_a_rotation_in_flight_is_finished_after_an_edit_that_does_not_log_in(
    phase: str, strategy: Strategy
) -> None:
    world = steady(strategy)
    dies(world, phase)
    staged = world.stores["aws"].read_generation(3)
    edit(world.stores["oci"], another_login(world))
    result = rotate(world, "taker")
    assert (result.generation, result.adopted) == (3, True)
    assert staged is None or login_of(world, 3) == staged.login


@both_strategies
def test_a_generation_in_flight_gives_way_if_base_is_dead_and_the_edit_logs_in(strategy: Strategy) -> None:
    world = steady(strategy)
    dies(world, "after oci stage connection_blob")
    changed = Login(login_of(world, 2).username, SecretStr("changed-by-hand"))
    set_password(world, changed)
    edit(world.stores["oci"], changed)
    result = rotate(world, "taker")
    assert (result.generation, result.adopted) == (4, False)
    assert_in_step(world, 4)
    assert login_of(world, 4) == changed


def test_a_run_that_lost_the_lock_finishes_no_heal() -> None:
    world = steady()
    edit(world.stores["oci"], another_login(world))
    dies(world, "after lock claim")
    rotation = held(world, "zombie")
    asked = asked_to_probe(world, rotation)
    world.clock.sleep(INTERVAL_SECONDS)
    held(world, "taker", runner="oci")
    answers = tuple(
        ProbeResult(database=d, accepted=(True,) * len(asked.candidates)) for d in world.databases
    )
    with pytest.raises(FenceLostError):
        run_generate(world, rotation, probes=Probes(candidates=asked.candidates, databases=answers))
    assert world.stores["aws"].read_generation(3) is None


@pytest.mark.parametrize(
    ("stores", "phase", "expected"),
    [
        # No store serves the current generation: first that, then the one in flight, then what stores serve.
        (1, "after aws stage connection_blob", ["generation-2", "generation-3", "edit-4"]),
        # No store serves the generation in flight: first that, then what stores serve.
        (2, "after oci stage connection_blob", ["generation-3", "generation-2", "edit-4"]),
        (2, "after aws promote connection_blob", ["generation-2", "generation-3", "edit-4"]),
        (2, "after lock claim", ["generation-2", "edit-4"]),
    ],
)
def test_every_login_that_may_work_is_a_candidate(stores: int, phase: str, expected: list[str]) -> None:
    world = steady(stores=stores)
    dies(world, phase)
    edit(list(world.stores.values())[-1], another_login(world))
    asked = asked_to_probe(world, held(world, "taker"))
    assert [c.version for c in asked.candidates] == expected


@pytest.mark.parametrize("phase", PHASES[:-5])
@both_strategies
def test_an_edit_during_a_rotation_is_healed(phase: str, strategy: Strategy) -> None:
    world = steady(strategy)
    dies(world, phase)
    edit(world.stores["oci"], another_login(world))
    result = rotate(world, "taker")
    assert (result.generation, result.adopted) == (3, True)
    assert_in_step(world, 3)
    assert_in_step(world, rotate_again(world, "following").generation)


@pytest.mark.parametrize("phase", PHASES[4:6])
@both_strategies
def test_an_edit_during_a_rotation_whose_password_is_refused_is_healed(
    phase: str, strategy: Strategy
) -> None:
    world = steady(strategy)
    dies(world, phase)
    refused, base = login_of(world, 3).password.reveal(), login_of(world, 2)
    world.databases["db-2"].refuses = lambda password: password == refused
    edit(world.stores["oci"], another_login(world))
    result = rotate(world, "taker")
    assert (result.generation, result.adopted) == (5, False)
    assert_in_step(world, 5)
    assert login_of(world, 5) == base
    assert_in_step(world, rotate_again(world, "following").generation)


@both_strategies
def test_an_edit_back_to_a_revoked_base_is_healed(strategy: Strategy) -> None:
    world = steady(strategy)
    base = login_of(world, 2)

    def dies_once_base_is_dead(at: str) -> None:
        if at == "after db-2 retire":
            raise Killed

    at_every_boundary(world, dies_once_base_is_dead)
    with pytest.raises(Killed):
        rotate(world, "emergency", force=True, revoke_previous=True)
    undisturbed(world)
    world.clock.sleep(INTERVAL_SECONDS)
    edit(world.stores["oci"], base)
    result = rotate(world, "taker")
    assert (result.generation, result.adopted) == (3, True)
    assert_in_step(world, 3)


# A lost lock table, or an old copy of it


def _long_lived(strategy: Strategy) -> MemoryWorld:
    world = MemoryWorld.create(make_plan(strategy=strategy))
    world.lock.record = replace(world.lock.record, fence=56)
    rotate(world, "long-ago")
    world.clock.sleep(INTERVAL_SECONDS)
    return world


@both_strategies
def test_after_a_lost_lock_table_generations_continue_above_the_stores(strategy: Strategy) -> None:
    world = _long_lived(strategy)
    _loses_its_lock_table(world)
    _, claim = generated(world, held(world, "first-again"))
    assert (claim.generation, claim.base_generation) == (58, 57)
    assert_in_step(world, rotate_again(world, "second-again").generation)


@pytest.mark.parametrize("failed_runs", [0, 1, 2])
@both_strategies
def test_a_value_staged_before_the_table_was_lost_is_never_used(strategy: Strategy, failed_runs: int) -> None:
    # With alternating users the number of failed runs before decides which user the lost generation belongs to.
    world = steady(strategy)
    world.lock.record = replace(world.lock.record, fence=world.lock.record.fence + failed_runs)
    dies(world, "after db-1 stage")
    forgotten = world.stores["aws"].read_generation(3 + failed_runs)
    assert forgotten
    _loses_its_lock_table(world)
    for run in range(4):
        result = rotate_again(world, f"again-{run}")
        assert_in_step(world, result.generation)
        assert shown(login_of(world, result.generation or 0)) != shown(forgotten.login)


@both_strategies
def test_a_heal_does_not_use_a_forgotten_value(strategy: Strategy) -> None:
    world = steady(strategy)
    dies(world, "after db-1 stage")
    current = login_of(world, 2)
    _loses_its_lock_table(world)
    edit(world.stores["oci"], another_login(world))
    result = rotate(world, "healer")
    assert_in_step(world, result.generation)
    assert result.generation == 4
    assert login_of(world, result.generation or 0) == current


@both_strategies
def test_after_a_lost_lock_table_and_an_edit_generations_continue_above_connection_blob(
    strategy: Strategy,
) -> None:
    world = _long_lived(strategy)
    _loses_its_lock_table(world)
    current = login_of(world, 57)
    for store in world.stores.values():
        edit(store, current)
    result = rotate(world, "healer")
    assert result.generation == 58
    assert_in_step(world, 58)


@pytest.mark.parametrize("hand_edited", [False, True], ids=["new", "heal"])
@both_strategies
def test_a_claim_from_an_old_copy_of_the_lock_table_is_not_adopted(
    strategy: Strategy,
    hand_edited: bool,  # noqa: FBT001 - a row of the table
) -> None:
    world = steady(strategy)
    if hand_edited:
        edit(world.stores["oci"], another_login(world))
    dies(world, "after lock claim")
    copy = world.lock.record
    for run in range(3):
        rotate_again(world, f"before-the-loss-{run}")
    world.lock.record = replace(copy, heads=world.lock.record.heads)
    current = login_of(world, served(world)["aws"][0])
    result = rotate_again(world, "healer")
    assert_in_step(world, result.generation)
    assert login_of(world, result.generation or 0) == current
