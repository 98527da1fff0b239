"""Audit: exactly one entry for each run, in a gapless signed chain, also after crashes (protocol E1, E6, E9)."""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from msgspec import structs

from functions.audit import step as audit
from lockstep.audit.append import MAX_TRIES, Chain
from lockstep.audit.entry import NO_PREVIOUS, ORDER, stored
from lockstep.protocol.errors import AuditLogUnreachableError, LostCompareAndSetError
from lockstep.protocol.messages import (
    FailedRun,
    Recorded,
    RecordedRotation,
    RevocationCheck,
    RevocationResult,
    RotatedRun,
    Rotation,
    Run,
)
from lockstep.protocol.strict_json import MessageError, read, write
from tests.support.memory import MemoryWorld
from tests.support.seals import sealed
from tests.support.world import (
    INTERVAL_SECONDS,
    Killed,
    applied,
    assert_in_sync,
    assert_on_record,
    at_every_boundary,
    entries,
    generated,
    held,
    interrupted,
    login_of,
    make_world,
    rotate,
    rotate_again,
    rotation_of,
    status_of,
    undisturbed,
    updated,
)


class Flight:
    """A world whose newest generation, by default the second one, is promoted everywhere and not yet recorded.

    Args:
        world: One that has rotated before.
    """

    def __init__(self, world: MemoryWorld | None = None) -> None:
        self.world = world or make_world()
        if world is None:
            rotate(self.world, "first")
        self.world.clock.sleep(INTERVAL_SECONDS)
        self.rotation: Rotation = held(self.world, "second")
        staged = generated(self.world, self.rotation)
        self.rotation, self.claim = staged.rotation, staged.claim
        databases = applied(self.world, staged).databases
        done = updated(self.world, staged)
        self.request = RotatedRun(
            rotation=self.rotation,
            claim=self.claim,
            databases=databases,
            stores=done.stores,
            promoted_at=done.promoted_at,
            revoked=(),
        )

    def record(self, **changes: object) -> RecordedRotation:
        return audit.run(structs.replace(self.request, **changes), self.world.ports())

    def fail(self) -> Recorded:
        request = FailedRun(
            rotation=self.rotation,
            claim=self.claim,
            stores=self.request.stores,
            error="StoreUnreachableError",
        )
        return audit.run(request, self.world.ports())

    def runs(self, stream: str = "aws") -> list[tuple[str, str]]:
        return [(rotation_of(e), status_of(e)) for e in entries(self.world, stream)]

    def dies(self, boundary: str) -> None:
        def hook(at: str) -> None:
            if at == boundary:
                raise Killed

        at_every_boundary(self.world, hook)
        with pytest.raises(Killed):
            self.record()
        undisturbed(self.world)


def _details(world: MemoryWorld, stream: str = "aws") -> Mapping[str, Any]:
    details: Mapping[str, Any] = entries(world, stream)[-1].event["unmapped"]["lockstep"]
    return details


# A success


def test_an_entry_continues_the_chain_and_moves_no_head() -> None:
    flight = Flight()
    result = flight.record()
    assert (result.stream, result.seq) == ("aws", 2)
    assert flight.world.lock.record.heads["aws"].seq == 1
    assert flight.runs() == [("first", "Success"), ("second", "Success")]


def test_the_result_holds_the_values_for_the_release() -> None:
    flight = Flight()
    release = flight.record().release
    assert (release.current_generation, release.valid, release.proven) == (
        2,
        frozenset({1, 2}),
        ("db-1", "db-2"),
    )
    started, schedule = flight.rotation.started_at, flight.world.credential.schedule
    assert release.next_due_at == started + schedule.interval - schedule.tolerance
    assert release.not_before == started + schedule.overlap


def test_rounding_does_not_shorten_the_overlap() -> None:
    flight = Flight()
    promoted = flight.request.promoted_at
    release = flight.record(promoted_at=promoted + timedelta(milliseconds=1)).release
    exact = promoted + timedelta(milliseconds=1) + flight.world.credential.schedule.overlap
    assert exact <= release.not_before < exact + timedelta(seconds=1)
    assert release.not_before.microsecond == 0


