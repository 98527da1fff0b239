"""Generate: claim the one generation in flight and stage its value in every store.

1. Read what every store serves, and the lock record. If one cannot be read, stop: nothing was changed (protocol C1).
2. Compare the plan, and decide: adopt, begin, or reconcile.
3. Claim, under the fence: from here on the lock record names the generation (protocol C4). Beside it, look at what
   staging needs.
4. Stage the value, first in the store that decides what the value is, then in all others (protocol V1).

Whether a store holds a value under the name of a new generation, staging finds out, and the value says for which claim
it was staged (protocol C3, V22).

No database accepts the value yet (protocol I2, M2), and this step has no access to a database: for a reconcile it asks
for a search among the candidates and is called again.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from msgspec import structs

from lockstep.protocol import decide
from lockstep.protocol.decide import (
    next_username,
    require_active,
    require_not_blocked,
    require_plausible,
    require_same_plan,
)
from lockstep.protocol.errors import (
    InvalidRequestError,
    LostCompareAndSetError,
    StagedValueConflictError,
    StoresDivergedError,
)
from lockstep.protocol.messages import (
    Candidate,
    CandidateRef,
    GenerateRequest,
    GenerateResult,
    NothingToDo,
    ProbeRequest,
    ProbeResult,
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
        The claim, staged in every store; the candidates to search among, for a reconcile; or that nothing is to be
        done yet.

    Raises:
        FenceLostError: Another run holds the lock.
        PlanNotActiveError: This runner's plan is not the active one.
        DatabaseBlockedError: A database is not asked any more until an operator says so.
        TakeOverNeededError: There are only placeholders, and no consent to take the accounts over.
        NewerFormatError: A newer build wrote the record or a secret; nothing was changed.
        StoresDivergedError: There is no login to try.
    """
    served, record = run_all(ports.side_by_side, ports.stores.served, ports.lock.read)  # (1)
    plan = require_active(record, ports.credential)  # (2)
    head = record.heads.get(request.rotation.runner)
    rotation = structs.replace(
        request.rotation,
        plan=request.rotation.plan or plan,
        head=head.seq if head else None,
        without=tuple(sorted(record.left_out)),
    )
    require_same_plan(rotation, ports.credential)
    require_not_blocked(record, ports.credential)
    require_plausible(record, served)
    decision = decide.decide(
        record,
        served,
        plan=plan,
        databases=ports.databases,
        now=ports.clock.now(),
        is_refused=bool(request.refused),
    )
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
            if request.found is None:
                return _search(structs.replace(request, rotation=rotation), ports, record, served)
            return _reconciled(rotation, ports, record, served, request.found)


def _adopted(rotation: Rotation, ports: Ports, claim: Claim, served: Served) -> Staged:
    ports.lock.require(rotation.lease, claim, promoting=False, now=ports.clock.now())
    value = ports.stores.find_generation(claim.generation)
    if value is None:
        value = _new_value(ports, claim, _next_username(ports, served, claim))
    elif value.claim_id != claim.rotation_id:
        raise StagedValueConflictError(generation=claim.generation)
    return _staged(rotation, claim, ports.stores.stage(value))


def _begun(
    rotation: Rotation, ports: Ports, record: LockRecord, served: Served, base_generation: int
) -> Staged:
    claim = _next_claim(rotation, record, served, ClaimKind.NEW, base_generation)
    username = _next_username(ports, served, claim)
    return _claimed_and_staged(
        rotation,
        ports,
        record,
        _generations(served),
        claim,
        lambda claimed: _new_value(ports, claimed, username),
    )


def _search(request: GenerateRequest, ports: Ports, record: LockRecord, served: Served) -> ProbeRequest:
    candidates = _candidates(ports, record, served)
    if not candidates:
        raise StoresDivergedError(credential=ports.credential.id)
    return ProbeRequest(rotation=request.rotation, candidates=candidates, refused=request.refused)


def _reconciled(
    rotation: Rotation, ports: Ports, record: LockRecord, served: Served, found: ProbeResult
) -> GenerateResult:
    """Serve from every store what the search has found; or finish a claim that does, or nothing, where all do."""
    plan = ports.credential.plan_digest
    value = ports.stores.read_version(store=found.winner.store, version=found.winner.version)
    if value is None:
        raise LostCompareAndSetError(store=found.winner.store)
    if value.login.username not in ports.credential.usernames:
        raise InvalidRequestError(credential=ports.credential.id)
    in_flight = ports.stores.find_generation(record.claim.generation) if record.claim else None
    is_known = record.valid.issuperset(found.accepted)
    claim = decide.can_finish(record, served, plan=plan, held=in_flight, winner=value.login)
    if claim and is_known and not (record.promoting and found.beside):
        with suppress(StagedValueConflictError):
            if not ports.stores.lacks_keys(claim.generation):
                return _finished(rotation, ports, record, claim, value, found)
    is_served = all(v.login == value.login for v in served.values())
    is_over = is_served and not (record.is_half_done or found.beside)
    if is_over and is_known and decide.is_as_recorded(record, served, plan=plan):
        return NothingToDo(rotation=rotation)
    staged = _claimed_and_staged(
        rotation,
        ports,
        record,
        _generations(served).union(found.accepted),
        _next_claim(rotation, record, served, ClaimKind.RECONCILE, value.generation),
        lambda claim: replace(value, generation=claim.generation, claim_id=claim.rotation_id),
    )
    return structs.replace(staged, beside=found.beside)


