"""ApplyDb and RevokeDb: what they do to the databases.

Every database accepts pending beside base, proven by logins, or none is changed (protocol D3, D7). After an emergency
order nothing logs in that may have leaked, whatever the run meets (protocol O5, M2).
"""

from collections.abc import Callable
from contextlib import suppress
from itertools import count

import pytest
from msgspec import structs

from lockstep.protocol import errors, messages
from lockstep.protocol.model import ClaimKind, Strategy
from tests.support import world as w
from tests.support.memory import Account
from tests.unit.flights import Flight, asked_to_probe, both_strategies, run_generate, searched, steady

REFUSED, UNREADABLE = messages.RevocationResult.REFUSED, messages.RevocationResult.UNREADABLE


def _checked(
    *generations: int, revocation: messages.RevocationResult = REFUSED
) -> tuple[messages.RevocationCheck, ...]:
    return tuple(messages.RevocationCheck(generation=g, revocation=revocation) for g in generations)


# Applying


@both_strategies
def test_pending_and_base_log_in_afterwards_and_what_was_valid_before_does_not(strategy: Strategy) -> None:
    flight = Flight(strategy)
    assert flight.lets_in(1) == [True]
    applied = messages.DatabaseOutcome.APPLIED
    assert w.applied(flight.world, flight.staged).databases == tuple(
        messages.DatabaseResult(database=name, outcome=applied, revoked=_checked(1))
        for name in ("db-1", "db-2")
    )
    live = {w.shown(w.login_of(flight.world, g)) for g in (2, 3)}
    assert w.known_logins(flight.world) == {"db-1": live, "db-2": live}


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


def _forgets(generation: int) -> Trouble:
    """No store holds it."""

    def forget(flight: Flight) -> None:
        for store in flight.world.stores.values():
            for secret in store._secrets.values():
                secret.versions.pop(f"generation-{generation}", None)

    return forget


def _base_is_gone(flight: Flight) -> None:
    for store in flight.world.stores.values():
        w.edit(store, w.another_login(flight.world))
    _forgets(2)(flight)


def _deployed(flight: Flight) -> None:
    flight.world.credential = structs.replace(flight.world.credential, plan_digest="of-another-plan")


def _take_over_is_withdrawn(flight: Flight) -> None:
    flight.world = w.make_world(placeholder=True)
    flight.staged = w.generated(flight.world, w.held(flight.world))
    w.orders(flight.world, take_over=frozenset({"db-2"}))


TROUBLES: dict[str, tuple[Trouble, type[Exception]]] = {
    "overtaken": (Flight.overtaken, errors.FenceLostError),
    "the lock table is out": (
        lambda f: w.strike(f.world, {"before lock require": errors.LockTableUnreachableError}),
        errors.LockTableUnreachableError,
    ),
    "another plan": (_deployed, errors.PlanNotActiveError),
    "take-over was withdrawn": (_take_over_is_withdrawn, errors.TakeOverNeededError),
    "never staged": (_forgets(3), errors.StagedValueConflictError),
    "base is gone": (_base_is_gone, errors.CurrentCredentialRejectedError),
    "unreachable": (_in_database(unreachable=True), errors.DatabaseUnreachableError),
    "the admin is refused": (_in_database(admin_refused=True), errors.AdminCredentialRejectedError),
}


