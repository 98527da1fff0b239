"""Reconciles: after a change from outside a login that works everywhere gets a new generation (protocol C5)."""

from copy import deepcopy

import pytest

from functions.apply_db.search import REFUSALS_AT_MOST
from lockstep.protocol.errors import (
    DatabaseBlockedError,
    DatabaseUnreachableError,
    InvalidRequestError,
    LostCompareAndSetError,
)
from lockstep.protocol.messages import CandidateRef, ProbeResult
from lockstep.protocol.model import Login, SecretStr, Strategy
from tests.support.memory import Account
from tests.support.memory_store import SecretKind
from tests.support.world import (
    INTERVAL_SECONDS,
    Killed,
    Observer,
    another_login,
    assert_in_sync,
    at_every_boundary,
    edit,
    held,
    known_logins,
    login_of,
    orders,
    revokes_everything,
    rotate,
    rotate_again,
    served,
    set_password,
    shown,
    undisturbed,
)
from tests.unit.flights import OPEN, PROMOTING, asked_to_probe, both_strategies, dies, run_generate, steady

# Reconciling


@pytest.mark.parametrize("edited", ["aws", "oci"])
@both_strategies
def test_an_edit_that_does_not_log_in_is_probed_and_replaced(edited: str, strategy: Strategy) -> None:
    world = steady(strategy)
    current = login_of(world, 2)
    edit(world.stores[edited], another_login(world))
    asked_to_probe(world, held(world, "third"))
    assert world.lock.record.claim is None
    world.clock.sleep(INTERVAL_SECONDS)
    result = rotate(world, "fourth")
    assert_in_sync(world, result.generation)
    assert login_of(world, result.generation or 0) == current
    assert world.passwords.count == 1


@both_strategies
def test_a_password_changed_by_hand_in_every_database_wins(strategy: Strategy) -> None:
    world = steady(strategy)
    changed = Login(login_of(world, 2).username, SecretStr("changed-by-hand"))
    set_password(world, changed)
    edit(world.stores["oci"], changed)
    result = rotate(world, "third")
    assert_in_sync(world, result.generation)
    assert login_of(world, result.generation or 0) == changed


@pytest.mark.parametrize("secret", ["app_user", "connection_blob"])
def test_a_text_copied_by_hand_is_generation_0(secret: SecretKind) -> None:
    world = steady()
    current = login_of(world, 2)
    store = world.stores["oci"]
    store.edit(secret, store.current_text(secret))
    result = rotate(world, "third")
    assert result.generation == 3
    assert_in_sync(world, 3)
    assert login_of(world, 3) == current


def test_without_a_winner_nothing_is_changed() -> None:
    world = steady()
    before = served(world)
    set_password(world, another_login(world, "in-no-store"))
    edit(world.stores["oci"], another_login(world))
    with pytest.raises(DatabaseBlockedError):
        rotate(world, "third")
    assert world.lock.record.claim is None
    assert world.lock.record.blocked == {"db-1", "db-2"}
    assert served(world)["aws"] == before["aws"]


def test_a_database_that_refuses_every_candidate_is_blocked_until_it_is_unblocked() -> None:
    """Each run would show it wrong logins again, until the server locks the account (protocol D20)."""
    world = steady()
    database = world.databases["db-2"]
    accounts, database.accounts = database.accounts, {"app": Account(passwords=("changed-by-hand",))}
    for run in range(3):
        with pytest.raises(DatabaseBlockedError):
            rotate_again(world, f"blocked-{run}")
        assert world.lock.record.blocked == {"db-2"}
    assert database.refusals.most == REFUSALS_AT_MOST
    database.accounts = accounts
    orders(world, blocked=frozenset())
    assert_in_sync(world, rotate_again(world, "unblocked").generation)


