"""ApplyDb in two round trips to the clouds: what it reads ahead, what runs beside the fence, and what fails at once."""

from dataclasses import replace

import pytest

from functions.apply_db import step as apply_db
from lockstep.protocol.deadlines import LEASE
from lockstep.protocol.errors import (
    CurrentCredentialRejectedError,
    DatabaseUnreachableError,
    FenceLostError,
    LockstepError,
    LockTableUnreachableError,
    PendingCredentialRejectedError,
)
from lockstep.protocol.messages import ApplyRequest, ApplyResult, Hint, RevocationCheck
from lockstep.protocol.model import Strategy
from lockstep.stores.credential import Ports
from tests.support.memory import MemoryDatabase
from tests.unit.flights import Flight, both_strategies
from tests.unit.harness import at_every_boundary, known_logins, orders, undisturbed

READ_AHEAD = [
    "before aws read_generation",
    "before aws read_generation",
    "before aws read_generation",
    "before db-1 admin_login",
]
BEFORE_THE_CHANGE = [
    "before db-1 lock",
    "before db-2 lock",
    "before lock require",
    "before db-1 accepts",
    "before db-2 accepts",
]


def _boundaries(flight: Flight, hint: Hint | None = None) -> list[str]:
    """What a run does before it changes anything."""
    seen: list[str] = []
    at_every_boundary(flight.world, seen.append)
    _apply(flight, hint)
    undisturbed(flight.world)
    return [b for b in seen[: seen.index("before db-1 stage")] if b.startswith("before")]


def _apply(
    flight: Flight, hint: Hint | None = None, ports: Ports | None = None
) -> tuple[RevocationCheck, ...]:
    hint = flight.staged.hint if hint is None else hint
    request = ApplyRequest(rotation=flight.staged.rotation, claim=flight.claim, hint=hint)
    result = apply_db.run(request, ports or flight.world.ports())
    assert isinstance(result, ApplyResult)
    return result.databases[0].revoked


def _fails(database: MemoryDatabase, error: LockstepError, *, at: str = "accepts") -> None:
    def hook(operation: str) -> None:
        if operation == at:
            raise error

    database.faults.before = hook


def _refuses_base(flight: Flight, *names: str) -> None:
    for name in names:
        flight.world.databases[name].accounts["app"].passwords = ("changed-by-hand",)


# What is read ahead


def test_the_values_and_the_admins_login_are_read_before_the_advisory_locks() -> None:
    assert _boundaries(Flight()) == READ_AHEAD + BEFORE_THE_CHANGE


def test_what_the_hint_lacks_is_read_once_the_record_says_that_it_is_alive() -> None:
    flight = Flight()
    seen = _boundaries(flight, Hint())
    assert seen == [*READ_AHEAD[1:], *BEFORE_THE_CHANGE, READ_AHEAD[0]]
    assert not flight.lets_in(1)


def test_what_only_the_hint_calls_valid_is_not_shown_to_a_database() -> None:
    """The record under the advisory lock decides (protocol D4)."""
    flight = Flight()
    orders(flight.world, valid=frozenset({2}))
    assert _apply(flight, Hint(valid=(1, 2))) == ()
    assert [d.refusals.most for d in flight.world.databases.values()] == [0, 0]


# What fails at the same time


def test_two_databases_that_refuse_base_at_once_are_both_blocked() -> None:
    """Each would be shown one more refusal by the next run (protocol D20)."""
    flight = Flight()
    _refuses_base(flight, "db-1", "db-2")
    with pytest.raises(CurrentCredentialRejectedError) as caught:
        flight.apply()
    assert caught.value.where["database"] == "db-1"
    assert flight.world.lock.record.blocked == {"db-1", "db-2"}


def test_a_refusal_is_not_tried_again_because_another_database_did_not_answer() -> None:
    flight = Flight()
    _refuses_base(flight, "db-2")
    _fails(flight.database, DatabaseUnreachableError(database="db-1"))
    with pytest.raises(CurrentCredentialRejectedError) as caught:
        flight.apply()
    assert caught.value.where["database"] == "db-2"
    assert flight.world.lock.record.blocked == {"db-2"}


