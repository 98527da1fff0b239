"""Audit: exactly one entry for each run, in a gapless signed chain, also after crashes (protocol E3, E4, E6, E9).

Also what it asks of the clouds, how much of it in turn, and that what it does not ask is not missed.
"""

from datetime import timedelta
from functools import partial
from typing import NoReturn

import pytest
from msgspec import structs

from functions.audit import step as audit
from lockstep.audit.append import MAX_TRIES
from lockstep.protocol import messages
from lockstep.protocol.errors import FenceLostError, LostCompareAndSetError
from lockstep.protocol.strict_json import MessageError, read
from tests.support import world as w
from tests.support.memory_store import MemorySecret
from tests.unit import flights
from tests.unit.audit_case import extend

ALL = [("first", "Success"), ("second", "Success"), ("third", "Success")]


class Flight(flights.Flight):
    """A flight that is promoted everywhere and not yet recorded."""

    def __init__(self) -> None:
        super().__init__()
        databases, done = w.applied(self.world, self.staged).databases, self.promote()
        self.request = messages.RotatedRun(
            rotation=self.staged.rotation,
            claim=self.claim,
            databases=databases,
            stores=done.stores,
            promoted_at=done.promoted_at,
            revoked=(),
        )

    def record(self, **changes: object) -> messages.RecordedRotation:
        return audit.run(structs.replace(self.request, **changes), self.world.ports())

    def fail(self, **changes: object) -> messages.Recorded:
        of = self.request
        run = messages.FailedRun(
            rotation=of.rotation, claim=of.claim, stores=of.stores, error="StoreUnreachableError"
        )
        return audit.run(structs.replace(run, **changes), self.world.ports())

    def runs(self) -> list[tuple[str, str]]:
        return [(w.rotation_of(e), w.status_of(e)) for e in w.entries(self.world, "aws")]


# A success


def test_an_entry_says_what_was_done_and_gives_the_values_for_the_release() -> None:
    """It moves no head and holds no secret, and rounding does not shorten the overlap."""
    flight = Flight()
    schedule, promoted = flight.world.credential.schedule, flight.request.promoted_at
    result = flight.record(promoted_at=promoted + timedelta(milliseconds=1))
    assert (result.stream, result.seq, flight.runs()) == ("aws", 3, ALL)
    assert flight.world.lock.record.heads["aws"].seq == 2
    release, proven = result.release, ("db-1", "db-2")
    assert (release.current_generation, release.valid, release.proven) == (3, frozenset({2, 3}), proven)
    assert release.next_due_at == flight.request.rotation.started_at + schedule.interval - schedule.tolerance
    assert release.not_before == promoted + schedule.overlap + timedelta(seconds=1)
    event = w.entries(flight.world, "aws")[-1].event
    now, began = (
        round(at.timestamp() * 1000) for at in (flight.world.clock.now(), flight.request.rotation.started_at)
    )
    assert (event["status"], event["status_id"], event["severity_id"]) == ("Success", 1, 1)
    assert (event["start_time"], event["end_time"], event["time"]) == (began, now, now)
    assert (event["user"]["uid"], event["metadata"]["uid"]) == ("multi-cloud/app_user", "third")
    details = event["unmapped"]["lockstep"]
    assert (details["generation"], details["base_generation"], details["kind"]) == (3, 2, "new")
    assert (details["plan"], details["adopted_from"]) == (flight.world.credential.plan_digest, None)
    assert details["stores"] == {"aws": "generation-3", "oci": "generation-3"}
    body = flight.world.audit_logs["aws"].entries[3][0].decode()
    passwords = {w.login_of(flight.world, generation).password.reveal() for generation in (1, 2, 3)}
    assert [p for p in ("before-lockstep", *passwords) if p in body] == []


def test_an_entry_holds_the_result_of_each_database_and_an_adopted_one_the_run_that_began_it() -> None:
    flight = flights.Flight()
    flight.world.databases["db-2"].plaintext = True
    assert w.rotate_again(flight.world, "taker").adopted
    details = w.entries(flight.world, "aws")[-1].event["unmapped"]["lockstep"]
    told = {"outcome": "applied", "revoked": {"1": "refused"}, "taken_over": False, "behind": []}
    assert details["databases"] == {"db-1": {**told, "plaintext": False}, "db-2": {**told, "plaintext": True}}
    assert details["adopted_from"] == "third"


def test_a_generation_is_revoked_once_it_is_revoked_on_every_database() -> None:
    """What one database may still let in stays on record, so that an emergency ends it (protocol C11)."""
    flight = Flight()
    revoked = messages.RevocationCheck(generation=2, revocation=messages.RevocationResult.REFUSED)
    one, other = flight.request.databases
    both = structs.replace(one, revoked=(revoked,)), structs.replace(other, revoked=(revoked,))
    assert flight.record(databases=(both[0], other)).release.valid == frozenset({1, 2, 3})
    assert flight.record(databases=both).release.valid == frozenset({1, 3})


# A failure


def test_a_failure_is_recorded_by_name_and_has_no_release_values() -> None:
    flight = Flight()
    assert type(flight.fail()) is messages.Recorded
    event = w.entries(flight.world, "aws")[-1].event
    assert (event["status"], event["status_id"], event["severity_id"]) == ("Failure", 2, 4)
    assert event["status_code"] == "StoreUnreachableError"


