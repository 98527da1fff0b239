"""ApplyDb: make every database accept the pending value beside base, and prove it by real logins.

All of it happens under the databases' advisory locks, held by the connections that make the changes (protocol D1). An
`ALTER USER` cannot check our fence, so the fence is read while the locks are held (protocol D4): a newer run needs the
same locks and cannot act between our check and our change, and a run whose connection died has lost both.

A server may lock an account after a few refused logins in a row. So what must succeed is shown before what must be
refused, one login of an account at a time, and a refusal is followed by a login that succeeds (protocol D9, D19).

The same function probes candidates for a heal, and ends every other value in an emergency: all that needs a database
happens here.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from functions.apply_db import logins
from lockstep import plans, replication
from lockstep.errors import (
    CurrentCredentialRejectedError,
    EnrolmentNeededError,
    InvalidRequestError,
    PasswordRefusedByPolicyError,
    PendingCredentialRejectedError,
    ReplicaRejectedError,
    StagedValueConflictError,
)
from lockstep.messages import (
    ApplyRequest,
    ApplyResult,
    DatabaseOutcome,
    DatabaseRequest,
    DatabaseResult,
    Dead,
    ProbeRequest,
    ProbeResult,
    Revoked,
    RevokeRequest,
    RevokeResult,
)
from lockstep.model import Claim, ClaimKind, CredentialValue, Lease, LockRecord, Login
from lockstep.ports import Database, Ports, Stager


def run(request: DatabaseRequest, ports: Ports) -> ApplyResult | ProbeResult | RevokeResult:
    """Carry out the request's action on the credential's databases.

    Raises:
        FenceLostError: Another run holds the lock; nothing was changed.
        PlanNotActiveError: The run began under another plan; nothing was changed.
        CurrentCredentialRejectedError: Base does not log in: nothing was changed, or the server did not keep it.
        PendingCredentialRejectedError: The server took it but does not let it log in.
        PreviousCredentialAcceptedError: A generation that should be dead still logs in.
        StoresDivergedError: No candidate logs in on every database.
    """
    plans.require_same_plan(request.rotation, ports.credential)
    match request:
        case ApplyRequest():
            return _apply(request, ports)
        case ProbeRequest():
            return _probe(request, ports)
        case RevokeRequest():
            return _revoke(request, ports)


@dataclass(frozen=True, kw_only=True)
class _Change:
    """What one run wants of every database.

    Attributes:
        base: None at bootstrap, where there is nothing to keep alive.
        doomed: The generations that may be alive beside base and pending, with their values where a store has them.
    """

    claim: Claim
    pending: CredentialValue
    base: CredentialValue | None
    doomed: Mapping[int, CredentialValue | None]
    enrol: frozenset[str]

    @property
    def live(self) -> tuple[Login, ...]:
        return tuple(value.login for value in (self.pending, self.base) if value)


def _apply(request: ApplyRequest, ports: Ports) -> ApplyResult:
    claim = request.claim
    pending = ports.stores.find_generation(claim.generation)
    if pending is None:  # (protocol D6)
        raise StagedValueConflictError(generation=claim.generation)
    base = pending if claim.kind is ClaimKind.HEAL else _base(ports, claim)
    with _locked(ports, tuple(ports.databases)) as stagers:
        record = ports.lock.require(request.rotation.lease, claim, promoting=False, now=ports.clock.now())
        # A heal changes nothing, so nothing dies by it.
        doomed = {} if claim.kind is ClaimKind.HEAL else _doomed(ports, record, claim)
        change = _Change(claim=claim, pending=pending, base=base, doomed=doomed, enrol=record.enrol)
        with _muting(ports, request.rotation.lease):
            _require_live(ports, stagers, change)
            databases = ports.side_by_side(
                [partial(_change_one, ports, name, stager, change) for name, stager in stagers.items()]
            )
    return ApplyResult(databases=databases)


def _base(ports: Ports, claim: Claim) -> CredentialValue | None:
    if not claim.base_generation:
        return None
    base = ports.stores.find_generation(claim.base_generation)
    if base is None:  # It could not be kept alive (protocol D3).
        raise CurrentCredentialRejectedError(generation=claim.base_generation)
    return base


@contextmanager
def _muting(ports: Ports, lease: Lease) -> Iterator[None]:
    """Mute a database, or a host of it, that refuses what should work: it was changed outside of Lockstep.

    The next run's login would be one more refusal in a row (protocol D20).
    """
    try:
        yield
    except CurrentCredentialRejectedError as error:
        ports.lock.mute(lease, [error.where["database"]])
        raise
    except ReplicaRejectedError as error:
        ports.lock.mute(lease, [error.where["database"].partition("@")[0]])
        raise


def _require_live(ports: Ports, stagers: Mapping[str, Stager], change: _Change) -> None:
    """No database is changed before what applications use has logged in on every one (protocol D3, I11)."""
    asked = [name for name in stagers if name not in change.enrol]
    if change.base is None:
        for name in asked:
            raise EnrolmentNeededError(credential=ports.credential.id, database=name)
        return
    login, generation = change.base.login, change.claim.base_generation
    ports.side_by_side(
        [
            partial(logins.require_live, ports.databases[name], stagers[name], login, generation)
            for name in asked
        ]
    )


def _change_one(ports: Ports, name: str, stager: Stager, change: _Change) -> DatabaseResult:
    database, enrolled = ports.databases[name], name in change.enrol
    outcome = DatabaseOutcome.PROVEN
    dead: tuple[Dead, ...] = ()
    try:
        if enrolled:  # What the account accepts is not known, so first it accepts base alone, or pending.
            stager.stage(current=None, pending=change.base or change.pending)
        if enrolled or change.claim.kind is ClaimKind.NEW:
            stager.stage(current=change.base, pending=change.pending)
            outcome = DatabaseOutcome.APPLIED
    except PasswordRefusedByPolicyError:
        outcome = DatabaseOutcome.REFUSED_BY_POLICY  # An answer: the other databases go on (protocol M4).
    else:
        logins.require_accepted(database, pending=change.pending, base=change.base)
        dead = logins.require_dead(database, change.doomed, live=change.live)
        replication.wait_until_accepted(
            database,
            replication.Wait.begin(ports.clock, ports.side_by_side),
            pending=change.pending.login,
            base=change.base.login if change.base else None,
            doomed=[value.login for value in change.doomed.values() if value],
            enrolled=enrolled,
        )
    return DatabaseResult(
        database=database.name,
        outcome=outcome,
        dead=dead,
        enrolled=enrolled,
        plaintext=database.plaintext,
    )


def _probe(request: ProbeRequest, ports: Ports) -> ProbeResult:
    unknown = set(request.databases).difference(ports.databases)
    if unknown or not request.databases:
        raise InvalidRequestError(credential=ports.credential.id)
    values = {c: ports.stores.read_version(store=c.store, version=c.version) for c in request.candidates}
    with _locked(ports, request.databases) as stagers:
        # What a run that was overtaken would show may be dead by now (protocol D18).
        ports.lock.require_lease(request.rotation.lease, now=ports.clock.now())
        candidates = {candidate: value.login for candidate, value in values.items() if value}
        winner = logins.first_that_works(ports, request.rotation.lease, stagers, candidates)
    return ProbeResult(winner=winner)


def _revoke(request: RevokeRequest, ports: Ports) -> RevokeResult:
    """Leave nothing alive but the promoted generation (protocol O5)."""
    claim = request.claim
    pending = ports.stores.find_generation(claim.generation)
    if pending is None:
        raise StagedValueConflictError(generation=claim.generation)
    with _locked(ports, tuple(ports.databases)) as stagers:
        record = ports.lock.require(request.rotation.lease, claim, promoting=True, now=ports.clock.now())
        doomed = _doomed(ports, record, claim, keep_base=False)
        databases = ports.side_by_side(
            [
                partial(_revoke_one, ports, ports.databases[name], stager, pending, doomed)
                for name, stager in stagers.items()
            ]
        )
    return RevokeResult(databases=databases)


def _revoke_one(
    ports: Ports,
    database: Database,
    stager: Stager,
    pending: CredentialValue,
    doomed: Mapping[int, CredentialValue | None],
) -> Revoked:
    logins.require_accepted(database, pending=pending, base=None)
    stager.stage(current=None, pending=pending)
    live = [pending.login]
    for username in ports.credential.usernames:
        if username != pending.login.username:
            # Whatever the account accepts, also where no store has its value any more.
            known = (v for v in doomed.values() if v and v.login.username == username)
            drop = next(known, CredentialValue(0, Login(username, pending.login.password)))
            retired = stager.retire(drop=drop, keep=pending)
            # Another attempt may have ended with a refusal of this account (protocol D18).
            if not database.accepts(retired):
                raise PendingCredentialRejectedError(database=database.name, generation=pending.generation)
            live.append(retired)
    dead = logins.require_dead(database, doomed, live=live)
    replication.wait_until_dead(
        database,
        replication.Wait.begin(ports.clock, ports.side_by_side),
        doomed=[value.login for value in doomed.values() if value],
        live=live,
    )
    return Revoked(database=database.name, dead=dead)


def _doomed(
    ports: Ports, record: LockRecord, claim: Claim, *, keep_base: bool = True
) -> dict[int, CredentialValue | None]:
    kept = {claim.generation, claim.base_generation} if keep_base else {claim.generation}
    return {g: ports.stores.find_generation(g) for g in sorted(record.alive - kept)}


@contextmanager
def _locked(ports: Ports, names: Sequence[str]) -> Iterator[dict[str, Stager]]:
    """Hold the advisory locks of these databases."""
    with ExitStack() as held:
        stagers = ports.side_by_side(
            [partial(held.enter_context, ports.databases[name].exclusive()) for name in names]
        )
        yield dict(zip(names, stagers, strict=True))
