"""Repairs never wait, and ask no person for what the next run can do (protocol I12, I13, I14, I15, I16, I17).

What works everywhere goes forward, and nothing that works ends (protocol C5).
"""

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from functions.apply_db.search import REFUSALS_AT_MOST
from lockstep.protocol import errors
from lockstep.protocol.model import Login, SecretStr, Strategy
from lockstep.protocol.orders import Revoke
from tests.proof.memory_observer import InstantObserver
from tests.support import world as w
from tests.support.memory import EPOCH, Account, MemoryWorld, SecretKind
from tests.support.memory_database import MemoryReplica, Refusals
from tests.support.memory_lock import ordered
from tests.unit.flights import PROMOTING, asked_to_probe, both_strategies, dies, steady

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


def _typed(world: MemoryWorld, store: str, password: str = "typed-by-hand") -> Login:
    w.edit(world.stores[store], w.another_login(world, password))
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
    "two mistakes": lambda world: [_typed(world, store, f"{store}-typo") for store in world.stores].pop(),
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
    # What a server says of its accounts does not know of it, and hides nothing (protocol C5).
    assert w.rotate(world, "forced", force=True).outcome == "skipped"
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


# Databases that refuse what the stores serve


@pytest.mark.parametrize("take_over", [(), ("db-2",), ("db-1", "db-2")])
@pytest.mark.parametrize("promoting", [False, True])
@both_strategies
def test_a_database_on_which_nothing_works_is_cured_by_consent_or_by_whoever_restores_it(
    take_over: tuple[str, ...], strategy: Strategy, *, promoting: bool
) -> None:
    """Each run asks it again, with few refusals, and needs no person's word afterwards (protocol I13)."""
    world = steady(strategy)
    if promoting:
        dies(world, "after aws promote connection_blob")
    login, before = w.login_of(world, 3 if promoting else 2), w.served(world)
    database = world.databases["db-2"]
    accounts = deepcopy(database.accounts)
    for account in database.accounts.values():
        account.passwords = ("changed-by-hand",)
    for run in range(3):
        with pytest.raises(errors.CurrentCredentialRejectedError):
            w.rotate_again(world, f"refused-{run}")
        assert database.refusals.most <= REFUSALS_AT_MOST
        database.refusals = Refusals()
    assert w.served(world) == before
    if not take_over:
        database.accounts = accounts
    w.orders(world, take_over=frozenset(take_over))
    assert _reconciled(world, login) if take_over or promoting else w.rotate(world, "restored").generation
    assert _works_everywhere(world)
    assert world.lock.record.take_over == frozenset()
    w.assert_in_sync(world, w.rotate_again(world, "following").generation)


@both_strategies
def test_consent_ends_nothing_that_works(strategy: Strategy) -> None:
    """A healthy database under take-over, by mistake, with a store that was moved back, and where all is well."""
    world = steady(strategy)
    _moved_back(world, "oci")
    w.at_every_boundary(world, InstantObserver(world).look)
    before = w.known_logins(world)
    for run, outcome in (("taker", "rotated"), ("with nothing to do", "skipped")):
        w.orders(world, take_over=frozenset({"db-1"}))
        assert w.rotate(world, run, force=True).outcome == outcome
        assert w.known_logins(world) == before
        assert _works_everywhere(world)
        assert world.lock.record.take_over == frozenset(), "it is used up"
    w.undisturbed(world)


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


# E: neither one dead database nor a verify host vetoes an emergency


def _revokes(world: MemoryWorld, *without: str) -> None:
    """Such an order is revoke and take-over, no more, and may be given twice (protocol O5)."""
    order = Revoke(lift_pause=False, without=frozenset(without))
    world.lock.record = ordered(world.lock.record, order)


