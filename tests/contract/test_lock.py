"""Every lock has one holder and one claim at a time, and refuses a run that lost it (protocol I4, L4, L6, L10)."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest

from lockstep.errors import FenceLostError, LockTableUnreachableError, LostCompareAndSetError
from lockstep.model import ChainHead, Claim, ClaimKind, Lease, LockRecord, Release
from lockstep.ports import Lock
from tests.contract.aws_fixtures import aws_lock
from tests.contract.harness import LockHarness
from tests.contract.memory_fixtures import memory_lock

FACTORIES: Mapping[str, Callable[[], AbstractContextManager[LockHarness]]] = {
    "memory": memory_lock,
    "aws": aws_lock,
}

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
LEASE = timedelta(minutes=15)
INTERVAL = timedelta(minutes=20)
OVERLAP = timedelta(minutes=18)


@pytest.fixture(params=FACTORIES)
def world(request: pytest.FixtureRequest) -> Iterator[LockHarness]:
    with FACTORIES[request.param]() as harness:
        yield harness


@pytest.fixture
def lock(world: LockHarness) -> Lock:
    return world.lock


def acquire(
    lock: Lock,
    holder: str = "aws-1",
    *,
    at: datetime = NOW,
    force: bool = False,
    revoke_previous: bool = False,
) -> Lease | None:
    return lock.acquire(
        holder=holder, now=at, expires_at=at + LEASE, force=force, revoke_previous=revoke_previous
    )


def acquired(lock: Lock, holder: str = "aws-1", *, at: datetime = NOW) -> Lease:
    lease = acquire(lock, holder, at=at)
    assert lease is not None
    return lease


def claim_of(lease: Lease, *, base: int = 0, previous: int | None = None) -> Claim:
    return Claim(
        kind=ClaimKind.NEW,
        generation=lease.fence,
        base_generation=base,
        previous_generation=previous,
        rotation_id=lease.holder,
    )


def done(lease: Lease, *, at: datetime = NOW, previous: int | None = None) -> Release:
    return Release(
        current_generation=lease.fence,
        previous_generation=previous,
        next_due_at=at + INTERVAL,
        not_before=at + OVERLAP,
    )


def rotated(lock: Lock, *, at: datetime = NOW) -> None:
    lease = acquired(lock, at=at)
    lock.claim(lease, claim_of(lease), replaces=None)
    lock.release(lease, done(lease, at=at))


# Acquiring


def test_the_record_is_empty_before_the_first_rotation(lock: Lock) -> None:
    record = lock.read()
    assert record == LockRecord(credential_id=record.credential_id)


def test_acquiring_writes_holder_and_expiry_and_raises_the_fence(lock: Lock) -> None:
    lease = acquired(lock)
    record = lock.read()
    assert (lease.holder, lease.fence) == ("aws-1", 1)
    assert (record.holder, record.fence, record.expires_at) == ("aws-1", 1, NOW + LEASE)
    assert record.claim is None


def test_a_held_lock_cannot_be_acquired_by_another(lock: Lock) -> None:
    acquired(lock)
    before = lock.read()
    assert acquire(lock, "oci-1", at=NOW + LEASE) is None
    assert acquire(lock, "oci-1", force=True, revoke_previous=True) is None
    assert lock.read() == before


def test_a_lock_whose_lease_has_ended_is_acquired_under_a_new_fence(lock: Lock) -> None:
    acquired(lock)
    assert acquired(lock, "oci-1", at=NOW + LEASE + timedelta(seconds=1)).fence == 2
    assert lock.read().holder == "oci-1"


def test_the_holder_acquires_again_under_a_new_fence(lock: Lock) -> None:
    assert acquired(lock).fence == 1
    assert acquired(lock, at=NOW + timedelta(minutes=1)).fence == 2
    assert lock.read().expires_at == NOW + timedelta(minutes=1) + LEASE


def test_only_one_of_two_concurrent_acquirers_gets_the_lock(lock: Lock) -> None:
    barrier = Barrier(2, timeout=10)

    def race(holder: str) -> Lease | None:
        barrier.wait()
        return acquire(lock, holder)

    with ThreadPoolExecutor(2) as pool:
        leases = list(pool.map(race, ["aws-1", "oci-1"]))
    assert [lease.fence for lease in leases if lease] == [1]


# When a rotation is due


@pytest.mark.parametrize(
    ("after", "force", "revoke_previous", "gets_it"),
    [
        pytest.param(INTERVAL, False, False, True, id="due"),
        pytest.param(INTERVAL - timedelta(seconds=1), False, False, False, id="a second early"),
        pytest.param(OVERLAP, True, False, True, id="forced after the overlap"),
        pytest.param(OVERLAP - timedelta(seconds=1), True, False, False, id="forced within the overlap"),
        pytest.param(timedelta(0), True, True, True, id="forced, previous revoked"),
        pytest.param(timedelta(0), False, True, False, id="previous revoked, not forced"),
    ],
)
def test_when_the_next_rotation_may_start(
    lock: Lock, after: timedelta, *, force: bool, revoke_previous: bool, gets_it: bool
) -> None:
    rotated(lock)
    lease = acquire(lock, "oci-1", at=NOW + after, force=force, revoke_previous=revoke_previous)
    assert (lease is not None) == gets_it


def test_a_rotation_in_flight_is_always_due(lock: Lock) -> None:
    rotated(lock)
    lease = acquired(lock, at=NOW + INTERVAL)
    lock.claim(lease, claim_of(lease, base=1), replaces=None)
    lock.release(lease, None)
    assert acquired(lock, "oci-1", at=NOW + INTERVAL).fence == 3


# Claiming


@pytest.mark.parametrize("previous", [None, 0, 3])
def test_a_claim_is_read_back_as_it_was_made(lock: Lock, previous: int | None) -> None:
    lease = acquired(lock)
    claim = replace(claim_of(lease, base=4, previous=previous), kind=ClaimKind.HEAL)
    lock.claim(lease, claim, replaces=None)
    assert lock.read().claim == claim
    assert lock.read().highest_generation == lease.fence


def test_a_repeated_claim_succeeds(lock: Lock) -> None:
    lease = acquired(lock)
    lock.claim(lease, claim_of(lease), replaces=None)
    lock.claim(lease, claim_of(lease), replaces=None)
    assert lock.read().claim == claim_of(lease)


@pytest.mark.parametrize(
    "change", [{"base_generation": 9}, {"previous_generation": 9}, {"kind": ClaimKind.HEAL}]
)
def test_a_claim_with_another_field_is_another_claim(lock: Lock, change: dict[str, int | ClaimKind]) -> None:
    lease = acquired(lock)
    lock.claim(lease, claim_of(lease), replaces=None)
    with pytest.raises(FenceLostError):
        lock.claim(lease, replace(claim_of(lease), **change), replaces=None)  # type: ignore[arg-type]  # a row of the table
    assert lock.read().claim == claim_of(lease)


def test_there_is_one_claim_at_a_time(lock: Lock) -> None:
    lease = acquired(lock)
    lock.claim(lease, claim_of(lease), replaces=None)
    with pytest.raises(FenceLostError):
        lock.claim(lease, replace(claim_of(lease), generation=2), replaces=None)
    assert lock.read().claim == claim_of(lease)


def test_a_claim_outlives_its_run_and_is_adopted_unchanged(lock: Lock) -> None:
    first = acquired(lock)
    lock.claim(first, claim_of(first), replaces=None)
    second = acquired(lock, "oci-1", at=NOW + LEASE + timedelta(seconds=1))
    adopted = lock.read().claim
    assert adopted == claim_of(first)
    assert lock.require(second, adopted, now=NOW + LEASE).claim == adopted
    with pytest.raises(FenceLostError):
        lock.claim(second, claim_of(second), replaces=None)


def test_a_refused_claim_is_replaced_by_a_new_one(lock: Lock) -> None:
    first = acquired(lock)
    refused = claim_of(first)
    lock.claim(first, refused, replaces=None)
    second = acquired(lock)
    lock.claim(second, claim_of(second), replaces=refused)
    lock.claim(second, claim_of(second), replaces=refused)
    assert lock.read().claim == claim_of(second)
    assert lock.read().highest_generation == 2


def test_only_the_claim_in_the_record_is_replaced(lock: Lock) -> None:
    lease = acquired(lock)
    other = claim_of(lease)
    with pytest.raises(FenceLostError):
        lock.claim(lease, replace(other, generation=2), replaces=other)
    assert lock.read().claim is None


def test_a_generation_is_never_claimed_twice(lock: Lock) -> None:
    rotated(lock)
    lease = acquired(lock, at=NOW + INTERVAL)
    with pytest.raises(FenceLostError):
        lock.claim(lease, replace(claim_of(lease), generation=1), replaces=None)
    assert lock.read().claim is None


def test_a_claim_needs_the_lock(lock: Lock) -> None:
    stranger = Lease(credential_id=lock.read().credential_id, holder="aws-1", fence=1)
    with pytest.raises(FenceLostError):
        lock.claim(stranger, claim_of(stranger), replaces=None)
    assert lock.read().claim is None


# Requiring


def test_require_returns_the_record_of_a_held_lock_with_its_claim(lock: Lock) -> None:
    lease = acquired(lock)
    lock.claim(lease, claim_of(lease), replaces=None)
    record = lock.require(lease, claim_of(lease), now=NOW + LEASE - timedelta(seconds=1))
    assert record == lock.read()


@pytest.mark.parametrize("late", [timedelta(0), timedelta(seconds=1)])
def test_require_fails_from_the_end_of_the_lease_on(lock: Lock, late: timedelta) -> None:
    lease = acquired(lock)
    lock.claim(lease, claim_of(lease), replaces=None)
    with pytest.raises(FenceLostError):
        lock.require(lease, claim_of(lease), now=NOW + LEASE + late)


def test_require_fails_for_a_claim_that_is_not_in_the_record(lock: Lock) -> None:
    lease = acquired(lock)
    with pytest.raises(FenceLostError):
        lock.require(lease, claim_of(lease), now=NOW)
    lock.claim(lease, claim_of(lease), replaces=None)
    with pytest.raises(FenceLostError):
        lock.require(lease, replace(claim_of(lease), rotation_id="other"), now=NOW)


# Zombies


@pytest.mark.parametrize("holder", ["oci-1", "aws-1"])
def test_a_zombie_can_write_nothing_once_the_fence_is_higher(lock: Lock, holder: str) -> None:
    zombie = acquired(lock)
    lock.claim(zombie, claim_of(zombie), replaces=None)
    acquired(lock, holder, at=NOW + LEASE + timedelta(seconds=1))
    before = lock.read()
    with pytest.raises(FenceLostError):
        lock.require(zombie, claim_of(zombie), now=NOW)
    with pytest.raises(FenceLostError):
        lock.claim(zombie, replace(claim_of(zombie), generation=9), replaces=claim_of(zombie))
    with pytest.raises(FenceLostError):
        lock.release(zombie, done(zombie))
    with pytest.raises(FenceLostError):
        lock.release(zombie, None)
    assert lock.read() == before


@pytest.mark.parametrize("taken", [False, True])
def test_raising_the_fence_shuts_out_the_older_fence_and_needs_the_lock(
    lock: Lock,
    taken: bool,  # noqa: FBT001 - a row of the table
) -> None:
    older = acquired(lock)
    claim = claim_of(older)
    lock.claim(older, claim, replaces=None)
    if taken:
        acquired(lock, "oci-1", at=NOW + LEASE + timedelta(seconds=1))
        before = lock.read()
        with pytest.raises(FenceLostError):
            lock.raise_fence(older)
        assert lock.read() == before
        return
    newer = lock.raise_fence(older)
    assert newer == replace(older, fence=2)
    assert lock.require(newer, claim, now=NOW).expires_at == NOW + LEASE
    with pytest.raises(FenceLostError):
        lock.require(older, claim, now=NOW)
    lock.claim(newer, replace(claim, generation=9), replaces=claim)
    lock.release(newer, done(newer))
    with pytest.raises(FenceLostError):
        lock.raise_fence(newer)


# Releasing


def test_a_finished_rotation_clears_the_claim_and_moves_the_schedule(lock: Lock) -> None:
    lease = acquired(lock)
    lock.claim(lease, claim_of(lease), replaces=None)
    lock.release(lease, done(lease))
    assert lock.read() == LockRecord(
        credential_id=lease.credential_id,
        fence=1,
        current_generation=1,
        highest_generation=1,
        next_due_at=NOW + INTERVAL,
        not_before=NOW + OVERLAP,
    )


def test_a_finished_rotation_names_the_previous_generation(lock: Lock) -> None:
    rotated(lock)
    lease = acquired(lock, at=NOW + INTERVAL)
    lock.release(lease, done(lease, previous=1))
    assert (lock.read().current_generation, lock.read().previous_generation) == (2, 1)


def test_a_failed_rotation_keeps_claim_and_schedule(lock: Lock) -> None:
    rotated(lock)
    lease = acquired(lock, at=NOW + INTERVAL)
    lock.claim(lease, claim_of(lease, base=1), replaces=None)
    before = lock.read()
    lock.release(lease, None)
    assert lock.read() == replace(before, holder=None, expires_at=None)


def test_a_repeated_release_succeeds(lock: Lock) -> None:
    lease = acquired(lock)
    lock.release(lease, done(lease))
    lock.release(lease, done(lease))
    assert lock.read().holder is None


# Audit heads


def test_the_heads_of_two_streams_move_independently(lock: Lock) -> None:
    first = ChainHead(seq=1, hash="aa", rotation_id="aws-1")
    second = ChainHead(seq=2, hash="bb", rotation_id="aws-2")
    lock.move_head("aws", first, after=None)
    lock.move_head("oci", second, after=None)
    lock.move_head("aws", second, after=first)
    assert lock.read().heads == {"aws": second, "oci": second}


@pytest.mark.parametrize("after", [None, ChainHead(seq=1, hash="zz", rotation_id="aws-1")])
def test_a_head_that_is_not_the_expected_one_stays(lock: Lock, after: ChainHead | None) -> None:
    head = ChainHead(seq=1, hash="aa", rotation_id="aws-1")
    lock.move_head("aws", head, after=None)
    with pytest.raises(LostCompareAndSetError):
        lock.move_head("aws", ChainHead(seq=1, hash="bb", rotation_id="aws-2"), after=after)
    assert lock.read().heads == {"aws": head}


def test_a_head_moves_without_the_lock(lock: Lock) -> None:
    rotated(lock)
    head = ChainHead(seq=1, hash="aa", rotation_id="aws-1")
    lock.move_head("aws", head, after=None)
    assert lock.read().heads == {"aws": head}
    assert acquire(lock, "oci-1") is None


# Lost replies


def test_every_write_can_be_repeated_after_a_lost_reply(world: LockHarness, lock: Lock) -> None:
    def twice(write: Callable[[], object]) -> None:
        with pytest.raises(LockTableUnreachableError), world.lose_reply(1):
            write()
        write()

    with suppress(LockTableUnreachableError), world.lose_reply(1):
        acquire(lock)
    lease = acquired(lock)
    with suppress(LockTableUnreachableError), world.lose_reply(1):
        lock.raise_fence(lease)
    lease = lock.raise_fence(lease)
    first, second = claim_of(lease), replace(claim_of(lease), generation=9)
    head, next_head = (ChainHead(seq=n, hash=f"{n}", rotation_id="aws-1") for n in (1, 2))

    twice(lambda: lock.claim(lease, first, replaces=None))
    twice(lambda: lock.claim(lease, second, replaces=first))
    twice(lambda: lock.move_head("aws", head, after=None))
    twice(lambda: lock.move_head("aws", next_head, after=head))
    assert lock.require(lease, second, now=NOW).heads == {"aws": next_head}
    twice(lambda: lock.release(lease, done(lease)))

    record = lock.read()
    assert (record.holder, record.claim, record.current_generation) == (None, None, lease.fence)
