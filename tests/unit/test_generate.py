"""Generate and UpdateSecrets: what they do to the stores.

One generation is in flight, staged in every store before any database is changed (protocol I2, I4). Then every store is
promoted and serves it (protocol V10, U3).
"""

from dataclasses import replace
from datetime import timedelta

import pytest
from msgspec import structs

from lockstep.protocol import errors
from lockstep.protocol.messages import CandidateRef, ProbeResult, StoreResult, UpdateResult
from lockstep.protocol.model import Claim, ClaimKind, CredentialValue, Login, SecretStr, Strategy
from tests.support import world as w
from tests.support.memory import MemoryWorld
from tests.support.memory_store import KINDS
from tests.unit.flights import (
    PROMOTING,
    Flight,
    asked_to_probe,
    both_strategies,
    calls,
    dies,
    run_generate,
    steady,
)

# A new generation


@both_strategies
def test_a_new_generation_is_claimed_then_staged_in_stores_and_in_no_database(strategy: Strategy) -> None:
    world = steady(strategy)
    before, rotation, results = (w.known_logins(world), w.served(world)), w.held(world, "third"), []
    asked = calls(world, lambda: results.append(w.generated(world, rotation)))
    [result] = results
    assert result.claim == Claim(kind=ClaimKind.NEW, generation=3, base_generation=2, rotation_id="third")
    assert (result.adopted_from, result.promoting, result.beside) == (None, False, ())
    assert (world.lock.record.claim, world.lock.record.promoting) == (result.claim, False)
    assert _in_both_stores(world, 3)
    assert (w.known_logins(world), w.served(world)) == before
    assert [call for call in asked if "claim" in call or "stage" in call] == [
        "lock claim",
        *(f"{store} stage {secret}" for store in world.stores for secret in KINDS),
    ]


@both_strategies
def test_the_recorded_login_is_base_whoever_has_written_it(strategy: Strategy) -> None:
    # (protocol V8)
    world = steady(strategy)
    w.edit(world.stores["oci"], w.login_of(world, 2))
    claim = w.generated(world, w.held(world, "third")).claim
    assert (claim.kind, claim.base_generation) == (ClaimKind.NEW, 2)


def _in_both_stores(world: MemoryWorld, generation: int) -> CredentialValue | None:
    """The value that both hold."""
    first, second = (store.read_generation(generation) for store in world.stores.values())
    assert first == second
    return first


@both_strategies
def test_an_imported_login_gets_the_first_generation_and_changes_no_database(strategy: Strategy) -> None:
    """On the first day applications keep the login they have; what works is proven first (protocol C5, O7)."""
    world = w.make_world(strategy=strategy)
    login, before = w.login_of(world, 0), w.known_logins(world)
    asked_to_probe(world, w.held(world))
    world.clock.sleep(w.INTERVAL_SECONDS)
    assert w.rotate(world, "first").generation == 1
    w.assert_in_sync(world, 1)
    assert (w.login_of(world, 1), w.known_logins(world)) == (login, before)
    assert world.passwords.count == 0


@both_strategies
def test_an_activation_gives_the_login_that_works_a_generation_under_the_new_plan(strategy: Strategy) -> None:
    """Two runners that disagree on where a credential lives must not both act (protocol I10)."""
    world = steady(strategy)
    dies(world, "after db-1 stage")
    current = w.login_of(world, 2)
    deployed = replace(world, credential=structs.replace(world.credential, plan_digest="of-another-plan"))

    def refused() -> None:
        with pytest.raises(errors.PlanNotActiveError):
            w.rotate(deployed, "not-active-yet")

    assert not [call for call in calls(world, refused) if "stage" in call or "claim" in call or "db-" in call]
    w.activates(deployed)
    result = w.rotate(deployed, "activation")
    w.assert_in_sync(deployed, result.generation)
    assert w.login_of(world, result.generation or 0) == current
    assert (world.lock.record.plan, world.lock.record.activate) == ("of-another-plan", None)
    w.assert_in_sync(deployed, w.rotate_again(deployed, "following").generation)


# Errors that change nothing


def test_another_value_under_the_generation_stays_and_the_claim_is_replaced() -> None:
    """Nobody has looked whether a store holds a value under the name (protocol C3, V22)."""
    world = steady()
    rotation, second = w.held(world, "third"), world.stores["oci"]
    forged = CredentialValue(3, w.another_login(world))
    with w.struck(world, {"after aws stage app_user": lambda: second.stage(forged)}):
        result = run_generate(world, rotation)
    assert result.claim == world.lock.record.claim
    assert result.claim.generation == 4
    assert second.read_generation(3) == forged
    assert _in_both_stores(world, 4)


def test_values_that_were_staged_before_the_lock_table_was_lost_never_come_back() -> None:
    """Their username may be current by now, and its account would be changed (protocol C3)."""
    world = steady(Strategy.ALTERNATING_USERS)
    for generation in (3, 4):
        for store in world.stores.values():
            store.stage(CredentialValue(generation, w.login_of(world, 2), "of-a-lost-table"))
    result = run_generate(world, w.held(world, "third"))
    assert result.claim == world.lock.record.claim
    assert result.claim.generation == 5
    assert w.login_of(world, 5).username != w.login_of(world, 2).username


def test_a_claim_is_replaced_once_for_a_taken_name() -> None:
    world = steady()
    rotation, foreign = w.held(world, "third"), w.another_login(world)

    def forge() -> None:
        with w.quiet(world):
            generation = world.lock.record.highest_generation
            world.stores["aws"].stage(CredentialValue(generation, foreign, "another"))

    with (
        w.struck(world, {"before aws stage app_user": forge}),
        pytest.raises(errors.StagedValueConflictError),
    ):
        run_generate(world, rotation)
    assert world.lock.record.highest_generation == 4
    w.assert_in_sync(world, w.rotate_again(world, "next").generation)


