"""ApplyDb: make one database accept the pending value beside base, and prove it by real logins.

All of it happens under the database's advisory lock, held by the connection that makes the change (protocol D1). An
`ALTER USER` cannot check our fence, so the fence is read while that lock is held (protocol D4): a newer run needs the
same lock and cannot act between our check and our change, and a run whose connection died has lost both.

The same function probes candidates if the stores disagree, withdraws a pending value that a database refused by policy,
and revokes base in an emergency: everything that needs a database happens here.
"""

from lockstep.errors import (
    AccountLockedError,
    CurrentCredentialRejectedError,
    InvalidRequestError,
    PendingCredentialRejectedError,
    PreviousCredentialAcceptedError,
    StagedValueConflictError,
)
from lockstep.messages import (
    ApplyRequest,
    DatabaseOutcome,
    DatabaseRequest,
    DatabaseResult,
    PreviousProof,
    ProbeRequest,
    ProbeResult,
    RetireRequest,
    RetireResult,
)
from lockstep.model import Claim, ClaimKind, CredentialValue, Login
from lockstep.ports import Database, Ports, Stager


def run(request: DatabaseRequest, ports: Ports) -> DatabaseResult | ProbeResult | RetireResult:
    """Carry out the request's action on its database.

    Raises:
        FenceLostError: Another run holds the lock; nothing was changed.
        CurrentCredentialRejectedError: Base does not log in: nothing was changed, or the server did not keep it.
        PasswordRefusedByPolicyError: The server's policy refuses the pending password.
        PendingCredentialRejectedError: The server took it but does not let it log in.
        PreviousCredentialAcceptedError: A generation that should be dead still logs in.
    """
    database = ports.databases.get(request.database)
    if database is None:
        raise InvalidRequestError(database=request.database)
    match request:
        case ApplyRequest():
            return _apply(request, ports, database)
        case ProbeRequest():
            return _probe(request, ports, database)
        case RetireRequest():
            return _retire(request, ports, database)


def _apply(request: ApplyRequest, ports: Ports, database: Database) -> DatabaseResult:
    claim = request.claim
    pending = _login(ports, claim.generation)
    if pending is None:  # (protocol D6)
        raise StagedValueConflictError(generation=claim.generation, database=database.name)
    base = pending if claim.kind is ClaimKind.HEAL else _login(ports, claim.base_generation)

    with database.exclusive() as stager:
        outcome = _accept(request, ports, database, stager, base=base, pending=pending)
        if not database.accepts(pending):  # In every run (protocol D7).
            raise PendingCredentialRejectedError(database=database.name, generation=claim.generation)
        # Base is proven after our own change (protocol D8). What an earlier invocation applied is promoted in any case:
        # if base is dead, the promotion lets applications in again (protocol D2).
        if base and outcome is DatabaseOutcome.APPLIED and not database.accepts(base):
            raise CurrentCredentialRejectedError(database=database.name, generation=claim.base_generation)
        previous = _prove_previous_dead(ports, database, claim, live=(pending, base))
    return DatabaseResult(
        database=database.name, outcome=outcome, previous=previous, plaintext=database.plaintext
    )


def _accept(
    request: ApplyRequest,
    ports: Ports,
    database: Database,
    stager: Stager,
    *,
    base: Login | None,
    pending: Login,
) -> DatabaseOutcome:
    if database.accepts(pending):
        return DatabaseOutcome.ALREADY_APPLIED
    base_generation = request.claim.base_generation
    # Under the advisory lock this is a second fence: the base of an overtaken run is dead. Only generation 0 may have
    # no login; another base that no store holds could not be kept alive (protocol D3).
    base_logs_in = database.accepts(base) if base else base_generation == 0
    if not base_logs_in:
        raise CurrentCredentialRejectedError(database=database.name, generation=base_generation)
    ports.lock.require(request.rotation.lease, request.claim, now=ports.clock.now())
    stager.stage(
        current=CredentialValue(base_generation, base) if base else None,
        pending=CredentialValue(request.claim.generation, pending),
    )
    return DatabaseOutcome.APPLIED


def _prove_previous_dead(
    ports: Ports, database: Database, claim: Claim, *, live: tuple[Login, Login | None]
) -> PreviousProof:
    """See that the generation before base is refused (protocol D9, I9)."""
    if claim.previous_generation is None:
        return PreviousProof.NONE
    previous = _login(ports, claim.previous_generation)
    if previous is None:
        return PreviousProof.UNREADABLE
    if previous in live:
        return PreviousProof.NONE
    _require_dead(database, previous, claim.previous_generation)
    return PreviousProof.REFUSED


def _probe(request: ProbeRequest, ports: Ports, database: Database) -> ProbeResult:
    accepted = []
    for candidate in request.candidates:
        login = ports.stores.read_version(store=candidate.store, version=candidate.version)
        accepted.append(bool(login and database.accepts(login)))
    return ProbeResult(database=database.name, accepted=tuple(accepted))


def _retire(request: RetireRequest, ports: Ports, database: Database) -> RetireResult:
    """Make pending (withdraw) or base (revoke) dead on this database (protocol D10)."""
    claim = request.claim
    doomed, kept = (claim.generation, claim.base_generation)
    if request.action == "revoke":
        doomed, kept = kept, doomed
    drop, keep = _login(ports, doomed), _login(ports, kept)
    if drop is None or keep is None or drop == keep:
        return RetireResult(database=database.name, retired_generation=None)
    with database.exclusive() as stager:
        if not database.accepts(keep):
            raise CurrentCredentialRejectedError(database=database.name, generation=kept)
        ports.lock.require(request.rotation.lease, claim, now=ports.clock.now())
        stager.retire(drop=CredentialValue(doomed, drop), keep=CredentialValue(kept, keep))
        _require_dead(database, drop, doomed)
    return RetireResult(database=database.name, retired_generation=doomed)


def _require_dead(database: Database, login: Login, generation: int) -> None:
    try:
        accepted = database.accepts(login)
    except AccountLockedError:
        accepted = False
    if accepted:
        raise PreviousCredentialAcceptedError(database=database.name, generation=generation)


def _login(ports: Ports, generation: int) -> Login | None:
    value = ports.stores.find_generation(generation)
    return value.login if value else None
