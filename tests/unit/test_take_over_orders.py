"""Databases that a run may take over by order, and those that it leaves alone (protocol I11, D20, O6)."""

import pytest

from functions.apply_db.logins import REFUSALS_AT_MOST
from lockstep.protocol.errors import CurrentCredentialRejectedError, DatabaseBlockedError, StoresDivergedError
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
    entries,
    known_logins,
    login_of,
    orders,
    rotate,
    rotate_again,
    shown,
)


@both_strategies
def test_a_database_restored_from_a_backup_is_taken_over_by_order(strategy: Strategy) -> None:
    """Nothing that any store holds logs in there, so only consent helps; the others have a say (protocol I11)."""
    world = steady(strategy)
    current, before = login_of(world, 2), known_logins(world)
    for account in world.databases["db-2"].accounts.values():
        account.passwords = ("of-an-old-backup",)
    with pytest.raises(CurrentCredentialRejectedError):
        rotate(world, "refused")
    assert world.lock.record.blocked == {"db-2"}
    with pytest.raises(DatabaseBlockedError):
        rotate_again(world, "blocked")
    assert known_logins(world)["db-1"] == before["db-1"]
    orders(world, take_over=frozenset({"db-2"}))
    result = rotate_again(world, "taken_over")
    assert_in_sync(world, result.generation)
    record = world.lock.record
    assert (record.take_over, record.blocked) == (frozenset(), frozenset())
    live = {shown(current), shown(login_of(world, result.generation or 0))}
    assert known_logins(world) == {"db-1": live, "db-2": live}
    details = entries(world, "aws")[-1].event["unmapped"]["lockstep"]["databases"]
    assert {name: d["taken_over"] for name, d in details.items()} == {"db-1": False, "db-2": True}


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
    with pytest.raises(StoresDivergedError):
        rotate(world, "third")
    assert "db-2" in world.lock.record.blocked
    refusals = world.databases["db-2"].refusals.most
    for run in range(3):
        with pytest.raises(DatabaseBlockedError):
            rotate_again(world, f"blocked-{run}")
    assert world.databases["db-2"].refusals.most == refusals == REFUSALS_AT_MOST
    world.databases["db-2"].accounts = accounts
    orders(world, blocked=frozenset())
    assert_in_sync(world, rotate_again(world, "retried").generation)
