"""Where a chain ends, where logs and records are odd (protocol E6, E7)."""

import pytest

from lockstep.audit import chain as end
from lockstep.audit.append import MAX_LOOK_BACK
from lockstep.audit.confirmed import Verdict
from lockstep.audit.entry import ORDER, event_of_order
from lockstep.protocol.errors import AuditLogAccessDeniedError
from lockstep.protocol.model import ChainHead
from lockstep.protocol.ports import Mac
from tests.support.memory import MemorySigner, MemoryWorld
from tests.support.seals import sealed
from tests.support.world import rotate_again
from tests.unit.audit_case import EVENT, at, begun, chain_of, head, heads, verified


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
    """Orders do not move it, and a lock table can be restored from a backup, or written by who may write it."""
    world = begun(2)
    extend(world, behind)
    last = max(world.audit_logs["aws"].entries)
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


@pytest.mark.parametrize("seq", [2, 5, 10**12, 10**20])
@pytest.mark.parametrize("hash_", ["x" * 3_000, "\u00e9", ""])
def test_whatever_the_head_says_the_next_entry_can_be_written(seq: int, hash_: str) -> None:
    """Metadata have 2,048 bytes of ASCII, and a number 12 digits."""
    world = begun(2)
    heads(world, aws=ChainHead(seq=seq, hash=hash_))
    assert rotate_again(world, "run-9").outcome == "rotated"
    assert verified(world)["aws"].entries[-1].rotation_id == "run-9"
