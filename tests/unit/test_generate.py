"""Generate: one generation in flight, staged in every store before any database is changed (protocol I2, I4)."""

from dataclasses import replace
from functools import partial

import pytest
from msgspec import structs

from functions.generate import step as generate
from lockstep.protocol.errors import (
    LostCompareAndSetError,
    PlanNotActiveError,
    StagedValueConflictError,
    TakeOverNeededError,
)
from lockstep.protocol.messages import GenerateRequest, ProbeRequest
from lockstep.protocol.model import Claim, ClaimKind, CredentialValue, Login, Strategy
from tests.support.memory import MemoryWorld
from tests.support.world import (
    INTERVAL_SECONDS,
    activates,
    another_login,
    assert_in_sync,
    at_every_boundary,
    entries,
    generated,
    held,
    interrupted,
    known_logins,
    login_of,
    make_world,
    orders,
    quiet,
    rotate,
    rotate_again,
    served,
    set_password,
    shown,
    undisturbed,
)
from tests.unit.flights import (
    OPEN,
    PROMOTING,
    asked_to_probe,
    both_strategies,
    dies,
    run_generate,
    searched,
    steady,
)

# A new generation


@both_strategies
def test_a_new_generation_is_claimed_and_staged_in_every_store_and_in_no_database(strategy: Strategy) -> None:
    world = steady(strategy)
    before = known_logins(world), served(world)
    result = generated(world, held(world, "third"))
    assert result.claim == Claim(kind=ClaimKind.NEW, generation=3, base_generation=2, rotation_id="third")
    assert (result.adopted_from, result.promoting, result.beside) == (None, False, ())
    assert (world.lock.record.claim, world.lock.record.promoting) == (result.claim, False)
    staged = [store.read_generation(3) for store in world.stores.values()]
    assert staged[0] is not None
    assert staged[0] == staged[1]
    assert (known_logins(world), served(world)) == before


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


@both_strategies
def test_a_login_that_is_imported_gets_the_first_generation_and_changes_no_database(
    strategy: Strategy,
) -> None:
    """On the first day applications keep the login they have; what works is proven first (protocol C5, O7)."""
    world = make_world(strategy=strategy)
    login, before = login_of(world, 0), known_logins(world)
    asked_to_probe(world, held(world))
    world.clock.sleep(INTERVAL_SECONDS)
    assert rotate(world, "first").generation == 1
    assert_in_sync(world, 1)
    assert (login_of(world, 1), known_logins(world)) == (login, before)
    assert world.passwords.count == 0


@pytest.mark.parametrize("take_over", [frozenset[str](), frozenset({"db-1"})])
def test_placeholders_without_take_over_of_every_database_change_nothing(take_over: frozenset[str]) -> None:
    """An empty secret may be one that somebody emptied: the accounts may be in use (protocol C6, I11)."""
    world = make_world(placeholder=True)
    in_use = another_login(world, "in-use")
    set_password(world, in_use)
    orders(world, take_over=take_over)
    with pytest.raises(TakeOverNeededError):
        rotate(world, "first")
    assert world.lock.record.claim is None
    assert world.lock.record.activate == world.credential.plan_digest
    assert all(s.read_generation(1) is None for s in world.stores.values())
    assert known_logins(world) == {name: {shown(in_use)} for name in world.databases}


# The plan


def test_a_runner_with_another_plan_changes_nothing_and_the_other_goes_on() -> None:
    """Two runners that disagree on where a credential lives must not both act (protocol I10)."""
    world = steady()
    other = replace(world, credential=structs.replace(world.credential, plan_digest="of-another-plan"))
    seen: list[str] = []
    rotation = held(other, "third", runner="oci")
    at_every_boundary(other, seen.append)
    with pytest.raises(PlanNotActiveError):
        run_generate(other, rotation)
    undisturbed(other)
    assert not [b for b in seen if "stage" in b or "claim" in b or "db-" in b]
    assert world.lock.record.claim is None
    assert rotate_again(world, "fourth", runner="aws").generation == 3
    with pytest.raises(PlanNotActiveError):
        rotate_again(other, "fifth", runner="oci")
    assert_in_sync(world, 3)
    assert entries(world, "oci")[-1].event["status_code"] == "PlanNotActiveError"
    assert_in_sync(world, rotate_again(world, "sixth", runner="aws").generation)


@both_strategies
def test_an_activation_gives_the_login_that_works_a_generation_under_the_new_plan(strategy: Strategy) -> None:
    world = steady(strategy)
    dies(world, "after db-1 stage")
    current = login_of(world, 2)
    deployed = replace(world, credential=structs.replace(world.credential, plan_digest="of-another-plan"))
    activates(deployed)
    result = rotate(deployed, "activation")
    assert_in_sync(deployed, result.generation)
    assert login_of(world, result.generation or 0) == current
    assert (world.lock.record.plan, world.lock.record.activate) == ("of-another-plan", None)
    with pytest.raises(PlanNotActiveError):
        rotate_again(world, "old-plan", runner="oci")
    assert_in_sync(deployed, rotate_again(deployed, "following").generation)


