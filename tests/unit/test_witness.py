"""Witnesses: each cloud names the newest entry of the other's log, within the hour (protocol E15, E16)."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

from lockstep.audit.append import WITNESS
from lockstep.audit.entry import Stored, Witnessed, stored
from lockstep.audit.verify import Verdict
from lockstep.protocol.errors import AuditLogUnreachableError
from lockstep.protocol.model import ChainHead
from tests.support.memory import MemoryWorld
from tests.unit.audit_case import heads, verified
from tests.unit.harness import entries, orders, rotate, undisturbed

MINUTE = 60.0


def hours(world: MemoryWorld, count: int, *, leader: str = "aws", standby: str | None = "oci") -> None:
    """Let a runner rotate every 20 minutes, and the other one find nothing to do half an interval later."""
    for _ in range(3 * count):
        world.clock.sleep(10 * MINUTE)
        if standby:
            rotate(world, f"{standby}-{world.clock.now():%d-%H%M}", runner=standby)
        world.clock.sleep(10 * MINUTE)
        rotate(world, f"{leader}-{world.clock.now():%d-%H%M}", runner=leader)


def looks(world: MemoryWorld, stream: str) -> list[Witnessed]:
    """What the entries of a stream say of the other one, each look once, in order."""
    other = "oci" if stream == "aws" else "aws"
    return list(dict.fromkeys(w for e in entries(world, stream) if (w := e.witness.get(other))))


def kinds(world: MemoryWorld, stream: str) -> list[bool]:
    return [e.rotation_id.startswith(WITNESS) for e in entries(world, stream)]


def gaps(found: list[Witnessed]) -> list[timedelta]:
    return [timedelta(milliseconds=b.at - a.at) for a, b in pairwise(found)]


def test_in_the_steady_state_each_cloud_looks_at_the_other_every_hour() -> None:
    """AWS leads: it looks when it rotates. OCI finds nothing to do, and writes an entry for its look."""
    world = MemoryWorld.create()
    rotate(world, "first")
    hours(world, 12)
    assert (set(kinds(world, "oci")), set(kinds(world, "aws"))) == ({True}, {False})
    for stream in ("aws", "oci"):
        assert max(gaps(looks(world, stream))) <= timedelta(hours=1)
        assert len(looks(world, stream)) >= 11
    assert len(entries(world, "oci")) <= 13  # A witness entry is written at most once an hour.
    found = verified(world)
    assert {v.verdict for v in found.values()} == {Verdict.VERIFIED}
    assert (found["aws"].unwitnessed or 0) <= 4
    assert (found["oci"].unwitnessed or 0) <= 2


def test_a_skipped_run_of_aws_witnesses_what_oci_has_rotated() -> None:
    world = MemoryWorld.create()
    for number in range(6):
        rotate(world, f"oci-{number}", runner="oci", force=True)
        world.clock.sleep(10 * MINUTE)
        assert rotate(world, f"aws-{number}").outcome == "skipped"
        world.clock.sleep(10 * MINUTE)
    assert set(kinds(world, "aws")) == {True}
    assert [w.seq for w in looks(world, "aws")] == [1, 4]


def test_while_nothing_rotates_no_witness_answers_another() -> None:
    world = MemoryWorld.create()
    hours(world, 2)
    orders(world, paused=True)
    before = {stream: len(entries(world, stream)) for stream in ("aws", "oci")}
    hours(world, 24)
    assert len(entries(world, "aws")) - before["aws"] <= 1
    assert len(entries(world, "oci")) - before["oci"] <= 1


def test_the_log_is_believed_and_not_the_record() -> None:
    """Who writes the lock record cannot make a witness name what is not there, or less than is there."""
    world = MemoryWorld.create()
    hours(world, 1, standby=None)
    log = world.audit_logs["aws"]
    for number, forged in enumerate(
        (
            ChainHead(seq=2, hash="f" * 64, rotation_id="x"),
            ChainHead(seq=10**11, hash="f" * 64, rotation_id="x"),
            stored(1, log.entries[1][1]).head,
            None,
        )
    ):
        heads(world, aws=forged)
        world.clock.sleep(60 * MINUTE)
        orders(world, paused=True)
        rotate(world, f"standby-{number}", runner="oci")
        assert looks(world, "oci")[-1].seq == 3


def _at(world: MemoryWorld, number: int) -> Stored:
    return stored(number, world.audit_logs["aws"].entries[number][1])


def test_a_log_that_does_not_answer_delays_no_rotation_and_no_skip() -> None:
    world = MemoryWorld.create()
    hours(world, 1)

    def down(_operation: str) -> None:
        raise AuditLogUnreachableError(stream="oci")

    world.audit_logs["oci"].faults.before = down
    world.clock.sleep(120 * MINUTE)
    assert rotate(world, "alone").outcome == "rotated"
    known = entries_of(world)[-1].witness
    undisturbed(world)
    world.clock.sleep(20 * MINUTE)
    assert rotate(world, "together").outcome == "rotated"
    assert entries_of(world)[-1].witness["oci"].at > known["oci"].at


def entries_of(world: MemoryWorld) -> list:  # type: ignore[type-arg]  # of Entry
    return entries(world, "aws")


def test_what_a_forged_record_hides_is_found_by_the_next_witness() -> None:
    """A run whose entry is missing in the log of AWS is told by what the store of OCI serves (protocol E17)."""
    world = MemoryWorld.create()
    hours(world, 3)
    log = world.audit_logs["aws"]
    last = max(log.entries)
    del log.entries[last]
    heads(world, aws=_at(world, last - 1).head)
    world.lock.record = replace(world.lock.record, current_generation=world.lock.record.current_generation)
    problems = [str(p) for v in verified(world).values() for p in v.problems]
    assert any("which no entry records" in p for p in problems)
