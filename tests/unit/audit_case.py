"""Both clouds' audit logs over some rotations, what verification finds in them, and what an attacker writes."""

from dataclasses import replace
from itertools import count

from lockstep.audit.append import Operator, record_order
from lockstep.audit.entry import Stored, stored
from lockstep.audit.verify import Verification, verify
from lockstep.protocol.model import ChainHead
from lockstep.protocol.workers import one_after_the_other
from tests.support.audit_story import chain_of
from tests.support.memory import MemoryWorld
from tests.support.world import make_world, quiet, rotate_again

ORDERS = count()
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


def extend(world: MemoryWorld, number: int) -> None:
    """Let AWS's log grow by orders, which move no head."""
    by = Operator(who="arn:of/operator", now=world.clock.now, new_id=lambda: f"{next(ORDERS)}")
    before = world.lock.record
    with quiet(world):
        for _ in range(number):
            heads(world, aws=record_order("pause", {}, by=by, chain=chain_of(world.ports("aws"))))
    world.lock.record = before