def test_an_entry_says_what_was_done_and_holds_no_secret() -> None:
    flight = Flight()
    flight.record()
    event = entries(flight.world, "aws")[-1].event
    assert (event["class_uid"], event["activity_id"], event["type_uid"]) == (3001, 3, 300103)
    assert (event["category_uid"], event["category_name"]) == (3, "Identity & Access Management")
    assert (event["status"], event["status_id"], event["severity_id"]) == ("Success", 1, 1)
    assert (event["user"]["type"], event["user"]["type_id"]) == ("System", 3)
    assert (event["start_time"], event["end_time"]) == (
        round(flight.rotation.started_at.timestamp() * 1000),
        round(flight.world.clock.now().timestamp() * 1000),
    )
    assert event["time"] == event["end_time"]
    assert event["user"]["uid"] == "multi-cloud/app_user"
    assert event["metadata"]["uid"] == "second"
    details = _details(flight.world)
    assert (details["generation"], details["base_generation"], details["kind"]) == (2, 1, "new")
    assert details["plan"] == flight.world.credential.plan_digest
    assert details["adopted_from"] is None
    assert details["stores"] == {"aws": "generation-2", "oci": "generation-2"}
    body = flight.world.audit_logs["aws"].entries[2][0].decode()
    for generation in (1, 2):
        assert login_of(flight.world, generation).password.reveal() not in body
    assert "before-lockstep" not in body


def test_an_entry_holds_the_result_of_each_database() -> None:
    world = make_world()
    world.databases["db-2"].plaintext = True
    for run in ("first", "second", "third"):
        rotate_again(world, run)
    told = {"outcome": "applied", "revoked": {"1": "refused"}, "taken_over": False}
    assert _details(world)["databases"] == {
        "db-1": {**told, "plaintext": False},
        "db-2": {**told, "plaintext": True},
    }


def test_a_generation_is_revoked_once_it_is_revoked_on_every_database() -> None:
    """What one database may still let in stays on record, so that an emergency ends it (protocol C11)."""
    flight = Flight()
    revoked = RevocationCheck(generation=1, revocation=RevocationResult.REFUSED)
    one, other = flight.request.databases
    both = structs.replace(one, revoked=(revoked,)), structs.replace(other, revoked=(revoked,))
    assert flight.record(databases=(both[0], other)).release.valid == frozenset({1, 2})
    assert flight.record(databases=both).release.valid == frozenset({2})


def test_an_adopted_generation_names_the_run_that_began_it() -> None:
    world = make_world()
    rotate(world, "first")
    world.clock.sleep(INTERVAL_SECONDS)
    generated(world, held(world, "second"))
    world.clock.sleep(INTERVAL_SECONDS)
    assert rotate(world, "taker", runner="oci").adopted
    assert _details(world, "oci")["adopted_from"] == "second"


@pytest.mark.parametrize("missing", ["claim", "promoted_at"])
def test_a_success_needs_its_claim_and_the_time_of_its_promotion(missing: str) -> None:
    request = write(Flight().request)
    del request[missing]
    with pytest.raises(MessageError, match=missing):
        read(Run, request)


# A failure


def test_a_failure_is_recorded_by_name_and_has_no_release_values() -> None:
    flight = Flight()
    assert "release" not in write(flight.fail())
    event = entries(flight.world, "aws")[-1].event
    assert (event["status"], event["status_id"], event["severity_id"]) == ("Failure", 2, 4)
    assert event["status_code"] == "StoreUnreachableError"


@pytest.mark.parametrize("error", ["", "a b", "hunter2: no", "x" * 101, "a\n"])
def test_an_error_is_recorded_only_if_it_is_a_name(error: str) -> None:
    rotation = held(make_world())
    with pytest.raises(MessageError, match="regex"):
        read(FailedRun, {"rotation": rotation, "error": error})


