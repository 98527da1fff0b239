"""Repairs never wait, and ask no person for what the next run can do (protocol I12, I13, I14, I15, I16, I17)."""

from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta

import pytest
from msgspec import structs

from lockstep.protocol.errors import (
    AuditLogUnreachableError,
    DatabaseBlockedError,
    LockstepError,
    StoreUnreachableError,
)
from lockstep.protocol.model import Login, SecretStr, Strategy
from tests.support.memory import Account, MemoryWorld
from tests.support.world import (
    INTERVAL_SECONDS,
    Observer,
    another_login,
    assert_in_sync,
    at_every_boundary,
    edit,
    known_logins,
    login_of,
    loses_the_lock_table,
    make_world,
    orders,
    rotate,
    rotate_again,
    served,
    shown,
    undisturbed,
)
from tests.unit.flights import both_strategies, steady

Accounts = dict[str, Account]


def _before(world: MemoryWorld, *, rotations: int) -> dict[str, Accounts]:
    """Rotate; what each database had before that."""
    backup = {name: deepcopy(database.accounts) for name, database in world.databases.items()}
    for number in range(rotations):
        rotate_again(world, f"lost-{number}")
    return backup


def _fails_over(world: MemoryWorld, name: str, accounts: Accounts) -> None:
    world.databases[name].accounts = deepcopy(accounts)


def _works_everywhere(world: MemoryWorld) -> bool:
    logins = known_logins(world)
    return all(login in logins[name] for _, _, login in served(world).values() for name in logins)


def _most_refused(world: MemoryWorld) -> int:
    return max(database.refusals.most for database in world.databases.values())


# W: a fail-over


@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("failing", [("db-1",), ("db-2",), ("db-1", "db-2")])
@both_strategies
def test_a_fail_over_that_loses_changes_is_cured_by_the_next_run(
    strategy: Strategy, failing: tuple[str, ...], lost: int
) -> None:
    world = steady(strategy)
    rotate_again(world, "third")
    backup = _before(world, rotations=lost)
    for name in failing:
        _fails_over(world, name, backup[name])
    assert not _works_everywhere(world)
    world.clock.sleep(INTERVAL_SECONDS)
    rotate(world, "cure", runner="oci")
    assert _works_everywhere(world)
    assert world.lock.record.blocked == frozenset()
    assert_in_sync(world, rotate_again(world, "following").generation)
    assert _works_everywhere(world)
    assert all(len(let_in) == 2 for let_in in known_logins(world).values())


@both_strategies
def test_a_forced_run_cures_at_once_and_cuts_no_overlap(strategy: Strategy) -> None:
    world = steady(strategy)
    backup = _before(world, rotations=1)
    _fails_over(world, "db-1", backup["db-1"])
    rotate(world, "cure", force=True)
    assert _works_everywhere(world)
    assert _most_refused(world) == 1


# N: nothing waits for a timer


def test_forced_runs_with_nothing_wrong_make_no_version_and_the_schedule_goes_on() -> None:
    world, generations = steady(), set[int]()
    for minute in range(0, 24 * 60, 10):
        result = rotate(world, f"forced-{minute}", force=True)
        generations.add(world.lock.record.current_generation or 0)
        assert result.outcome in {"rotated", "skipped"}
        world.clock.sleep(600)
    assert len(generations) == 72
    assert max(generations) == 2 + 72


@both_strategies
def test_a_typing_mistake_is_repaired_before_the_overlap_is_over(strategy: Strategy) -> None:
    world = steady(strategy)
    rotate(world, "third")
    edit(world.stores["oci"], another_login(world))
    before = known_logins(world)
    world.clock.sleep(60)
    result = rotate(world, "forced", force=True)
    assert_in_sync(world, result.generation)
    assert known_logins(world) == before


# B: an outage makes no versions


def _log_is_down(world: MemoryWorld) -> None:
    def refuse(operation: str) -> None:
        if operation == "put":
            raise AuditLogUnreachableError

    for log in world.audit_logs.values():
        log.faults.before = refuse


def _oci_is_not_writable(world: MemoryWorld) -> None:
    def refuse(operation: str) -> None:
        if operation.split(maxsplit=1)[0] in {"stage", "promote"}:
            raise StoreUnreachableError(store="oci")

    world.stores["oci"].faults.before = refuse


@pytest.mark.parametrize("down", [_log_is_down, _oci_is_not_writable])
@both_strategies
def test_three_days_of_an_outage_make_at_most_two_versions(
    strategy: Strategy, down: Callable[[MemoryWorld], None]
) -> None:
    world = steady(strategy)
    down(world)
    highest = world.lock.record.highest_generation
    for number in range(3 * 144):
        with pytest.raises(LockstepError):
            rotate(world, f"run-{number}.1", runner="aws" if number % 2 else "oci")
        world.clock.sleep(INTERVAL_SECONDS / 2)
    assert world.lock.record.highest_generation <= highest + 2
    undisturbed(world)
    assert rotate(world, "after").outcome == "rotated"
    assert _works_everywhere(world)


