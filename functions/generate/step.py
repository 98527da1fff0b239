"""Generate: claim the one generation in flight and stage its value in every store.

1. Read what every store serves. If a store cannot be read, stop: nothing was changed (protocol C1).
2. From the lock record, as taking the lock has told it or as it is read, compare the plan, and decide: adopt, begin, or
   heal.
3. Claim, under the fence: from here on the lock record names the generation (protocol C4).
4. Stage the value in every store, in the plan's order. The first store decides what the value is (protocol V1, V2).

No database accepts the value yet (protocol I2, M2), and this step has no access to a database: for a heal it asks for a
probe of the candidates and is called again.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from lockstep import decide, formats, plans
from lockstep.errors import (
    FenceLostError,
    InvalidRequestError,
    LostCompareAndSetError,
    StagedValueConflictError,
    StoresDivergedError,
)
from lockstep.messages import (
    CandidateRef,
    GenerateRequest,
    GenerateResult,
    Hint,
    ProbeNeeded,
    Rotation,
    Staged,
)
from lockstep.model import Claim, ClaimKind, CredentialValue, LockRecord, Login, StoredValue
from lockstep.ports import Ports
from lockstep.usernames import next_username, staged_usernames

Served = Mapping[str, StoredValue]


def run(request: GenerateRequest, ports: Ports) -> GenerateResult:
    """Prepare the rotation.

    Returns:
        The claim, staged in every store; or the candidates to probe, for a heal.

    Raises:
        FenceLostError: Another run holds the lock.
        PlanNotActiveError: This runner's plan is not the active one.
        DatabaseMutedError: A database is not asked any more until an operator says so.
        EnrolmentNeededError: There are only placeholders, and no consent to take the accounts over.
        NewerFormatError: A newer build wrote the record or a secret; nothing was changed.
        StoresDivergedError: There is no login to try.
    """
    served = ports.stores.served()  # (1)
    told = ports.lock.recall(request.rotation.lease, request.record) if request.record else None
    if told:
        # Another call of this step may have claimed since. Then the record is read, and decides (protocol L16).
        with suppress(FenceLostError, LostCompareAndSetError):
            return _prepared(request, ports, served, told)
    return _prepared(request, ports, served, ports.lock.read())


def _prepared(request: GenerateRequest, ports: Ports, served: Served, record: LockRecord) -> GenerateResult:
    plan = plans.require_active(record, ports.credential)  # (2)
    head = record.heads.get(request.rotation.runner)
    rotation = request.rotation.model_copy(
        update={"plan": request.rotation.plan or plan, "head": head.seq if head else None}
    )
    plans.require_same_plan(rotation, ports.credential)
    plans.require_audible(record, ports.credential)
    decision = decide.decide(record, served, plan=plan, databases=ports.databases, refused=request.refused)
    result = _carried_out(decision, rotation, ports, record, served, request.winner)
    if isinstance(result, ProbeNeeded):
        return result
    alive = record.alive | _generations(served)
    return result.model_copy(
        update={"hint": Hint(alive=tuple(sorted(alive)), enrol=tuple(sorted(record.enrol)))}
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
                return _adopted(rotation, ports, claim)
            except StagedValueConflictError:
                # A foreign value stands under its name somewhere: no store can serve it yet, so it is replaced.
                return _begun(rotation, ports, record, served, claim.base_generation)
        case decide.Begin(base_generation=base_generation):
            return _begun(rotation, ports, record, served, base_generation)
        case decide.Heal():
            return _healed(rotation, ports, record, served, winner)


def _adopted(rotation: Rotation, ports: Ports, claim: Claim) -> Staged:
    ports.lock.require(rotation.lease, claim, promoting=False, now=ports.clock.now())
    value = ports.stores.find_generation(claim.generation) or _new_value(ports, claim)
    adopted_from = claim.rotation_id if claim.rotation_id != rotation.rotation_id else None
    return _staged(rotation, ports, claim, value, adopted_from)


def _begun(
    rotation: Rotation, ports: Ports, record: LockRecord, served: Served, base_generation: int
) -> Staged:
    claim = _claimed(rotation, ports, record, served, ClaimKind.NEW, base_generation)
    return _staged(rotation, ports, claim, _new_value(ports, claim))


def _healed(
    rotation: Rotation, ports: Ports, record: LockRecord, served: Served, winner: CandidateRef | None
) -> GenerateResult:
    candidates = _candidates(ports, record, served)
    asked = tuple(name for name in ports.databases if name not in record.enrol)
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
    claim = _own_heal(rotation, ports, record, value.login) or _claimed(
        rotation, ports, record, served, ClaimKind.HEAL, value.generation
    )
    return _staged(rotation, ports, claim, replace(value, generation=claim.generation))


def _own_heal(rotation: Rotation, ports: Ports, record: LockRecord, login: Login) -> Claim | None:
    """The claim that this run has made for the same login, before this step was tried again (protocol F4)."""
    claim = record.claim
    if claim is None or claim.kind is not ClaimKind.HEAL or claim.rotation_id != rotation.rotation_id:
        return None
    held = ports.stores.find_generation(claim.generation)
    if record.promoting or record.format != formats.FORMAT or (held and held.login != login):
        return None
    ports.lock.require(rotation.lease, claim, promoting=False, now=ports.clock.now())
    return claim


def _claimed(
    rotation: Rotation,
    ports: Ports,
    record: LockRecord,
    served: Served,
    kind: ClaimKind,
    base_generation: int,
) -> Claim:
    """(3) Claim a generation whose name no store holds yet (protocol C3).

    A value under a name that was never claimed was staged before the lock table was lost. It must not come back as the
    new value: by now its username may be the one that is current, and that account would be changed.
    """
    claim = Claim(
        kind=kind,
        generation=decide.next_generation(rotation.lease, record, served.values()),
        base_generation=base_generation,
        rotation_id=rotation.rotation_id,
    )
    while ports.stores.find_generation(claim.generation):
        if ports.lock.read().claim != record.claim:
            # Claimed in the meantime: a twin of this step is running (protocol F4).
            raise LostCompareAndSetError(credential=ports.credential.id, generation=claim.generation)
        claim = replace(claim, generation=claim.generation + 1)
    ports.lock.claim(
        rotation.lease, claim, over=record, plan=ports.credential.plan_digest, served=_generations(served)
    )
    return claim


def _generations(served: Served) -> set[int]:
    """The generations that stores serve."""
    return {g for v in served.values() for g in (v.generation, v.blob_generation) if g}


def _candidates(ports: Ports, record: LockRecord, served: Served) -> list[CandidateRef]:
    """One version of each distinct login whose username the plan names, the best first (protocol C5)."""
    seen: list[Login] = []
    found = []
    for where in decide.ranked_generations(record, served):
        if isinstance(where, str):
            login, store, version = served[where].login, where, served[where].version
        elif holder := ports.stores.holder_of(where):
            value = holder.read_generation(where)
            login = value.login if value else None
            store, version = holder.name, holder.version_of(where)
        else:
            continue
        if login and login.username in ports.credential.usernames and login not in seen:
            seen.append(login)
            found.append(CandidateRef(store=store, version=version))
    return found


def _new_value(ports: Ports, claim: Claim) -> CredentialValue:
    base = ports.stores.find_generation(claim.base_generation) if claim.base_generation else None
    username = next_username(
        ports.credential.usernames,
        base=base.login if base else None,
        served=ports.stores.served_logins(),
        staged=staged_usernames(ports.stores.first, highest=claim.generation - 1),
    )
    return CredentialValue(
        claim.generation, Login(username, ports.passwords.new_password(ports.credential.password_policy))
    )


def _staged(
    rotation: Rotation, ports: Ports, claim: Claim, value: CredentialValue, adopted_from: str | None = None
) -> Staged:
    ports.stores.stage(value)  # (4)
    return Staged(rotation=rotation, claim=claim, adopted_from=adopted_from)
