"""Repairs never wait, and ask no person for what the next run can do (protocol I12, I13, I14, I15, I16, I17).

What works everywhere goes forward, and nothing that works ends (protocol C5).
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta

import pytest
from msgspec import structs

from functions.apply_db.search import REFUSALS_AT_MOST
from lockstep.protocol import errors
from lockstep.protocol.model import Login, SecretStr, Strategy
from tests.proof.memory_observer import InstantObserver
from tests.support import world as w
from tests.support.memory import Account, MemoryWorld
from tests.unit.flights import OPEN, PROMOTING, asked_to_probe, both_strategies, dies, steady

IN_A_RECONCILE = ["after lock claim", "after aws stage app_user", *PROMOTING[:3]]


def _works_everywhere(world: MemoryWorld) -> bool:
    logins = w.known_logins(world)
    return all(login in logins[name] for _, _, login in w.served(world).values() for name in logins)


def _reconciled(world: MemoryWorld, login: Login) -> int:
    """Run, and see that both stores serve a login under one generation; which one."""
    generation = w.rotate(world, "taker").generation
    assert generation
    w.assert_in_sync(world, generation)
    assert w.login_of(world, generation) == login
    return generation


def _moved_back(world: MemoryWorld, *stores: str) -> None:
    for store in stores:
        for secret in world.stores[store]._secrets.values():
            secret.make_current("generation-1")


# What people change


def _typed(world: MemoryWorld, store: str) -> Login:
    w.edit(world.stores[store], w.another_login(world))
    return w.login_of(world, 2)


def _changed_everywhere(world: MemoryWorld) -> Login:
    changed = Login(w.login_of(world, 2).username, SecretStr("changed-by-hand"))
    w.set_password(world, changed)
    w.edit(world.stores["oci"], changed)
    return changed


def _of_an_administrator(world: MemoryWorld) -> Login:
    """Such an account is not ours to keep valid (protocol D5)."""
    for database in world.databases.values():
        database.accounts["root"] = Account(passwords=("of-root",))
    for store in world.stores.values():
        w.edit(store, Login("root", SecretStr("of-root")))
    return w.login_of(world, 2)


CHANGES: dict[str, Callable[[MemoryWorld], Login]] = {
    "a mistake in aws": lambda world: _typed(world, "aws"),
    "a mistake in oci": lambda world: _typed(world, "oci"),
    "a password changed in every database": _changed_everywhere,
    "an administrator's login in every store": _of_an_administrator,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@both_strategies
def test_a_login_that_works_everywhere_gets_the_next_generation(
    change: Callable[[MemoryWorld], Login], strategy: Strategy
) -> None:
    world = steady(strategy)
    login, before = change(world), w.known_logins(world)
    asked_to_probe(world, w.held(world, "asks"))
    assert world.lock.record.claim is None
    world.clock.sleep(w.INTERVAL_SECONDS)
    assert _reconciled(world, login) == 3
    assert (w.known_logins(world), world.passwords.count) == (before, 1)


@pytest.mark.parametrize("phase", IN_A_RECONCILE)
@pytest.mark.parametrize("once_more", [False, True])
@both_strategies
def test_a_reconcile_in_flight_is_finished_unless_another_login_works_now(
    phase: str, strategy: Strategy, *, once_more: bool
) -> None:
    """However often a run dies, it costs one version (protocol C5)."""
    world = steady(strategy)
    login, before = _typed(world, "oci"), w.known_logins(world)
    dies(world, phase)
    if once_more:
        login = _changed_everywhere(world)
    assert _reconciled(world, login) in ({3, 4} if once_more else {3})
    assert once_more or w.known_logins(world) == before


@pytest.mark.parametrize("phase", OPEN)
@both_strategies
def test_after_an_edit_in_flight_every_store_serves_what_works(phase: str, strategy: Strategy) -> None:
    """What was staged and never served is forgotten: only what works everywhere goes forward (protocol C5)."""
    world = steady(strategy)
    dies(world, phase)
    base, before = _typed(world, "oci"), w.known_logins(world)
    assert _reconciled(world, base) == 4
    assert w.known_logins(world) == before
    w.assert_in_sync(world, w.rotate_again(world, "following").generation)
    assert all(len(let_in) == 2 for let_in in w.known_logins(world).values())


@pytest.mark.parametrize("moved", [("oci",), ("aws", "oci")])
@both_strategies
def test_a_store_moved_back_during_an_outage_is_valid(moved: tuple[str, ...], strategy: Strategy) -> None:
    """The previous value works, so applications read it again. Finishing the claim would kill it (protocol C2, I1)."""
    world = steady(strategy)
    away = dict.fromkeys(("before db-1 stage", "before db-2 stage"), errors.DatabaseUnreachableError)
    with w.struck(world, away), pytest.raises(errors.DatabaseUnreachableError):
        w.rotate(world, "away")
    _moved_back(world, *moved)
    w.at_every_boundary(world, InstantObserver(world).look)
    result = w.rotate_again(world, "taker", runner="oci")
    w.undisturbed(world)
    assert not result.adopted
    w.assert_in_sync(world, result.generation)
    assert all(w.shown(w.login_of(world, 1)) in let_in for let_in in w.known_logins(world).values())
    w.assert_in_sync(world, w.rotate_again(world, "following").generation)


# Databases that refuse what the stores serve


def test_a_database_that_refuses_every_candidate_is_blocked_until_it_is_unblocked() -> None:
    """Each run would show it wrong logins again, until the server locks the account (protocol D20)."""
    world = steady()
    database, before = world.databases["db-2"], w.served(world)
    accounts, database.accounts = database.accounts, {"app": Account(passwords=("changed-by-hand",))}
    for run in range(3):
        with pytest.raises(errors.DatabaseBlockedError):
            w.rotate_again(world, f"blocked-{run}")
        assert world.lock.record.blocked == {"db-2"}
    assert database.refusals.most == REFUSALS_AT_MOST
    assert w.served(world) == before
    database.accounts = accounts
    w.orders(world, blocked=frozenset())
    w.assert_in_sync(world, w.rotate_again(world, "unblocked").generation)


@pytest.mark.parametrize("take_over", [frozenset({"db-2"}), frozenset({"db-1", "db-2"})])
@pytest.mark.parametrize("promoting", [False, True])
@both_strategies
def test_by_consent_a_database_on_which_nothing_works_gets_what_the_stores_serve(
    take_over: frozenset[str], strategy: Strategy, *, promoting: bool
) -> None:
    world = steady(strategy)
    if promoting:
        dies(world, "after aws promote connection_blob")
    login = w.login_of(world, 3 if promoting else 2)
    for account in world.databases["db-2"].accounts.values():
        account.passwords = ("changed-by-hand",)
    with pytest.raises(errors.DatabaseBlockedError):
        w.rotate(world, "blocked")
    assert world.lock.record.blocked == {"db-2"}
    w.orders(world, take_over=take_over)
    _reconciled(world, login)
    assert (world.lock.record.take_over, world.lock.record.blocked) == (frozenset(), frozenset())
    w.assert_in_sync(world, w.rotate_again(world, "following").generation)


@both_strategies
def test_consent_ends_nothing_that_works(strategy: Strategy) -> None:
    """A healthy database under take-over, by mistake, with a store that was moved back."""
    world = steady(strategy)
    w.orders(world, take_over=frozenset({"db-1"}))
    _moved_back(world, "oci")
    w.at_every_boundary(world, InstantObserver(world).look)
    before = w.known_logins(world)
    w.rotate(world, "taker", force=True)
    w.undisturbed(world)
    assert w.known_logins(world) == before
    assert _works_everywhere(world)
    assert world.lock.record.take_over == frozenset()


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("failing", [("db-1",), ("db-2",), ("db-1", "db-2")])
@both_strategies
def test_a_fail_over_that_loses_changes_is_cured_by_the_next_run(
    strategy: Strategy, failing: tuple[str, ...], lost: int, *, forced: bool
) -> None:
    world = steady(strategy)
    w.rotate_again(world, "third")
    backup = {name: deepcopy(world.databases[name].accounts) for name in failing}
    for number in range(lost):
        w.rotate_again(world, f"lost-{number}")
    for name in failing:
        world.databases[name].accounts = backup[name]
    assert not _works_everywhere(world)
    if not forced:
        world.clock.sleep(w.INTERVAL_SECONDS)
    w.rotate(world, "cure", runner="oci", force=forced)
    assert _works_everywhere(world)
    assert world.lock.record.blocked == frozenset()
    assert max(database.refusals.most for database in world.databases.values()) <= lost
    w.assert_in_sync(world, w.rotate_again(world, "following").generation)
    assert _works_everywhere(world)
    assert all(len(let_in) == 2 for let_in in w.known_logins(world).values())


# N: nothing waits for a timer


def test_forced_runs_with_nothing_wrong_make_no_version_and_the_schedule_goes_on() -> None:
    world, generations = steady(), set[int]()
    for minute in range(0, 24 * 60, 10):
        result = w.rotate(world, f"forced-{minute}", force=True)
        generations.add(world.lock.record.current_generation or 0)
        assert result.outcome in {"rotated", "skipped"}
        world.clock.sleep(600)
    assert len(generations) == 72
    assert max(generations) == 2 + 72


def test_a_plan_with_a_shorter_overlap_ends_no_overlap_that_runs() -> None:
    world = steady()
    w.rotate(world, "third")
    until = world.lock.record.not_before
    schedule = structs.replace(world.credential.schedule, overlap=timedelta(minutes=1))
    world.plans["aws"] = structs.replace(world.credential, schedule=schedule, plan_digest="shorter")
    world.clock.sleep(30)
    w.orders(world, activate="shorter")
    w.rotate(world, "activates")
    assert (world.lock.record.plan, world.lock.record.activate) == ("shorter", None)
    assert until
    assert world.lock.record.not_before
    assert world.lock.record.not_before >= until


# B: an outage makes no versions


LOG = dict.fromkeys(("before aws log put", "before oci log put"), errors.AuditLogUnreachableError())
OCI = {
    f"before oci {operation} {secret}": errors.StoreUnreachableError(store="oci")
    for operation in ("stage", "promote")
    for secret in ("app_user", "connection_blob")
}


@pytest.mark.parametrize("down", [LOG, OCI], ids=["the logs", "writes to oci"])
@both_strategies
def test_an_outage_makes_two_versions(strategy: Strategy, down: dict[str, errors.LockstepError]) -> None:
    world = steady(strategy)
    highest = world.lock.record.highest_generation
    with w.struck(world, down):
        for number in range(48):
            with pytest.raises(errors.LockstepError):
                w.rotate(world, f"run-{number}.1", runner="aws" if number % 2 else "oci")
            world.clock.sleep(w.INTERVAL_SECONDS / 2)
    assert world.lock.record.highest_generation <= highest + 2
    assert w.rotate(world, "after").outcome == "rotated"
    assert _works_everywhere(world)


# E: one dead database vetoes no emergency


@both_strategies
def test_an_emergency_does_not_wait_for_a_database_that_an_operator_leaves_out(strategy: Strategy) -> None:
    world = steady(strategy)
    leaked = [w.shown(w.login_of(world, generation)) for generation in (1, 2)]
    world.databases["db-2"].unreachable = True
    w.orders(world, revoke_through=2, without=frozenset({"db-2"}), take_over=frozenset({"db-2"}))
    assert w.rotate(world, "emergency").generation == 3
    assert not world.lock.record.is_revoking
    assert not w.known_logins(world)["db-1"].intersection(leaked)
    assert world.lock.record.without == {"db-2"}
    world.databases["db-2"].unreachable = False
    w.rotate_again(world, "back")
    assert _works_everywhere(world)
    assert (world.lock.record.without, world.lock.record.take_over) == (frozenset(), frozenset())
    w.rotate_again(world, "after")
    assert not world.lock.record.is_revoking
    assert not any(logins.intersection(leaked) for logins in w.known_logins(world).values())


# A lost lock table, or an old copy of it: nothing is guessed (protocol C3)


@both_strategies
def test_after_a_lost_table_nothing_happens_until_the_plan_is_activated_again(strategy: Strategy) -> None:
    """Nobody knows what the lost record said, so a new one starts with an order of a person (protocol I10, O7)."""
    world = steady(strategy)
    current, before = w.login_of(world, 2), w.known_logins(world)
    w.loses_the_lock_table(world)
    with pytest.raises(errors.PlanNotActiveError):
        w.rotate(world, "first-again")
    assert (world.lock.record.claim, w.known_logins(world)) == (None, before)
    assert world.locked_out() == []
    w.activates(world)
    assert _reconciled(world, current) == 3
    assert w.known_logins(world) == before
    assert world.lock.record.not_before == world.clock.now() + world.credential.schedule.overlap
    w.assert_in_sync(world, w.rotate_again(world, "following").generation)


@pytest.mark.parametrize("hand_edited", [False, True], ids=["new", "reconcile"])
@pytest.mark.parametrize("phase", ["after lock claim", "after lock begin_promotion"])
@both_strategies
def test_a_claim_from_an_old_copy_of_the_lock_table_is_not_adopted(
    strategy: Strategy, phase: str, *, hand_edited: bool
) -> None:
    world = steady(strategy)
    if hand_edited:
        _typed(world, "oci")
    dies(world, phase)
    copy = world.lock.record
    for run in range(3):
        w.rotate_again(world, f"before-the-loss-{run}")
    world.lock.record = replace(copy, heads=world.lock.record.heads)
    world.clock.sleep(w.INTERVAL_SECONDS)
    _reconciled(world, w.login_of(world, w.served(world)["aws"][0]))
