"""Generate: claim the one generation in flight and stage its value in every store.

1. Read what every store serves. If a store cannot be read, stop: nothing was changed (protocol C1).
2. Read the lock record and decide: adopt, begin, or heal.
3. Claim, under the fence: from here on the lock record names the generation (protocol C4).
4. Stage the value in every store, in the plan's order. The first store decides what the value is (protocol V1, V2).

No database accepts the value yet (protocol I2, M2), and this step has no access to a database: if the stores disagree,
it asks for a probe of the candidates and is called again.
"""

from collections.abc import Mapping
from dataclasses import replace

from lockstep import decide
from lockstep.errors import InvalidRequestError, LostCompareAndSetError, StoresDivergedError
from lockstep.messages import CandidateRef, GenerateRequest, GenerateResult, ProbeNeeded, Probes, Staged
from lockstep.model import Claim, ClaimKind, CredentialValue, Lease, LockRecord, Login, StoredValue
from lockstep.ports import Ports
from lockstep.stores import Stores


def run(request: GenerateRequest, ports: Ports) -> GenerateResult:
    """Prepare the rotation.

    Returns:
        The claim, staged in every store; or the candidates to probe, if the stores disagree.

    Raises:
        FenceLostError: Another run holds the lock.
        StoresDivergedError: No candidate logs in on every database.
        StagedValueConflictError: A store holds another value under this generation's name.
    """
    lease = request.rotation.lease
    current = ports.stores.served()  # (1)
    record = ports.lock.read()
    decision = decide.decide(record, current)  # (2)

    value: CredentialValue | None = None
    match decision:
        case decide.Adopt(claim=standing) if standing == request.replaces:
            claim = decide.next_claim(
                standing.kind, lease, record, current, base_generation=standing.base_generation
            )
            claim = _claimed(ports, lease, record, claim)
        case decide.Adopt(claim=claim):
            ports.lock.require(lease, claim, now=ports.clock.now())
            value = ports.stores.find_generation(claim.generation)
        case decide.Begin(base_generation=base_generation):
            claim = decide.next_claim(ClaimKind.NEW, lease, record, current, base_generation=base_generation)
            claim = _claimed(ports, lease, record, claim)
        case decide.Heal(standing=in_flight):
            return _heal(request, ports, record, current, in_flight)

    return _staged(request, ports, claim, value or _new_value(ports, claim))


def _claimed(ports: Ports, lease: Lease, record: LockRecord, claim: Claim) -> Claim:
    """(3) Claim a generation whose name no store holds yet (protocol C3).

    A value under a name that was never claimed was staged before the lock table was lost. It must not come back as the
    new value: by now its username may be the one that is current, and that account would be changed.
    """
    while ports.stores.find_generation(claim.generation):
        if ports.lock.read().claim != record.claim:
            # Claimed in the meantime: a twin of this step is running (protocol F4).
            raise LostCompareAndSetError(credential=ports.credential.id, generation=claim.generation)
        claim = replace(claim, generation=claim.generation + 1)
    ports.lock.claim(lease, claim, replaces=record.claim)
    return claim


def _heal(
    request: GenerateRequest,
    ports: Ports,
    record: LockRecord,
    current: Mapping[str, StoredValue],
    in_flight: Claim | None,
) -> GenerateResult:
    if request.probes is None:
        candidates = _candidates(ports.stores, record, current)
        if not candidates:
            raise StoresDivergedError
        return ProbeNeeded(databases=tuple(ports.databases), candidates=candidates)
    if {r.database for r in request.probes.databases} != ports.databases.keys():
        raise InvalidRequestError(credential=ports.credential.id)  # A login must work on every database.
    login, base_generation = _winner(request.probes, ports.stores, current)
    lease = request.rotation.lease
    # A password that was refused by policy is refused again, so its claim is not finished (protocol C7).
    if in_flight and in_flight != request.replaces and _can_finish(in_flight, login, ports.stores):
        claim = in_flight
        ports.lock.require(lease, claim, now=ports.clock.now())
    else:
        claim = decide.next_claim(ClaimKind.HEAL, lease, record, current, base_generation=base_generation)
        claim = _claimed(ports, lease, record, claim)
    value = ports.stores.find_generation(claim.generation)
    if value is None and claim.kind is ClaimKind.HEAL:
        value = CredentialValue(claim.generation, login)
    return _staged(request, ports, claim, value or _new_value(ports, claim))


def _can_finish(claim: Claim, login: Login, stores: Stores) -> bool:
    """Whether the generation in flight can be finished, given the login that works.

    It can if that login is the generation's own value (or will be, for a heal that is not staged yet), or its base.
    """
    staged = stores.find_generation(claim.generation)
    if claim.kind is ClaimKind.HEAL:
        return staged is None or staged.login == login
    known = (staged, stores.find_generation(claim.base_generation))
    return any(v is not None and v.login == login for v in known)


def _candidates(
    stores: Stores, record: LockRecord, current: Mapping[str, StoredValue]
) -> tuple[CandidateRef, ...]:
    found = [CandidateRef(store=c.store, version=c.version) for c in decide.candidates(record, current)]
    known = [record.current_generation, record.claim.generation if record.claim else None]
    for generation in reversed(known):
        if generation is None or any(v.generation == generation for v in current.values()):
            continue
        # No store serves it; a store may still hold it as a version that is pending or superseded.
        if version := stores.find_version(generation):
            found.insert(0, CandidateRef(store=version[0], version=version[1]))
    return tuple(found)


def _winner(probes: Probes, stores: Stores, current: Mapping[str, StoredValue]) -> tuple[Login, int]:
    accepted = {r.database: r.accepted for r in probes.databases}
    best = decide.winner(
        [decide.Candidate(store=c.store, version=c.version) for c in probes.candidates], accepted
    )
    login = stores.read_version(store=best.store, version=best.version)
    if login is None:
        raise LostCompareAndSetError(store=best.store)
    return login, current[best.store].generation


def _new_value(ports: Ports, claim: Claim) -> CredentialValue:
    base = ports.stores.find_generation(claim.base_generation)
    username = decide.next_username(ports.credential.usernames, base.login if base else None)
    return CredentialValue(
        claim.generation, Login(username, ports.passwords.new_password(ports.credential.password_policy))
    )


def _staged(
    request: GenerateRequest,
    ports: Ports,
    claim: Claim,
    value: CredentialValue,
) -> Staged:
    ports.stores.stage(value)  # (4)
    return Staged(
        databases=tuple(ports.databases),
        claim=claim,
        adopted=claim.rotation_id != request.rotation.rotation_id,
    )
