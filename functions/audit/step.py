"""Audit: append one signed entry for this run to the runner's own stream (protocol I7, R4)."""

import math
from collections.abc import Sequence
from typing import overload

from lockstep import decide, plans
from lockstep.audit.append import Chain
from lockstep.audit.chain import fingerprint
from lockstep.audit.event import event_of
from lockstep.messages import (
    AuditRequest,
    DatabaseResult,
    FailedRun,
    Recorded,
    RecordedRotation,
    ReleaseValues,
    Revoked,
    RotatedRun,
)
from lockstep.model import ChainHead, Claim
from lockstep.ports import Ports

LOST_LOCK_LOOK_BACK = 4
"""How many runs may have taken a failed run's entry into the chain: without the lock, others run (protocol E9).

While the lock is held, only an overtaken run can have done so, to record its failure.
"""


@overload
def run(request: RotatedRun, ports: Ports) -> RecordedRotation: ...
@overload
def run(request: FailedRun, ports: Ports) -> Recorded: ...
def run(request: AuditRequest, ports: Ports) -> Recorded:
    """Record the rotation, or its failure.

    Returns:
        The place of the entry and, after a success, what ReleaseLock writes.

    Raises:
        FenceLostError: The run succeeded, but another run holds the lock (protocol E4).
        PlanNotActiveError: The run succeeded until now, but began under another plan.
        AuditConflictError: The log holds an entry that does not continue the chain (protocol E8).
        LostCompareAndSetError: Other runs append at the same time; try again.
    """
    if isinstance(request, FailedRun):
        head = _append(request, ports, mark=None)  # Without the lock (protocol E5).
        return Recorded(stream=ports.audit_log.stream, seq=head.seq, hash=head.hash)
    plans.require_same_plan(request.rotation, ports.credential)
    claim = request.claim
    record = ports.lock.require(request.rotation.lease, claim, promoting=True, now=ports.clock.now())
    head = _append(request, ports, mark=_fingerprint(ports, claim))
    release = decide.release_after(
        claim,
        record,
        ports.credential.schedule,
        dead=_dead_everywhere(request.databases) | _dead_everywhere(request.revoked),
        proven=tuple(d.database for d in request.databases),
        started=request.rotation.started_at,
        promoted=request.promoted_at,
    )
    return RecordedRotation(
        stream=ports.audit_log.stream,
        seq=head.seq,
        hash=head.hash,
        release=ReleaseValues(
            current_generation=release.current_generation,
            alive=tuple(sorted(release.alive)),
            proven=release.proven,
            next_due_at=int(release.next_due_at.timestamp()),
            not_before=math.ceil(release.not_before.timestamp()),  # The overlap is a promise.
        ),
    )


def _dead_everywhere(databases: Sequence[DatabaseResult] | Sequence[Revoked]) -> set[int]:
    """The generations that are dead on every database (protocol D9)."""
    dead = [{d.generation for d in database.dead} for database in databases]
    return set.intersection(*dead) if dead else set()


def _fingerprint(ports: Ports, claim: Claim) -> str | None:
    value = ports.stores.first.read_generation(claim.generation)
    if value is None:
        return None
    return fingerprint(
        value.login, credential_id=ports.credential.id, generation=claim.generation, signer=ports.signer
    )


def _append(request: AuditRequest, ports: Ports, *, mark: str | None) -> ChainHead:
    chain = Chain(
        credential_id=ports.credential.id, lock=ports.lock, log=ports.audit_log, signer=ports.signer
    )
    return chain.append(
        event_of(request, usernames=ports.credential.usernames, fingerprint=mark, now=ports.clock.now()),
        entry_id=request.rotation.rotation_id,
        look_back=LOST_LOCK_LOOK_BACK if isinstance(request, FailedRun) else 1,
        under=None if isinstance(request, FailedRun) else request.rotation.lease,
    )