@pytest.mark.parametrize("take_over", [frozenset({"db-2"}), frozenset({"db-1", "db-2"})])
@both_strategies
def test_a_promotion_that_a_database_refuses_is_reconciled_by_consent(
    take_over: frozenset[str], strategy: Strategy
) -> None:
    world = steady(strategy)
    dies(world, "after aws promote connection_blob")
    pending = login_of(world, 3)
    for account in world.databases["db-2"].accounts.values():
        account.passwords = ("changed-by-hand",)
    orders(world, take_over=take_over)
    assert rotate(world, "reconciler").generation == 4
    assert_in_sync(world, 4)
    assert (login_of(world, 4), world.lock.record.take_over) == (pending, frozenset())
    assert_in_sync(world, rotate_again(world, "following").generation)


@pytest.mark.parametrize(
    ("store", "version", "error"),
    [
        ("gcp", "generation-2", InvalidRequestError),
        ("aws", "generation-9", LostCompareAndSetError),  # It is gone: the step is tried again.
        ("oci", "edit-4", InvalidRequestError),  # Its username is not in the plan.
    ],
)
def test_only_a_version_that_a_store_holds_can_win(store: str, version: str, error: type[Exception]) -> None:
    world = steady()
    edit(world.stores["oci"], Login("root", SecretStr("of-root")))
    needed = asked_to_probe(world, held(world, "third"))
    found = ProbeResult(winner=CandidateRef(store=store, version=version))
    with pytest.raises(error):
        run_generate(world, needed.rotation, found=found)
    assert world.lock.record.claim is None


@both_strategies
def test_a_username_outside_the_plan_never_wins(strategy: Strategy) -> None:
    """Such an account is not ours to keep valid: an administrator's login, typed into a store (protocol D5)."""
    world = steady(strategy)
    root = Login("root", SecretStr("of-root"))
    for database in world.databases.values():
        database.accounts["root"] = Account(passwords=("of-root",))
    for store in world.stores.values():
        edit(store, root)
    current = login_of(world, 2)
    result = rotate(world, "third")
    assert_in_sync(world, result.generation)
    assert login_of(world, result.generation or 0) == current


@pytest.mark.parametrize("phase", ["after lock claim", "after aws stage app_user", *PROMOTING[:3]])
@both_strategies
def test_a_reconcile_in_flight_gives_way_to_a_login_that_works_now(phase: str, strategy: Strategy) -> None:
    world = steady(strategy)
    edit(world.stores["oci"], another_login(world))
    dies(world, phase)
    once_more = Login(login_of(world, 2).username, SecretStr("changed-once-more"))
    set_password(world, once_more)
    edit(world.stores["oci"], once_more)
    result = rotate(world, "taker")
    assert_in_sync(world, result.generation)
    assert login_of(world, result.generation or 0) == once_more


@pytest.mark.parametrize("phase", ["after lock claim", "after aws stage app_user", *PROMOTING[:3]])
@both_strategies
def test_a_reconcile_in_flight_is_finished_under_its_own_generation(phase: str, strategy: Strategy) -> None:
    """However often a run dies, it costs one version (protocol C5)."""
    world = steady(strategy)
    current, before = login_of(world, 2), known_logins(world)
    edit(world.stores["oci"], another_login(world))
    dies(world, phase)
    result = rotate(world, "taker")
    assert (result.generation, result.adopted) == (3, True)
    assert_in_sync(world, 3)
    assert (login_of(world, 3), known_logins(world)) == (current, before)


@pytest.mark.parametrize("phase", OPEN)
@both_strategies
def test_after_an_edit_in_flight_every_store_serves_what_works_and_no_database_changes(
    phase: str, strategy: Strategy
) -> None:
    """What was staged and never served is forgotten: only what works everywhere goes forward (protocol C5)."""
    world = steady(strategy)
    dies(world, phase)
    base, before = login_of(world, 2), known_logins(world)
    edit(world.stores["oci"], another_login(world))
    result = rotate(world, "taker")
    assert_in_sync(world, 4)
    assert result.generation == 4
    assert (login_of(world, 4), known_logins(world)) == (base, before)
    assert_in_sync(world, rotate_again(world, "following").generation)
    assert all(len(let_in) == 2 for let_in in known_logins(world).values())


