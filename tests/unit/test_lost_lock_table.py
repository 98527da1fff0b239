"""A lost lock table, or an old copy of it: nothing is guessed, and what works goes forward (protocol C3, C5)."""

from dataclasses import replace

import pytest

from lockstep.protocol.errors import PlanNotActiveError
from lockstep.protocol.model import Strategy
from tests.support.world import (
    activates,
    another_login,
    assert_in_sync,
    edit,
    known_logins,
    login_of,
    loses_the_lock_table,
    rotate,
    rotate_again,
    served,
    shown,
)
from tests.unit.flights import both_strategies, dies, steady


@both_strategies
def test_after_a_lost_lock_table_nothing_happens_until_the_plan_is_activated_again(
    strategy: Strategy,
) -> None:
    """Nobody knows what the lost record said, so a new one starts with an order of a person (protocol I10, O7)."""
    world = steady(strategy)
    current, before = login_of(world, 2), known_logins(world)
    loses_the_lock_table(world)
    with pytest.raises(PlanNotActiveError):
        rotate(world, "first-again")
    assert (world.lock.record.claim, known_logins(world)) == (None, before)
    assert world.locked_out() == []
    activates(world)
    result = rotate(world, "second-again", runner="oci")
    assert_in_sync(world, 3)
    assert result.generation == 3
    assert (login_of(world, 3), known_logins(world)) == (current, before)
    assert world.lock.record.not_before == world.clock.now() + world.credential.schedule.overlap
    assert_in_sync(world, rotate_again(world, "following").generation)


@both_strategies
def test_a_value_staged_before_the_table_was_lost_is_never_used(strategy: Strategy) -> None:
    world = steady(strategy)
    dies(world, "after db-1 stage")
    forgotten = world.stores["aws"].read_generation(3)
    assert forgotten
    loses_the_lock_table(world)
    activates(world)
    for run in range(4):
        result = rotate_again(world, f"again-{run}")
        assert_in_sync(world, result.generation)
        assert shown(login_of(world, result.generation or 0)) != shown(forgotten.login)


@pytest.mark.parametrize("hand_edited", [False, True], ids=["new", "reconcile"])
@pytest.mark.parametrize("phase", ["after lock claim", "after lock begin_promotion"])
@both_strategies
def test_a_claim_from_an_old_copy_of_the_lock_table_is_not_adopted(
    strategy: Strategy,
    phase: str,
    hand_edited: bool,  # noqa: FBT001 - a row of the table
) -> None:
    world = steady(strategy)
    if hand_edited:
        edit(world.stores["oci"], another_login(world))
    dies(world, phase)
    copy = world.lock.record
    for run in range(3):
        rotate_again(world, f"before-the-loss-{run}")
    world.lock.record = replace(copy, heads=world.lock.record.heads)
    current = login_of(world, served(world)["aws"][0])
    result = rotate_again(world, "reconciler")
    assert_in_sync(world, result.generation)
    assert login_of(world, result.generation or 0) == current
