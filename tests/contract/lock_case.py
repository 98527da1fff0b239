"""What the tests of the lock record do with it, over every adapter."""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

from lockstep.protocol.model import Claim, ClaimKind, Lease, LockRecord, Release
from lockstep.protocol.ports import Lock
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
SECOND = timedelta(seconds=1)


PLAN = "of-the-active-plan"


def acquire(lock: Lock, holder: str = "aws-1", *, at: datetime = NOW, force: bool = False) -> Lease | None:
    acquired = lock.acquire(holder=holder, now=at, expires_at=at + LEASE, force=force)
    return acquired.lease if acquired else None


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
    alive: frozenset[int] | None = None,
    proven: tuple[str, ...] = ("db-1",),
) -> Release:
    return Release(
        current_generation=lease.fence,
        alive=alive or frozenset({lease.fence}),
        proven=proven,
        next_due_at=at + INTERVAL,
        not_before=at + OVERLAP,
    )


def rotated(lock: Lock, *, at: datetime = NOW) -> None:
    lease = acquired(lock, at=at)
    claim(lock, lease)
    lock.release(lease, done(lease, at=at))