@pytest.mark.parametrize("trouble", ["unreachable", "admin_refused"])
@both_strategies
def test_an_emergency_passes_over_a_database_that_fails_with_consent_and_asks_it_in_every_run(
    strategy: Strategy, trouble: str
) -> None:
    # (protocol O5, I17)
    world = steady(strategy)
    leaked = [w.shown(w.login_of(world, generation)) for generation in (1, 2)]
    setattr(world.databases["db-2"], trouble, True)
    for generation in (3, 4):
        _revokes(world, "db-2")
        assert w.rotate_again(world, f"emergency-{generation}").generation == generation
        assert not w.known_logins(world)["db-1"].intersection(leaked)
    setattr(world.databases["db-2"], trouble, False)
    for run in ("back", "after"):
        w.rotate_again(world, run)
        assert _works_everywhere(world)
    assert (world.lock.record.take_over, world.lock.record.is_revoking) == (frozenset(), False)
    assert not any(logins.intersection(leaked) for logins in w.known_logins(world).values())


@pytest.mark.parametrize("down", [("db-2",), ("db-1", "db-2")])
def test_an_emergency_waits_for_what_nobody_has_consented_to_and_for_the_last_database(
    down: tuple[str, ...],
) -> None:
    world = steady()
    _revokes(world, *(down if len(down) > 1 else ["db-1"]))
    for name in down:
        world.databases[name].unreachable = True
    with pytest.raises(errors.DatabaseUnreachableError):
        w.rotate(world, "emergency")
    assert world.lock.record.is_revoking


@pytest.mark.parametrize("trouble", ["gone", "refuses"])
@pytest.mark.parametrize("does", ["reconciles", "revokes", "rotates"])
@both_strategies
def test_a_verify_host_stops_neither_a_reconcile_nor_an_emergency_and_a_new_value_until_it_is_well(
    strategy: Strategy, does: str, trouble: str
) -> None:
    # (protocol D15, I13, I17)
    world = steady(strategy)
    leaked, database = w.shown(w.login_of(world, 2)), world.databases["db-2"]
    database.replicas = (host,) = (MemoryReplica(database, "replica"),)
    if trouble == "gone":
        host.unreachable = True
    else:
        host.lag_logins, host._applied = None, {}
    if does == "reconciles":
        _typed(world, "oci")
    elif does == "revokes":
        w.revokes_everything(world)
    else:
        for run in range(2):
            with pytest.raises((errors.DatabaseUnreachableError, errors.ReplicaRejectedError)):
                w.rotate_again(world, f"stopped-{run}")
        host.unreachable, host.lag_logins = False, 0
    assert w.rotate_again(world, "goes-on").generation == 3
    assert _works_everywhere(world)
    assert not world.lock.record.is_revoking
    assert (leaked in w.known_logins(world)["db-2"]) == (does != "revokes")


# U: what comes from outside is neither believed nor refused whole


NO_CREDENTIALS = {
    "bare text": ("app_user", "hunter2"),
    "a list": ("connection_blob", "[]"),
    "no login": ("app_user", '{"username": "app"}'),
    "half a text": ("app_user", '{"username":"app","pass'),
}


@pytest.mark.parametrize(("kind", "text"), NO_CREDENTIALS.values(), ids=NO_CREDENTIALS)
@pytest.mark.parametrize("stores", [("oci",), ("aws", "oci")])
def test_a_text_that_is_no_credential_is_replaced_unless_it_may_be_of_another_owner(
    kind: SecretKind, text: str, stores: tuple[str, ...]
) -> None:
    # (protocol V8)
    first_day, world = w.make_world(), steady()
    for store in stores:
        first_day.stores[store].edit(kind, text)
        world.stores[store].edit(kind, text)
    with pytest.raises(errors.SecretMalformedError):
        w.rotate(first_day, "first")
    assert first_day.lock.record.claim is None
    assert _reconciled(world, w.login_of(world, 2)) == 3
    for store in stores:
        secret = world.stores[store]._secrets[kind]
        assert secret.versions[secret.previous] == text
    assert w.entries(world, "aws")[-1].event["unmapped"]["lockstep"]["replaced"] == list(stores)


@pytest.mark.parametrize("name", ["expires_at", "next_due_at", "not_before", "rotated_at"])
def test_a_time_that_cannot_be_stops_no_run(name: str) -> None:
    # (protocol L17)
    world = steady()
    w.orders(world, **{"holder": "dead", "expires_at": EPOCH, name: datetime.max.replace(tzinfo=UTC)})
    assert w.rotate(world, "third").generation == 3
    w.assert_in_sync(world, w.rotate_again(world, "fourth").generation)
