"""Foreign objects in an audit log stop no rotation, and every one is found (protocol E6, E8)."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from lockstep.audit.chain import MAX_FOREIGN
from lockstep.audit.entry import NO_PREVIOUS, stored
from lockstep.audit.verify import Verdict
from lockstep.protocol.errors import AuditConflictError
from lockstep.protocol.model import ChainHead
from tests.support.builds import NEWER, build
from tests.support.memory import MemorySigner, MemoryWorld
from tests.support.seals import sealed
from tests.unit.audit_case import EVENT, acknowledge, at, begun, head, heads, problems, verified
from tests.unit.harness import (
    rotate,
    rotate_again,
)


def _without_metadata(world: MemoryWorld) -> tuple[bytes, Mapping[str, str]]:
    del world
    return b"{}", {}


def _of_the_run(world: MemoryWorld) -> tuple[bytes, Mapping[str, str]]:
    made = sealed(
        {"time": 0, "metadata": {"uid": "run-9"}},
        at(world, head(world).seq),
        signer=MemorySigner("stolen"),
        rotation_id="run-9",
    )
    return made.body, made.metadata


def _with_the_key_named(world: MemoryWorld) -> tuple[bytes, Mapping[str, str]]:
    body, metadata = _of_the_run(world)
    key_id = world.signers["aws"].key_id
    return (
        body.replace(b"stolen", key_id.encode()),
        {**metadata, "mac": metadata["mac"].replace("stolen", key_id)},
    )


def _with_another_predecessor(world: MemoryWorld) -> tuple[bytes, Mapping[str, str]]:
    before = replace(at(world, head(world).seq), hash="e" * 64)
    made = sealed(EVENT, before, signer=MemorySigner("stolen"))
    return made.body, made.metadata


def _from_another_stream(world: MemoryWorld) -> tuple[bytes, Mapping[str, str]]:
    return world.audit_logs["oci"].entries[1]


def _again(world: MemoryWorld) -> tuple[bytes, Mapping[str, str]]:
    return world.audit_logs["aws"].entries[2]


def _from_another_credential(world: MemoryWorld) -> tuple[bytes, Mapping[str, str]]:
    made = sealed(
        EVENT, at(world, head(world).seq), signer=world.signers["aws"], credential_id="multi-cloud/other"
    )
    return made.body, made.metadata


def _from_another_deployment(world: MemoryWorld) -> tuple[bytes, Mapping[str, str]]:
    other = MemoryWorld.create()
    other.clock.sleep(1)
    for run in range(6):
        rotate_again(other, f"run-{run}")
    return other.audit_logs["aws"].entries[head(world).seq + 1]


def _of_a_newer_format(world: MemoryWorld) -> tuple[bytes, Mapping[str, str]]:
    with build(NEWER):
        return _of_the_run(world)


def _with_a_seal_of_another_number(world: MemoryWorld) -> tuple[bytes, Mapping[str, str]]:
    body, metadata = _of_the_run(world)
    return body, {**metadata, "chain": metadata["chain"].replace('"seq":4', '"seq":999999999999')}


FOREIGN: list[Callable[[MemoryWorld], tuple[bytes, Mapping[str, str]]]] = [
    _without_metadata,
    _of_the_run,
    _with_the_key_named,
    _with_another_predecessor,
    _from_another_stream,
    _again,
    _from_another_credential,
    _from_another_deployment,
    _of_a_newer_format,
    _with_a_seal_of_another_number,
]


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda f: f.__name__)
@pytest.mark.parametrize("head_is", ["true", "forged"])
def test_a_foreign_object_after_the_end_costs_one_number(
    foreign: Callable[[MemoryWorld], tuple[bytes, Mapping[str, str]]], head_is: str
) -> None:
    world = begun()
    last = head(world)
    world.audit_logs["aws"].entries[last.seq + 1] = foreign(world)
    if head_is == "forged":
        hash_ = stored(last.seq + 1, world.audit_logs["aws"].entries[last.seq + 1][1]).hash
        heads(world, aws=ChainHead(seq=last.seq + 1, hash=hash_ or "f" * 64, rotation_id="run-9"))
    assert rotate_again(world, "run-9").outcome == "rotated"
    assert rotate_again(world, "run-10").outcome == "rotated"
    found = verified(world)["aws"]
    assert [e.rotation_id for e in found.entries[-2:]] == ["run-9", "run-10"]
    assert found.verdict is Verdict.NOT_VERIFIED
    assert last.seq + 1 in {p.first for p in found.problems}
    acknowledge(world, "aws", last.seq, last.seq + 2)
    assert verified(world)["aws"].verdict is Verdict.VERIFIED


def test_a_foreign_first_object_is_stepped_over() -> None:
    world = MemoryWorld.create()
    world.audit_logs["aws"].entries[1] = b"{}", {}
    rotate(world, "first")
    assert at(world, 2).seal == replace(at(world, 2).seal, stepped_over=(1, 1), previous_hash=NO_PREVIOUS)  # type: ignore[type-var]
    assert problems(world) == ["entry 1: is malformed; entry 2 has stepped over it"]


@pytest.mark.parametrize("is_head_lost", [False, True])
def test_a_thousand_foreign_objects_are_stepped_over_at_once(*, is_head_lost: bool) -> None:
    world = begun()
    last = head(world).seq
    for number in range(MAX_FOREIGN):
        world.audit_logs["aws"].entries[last + 1 + number] = b"{}", {}
    if is_head_lost:
        heads(world, aws=None)
    rotate_again(world, "run-9")
    assert head(world).seq == last + MAX_FOREIGN + 1
    assert problems(world) == [
        f"entries {last + 1} to {last + MAX_FOREIGN}: is malformed; entry {last + MAX_FOREIGN + 1} has stepped over it"
    ]


def test_more_foreign_objects_need_a_person() -> None:
    world = begun()
    last = head(world).seq
    for number in range(MAX_FOREIGN + 1):
        world.audit_logs["aws"].entries[last + 1 + number] = b"{}", {}
    with pytest.raises(AuditConflictError):
        rotate_again(world, "run-9")
    assert world.locked_out() == []
    assert world.lock.record.holder is None


@pytest.mark.parametrize("runs", [1, 3])
def test_a_foreign_object_far_away_is_no_obstacle(runs: int) -> None:
    world = begun(runs)
    world.audit_logs["aws"].entries[10**12 - 1] = b"{}", {}
    rotate_again(world, "run-9")
    assert head(world).seq == runs + 1
    assert problems(world) == [f"entry {10**12 - 1}: is malformed"]
