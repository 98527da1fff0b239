"""ApplyDb: every database accepts pending beside base, proven by logins, or none is changed (protocol D3, D7)."""

from collections.abc import Callable
from functools import partial
from itertools import count

import pytest
from msgspec import structs

from lockstep.protocol import errors, messages
from lockstep.protocol.deadlines import LEASE
from lockstep.protocol.model import ClaimKind, Strategy
from tests.support import world as w
from tests.support.memory import Account
from tests.unit.flights import Flight, asked_to_probe, both_strategies, run_generate, searched, steady

# Applying


@both_strategies
def test_pending_and_base_log_in_afterwards_and_what_was_valid_before_does_not(strategy: Strategy) -> None:
    flight = Flight(strategy)
    assert flight.lets_in(1) == [True]
    refused = (messages.RevocationCheck(generation=1, revocation=messages.RevocationResult.REFUSED),)
    assert w.applied(flight.world, flight.staged) == messages.ApplyResult(
        databases=tuple(
            messages.DatabaseResult(database=name, outcome=messages.DatabaseOutcome.APPLIED, revoked=refused)
            for name in ("db-1", "db-2")
        )
    )
    live = {w.shown(w.login_of(flight.world, g)) for g in (2, 3)}
    assert w.known_logins(flight.world) == {"db-1": live, "db-2": live}


@both_strategies
def test_databases_change_under_every_advisory_lock_after_base_logged_in_on_all(strategy: Strategy) -> None:
    """What must succeed comes before what must be refused, and follows it (protocol D1, D3, D18)."""
    flight = Flight(strategy)
    seen: list[str] = []
    w.at_every_boundary(flight.world, seen.append)
    flight.apply()
    w.undisturbed(flight.world)
    assert [b.removeprefix("before ") for b in seen if b.startswith("before")] == [
        "aws read_generation",
        "aws read_generation",
        "db-1 admin_login",
        "db-1 lock",
        "db-2 lock",
        "lock require",
        "db-1 accepts",  # Base.
        "db-2 accepts",
        "aws read_generation",  # What is doomed is read after the fence.
        # Pending, base, 1, which must be refused, pending; with two users pending's account comes first.
        *("db-1 stage", *["db-1 accepts"] * 4),
        *("db-2 stage", *["db-2 accepts"] * 4),
    ]
    assert [d.refusals.most for d in flight.world.databases.values()] == [1, 1]


@both_strategies
def test_a_twin_at_any_boundary_does_no_harm(strategy: Strategy) -> None:
    outcomes: set[str] = set()

    def apply() -> str:
        try:
            return flight.apply().outcome.value
        except errors.AdvisoryLockBusyError as e:
            return type(e).__name__

    for at in range(100):
        flight = Flight(strategy)
        twin = w.interrupted(flight.world, at, apply)
        flight.apply()
        w.undisturbed(flight.world)
        if twin.result is None:
            break
        outcomes.add(twin.result)
        assert flight.lets_in(3, 2, 1) == [True, True, False]
    # While the first invocation holds the advisory lock, the twin fails with a retryable error.
    assert outcomes == {"applied", "AdvisoryLockBusyError"}


@both_strategies
def test_after_a_placeholder_only_the_first_generation_logs_in(strategy: Strategy) -> None:
    world = w.make_world(strategy=strategy, placeholder=True)
    world.databases["db-1"].accounts[world.credential.usernames[0]].passwords = ("of-old",)
    result = w.applied(world, w.generated(world, w.held(world)))
    assert all(d.taken_over for d in result.databases)
    assert set(w.known_logins(world)["db-1"]) == {w.shown(w.login_of(world, 1))}


def _reconciling(*, consent: bool = False) -> Flight:
    """A flight whose claim is a reconcile: generation 3 has the login of 2, and db-1 accepts only 1, or nothing."""
    flight = Flight.__new__(Flight)
    flight.world = world = steady()
    w.edit(world.stores["oci"], w.another_login(world))
    passwords = ("of-an-old-backup",) if consent else (w.login_of(world, 1).password.reveal(),)
    flight.database.accounts["app"] = Account(passwords=passwords, recorded=frozenset({1}))
    world.databases["db-2"].accounts["app"].passwords = (w.login_of(world, 2).password.reveal(),)
    w.orders(world, take_over=frozenset({"db-1"} if consent else ()))
    needed = asked_to_probe(world, w.held(world, "third"))
    flight.staged = run_generate(world, needed.rotation, found=searched(world, needed))
    assert flight.claim.kind is ClaimKind.RECONCILE
    assert [one.database for one in flight.staged.beside] == ["db-1"]
    return flight


