"""What Audit asks of the clouds, how much of it in turn, and that what it does not ask is not missed (E4, E6, E9)."""

from typing import NoReturn

import pytest
from msgspec import structs

from functions.audit import step as audit
from lockstep.protocol.errors import FenceLostError
from lockstep.protocol.messages import FailedRun
from tests.support.memory_store import MemorySecret
from tests.support.trips import Trips
from tests.support.world import assert_on_record, rotate_again, undisturbed
from tests.unit.audit_case import at, begun
from tests.unit.test_audit import Flight
from tests.unit.test_chain_end import extend

READS = ["lock require", "aws log look"]
WRITES = ["aws signer sign", "aws log put"]


def steady() -> Flight:
    """A run in the steady state: the process has rotated before."""
    return Flight(begun(2))


def recorded(flight: Flight) -> Trips:
    trips = Trips(flight.world)
    audit.run(flight.request, trips.ports())
    undisturbed(flight.world)
    return trips


# What a step costs


def test_a_success_takes_four_calls_and_three_trips() -> None:
    trips = recorded(steady())
    assert (trips.calls, trips.length) == ([*READS, *WRITES], 3)


def test_a_failure_takes_four_calls_and_three_trips() -> None:
    flight = steady()
    trips = Trips(flight.world)
    audit.run(FailedRun(rotation=flight.rotation, claim=flight.claim, error="X"), trips.ports())
    assert (trips.calls, trips.length) == (["lock read", "aws log look", *WRITES], 3)


def test_no_entry_needs_the_value_of_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """A success and a failure: generations are known by the names of versions (ADR 80)."""
    success, failure = steady(), steady()

    def unreadable(_secret: MemorySecret, _version: str) -> NoReturn:
        raise AssertionError

    monkeypatch.setattr(MemorySecret, "_read", unreadable)
    success.record()
    failure.fail()


# What was left out is not missed


def test_an_order_since_the_head_was_moved_is_continued() -> None:
    """It moves no head: its number is found taken, and what is above the head is taken in (protocol E6)."""
    flight = steady()
    extend(flight.world, 1)
    trips = recorded(flight)
    again = ["lock read", "aws log look", "aws log numbers", "aws log look", "aws signer verify"]
    assert trips.calls == [*READS, *WRITES, *again, *WRITES]
    seal = at(flight.world, 4).seal
    assert seal
    assert (seal.differs, seal.stepped_over) == (None, None)
    assert_on_record(flight.world)


def test_a_run_that_is_overtaken_before_it_writes_records_no_success() -> None:
    """A number that was taken is a reason to read the record again (protocol E4)."""
    flight = Flight()

    def overtaken(operation: str) -> None:
        if operation == "put":
            undisturbed(flight.world)
            rotate_again(flight.world, "taker")

    flight.world.audit_logs["aws"].faults.before = overtaken
    with pytest.raises(FenceLostError):
        flight.record()
    assert [run for run, _ in flight.runs()] == ["first", "taker"]


def test_a_retry_finds_its_entry_below_the_one_that_took_it_in() -> None:
    """The reply of the write was lost, and a run that was overtaken before has recorded that since (protocol E9)."""
    flight = Flight()
    flight.dies("after aws log put")
    overtaken = structs.replace(flight.rotation, rotation_id="overtaken")
    audit.run(FailedRun(rotation=overtaken, error="X"), flight.world.ports())
    assert flight.record().seq == 2
    assert [run for run, _ in flight.runs()] == ["first", "second", "overtaken"]


def test_a_head_that_named_no_entry_when_the_run_began_hides_none() -> None:
    """Who writes the lock record can name any number: only where the chain ends there still, nothing can be below."""
    flight = Flight()
    far = structs.replace(flight.rotation, head=10**9)
    flight.request = structs.replace(flight.request, rotation=far)
    flight.dies("after aws log put")
    overtaken = structs.replace(far, rotation_id="overtaken")
    audit.run(FailedRun(rotation=overtaken, error="X"), flight.world.ports())
    assert flight.record().seq == 2
    assert [run for run, _ in flight.runs()] == ["first", "second", "overtaken"]


def test_a_record_from_a_backup_leaves_a_run_with_one_entry() -> None:
    flight = Flight()
    backup = flight.world.lock.record
    recorded = flight.record()
    extend(flight.world, 3)
    flight.world.lock.record = backup
    assert flight.record() == recorded
    assert_on_record(flight.world)
