"""The emergency order: afterwards nothing logs in that may have leaked, whatever the run meets (protocol O5, M2)."""

from contextlib import suppress

import pytest

from lockstep.protocol.errors import (
    DatabaseUnreachableError,
    FenceLostError,
    PendingCredentialRejectedError,
    PlanNotActiveError,
    PreviousCredentialAcceptedError,
)
from lockstep.protocol.messages import RevocationCheck, RevocationResult
from lockstep.protocol.model import Strategy
from tests.support.memory import MemoryWorld
from tests.support.world import (
    activates,
    another_login,
    assert_in_sync,
    at_every_boundary,
    edit,
    entries,
    known_logins,
    login_of,
    loses_the_lock_table,
    make_world,
    orders,
    revokes_everything,
    rotate,
    rotate_again,
    shown,
    undisturbed,
)
from tests.unit.flights import Flight, both_strategies, dies, steady


def _serves_only(world: MemoryWorld, generation: int | None) -> None:
    """Every database accepts this generation and nothing else, and the order is no longer in force."""
    assert_in_sync(world, generation)
    only = {shown(login_of(world, generation or 0))}
    assert known_logins(world) == dict.fromkeys(world.databases, only)
    assert not world.lock.record.is_revoking
    assert world.lock.record.valid == {generation}


# The step


def _promoted(strategy: Strategy) -> Flight:
    flight = Flight(strategy)
    flight.apply()
    flight.promote()
    return flight