@pytest.mark.parametrize("consent", [False, True])
def test_where_the_winner_is_refused_it_is_staged_beside_what_works(*, consent: bool) -> None:
    flight = _reconciling(consent=consent)
    before = w.known_logins(flight.world)["db-2"]
    result = w.applied(flight.world, flight.staged)
    assert [d.taken_over for d in result.databases] == [consent, False]
    assert [d.outcome for d in result.databases] == [
        messages.DatabaseOutcome.APPLIED,
        messages.DatabaseOutcome.PROVEN,
    ]
    works = {w.shown(w.login_of(flight.world, generation)) for generation in ((2,) if consent else (2, 1))}
    assert w.known_logins(flight.world) == {"db-1": works, "db-2": before}


Trouble = Callable[[Flight], object]


def _has(database: str, *passwords: str) -> Trouble:
    return lambda flight: flight.world.databases[database].set_passwords("app", *passwords)


def _ordered(**order: object) -> Trouble:
    return lambda flight: w.orders(flight.world, **order)


def _in_database(**state: bool) -> Trouble:
    return lambda flight: vars(flight.database).update(state)


@pytest.mark.parametrize(
    ("trouble", "consent", "error"),
    [
        (_has("db-2", "changed-by-hand"), False, errors.PendingCredentialRejectedError),
        (_has("db-1", "changed-by-hand"), False, errors.CurrentCredentialRejectedError),
        (_ordered(take_over=frozenset()), True, errors.TakeOverNeededError),
    ],
    ids=["the winner was ended", "what was kept was ended", "consent was withdrawn"],
)
def test_what_a_search_has_seen_is_seen_again_before_the_change(
    trouble: Trouble, error: type[Exception], *, consent: bool
) -> None:
    flight = _reconciling(consent=consent)
    trouble(flight)
    before = w.known_logins(flight.world)
    with pytest.raises(error):
        flight.apply()
    name = "db-2" if error is errors.PendingCredentialRejectedError else "db-1"
    assert w.known_logins(flight.world)[name] == before[name]


def _never_staged(flight: Flight) -> None:
    for store in flight.world.stores.values():
        for secret in store._secrets.values():
            del secret.versions["generation-3"]


def _base_is_gone(flight: Flight) -> None:
    for store in flight.world.stores.values():
        w.edit(store, w.another_login(flight.world))
        for secret in store._secrets.values():
            secret.versions.pop("generation-2", None)


def _deployed(flight: Flight) -> None:
    flight.world.credential = structs.replace(flight.world.credential, plan_digest="of-another-plan")


def _take_over_is_withdrawn(flight: Flight) -> None:
    flight.world = w.make_world(placeholder=True)
    flight.staged = w.generated(flight.world, w.held(flight.world))
    w.orders(flight.world, take_over=frozenset({"db-2"}))


TROUBLES: dict[str, tuple[Trouble, type[Exception]]] = {
    "overtaken": (Flight.overtaken, errors.FenceLostError),
    "taken over": (_ordered(fence=100, holder="taker"), errors.FenceLostError),
    "the lease ended": (lambda f: f.world.clock.sleep(LEASE.total_seconds()), errors.FenceLostError),
    "another claim": (
        lambda f: w.orders(f.world, claim=structs.replace(f.claim, generation=4)),
        errors.FenceLostError,
    ),
    "in promotion": (_ordered(promoting=True), errors.FenceLostError),
    "the lock table is out": (
        lambda f: w.strike(f.world, {"before lock require": errors.LockTableUnreachableError}),
        errors.LockTableUnreachableError,
    ),
    "another plan": (_deployed, errors.PlanNotActiveError),
    "take-over was withdrawn": (_take_over_is_withdrawn, errors.TakeOverNeededError),
    "never staged": (_never_staged, errors.StagedValueConflictError),
    "base is gone": (_base_is_gone, errors.CurrentCredentialRejectedError),
    "unreachable": (_in_database(unreachable=True), errors.DatabaseUnreachableError),
    "the admin is refused": (_in_database(admin_refused=True), errors.AdminCredentialRejectedError),
}


@pytest.mark.parametrize(("trouble", "error"), TROUBLES.values(), ids=TROUBLES)
@both_strategies
def test_an_error_before_the_change_changes_no_database_shows_no_login_and_blocks_nothing(
    strategy: Strategy, trouble: Trouble, error: type[Exception]
) -> None:
    """Else one could accept pending and the other never; base may be revoked by now (protocol D3, D18)."""
    flight = Flight(strategy)
    trouble(flight)
    flight.world.databases = dict(reversed(list(flight.world.databases.items())))
    before, asked = w.known_logins(flight.world), list[str]()
    for database in flight.world.databases.values():
        database.faults.before = asked.append
    with pytest.raises(error):
        flight.apply()
    assert "accepts" not in asked
    assert (flight.world.lock.record.blocked, w.known_logins(flight.world)) == (frozenset(), before)