@pytest.mark.parametrize(("trouble", "error"), TROUBLES.values(), ids=TROUBLES)
@both_strategies
def test_an_error_before_the_change_changes_no_database_and_shows_no_login(
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
    assert w.known_logins(flight.world) == before


# Base is refused


@pytest.mark.parametrize("refusing", [("db-1",), ("db-2",), ("db-1", "db-2")])
@pytest.mark.parametrize("trouble", ["passwords", "locked", "expired"])
def test_the_databases_that_refuse_base_are_named_and_none_is_changed(
    refusing: tuple[str, ...], trouble: str
) -> None:
    flight = Flight()
    for name in refusing:
        account = flight.world.databases[name].accounts["app"]
        setattr(account, trouble, ("changed-by-hand",) if trouble == "passwords" else True)
    before = w.known_logins(flight.world)
    assert w.asked_to_apply(flight.world, flight.staged) == messages.BaseRefused(refused=refusing)
    assert w.known_logins(flight.world) == before


def test_a_database_that_does_not_answer_counts_as_refusing_beside_one_that_refuses() -> None:
    """Tried again, the step would show base once more to the one that refuses (protocol D18)."""
    flight = Flight()
    w.strike(flight.world, {"before db-1 accepts": errors.DatabaseUnreachableError(database="db-1")})
    with pytest.raises(errors.DatabaseUnreachableError):
        flight.apply()
    _has("db-2", "changed-by-hand")(flight)
    assert w.asked_to_apply(flight.world, flight.staged) == messages.BaseRefused(refused=("db-2",))


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
        (_forgets(1), _checked(1, revocation=UNREADABLE)),
        (_ordered(valid=frozenset({2})), ()),
    ):
        flight = Flight()
        trouble(flight)
        assert flight.apply().revoked == revoked
        assert [d.refusals.most for d in flight.world.databases.values()] == [0, 0]


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


# RevokeDb


def _promoted(strategy: Strategy) -> Flight:
    flight = Flight(strategy)
    flight.apply()
    flight.promote()
    return flight


@both_strategies
def test_a_revocation_that_fails_and_is_tried_again_is_refused_once_in_a_row(strategy: Strategy) -> None:
    """A retired account accepts a random password, so the login that takes a refusal back is this attempt's own."""

    def fails() -> None:
        raise errors.DatabaseUnreachableError(database="db-1")

    for at in range(100):
        flight = _promoted(strategy)
        failure = w.interrupted(flight.world, at, fails)
        with suppress(errors.DatabaseUnreachableError):
            flight.revoke()
        w.undisturbed(flight.world)
        flight.revoke()
        assert flight.database.refusals.most == 1, at
        if not failure.boundary:
            return
    pytest.fail("a revocation has more calls than that")


@both_strategies
def test_what_may_be_valid_beside_the_promoted_generation_is_revoked(strategy: Strategy) -> None:
    flight = _promoted(strategy)
    revoked = flight.revoke()
    assert revoked.revoked == _checked(1, 2)
    assert flight.lets_in(3, 1, 2) == [True, False, False]
    assert flight.revoke() == revoked
    assert flight.database.refusals.most == 1


def test_the_other_account_is_ended_even_if_no_store_has_its_value() -> None:
    flight = _promoted(Strategy.ALTERNATING_USERS)
    base = w.login_of(flight.world, 2)
    _forgets(2)(flight)
    assert set(_checked(2, revocation=UNREADABLE)) <= set(flight.revoke().revoked)
    assert w.shown(base) not in w.known_logins(flight.world)["db-1"]


def _winner_was_ended(flight: Flight) -> None:
    flight.database.set_passwords("app", w.login_of(flight.world, 2).password.reveal())


def _never_ends(flight: Flight) -> None:
    kept = flight.database.accounts["app"].passwords
    w.strike(flight.world, {"after db-1 stage": lambda: flight.database.set_passwords("app", *kept)})


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (lambda flight: w.orders(flight.world, promoting=False), errors.FenceLostError),
        (Flight.overtaken, errors.FenceLostError),
        (_winner_was_ended, errors.PendingCredentialRejectedError),
        (_never_ends, errors.PreviousCredentialAcceptedError),
    ],
)
def test_an_unproven_revocation_is_an_error(
    trouble: Callable[[Flight], None], error: type[Exception]
) -> None:
    flight = _promoted(Strategy.DUAL_PASSWORD)
    trouble(flight)
    with pytest.raises(error):
        flight.revoke()
    assert flight.lets_in(2) == [True]