def test_after_a_change_a_refusal_wins_over_an_error_that_is_tried_again() -> None:
    flight = Flight()
    _fails(flight.database, DatabaseUnreachableError(database="db-1"), at="stage")
    other = flight.world.databases["db-2"]
    other.faults.after = lambda operation: (
        other.set_passwords("app", "changed-by-hand") if operation == "stage" else None
    )
    with pytest.raises(PendingCredentialRejectedError):
        flight.apply()


def test_a_refusal_ends_the_run_also_where_the_database_cannot_be_blocked() -> None:
    flight = Flight()
    _refuses_base(flight, "db-1")

    def hook(operation: str) -> None:
        if operation == "block":
            raise LockTableUnreachableError

    flight.world.lock.faults.before = hook
    with pytest.raises(CurrentCredentialRejectedError):
        flight.apply()


def _shown(flight: Flight) -> list[str]:
    """The logins of a run that fails, and what it asks of a refusal."""
    shown: list[str] = []
    at_every_boundary(flight.world, shown.append)
    with pytest.raises(LockstepError):
        flight.apply()
    undisturbed(flight.world)
    return [b for b in shown if b.startswith("before db") and "lock" not in b and "admin" not in b]


@both_strategies
def test_a_run_that_was_overtaken_shows_base_at_most_once_and_blocks_nothing(strategy: Strategy) -> None:
    """Its clock may say that the lease lasts: then the fence and the first login are under way together."""
    flight = Flight(strategy)
    for database in flight.world.databases.values():
        for account in database.accounts.values():
            account.passwords = ("changed-by-hand",)
    before = known_logins(flight.world)
    record = flight.world.lock.record
    flight.world.lock.record = replace(record, fence=record.fence + 1, holder="taker")
    assert _shown(flight) == ["before db-1 accepts", "before db-2 accepts"]
    with pytest.raises(FenceLostError):
        flight.apply()
    assert flight.world.lock.record.blocked == frozenset()
    assert known_logins(flight.world) == before


def test_a_run_whose_lease_is_over_by_its_own_clock_shows_no_login() -> None:
    """By now base may be revoked, and its refusal would count (protocol D18)."""
    flight = Flight()
    flight.world.clock.sleep(LEASE.total_seconds())
    assert _shown(flight) == []


def test_a_refusal_beside_a_fence_that_cannot_be_read_is_not_tried_again() -> None:
    flight = Flight()
    _refuses_base(flight, "db-2")

    def hook(operation: str) -> None:
        if operation == "require":
            raise LockTableUnreachableError

    flight.world.lock.faults.before = hook
    with pytest.raises(CurrentCredentialRejectedError) as caught:
        flight.apply()
    assert caught.value.where["database"] == "db-2"
    assert flight.world.lock.record.blocked == frozenset()
    account = flight.world.databases["db-2"].accounts["app"]
    account.passwords = flight.database.accounts["app"].passwords
    with pytest.raises(LockTableUnreachableError):
        flight.apply()


# Take-over


def test_base_is_not_shown_where_the_hint_says_take_over() -> None:
    flight = Flight()
    _refuses_base(flight, "db-1")
    orders(flight.world, take_over=frozenset({"db-1"}))
    hint = Hint(valid=(1, 2), take_over=("db-1",))
    assert "before db-1 accepts" not in _boundaries(flight, hint)
    assert (flight.lets_in(3), flight.lets_in(2)) == (True, True)


def test_a_take_over_that_was_withdrawn_meanwhile_is_asked_after_the_fence() -> None:
    flight = Flight()
    hint = Hint(valid=(1, 2), take_over=("db-1",))
    seen = _boundaries(flight, hint)
    assert seen[-3:] == ["before lock require", "before db-2 accepts", "before db-1 accepts"]
    _refuses_base(flight, "db-1")
    with pytest.raises(CurrentCredentialRejectedError):
        _apply(flight, hint)
    assert flight.world.lock.record.blocked == {"db-1"}


def test_a_take_over_that_was_ordered_meanwhile_makes_the_refusal_of_base_no_error() -> None:
    flight = Flight()
    _refuses_base(flight, "db-1")
    orders(flight.world, take_over=frozenset({"db-1"}))
    _apply(flight)
    assert (flight.lets_in(3), flight.lets_in(2)) == (True, True)
    assert flight.world.lock.record.blocked == frozenset()