# Base is refused


@pytest.mark.parametrize("refusing", [("db-1",), ("db-2",), ("db-1", "db-2")])
@pytest.mark.parametrize("trouble", ["passwords", "locked", "expired"])
def test_the_databases_that_refuse_base_are_named_and_none_is_changed_or_blocked(
    refusing: tuple[str, ...], trouble: str
) -> None:
    flight = Flight()
    for name in refusing:
        account = flight.world.databases[name].accounts["app"]
        setattr(account, trouble, ("changed-by-hand",) if trouble == "passwords" else True)
    before = w.known_logins(flight.world)
    assert w.asked_to_apply(flight.world, flight.staged) == messages.BaseRefused(refused=refusing)
    assert (flight.world.lock.record.blocked, w.known_logins(flight.world)) == (frozenset(), before)


def test_a_database_that_does_not_answer_counts_as_refusing_beside_one_that_refuses() -> None:
    """Tried again, the step would show base once more to the one that refuses (protocol D18)."""
    flight = Flight()
    w.strike(flight.world, {"before db-1 accepts": errors.DatabaseUnreachableError(database="db-1")})
    with pytest.raises(errors.DatabaseUnreachableError):
        flight.apply()
    _has("db-2", "changed-by-hand")(flight)
    assert w.asked_to_apply(flight.world, flight.staged) == messages.BaseRefused(refused=("db-2",))


def test_after_a_change_a_refusal_wins_over_an_error_that_is_tried_again() -> None:
    flight = Flight()
    ended = partial(_has("db-2", "changed-by-hand"), flight)
    w.strike(flight.world, {"before db-1 stage": errors.DatabaseUnreachableError, "after db-2 stage": ended})
    with pytest.raises(errors.PendingCredentialRejectedError):
        flight.apply()


def test_a_policys_refusal_ends_the_step_and_the_other_databases_go_on() -> None:
    flight = Flight()
    flight.database.refuses = lambda _password: True
    with pytest.raises(errors.PasswordRefusedByPolicyError):
        flight.apply()
    assert flight.lets_in(3, 2) == [False, True]
    assert w.shown(w.login_of(flight.world, 3)) in w.known_logins(flight.world)["db-2"]


# The proofs


@pytest.mark.parametrize(
    ("accepted", "error"),
    [
        ((2,), errors.PendingCredentialRejectedError),
        ((3,), errors.CurrentCredentialRejectedError),
        ((3, 2, 1), errors.PreviousCredentialAcceptedError),
    ],
)
def test_what_is_accepted_after_staging_is_proven(accepted: tuple[int, ...], error: type[Exception]) -> None:
    flight = Flight()
    passwords = [w.login_of(flight.world, g).password.reveal() for g in accepted]
    w.strike(flight.world, {"after db-1 stage": lambda: _has("db-1", *passwords)(flight)})
    with pytest.raises(error):
        flight.apply()


def test_a_value_that_no_store_holds_is_unreadable_and_one_that_is_not_valid_is_not_shown() -> None:
    """The record under the advisory lock decides (protocol D4)."""
    for trouble, revoked in (
        (
            _forgotten,
            (messages.RevocationCheck(generation=1, revocation=messages.RevocationResult.UNREADABLE),),
        ),
        (_ordered(valid=frozenset({2})), ()),
    ):
        flight = Flight()
        trouble(flight)
        assert flight.apply().revoked == revoked
        assert [d.refusals.most for d in flight.world.databases.values()] == [0, 0]


def _forgotten(flight: Flight) -> None:
    for store in flight.world.stores.values():
        del store._secrets["app_user"].versions["generation-1"]


def test_a_value_with_the_login_of_base_is_not_revoked() -> None:
    world = steady()
    w.edit(world.stores["oci"], w.another_login(world))
    assert w.rotate(world, "reconciler").generation == 3
    assert w.rotate_again(world, "new").generation == 4
    assert world.lock.record.valid == {2, 3, 4}  # 2 and 3 are one login; what was valid before it is revoked.
    w.rotate_again(world, "newer")
    assert world.lock.record.valid == {4, 5}


def test_a_refusal_proves_nothing_on_a_locked_account() -> None:
    """A locked account refuses everything, and may be unlocked later (protocol D9)."""
    flight = Flight(Strategy.ALTERNATING_USERS)
    pending, logins = w.login_of(flight.world, 3), count(1)

    def locks_at_the_refusal() -> None:
        if next(logins) == 4:  # Base, pending, base, 1.
            flight.database.accounts[pending.username].locked = True

    w.strike(flight.world, {"before db-1 accepts": locks_at_the_refusal})
    with pytest.raises(errors.AccountLockedError):
        flight.apply()
