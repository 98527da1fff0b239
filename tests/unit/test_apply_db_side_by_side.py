"""ApplyDb in two round trips to the clouds: what it reads ahead, what comes after the fence, and what fails at once."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from lockstep.protocol.deadlines import LEASE
from lockstep.protocol.errors import (
    DatabaseUnreachableError,
    FenceLostError,
    LockstepError,
    LockTableUnreachableError,
    PendingCredentialRejectedError,
)
from lockstep.protocol.messages import BaseRefused
from lockstep.protocol.model import Strategy
from tests.support.memory import MemoryDatabase
from tests.support.world import asked_to_apply, at_every_boundary, known_logins, orders, undisturbed
from tests.unit.flights import Flight, both_strategies


def _boundaries(flight: Flight) -> list[str]:
    """What a run does, up to the first change."""
    seen: list[str] = []
    at_every_boundary(flight.world, seen.append)
    asked_to_apply(flight.world, flight.staged)
    undisturbed(flight.world)
    return [b for b in seen if b.startswith("before")]


def _fails(database: MemoryDatabase, error: LockstepError, *, at: str = "accepts") -> None:
    def hook(operation: str) -> None:
        if operation == at:
            raise error

    database.faults.before = hook


def _refuses_base(flight: Flight, *names: str) -> None:
    for name in names:
        flight.world.databases[name].accounts["app"].passwords = ("changed-by-hand",)


# What is read ahead


def test_values_and_the_admins_login_are_read_before_the_locks_and_what_is_doomed_after_the_fence() -> None:
    seen = _boundaries(Flight())
    assert seen[: seen.index("before db-1 stage")] == [
        "before aws read_generation",
        "before aws read_generation",
        "before db-1 admin_login",
        "before db-1 lock",
        "before db-2 lock",
        "before lock require",
        "before db-1 accepts",
        "before db-2 accepts",
        "before aws read_generation",
    ]


def test_what_the_record_does_not_call_valid_is_not_shown_to_a_database() -> None:
    """The record under the advisory lock decides (protocol D4)."""
    flight = Flight()
    orders(flight.world, valid=frozenset({2}))
    assert flight.apply().revoked == ()
    assert [d.refusals.most for d in flight.world.databases.values()] == [0, 0]


# What fails at the same time


@pytest.mark.parametrize("refusing", [("db-1",), ("db-2",), ("db-1", "db-2")])
def test_the_databases_that_refuse_base_are_named_and_none_is_changed_or_blocked(
    refusing: tuple[str, ...],
) -> None:
    flight = Flight()
    _refuses_base(flight, *refusing)
    before = known_logins(flight.world)
    assert asked_to_apply(flight.world, flight.staged) == BaseRefused(refused=refusing)
    assert (flight.world.lock.record.blocked, known_logins(flight.world)) == (frozenset(), before)


@pytest.mark.parametrize("trouble", ["locked", "expired"])
def test_a_base_whose_account_cannot_be_used_is_one_that_is_refused(trouble: str) -> None:
    flight = Flight()
    setattr(flight.database.accounts["app"], trouble, True)
    assert asked_to_apply(flight.world, flight.staged) == BaseRefused(refused=("db-1",))


def test_a_database_that_does_not_answer_counts_as_refusing_beside_one_that_refuses() -> None:
    """Tried again, the step would show base once more to the one that refuses (protocol D18)."""
    flight = Flight()
    _fails(flight.database, DatabaseUnreachableError(database="db-1"))
    with pytest.raises(DatabaseUnreachableError):
        flight.apply()
    _refuses_base(flight, "db-2")
    assert asked_to_apply(flight.world, flight.staged) == BaseRefused(refused=("db-2",))


def test_after_a_change_a_refusal_wins_over_an_error_that_is_tried_again() -> None:
    flight = Flight()
    _fails(flight.database, DatabaseUnreachableError(database="db-1"), at="stage")
    other = flight.world.databases["db-2"]
    other.faults.after = lambda operation: (
        other.set_passwords("app", "changed-by-hand") if operation == "stage" else None
    )
    with pytest.raises(PendingCredentialRejectedError):
        flight.apply()


# The fence comes first


def _replaced(flight: Flight) -> None:
    record = flight.world.lock.record
    flight.world.lock.record = replace(record, fence=record.fence + 1, holder="taker")


def _lease_ended(flight: Flight) -> None:
    flight.world.clock.sleep(LEASE.total_seconds())


def _unreadable(flight: Flight) -> None:
    def hook(operation: str) -> None:
        if operation == "require":
            raise LockTableUnreachableError

    flight.world.lock.faults.before = hook


@pytest.mark.parametrize(
    ("trouble", "error"),
    [(_replaced, FenceLostError), (_lease_ended, FenceLostError), (_unreadable, LockTableUnreachableError)],
)
@both_strategies
def test_a_run_without_its_fence_shows_no_login_and_blocks_nothing(
    strategy: Strategy, trouble: Callable[[Flight], None], error: type[LockstepError]
) -> None:
    """By now base may be revoked, and its refusal would count (protocol D18)."""
    flight = Flight(strategy)
    trouble(flight)
    before = known_logins(flight.world)
    shown: list[str] = []
    for database in flight.world.databases.values():
        database.faults.before = shown.append
    with pytest.raises(error):
        flight.apply()
    assert "accepts" not in shown
    assert (flight.world.lock.record.blocked, known_logins(flight.world)) == (frozenset(), before)