def test_what_the_stores_serve_counts_as_valid_from_the_claim_on() -> None:
    """An old value that somebody made current again can be in use: it is not forgotten (protocol C11)."""
    world = steady()
    orders(world, valid=frozenset({2}))
    world.stores["oci"]._secrets["app_user"].make_current("generation-1")
    needed = asked_to_probe(world, held(world, "third"))
    run_generate(world, needed.rotation, found=searched(world, needed))
    assert world.lock.record.valid == {1, 2}


# Errors that change nothing


def test_another_value_under_the_generation_stays_and_the_claim_is_replaced() -> None:
    """Nobody has looked whether a store holds a value under the name (protocol C3, V22)."""
    world = steady()
    rotation, stores = held(world, "third"), list(world.stores.values())
    forged = another_login(world)

    def forge(operation: str) -> None:
        if operation == "stage app_user":
            undisturbed(world)
            stores[1].stage(replace(_value(world, 2), generation=3, login=forged))

    stores[1].faults.before = forge
    result = run_generate(world, rotation)
    assert result.claim == world.lock.record.claim
    assert result.claim.generation == 4
    found = stores[1].read_generation(3)
    assert found
    assert found.login == forged
    assert stores[0].read_generation(4) == stores[1].read_generation(4)


def test_values_that_were_staged_before_the_lock_table_was_lost_never_come_back() -> None:
    """Their username may be current by now, and its account would be changed (protocol C3)."""
    world = steady(Strategy.ALTERNATING_USERS)
    for generation in (3, 4):
        for store in world.stores.values():
            store.stage(CredentialValue(generation, login_of(world, 2), "of-a-lost-table"))
    result = run_generate(world, held(world, "third"))
    assert result.claim == world.lock.record.claim
    assert result.claim.generation == 5
    assert login_of(world, 5).username != login_of(world, 2).username


def test_a_claim_is_replaced_once_for_a_taken_name() -> None:
    world = steady()
    rotation, first = held(world, "third"), world.stores["aws"]

    def forge(operation: str) -> None:
        if operation == "stage app_user":
            with quiet(world):
                generation = world.lock.record.highest_generation
                first.stage(CredentialValue(generation, another_login(world), "another"))

    first.faults.before = forge
    with pytest.raises(StagedValueConflictError):
        run_generate(world, rotation)
    undisturbed(world)
    assert world.lock.record.highest_generation == 4
    assert_in_sync(world, rotate_again(world, "next").generation)


def _value(world: MemoryWorld, generation: int) -> CredentialValue:
    found = world.stores["aws"].read_generation(generation)
    assert found
    return found


# Repetition


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
    assert at >= 16


def _value_in(world: MemoryWorld, store: str) -> Login:
    found = world.stores[store].read_generation(3)
    assert found
    return found.login


# Adopting


@pytest.mark.parametrize("phase", OPEN)
@both_strategies
def test_an_open_claim_is_adopted_in_every_phase(phase: str, strategy: Strategy) -> None:
    world = steady(strategy)
    dies(world, phase)
    claim, staged = world.lock.record.claim, world.stores["aws"].read_generation(3)
    result = generated(world, held(world, "taker"))
    assert (result.claim, result.adopted_from) == (claim, "dead")
    assert world.lock.record.claim == claim
    values = [store.read_generation(3) for store in world.stores.values()]
    assert values[0] == values[1]
    assert staged in (None, values[0])


@pytest.mark.parametrize("phase", PROMOTING)
@both_strategies
def test_a_claim_in_promotion_is_finished_under_its_own_generation(phase: str, strategy: Strategy) -> None:
    """It is what the search finds, so no version is made and no database changes (protocol C5, I4)."""
    world = steady(strategy)
    dies(world, phase)
    pending, before = login_of(world, 3), known_logins(world)
    result = rotate(world, "taker")
    assert (result.generation, result.adopted) == (3, True)
    assert_in_sync(world, 3)
    assert login_of(world, 3) == pending
    assert known_logins(world) == before


# Base was refused


@both_strategies
def test_where_base_was_refused_the_open_claim_is_not_adopted_but_a_search_begins(strategy: Strategy) -> None:
    world = steady(strategy)
    staged = generated(world, held(world, "third"))
    request = GenerateRequest(rotation=staged.rotation, refused=("db-1",))
    needed = generate.run(request, world.ports())
    assert isinstance(needed, ProbeRequest)
    assert needed.refused == ("db-1",)
    assert (world.lock.record.claim, world.lock.record.promoting) == (staged.claim, False)
