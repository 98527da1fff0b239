"""Attacks on the evidence: no rotation stops, no run goes unrecorded, every trace is found (protocol E6, E8, E11)."""

import json
from dataclasses import replace

import pytest

from lockstep.audit.chain import FARTHEST
from lockstep.audit.verify import Verdict
from lockstep.protocol.errors import AuditLogAccessDeniedError, AuditLogUnreachableError, LockstepError
from lockstep.protocol.model import ChainHead
from tests.support.memory import MemorySigner
from tests.unit.audit_case import acknowledge, at, begun, head, heads, problems, verified
from tests.unit.harness import (
    INTERVAL_SECONDS,
    at_every_boundary,
    loses_the_lock_table,
    quiet,
    rotate,
    rotate_again,
    undisturbed,
)

# The head is a hint


def test_a_forged_run_in_the_head_leaves_no_run_unrecorded() -> None:
    world = begun()
    heads(world, aws=replace(head(world), rotation_id="run-9"))
    assert [p for p in problems(world) if "is not of the run" in p]
    rotate_again(world, "run-9")
    assert at(world, head(world).seq).head.rotation_id == "run-9"
    assert verified(world)["aws"].verdict is Verdict.VERIFIED


def test_a_wrong_hash_in_the_head_costs_one_word_in_the_next_entry() -> None:
    world = begun()
    last = head(world)
    heads(world, aws=replace(last, hash="0" * 64))
    rotate_again(world, "run-9")
    seal = at(world, last.seq + 1).seal
    assert seal
    assert [(d.by, d.seq, d.hash, d.found) for d in seal.differs] == [("head", last.seq, "0" * 64, last.hash)]
    assert seal.previous_hash == last.hash
    found = verified(world)["aws"]
    assert [p.first for p in found.problems] == [last.seq]
    rotate_again(world, "run-10")
    assert verified(world)["aws"].verdict is Verdict.NOT_VERIFIED
    acknowledge(world, "aws", last.seq, last.seq)
    found = verified(world)["aws"]
    assert (found.verdict, len(found.acknowledged)) == (Verdict.VERIFIED, 1)
    assert "INC-1" in str(found.acknowledged[0])


@pytest.mark.parametrize("ahead", [1, 50, FARTHEST + 1, 10**12 - 5])
def test_a_head_beyond_the_log_ends_no_chain(ahead: int) -> None:
    world = begun()
    last = head(world)
    for run in range(3):
        heads(world, aws=ChainHead(seq=last.seq + ahead, hash="f" * 64, rotation_id="x"))
        rotate_again(world, f"again-{run}")
    assert head(world).seq <= last.seq + 3 * (FARTHEST + 1)
    assert [e.rotation_id for e in verified(world)["aws"].entries[-3:]] == ["again-0", "again-1", "again-2"]
    assert verified(world)["aws"].verdict is Verdict.NOT_VERIFIED


def test_a_head_that_was_rolled_back_is_moved_on() -> None:
    world = begun()
    heads(world, aws=at(world, 1).head)
    rotate_again(world, "run-9")
    assert verified(world)["aws"].verdict is Verdict.VERIFIED
    assert head(world).rotation_id == "run-9"


def test_a_head_that_was_removed_is_found_again() -> None:
    world = begun(7)
    heads(world, aws=None)
    rotate_again(world, "run-9")
    assert (verified(world)["aws"].verdict, head(world).rotation_id) == (Verdict.VERIFIED, "run-9")


# Deletion


def test_a_deleted_end_is_not_laundered_by_a_foreign_object() -> None:
    """Below what the other cloud has witnessed nothing is stepped over (protocol E8)."""
    world = begun(6)
    seen = max(
        (w for e in verified(world)["oci"].entries if (w := e.witness.get("aws"))), key=lambda w: w.seq
    )
    for number in range(seen.seq, 7):
        del world.audit_logs["aws"].entries[number]
    heads(world, aws=at(world, seen.seq - 1).head)
    world.audit_logs["aws"].entries[seen.seq] = b"{}", {}
    rotate_again(world, "run-9")
    seal = at(world, head(world).seq).seal
    assert seal
    assert head(world).seq > seen.seq
    assert [(d.by, d.seq, d.hash) for d in seal.differs] == [("oci", seen.seq, seen.hash)]
    assert verified(world)["aws"].verdict is Verdict.NOT_VERIFIED


@pytest.mark.parametrize("gone", [(1,), (2,), (3,), (1, 2, 3)], ids=str)
def test_a_deleted_entry_is_missing(gone: tuple[int, ...]) -> None:
    world = begun(3)
    for number in gone:
        world.audit_logs["aws"].delete(number)
    found = verified(world)["aws"]
    assert found.verdict is Verdict.NOT_VERIFIED
    assert {n for p in found.problems if p.first for n in range(p.first, (p.end or 0) + 1)} >= set(gone)
    rotate_again(world, "run-9")
    assert verified(world)["aws"].verdict is Verdict.NOT_VERIFIED


def test_an_entry_that_was_deleted_and_written_again_is_found_by_its_versions() -> None:
    world = begun(3)
    log = world.audit_logs["aws"]
    kept = log.entries[2]
    log.delete(2)
    log.put(2, *kept)
    assert problems(world) == ["entry 2: deleted and written again"]


def test_a_reader_who_may_not_list_versions_is_told_so() -> None:
    world = begun(3)

    def refused(operation: str) -> None:
        if operation == "history":
            raise AuditLogAccessDeniedError(stream="aws")

    world.audit_logs["aws"].faults.before = refused
    found = verified(world, "aws")["aws"]
    assert found.verdict is Verdict.NOT_WITNESSED
    assert "older versions were not looked for" in found.notes[0]


