"""Taking the lock tells the record, which is believed for the lease that it shows (protocol L16)."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from lockstep.protocol.errors import FenceLostError, NewerFormatError
from lockstep.protocol.model import Acquired, ChainHead, ClaimKind, Lease, LockRecord
from lockstep.protocol.ports import Lock
from tests.contract.harness import LockHarness
from tests.contract.lock_case import (
    FACTORIES,
    LEASE,
    NOW,
    PLAN,
    SECOND,
    acquired,
    claim,
    claim_of,
    promoting,
    rotated,
)
from tests.support.builds import NEWER, build


@pytest.fixture(params=FACTORIES)
def world(request: pytest.FixtureRequest) -> Iterator[LockHarness]:
    with FACTORIES[request.param]() as harness:
        harness.order(activate=PLAN)
        yield harness


@pytest.fixture
def lock(world: LockHarness) -> Lock:
    return world.lock


def taken(lock: Lock, *, after: timedelta = timedelta()) -> Acquired:
    at = NOW + after
    found = lock.acquire(holder="aws-1", now=at, expires_at=at + LEASE, force=True, leads=True)
    assert found
    return found


def test_taking_the_lock_tells_the_record_as_a_read_shows_it(world: LockHarness, lock: Lock) -> None:
    first = taken(lock)
    assert lock.recall(first.lease, first.told) == lock.read()
    lock.release(first.lease, None)
    rotated(lock)
    world.order(
        enrol=frozenset({"db-1"}), muted=frozenset({"db-2"}), revoke_through=7, activate="of-another-plan"
    )
    lease = acquired(lock, at=NOW + LEASE)
    promoting(lock, lease)
    second = taken(lock, after=LEASE + SECOND)
    record = lock.read()
    assert (record.holder, record.promoting, record.alive) == ("aws-1", True, frozenset({2, 3}))
    assert lock.recall(second.lease, second.told) == record


def test_what_is_told_does_not_change_with_the_record(lock: Lock) -> None:
    found = taken(lock)
    before = lock.read()
    claim(lock, found.lease)
    assert lock.recall(found.lease, found.told) == before


def test_what_is_told_to_one_lease_is_nothing_to_another(lock: Lock) -> None:
    first = taken(lock)
    second = taken(lock)
    assert lock.recall(second.lease, first.told) is None
    assert lock.recall(first.lease, second.told) is None
    assert lock.recall(replace(second.lease, holder="oci-1"), second.told) is None
    assert lock.recall(Lease(credential_id="multi-cloud/other", holder="aws-1", fence=2), {}) is None


@pytest.mark.parametrize(
    "told",
    [{}, {"fence": {"N": "1"}}, {"record": {}}, {"fence": 1, "holder": "aws-1"}, {"fence": {"Nn": []}}],
)
def test_what_is_no_record_is_nothing(lock: Lock, told: dict[str, Any]) -> None:
    assert lock.recall(taken(lock).lease, told) is None


def test_a_record_of_a_newer_build_is_refused_as_a_read_refuses_it(lock: Lock) -> None:
    with build(NEWER):
        claim(lock, acquired(lock))
    found = taken(lock)
    with pytest.raises(NewerFormatError):
        lock.recall(found.lease, found.told)


@pytest.mark.parametrize("change", [{"kind": ClaimKind.HEAL}, {"base_generation": 9}, {"rotation_id": "oci"}])
def test_a_claim_that_is_not_the_one_on_record_replaces_nothing(lock: Lock, change: dict[str, Any]) -> None:
    """What a forged record names is compared whole: a heal is not passed off as a new value (protocol L6)."""
    made = claim(lock, acquired(lock))
    found = taken(lock)
    forged = replace(lock.read(), claim=structs.replace(made, **change))
    with pytest.raises(FenceLostError):
        claim(lock, found.lease, claim_of(found.lease), over=forged)
    assert lock.read().claim == made


# The table's own form


def test_it_survives_the_way_through_a_state_machine_and_another_spelling_is_not_believed() -> None:
    with FACTORIES["aws"]() as world:
        world.order(activate=PLAN, enrol=frozenset({"db-1"}))
        lock = world.lock
        promoting(lock, acquired(lock))
        found = taken(lock)
        text = json.dumps(found.told)
        assert lock.recall(found.lease, json.loads(text)) == lock.read()
        # AWS's own integrations of SDK calls spell types in this way.
        for ours, theirs in (("BOOL", "Bool"), ("NS", "Ns"), ("SS", "Ss")):
            assert f'"{ours}"' in text
            assert lock.recall(found.lease, json.loads(text.replace(f'"{ours}"', f'"{theirs}"'))) is None


GARBAGE: tuple[object, ...] = (
    None,
    5,
    "x",
    [],
    {},
    {"N": "x"},
    {"N": None},
    {"N": "9" * 5000},
    {"N": "99999999999999999"},
    {"S": 5},
    {"S": "x"},
    {"NS": [None]},
    {"SS": [5]},
    {"M": {"seq": {"N": "1"}}},
    {"M": None},
    {"BOOL": "y"},
    {"NULL": True},
)


def test_garbage_in_what_is_told_is_a_record_or_nothing() -> None:
    with FACTORIES["aws"]() as world:
        world.order(activate=PLAN, enrol=frozenset({"db-1"}), muted=frozenset({"db-2"}), revoke_through=7)
        lock = world.lock
        promoting(lock, acquired(lock))
        head = ChainHead(seq=1, hash="d" * 64, rotation_id="aws-1")
        lock.move_head("aws", head, after=None, at=NOW)
        found = taken(lock)
        assert len(found.told) > 15
        for name in (*found.told, "current_generation", "head_oci", "unwitnessed_oci", "format"):
            for value in GARBAGE:
                told = {**found.told, name: value}
                try:
                    record = lock.recall(found.lease, told)
                except NewerFormatError:
                    assert name == "format"
                else:
                    assert record is None or isinstance(record, LockRecord)
