"""Every lock has one holder and one claim at a time.

It refuses a run that lost it (protocol L4, L6, L10), lets a claim go through its phases once (protocol I4, L14, O7),
leaves what a newer build wrote alone (protocol R10), and names who rotated (protocol O14).
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from msgspec import structs

from lockstep.aws.dynamodb_lock import DynamoDbLock, read_table, record_of
from lockstep.protocol.errors import (
    FenceLostError,
    LockTableAccessDeniedError,
    LockTableUnreachableError,
    NewerFormatError,
)
from lockstep.protocol.messages import Recorded
from lockstep.protocol.model import (
    FORMAT,
    ChainHead,
    Claim,
    ClaimKind,
    Lease,
    LockRecord,
    Release,
)
from lockstep.protocol.orders import accounts_of
from lockstep.protocol.ports import Lock
from sandbox.emulators.aws.resources import create_lock_table
from sandbox.emulators.aws.server import AwsSandbox
from tests.contract.aws_fixtures import CREDENTIAL, TABLE, aws_lock, sandbox_client
from tests.contract.harness import LockHarness
from tests.contract.memory_fixtures import memory_lock
from tests.support.builds import NEWER, build

FACTORIES: Mapping[str, Callable[[], AbstractContextManager[LockHarness]]] = {
    "memory": memory_lock,
    "aws": aws_lock,
}

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
LEASE = timedelta(minutes=15)
INTERVAL = timedelta(minutes=20)
OVERLAP = timedelta(minutes=18)
SECOND = timedelta(seconds=1)


PLAN = "of-the-active-plan"
ENTRY = Recorded(stream="aws", seq=1, hash="a" * 64)


def acquire(lock: Lock, holder: str = "aws-1", *, at: datetime = NOW, force: bool = False) -> Lease | None:
    return lock.acquire(holder=holder, now=at, expires_at=at + LEASE, force=force)


def acquired(lock: Lock, holder: str = "aws-1", *, at: datetime = NOW) -> Lease:
    lease = acquire(lock, holder, at=at)
    assert lease is not None
    return lease


def claim_of(lease: Lease, *, base: int = 0) -> Claim:
    return Claim(kind=ClaimKind.NEW, generation=lease.fence, base_generation=base, rotation_id=lease.holder)


def claim(
    lock: Lock,
    lease: Lease,
    claim: Claim | None = None,
    *,
    over: LockRecord | None = None,
    plan: str = PLAN,
    served: Collection[int] = (),
) -> Claim:
    """Claim over what the record says now, or over what was seen earlier."""
    claim = claim or claim_of(lease)
    lock.claim(lease, claim, over=over or lock.read(), plan=plan, served=served)
    return claim


def promoting(lock: Lock, lease: Lease, made: Claim | None = None) -> Claim:
    made = made or claim(lock, lease)
    lock.begin_promotion(lease, made, now=NOW)
    return made


def done(
    lease: Lease,
    *,
    at: datetime = NOW,
    valid: frozenset[int] | None = None,
    proven: tuple[str, ...] = ("db-1",),
) -> Release:
    return Release(
        current_generation=lease.fence,
        valid=valid or frozenset({lease.fence}),
        proven=proven,
        next_due_at=at + INTERVAL,
        not_before=at + OVERLAP,
        rotated_at=at,
    )


def rotated(lock: Lock, *, at: datetime = NOW, holder: str = "aws-1") -> None:
    lease = acquired(lock, holder, at=at)
    claim(lock, lease)
    lock.release(lease, done(lease, at=at), entry=ENTRY)


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
        "take_over": frozenset({"db-1", "db-2"}),
        "blocked": frozenset({"db-3"}),
    }
    world.order(**orders)
    record = world.lock.read()
    assert record == replace(LockRecord(credential_id=record.credential_id), **orders)


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
        pytest.param(OVERLAP - SECOND, True, {}, True, id="forced within the overlap"),
        pytest.param(timedelta(0), False, {"activate": "of-another-plan"}, True, id="activation"),
        pytest.param(timedelta(0), False, {"take_over": frozenset({"db-1"})}, True, id="take-over"),
        pytest.param(timedelta(0), False, {"blocked": frozenset({"db-1"})}, False, id="blocked"),
        pytest.param(timedelta(0), False, {"revoke_through": 1}, True, id="emergency"),
        pytest.param(timedelta(0), False, {"revoke_through": 9}, True, id="emergency that names more"),
        pytest.param(timedelta(0), False, {"revoke_through": 0}, False, id="emergency that is over"),
        pytest.param(OVERLAP, False, {"revoke_through": 0}, False, id="not due, emergency that is over"),
        pytest.param(INTERVAL, False, {"revoke_through": 0}, True, id="due, emergency that is over"),
        pytest.param(INTERVAL, False, {"paused": True}, False, id="paused"),
        pytest.param(INTERVAL, True, {"paused": True}, True, id="paused, forced"),
        pytest.param(OVERLAP - SECOND, True, {"paused": True}, True, id="paused, forced within the overlap"),
        pytest.param(
            timedelta(0),
            False,
            {"paused": True, "activate": "of-another-plan"},
            False,
            id="paused, activation",
        ),
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


def test_a_rotation_in_flight_is_always_due(world: LockHarness, lock: Lock) -> None:
    rotated(lock)
    world.order(revoke_through=1)
    lease = acquired(lock)
    world.order(revoke_through=0)
    claim(lock, lease, claim_of(lease, base=1))
    lock.release(lease, None)
    assert acquired(lock, "oci-1", at=NOW).fence == 3


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
        lambda: lock.block(zombie, ["db-1"]),
        lambda: lock.release(zombie, done(zombie), entry=ENTRY),
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
    lock.release(lease, done(lease), entry=ENTRY)
    assert lock.read() == LockRecord(
        credential_id=lease.credential_id,
        fence=1,
        plan=PLAN,
        current_generation=1,
        valid=frozenset({1}),
        highest_generation=1,
        next_due_at=NOW + INTERVAL,
        not_before=NOW + OVERLAP,
        rotated_by=lease.holder,
        rotated_at=NOW,
        heads={"aws": ChainHead(seq=1, hash="a" * 64)},
    )


def test_an_emergency_counts_what_became_valid_since_the_last_rotation(
    world: LockHarness, lock: Lock
) -> None:
    """A store that was moved back serves an older generation than the record remembered."""
    rotated(lock)
    lease = acquired(lock, at=NOW + INTERVAL)
    promoting(lock, lease)
    lock.release(lease, done(lease, at=NOW + INTERVAL), entry=ENTRY)
    later = NOW + 2 * INTERVAL
    world.order(revoke_through=1)
    assert not lock.read().is_revoking
    lease = acquired(lock, at=later)
    claim(lock, lease, served=(1, 2))
    assert lock.read().is_revoking
    world.order(not_before=later + OVERLAP)
    lock.release(lease, None)
    assert acquire(lock, at=later)


def test_a_finished_rotation_ends_what_was_ordered_for_the_databases_that_it_proved(
    world: LockHarness, lock: Lock
) -> None:
    world.order(take_over=frozenset({"db-1", "db-2", "db-3"}), blocked=frozenset({"db-2", "db-4"}))
    lease = acquired(lock)
    lock.release(lease, done(lease, proven=("db-1", "db-2")), entry=ENTRY)
    record = lock.read()
    assert (record.take_over, record.blocked) == (frozenset({"db-3"}), frozenset({"db-4"}))
    lease = acquired(lock, at=NOW + INTERVAL)
    lock.release(lease, done(lease, proven=("db-3", "db-4")), entry=ENTRY)
    record = lock.read()
    assert (record.take_over, record.blocked) == (frozenset(), frozenset())


@pytest.mark.parametrize("is_done", [False, True], ids=["in flight", "finished"])
def test_a_late_release_clears_nothing_of_a_run_that_has_the_same_fence(lock: Lock, *, is_done: bool) -> None:
    """As after the table was restored to a time before the late run had the lock."""
    lease = acquired(lock, "aws-2")
    made = promoting(lock, lease)
    lock.release(lease, done(lease) if is_done else None, entry=ENTRY)
    before = lock.read()
    late = replace(lease, holder="aws-1")
    with pytest.raises(FenceLostError):
        lock.release(late, structs.replace(done(late), current_generation=made.generation - 1), entry=ENTRY)
    assert lock.read() == before


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
        "take_over": frozenset({"db-2"}),
        "blocked": frozenset({"db-3"}),
    }
    world.order(**orders)
    lock.begin_promotion(lease, made, now=NOW)
    lock.release(lease, finished(lease), entry=ENTRY)
    record = lock.read()
    assert {name: getattr(record, name) for name in orders} == orders


def test_a_failed_rotation_keeps_claim_and_schedule(lock: Lock) -> None:
    rotated(lock)
    lease = acquired(lock, at=NOW + INTERVAL)
    claim(lock, lease, claim_of(lease, base=1))
    before = lock.read()
    lock.release(lease, None)
    assert lock.read() == replace(before, holder=None, expires_at=None)


# Audit heads


@pytest.mark.parametrize("is_done", [True, False])
def test_the_run_that_gives_the_lock_back_moves_the_head_of_its_own_stream(
    lock: Lock, *, is_done: bool
) -> None:
    """It is a hint, and may go back; another stream's stays (protocol L8)."""
    for number, (stream, seq) in enumerate((("oci", 3), ("aws", 7), ("aws", 5))):
        lease = acquired(lock, at=NOW + number * INTERVAL)
        entry = Recorded(stream=stream, seq=seq, hash="a" * 64)
        lock.release(lease, done(lease, at=NOW + number * INTERVAL) if is_done else None, entry=entry)
    assert lock.read().heads == {
        "aws": ChainHead(seq=5, hash="a" * 64),
        "oci": ChainHead(seq=3, hash="a" * 64),
    }