def _finished(
    rotation: Rotation,
    ports: Ports,
    record: LockRecord,
    claim: Claim,
    value: CredentialValue,
    found: ProbeResult,
) -> Staged:
    """The claim in flight gives what the search has found: it is staged where a store lacks it."""
    ports.lock.require(rotation.lease, claim, promoting=record.promoting, now=ports.clock.now())
    seen = ports.stores.stage(replace(value, generation=claim.generation, claim_id=claim.rotation_id))
    staged = _staged(rotation, claim, seen)
    return structs.replace(staged, promoting=record.promoting, beside=found.beside)


def _next_claim(
    rotation: Rotation, record: LockRecord, served: Served, kind: ClaimKind, base_generation: int
) -> Claim:
    return Claim(
        kind=kind,
        generation=decide.next_generation(record, served.values()),
        base_generation=base_generation,
        rotation_id=rotation.rotation_id,
    )


def _claimed_and_staged(
    rotation: Rotation,
    ports: Ports,
    record: LockRecord,
    valid: Collection[int],
    claim: Claim,
    value_of: Callable[[Claim], CredentialValue],
) -> Staged:
    """(3), (4): claim, and stage.

    A value of another claim under the name was staged before the lock table was lost. It must not come back as the new
    value: by now its username may be the one that is current, and that account would be changed. So the claim is
    replaced once, by one under whose name no store holds a value (protocol C3, V22).
    """
    try:
        stage = _claimed(rotation, ports, record, valid, claim, is_new=True)
        return _staged(rotation, claim, stage(value_of(claim)))
    except StagedValueConflictError:
        record, claim = _free_claim(ports, claim)
        stage = _claimed(rotation, ports, record, valid, claim, is_new=False)
        return _staged(rotation, claim, stage(value_of(claim)))


def _claimed(
    rotation: Rotation,
    ports: Ports,
    record: LockRecord,
    valid: Collection[int],
    claim: Claim,
    *,
    is_new: bool,
) -> Stage:
    """(3) Claim, and look beside that at what staging needs."""
    claimed = partial(
        ports.lock.claim,
        rotation.lease,
        claim,
        over=record,
        plan=ports.credential.plan_digest,
        served=valid,
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


def _candidates(ports: Ports, record: LockRecord, served: Served) -> tuple[Candidate, ...]:
    """Each distinct login whose username the plan names, the best first (protocol C5)."""
    found: list[tuple[Candidate, Login]] = []
    places = decide.ranked_generations(record, served)
    for held in ports.side_by_side([partial(_candidate, ports, served, where) for where in places]):
        if held and held[1].username in ports.credential.usernames:
            _join(found, *held)
    return tuple(candidate for candidate, _ in found)


def _join(found: list[tuple[Candidate, Login]], candidate: Candidate, login: Login) -> None:
    """Add a login, or that it is also held in another place."""
    for i, (known, same) in enumerate(found):
        if same == login:
            joined = structs.replace(
                known,
                generations=tuple(dict.fromkeys([*known.generations, *candidate.generations])),
                stores=tuple(dict.fromkeys([*known.stores, *candidate.stores])),
            )
            found[i] = joined, login
            return
    found.append((candidate, login))


def _candidate(ports: Ports, served: Served, where: int | str) -> tuple[Candidate, Login] | None:
    if isinstance(where, str):
        value = served[where]
        ref = CandidateRef(store=where, version=value.version)
        found = Candidate(ref=ref, generations=(value.generation,), stores=(where,))
        return (found, value.login) if value.login else None
    held = ports.stores.find_version(where)
    return (Candidate(ref=held[0], generations=(where,)), held[1].login) if held else None


def _next_username(ports: Ports, served: Served, claim: Claim) -> str:
    base = next((v.login for v in served.values() if v.generation == claim.base_generation), None)
    return next_username(ports.credential.usernames, base=base)


def _new_value(ports: Ports, claim: Claim, username: str) -> CredentialValue:
    password = ports.passwords.new_password(ports.credential.password_policy)
    return CredentialValue(claim.generation, Login(username, password), claim.rotation_id)


def _staged(rotation: Rotation, claim: Claim, seen: tuple[StoreVersions, ...]) -> Staged:
    adopted_from = claim.rotation_id if claim.rotation_id != rotation.rotation_id else None
    return Staged(rotation=rotation, claim=claim, adopted_from=adopted_from, seen=seen)
