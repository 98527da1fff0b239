"""The emergency order: afterwards nothing logs in that may have leaked, whatever the run meets (protocol O5, M2)."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from lockstep.protocol.errors import (
    DatabaseUnreachableError,
    FenceLostError,
    PendingCredentialRejectedError,
    PreviousCredentialAcceptedError,
)
from lockstep.protocol.messages import RevocationCheck, RevocationResult
from lockstep.protocol.model import Strategy
from tests.support import world as w
from tests.support.memory import MemoryWorld
from tests.unit.flights import Flight, both_strategies, dies, steady


def _serves_only(world: MemoryWorld, generation: int | None) -> None:
    """Every database accepts this generation and nothing else, and the order is no longer in force."""
    w.assert_in_sync(world, generation)
    only = {w.shown(w.login_of(world, generation or 0))}
    assert w.known_logins(world) == dict.fromkeys(world.databases, only)
    assert not world.lock.record.is_revoking
    assert world.lock.record.valid == {generation}


# The step


def _promoted(strategy: Strategy) -> Flight:
    flight = Flight(strategy)
    flight.apply()
    flight.promote()
    return flight


@both_strategies
def test_a_revocation_that_fails_and_is_tried_again_is_refused_once_in_a_row(
    strategy: Strategy,
) -> None:
    """A retired account accepts a random password, so the login that takes a refusal back is this attempt's own."""

    def fails() -> None:
        raise DatabaseUnreachableError(database="db-1")

    for at in range(100):
        flight = _promoted(strategy)
        failure = w.interrupted(flight.world, at, fails)
        with suppress(DatabaseUnreachableError):
            flight.revoke()
        w.undisturbed(flight.world)
        flight.revoke()
        assert flight.database.refusals.most == 1, at
        if not failure.boundary:
            return
    pytest.fail("a revocation has more calls than that")


@both_strategies
def test_what_may_be_valid_beside_the_promoted_generation_is_revoked(
    strategy: Strategy,
) -> None:
    flight = _promoted(strategy)
    revoked = flight.revoke()
    assert revoked.revoked == tuple(
        RevocationCheck(generation=g, revocation=RevocationResult.REFUSED) for g in (1, 2)
    )
    assert flight.lets_in(3, 1, 2) == [True, False, False]
    assert flight.revoke() == revoked
    assert flight.database.refusals.most == 1


def test_the_other_account_is_ended_even_if_no_store_has_its_value() -> None:
    flight = _promoted(Strategy.ALTERNATING_USERS)
    base = w.login_of(flight.world, 2)
    for store in flight.world.stores.values():
        del store._secrets["app_user"].versions["generation-2"]
    assert RevocationCheck(generation=2, revocation=RevocationResult.UNREADABLE) in flight.revoke().revoked
    assert w.shown(base) not in w.known_logins(flight.world)["db-1"]


def _winner_was_ended(flight: Flight) -> None:
    flight.database.set_passwords("app", w.login_of(flight.world, 2).password.reveal())


def _never_ends(flight: Flight) -> None:
    kept = flight.database.accounts["app"].passwords
    w.strike(flight.world, {"after db-1 stage": lambda: flight.database.set_passwords("app", *kept)})


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (lambda flight: w.orders(flight.world, promoting=False), FenceLostError),
        (Flight.overtaken, FenceLostError),
        (_winner_was_ended, PendingCredentialRejectedError),
        (_never_ends, PreviousCredentialAcceptedError),
    ],
)
def test_an_unproven_revocation_is_an_error(
    trouble: Callable[[Flight], None], error: type[Exception]
) -> None:
    flight = _promoted(Strategy.DUAL_PASSWORD)
    trouble(flight)
    with pytest.raises(error):
        flight.revoke()
    assert flight.lets_in(2) == [True]


# Whole runs