# E: one dead database vetoes no emergency


@both_strategies
def test_an_emergency_does_not_wait_for_a_database_that_an_operator_leaves_out(strategy: Strategy) -> None:
    world = steady(strategy)
    leaked = [shown(login_of(world, generation)) for generation in (1, 2)]
    world.databases["db-2"].unreachable = True
    orders(world, revoke_through=2, without=frozenset({"db-2"}), take_over=frozenset({"db-2"}))
    assert rotate(world, "emergency").generation == 3
    assert not world.lock.record.is_revoking
    assert not known_logins(world)["db-1"].intersection(leaked)
    assert world.lock.record.without == {"db-2"}
    world.databases["db-2"].unreachable = False
    rotate_again(world, "back")
    assert _works_everywhere(world)
    assert (world.lock.record.without, world.lock.record.take_over) == (frozenset(), frozenset())
    rotate_again(world, "after")
    assert not world.lock.record.is_revoking
    assert not any(logins.intersection(leaked) for logins in known_logins(world).values())


# C: consent is used only where nothing works


@both_strategies
def test_consent_ends_nothing_that_works(strategy: Strategy) -> None:
    """A healthy database under take-over, by mistake, with a store that was moved back."""
    world = steady(strategy)
    orders(world, take_over=frozenset({"db-1"}))
    for secret in world.stores["oci"]._secrets.values():
        secret.make_current("generation-1")
    at_every_boundary(world, Observer(world).look)
    before = known_logins(world)
    rotate(world, "taker", force=True)
    undisturbed(world)
    assert known_logins(world) == before
    assert _works_everywhere(world)
    assert world.lock.record.take_over == frozenset()


@both_strategies
def test_with_consent_a_database_on_which_nothing_works_gets_what_the_stores_serve(
    strategy: Strategy,
) -> None:
    world = steady(strategy)
    current = login_of(world, 2)
    for account in world.databases["db-1"].accounts.values():
        account.passwords = ("of-an-old-backup",)
    with pytest.raises(DatabaseBlockedError):
        rotate(world, "third")
    assert world.lock.record.blocked == {"db-1"}
    orders(world, take_over=frozenset({"db-1"}))
    rotate(world, "fourth", force=True)
    assert _works_everywhere(world)
    assert {login for _, _, login in served(world).values()} == {shown(current)}
    assert (world.lock.record.take_over, world.lock.record.blocked) == (frozenset(), frozenset())


def test_a_spurious_refusal_stops_nothing() -> None:
    world = steady()
    database, left = world.databases["db-1"], [1]
    kept = deepcopy(database.accounts)

    def refuses_once(operation: str) -> None:
        if operation == "accepts" and left:
            left.pop()
            database.accounts["app"].passwords = ()
            database.faults.after = restored

    def restored(operation: str) -> None:
        if operation == "accepts":
            database.accounts = deepcopy(kept)
            database.faults.after = lambda _operation: None

    database.faults.before = refuses_once
    rotate(world, "third")
    assert _works_everywhere(world)
    assert world.lock.record.blocked == frozenset()
    assert_in_sync(world, rotate_again(world, "fourth").generation)


# A lost table


def test_a_lost_table_and_a_mistake_in_both_stores_are_reconciled() -> None:
    world = steady()
    loses_the_lock_table(world)
    for store in world.stores.values():
        edit(store, another_login(world))
    orders(world, activate=world.credential.plan_digest)
    rotate(world, "third")
    assert _works_everywhere(world)


@pytest.mark.parametrize("interval", [timedelta(hours=1), timedelta(days=1)])
def test_a_repair_does_not_wait_at_longer_intervals(interval: timedelta) -> None:
    hours = interval / timedelta(hours=1)
    world = make_world(interval=f"{hours:.0f}h")
    rotate(world, "first")
    world.clock.sleep(interval.total_seconds())
    rotate(world, "second")
    edit(world.stores["aws"], Login("app", SecretStr("typed")))
    rotate(world, "forced", force=True)
    assert _works_everywhere(world)


def test_a_plan_with_a_shorter_overlap_ends_no_overlap_that_runs() -> None:
    world = steady()
    rotate(world, "third")
    until = world.lock.record.not_before
    schedule = structs.replace(world.credential.schedule, overlap=timedelta(minutes=1))
    world.plans["aws"] = structs.replace(world.credential, schedule=schedule, plan_digest="shorter")
    world.clock.sleep(30)
    orders(world, activate="shorter")
    rotate(world, "activates")
    assert (world.lock.record.plan, world.lock.record.activate) == ("shorter", None)
    assert until
    assert world.lock.record.not_before
    assert world.lock.record.not_before >= until