def test_a_run_that_has_lost_the_lock_moves_no_head(lock: Lock) -> None:
    late = acquired(lock)
    acquired(lock, "aws-2", at=NOW + LEASE + timedelta(seconds=1))
    with pytest.raises(FenceLostError):
        lock.release(late, None, entry=ENTRY)
    assert lock.read().heads == {}


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

    twice(lambda: claim(lock, lease, first, over=seen))
    seen_again = lock.read()
    twice(lambda: claim(lock, lease, second, over=seen_again))
    twice(lambda: lock.begin_promotion(lease, second, now=NOW))
    twice(lambda: lock.block(lease, ["db-1"]))
    twice(lambda: lock.release(lease, done(lease), entry=ENTRY))

    record = lock.read()
    assert (record.holder, record.claim, record.current_generation) == (None, None, lease.fence)


# Claiming


@pytest.mark.parametrize("kind", list(ClaimKind))
def test_a_claim_is_read_back_as_it_was_made_and_is_open(lock: Lock, kind: ClaimKind) -> None:
    lease = acquired(lock)
    made = claim(lock, lease, structs.replace(claim_of(lease, base=4), kind=kind))
    record = lock.read()
    assert (record.claim, record.promoting, record.highest_generation) == (made, False, lease.fence)


def test_what_stores_serve_is_valid_from_the_claim_on(lock: Lock) -> None:
    lease = acquired(lock)
    claim(lock, lease, served=(3, 4))
    assert lock.read().valid == {3, 4}
    lease = acquired(lock)
    claim(lock, lease, claim_of(lease), served=(4, 5))
    assert lock.read().valid == {3, 4, 5}