@pytest.mark.parametrize("moved", [("oci",), ("aws", "oci")])
@both_strategies
def test_a_store_moved_back_while_databases_were_away_stays_valid(
    moved: tuple[str, ...], strategy: Strategy
) -> None:
    """The previous value works, so applications read it again. Finishing the claim would kill it (protocol C2, I1)."""
    world = steady(strategy)
    for database in world.databases.values():
        database.unreachable = True
    with pytest.raises(DatabaseUnreachableError):
        rotate(world, "away")
    for store in moved:
        for secret in world.stores[store]._secrets.values():
            secret.make_current("generation-1")
    for database in world.databases.values():
        database.unreachable = False
    at_every_boundary(world, Observer(world).look)
    result = rotate_again(world, "taker", runner="oci")
    undisturbed(world)
    assert not result.adopted
    assert_in_sync(world, result.generation)
    assert all(shown(login_of(world, 1)) in let_in for let_in in known_logins(world).values())
    assert_in_sync(world, rotate_again(world, "following").generation)


@pytest.mark.parametrize("phase", ["after aws promote app_user", "after aws promote connection_blob"])
@both_strategies
def test_a_run_that_died_between_two_stores_is_reconciled_and_nothing_dies(
    phase: str, strategy: Strategy
) -> None:
    world = steady(strategy)
    dies(world, phase)
    assert {user for user, _, _ in served(world).values()} == {2, 3}
    before = known_logins(world)
    at_every_boundary(world, Observer(world).look)
    result = rotate(world, "reconciler")
    undisturbed(world)
    assert_in_sync(world, result.generation)
    assert known_logins(world) == before
    assert login_of(world, result.generation or 0) == login_of(world, 3)
    assert {2, 3, result.generation} <= world.lock.record.valid


@both_strategies
def test_a_value_in_promotion_that_one_database_lost_gives_way_to_base(strategy: Strategy) -> None:
    """A database restored from a backup knows what was there before; both stores get that (protocol C5)."""
    world = steady(strategy)
    backup = deepcopy(world.databases["db-1"].accounts)
    dies(world, "after aws promote connection_blob")
    world.databases["db-1"].accounts = backup
    base = login_of(world, 2)
    result = rotate(world, "reconciler")
    assert_in_sync(world, result.generation)
    assert login_of(world, result.generation or 0) == base
    assert_in_sync(world, rotate_again(world, "following").generation)


def test_a_locked_candidate_does_not_fail_the_reconcile() -> None:
    world = steady(Strategy.ALTERNATING_USERS)
    dies(world, "after aws promote connection_blob")
    pending, base = login_of(world, 3), login_of(world, 2)
    for database in world.databases.values():
        database.accounts[pending.username].locked = True
    result = rotate(world, "reconciler")
    assert_in_sync(world, result.generation)
    assert login_of(world, result.generation or 0) == base


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
    edit(list(world.stores.values())[-1], another_login(world))
    asked = asked_to_probe(world, held(world, "taker"))
    assert [c.ref.version for c in asked.candidates] == expected


@both_strategies
def test_an_edit_back_to_a_revoked_value_is_reconciled(strategy: Strategy) -> None:
    world = steady(strategy)
    base = login_of(world, 2)
    revokes_everything(world)

    def dies_once_base_is_revoked(at: str) -> None:
        if at == "after lock release" or at.endswith("log put"):
            raise Killed

    at_every_boundary(world, dies_once_base_is_revoked)
    with pytest.raises(Killed):
        rotate(world, "emergency")
    undisturbed(world)
    emergency = login_of(world, 3)
    world.clock.sleep(INTERVAL_SECONDS)
    edit(world.stores["oci"], base)
    result = rotate(world, "taker")
    assert_in_sync(world, result.generation)
    assert login_of(world, result.generation or 0) == emergency
    assert_in_sync(world, rotate_again(world, "following").generation)
    assert not world.lock.record.is_revoking
