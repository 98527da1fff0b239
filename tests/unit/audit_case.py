"""Both clouds' audit logs over some rotations, what verification finds in them, and what an attacker writes."""

from dataclasses import replace

from lockstep.audit.entry import ORDER, Stored, event_of_order, stored
from lockstep.audit.verify import Verification, verify
from lockstep.protocol.model import ChainHead
from lockstep.protocol.workers import one_after_the_other
from tests.support.memory import MemoryWorld
from tests.support.seals import sealed
from tests.support.world import make_world, rotate_again

EVENT = {"time": 0, "metadata": {"uid": "foreign"}}


def verified(world: MemoryWorld, *streams: str) -> dict[str, Verification]:
    logs = [(world.audit_logs[s], world.signers[s]) for s in streams or ("aws", "oci")]
    unread = set(world.audit_logs) - {log.stream for log, _ in logs}
    found = verify(world.credential.id, logs, unread=unread, side_by_side=one_after_the_other)
    return {v.stream: v for v in found}


def problems(world: MemoryWorld, stream: str = "aws") -> list[str]:
    return [str(p) for p in verified(world)[stream].problems]


def begun(runs: int = 3) -> MemoryWorld:
    """A world in its steady state: AWS rotates, OCI stands by."""
    world = make_world()
    for run in range(runs):
        rotate_again(world, f"run-{run}")
    return world


def heads(world: MemoryWorld, **changed: ChainHead | None) -> None:
    """Write heads into the lock record, as who may write the table can."""
    now = {**world.lock.record.heads, **changed}
    world.lock.record = replace(world.lock.record, heads={k: h for k, h in now.items() if h})


def head(world: MemoryWorld, stream: str = "aws") -> ChainHead:
    return world.lock.record.heads[stream]


def at(world: MemoryWorld, number: int, stream: str = "aws") -> Stored:
    return stored(number, world.audit_logs[stream].entries[number][1])


def extend(world: MemoryWorld, count: int) -> None:
    """Let AWS's log grow by orders, which move no head."""
    log, signer = world.audit_logs["aws"], world.signers["aws"].orders
    number = max(log.entries)
    last = at(world, number)
    for entry_id in (f"{ORDER}{n}" for n in range(count)):
        event = event_of_order(
            "pause",
            {},
            entry_id=entry_id,
            credential_id=world.credential.id,
            stream="aws",
            who="arn:of/operator",
            now=world.clock.now(),
        )
        made = sealed(event, last, signer=signer, rotation_id=entry_id)
        log.entries[last.number + 1] = made.body, made.metadata
        last = made.stored