@pytest.mark.parametrize("change", [{"base_generation": 9}, {"kind": ClaimKind.RECONCILE}, {"generation": 2}])
def test_a_claim_over_less_than_the_record_has_changes_nothing(
    lock: Lock, change: dict[str, int | ClaimKind]
) -> None:
    """Between the read and the write another claim came: a decision is never made over what was not seen."""
    lease, seen = acquired(lock), lock.read()
    claim(lock, lease, over=seen)
    with pytest.raises(FenceLostError):
        claim(lock, lease, structs.replace(claim_of(lease), **change), over=seen)
    assert lock.read().claim == claim_of(lease)


def test_a_claim_outlives_its_run_and_is_adopted_unchanged(lock: Lock) -> None:
    first = acquired(lock)
    claim(lock, first)
    second = acquired(lock, "oci-1", at=NOW + LEASE + SECOND)
    adopted = lock.read().claim
    assert adopted == claim_of(first)
    assert lock.require(second, adopted, promoting=False, now=NOW + LEASE).claim == adopted


@pytest.mark.parametrize("is_promoting", [False, True])
def test_a_claim_that_was_seen_is_replaced_by_an_open_one(
    lock: Lock,
    is_promoting: bool,  # noqa: FBT001 - a row of the table
) -> None:
    first = acquired(lock)
    made = claim(lock, first)
    if is_promoting:
        promoting(lock, first, made)
    second, seen = acquired(lock), lock.read()
    for _ in range(2):
        claim(lock, second, over=seen)
    record = lock.read()
    assert (record.claim, record.promoting, record.highest_generation) == (claim_of(second), False, 2)


