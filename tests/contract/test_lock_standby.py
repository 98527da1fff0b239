"""What AWS writes about itself into the lock record, and when the standby acquires (protocol R8)."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from lockstep.protocol.model import AwsSigns, Lease, Release, Schedule
from lockstep.protocol.ports import Lock
from lockstep.protocol.schedule import bounds, yields
from tests.contract.aws_fixtures import aws_lock
from tests.contract.harness import LockHarness
from tests.contract.memory_fixtures import memory_lock

FACTORIES = {"memory": memory_lock, "aws": aws_lock}
NOW = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
INTERVAL = timedelta(minutes=20)
SCHEDULE = Schedule(
    interval=INTERVAL, overlap=timedelta(minutes=16), tolerance=timedelta(minutes=2), phase=timedelta()
)
LEASE = timedelta(minutes=7)


@pytest.fixture(params=FACTORIES)
def world(request: pytest.FixtureRequest) -> Iterator[LockHarness]:
    with FACTORIES[request.param]() as harness:
        yield harness


@pytest.fixture
def lock(world: LockHarness) -> Lock:
    return world.lock


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def begun(lock: Lock, *, at: datetime) -> Lease:
    """A run of AWS that has acquired the lock."""
    acquired = lock.acquire(holder="aws-1", now=at, expires_at=at + LEASE, force=True, leads=True)
    assert acquired
    return acquired.lease


def done(lease: Lease, *, due: datetime, led_at: datetime | None = None) -> Release:
    return Release(
        current_generation=lease.fence,
        alive=frozenset({lease.fence}),
        proven=("db-1",),
        next_due_at=due,
        not_before=ago(1000),
        led_at=led_at,
    )


def finished(lock: Lock, *, at: datetime, due: datetime) -> None:
    lock.release(lease := begun(lock, at=at), done(lease, due=due, led_at=at))


def standby(lock: Lock) -> Lease | None:
    acquired = lock.acquire(
        holder="oci-1", now=NOW, expires_at=NOW + LEASE, force=False, limits=bounds(SCHEDULE, NOW)
    )
    return acquired.lease if acquired else None


def test_a_run_of_aws_leaves_its_sign_with_the_lock_and_only_a_success_takes_it_back(lock: Lock) -> None:
    lease = begun(lock, at=ago(50))
    assert lock.read().aws == AwsSigns(began_at=ago(50))
    lock.release(lease, None)
    assert lock.read().aws == AwsSigns(began_at=ago(50))
    lock.note_skip(ago(30))
    assert lock.read().aws == AwsSigns(began_at=ago(50), seen_at=ago(30))
    finished(lock, at=ago(10), due=NOW)
    assert lock.read().aws == AwsSigns(seen_at=ago(10))


def test_a_run_of_the_standby_or_of_an_operator_leaves_no_sign(lock: Lock) -> None:
    finished(lock, at=ago(50), due=ago(40))
    before = lock.read().aws
    lease = standby(lock)
    assert lease
    lock.release(lease, done(lease, due=ago(2)))
    taken = lock.acquire(holder="operator", now=NOW, expires_at=NOW + LEASE, force=True)
    assert taken
    lock.release(taken.lease, done(taken.lease, due=ago(2)))
    assert lock.read().aws == before


def test_a_lost_reply_of_the_release_can_be_repeated(lock: Lock) -> None:
    lease = begun(lock, at=ago(10))
    for at in (9, 8):
        lock.release(lease, done(lease, due=NOW, led_at=ago(at)))
    assert lock.read().aws == AwsSigns(seen_at=ago(8))


@pytest.mark.parametrize(
    ("seen", "began", "due"), list(product((None, 10, 20, 30), (None, 10, 59, 60), (2, 10, 12)))
)
def test_the_standby_acquires_what_the_rule_does_not_leave_to_aws(
    lock: Lock, seen: int | None, began: int | None, due: int
) -> None:
    first = lock.acquire(holder="first", now=ago(90), expires_at=ago(80), force=True)
    assert first
    lock.release(first.lease, done(first.lease, due=ago(due)))
    if seen is not None:
        finished(lock, at=ago(seen), due=ago(due))
    if began is not None:
        lock.release(begun(lock, at=ago(began)), None)
    record = lock.read()
    assert record.aws == AwsSigns(
        seen_at=None if seen is None else ago(seen), began_at=None if began is None else ago(began)
    )
    left = yields(record.aws, record.next_due_at, bounds(SCHEDULE, NOW))
    assert (standby(lock) is None) is left


def test_the_standby_yields_only_to_an_aws_that_was_not_called_since(lock: Lock) -> None:
    finished(lock, at=ago(10), due=ago(2))
    assert standby(lock) is None
    lock.release(lease := begun(lock, at=ago(10)), None)
    assert standby(lock)
    assert lock.read().fence == lease.fence + 1


def test_the_standby_leaves_no_credential_that_was_never_rotated(lock: Lock) -> None:
    lock.note_skip(ago(1))
    assert standby(lock)


def test_aws_and_operators_leave_nothing(lock: Lock) -> None:
    finished(lock, at=ago(10), due=ago(2))
    assert lock.acquire(holder="aws-2", now=NOW, expires_at=NOW + LEASE, force=False, leads=True)
