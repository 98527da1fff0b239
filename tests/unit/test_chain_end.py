"""Where a chain ends, and what a look at another log costs, where logs and records are odd (protocol E6, E7, E15)."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from lockstep.audit import chain as end
from lockstep.audit.append import LOOK_SECONDS, MAX_LOOK_BACK, WITNESS
from lockstep.audit.entry import ORDER, Stored, Witnessed, event_of_order, stored
from lockstep.audit.verify import Verdict
from lockstep.protocol.errors import AuditLogAccessDeniedError, AuditLogUnreachableError
from lockstep.protocol.model import ChainHead
from lockstep.protocol.ports import Mac
from tests.support.memory import MemorySigner, MemoryWorld
from tests.support.seals import sealed
from tests.unit.audit_case import EVENT, at, begun, chain_of, head, heads, verified
from tests.unit.harness import INTERVAL_SECONDS, entries, orders, rotate, rotate_again, undisturbed


def extend(world: MemoryWorld, count: int, *, stream: str = "aws") -> None:
    """Let a log grow by orders, which are cheap."""
    chain = chain_of(world, stream)
    for number in range(count):
        entry_id = f"{ORDER}{number}"
        event = event_of_order(
            "pause",
            {},
            entry_id=entry_id,
            credential_id=world.credential.id,
            stream=stream,
            who="arn:of/operator",
            now=world.clock.now(),
        )
        chain.append(event, entry_id=entry_id, look_back=1)


@pytest.mark.parametrize("behind", [end.MAX_TAKEN_IN - 1, end.MAX_TAKEN_IN + 1, end.MAX_FOREIGN + 1])
def test_a_head_of_long_ago_stops_no_rotation(behind: int) -> None:
    """Of a lock table that was restored from a backup, or written by who may write it."""
    world = begun(2)
    old = head(world)
    extend(world, behind)
    last = head(world).seq
    heads(world, aws=old)
    looked = 0

    def count(operation: str) -> None:
        nonlocal looked
        looked += operation == "look"

    world.audit_logs["aws"].faults.before = count
    assert rotate_again(world, "run-9").outcome == "rotated"
    assert head(world).seq == last + 1
    assert looked < end.MAX_TAKEN_IN + MAX_LOOK_BACK + 20
    assert verified(world)["aws"].verdict is Verdict.VERIFIED


class _RetiredKeyIsDisabled(MemorySigner):
    def verify(self, digest: bytes, mac: Mac) -> bool:
        if mac.key_id == "retired":
            raise AuditLogAccessDeniedError(code="DisabledException")
        return super().verify(digest, mac)


@pytest.mark.parametrize("with_head", [True, False])
def test_a_foreign_object_that_names_a_disabled_key_stops_no_rotation(with_head: bool) -> None:  # noqa: FBT001
    world = begun(2)
    world.signers = {**world.signers, "aws": _RetiredKeyIsDisabled("aws-key", retired=["retired"])}
    last = head(world)
    made = sealed(EVENT, at(world, last.seq), signer=MemorySigner("retired"))
    world.audit_logs["aws"].entries[last.seq + 1] = made.body, made.metadata
    heads(world, aws=last if with_head else None)
    assert rotate_again(world, "run-9").outcome == "rotated"
    assert head(world).seq == last.seq + 2


def test_a_log_of_the_other_cloud_that_is_down_stops_no_rotation_whatever_is_wrong_here() -> None:
    """What it witnesses and the log does not hold, verification finds."""
    world = begun(6)
    seen = max(w.seq for e in verified(world)["oci"].entries if (w := e.witness.get("aws")))
    for number in range(seen, 7):
        del world.audit_logs["aws"].entries[number]
    heads(world, aws=ChainHead(seq=5, hash="f" * 64, rotation_id="x"))

    def down(_operation: str) -> None:
        raise AuditLogUnreachableError(stream="oci")

    world.audit_logs["oci"].faults.before = down
    assert rotate_again(world, "run-9").outcome == "rotated"
    world.audit_logs["oci"].faults.before = lambda _operation: None
    assert seen in {p.first for p in verified(world)["aws"].problems if "witnesses it" in p.what}


def test_a_slow_log_of_the_other_cloud_takes_little_of_a_step() -> None:
    world = begun(2)
    old = head(world)
    extend(world, 150)
    heads(world, aws=old)
    world.clock.sleep(2 * INTERVAL_SECONDS)

    def slow(_operation: str) -> None:
        world.clock.sleep(4)

    world.audit_logs["aws"].faults.before = slow
    began = world.clock.monotonic()
    assert rotate(world, "oci-1", runner="oci", force=True).outcome == "rotated"
    assert world.clock.monotonic() - began < LOOK_SECONDS + 20
    seal = at(world, head(world, "oci").seq, "oci").seal
    assert seal
    assert old.seq < seal.witness["aws"].seq < old.seq + 150


def test_a_clock_that_was_wrong_once_ends_no_witness() -> None:
    world = begun(2)
    world.clock.sleep(365 * 24 * 3600)
    rotate(world, "aws-ahead")
    rotate(world, "oci-ahead", runner="oci", force=True)
    rotate(world, "aws-again", force=True)
    world.clock.sleep(-364 * 24 * 3600)
    orders(world, paused=True)
    for look in range(2):
        world.clock.sleep(3 * INTERVAL_SECONDS)
        extend(world, 1) if look else None
        rotate(world, f"standby-{look}", runner="oci")
    seen = entries(world, "oci")[-1].witness["aws"]
    assert seen == replace(seen, seq=head(world).seq)
    assert seen.at <= world.clock.now().timestamp() * 1000


def test_a_skipped_run_does_not_wait_for_a_log_that_is_down() -> None:
    """The standby has other credentials to look after."""
    world = begun(2)
    orders(world, paused=True)
    world.clock.sleep(4 * INTERVAL_SECONDS)

    def down(_operation: str) -> None:
        world.clock.sleep(8)
        raise AuditLogUnreachableError(stream="aws")

    world.audit_logs["aws"].faults.before = down
    began = world.clock.monotonic()
    assert rotate(world, "standby", runner="oci").outcome == "skipped"
    assert world.clock.monotonic() - began <= 16  # Two calls that are made at the same time, here in turn.


@pytest.mark.parametrize("seq", [2, 5, 10**12, 10**20])
@pytest.mark.parametrize("hash_", ["x" * 3_000, "\u00e9", ""])
def test_whatever_the_head_says_the_next_entry_can_be_written(seq: int, hash_: str) -> None:
    """Metadata have 2,048 bytes of ASCII, and a number 12 digits."""
    world = begun(2)
    heads(world, aws=ChainHead(seq=seq, hash=hash_, rotation_id="x"))
    assert rotate_again(world, "run-9").outcome == "rotated"
    assert at(world, head(world).seq).head.rotation_id == "run-9"


def test_whatever_the_other_log_says_the_next_entry_can_be_written() -> None:
    """Who may put an object in one cloud stops no rotation of the other one."""
    world = begun(2)
    last = head(world, "oci")
    world.audit_logs["oci"].entries[last.seq + 1] = b"{}", {"chain": "x" * 1_900, "mac": "x"}
    world.clock.sleep(4 * INTERVAL_SECONDS)
    assert rotate(world, "run-9").outcome == "rotated"
    seal = at(world, head(world).seq).seal
    assert seal
    assert seal.witness["oci"].seq == last.seq


# Witnesses


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