def test_a_claim_that_went_into_promotion_since_it_was_seen_stays(lock: Lock) -> None:
    """A store may serve it by now, so what was decided over an open claim no longer holds (protocol L6)."""
    lease = acquired(lock)
    made = claim(lock, lease)
    seen = lock.read()
    promoting(lock, lease, made)
    with pytest.raises(FenceLostError):
        claim(lock, lease, structs.replace(made, generation=2), over=seen)
    assert (lock.read().claim, lock.read().promoting) == (made, True)


def test_a_claim_that_is_open_again_since_it_was_seen_in_promotion_stays(lock: Lock) -> None:
    lease = acquired(lock)
    first = promoting(lock, lease)
    seen = lock.read()
    second = claim(lock, lease, structs.replace(first, generation=2))
    with pytest.raises(FenceLostError):
        claim(lock, lease, structs.replace(first, generation=3), over=seen)
    assert lock.read().claim == second


def test_a_generation_is_never_claimed_twice(lock: Lock) -> None:
    rotated(lock)
    lease = acquired(lock, at=NOW + INTERVAL)
    with pytest.raises(FenceLostError):
        claim(lock, lease, structs.replace(claim_of(lease), generation=1))
    assert lock.read().claim is None


def test_a_claim_needs_the_lock(lock: Lock) -> None:
    stranger = Lease(credential_id=lock.read().credential_id, holder="aws-1", fence=1)
    with pytest.raises(FenceLostError):
        claim(lock, stranger)
    assert lock.read().claim is None


# The active plan (protocol I10, O7)


def test_the_first_claim_makes_the_ordered_plan_active(lock: Lock) -> None:
    lease, seen = acquired(lock), lock.read()
    assert (seen.plan, seen.activate) == (None, PLAN)
    for _ in range(2):
        claim(lock, lease, over=seen)
    assert (lock.read().plan, lock.read().activate) == (PLAN, None)


def test_a_claim_under_a_plan_that_is_neither_active_nor_ordered_changes_nothing(
    world: LockHarness, lock: Lock
) -> None:
    lease = acquired(lock)
    with pytest.raises(FenceLostError):
        claim(lock, lease, plan="of-another-plan")
    rotated(lock)
    lease = acquired(lock, at=NOW + INTERVAL)
    world.order(activate="of-a-third-plan")
    before = lock.read()
    with pytest.raises(FenceLostError):
        claim(lock, lease, plan="of-another-plan")
    assert lock.read() == before


def test_an_order_to_activate_another_plan_outlives_a_claim_under_the_active_one(
    world: LockHarness, lock: Lock
) -> None:
    rotated(lock)
    world.order(activate="of-another-plan")
    lease = acquired(lock, at=NOW + INTERVAL)
    claim(lock, lease)
    assert (lock.read().plan, lock.read().activate) == (PLAN, "of-another-plan")
    claim(lock, lease, structs.replace(claim_of(lease), generation=9), plan="of-another-plan")
    assert (lock.read().plan, lock.read().activate) == ("of-another-plan", None)