# Adopting


@pytest.mark.parametrize("phase", PROMOTING)
@both_strategies
def test_a_claim_in_promotion_is_finished_under_its_own_generation(phase: str, strategy: Strategy) -> None:
    """It is what the search finds, so no version is made and no database changes (protocol C5, I4)."""
    world = steady(strategy)
    dies(world, phase)
    pending, before = w.login_of(world, 3), w.known_logins(world)
    result = w.rotate(world, "taker")
    assert (result.generation, result.adopted) == (3, True)
    w.assert_in_sync(world, 3)
    assert w.login_of(world, 3) == pending
    assert w.known_logins(world) == before


# Base was refused


@pytest.mark.parametrize(
    ("store", "version", "error"),
    [
        ("gcp", "generation-2", errors.InvalidRequestError),
        ("aws", "generation-9", errors.LostCompareAndSetError),  # It is gone: the step is tried again.
        ("oci", "edit-4", errors.InvalidRequestError),  # Its username is not in the plan.
    ],
)
def test_only_a_version_that_a_store_holds_can_win(store: str, version: str, error: type[Exception]) -> None:
    world = steady()
    w.edit(world.stores["oci"], Login("root", SecretStr("of-root")))
    needed = asked_to_probe(world, w.held(world, "third"))
    found = ProbeResult(winner=CandidateRef(store=store, version=version))
    with pytest.raises(error):
        run_generate(world, needed.rotation, found=found)
    assert world.lock.record.claim is None


@pytest.mark.parametrize(
    ("stores", "phase", "expected"),
    [
        (1, "after aws stage connection_blob", ["generation-2", "edit-4", "generation-1"]),
        (2, "after oci stage connection_blob", ["generation-2", "edit-4", "generation-1"]),
        (2, "after aws promote connection_blob", ["generation-3", "generation-2", "edit-4", "generation-1"]),
    ],
)
def test_every_login_that_may_be_valid_is_a_candidate(stores: int, phase: str, expected: list[str]) -> None:
    world = steady(stores=stores)
    dies(world, phase)
    w.edit(list(world.stores.values())[-1], w.another_login(world))
    asked = asked_to_probe(world, w.held(world, "taker"))
    assert [c.ref.version for c in asked.candidates] == expected


# UpdateSecrets


@pytest.fixture(name="flight", params=list(Strategy))
def _flight(request: pytest.FixtureRequest) -> Flight:
    """A world with generation 3, on base 2, applied to every database."""
    flight = Flight(request.param)
    flight.apply()
    return flight


def _generations(flight: Flight) -> set[int]:
    return {g for user, blob, _ in w.served(flight.world).values() for g in (user, blob)}


def test_every_store_serves_it_in_both_secrets_once_the_claim_is_promoting(flight: Flight) -> None:
    results = list[UpdateResult]()
    asked = calls(flight.world, lambda: results.append(flight.promote()))
    assert _generations(flight) == {3}
    assert flight.world.locked_out() == []
    expected = UpdateResult(
        stores=tuple(StoreResult(store=s, version="generation-3") for s in ("aws", "oci")),
        promoted_at=flight.world.clock.now(),
        revoke=False,
    )
    assert results == [expected]
    record = flight.world.lock.record
    assert (record.promoting, record.valid) == (True, frozenset({1, 2, 3}))
    assert [call for call in asked if "promot" in call] == [
        "lock begin_promotion",
        *(f"{store} promote {secret}" for store in flight.world.stores for secret in KINDS),
    ]


@pytest.mark.parametrize("proven", [(), ("db-1",), ("db-2", "db-3")])
def test_less_than_every_database_promotes_nothing(flight: Flight, proven: tuple[str, ...]) -> None:
    """A database that never accepted the value would lock its applications out (protocol I3)."""
    with pytest.raises(errors.InvalidRequestError):
        w.updated(flight.world, flight.staged, proven)
    assert _generations(flight) == {2}
    assert not flight.world.lock.record.promoting


@pytest.mark.parametrize(
    ("through", "kind", "revokes"),
    [
        (None, ClaimKind.NEW, False),
        (0, ClaimKind.NEW, False),  # Fulfilled: nothing at or below it is valid.
        (2, ClaimKind.NEW, True),
        (3, ClaimKind.NEW, False),  # The value itself is to be revoked: another run makes a newer one.
        (2, ClaimKind.RECONCILE, False),
    ],
)
def test_an_emergency_order_is_fulfilled_by_a_newer_value_with_a_password_of_its_own(
    flight: Flight, through: int | None, kind: ClaimKind, *, revokes: bool
) -> None:
    claim = structs.replace(flight.staged.claim, kind=kind)
    w.orders(flight.world, revoke_through=through, claim=claim)
    flight.staged = structs.replace(flight.staged, claim=claim)
    assert flight.promote().revoke is revokes


# The lock


@both_strategies
def test_the_overlap_counts_from_when_every_store_serves_the_value(strategy: Strategy) -> None:
    world = w.make_world(strategy=strategy)
    world.stores["aws"].lagging_reads = 10
    began = world.clock.now()
    w.rotate(world, "first")
    record = world.lock.record
    # An application can read the old value until then (protocol U3).
    assert record.not_before == began + timedelta(minutes=16, seconds=5)
    assert record.next_due_at == began + timedelta(minutes=18)
