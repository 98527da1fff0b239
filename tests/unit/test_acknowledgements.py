"""Acknowledgements: what was found when they were given, and nothing else (protocol E11)."""

from dataclasses import replace

import pytest

from lockstep.audit.checkpoint import ACKNOWLEDGE, Problem, details_of
from lockstep.audit.entry import event_of_order
from lockstep.audit.verify import Verdict
from lockstep.protocol.errors import AuditLogUnreachableError
from tests.support.memory import MemorySigner, MemoryWorld
from tests.support.seals import sealed
from tests.unit.audit_case import acknowledge, at, begun, head, heads, problems, verified
from tests.unit.harness import quiet, rotate, rotate_again

FARTHEST = 10**12 - 1


def with_a_foreign_object() -> tuple[MemoryWorld, int]:
    """A world in which a foreign object was stepped over, and its number."""
    world = begun()
    foreign = head(world).seq + 1
    world.audit_logs["aws"].entries[foreign] = b"{}", {}
    rotate_again(world, "run-9")
    return world, foreign


def test_a_wide_range_does_not_cover_what_comes_later() -> None:
    world, _ = with_a_foreign_object()
    acknowledge(world, "aws", 0, FARTHEST)
    assert verified(world)["aws"].verdict is Verdict.VERIFIED
    world.audit_logs["aws"].entries[head(world).seq + 1] = b"{}", {}
    rotate_again(world, "run-10")
    assert verified(world)["aws"].verdict is Verdict.NOT_VERIFIED


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_wide_range_does_not_cover_a_later_deletion_inside_it(number: int) -> None:
    world, _ = with_a_foreign_object()
    acknowledge(world, "aws", 0, FARTHEST)
    world.audit_logs["aws"].delete(number)
    assert verified(world)["aws"].verdict is Verdict.NOT_VERIFIED


def test_an_entry_whose_problem_was_acknowledged_cannot_be_deleted_unseen() -> None:
    world = begun()
    last = head(world)
    heads(world, aws=replace(last, hash="0" * 64))
    rotate_again(world, "run-9")
    acknowledge(world, "aws", last.seq, last.seq)
    assert verified(world)["aws"].verdict is Verdict.VERIFIED
    del world.audit_logs["aws"].entries[last.seq]
    assert verified(world)["aws"].verdict is Verdict.NOT_VERIFIED


def test_objects_that_are_no_entries_are_acknowledged_by_their_names() -> None:
    world = begun()
    log = world.audit_logs["aws"]
    log.plant("first.txt")
    acknowledge(world, "aws", 0, 0)
    assert verified(world)["aws"].verdict is Verdict.VERIFIED
    log.plant("second.txt")
    assert verified(world)["aws"].verdict is Verdict.NOT_VERIFIED


def forge_an_acknowledgement(
    world: MemoryWorld, about: list[Problem], *, signer: MemorySigner, stream: str = "aws"
) -> None:
    """Append an entry that acknowledges problems of the stream of AWS, signed with a key of the attacker's choice."""
    last = at(world, head(world, stream).seq, stream)
    event = event_of_order(
        ACKNOWLEDGE,
        details_of("aws", about, "nothing to see"),
        entry_id="order-forged",
        credential_id=world.credential.id,
        stream=stream,
        who="arn:of/auditor",
        now=world.clock.now(),
    )
    forged = sealed(event, last, signer=signer, stream=stream, rotation_id="order-forged")
    world.audit_logs[stream].entries[last.number + 1] = forged.body, forged.metadata
    heads(world, **{stream: forged.stored.head})


def test_a_retired_key_acknowledges_nothing() -> None:
    """Whoever stole a retired key cannot acknowledge the entry that they sign with it."""
    world = begun(2)
    stolen = world.signers["aws"]
    world.signers = {**world.signers, "aws": MemorySigner("new-key", retired=["aws-key"])}
    rotate_again(world, "with-the-new")
    number = head(world).seq + 1
    own = Problem("is signed with a key that was retired before", number, number)
    forge_an_acknowledgement(world, [own], signer=stolen)
    assert problems(world) == [str(own)]


def test_the_key_of_oci_acknowledges_nothing() -> None:
    """Its entries are archived, and whoever reads the key signs like the runner."""
    world, foreign = with_a_foreign_object()
    found = verified(world)["aws"].problems
    forge_an_acknowledgement(world, found, signer=world.signers["oci"], stream="oci")
    assert [p.first for p in verified(world)["aws"].problems] == [foreign]


# What of the streams was not read


def archive(world: MemoryWorld, stream: str = "oci") -> None:
    def archived(operation: str) -> None:
        if operation == "read":
            raise AuditLogUnreachableError(stream=stream, code="NotRestored")

    world.audit_logs[stream].faults.before = archived


def test_one_stream_alone_has_no_rotations_of_the_other_and_no_false_alarm() -> None:
    world = begun(2)
    rotate_again(world, "oci-1", runner="oci")
    rotate_again(world, "aws-1")
    for stream in ("aws", "oci"):
        found = verified(world, stream)[stream]
        assert (found.verdict, found.problems) == (Verdict.NOT_WITNESSED, [])
    assert "was not checked: the stream oci was not read" in verified(world, "aws")["aws"].notes[-1]


def test_a_stream_that_is_empty_yet_is_no_problem_alone() -> None:
    assert verified(begun(1, standby=False), "oci")["oci"].verdict is Verdict.EMPTY


def test_archived_witness_entries_hide_no_missing_rotation() -> None:
    """In the steady state every entry of OCI is a witness, and its bucket archives them at once."""
    world = begun(3)
    archive(world)
    world.lock.record = replace(world.lock.record, current_generation=9)
    assert problems(world) == ["the lock record's current generation is 9, which no entry records"]


def test_what_archived_rotations_recorded_is_no_false_alarm() -> None:
    world = begun(2)
    rotate_again(world, "oci-1", runner="oci")
    rotate(world, "aws-1", force=True)
    archive(world)
    found = verified(world)
    assert {v.verdict for v in found.values()} == {Verdict.VERIFIED}
    assert "what 1 archived entries of runs record was not read" in found["aws"].notes[-1]


def test_an_archived_rotation_accounts_for_nothing_that_came_later() -> None:
    """The runs of OCI do not switch the check off for good: their seals say when they were."""
    world = begun(2)
    rotate_again(world, "oci-1", runner="oci")
    rotate_again(world, "aws-1")
    rotate_again(world, "aws-2")
    archive(world)
    assert problems(world) == []
    del world.audit_logs["aws"].entries[head(world).seq]
    heads(world, aws=at(world, head(world).seq - 1).head)
    assert problems(world) == ["the lock record's current generation is 5, which no entry records"]
    with quiet(world):
        rotate_again(world, "aws-3")
    assert [p for p in problems(world) if "began from generation 5, which no entry records" in p]