@pytest.mark.parametrize("order", [None, "of-a-third-plan"])
def test_an_activation_that_was_changed_since_it_was_seen_does_not_happen(
    world: LockHarness, lock: Lock, order: str | None
) -> None:
    lease, seen = acquired(lock), lock.read()
    world.order(activate=order)
    with pytest.raises(FenceLostError):
        claim(lock, lease, over=seen)
    record = lock.read()
    assert (record.plan, record.activate, record.claim) == (None, order, None)


def test_a_claim_under_a_plan_that_was_active_when_it_was_seen_changes_nothing(
    world: LockHarness, lock: Lock
) -> None:
    rotated(lock)
    lease = acquired(lock, at=NOW + INTERVAL)
    seen = lock.read()
    world.order(activate="of-another-plan")
    other = claim(lock, lease, plan="of-another-plan")
    with pytest.raises(FenceLostError):
        claim(lock, lease, structs.replace(other, generation=9), over=replace(seen, claim=other))
    assert lock.read().claim == other


# Promoting (protocol L14)


def test_a_promotion_begins_once_and_its_generation_is_alive(lock: Lock) -> None:
    lease = acquired(lock)
    made = claim(lock, lease, served=(4,))
    for _ in range(2):
        assert lock.begin_promotion(lease, made, now=NOW) == lock.read()
    record = lock.read()
    assert (record.claim, record.promoting, record.valid) == (made, True, frozenset({1, 4}))


@pytest.mark.parametrize("change", [{"generation": 2}, {"rotation_id": "another"}])
def test_a_claim_that_is_not_in_the_record_is_not_promoted(lock: Lock, change: dict[str, Any]) -> None:
    lease = acquired(lock)
    with pytest.raises(FenceLostError):
        lock.begin_promotion(lease, claim_of(lease), now=NOW)
    made = claim(lock, lease)
    with pytest.raises(FenceLostError):
        lock.begin_promotion(lease, structs.replace(made, **change), now=NOW)
    assert not lock.read().promoting


@pytest.mark.parametrize("late", [timedelta(0), SECOND])
def test_no_promotion_begins_from_the_end_of_the_lease_on(lock: Lock, late: timedelta) -> None:
    lease = acquired(lock)
    made = claim(lock, lease)
    with pytest.raises(FenceLostError):
        lock.begin_promotion(lease, made, now=NOW + LEASE + late)
    assert not lock.read().promoting


# Blocking (protocol L15)


def test_blocked_databases_add_up(lock: Lock) -> None:
    lease = acquired(lock)
    lock.block(lease, ["db-2", "db-1"])
    lock.block(lease, ["db-2", "db-3"])
    assert lock.read().blocked == {"db-1", "db-2", "db-3"}


# What is on record


@pytest.mark.parametrize(
    "change", [{"kind": ClaimKind.RECONCILE}, {"base_generation": 9}, {"rotation_id": "oci"}]
)
def test_a_claim_that_is_not_the_one_on_record_replaces_nothing(lock: Lock, change: dict[str, Any]) -> None:
    """What a forged record names is compared whole: a reconcile is not passed off as a new value (protocol L6)."""
    made = claim(lock, acquired(lock))
    lease = acquired(lock)
    forged = replace(lock.read(), claim=structs.replace(made, **change))
    with pytest.raises(FenceLostError):
        claim(lock, lease, claim_of(lease), over=forged)
    assert lock.read().claim == made


# Of another build


def test_an_older_build_gets_the_lease_of_a_newer_record_and_gives_it_back(lock: Lock) -> None:
    with build(NEWER):
        made = claim(lock, acquired(lock))
        before = lock.read()
    lease = acquired(lock, "oci-1", at=NOW + LEASE + SECOND)
    with pytest.raises(NewerFormatError):
        lock.read()
    with pytest.raises(NewerFormatError):
        lock.require(lease, made, promoting=False, now=NOW + LEASE)
    with pytest.raises(NewerFormatError):
        lock.begin_promotion(lease, made, now=NOW + LEASE)
    lock.release(lease, None)
    with build(NEWER):
        assert lock.read() == replace(before, holder=None, expires_at=None, fence=2)


