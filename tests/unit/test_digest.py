"""Making digests: what they name, and that nothing stops them (protocol E15)."""

import json
from itertools import count

import pytest

from lockstep.audit.digest import Evidence
from lockstep.protocol.errors import AuditLogAccessDeniedError, AuditLogUnreachableError
from tests.support.evidence import EvidenceWorld
from tests.support.memory import MemoryWorld
from tests.unit.harness import rotate

RUNS = count()


def begun(*streams: str) -> EvidenceWorld:
    return EvidenceWorld(MemoryWorld.create(), streams=streams or ("aws", "oci"))


def rotated(world: EvidenceWorld) -> None:
    rotate(world.world, f"run-{next(RUNS)}", force=False)


def document(world: EvidenceWorld, stream: str = "aws", hour: int = -1) -> dict[str, object]:
    names = sorted(world.digests[stream].objects)
    found: dict[str, object] = json.loads(world.digests[stream].objects[names[hour]][0])["digest"]
    return found


def test_a_digest_names_every_chain_the_one_before_and_the_other_clouds() -> None:
    world = begun()
    world.hours(3, lambda: rotated(world))
    log = world.world.audit_logs["aws"]
    newest = document(world)
    assert newest["chains"] == {
        "multi-cloud.app_user": {
            "seq": max(log.entries),
            "hash": newest["chains"]["multi-cloud.app_user"]["hash"],  # type: ignore[index]
            "at": round(log.at(max(log.entries)).timestamp() * 1000),
        }
    }
    before = document(world, hour=-2)
    assert newest["previous"]["hour"] == before["hour"]  # type: ignore[index]
    assert newest["other"]["hour"] == newest["hour"]  # type: ignore[index]
    assert document(world, "oci")["other"]["hour"] == before["hour"]  # type: ignore[index]
    assert newest["problems"] == []
