"""ApplyDb makes a value dead: a withdrawal after a policy's refusal, or a revocation (protocol D10)."""

import pytest

from lockstep.errors import (
    CurrentCredentialRejectedError,
    DatabaseUnreachableError,
    FenceLostError,
    PasswordRefusedByPolicyError,
    PreviousCredentialAcceptedError,
)
from lockstep.messages import (
    RetireResult,
)
from lockstep.model import Strategy
from tests.support.memory import Account, MemoryWorld, make_plan
from tests.unit.flights import Flight, both_strategies
from tests.unit.harness import (
    INTERVAL_SECONDS,
    assert_in_step,
    edit,
    entries,
    known_logins,
    login_of,
    refuse_next_passwords,
    rotate,
    rotate_again,
    shown,
)

# Withdrawing and revoking


@both_strategies
def test_a_withdrawn_generation_is_dead_and_base_logs_in(strategy: Strategy) -> None:
    flight = Flight(strategy)
    flight.apply()
    assert flight.retire("withdraw") == RetireResult(database="db-1", retired_generation=3)
    assert (flight.lets_in(3), flight.lets_in(2)) == (False, True)
    assert flight.retire("withdraw").retired_generation == 3


@both_strategies
def test_a_revoked_base_is_dead_and_pending_logs_in(strategy: Strategy) -> None:
    flight = Flight(strategy)
    flight.apply()
    assert flight.retire("revoke") == RetireResult(database="db-1", retired_generation=2)
    assert (flight.lets_in(3), flight.lets_in(2)) == (True, False)
    assert flight.retire("revoke").retired_generation == 2


@both_strategies
def test_base_is_not_revoked_if_pending_does_not_log_in(strategy: Strategy) -> None:
    flight = Flight(strategy)
    with pytest.raises(CurrentCredentialRejectedError):
        flight.retire("revoke")
    assert flight.lets_in(2)


@both_strategies
def test_a_late_twin_does_not_bring_a_withdrawn_generation_back(strategy: Strategy) -> None:
    flight = Flight(strategy)
    late = flight.rotation
    flight.apply()
    raised = flight.world.lock.raise_fence(late.lease)
    flight.rotation = late.model_copy(update={"fence": raised.fence})
    flight.retire("withdraw")
    flight.rotation = late
    with pytest.raises(FenceLostError):
        flight.apply()
    assert (flight.lets_in(3), flight.lets_in(2)) == (False, True)


@pytest.mark.parametrize("action", ["withdraw", "revoke"])
def test_a_run_that_lost_its_lock_retires_nothing(action: str) -> None:
    flight = Flight()
    flight.apply()
    flight.overtaken()
    with pytest.raises(FenceLostError):
        flight.retire(action)
    assert (flight.lets_in(3), flight.lets_in(2)) == (True, True)


def test_a_retired_value_that_still_logs_in_is_an_error() -> None:
    flight = Flight()
    flight.apply()
    passwords = [login_of(flight.world, g).password.reveal() for g in (3, 2)]

    def hook(operation: str) -> None:
        if operation == "retire":
            flight.database.set_passwords("app", *passwords)

    flight.database.faults.after = hook
    with pytest.raises(PreviousCredentialAcceptedError):
        flight.retire("revoke")


def test_a_locked_account_counts_as_dead() -> None:
    flight = Flight(Strategy.ALTERNATING_USERS)
    flight.apply()
    base = login_of(flight.world, 2)

    def hook(operation: str) -> None:
        if operation == "retire":
            account = Account(passwords=(base.password.reveal(),), locked=True)
            flight.database.accounts[base.username] = account

    flight.database.faults.after = hook
    assert flight.retire("revoke").retired_generation == 2


@both_strategies
def test_a_heal_to_the_same_login_revokes_nothing(strategy: Strategy) -> None:
    world = MemoryWorld.create(make_plan(strategy=strategy))
    rotate(world, "first")
    current = login_of(world, 1)
    edit(world.stores["oci"], current)
    result = rotate(world, "emergency", force=True, revoke_previous=True)
    assert login_of(world, result.generation or 0) == current
    assert_in_step(world, result.generation)
    assert entries(world, "aws")[-1].event["unmapped"]["lockstep"]["revoked_on_purpose"] == []


def test_the_first_generation_revokes_nothing() -> None:
    world = MemoryWorld.create(placeholder=True)
    result = rotate(world, "first", force=True, revoke_previous=True)
    assert_in_step(world, result.generation)
    assert entries(world, "aws")[-1].event["unmapped"]["lockstep"]["revoked_on_purpose"] == []


# Whole runs


def _steady(strategy: Strategy) -> MemoryWorld:
    world = MemoryWorld.create(make_plan(strategy=strategy))
    rotate(world, "first")
    world.clock.sleep(INTERVAL_SECONDS)
    return world


@both_strategies
def test_a_refused_password_is_withdrawn_and_replaced_within_the_run(strategy: Strategy) -> None:
    world = _steady(strategy)
    base = login_of(world, 1)
    refuse_next_passwords(world, count=1)
    result = rotate(world, "second")
    assert result.generation == 3
    assert_in_step(world, 3)
    live = {shown(base), shown(login_of(world, 3))}
    assert known_logins(world) == {"db-1": live, "db-2": live}


@both_strategies
def test_a_second_refusal_ends_the_run_and_the_next_run_rotates(strategy: Strategy) -> None:
    world = _steady(strategy)
    base = login_of(world, 1)
    refuse_next_passwords(world, count=2)
    with pytest.raises(PasswordRefusedByPolicyError):
        rotate(world, "second")
    assert world.locked_out() == []
    assert (world.lock.record.holder, world.lock.record.current_generation) == (None, 1)
    result = rotate_again(world, "third", runner="oci")
    assert_in_step(world, result.generation)
    live = {shown(base), shown(login_of(world, result.generation or 0))}
    assert known_logins(world) == {"db-1": live, "db-2": live}


@both_strategies
def test_a_revocation_ends_the_overlap_at_once_and_is_recorded(strategy: Strategy) -> None:
    world = _steady(strategy)
    leaked = login_of(world, 1)
    rotate(world, "second")
    also_leaked = login_of(world, 2)
    # Within the overlap a forced run may start only if it revokes.
    assert rotate(world, "too-early", force=True).outcome == "skipped"
    result = rotate(world, "emergency", force=True, revoke_previous=True)
    assert_in_step(world, result.generation)
    only = {shown(login_of(world, result.generation or 0))}
    assert known_logins(world) == {"db-1": only, "db-2": only}
    assert not {shown(leaked), shown(also_leaked)} & only
    assert entries(world, "aws")[-1].event["unmapped"]["lockstep"]["revoked_on_purpose"] == [2]
    assert_in_step(world, rotate_again(world, "following").generation)


@both_strategies
def test_a_database_that_was_down_catches_up_in_the_next_run(strategy: Strategy) -> None:
    world = _steady(strategy)
    world.databases["db-2"].unreachable = True
    with pytest.raises(DatabaseUnreachableError):
        rotate(world, "second")
    world.databases["db-2"].unreachable = False
    assert world.locked_out() == []
    result = rotate_again(world, "third", runner="oci")
    assert result.adopted
    assert_in_step(world, 2)
