"""Checkpoints: a year is not read again, and what was changed before one is still found (protocol E11)."""

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from lockstep.audit.checkpoint import Base, bases, opened, sealed
from lockstep.audit.verify import Verdict, Verification, verify
from lockstep.protocol.errors import AuditVerificationError
from lockstep.protocol.workers import one_after_the_other
from tests.support.memory import MemorySigner, MemoryWorld
from tests.unit.audit_case import acknowledge, begun, head, heads, verified
from tests.unit.harness import orders, quiet, rotate_again
from tests.unit.test_audit_attacks import archive


def since(world: MemoryWorld, before: Mapping[str, Base] | None = None) -> dict[str, Verification]:
    logs = [(world.audit_logs[s], world.signers[s]) for s in ("aws", "oci")]
    found = verify(
        world.credential.id, logs, world.lock.record, since=before or {}, side_by_side=one_after_the_other
    )
    return {v.stream: v for v in found}


def reached(world: MemoryWorld) -> dict[str, Base]:
    """What a checkpoint of the world says, after it was written and read."""
    signer = world.signers["aws"]
    given = {world.credential.id: bases(verified(world).values(), {})}
    return dict(opened(sealed(given, signer, at=1).encode(), signer)[world.credential.id])


def reads(world: MemoryWorld, before: Mapping[str, Base]) -> tuple[list[Verdict], int]:
    """The verdicts, and how many bodies were read."""
    count = 0

    def reading(operation: str) -> None:
        nonlocal count
        count += operation == "read"

    for log in world.audit_logs.values():
        log.faults.before = reading
    return [v.verdict for v in since(world, before).values()], count


def test_only_what_came_after_a_checkpoint_is_read() -> None:
    world = begun(6)
    before = reached(world)
    assert reads(world, before) == ([Verdict.VERIFIED, Verdict.VERIFIED], 2)
    for run in range(3):
        rotate_again(world, f"after-{run}")
    assert reads(world, before) == ([Verdict.VERIFIED, Verdict.VERIFIED], 5)
    assert reads(world, {})[1] > 9


def test_a_checkpoint_goes_on_from_a_checkpoint() -> None:
    world = begun(6)
    before = reached(world)
    rotate_again(world, "after")
    signer = world.signers["aws"]
    given = {world.credential.id: bases(since(world, before).values(), before)}
    after = opened(sealed(given, signer, at=2).encode(), signer)[world.credential.id]
    assert after["aws"].seq == 7
    assert after["aws"].objects == 7
    assert set(after["aws"].generations) == set(range(1, 8))
    rotate_again(world, "later")
    assert since(world, after)["aws"].verdict is Verdict.VERIFIED


@pytest.mark.parametrize("number", [1, 3, 6])
def test_what_is_deleted_or_changed_before_a_checkpoint_is_found(number: int) -> None:
    world = begun(6)
    before = reached(world)
    rotate_again(world, "after")
    log = world.audit_logs["aws"]
    kept = log.entries[number]
    log.delete(number)
    assert since(world, before)["aws"].verdict is Verdict.NOT_VERIFIED
    log.past.clear()  # As in a log that keeps no versions.
    assert since(world, before)["aws"].verdict is Verdict.NOT_VERIFIED
    log.entries[number] = kept
    assert since(world, before)["aws"].verdict is Verdict.VERIFIED
    log.overwrite(number, kept[0].replace(b"Success", b"success"))
    assert since(world, before)["aws"].verdict is Verdict.NOT_VERIFIED


def test_a_chain_that_was_written_anew_is_not_that_of_the_checkpoint() -> None:
    world, other = begun(6), MemoryWorld.create()
    other.clock.sleep(1)
    for run in range(7):
        rotate_again(other, f"run-{run}")
    before = reached(world)
    world.audit_logs["aws"].entries = other.audit_logs["aws"].entries
    heads(world, aws=head(other))
    found = [str(p) for p in since(world, before)["aws"].problems]
    assert "entry 6: is not the entry that the checkpoint names" in found


def test_what_was_acknowledged_before_a_checkpoint_is_not_told_again() -> None:
    world = begun(3)
    world.audit_logs["aws"].entries[4] = b"{}", {}
    rotate_again(world, "after")
    assert verified(world)["aws"].verdict is Verdict.NOT_VERIFIED
    acknowledge(world, "aws", 4, 4)
    before = reached(world)
    rotate_again(world, "later")
    assert since(world, before)["aws"].verdict is Verdict.VERIFIED
    world.audit_logs["aws"].delete(2)
    assert since(world, before)["aws"].verdict is Verdict.NOT_VERIFIED


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b"null", b'{"checkpoint":{},"mac":{}}', b"\xff", b"[" * 9_999]
)
@pytest.mark.usefixtures("deep")
def test_what_is_no_checkpoint_is_refused(text: bytes) -> None:
    with pytest.raises(AuditVerificationError) as caught:
        opened(text, MemorySigner("key"))
    assert caught.value.where["code"] == "no-checkpoint"


def test_a_checkpoint_that_was_changed_or_that_another_key_signed_is_refused() -> None:
    world = begun(3)
    given = {world.credential.id: bases(verified(world).values(), {})}
    document = json.loads(sealed(given, world.signers["aws"], at=1))
    document["checkpoint"]["credentials"][world.credential.id]["aws"]["seq"] = 2
    changed = json.dumps(document).encode()
    another = sealed(given, MemorySigner("another"), at=1).encode()
    for text in (changed, another):
        with pytest.raises(AuditVerificationError) as caught:
            opened(text, world.signers["aws"])
        assert caught.value.where["code"] == "not-signed-by-the-plans-key"


def test_an_archived_rotation_before_a_checkpoint_is_no_false_alarm_after_it() -> None:
    world = begun(2)
    rotate_again(world, "oci-1", runner="oci")
    orders(world, paused=True)
    for number in (1, 2):
        acknowledge(world, "aws", number, number)
    for skip in range(4):
        rotate_again(world, f"skipped-{skip}", runner="oci")
    orders(world, paused=False)
    archive(world)
    before = reached(world)
    assert before["oci"].unread
    with quiet(world):
        rotate_again(world, "aws-9")
    assert [v.problems for v in since(world, before).values()] == [[], []]
    assert bases(since(world, before).values(), before)["oci"].unread == 0
    world.lock.record = replace(world.lock.record, current_generation=9)
    assert since(world, bases(since(world, before).values(), before))["aws"].problems