@both_strategies
def test_a_revocation_that_fails_anywhere_and_is_tried_again_is_not_refused_twice_in_a_row(
    strategy: Strategy,
) -> None:
    """A retired account accepts a random password, so the login that takes a refusal back is this attempt's own."""
    for boundary in range(100):
        flight, left = _promoted(strategy), [boundary]

        def fails(at: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1 and " db-" in at:
                raise DatabaseUnreachableError(database="db-1")

        at_every_boundary(flight.world, fails)
        with suppress(DatabaseUnreachableError):
            flight.revoke()
        undisturbed(flight.world)
        flight.revoke()
        assert flight.database.refusals.most == 1, boundary
        if left[0] >= 0:
            return
    pytest.fail("a revocation has more calls than that")


@both_strategies
def test_what_may_be_valid_beside_the_promoted_generation_is_revoked_and_that_logs_in(
    strategy: Strategy,
) -> None:
    flight = _promoted(strategy)
    ended = (1, 2)
    revoked = flight.revoke()
    assert revoked.revoked == tuple(
        RevocationCheck(generation=g, revocation=RevocationResult.REFUSED) for g in ended
    )
    assert [flight.lets_in(g) for g in (3, *ended)] == [True, False, False]
    assert flight.revoke() == revoked
    assert flight.database.refusals.most == 1


def test_the_other_account_is_ended_even_if_no_store_has_its_value() -> None:
    flight = _promoted(Strategy.ALTERNATING_USERS)
    base = login_of(flight.world, 2)
    for store in flight.world.stores.values():
        del store._secrets["app_user"].versions["generation-2"]
    revoked = flight.revoke()
    assert RevocationCheck(generation=2, revocation=RevocationResult.UNREADABLE) in revoked.revoked
    assert shown(base) not in known_logins(flight.world)["db-1"]


@both_strategies
def test_nothing_is_revoked_before_the_promotion(strategy: Strategy) -> None:
    flight = Flight(strategy)
    flight.apply()
    with pytest.raises(FenceLostError):
        flight.revoke()
    assert (flight.lets_in(3), flight.lets_in(2)) == (True, True)


@both_strategies
def test_nothing_is_revoked_where_the_promoted_generation_does_not_log_in(strategy: Strategy) -> None:
    flight = _promoted(strategy)
    base, pending = login_of(flight.world, 2), login_of(flight.world, 3)
    flight.database.accounts[pending.username].passwords = ("changed-by-hand",)
    flight.database.accounts[base.username].passwords = (base.password.reveal(),)
    with pytest.raises(PendingCredentialRejectedError):
        flight.revoke()
    assert flight.lets_in(2)


def test_a_run_that_lost_its_lock_revokes_nothing() -> None:
    flight = _promoted(Strategy.DUAL_PASSWORD)
    flight.overtaken()
    with pytest.raises(FenceLostError):
        flight.revoke()
    assert (flight.lets_in(3), flight.lets_in(2)) == (True, True)


def test_a_value_that_still_logs_in_is_an_error() -> None:
    flight = _promoted(Strategy.DUAL_PASSWORD)
    passwords = [login_of(flight.world, g).password.reveal() for g in (3, 2)]

    def hook(operation: str) -> None:
        if operation == "stage":
            flight.database.set_passwords("app", *passwords)

    flight.database.faults.after = hook
    with pytest.raises(PreviousCredentialAcceptedError):
        flight.revoke()


# Whole runs


@both_strategies
def test_an_order_ends_the_overlap_at_once_and_is_recorded(strategy: Strategy) -> None:
    world = steady(strategy)
    rotate(world, "third")
    assert rotate(world, "too-early", force=True).outcome == "skipped"
    revokes_everything(world)
    result = rotate(world, "emergency", runner="oci")
    _serves_only(world, result.generation)
    details = entries(world, "oci")[-1].event["unmapped"]["lockstep"]
    assert details["revoked_on_purpose"] == [2, 3]
    assert rotate(world, "fulfilled").outcome == "skipped"
    assert_in_sync(world, rotate_again(world, "following").generation)


@both_strategies
def test_an_order_while_a_reconcile_is_due_is_fulfilled_by_the_run_after_the_reconcile(
    strategy: Strategy,
) -> None:
    """A reconcile gives an old login again, so it cannot fulfil the order; the next run may begin at once."""
    world = steady(strategy)
    edit(world.stores["oci"], another_login(world))
    revokes_everything(world)
    reconciled = rotate(world, "reconciler")
    assert_in_sync(world, reconciled.generation)
    assert login_of(world, reconciled.generation or 0) == login_of(world, 2)
    assert world.lock.record.is_revoking
    result = rotate(world, "emergency", runner="oci")
    _serves_only(world, result.generation)


@pytest.mark.parametrize(
    "boundary", ["after lock claim", "after oci stage connection_blob", "after db-1 stage"]
)
@both_strategies
def test_a_value_that_was_staged_before_the_order_is_not_finished(boundary: str, strategy: Strategy) -> None:
    """Whoever could read the stores' pending versions has it, too (protocol C2)."""
    world = steady(strategy)
    dies(world, boundary)
    revokes_everything(world)
    result = rotate(world, "emergency")
    assert (result.generation, result.adopted) == (4, False)
    _serves_only(world, 4)


@both_strategies
def test_an_order_during_the_promotion_of_an_older_value_is_fulfilled_by_the_next_run(
    strategy: Strategy,
) -> None:
    world = steady(strategy)
    world.databases["db-2"].faults.after = lambda op: (
        revokes_everything(world) if op == "stage" and not world.lock.record.revoke_through else None
    )
    result = rotate(world, "third")
    assert_in_sync(world, 3)
    assert (result.generation, world.lock.record.is_revoking) == (3, True)
    _serves_only(world, rotate(world, "emergency", runner="oci").generation)


@both_strategies
def test_a_pause_stops_an_emergency_unless_it_is_forced(strategy: Strategy) -> None:
    world = steady(strategy)
    orders(world, paused=True)
    revokes_everything(world)
    assert rotate(world, "scheduled").outcome == "skipped"
    _serves_only(world, rotate(world, "forced", force=True).generation)


@both_strategies
def test_an_order_whose_revocation_fails_stays_in_force(strategy: Strategy) -> None:
    world = steady(strategy)
    revokes_everything(world)

    def down_after_the_promotion(operation: str) -> None:
        if operation == "accepts" and world.lock.record.promoting:
            raise DatabaseUnreachableError(database="db-2")

    world.databases["db-2"].faults.before = down_after_the_promotion
    with pytest.raises(DatabaseUnreachableError):
        rotate(world, "emergency")
    world.databases["db-2"].faults.before = lambda _operation: None
    assert world.locked_out() == []
    assert world.lock.record.is_revoking
    result = rotate(world, "finisher")
    assert_in_sync(world, result.generation)
    _serves_only(world, result.generation)


def test_an_order_does_not_start_a_runner_with_another_plan() -> None:
    world = steady()
    revokes_everything(world)
    before = known_logins(world)
    orders(world, plan="of-another-plan")
    with pytest.raises(PlanNotActiveError):
        rotate(world, "emergency")
    assert known_logins(world) == before


@both_strategies
@pytest.mark.parametrize("table", ["imported", "lost"])
def test_an_order_that_names_no_generation_on_record_outlives_the_reconcile(
    strategy: Strategy, table: str
) -> None:
    world = make_world(strategy=strategy)
    if table == "lost":
        rotate(world, "first")
        rotate_again(world, "second")
        loses_the_lock_table(world)
        activates(world)
    login = world.stores["aws"].current_login()
    assert login
    revokes_everything(world)
    assert rotate(world, "reconcile").outcome == "rotated"
    result = rotate(world, "new", runner="oci")
    assert result.outcome == "rotated"
    assert shown(login) not in known_logins(world)["db-1"]
    _serves_only(world, result.generation)