def test_everything_deleted_is_not_a_verified_log() -> None:
    world = begun(3)
    for log in world.audit_logs.values():
        log.entries.clear()
    heads(world, aws=None, oci=None)
    assert {v.verdict for v in verified(world).values()} == {Verdict.NOT_VERIFIED}


# A verdict for everything


def test_one_bad_stream_leaves_the_other_its_verdict() -> None:
    world = begun(3)
    world.audit_logs["aws"].entries[2] = b"\xff", {}
    found = verified(world)
    assert (found["aws"].verdict, found["oci"].verdict) == (Verdict.NOT_VERIFIED, Verdict.VERIFIED)

    def down(_operation: str) -> None:
        raise AuditLogUnreachableError(stream="aws")

    world.audit_logs["aws"].faults.before = down
    found = verified(world)
    assert (found["aws"].verdict, found["oci"].verdict) == (Verdict.UNREADABLE, Verdict.NOT_WITNESSED)


def test_old_problems_do_not_hide_new_ones() -> None:
    world = begun(3)
    log = world.audit_logs["aws"]
    for number in range(5, 1_205, 2):
        log.entries[number] = b"{}", {}
    log.entries[3] = log.entries[3][0].replace(b"Success", b"success"), log.entries[3][1]
    found = verified(world)["aws"]
    assert len(found.problems) >= 601
    assert 3 in {p.first for p in found.problems}


def test_an_older_key_does_not_sign_after_a_newer_one() -> None:
    world = begun(2)
    world.signers = {**world.signers, "aws": MemorySigner("new-key", retired=["aws-key"])}
    rotate_again(world, "with-the-new")
    assert verified(world)["aws"].verdict is Verdict.VERIFIED
    world.signers = {**world.signers, "aws": MemorySigner("aws-key")}
    rotate_again(world, "with-the-old")
    world.signers = {**world.signers, "aws": MemorySigner("new-key", retired=["aws-key"])}
    assert problems(world) == ["entry 4: is signed with a key that was retired before"]


def test_without_its_retired_key_an_old_entry_does_not_verify_and_its_key_is_named() -> None:
    world = begun(2)
    world.signers = {**world.signers, "aws": MemorySigner("new-key")}
    rotate_again(world, "with-the-new")
    assert "entries 1 to 2: has a MAC that does not match, of key aws-key" in problems(world)


# What was rotated is on record


def test_a_generation_that_no_entry_records_is_a_problem() -> None:
    world = begun(3)
    log, oci = world.audit_logs["aws"], world.audit_logs["oci"]
    world.lock.record = replace(world.lock.record, current_generation=9)
    assert problems(world) == ["the lock record's current generation is 9, which no entry records"]
    world = begun(3)
    body = json.loads(log.entries[3][0])
    assert body["event"]["unmapped"]["lockstep"]["base_generation"] == 2
    assert not [p for p in problems(world, "oci") if oci]


# Honest states


def test_a_healthy_system_verifies_on_its_first_day() -> None:
    world = begun(1, standby=False)
    found = verified(world)
    assert (found["aws"].verdict, found["oci"].verdict) == (Verdict.VERIFIED, Verdict.EMPTY)
    assert (found["aws"].unwitnessed, found["aws"].problems) == (1, [])
    rotate(world, "standby", runner="oci")
    found = verified(world)
    assert (found["oci"].verdict, found["aws"].unwitnessed) == (Verdict.VERIFIED, 0)


def test_a_run_that_appends_or_dies_while_it_is_verified_is_no_problem() -> None:
    """At every boundary of a rotation, and for ever after a run that died there (protocol E11)."""
    seen = 0

    def look(boundary: str) -> None:
        nonlocal seen
        seen += 1
        with quiet(world):
            found = verified(world)
        assert [v.problems for v in found.values()] == [[], []], boundary

    world = begun(4)
    at_every_boundary(world, look)
    rotate_again(world, "aws")
    rotate_again(world, "oci", runner="oci")
    rotate(world, "skipped", runner="oci")
    assert seen > 50


@pytest.mark.parametrize("runner", ["aws", "oci"])
def test_whatever_a_rotation_dies_of_verification_stays_green(runner: str) -> None:
    """Deaths at every boundary, and what reconciles them, leave no false alarm."""
    number = 0
    while True:
        world = begun(2)
        world.clock.sleep(INTERVAL_SECONDS)
        left = number

        def strike(_boundary: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise _DiesError

        at_every_boundary(world, strike)
        died = False
        try:
            rotate(world, "dies", runner=runner)
        except (_DiesError, LockstepError):
            died = True
        undisturbed(world)
        assert [v.problems for v in verified(world).values()] == [[], []], number
        for run in range(3):
            world.clock.sleep(INTERVAL_SECONDS)
            rotate(world, f"after-{run}", runner="aws" if run != 1 else "oci")
        assert [v.problems for v in verified(world).values()] == [[], []], number
        if not died:
            break
        number += 3
    assert number > 30


class _DiesError(BaseException):
    """The process dies."""


def test_a_lost_lock_table_is_no_false_alarm() -> None:
    world = begun(3)
    loses_the_lock_table(world)
    world.lock.record = replace(world.lock.record, activate=world.credential.plan_digest)
    rotate_again(world, "after")
    assert [v.problems for v in verified(world).values()] == [[], []]