@pytest.mark.parametrize("error", ["", "a b", "hunter2: no", "x" * 101, "a\n"])
def test_an_error_is_recorded_only_if_it_is_a_name(error: str) -> None:
    rotation = w.held(w.make_world())
    with pytest.raises(MessageError, match="regex"):
        read(messages.FailedRun, {"rotation": rotation, "error": error})


# Repetition


def test_a_success_is_not_followed_by_a_failure_of_the_same_run() -> None:
    flight = Flight()
    success = flight.record()
    failure = flight.fail()
    assert (failure.seq, failure.hash) == (success.seq, success.hash)
    assert flight.runs() == ALL


def test_a_twin_at_any_boundary_writes_no_second_entry() -> None:
    at, boundary = 0, "none"
    while boundary:
        flight = Flight()
        twin = w.interrupted(flight.world, at, flight.record)
        assert flight.record().seq == 3
        w.undisturbed(flight.world)
        boundary = twin.boundary
        assert flight.runs() == ALL, boundary
        w.assert_on_record(flight.world)
        at += 1
    assert at > 8


def test_a_failure_is_recorded_once_even_if_another_run_records_in_between() -> None:
    at, boundary = 0, "none"
    while boundary:
        flight = Flight()
        between = w.interrupted(flight.world, at, partial(w.rotate_again, flight.world, "taker"))
        try:
            flight.fail()
        except LostCompareAndSetError:
            w.undisturbed(flight.world)
            flight.fail()
        w.undisturbed(flight.world)
        boundary = between.boundary
        if boundary:
            assert sorted(run for run, _ in flight.runs()) == ["first", "second", "taker", "third"], boundary
            w.assert_in_sync(flight.world)
        w.assert_on_record(flight.world)
        at += 1
    assert at > 8


def test_a_failed_run_finds_its_entry_below_those_of_four_that_have_run_since() -> None:
    """Without the lock, others run (protocol E9)."""
    flight = Flight()
    recorded = flight.fail()
    for taker in range(4):
        w.rotate_again(flight.world, f"taker-{taker}")
    assert flight.fail() == recorded
    w.assert_on_record(flight.world)


# Entries and losses of others


@pytest.mark.parametrize("orders", [1, 7])
def test_a_retry_finds_its_entry_below_the_orders_that_came_since(orders: int) -> None:
    """However many orders an operator gives, a run has one entry (protocol E9); so too where the record is restored."""
    flight = Flight()
    backup = flight.world.lock.record
    recorded = flight.record()
    extend(flight.world, orders)
    assert flight.record() == recorded
    flight.world.lock.record = backup
    assert flight.record() == recorded
    assert max(flight.world.audit_logs["aws"].entries) == recorded.seq + orders
    w.assert_on_record(flight.world)


def test_constant_appends_by_others_are_a_retryable_error() -> None:
    flight = Flight()
    taken = {"before aws log put": partial(extend, flight.world, 1)}
    with w.struck(flight.world, taken), pytest.raises(LostCompareAndSetError):
        flight.record()
    assert flight.world.lock.record.heads["aws"].seq == 2
    assert flight.record().seq == 3 + MAX_TRIES


def test_a_run_that_is_overtaken_before_it_writes_records_no_success() -> None:
    """A number that was taken is a reason to read the record again (protocol E4)."""
    flight = Flight()

    def overtaken(operation: str) -> None:
        if operation == "put":
            w.undisturbed(flight.world)
            w.rotate_again(flight.world, "taker")

    flight.world.audit_logs["aws"].faults.before = overtaken
    with pytest.raises(FenceLostError):
        flight.record()
    assert [run for run, _ in flight.runs()] == ["first", "second", "taker"]


@pytest.mark.parametrize("named", [2, 10**9], ids=["the true head", "a head that named no entry"])
def test_a_retry_finds_its_entry_below_the_one_that_took_it_in(named: int) -> None:
    """The reply of the write was lost, and a run that was overtaken before has recorded that since (protocol E9).

    Who writes the lock record can name any number: only where the chain ends there still, nothing can be below.
    """
    flight = Flight()
    rotation = structs.replace(flight.request.rotation, head=named)
    with w.struck(flight.world, {"after aws log put": w.Killed}), pytest.raises(w.Killed):
        flight.record(rotation=rotation)
    flight.fail(rotation=structs.replace(rotation, rotation_id="overtaken"), claim=None)
    assert flight.record(rotation=rotation).seq == 3
    assert [run for run, _ in flight.runs()] == ["first", "second", "third", "overtaken"]


# What a step costs

WRITES = ["aws signer sign", "aws log put"]


def test_a_success_and_a_failure_take_four_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the steady state, where the process has rotated before; generations are known by names (ADR 80)."""
    success, failure = Flight(), Flight()

    def unreadable(_secret: MemorySecret, _version: str) -> NoReturn:
        raise AssertionError

    monkeypatch.setattr(MemorySecret, "_read", unreadable)
    assert flights.calls(success.world, success.record) == ["lock require", "aws log look", *WRITES]
    assert flights.calls(failure.world, failure.fail) == ["lock read", "aws log look", *WRITES]
