"""Audit: append one signed entry for this run to the runner's own stream (protocol I7, R1)."""

from collections.abc import Sequence
from functools import partial
from typing import overload

from lockstep.audit.append import Chain
from lockstep.audit.entry import Stored, event_of
from lockstep.protocol import decide
from lockstep.protocol.decide import require_same_plan
from lockstep.protocol.lock_rule import believed
from lockstep.protocol.messages import (
    DatabaseResult,
    Entry,
    FailedRun,
    Promoted,
    Recorded,
    RecordedRotation,
    Revoked,
    RotatedRun,
    Run,
)
from lockstep.protocol.model import ChainHead, ClaimKind, LockRecord, Release
from lockstep.protocol.workers import run_all
from lockstep.stores.credential import Ports

LOST_LOCK_LOOK_BACK = 4
"""How many runs may have taken a failed run's entry into the chain: without the lock, others run (protocol E9).

While the lock is held, only an overtaken run can have done so, to record its failure.
"""


@overload
def run(request: RotatedRun, ports: Ports) -> RecordedRotation: ...
@overload
def run(request: FailedRun, ports: Ports) -> Recorded: ...
def run(request: Run, ports: Ports) -> Recorded:
    """Record the rotation, or its failure.

    Returns:
        The place of the entry, to which the release moves the head, and, after a success, what ReleaseLock writes
        beside and what others are told.

    Raises:
        FenceLostError: The run succeeded, but another run holds the lock (protocol E4).
        PlanNotActiveError: The run succeeded until now, but began under another plan.
        LostCompareAndSetError: Other runs append at the same time; try again.
    """
    chain = Chain(
        credential_id=ports.credential.id, lock=ports.lock, log=ports.audit_log, signer=ports.signer
    )
    ahead = partial(_head_ahead, chain, request.rotation.head)
    if isinstance(request, FailedRun):  # Without the lock (protocol E4).
        record, at = run_all(ports.side_by_side, ports.lock.read, ahead)
        head = _append(request, ports, chain, record, at)
        return Recorded(stream=request.rotation.runner, seq=head.seq, hash=head.hash)
    require_same_plan(request.rotation, ports.credential)
    claim = request.claim
    record, at, _ = run_all(
        ports.side_by_side,
        partial(ports.lock.require, request.rotation.lease, claim, promoting=True, now=ports.clock.now()),
        ahead,
        ports.signer.prepare,
    )
    head = _append(request, ports, chain, record, at)
    release = decide.release_after(
        claim,
        believed(record, ports.clock.now(), ports.credential.schedule.interval),
        ports.credential.schedule,
        revoked=_revoked_everywhere(request.databases) | _revoked_everywhere(request.revoked),
        proven=_proven(request),
        started=request.rotation.started_at,
        promoted=request.promoted_at,
    )
    return RecordedRotation(
        stream=request.rotation.runner,
        seq=head.seq,
        hash=head.hash,
        release=release,
        promoted=_promoted(request, release, head),
    )


def _promoted(request: RotatedRun, release: Release, head: ChainHead) -> Promoted:
    rotation, claim, revoked = request.rotation, request.claim, bool(request.revoked)
    return Promoted(
        credential=rotation.credential_id,
        runner=rotation.runner,
        rotation=rotation.rotation_id,
        trigger=rotation.trigger,
        kind=claim.kind.value,
        generation=claim.generation,
        previous_generation=claim.base_generation,
        stores=tuple(store.store for store in request.stores),
        promoted_at=request.promoted_at,
        overlap_ends_at=None if revoked or claim.kind is not ClaimKind.NEW else release.not_before,
        revoked=revoked,
        adopted=request.adopted_from is not None,
        entry=Entry(stream=rotation.runner, seq=head.seq),
    )


def _proven(request: RotatedRun) -> tuple[str, ...]:
    """The databases that need no consent any more: those that take part in all that the run has done."""
    revoked = {one.database for one in request.revoked}
    return tuple(d.database for d in request.databases if not revoked or d.database in revoked)


def _revoked_everywhere(databases: Sequence[DatabaseResult] | Sequence[Revoked]) -> set[int]:
    """The generations that are revoked on every database that the run has not passed over (protocol D9, O5)."""
    revoked = [{d.generation for d in database.revoked} for database in databases]
    return set.intersection(*revoked) if revoked else set()


def _head_ahead(chain: Chain, number: int | None) -> Stored | None:
    """The object that the head named when the run began: as a rule the record names it still (protocol E6)."""
    return None if number is None else chain.look(number)


def _append(request: Run, ports: Ports, chain: Chain, record: LockRecord, at: Stored | None) -> ChainHead:
    failed = isinstance(request, FailedRun)
    return chain.append(
        event_of(request, usernames=ports.credential.usernames, now=ports.clock.now()),
        entry_id=request.rotation.rotation_id,
        look_back=LOST_LOCK_LOOK_BACK if failed else 1,
        record=record,
        seen=at,
        began_at=request.rotation.head,
        under=None if failed else request.rotation.lease,
    )
