"""Audit: append one signed entry for this run to the runner's own stream (protocol I7, R4)."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import overload

from lockstep import decide, plans
from lockstep.audit import witness
from lockstep.audit.append import WITNESS, Chain
from lockstep.audit.chain import fingerprint
from lockstep.audit.event import event_of
from lockstep.audit.seal import Witnessed
from lockstep.errors import LockstepError
from lockstep.messages import (
    AuditRequest,
    DatabaseResult,
    FailedRun,
    Recorded,
    RecordedRotation,
    ReleaseValues,
    Revoked,
    RotatedRun,
    Run,
    SkippedRun,
    Witnessing,
)
from lockstep.model import ChainHead, Claim, LockRecord
from lockstep.ports import Ports

LOST_LOCK_LOOK_BACK = 4
"""How many runs may have taken a failed run's entry into the chain: without the lock, others run (protocol E9).

While the lock is held, only an overtaken run can have done so, to record its failure.
"""


@overload
def run(request: RotatedRun, ports: Ports) -> RecordedRotation: ...
@overload
def run(request: FailedRun, ports: Ports) -> Recorded: ...
@overload
def run(request: SkippedRun, ports: Ports) -> Witnessing: ...
def run(request: AuditRequest, ports: Ports) -> Recorded | Witnessing:
    """Record the rotation, or its failure; after a skip, witness the other log if that is due.

    Returns:
        The place of the entry and, after a success, what ReleaseLock writes.

    Raises:
        FenceLostError: The run succeeded, but another run holds the lock (protocol E4).
        PlanNotActiveError: The run succeeded until now, but began under another plan.
        AuditConflictError: The log holds too much that is no entry (protocol E8).
        LostCompareAndSetError: Other runs append at the same time; try again.
    """
    if isinstance(request, SkippedRun):
        return _witness(request, ports)
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


def _chain(ports: Ports) -> Chain:
    return Chain(
        credential_id=ports.credential.id,
        lock=ports.lock,
        log=ports.audit_log,
        signer=ports.signer,
        other_logs=ports.other_logs,
    )


def _append(request: Run, ports: Ports, *, mark: str | None) -> ChainHead:
    failed = isinstance(request, FailedRun)
    return _chain(ports).append(
        event_of(request, usernames=ports.credential.usernames, fingerprint=mark, now=ports.clock.now()),
        entry_id=request.rotation.rotation_id,
        look_back=LOST_LOCK_LOOK_BACK if failed else 1,
        under=None if failed else request.rotation.lease,
        # A failure is owed soon.
        witnesses=(lambda _record, _known: {}) if failed else partial(_seen, ports),
    )


def _seen(ports: Ports, record: LockRecord, known: Mapping[str, Witnessed]) -> Mapping[str, Witnessed]:
    """The other streams, if they are due and answer: an entry that is owed does not wait for them (protocol E15)."""
    with suppress(LockstepError):
        return witness.look_at(ports.other_logs(), record.heads, known, ports.clock)
    return {}


def _witness(request: SkippedRun, ports: Ports) -> Witnessing:
    stream, now, chain = ports.audit_log.stream, ports.clock.now(), _chain(ports)
    if not ports.other_logs():
        return Witnessing(stream=stream, seq=None)
    record = ports.lock.read()
    last = chain.ends.find(record.heads, taken=False).after
    known = last.seal.witness if last and last.seal else {}
    seen = _seen(ports, record, known)
    if not _has_grown(ports, seen, known):
        return Witnessing(stream=stream, seq=None)
    entry_id = f"{WITNESS}{request.rotation.rotation_id}"
    event = witness.event_of_witness(
        entry_id=entry_id,
        credential_id=ports.credential.id,
        stream=stream,
        seen=seen,
        serves=ports.home_store.generation(),
        now=now,
    )
    head = chain.append(event, entry_id=entry_id, look_back=1, witnesses=lambda _record, _known: seen)
    return Witnessing(stream=stream, seq=head.seq)


def _has_grown(ports: Ports, seen: Mapping[str, Witnessed], known: Mapping[str, Witnessed]) -> bool:
    with suppress(LockstepError):
        logs = [log for log in ports.other_logs() if log.stream in seen]
        return any(witness.has_grown(log, seen[log.stream], known.get(log.stream)) for log in logs)
    return False
