"""A credential's lock record in memory."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta

from lockstep.protocol import model
from lockstep.protocol.errors import FenceLostError
from lockstep.protocol.lock_rule import has_lease, is_in_time, reason_against
from lockstep.protocol.messages import Recorded
from lockstep.protocol.model import ChainHead, Claim, Lease, LockRecord, Release
from lockstep.protocol.orders import (
    Activate,
    CancelTakeOver,
    Order,
    Pause,
    Resume,
    Revoke,
    TakeOver,
)
from tests.support.faults import Faults


def ordered(record: LockRecord, order: Order) -> LockRecord:  # noqa: PLR0911 - a case for each order
    """The record with an order in it, as the lock table has it; the same record where the table refuses it."""
    match order:
        case Pause():
            return replace(record, paused=True)
        case Resume():
            return replace(record, paused=False)
        case Revoke(lift_pause=lifts, without=without):
            if record.paused and not lifts:
                return record
            return replace(
                record,
                revoke_through=record.highest_generation,
                paused=False,
                take_over=record.take_over | without,
            )
        case TakeOver(databases=names):
            return replace(record, take_over=record.take_over | names)
        case CancelTakeOver(databases=names):
            return replace(record, take_over=record.take_over - names)
        case Activate(digest=digest, replaces=replaces):
            if record.plan != replaces:
                return record
            return replace(record, activate=None if digest == replaces else digest)


class MemoryLock:
    """The lock record, with the conditions of the DynamoDB table."""

    def __init__(self, credential_id: str) -> None:
        self.faults = Faults()
        self.record = LockRecord(credential_id=credential_id)
        self.format = model.FORMAT

    def read(self) -> LockRecord:
        with self.faults.around("read"):
            return self._readable()

    def acquire(
        self,
        *,
        holder: str,
        now: datetime,
        expires_at: datetime,
        force: bool,
        due_by: datetime | None = None,
        interval: timedelta | None = None,
    ) -> Lease | None:
        with self.faults.around("acquire"):
            r = self.record
            asked = {"now": now, "holder": holder, "is_forced": force, "due_by": due_by, "interval": interval}
            if reason_against(r, **asked):  # type: ignore[arg-type]  # as it has
                return None
            self.record = replace(r, holder=holder, expires_at=expires_at, fence=r.fence + 1)
            return Lease(credential_id=r.credential_id, holder=holder, fence=self.record.fence)

    def claim(
        self, lease: Lease, claim: Claim, *, over: LockRecord, plan: str, served: Collection[int]
    ) -> None:
        with self.faults.around("claim"):
            r = self.record
            if self._held(lease) and r.claim == claim:
                return
            as_seen = (r.claim, r.promoting) == (over.claim, over.promoting)
            activates = over.activate == plan
            is_newest = r.highest_generation < claim.generation
            is_under = self._is_under(plan, activates=activates)
            if not (self._held(lease) and as_seen and is_newest and is_under):
                raise FenceLostError(credential=lease.credential_id, generation=claim.generation)
            self.format = model.FORMAT
            self.record = replace(
                r,
                claim=claim,
                promoting=False,
                plan=plan,
                activate=None if activates else r.activate,
                valid=r.valid.union(served),
                revoke_through=claim.generation if over.raises_order(claim) else r.revoke_through,
                highest_generation=claim.generation,
            )

    def begin_promotion(self, lease: Lease, claim: Claim, *, now: datetime) -> LockRecord:
        with self.faults.around("begin_promotion"):
            r = self._readable()
            if not (self._held(lease) and is_in_time(r, now) and r.claim == claim):
                raise FenceLostError(credential=lease.credential_id, generation=claim.generation)
            self.record = replace(r, promoting=True, valid=r.valid | {claim.generation})
            return self.record

    def require(self, lease: Lease, claim: Claim, *, promoting: bool, now: datetime) -> LockRecord:
        with self.faults.around("require"):
            r = self._readable()
            in_flight = (r.claim, r.promoting) == (claim, promoting)
            if not (self._held(lease) and is_in_time(r, now) and in_flight):
                raise FenceLostError(credential=lease.credential_id, generation=claim.generation)
            return r

    def require_lease(self, lease: Lease, *, now: datetime) -> LockRecord:
        with self.faults.around("require_lease"):
            if not (self._held(lease) and is_in_time(self.record, now)):
                raise FenceLostError(credential=lease.credential_id)
            return self._readable()

    def release(
        self,
        lease: Lease,
        done: Release | None,
        *,
        entry: Recorded | None = None,
        proven: Collection[str] = (),
    ) -> None:
        with self.faults.around("release"):
            r = self.record
            is_given_back = r.holder is None and (not done or r.rotated_by == lease.holder)
            if r.fence != lease.fence or not (r.holder == lease.holder or is_given_back):
                raise FenceLostError(credential=lease.credential_id)
            heads = dict(r.heads)
            if entry:
                heads[entry.stream] = ChainHead(seq=entry.seq, hash=entry.hash)
            left = r.take_over.difference(done.proven if done else proven)
            self.record = replace(r, holder=None, expires_at=None, heads=heads, take_over=left)
            if done:
                self.record = replace(
                    self.record,
                    rotated_by=lease.holder,
                    rotated_at=done.rotated_at,
                    claim=None,
                    promoting=False,
                    current_generation=done.current_generation,
                    valid=done.valid,
                    next_due_at=done.next_due_at,
                    not_before=done.not_before,
                )

    def _readable(self) -> LockRecord:
        model.require_known(self.format, credential=self.record.credential_id)
        return self.record

    def _is_under(self, plan: str, *, activates: bool) -> bool:
        return plan == (self.record.activate if activates else self.record.plan)

    def _held(self, lease: Lease) -> bool:
        return has_lease(self.record, lease)