@both_strategies
def test_an_order_ends_the_overlap_at_once_and_is_recorded_also_in_a_pause(
    strategy: Strategy,
) -> None:
    world = steady(strategy)
    w.rotate(world, "third")
    assert w.rotate(world, "too-early", force=True).outcome == "skipped"
    w.revokes_everything(world)
    w.orders(world, paused=True)
    assert w.rotate(world, "scheduled").outcome == "skipped"
    _serves_only(world, w.rotate(world, "emergency", runner="oci", force=True).generation)
    details = w.entries(world, "oci")[-1].event["unmapped"]["lockstep"]
    assert details["revoked_on_purpose"] == [2, 3]
    w.orders(world, paused=False)
    assert w.rotate(world, "fulfilled").outcome == "skipped"
    w.assert_in_sync(world, w.rotate_again(world, "following").generation)


@both_strategies
def test_an_order_while_a_reconcile_is_due_is_fulfilled_by_the_run_after_it(
    strategy: Strategy,
) -> None:
    """A reconcile gives an old login again, so it cannot fulfil the order; the next run may begin at once."""
    world = steady(strategy)
    w.edit(world.stores["oci"], w.another_login(world))
    w.revokes_everything(world)
    reconciled = w.rotate(world, "reconciler")
    w.assert_in_sync(world, reconciled.generation)
    assert w.login_of(world, reconciled.generation or 0) == w.login_of(world, 2)
    assert world.lock.record.is_revoking
    result = w.rotate(world, "emergency", runner="oci")
    _serves_only(world, result.generation)


@pytest.mark.parametrize(
    "boundary", ["after lock claim", "after oci stage connection_blob", "after db-1 stage"]
)
@both_strategies
def test_a_value_that_was_staged_before_the_order_is_not_finished(boundary: str, strategy: Strategy) -> None:
    """Whoever could read the stores' pending versions has it, too (protocol C2)."""
    world = steady(strategy)
    dies(world, boundary)
    w.revokes_everything(world)
    result = w.rotate(world, "emergency")
    assert (result.generation, result.adopted) == (4, False)
    _serves_only(world, 4)


@both_strategies
def test_an_order_during_a_promotion_is_fulfilled_by_the_next_run(
    strategy: Strategy,
) -> None:
    world = steady(strategy)
    with w.struck(world, {"after db-2 stage": lambda: w.revokes_everything(world)}):
        assert w.rotate(world, "third").generation == 3
    w.assert_in_sync(world, 3)
    assert world.lock.record.is_revoking
    _serves_only(world, w.rotate(world, "emergency", runner="oci").generation)


@both_strategies
def test_an_order_whose_revocation_fails_stays_in_force(strategy: Strategy) -> None:
    world = steady(strategy)
    w.revokes_everything(world)

    def down_after_the_promotion() -> None:
        if world.lock.record.promoting:
            raise DatabaseUnreachableError(database="db-2")

    with (
        w.struck(world, {"before db-2 accepts": down_after_the_promotion}),
        pytest.raises(DatabaseUnreachableError),
    ):
        w.rotate(world, "emergency")
    assert world.locked_out() == []
    assert world.lock.record.is_revoking
    _serves_only(world, w.rotate(world, "finisher").generation)


@both_strategies
@pytest.mark.parametrize("table", ["imported", "lost"])
def test_an_order_of_no_generation_on_record_outlives_the_reconcile(strategy: Strategy, table: str) -> None:
    world = w.make_world(strategy=strategy)
    if table == "lost":
        w.rotate(world, "first")
        w.rotate_again(world, "second")
        w.loses_the_lock_table(world)
        w.activates(world)
    login = world.stores["aws"].current_login()
    assert login
    w.revokes_everything(world)
    assert w.rotate(world, "reconcile").outcome == "rotated"
    result = w.rotate(world, "new", runner="oci")
    assert result.outcome == "rotated"
    assert w.shown(login) not in w.known_logins(world)["db-1"]
    _serves_only(world, result.generation)
