"""Every lock has one holder at a time, and refuses a run that lost it (protocol L4, L6, L10)."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from msgspec import structs

from lockstep.protocol.errors import FenceLostError, LockTableUnreachableError, LostCompareAndSetError
from lockstep.protocol.model import ChainHead, Lease, LockRecord, Release
from lockstep.protocol.ports import Lock
from tests.contract.harness import LockHarness
from tests.contract.lock_case import (
    FACTORIES,
    INTERVAL,
    LEASE,
    NOW,
    OVERLAP,
    PLAN,
    SECOND,
    acquire,
    acquired,
    claim,
    claim_of,
    done,
    promoting,
    rotated,
)


@pytest.fixture(params=FACTORIES)
def world(request: pytest.FixtureRequest) -> Iterator[LockHarness]:
    with FACTORIES[request.param]() as harness:
        yield harness


@pytest.fixture
def lock(world: LockHarness) -> Lock:
    """The lock, after the order that makes the plan active."""
    world.order(activate=PLAN)
    return world.lock


# Acquiring


def test_the_record_is_empty_before_the_first_order(world: LockHarness) -> None:
    record = world.lock.read()
    assert record == LockRecord(credential_id=record.credential_id)


def test_every_order_is_read_back(world: LockHarness) -> None:
    orders: dict[str, Any] = {
        "paused": True,
        "activate": "of-another-plan",
        "revoke_through": 7,
        "enrol": frozenset({"db-1", "db-2"}),
        "muted": frozenset({"db-3"}),
    }
    world.order(**orders)
    record = world.lock.read()
    assert record == replace(LockRecord(credential_id=record.credential_id), **orders)


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
    assert acquire(lock, "oci-1", force=True) is None
    assert lock.read() == before


def test_a_lock_whose_lease_has_ended_is_acquired_under_a_new_fence(lock: Lock) -> None:
    acquired(lock)
    assert acquired(lock, "oci-1", at=NOW + LEASE + SECOND).fence == 2
    assert lock.read().holder == "oci-1"


def test_the_holder_acquires_again_under_a_new_fence(lock: Lock) -> None:
    assert acquired(lock).fence == 1
    assert acquired(lock, at=NOW + timedelta(minutes=1)).fence == 2
    assert lock.read().expires_at == NOW + timedelta(minutes=1) + LEASE


def test_only_one_of_two_concurrent_acquirers_gets_the_lock(lock: Lock) -> None:
    barrier = Barrier(2, timeout=60)

    def race(holder: str) -> Lease | None:
        barrier.wait()
        return acquire(lock, holder)

    with ThreadPoolExecutor(2) as pool:
        leases = list(pool.map(race, ["aws-1", "oci-1"]))
    assert [lease.fence for lease in leases if lease] == [1]


# When a rotation is due


@pytest.mark.parametrize(
    ("after", "force", "orders", "gets_it"),
    [
        pytest.param(INTERVAL, False, {}, True, id="due"),
        pytest.param(INTERVAL - SECOND, False, {}, False, id="a second early"),
        pytest.param(OVERLAP, True, {}, True, id="forced after the overlap"),
        pytest.param(OVERLAP - SECOND, True, {}, False, id="forced within the overlap"),
        pytest.param(timedelta(0), False, {"revoke_through": 1}, True, id="emergency"),
        pytest.param(timedelta(0), False, {"revoke_through": 9}, True, id="emergency that names more"),
        pytest.param(timedelta(0), False, {"revoke_through": 0}, False, id="emergency that is over"),
        pytest.param(OVERLAP, False, {"revoke_through": 0}, False, id="not due, emergency that is over"),
        pytest.param(INTERVAL, False, {"revoke_through": 0}, True, id="due, emergency that is over"),
        pytest.param(INTERVAL, False, {"paused": True}, False, id="paused"),
        pytest.param(INTERVAL, True, {"paused": True}, True, id="paused, forced"),
        pytest.param(OVERLAP - SECOND, True, {"paused": True}, False, id="paused, forced within the overlap"),
        pytest.param(
            timedelta(0), False, {"paused": True, "revoke_through": 1}, False, id="paused in an emergency"
        ),
        pytest.param(
            timedelta(0), True, {"paused": True, "revoke_through": 1}, True, id="paused, forced emergency"
        ),
        pytest.param(INTERVAL, False, {"paused": False}, True, id="resumed"),
    ],
)
def test_when_the_next_rotation_may_start(
    world: LockHarness, lock: Lock, after: timedelta, *, force: bool, orders: dict[str, Any], gets_it: bool
) -> None:
    rotated(lock)
    world.order(**orders)
    before = lock.read()
    lease = acquire(lock, "oci-1", at=NOW + after, force=force)
    assert (lease is not None) == gets_it
    if not gets_it:
        assert lock.read() == before


def test_an_emergency_before_the_first_rotation_starts_it(world: LockHarness, lock: Lock) -> None:
    world.order(revoke_through=0)
    assert acquire(lock)


def test_a_held_lock_is_held_in_an_emergency_too(world: LockHarness, lock: Lock) -> None:
    rotated(lock)
    acquired(lock, at=NOW + INTERVAL)
    world.order(revoke_through=1)
    assert acquire(lock, "oci-1", at=NOW + INTERVAL, force=True) is None


def test_a_rotation_in_flight_is_always_due(lock: Lock) -> None:
    rotated(lock)
    lease = acquired(lock, at=NOW + INTERVAL)
    claim(lock, lease, claim_of(lease, base=1))
    lock.release(lease, None)
    assert acquired(lock, "oci-1", at=NOW + INTERVAL).fence == 3


# Requiring


@pytest.mark.parametrize("is_promoting", [False, True])
def test_require_returns_the_record_of_a_held_lock_with_its_claim_in_its_phase(
    lock: Lock,
    is_promoting: bool,  # noqa: FBT001 - a row of the table
) -> None:
    lease = acquired(lock)
    made = claim(lock, lease)
    if is_promoting:
        promoting(lock, lease, made)
    just_in_time = NOW + LEASE - SECOND
    assert lock.require(lease, made, promoting=is_promoting, now=just_in_time) == lock.read()
    with pytest.raises(FenceLostError):
        lock.require(lease, made, promoting=not is_promoting, now=just_in_time)


@pytest.mark.parametrize("late", [timedelta(0), SECOND])
def test_require_fails_from_the_end_of_the_lease_on(lock: Lock, late: timedelta) -> None:
    lease = acquired(lock)
    made = claim(lock, lease)
    with pytest.raises(FenceLostError):
        lock.require(lease, made, promoting=False, now=NOW + LEASE + late)


def test_a_lease_holds_until_its_end_or_until_the_lock_is_given_back(lock: Lock) -> None:
    lease = acquired(lock)
    just_in_time = NOW + LEASE - timedelta(seconds=1)
    lock.require_lease(lease, now=just_in_time)
    claim(lock, lease)
    lock.require_lease(lease, now=just_in_time)
    for stale, now in ((replace(lease, fence=lease.fence + 1), NOW), (lease, NOW + LEASE)):
        with pytest.raises(FenceLostError):
            lock.require_lease(stale, now=now)
    lock.release(lease, None)
    with pytest.raises(FenceLostError):
        lock.require_lease(lease, now=NOW)


def test_require_fails_for_a_claim_that_is_not_in_the_record(lock: Lock) -> None:
    lease = acquired(lock)
    with pytest.raises(FenceLostError):
        lock.require(lease, claim_of(lease), promoting=False, now=NOW)
    made = claim(lock, lease)
    with pytest.raises(FenceLostError):
        lock.require(lease, structs.replace(made, rotation_id="other"), promoting=False, now=NOW)


# Zombies


@pytest.mark.parametrize("holder", ["oci-1", "aws-1"])
def test_a_zombie_can_write_nothing_once_the_fence_is_higher(lock: Lock, holder: str) -> None:
    zombie = acquired(lock)
    made = claim(lock, zombie)
    acquired(lock, holder, at=NOW + LEASE + SECOND)
    before = lock.read()
    writes: list[Callable[[], object]] = [
        lambda: lock.require(zombie, made, promoting=False, now=NOW),
        lambda: claim(lock, zombie, structs.replace(made, generation=9)),
        lambda: lock.begin_promotion(zombie, made, now=NOW),
        lambda: lock.mute(zombie, ["db-1"]),
        lambda: lock.release(zombie, done(zombie)),
        lambda: lock.release(zombie, None),
    ]
    for write in writes:
        with pytest.raises(FenceLostError):
            write()
    assert lock.read() == before


# Releasing


def test_a_finished_rotation_clears_the_claim_and_moves_the_schedule(lock: Lock) -> None:
    lease = acquired(lock)
    promoting(lock, lease)
    lock.release(lease, done(lease))
    assert lock.read() == LockRecord(
        credential_id=lease.credential_id,
        fence=1,
        plan=PLAN,
        current_generation=1,
        alive=frozenset({1}),
        highest_generation=1,
        next_due_at=NOW + INTERVAL,
        not_before=NOW + OVERLAP,
    )


def test_a_finished_rotation_says_what_is_alive(world: LockHarness, lock: Lock) -> None:
    """An emergency order counts from the oldest generation that may be alive (protocol O5)."""
    rotated(lock)
    lease = acquired(lock, at=NOW + INTERVAL)
    claim(lock, lease, served=(1,))
    lock.release(lease, done(lease, at=NOW + INTERVAL, alive=frozenset({2})))
    assert lock.read().alive == {2}
    world.order(revoke_through=1)
    assert acquire(lock, at=NOW + INTERVAL) is None
    world.order(revoke_through=2)
    assert acquire(lock, at=NOW + INTERVAL)


def test_an_emergency_counts_what_came_alive_since_the_last_rotation(world: LockHarness, lock: Lock) -> None:
    """A store that was moved back serves an older generation than the record remembered."""
    rotated(lock)
    lease = acquired(lock, at=NOW + INTERVAL)
    promoting(lock, lease)
    lock.release(lease, done(lease, at=NOW + INTERVAL))
    later = NOW + 2 * INTERVAL
    world.order(revoke_through=1)
    assert not lock.read().is_revoking
    lease = acquired(lock, at=later)
    claim(lock, lease, served=(1, 2))
    assert lock.read().is_revoking
    world.order(not_before=later + OVERLAP)
    lock.release(lease, None)
    assert acquire(lock, at=later)


def test_an_emergency_that_names_less_than_the_first_promotion_is_over(
    world: LockHarness, lock: Lock
) -> None:
    lease = acquired(lock)
    promoting(lock, lease)
    lock.release(lease, None)
    world.order(revoke_through=0, next_due_at=NOW + OVERLAP)
    assert not lock.read().is_revoking
    world.order(not_before=NOW + OVERLAP)
    assert acquire(lock) is None


def test_a_finished_rotation_ends_what_was_ordered_for_the_databases_that_it_proved(
    world: LockHarness, lock: Lock
) -> None:
    world.order(enrol=frozenset({"db-1", "db-2", "db-3"}), muted=frozenset({"db-2", "db-4"}))
    lease = acquired(lock)
    lock.release(lease, done(lease, proven=("db-1", "db-2")))
    record = lock.read()
    assert (record.enrol, record.muted) == (frozenset({"db-3"}), frozenset({"db-4"}))
    lease = acquired(lock, at=NOW + INTERVAL)
    lock.release(lease, done(lease, proven=("db-3", "db-4")))
    record = lock.read()
    assert (record.enrol, record.muted) == (frozenset(), frozenset())


@pytest.mark.parametrize(
    "finished",
    [lambda lease: done(lease, proven=("db-1",)), lambda _lease: None],
    ids=["rotated", "failed"],
)
def test_orders_written_during_a_run_are_not_lost(
    world: LockHarness, lock: Lock, finished: Callable[[Lease], Release | None]
) -> None:
    lease = acquired(lock)
    made = claim(lock, lease)
    orders: dict[str, Any] = {
        "paused": True,
        "activate": "of-another-plan",
        "revoke_through": 1,
        "enrol": frozenset({"db-2"}),
        "muted": frozenset({"db-3"}),
    }
    world.order(**orders)
    lock.begin_promotion(lease, made, now=NOW)
    lock.move_head("aws", ChainHead(seq=1, hash="aa", rotation_id="aws-1"), after=None, at=NOW)
    lock.release(lease, finished(lease))
    record = lock.read()
    assert {name: getattr(record, name) for name in orders} == orders


def test_a_failed_rotation_keeps_claim_and_schedule(lock: Lock) -> None:
    rotated(lock)
    lease = acquired(lock, at=NOW + INTERVAL)
    claim(lock, lease, claim_of(lease, base=1))
    before = lock.read()
    lock.release(lease, None)
    assert lock.read() == replace(before, holder=None, expires_at=None)


def test_a_failed_rotation_keeps_a_claim_in_promotion(lock: Lock) -> None:
    lease = acquired(lock)
    made = promoting(lock, lease)
    lock.release(lease, None)
    assert (lock.read().claim, lock.read().promoting) == (made, True)


def test_a_repeated_release_succeeds(lock: Lock) -> None:
    lease = acquired(lock)
    lock.release(lease, done(lease))
    lock.release(lease, done(lease))
    assert lock.read().holder is None


# Audit heads


def test_the_heads_of_two_streams_move_independently(lock: Lock) -> None:
    first = ChainHead(seq=1, hash="aa", rotation_id="aws-1")
    second = ChainHead(seq=2, hash="bb", rotation_id="aws-2")
    lock.move_head("aws", first, after=None, at=NOW)
    lock.move_head("oci", second, after=None, at=NOW)
    lock.move_head("aws", second, after=first, at=NOW)
    assert lock.read().heads == {"aws": second, "oci": second}


@pytest.mark.parametrize("after", [None, ChainHead(seq=1, hash="zz", rotation_id="aws-1")])
def test_a_head_that_is_not_the_expected_one_stays(lock: Lock, after: ChainHead | None) -> None:
    head = ChainHead(seq=1, hash="aa", rotation_id="aws-1")
    lock.move_head("aws", head, after=None, at=NOW)
    with pytest.raises(LostCompareAndSetError):
        lock.move_head("aws", ChainHead(seq=1, hash="bb", rotation_id="aws-2"), after=after, at=NOW)
    assert lock.read().heads == {"aws": head}


def test_a_stream_is_unwitnessed_from_its_first_entry_that_no_other_names(lock: Lock) -> None:
    """So `watch` sees how long an entry was in one cloud's hands alone (protocol L8)."""
    heads = [ChainHead(seq=n, hash=f"{n}", rotation_id=f"run-{n}") for n in range(1, 5)]
    later = [NOW + timedelta(minutes=n) for n in range(4)]
    lock.move_head("aws", heads[0], after=None, at=later[0])
    lock.move_head("aws", heads[1], after=heads[0], at=later[1])
    assert lock.read().unwitnessed == {"aws": later[0]}
    lock.move_head("oci", heads[2], after=None, at=later[2], witnesses={"aws"})
    assert lock.read().unwitnessed == {"oci": later[2]}
    lock.move_head("aws", heads[3], after=heads[1], at=later[3], witnesses={"oci"})
    assert lock.read().unwitnessed == {"aws": later[3]}


def test_a_head_moves_without_the_lock(lock: Lock) -> None:
    rotated(lock)
    head = ChainHead(seq=1, hash="aa", rotation_id="aws-1")
    lock.move_head("aws", head, after=None, at=NOW)
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
    seen = lock.read()
    first, second = claim_of(lease), structs.replace(claim_of(lease), generation=9)
    head, next_head = (ChainHead(seq=n, hash=f"{n}", rotation_id="aws-1") for n in (1, 2))

    twice(lambda: claim(lock, lease, first, over=seen))
    seen_again = lock.read()
    twice(lambda: claim(lock, lease, second, over=seen_again))
    twice(lambda: lock.begin_promotion(lease, second, now=NOW))
    twice(lambda: lock.mute(lease, ["db-1"]))
    twice(lambda: lock.move_head("aws", head, after=None, at=NOW))
    twice(lambda: lock.move_head("aws", next_head, after=head, at=NOW))
    assert lock.require(lease, second, promoting=True, now=NOW).heads == {"aws": next_head}
    twice(lambda: lock.release(lease, done(lease)))

    record = lock.read()
    assert (record.holder, record.claim, record.current_generation) == (None, None, lease.fence)
