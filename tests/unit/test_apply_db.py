"""ApplyDb: every database accepts pending beside base, proven by logins, or none is changed (protocol D3, D7)."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
from msgspec import structs

from lockstep.protocol.errors import (
    AccountLockedError,
    AdminCredentialRejectedError,
    AdvisoryLockBusyError,
    CurrentCredentialRejectedError,
    DatabaseUnreachableError,
    FenceLostError,
    PasswordRefusedByPolicyError,
    PendingCredentialRejectedError,
    PlanNotActiveError,
    PreviousCredentialAcceptedError,
    StagedValueConflictError,
    TakeOverNeededError,
)
from lockstep.protocol.messages import (
    ApplyResult,
    BaseRefused,
    DatabaseOutcome,
    DatabaseResult,
    RevocationCheck,
    RevocationResult,
)
from lockstep.protocol.model import ClaimKind, Strategy
from tests.support.memory import Account
from tests.support.world import (
    another_login,
    applied,
    asked_to_apply,
    at_every_boundary,
    edit,
    generated,
    held,
    interrupted,
    known_logins,
    login_of,
    make_world,
    orders,
    rotate,
    rotate_again,
    shown,
    undisturbed,
)
from tests.unit.flights import Flight, asked_to_probe, both_strategies, run_generate, searched, steady

# Applying


@both_strategies
def test_pending_and_base_log_in_afterwards_and_what_was_valid_before_does_not(strategy: Strategy) -> None:
    flight = Flight(strategy)
    assert flight.lets_in(1)
    done = [
        DatabaseResult(
            database=name,
            outcome=DatabaseOutcome.APPLIED,
            revoked=(RevocationCheck(generation=1, revocation=RevocationResult.REFUSED),),
        )
        for name in ("db-1", "db-2")
    ]
    assert applied(flight.world, flight.staged) == ApplyResult(databases=tuple(done))
    live = {shown(login_of(flight.world, g)) for g in (2, 3)}
    assert known_logins(flight.world) == {"db-1": live, "db-2": live}


@both_strategies
def test_databases_change_under_every_advisory_lock_after_base_logged_in_on_all(strategy: Strategy) -> None:
    """What must succeed comes before what must be refused, and follows it (protocol D1, D3, D18)."""
    flight = Flight(strategy)
    seen: list[str] = []
    at_every_boundary(flight.world, seen.append)
    flight.apply()
    undisturbed(flight.world)
    assert [b.removeprefix("before ") for b in seen if b.startswith(("before db-", "before lock"))] == [
        "db-1 admin_login",
        "db-1 lock",
        "db-2 lock",
        "lock require",
        "db-1 accepts",  # base
        "db-2 accepts",
        *(
            f"{name} {operation}"
            for name in ("db-1", "db-2")
            for operation in (
                "stage",
                # Pending, base, 1, which must be refused, pending; with two users pending's account comes first.
                "accepts",
                "accepts",
                "accepts",
                "accepts",
            )
        ),
    ]
    assert [d.refusals.most for d in flight.world.databases.values()] == [1, 1]


@both_strategies
def test_a_twin_at_any_boundary_does_no_harm(strategy: Strategy) -> None:
    at = 0
    outcomes: set[str] = set()
    while True:
        flight = Flight(strategy)
        twin = interrupted(flight.world, at, partial(_outcome, flight))
        flight.apply()
        undisturbed(flight.world)
        if twin.result is None:
            break
        outcomes.add(twin.result)
        assert (flight.lets_in(3), flight.lets_in(2), flight.lets_in(1)) == (True, True, False)
        at += 1
    # While the first invocation holds the advisory lock, the twin fails with a retryable error.
    assert outcomes == {"applied", "AdvisoryLockBusyError"}


def _outcome(flight: Flight) -> str:
    try:
        return flight.apply().outcome.value
    except AdvisoryLockBusyError as e:
        return type(e).__name__


@both_strategies
def test_after_a_placeholder_only_the_first_generation_logs_in(strategy: Strategy) -> None:
    world = make_world(strategy=strategy, placeholder=True)
    world.databases["db-1"].accounts[world.credential.usernames[0]].passwords = ("of-old",)
    result = applied(world, generated(world, held(world)))
    assert all(d.taken_over for d in result.databases)
    assert set(known_logins(world)["db-1"]) == {shown(login_of(world, 1))}


def _reconciling(*, consent: bool = False) -> Flight:
    """A flight whose claim is a reconcile: generation 3 has the login of 2, and db-1 accepts only 1, or nothing."""
    flight = Flight.__new__(Flight)
    flight.world = world = steady()
    edit(world.stores["oci"], another_login(world))
    passwords = ("of-an-old-backup",) if consent else (login_of(world, 1).password.reveal(),)
    flight.database.accounts["app"] = Account(passwords=passwords, recorded=frozenset({1}))
    world.databases["db-2"].accounts["app"].passwords = (login_of(world, 2).password.reveal(),)
    orders(world, take_over=frozenset({"db-1"} if consent else ()))
    needed = asked_to_probe(world, held(world, "third"))
    flight.staged = run_generate(world, needed.rotation, found=searched(world, needed))
    assert flight.claim.kind is ClaimKind.RECONCILE
    assert [one.database for one in flight.staged.beside] == ["db-1"]
    return flight


@pytest.mark.parametrize("consent", [False, True])
def test_where_the_winner_is_refused_it_is_staged_beside_what_works_there_or_by_consent(
    consent: bool,  # noqa: FBT001 - a row of the table
) -> None:
    flight = _reconciling(consent=consent)
    before = known_logins(flight.world)["db-2"]
    result = applied(flight.world, flight.staged)
    assert [d.taken_over for d in result.databases] == [consent, False]
    assert [d.outcome for d in result.databases] == [DatabaseOutcome.APPLIED, DatabaseOutcome.PROVEN]
    works = {shown(login_of(flight.world, generation)) for generation in ((2,) if consent else (2, 1))}
    assert known_logins(flight.world) == {"db-1": works, "db-2": before}


def _winner_was_ended(flight: Flight) -> None:
    flight.world.databases["db-2"].accounts["app"].passwords = ("changed-by-hand",)


def _kept_was_ended(flight: Flight) -> None:
    flight.database.accounts["app"].passwords = ("changed-by-hand",)


def _consent_was_withdrawn(flight: Flight) -> None:
    orders(flight.world, take_over=frozenset())


@pytest.mark.parametrize(
    ("trouble", "consent", "error"),
    [
        (_winner_was_ended, False, PendingCredentialRejectedError),
        (_kept_was_ended, False, CurrentCredentialRejectedError),
        (_consent_was_withdrawn, True, TakeOverNeededError),
    ],
)
def test_what_a_search_has_seen_is_seen_again_before_the_change(
    trouble: Callable[[Flight], None],
    consent: bool,  # noqa: FBT001 - a row of the table
    error: type[Exception],
) -> None:
    flight = _reconciling(consent=consent)
    trouble(flight)
    before = known_logins(flight.world)
    with pytest.raises(error):
        flight.apply()
    name = "db-2" if trouble is _winner_was_ended else "db-1"
    assert known_logins(flight.world)[name] == before[name]


# Errors that change nothing


def _base_was_changed(flight: Flight) -> None:
    flight.database.accounts["app"].passwords = ("changed-by-hand",)


def _lease_ended(flight: Flight) -> None:
    flight.world.clock.sleep(900)


def _claim_was_replaced(flight: Flight) -> None:
    record = flight.world.lock.record
    flight.world.lock.record = replace(record, claim=structs.replace(flight.claim, generation=4))


def _unreachable(flight: Flight) -> None:
    flight.database.unreachable = True


def _admin_refused(flight: Flight) -> None:
    flight.database.admin_refused = True


def _never_staged(flight: Flight) -> None:
    for store in flight.world.stores.values():
        for secret in store._secrets.values():
            del secret.versions["generation-3"]


def _base_is_gone(flight: Flight) -> None:
    for store in flight.world.stores.values():
        edit(store, another_login(flight.world))
        for secret in store._secrets.values():
            secret.versions.pop("generation-2", None)


def _deployed(flight: Flight) -> None:
    flight.world.credential = structs.replace(flight.world.credential, plan_digest="of-another-plan")


def _promoting(flight: Flight) -> None:
    orders(flight.world, promoting=True)


def _take_over_is_withdrawn(flight: Flight) -> None:
    flight.world = make_world(placeholder=True)
    flight.staged = generated(flight.world, held(flight.world))
    orders(flight.world, take_over=frozenset({"db-2"}))


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (Flight.overtaken, FenceLostError),
        (_lease_ended, FenceLostError),
        (_claim_was_replaced, FenceLostError),
        (_unreachable, DatabaseUnreachableError),
        (_admin_refused, AdminCredentialRejectedError),
        (_deployed, PlanNotActiveError),
        (_promoting, FenceLostError),
        (_take_over_is_withdrawn, TakeOverNeededError),
        (_never_staged, StagedValueConflictError),
        (_base_is_gone, CurrentCredentialRejectedError),
    ],
)
def test_an_error_before_the_change_leaves_the_database_as_it_was(
    trouble: Callable[[Flight], None], error: type[Exception]
) -> None:
    flight = Flight()
    trouble(flight)
    before = known_logins(flight.world)
    with pytest.raises(error):
        flight.apply()
    assert known_logins(flight.world) == before


@pytest.mark.parametrize("trouble", [_base_was_changed, _unreachable, _admin_refused])
def test_no_database_changes_if_one_is_not_ready(trouble: Callable[[Flight], None]) -> None:
    """Else one could accept pending while the other never does, run after run (protocol D3)."""
    flight = Flight()
    flight.world.databases = dict(reversed(list(flight.world.databases.items())))
    trouble(flight)
    before = known_logins(flight.world)
    with suppress(DatabaseUnreachableError, AdminCredentialRejectedError):
        assert asked_to_apply(flight.world, flight.staged) == BaseRefused(refused=("db-1",))
    assert known_logins(flight.world) == before


def test_a_policys_refusal_ends_the_step_and_the_other_databases_go_on() -> None:
    flight = Flight()
    flight.database.refuses = lambda _password: True
    with pytest.raises(PasswordRefusedByPolicyError):
        applied(flight.world, flight.staged)
    assert (flight.lets_in(3), flight.lets_in(2)) == (False, True)
    assert shown(login_of(flight.world, 3)) in known_logins(flight.world)["db-2"]


# The proofs


@pytest.mark.parametrize(
    ("accepted", "error"),
    [
        ((2,), PendingCredentialRejectedError),
        ((3,), CurrentCredentialRejectedError),
        ((3, 2, 1), PreviousCredentialAcceptedError),
    ],
)
def test_what_a_database_accepts_after_staging_is_proven(
    accepted: tuple[int, ...], error: type[Exception]
) -> None:
    flight = Flight()
    passwords = [login_of(flight.world, g).password.reveal() for g in accepted]

    def hook(operation: str) -> None:
        if operation == "stage":
            flight.database.set_passwords("app", *passwords)

    flight.database.faults.after = hook
    with pytest.raises(error):
        flight.apply()


def test_a_value_that_no_store_holds_is_unreadable() -> None:
    flight = Flight()
    for store in flight.world.stores.values():
        del store._secrets["app_user"].versions["generation-1"]
    assert flight.apply().revoked == (RevocationCheck(generation=1, revocation=RevocationResult.UNREADABLE),)


def test_a_value_with_the_login_of_base_is_not_revoked() -> None:
    world = steady()
    edit(world.stores["oci"], another_login(world))
    assert rotate(world, "reconciler").generation == 3
    assert rotate_again(world, "new").generation == 4
    assert world.lock.record.valid == {2, 3, 4}  # 2 and 3 are one login; what was valid before it is revoked.
    rotate_again(world, "newer")
    assert world.lock.record.valid == {4, 5}


def test_a_refusal_proves_nothing_on_a_locked_account() -> None:
    """A locked account refuses everything, and may be unlocked later (protocol D9)."""
    flight = Flight(Strategy.ALTERNATING_USERS)
    pending = login_of(flight.world, 3)
    logins = 0

    def locks_at_the_refusal(operation: str) -> None:
        nonlocal logins
        logins += operation == "accepts"
        if logins == 4:  # Base, pending, base, 1.
            flight.database.accounts[pending.username].locked = True

    flight.database.faults.before = locks_at_the_refusal
    with pytest.raises(AccountLockedError):
        flight.apply()
