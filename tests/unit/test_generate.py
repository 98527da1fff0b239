"""Generate: one generation in flight, staged in every store before any database is changed (protocol I2, I4)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from lockstep.errors import (
    FenceLostError,
    LostCompareAndSetError,
    SecretMalformedError,
    StagedValueConflictError,
    StoreUnreachableError,
    UnknownUsernameError,
)
from lockstep.model import Claim, ClaimKind, CredentialValue, Login, SecretStr, Strategy
from tests.support.memory import PLACEHOLDER_TEXT, MemoryWorld, make_plan
from tests.unit.flights import PHASES, both_strategies, dies, run_generate, steady
from tests.unit.harness import (
    INTERVAL_SECONDS,
    another_login,
    assert_in_step,
    at_every_boundary,
    edit,
    generated,
    held,
    interrupted,
    known_logins,
    login_of,
    rotate,
    rotate_again,
    served,
    shown,
    undisturbed,
)

# A new generation


@both_strategies
def test_a_new_generation_is_claimed_and_staged_in_every_store_and_in_no_database(
    strategy: Strategy,
) -> None:
    world = steady(strategy)
    before = known_logins(world), served(world)
    result, claim = generated(world, held(world, "third"))
    assert claim == Claim(
        kind=ClaimKind.NEW, generation=3, base_generation=2, previous_generation=1, rotation_id="third"
    )
    assert not result.adopted
    assert result.databases == ("db-1", "db-2")
    assert world.lock.record.claim == claim
    staged = [store.read_generation(3) for store in world.stores.values()]
    assert staged[0] is not None
    assert staged[0] == staged[1]
    assert (known_logins(world), served(world)) == before


def test_with_alternating_users_the_other_user_gets_the_new_password() -> None:
    world = steady(Strategy.ALTERNATING_USERS)
    current = login_of(world, 2).username
    generated(world, held(world, "third"))
    assert {current, login_of(world, 3).username} == {"app_a", "app_b"}


def test_stores_are_staged_in_the_order_of_the_plan_after_the_claim() -> None:
    world = steady()
    seen: list[str] = []
    at_every_boundary(world, seen.append)
    run_generate(world, held(world, "third"))
    undisturbed(world)
    writes = [b for b in seen if b.startswith("before") and any(w in b for w in ("claim", "stage"))]
    assert writes == [
        "before lock claim",
        "before aws stage app_user",
        "before aws stage connection_blob",
        "before oci stage app_user",
        "before oci stage connection_blob",
    ]


def test_the_output_holds_no_secret() -> None:
    world = steady()
    result, _ = generated(world, held(world, "third"))
    text = result.model_dump_json()
    assert login_of(world, 3).password.reveal() not in text
    assert login_of(world, 2).password.reveal() not in text


def test_an_existing_login_is_taken_over_as_generation_0() -> None:
    world = MemoryWorld.create()
    _, claim = generated(world, held(world))
    assert (claim.generation, claim.base_generation, claim.previous_generation) == (1, 0, None)
    assert login_of(world, 1).username == login_of(world, 0).username


def test_an_existing_login_must_have_a_username_of_the_plan() -> None:
    world = MemoryWorld.create()
    for store in world.stores.values():
        edit(store, Login("root", SecretStr("before-lockstep")))
    with pytest.raises(UnknownUsernameError):
        generated(world, held(world))


@both_strategies
def test_placeholders_are_replaced_by_the_first_generation(strategy: Strategy) -> None:
    world = MemoryWorld.create(make_plan(strategy=strategy), placeholder=True)
    _, claim = generated(world, held(world))
    assert (claim.kind, claim.generation, claim.base_generation) == (ClaimKind.NEW, 1, 0)
    assert login_of(world, 1).username == world.credential.usernames[0]
    assert_in_step(world, rotate_again(world, "whole").generation)


@pytest.mark.parametrize("empty", ["aws", "oci"])
@both_strategies
def test_if_one_store_holds_a_placeholder_the_login_of_the_other_is_taken_over(
    empty: str, strategy: Strategy
) -> None:
    world = MemoryWorld.create(make_plan(strategy=strategy))
    login = login_of(world, 0)
    world.stores[empty].edit("app_user", PLACEHOLDER_TEXT)
    result = rotate(world, "first")
    assert_in_step(world, result.generation)
    assert login_of(world, 1) == login


# Errors that change nothing


@pytest.mark.parametrize("store", ["aws", "oci"])
def test_an_unreachable_store_ends_the_step_before_anything_is_claimed(store: str) -> None:
    world = steady()
    rotation = held(world, "third")
    world.stores[store].faults.before = _fails_at("read_current", StoreUnreachableError(store=store))
    with pytest.raises(StoreUnreachableError):
        run_generate(world, rotation)
    undisturbed(world)
    assert world.lock.record.claim is None
    assert all(s.read_generation(3) is None for s in world.stores.values())


def test_a_malformed_secret_ends_the_step_before_anything_is_claimed() -> None:
    world = steady()
    world.stores["oci"].edit("app_user", "hunter2")
    with pytest.raises(SecretMalformedError):
        generated(world, held(world, "third"))
    assert world.lock.record.claim is None


def test_a_run_that_lost_the_lock_claims_nothing() -> None:
    world = steady()
    rotation = held(world, "third")
    world.clock.sleep(INTERVAL_SECONDS)
    held(world, "taker", runner="oci")
    with pytest.raises(FenceLostError):
        run_generate(world, rotation)
    assert world.lock.record.claim is None


def test_a_run_that_lost_the_lock_adopts_nothing() -> None:
    world = steady()
    rotation = held(world, "third")
    world.clock.sleep(INTERVAL_SECONDS)
    generated(world, held(world, "taker", runner="oci"))
    with pytest.raises(FenceLostError):
        run_generate(world, rotation)


def test_another_value_under_the_generation_is_an_error_and_stays() -> None:
    world = steady()
    rotation, stores = held(world, "third"), list(world.stores.values())
    forged = another_login(world)

    def forge(operation: str) -> None:
        if operation == "stage app_user":
            undisturbed(world)
            stores[1].stage(replace(_value(world, 2), generation=3, login=forged))

    stores[1].faults.before = forge
    with pytest.raises(StagedValueConflictError):
        run_generate(world, rotation)
    found = stores[1].read_generation(3)
    assert found
    assert found.login == forged


def _value(world: MemoryWorld, generation: int) -> CredentialValue:
    found = world.stores["aws"].read_generation(generation)
    assert found
    return found


def _fails_at(operation: str, error: Exception) -> Callable[[str], None]:
    def hook(at: str) -> None:
        if at == operation:
            raise error

    return hook


# Repetition


@both_strategies
def test_a_repeated_step_changes_nothing(strategy: Strategy) -> None:
    world = steady(strategy)
    rotation = held(world, "third")
    first = run_generate(world, rotation)
    value, record = login_of(world, 3), world.lock.record
    assert run_generate(world, rotation) == first
    assert (login_of(world, 3), world.lock.record) == (value, record)
    assert all(s.read_generation(4) is None for s in world.stores.values())


@both_strategies
def test_a_twin_at_any_boundary_stages_the_same_value(strategy: Strategy) -> None:
    at = 0
    while True:
        world = steady(strategy)
        rotation = held(world, "third")
        twin = interrupted(world, at, partial(run_generate, world, rotation))
        try:
            result = run_generate(world, rotation)
        except LostCompareAndSetError:  # Retryable.
            undisturbed(world)
            result = run_generate(world, rotation)
        undisturbed(world)
        if twin.result is None:
            break
        assert result.claim == twin.result.claim == world.lock.record.claim, twin.boundary
        assert len({shown(_value_in(world, store)) for store in world.stores}) == 1, twin.boundary
        at += 1
    assert at >= 20


def _value_in(world: MemoryWorld, store: str) -> Login:
    found = world.stores[store].read_generation(3)
    assert found
    return found.login


# Adopting


@pytest.mark.parametrize("phase", PHASES)
@both_strategies
def test_a_generation_in_flight_is_adopted_in_every_phase(phase: str, strategy: Strategy) -> None:
    world = steady(strategy)
    dies(world, phase)
    claim, staged = world.lock.record.claim, world.stores["aws"].read_generation(3)
    result, adopted = generated(world, held(world, "taker"))
    assert result.adopted
    assert adopted == claim
    assert world.lock.record.claim == claim
    values = [store.read_generation(3) for store in world.stores.values()]
    assert values[0] == values[1]
    assert staged in (None, values[0])


@both_strategies
def test_a_higher_generation_without_a_claim_is_not_adopted(strategy: Strategy) -> None:
    world = steady(strategy)
    for store in world.stores.values():
        store.stage(replace(_value(world, 2), generation=9, login=another_login(world)))
    _, claim = generated(world, held(world, "third"))
    assert claim.generation == 3


# A password that was refused by policy


@both_strategies
def test_a_refused_generation_is_replaced_by_a_new_one_on_the_same_base(strategy: Strategy) -> None:
    world = steady(strategy)
    rotation = held(world, "third")
    _, refused = generated(world, rotation)
    result = run_generate(world, rotation, replaces=refused)
    assert result.claim == Claim(
        kind=ClaimKind.NEW, generation=4, base_generation=2, previous_generation=1, rotation_id="third"
    )
    assert not result.adopted
    assert shown(login_of(world, 4)) != shown(login_of(world, 3))
    assert login_of(world, 4).username == login_of(world, 3).username


def test_a_repeated_step_replaces_a_refused_generation_once() -> None:
    world = steady()
    rotation = held(world, "third")
    _, refused = generated(world, rotation)
    first = run_generate(world, rotation, replaces=refused)
    assert run_generate(world, rotation, replaces=refused) == first


def test_only_the_claim_in_the_record_is_replaced() -> None:
    world = steady()
    rotation = held(world, "third")
    _, claim = generated(world, rotation)
    other = replace(claim, generation=2)
    result = run_generate(world, rotation, replaces=other)
    assert result.claim == claim
