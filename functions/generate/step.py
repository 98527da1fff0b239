"""Generate: claim the one generation in flight and stage its value in every store.

1. Read what every store serves, and the lock record unless taking the lock has told it. If one cannot be read, stop:
   nothing was changed (protocol C1).
2. Compare the plan, and decide: adopt, begin, or reconcile.
3. Claim, under the fence: from here on the lock record names the generation (protocol C4). Beside it, look at what
   staging needs.
4. Stage the value, first in the store that decides what the value is, then in all others (protocol V1, V2).

Whether a store holds a value under the name of a new generation, staging finds out, and the value says for which claim
it was staged (protocol C3, V22).

No database accepts the value yet (protocol I2, M2), and this step has no access to a database: for a reconcile it asks
for a probe of the candidates and is called again.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from msgspec import structs

from lockstep.protocol import decide
from lockstep.protocol.decide import (
    next_username,
    require_active,
    require_not_blocked,
    require_same_plan,
)
from lockstep.protocol.errors import (
    FenceLostError,
    InvalidRequestError,
    LostCompareAndSetError,
    StagedValueConflictError,
    StoresDivergedError,
)
from lockstep.protocol.messages import (
    CandidateRef,
    GenerateRequest,
    GenerateResult,
    Hint,
    ProbeNeeded,
    Rotation,
    Staged,
)
from lockstep.protocol.model import (
    Claim,
    ClaimKind,
    CredentialValue,
    LockRecord,
    Login,
    StoredValue,
    StoreVersions,
)
from lockstep.protocol.workers import run_all
from lockstep.stores.credential import Ports

Served = Mapping[str, StoredValue]
Stage = Callable[[CredentialValue], tuple[StoreVersions, ...]]


def run(request: GenerateRequest, ports: Ports) -> GenerateResult:
    """Prepare the rotation.

    Returns:
        The claim, staged in every store; or the candidates to probe, for a reconcile.

    Raises:
        FenceLostError: Another run holds the lock.
        PlanNotActiveError: This runner's plan is not the active one.
        DatabaseBlockedError: A database is not asked any more until an operator says so.
        TakeOverNeededError: There are only placeholders, and no consent to take the accounts over.
        NewerFormatError: A newer build wrote the record or a secret; nothing was changed.
        StoresDivergedError: There is no login to try.
    """
    told = ports.lock.recall(request.rotation.lease, request.record) if request.record else None
    if told is None:
        served, record = run_all(ports.side_by_side, ports.stores.served, ports.lock.read)  # (1)
        return _prepared(request, ports, served, record)
    served = ports.stores.served()  # (1)
    # Another call of this step may have claimed since. Then the record is read, and decides (protocol L16).
    with suppress(FenceLostError, LostCompareAndSetError):
        return _prepared(request, ports, served, told)
    return _prepared(request, ports, served, ports.lock.read())


def _prepared(request: GenerateRequest, ports: Ports, served: Served, record: LockRecord) -> GenerateResult:
    plan = require_active(record, ports.credential)  # (2)
    head = record.heads.get(request.rotation.runner)
    rotation = structs.replace(
        request.rotation, plan=request.rotation.plan or plan, head=head.seq if head else None
    )
    require_same_plan(rotation, ports.credential)
    require_not_blocked(record, ports.credential)
    decision = decide.decide(record, served, plan=plan, databases=ports.databases, refused=request.refused)
    result = _carried_out(decision, rotation, ports, record, served, request.winner)
    if isinstance(result, ProbeNeeded):
        return result
    valid = record.valid | _generations(served)
    return structs.replace(
        result, hint=Hint(valid=tuple(sorted(valid)), take_over=tuple(sorted(record.take_over)))
    )


def _carried_out(
    decision: decide.Decision,
    rotation: Rotation,
    ports: Ports,
    record: LockRecord,
    served: Served,
    winner: CandidateRef | None,
) -> GenerateResult:
    match decision:
        case decide.Adopt(claim=claim):
            try:
                return _adopted(rotation, ports, claim, served)
            except StagedValueConflictError:
                # A foreign value stands under its name somewhere: no store can serve it yet, so it is replaced.
                return _begun(rotation, ports, record, served, claim.base_generation)
        case decide.Begin(base_generation=base_generation):
            return _begun(rotation, ports, record, served, base_generation)
        case decide.Reconcile():
            return _reconciled(rotation, ports, record, served, winner)


def _adopted(rotation: Rotation, ports: Ports, claim: Claim, served: Served) -> Staged:
    ports.lock.require(rotation.lease, claim, promoting=False, now=ports.clock.now())
    value = ports.stores.find_generation(claim.generation)
    if value is None:
        value = _new_value(ports, claim, _next_username(ports, served, claim))
    elif value.claim_id != claim.rotation_id:
        raise StagedValueConflictError(generation=claim.generation)
    adopted_from = claim.rotation_id if claim.rotation_id != rotation.rotation_id else None
    return _staged(rotation, claim, ports.stores.stage(value), adopted_from)


def _begun(
    rotation: Rotation, ports: Ports, record: LockRecord, served: Served, base_generation: int
) -> Staged:
    claim = _next_claim(rotation, record, served, ClaimKind.NEW, base_generation)
    username = _next_username(ports, served, claim)
    return _claimed_and_staged(
        rotation, ports, record, served, claim, lambda claimed: _new_value(ports, claimed, username)
    )


def _reconciled(
    rotation: Rotation, ports: Ports, record: LockRecord, served: Served, winner: CandidateRef | None
) -> GenerateResult:
    candidates = _candidates(ports, record, served)
    asked = tuple(name for name in ports.databases if name not in record.take_over)
    if not candidates:
        raise StoresDivergedError(credential=ports.credential.id)
    if winner is None and asked:
        return ProbeNeeded(rotation=rotation, databases=asked, candidates=tuple(candidates))
    winner = winner or candidates[0]
    if winner not in candidates:
        raise InvalidRequestError(credential=ports.credential.id)
    value = ports.stores.read_version(store=winner.store, version=winner.version)
    if value is None:
        raise LostCompareAndSetError(store=winner.store)

    def reconciled(claim: Claim) -> CredentialValue:
        return replace(value, generation=claim.generation, claim_id=claim.rotation_id)

    if own := _own_reconcile(rotation, ports, record, value.login):
        return _staged(rotation, own, ports.stores.stage(reconciled(own)))
    claim = _next_claim(rotation, record, served, ClaimKind.RECONCILE, value.generation)
    return _claimed_and_staged(rotation, ports, record, served, claim, reconciled)


def _own_reconcile(rotation: Rotation, ports: Ports, record: LockRecord, login: Login) -> Claim | None:
    """The claim that this run has made for the same login, before this step was tried again (protocol F4)."""
    claim = record.claim
    if claim is None or claim.kind is not ClaimKind.RECONCILE or claim.rotation_id != rotation.rotation_id:
        return None
    held = ports.stores.find_generation(claim.generation)
    is_another = held is not None and (held.login, held.claim_id) != (login, claim.rotation_id)
    if record.promoting or is_another:
        return None
    ports.lock.require(rotation.lease, claim, promoting=False, now=ports.clock.now())
    return claim


def _next_claim(
    rotation: Rotation, record: LockRecord, served: Served, kind: ClaimKind, base_generation: int
) -> Claim:
    return Claim(
        kind=kind,
        generation=decide.next_generation(rotation.lease, record, served.values()),
        base_generation=base_generation,
        rotation_id=rotation.rotation_id,
    )


def _claimed_and_staged(
    rotation: Rotation,
    ports: Ports,
    record: LockRecord,
    served: Served,
    claim: Claim,
    value_of: Callable[[Claim], CredentialValue],
) -> Staged:
    """(3), (4): claim, and stage.

    A value of another claim under the name was staged before the lock table was lost. It must not come back as the new
    value: by now its username may be the one that is current, and that account would be changed. So the claim is
    replaced once, by one under whose name no store holds a value (protocol C3, V22).
    """
    try:
        stage = _claimed(rotation, ports, record, served, claim, is_new=True)
        return _staged(rotation, claim, stage(value_of(claim)))
    except StagedValueConflictError:
        record, claim = _free_claim(ports, claim)
        stage = _claimed(rotation, ports, record, served, claim, is_new=False)
        return _staged(rotation, claim, stage(value_of(claim)))


def _claimed(
    rotation: Rotation, ports: Ports, record: LockRecord, served: Served, claim: Claim, *, is_new: bool
) -> Stage:
    """(3) Claim, and look beside that at what staging needs."""
    claimed = partial(
        ports.lock.claim,
        rotation.lease,
        claim,
        over=record,
        plan=ports.credential.plan_digest,
        served=_generations(served),
    )
    prepared = partial(ports.stores.prepare, claim.generation, is_new=is_new)
    return run_all(ports.side_by_side, claimed, prepared)[1]


def _free_claim(ports: Ports, taken: Claim) -> tuple[LockRecord, Claim]:
    """The record with the claim whose name is taken, and a claim under whose name no store holds a value."""
    record, claim = ports.lock.read(), taken
    if record.claim != taken:
        # Replaced in the meantime: a twin of this step is running (protocol F4).
        raise LostCompareAndSetError(generation=taken.generation)
    while ports.stores.find_generation(claim.generation):
        claim = structs.replace(claim, generation=claim.generation + 1)
    return record, claim


def _generations(served: Served) -> set[int]:
    """The generations that stores serve."""
    return {g for v in served.values() for g in (v.generation, v.blob_generation) if g}


def _candidates(ports: Ports, record: LockRecord, served: Served) -> list[CandidateRef]:
    """One version of each distinct login whose username the plan names, the best first (protocol C5)."""
    seen: list[Login] = []
    found = []
    places = decide.ranked_generations(record, served)
    for held in ports.side_by_side([partial(_candidate, ports, served, where) for where in places]):
        if held and held[1].username in ports.credential.usernames and held[1] not in seen:
            seen.append(held[1])
            found.append(held[0])
    return found


def _candidate(ports: Ports, served: Served, where: int | str) -> tuple[CandidateRef, Login] | None:
    if isinstance(where, str):
        login, version = served[where].login, served[where].version
        return (CandidateRef(store=where, version=version), login) if login else None
    holder = ports.stores.holder_of(where)
    value = holder.read_generation(where) if holder else None
    if holder is None or value is None:
        return None
    return CandidateRef(store=holder.name, version=holder.version_of(where)), value.login


def _next_username(ports: Ports, served: Served, claim: Claim) -> str:
    base = next((v.login for v in served.values() if v.generation == claim.base_generation), None)
    return next_username(ports.credential.usernames, base=base)


def _new_value(ports: Ports, claim: Claim, username: str) -> CredentialValue:
    password = ports.passwords.new_password(ports.credential.password_policy)
    return CredentialValue(claim.generation, Login(username, password), claim.rotation_id)


def _staged(
    rotation: Rotation, claim: Claim, seen: tuple[StoreVersions, ...], adopted_from: str | None = None
) -> Staged:
    return Staged(rotation=rotation, claim=claim, adopted_from=adopted_from, seen=seen)
