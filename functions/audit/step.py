"""Audit: append one signed entry for this run to the runner's own stream (protocol I7, R4).

The object is written only if its number is free (protocol E6). A retry that finds its own entry goes on (protocol E9).
The entry of a run that died between its write and the move of the head is taken into the chain first (protocol E7). The
head is moved by compare-and-set on itself, not under the fence, because a run that lost its lock still owes its record
(protocol L8).
"""

import math
from contextlib import suppress
from typing import overload

from lockstep import decide
from lockstep.audit.chain import NO_PREVIOUS, fingerprint, seal
from lockstep.audit.event import event_of
from lockstep.errors import AuditConflictError, LostCompareAndSetError
from lockstep.messages import AuditRequest, FailedRun, Recorded, RecordedRotation, ReleaseValues, RotatedRun
from lockstep.model import ChainHead, Claim, LockRecord
from lockstep.ports import EntrySummary, Ports

MAX_TRIES = 4
"""Entries of other runs that one append takes into the chain before it gives up with a retryable error."""


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
        AuditConflictError: The log holds an entry that does not continue the chain (protocol E8).
        LostCompareAndSetError: Other runs append at the same time; try again.
    """
    if isinstance(request, FailedRun):
        head = _append(request, ports, mark=None)  # Without the lock (protocol E5).
        return Recorded(stream=ports.audit_log.stream, seq=head.seq, hash=head.hash)
    claim = request.claim
    record = ports.lock.require(request.rotation.lease, claim, now=ports.clock.now())
    head = _append(request, ports, mark=_fingerprint(ports, claim))
    release = decide.release_after(
        claim,
        record,
        ports.credential.schedule,
        started=request.rotation.started_at,
        promoted=request.promoted_at,
    )
    return RecordedRotation(
        stream=ports.audit_log.stream,
        seq=head.seq,
        hash=head.hash,
        release=ReleaseValues(
            current_generation=release.current_generation,
            previous_generation=release.previous_generation,
            next_due_at=int(release.next_due_at.timestamp()),
            not_before=math.ceil(release.not_before.timestamp()),  # The overlap is a promise.
        ),
    )


def _fingerprint(ports: Ports, claim: Claim) -> str | None:
    value = ports.stores.first.read_generation(claim.generation)
    if value is None:
        return None
    return fingerprint(
        value.login, credential_id=ports.credential.id, generation=claim.generation, signer=ports.signer
    )


def _append(request: AuditRequest, ports: Ports, *, mark: str | None) -> ChainHead:
    stream, rotation_id = ports.audit_log.stream, request.rotation.rotation_id
    event = event_of(request, usernames=ports.credential.usernames, fingerprint=mark, now=ports.clock.now())
    for _ in range(MAX_TRIES):
        record = ports.lock.read()
        head = record.heads.get(stream)
        if head and head.rotation_id == rotation_id:
            return head
        if head and (own := _taken_in(request, ports, head)):
            return own
        body, summary = seal(
            event,
            credential_id=ports.credential.id,
            stream=stream,
            after=head,
            others={name: other for name, other in record.heads.items() if name != stream},
            signer=ports.signer,
            rotation_id=rotation_id,
        )
        standing = summary if ports.audit_log.put(body, summary) else _standing(ports, record, summary)
        moved = ChainHead(seq=standing.seq, hash=standing.hash, rotation_id=standing.rotation_id)
        with suppress(LostCompareAndSetError):
            # If this is lost, another run has moved the head to the same entry: the chain has no other continuation.
            ports.lock.move_head(stream, moved, after=head)
        if moved.rotation_id == rotation_id:
            return moved
    raise LostCompareAndSetError(stream=stream)


def _taken_in(request: AuditRequest, ports: Ports, head: ChainHead) -> ChainHead | None:
    """The entry of this run below the head: the reply was lost, and another run took it into the chain (protocol E9).

    While the lock is held, only an overtaken run can have done so, to record its failure. A run that has lost the lock
    may have been followed by several runs.
    """
    log, rotation_id = ports.audit_log, request.rotation.rotation_id
    deepest = head.seq - (MAX_TRIES if isinstance(request, FailedRun) else 1)
    found = (log.summary(seq) for seq in range(head.seq - 1, max(deepest - 1, 0), -1))
    own = next((s for s in found if s and s.rotation_id == rotation_id), None)
    return ChainHead(seq=own.seq, hash=own.hash, rotation_id=rotation_id) if own else None


def _standing(ports: Ports, record: LockRecord, refused: EntrySummary) -> EntrySummary:
    """The entry whose number ours wanted, if it continues the chain (protocol E7, E8)."""
    log = ports.audit_log
    # No head in the record, but entries in the log: the lock table was lost. The log's end is the head (protocol E10).
    lost_record = log.stream not in record.heads
    standing = log.summary(log.last_seq() if lost_record else refused.seq)
    if standing is None:
        raise LostCompareAndSetError(stream=log.stream, seq=refused.seq)
    if not lost_record and standing.previous_hash != refused.previous_hash:
        raise AuditConflictError(stream=log.stream, seq=refused.seq)
    if standing.seq == 1 and standing.previous_hash != NO_PREVIOUS:
        raise AuditConflictError(stream=log.stream, seq=standing.seq)
    return standing
