"""What Audit asks of the clouds, how much of it in turn, and that what it does not ask is not missed (E4, E6, E9)."""

from dataclasses import replace
from typing import NoReturn

import pytest
from msgspec import structs

from functions.audit import step as audit
from lockstep.protocol.deadlines import CLOCK_SKEW, LEASE
from lockstep.protocol.errors import FenceLostError
from lockstep.protocol.messages import FailedRun, Rotation, SkippedRun
from tests.support.memory import MemoryWorld
from tests.support.memory_store import MemorySecret
from tests.support.trips import Trips
from tests.unit.audit_case import at, begun, head
from tests.unit.harness import (
    INTERVAL_SECONDS,
    Killed,
    assert_on_record,
    at_every_boundary,
    entries,
    rotate,
    rotate_again,
    undisturbed,
)
from tests.unit.test_audit import Flight
from tests.unit.test_chain_end import extend

READS = ["lock require", "aws log look"]
WRITES = ["aws signer sign", "aws log put", "lock move_head"]
LOOKS = ["oci log look", "oci log numbers"]


def steady() -> Flight:
    """A run in the steady state: the process has rotated before, and the other log was looked at 20 minutes ago."""
    return Flight(begun(2))


def recorded(flight: Flight) -> Trips:
    trips = Trips(flight.world)
    audit.run(flight.request, trips.ports())
    undisturbed(flight.world)
    return trips


# What a step costs


def test_a_success_takes_five_calls_and_four_trips() -> None:
    trips = recorded(steady())
    assert (trips.calls, trips.length) == ([*READS, *WRITES], 4)


def test_a_look_at_the_other_log_takes_one_trip_more() -> None:
    flight = steady()
    flight.world.clock.sleep(INTERVAL_SECONDS)
    flight.world.lock.record = replace(flight.world.lock.record, expires_at=flight.world.clock.now() + LEASE)
    flight.world.clock.sleep(LEASE.total_seconds() - 1)
    trips = recorded(flight)
    assert (trips.calls, trips.length) == ([*READS, *LOOKS, *WRITES], 5)


def test_a_failure_takes_five_calls_and_four_trips() -> None:
    flight = steady()
    trips = Trips(flight.world)
    audit.run(FailedRun(rotation=flight.rotation, claim=flight.claim, error="X"), trips.ports())
    assert (trips.calls, trips.length) == (["lock read", "aws log look", *WRITES], 4)


def test_a_skip_reads_the_record_and_the_end_once() -> None:
    world = begun()
    rotation = structs.replace(Flight(begun(2)).rotation, rotation_id="standby", runner="oci")
    request = SkippedRun(rotation=rotation)
    for number in (2, 3):
        trips = Trips(world)
        assert audit.run(request, trips.ports("oci")).seq is None
        assert (trips.calls, trips.length) == (["lock read", "oci log look"], 2)
        undisturbed(world)
        rotate_again(world, f"more-{number}")
        world.clock.sleep(3 * INTERVAL_SECONDS)
        trips = Trips(world)
        assert (
            audit.run(structs.replace(request, rotation=renamed(rotation, number)), trips.ports("oci")).seq
            == number
        )
        assert trips.calls == [
            "lock read",
            "oci log look",
            "aws log look",
            "aws log numbers",
            "oci signer sign",
            "oci log put",
            "lock move_head",
        ]
        assert trips.length == 6
        undisturbed(world)


def test_no_entry_needs_the_value_of_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """A success, a failure and a witness: generations are known by the names of versions (ADR 80)."""
    success, failure, skip = steady(), steady(), begun()
    rotate_again(skip, "more")
    skip.clock.sleep(3 * INTERVAL_SECONDS)
    witness = SkippedRun(rotation=renamed(success.rotation, 9))

    def unreadable(_secret: MemorySecret, _version: str) -> NoReturn:
        raise AssertionError

    monkeypatch.setattr(MemorySecret, "_read", unreadable)
    success.record()
    failure.fail()
    audit.run(witness, skip.ports("oci"))
    assert entries(skip, "oci")[-1].details["serves"] == skip.lock.record.current_generation


def test_a_repeated_witness_is_one_entry() -> None:
    """Whatever it has died of: what it wrote was a look, so none is due (protocol E9, E15)."""
    for boundary in ("after oci log put", "before lock move_head", "after lock move_head"):
        world = begun()
        rotate_again(world, "more")
        world.clock.sleep(3 * INTERVAL_SECONDS)
        request = SkippedRun(rotation=renamed(Flight(begun(2)).rotation, 9))
        dies_at(world, boundary)
        with pytest.raises(Killed):
            audit.run(request, world.ports("oci"))
        undisturbed(world)
        for _ in range(2):
            audit.run(request, world.ports("oci"))
        assert len(entries(world, "oci")) == 2
        assert_on_record(world)


def test_a_witness_that_is_repeated_by_a_slower_clock_is_one_entry() -> None:
    """Then another look is due, and an order may have come between."""
    world = begun()
    rotate_again(world, "more")
    world.clock.sleep(3 * INTERVAL_SECONDS)
    request = SkippedRun(rotation=renamed(Flight(begun(2)).rotation, 9))
    assert audit.run(request, world.ports("oci")).seq == 2
    extend(world, 1, stream="oci")
    rotate(world, "grows")
    world.clock.sleep(-CLOCK_SKEW.total_seconds())
    assert audit.run(request, world.ports("oci")).seq == 2
    assert len(entries(world, "oci")) == 3


def renamed(rotation: Rotation, number: int) -> Rotation:
    return structs.replace(rotation, rotation_id=f"skipped-{number}", runner="oci")


def dies_at(world: MemoryWorld, boundary: str) -> None:
    def hook(at: str) -> None:
        if at == boundary:
            raise Killed

    at_every_boundary(world, hook)


# What was left out is not missed


def test_an_order_since_the_run_began_is_continued() -> None:
    """The head that the run began with is a hint: where the record names another one, that one is looked at."""
    flight = steady()
    extend(flight.world, 1)
    trips = recorded(flight)
    assert trips.calls == [*READS, "aws log look", *WRITES]
    seal = at(flight.world, 4).seal
    assert seal
    assert (seal.differs, head(flight.world).seq) == ((), 4)
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
    flight.dies("before lock move_head")
    overtaken = structs.replace(flight.rotation, rotation_id="overtaken")
    audit.run(FailedRun(rotation=overtaken, error="X"), flight.world.ports())
    assert flight.record().seq == 2
    assert [run for run, _ in flight.runs()] == ["first", "second", "overtaken"]


def test_a_head_that_named_no_entry_when_the_run_began_hides_none() -> None:
    """Who writes the lock record can name any number: only where the chain ends there still, nothing can be below."""
    flight = Flight()
    far = structs.replace(flight.rotation, head=10**9)
    flight.request = structs.replace(flight.request, rotation=far)
    flight.dies("before lock move_head")
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