# Repetition


def test_a_success_is_not_followed_by_a_failure_of_the_same_run() -> None:
    flight = Flight()
    success = flight.record()
    failure = flight.fail()
    assert (failure.seq, failure.hash) == (success.seq, success.hash)
    assert flight.runs() == [("first", "Success"), ("second", "Success")]


def test_a_twin_at_any_boundary_writes_no_second_entry() -> None:
    at = 0
    while True:
        flight = Flight()
        twin = interrupted(flight.world, at, flight.record)
        result = flight.record()
        undisturbed(flight.world)
        if not twin.boundary:
            break
        assert result.seq == 2
        assert flight.runs() == [("first", "Success"), ("second", "Success")], twin.boundary
        assert_on_record(flight.world)
        at += 1
    assert at >= 8


def test_a_failure_is_recorded_once_even_if_another_run_records_in_between() -> None:
    at = 0
    while True:
        flight = Flight()
        between = interrupted(flight.world, at, partial(rotate_again, flight.world, "taker"))
        try:
            flight.fail()
        except LostCompareAndSetError:
            undisturbed(flight.world)
            flight.fail()
        undisturbed(flight.world)
        if not between.boundary:
            break
        assert sorted(run for run, _ in flight.runs()) == ["first", "second", "taker"], between.boundary
        assert_on_record(flight.world)
        assert_in_sync(flight.world)
        at += 1
    assert at >= 8


# Entries and losses of others


def _genuine(world: MemoryWorld, rotation_id: str) -> None:
    """Put the entry of another run after the log's last one, whose writer dies before it gives the lock back."""
    log = world.audit_logs["aws"]
    last = max(log.entries)
    other = sealed(
        {"time": 0, "metadata": {"uid": rotation_id}},
        stored(last, log.entries[last][1]),
        signer=world.signers["aws"],
        rotation_id=rotation_id,
    )
    log.entries[last + 1] = (other.body, other.metadata)


@pytest.mark.parametrize("orders", [1, 7])
def test_a_retry_finds_its_entry_below_the_orders_that_came_since(orders: int) -> None:
    """However many orders an operator gives, a run has one entry (protocol E9)."""
    flight = Flight()
    recorded = flight.record()
    ports = flight.world.ports()
    chain = Chain(
        credential_id=ports.credential.id,
        lock=ports.lock,
        log=ports.audit_log,
        signer=ports.signer,
    )
    for number in range(orders):
        chain.append({"time": 0, "order": number}, entry_id=f"{ORDER}{number}", look_back=1)
    assert flight.record() == recorded
    assert max(flight.world.audit_logs["aws"].entries) == recorded.seq + orders


def test_constant_appends_by_others_are_a_retryable_error() -> None:
    flight = Flight()
    log, lock = flight.world.audit_logs["aws"], flight.world.lock

    def taken(operation: str) -> None:
        if operation == "put":
            _genuine(flight.world, f"other-{len(log.entries)}")

    log.faults.before = taken
    with pytest.raises(LostCompareAndSetError):
        flight.record()
    undisturbed(flight.world)
    assert lock.record.heads["aws"].seq == 1
    assert flight.record().seq == 2 + MAX_TRIES
    assert_on_record(flight.world)


def test_the_first_entry_of_the_log_is_taken_in_if_its_run_died() -> None:
    world = make_world()
    request = FailedRun(rotation=held(world, "dead"), error="X")

    def lost(operation: str) -> None:
        if operation == "put":
            raise AuditLogUnreachableError(stream="aws")

    world.audit_logs["aws"].faults.after = lost
    with pytest.raises(AuditLogUnreachableError):
        audit.run(request, world.ports())
    undisturbed(world)
    assert entries(world, "aws")[0].previous_hash == NO_PREVIOUS
    rotate_again(world, "next")
    assert [rotation_of(e) for e in entries(world, "aws")] == ["dead", "next"]
    assert_on_record(world)
