"""Databases that a run may take over by order, and those that it leaves alone (protocol I11, D20, O6)."""

import pytest

from functions.apply_db.search import REFUSALS_AT_MOST
from lockstep.protocol.errors import DatabaseBlockedError
from lockstep.protocol.model import Strategy
from tests.support.memory import Account
from tests.unit.flights import (
    both_strategies,
    dies,
    steady,
)
from tests.unit.harness import (
    another_login,
    assert_in_sync,
    edit,
    login_of,
    orders,
    rotate,
    rotate_again,
)


@pytest.mark.parametrize("take_over", [frozenset({"db-2"}), frozenset({"db-1", "db-2"})])
@both_strategies
def test_a_take_over_while_a_reconcile_is_due_takes_the_account_over(
    take_over: frozenset[str], strategy: Strategy
) -> None:
    world = steady(strategy)
    dies(world, "after aws promote connection_blob")
    pending = login_of(world, 3)
    for account in world.databases["db-2"].accounts.values():
        account.passwords = ("changed-by-hand",)
    orders(world, take_over=take_over)
    result = rotate(world, "reconciler")
    assert_in_sync(world, result.generation)
    assert login_of(world, result.generation or 0) == pending
    assert world.lock.record.take_over == frozenset()
    assert_in_sync(world, rotate_again(world, "following").generation)


def test_a_database_that_refuses_every_candidate_is_blocked_until_it_is_unblocked() -> None:
    """Each run would show it wrong logins again, until the server locks the account (protocol D20)."""
    world = steady()
    edit(world.stores["oci"], another_login(world))
    accounts = world.databases["db-2"].accounts
    world.databases["db-2"].accounts = {"app": Account(passwords=("changed-by-hand",))}
    with pytest.raises(DatabaseBlockedError):
        rotate(world, "third")
    assert world.lock.record.blocked == {"db-2"}
    refusals = world.databases["db-2"].refusals.most
    for run in range(3):
        with pytest.raises(DatabaseBlockedError):
            rotate_again(world, f"blocked-{run}")
    assert world.databases["db-2"].refusals.most == refusals == REFUSALS_AT_MOST
    world.databases["db-2"].accounts = accounts
    orders(world, blocked=frozenset())
    assert_in_sync(world, rotate_again(world, "retried").generation)