# Who rotated


def test_only_a_rotation_names_its_run_in_the_record(lock: Lock) -> None:
    rotated(lock)
    assert lock.read().rotated_by == "aws-1"
    lock.release(acquired(lock, "oci-1", at=NOW + INTERVAL), None)
    assert lock.read().rotated_by == "aws-1"
    rotated(lock, at=NOW + INTERVAL, holder="oci-1")
    assert (lock.read().rotated_by, lock.read().rotated_at) == ("oci-1", NOW + INTERVAL)


# The whole table, as the watch reads it (protocol O14)

PAGE_BYTES = 1024 * 1024


@pytest.fixture(name="dynamodb")
def _dynamodb() -> Iterator[Any]:
    with AwsSandbox() as sandbox:
        client = sandbox_client(sandbox, "dynamodb")
        create_lock_table(client, TABLE)
        yield client


def put(dynamodb: Any, key: str, **attributes: Mapping[str, object]) -> None:  # noqa: ANN401 - as `aws_client`
    dynamodb.put_item(TableName=TABLE, Item={"credential_id": {"S": key}, **attributes})


def test_records_are_read_and_the_owners_of_accounts_are_left_out(dynamodb: Any) -> None:  # noqa: ANN401
    put(dynamodb, "a", plan={"S": "digest"}, paused={"BOOL": True})
    for account in accounts_of(CREDENTIAL):
        put(dynamodb, account.key, owner={"S": "a"})
    table = read_table(dynamodb, TABLE)
    assert set(table.records) == {"a"}
    assert (table.records["a"].plan, table.records["a"].paused) == ("digest", True)


def test_what_cannot_be_read_is_named_by_its_error_and_hides_nothing_else(dynamodb: Any) -> None:  # noqa: ANN401
    put(dynamodb, "readable")
    put(dynamodb, "malformed", fence={"S": "three"})
    put(dynamodb, "newer", format={"N": str(FORMAT + 1)})
    table = read_table(dynamodb, TABLE)
    assert set(table.records) == {"readable"}
    assert table.unreadable == {
        "malformed": "LockTableAccessDeniedError",
        "newer": "NewerFormatError",
    }


GARBAGE: tuple[object, ...] = (
    None,
    5,
    {},
    {"N": "x"},
    {"N": "9" * 5000},
    {"N": "99999999999999999"},
    {"S": 5},
    {"NS": [None]},
    {"SS": [5]},
    {"M": {"seq": {"N": "1"}}},
    {"BOOL": "y"},
)


def test_garbage_in_an_item_is_a_record_or_an_error_of_ours(dynamodb: Any) -> None:  # noqa: ANN401 - likewise
    put(dynamodb, CREDENTIAL.id, activate={"S": PLAN}, take_over={"SS": ["db-1"]}, blocked={"SS": ["db-2"]})
    lock = DynamoDbLock(dynamodb, TABLE, CREDENTIAL.id)
    promoting(lock, acquired(lock))
    found = dynamodb.get_item(TableName=TABLE, Key={"credential_id": {"S": CREDENTIAL.id}})["Item"]
    item = {**found, "head_aws": {"M": {"seq": {"N": "1"}, "hash": {"S": "d" * 64}}}}
    assert len(item) > 15
    for name in (*item, "current_generation", "revoke_through", "head_oci", "format"):
        for value in GARBAGE:
            try:
                record = record_of(CREDENTIAL.id, {**item, name: value})
            except NewerFormatError:
                assert name == "format"
            except LockTableAccessDeniedError:
                pass
            else:
                assert isinstance(record, LockRecord)


def test_a_table_of_several_pages_is_read_to_its_end(dynamodb: Any) -> None:  # noqa: ANN401 - likewise
    pages = []
    dynamodb.meta.events.register("after-call.dynamodb.Scan", lambda **_: pages.append(1))
    keys = {f"credential-{n}" for n in range(10)}
    for key in keys:
        put(dynamodb, key, foreign={"S": "x" * (PAGE_BYTES // 4)})
    assert set(read_table(dynamodb, TABLE).records) == keys
    assert len(pages) > 2
