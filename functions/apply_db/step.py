"""ApplyDb: make every database accept the pending value beside base, and prove it by real logins.

1. Read the values and the logins of the rotation users, all of them at the same time.
2. Under the advisory locks read the fence, then log in with base on each database.
3. Once every database accepts base: change, and prove by logins, the databases side by side.

Each change is made under the databases' advisory locks, held by the connections that make the changes (protocol D1). An
`ALTER USER` cannot check our fence, so the fence is read while the locks are held (protocol D4): a newer run may claim
between our check and our change, but needs the same locks to come to a database (protocol I5), and a run whose
connection died has lost both.

Where a database refuses base, nothing is changed, and the step says so: Generate reconciles.

A server may lock an account after a few refused logins in a row. So what must succeed is shown before what must be
refused, one login of an account at a time, and a refusal is followed by a login that succeeds (protocol D9, D18).

The same function searches for a login that works, and ends every other value in an emergency: all that needs a
database happens here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from functions.apply_db import ahead, logins, outcomes, replication
from functions.apply_db.search import search
from lockstep.protocol import decide
from lockstep.protocol.errors import (
    CurrentCredentialRejectedError,
    PendingCredentialRejectedError,
    StagedValueConflictError,
    TakeOverNeededError,
)
from lockstep.protocol.messages import (
    ApplyRequest,
    ApplyResult,
    BaseRefused,
    DatabaseOutcome,
    DatabaseRequest,
    DatabaseResult,
    ProbeRequest,
    ProbeResult,
    Revoked,
    RevokeRequest,
    RevokeResult,
)
from lockstep.protocol.model import Claim, ClaimKind, CredentialValue, LockRecord, Login, Strategy
from lockstep.protocol.ports import Database, Stager
from lockstep.protocol.workers import run_all
from lockstep.stores.credential import Ports

Values = Mapping[int, CredentialValue | None]
"""Values by generation; None where no store has one."""


def run(request: DatabaseRequest, ports: Ports) -> ApplyResult | BaseRefused | ProbeResult | RevokeResult:
    """Carry out the request's action on the credential's databases.

    Raises:
        FenceLostError: Another run holds the lock; nothing was changed.
        PlanNotActiveError: The run began under another plan; nothing was changed.
        CurrentCredentialRejectedError: The server did not keep base.
        PendingCredentialRejectedError: The server took it but does not let it log in.
        PreviousCredentialAcceptedError: A generation that should be revoked still logs in.
        DatabaseBlockedError, NoRoomError: No login can be brought to work on every database.
    """
    decide.require_same_plan(request.rotation, ports.credential)
    asked = {name: d for name, d in ports.databases.items() if name not in request.rotation.without}
    ports = replace(ports, databases=asked)
    match request:
        case ApplyRequest():
            return _apply(request, ports)
        case ProbeRequest():
            return _probe(request, ports)
        case RevokeRequest():
            return _revoke(request, ports)


def _apply(request: ApplyRequest, ports: Ports) -> ApplyResult | BaseRefused:
    if request.promoting or request.claim.kind is ClaimKind.RECONCILE:
        return _reconcile(request, ports)
    return _rotate(request, ports)


# A new value: made to work beside base.


@dataclass(frozen=True, kw_only=True)
class _Change:
    """What one run wants of every database.

    Attributes:
        base: None at bootstrap, where there is nothing to keep valid.
        doomed: The generations that may be valid beside base and pending, with their values where a store has them.
    """

    pending: CredentialValue
    base: CredentialValue | None
    doomed: Mapping[int, CredentialValue | None]


def _rotate(request: ApplyRequest, ports: Ports) -> ApplyResult | BaseRefused:
    claim, lease = request.claim, request.rotation.lease
    generations = filter(None, [claim.generation, claim.base_generation])
    values, admins = ahead.read_ahead(ports, ahead.of_generations(ports, generations), ports.databases)
    pending, base = _held(values[claim.generation], claim), _base(values, claim)
    with _locked(ports, admins) as stagers:
        record = _required(request, ports, promoting=False)
        # No database is changed before what applications use has logged in on every one (protocol D3, I11).
        if base is None:
            _require_consent(ports, record, ports.databases)
            doomed = _doomed(ports, record, claim, values)
        else:
            refused, doomed = run_all(
                ports.side_by_side,
                partial(logins.refusing, ports, stagers, base.login),
                partial(_doomed, ports, record, claim, values),
            )
            if refused:
                return BaseRefused(refused=refused)
        change = _Change(pending=pending, base=base, doomed=doomed)
        databases = outcomes.all_of(
            ports,
            lease,
            [partial(_rotate_one, ports, name, stager, change) for name, stager in stagers.items()],
        )
    return ApplyResult(databases=databases)


def _required(request: ApplyRequest | RevokeRequest, ports: Ports, *, promoting: bool) -> LockRecord:
    """The record, while it has the run's lease and claim, and leaves out what the run does (protocol L9, O5)."""
    record = ports.lock.require(
        request.rotation.lease, request.claim, promoting=promoting, now=ports.clock.now()
    )
    decide.require_left_out(record, request.rotation)
    return record


def _held(pending: CredentialValue | None, claim: Claim) -> CredentialValue:
    if pending is None:  # (protocol D5)
        raise StagedValueConflictError(generation=claim.generation)
    return pending


def _base(values: Values, claim: Claim) -> CredentialValue | None:
    if not claim.base_generation:
        return None
    base = values[claim.base_generation]
    if base is None:  # It could not be kept valid (protocol D3).
        raise CurrentCredentialRejectedError(generation=claim.base_generation)
    return base


def _require_consent(ports: Ports, record: LockRecord, databases: Iterable[str]) -> None:
    for name in databases:
        if name not in record.take_over:
            raise TakeOverNeededError(credential=ports.credential.id, database=name)


def _rotate_one(ports: Ports, name: str, stager: Stager, change: _Change) -> DatabaseResult:
    database, taken_over = ports.databases[name], change.base is None
    stager.stage(current=change.base, pending=change.pending)
    revoked = logins.prove(
        database, ports.side_by_side, pending=change.pending, base=change.base, doomed=change.doomed
    )
    replication.wait_until_accepted(
        database,
        replication.Wait.begin(ports.clock, ports.side_by_side),
        pending=change.pending.login,
        base=change.base.login if change.base else None,
        doomed=[value.login for value in change.doomed.values() if value],
        taken_over=taken_over,
    )
    return DatabaseResult(
        database=database.name,
        outcome=DatabaseOutcome.APPLIED,
        revoked=revoked,
        taken_over=taken_over,
        plaintext=database.plaintext,
    )


# A login that works: seen to work everywhere, and staged where it does not.


def _reconcile(request: ApplyRequest, ports: Ports) -> ApplyResult:
    claim = request.claim
    reads: dict[int | str, Callable[[], CredentialValue | None]] = {
        claim.generation: partial(ports.stores.find_generation, claim.generation)
    }
    for one in request.beside:
        if ref := one.login:
            reads[one.database] = partial(ports.stores.read_version, store=ref.store, version=ref.version)
    values, admins = ahead.read_ahead(ports, reads, ports.databases)
    pending = _held(values[claim.generation], claim)
    beside = {one.database: values[one.database] if one.login else None for one in request.beside}
    with _locked(ports, admins) as stagers:
        record = _required(request, ports, promoting=request.promoting)
        _require_consent(ports, record, [name for name, kept in beside.items() if kept is None])
        databases = outcomes.all_of(
            ports,
            request.rotation.lease,
            [
                partial(_reconcile_one, ports, stager, ports.databases[name], pending, beside)
                for name, stager in stagers.items()
            ],
        )
    return ApplyResult(databases=databases)


def _reconcile_one(
    ports: Ports,
    stager: Stager,
    database: Database,
    pending: CredentialValue,
    beside: Mapping[str, CredentialValue | None],
) -> DatabaseResult:
    is_changed = database.name in beside
    kept = beside.get(database.name)
    stays = _if_another_account(ports, kept, pending)
    if is_changed:
        if kept and not database.accepts(
            kept.login
        ):  # What a search has seen may have ended since (protocol I11).
            raise CurrentCredentialRejectedError(database=database.name, generation=kept.generation)
        stager.stage(current=stays, pending=pending)
    logins.require_accepted(database, pending=pending, base=stays)
    replication.wait_until_accepted(
        database,
        replication.Wait.begin(ports.clock, ports.side_by_side),
        pending=pending.login,
        base=None if is_changed else pending.login,
        doomed=[],
        taken_over=is_changed,
    )
    return DatabaseResult(
        database=database.name,
        outcome=DatabaseOutcome.APPLIED if is_changed else DatabaseOutcome.PROVEN,
        taken_over=is_changed and kept is None,
        plaintext=database.plaintext,
    )


def _if_another_account(
    ports: Ports, kept: CredentialValue | None, pending: CredentialValue
) -> CredentialValue | None:
    """What stays beside pending: an account of two users that alternate has one password."""
    is_alternating = ports.credential.strategy is Strategy.ALTERNATING_USERS
    is_same = kept is not None and kept.login.username == pending.login.username
    return None if is_alternating and is_same else kept


def _probe(request: ProbeRequest, ports: Ports) -> ProbeResult:
    reads = {
        c: partial(ports.stores.read_version, store=c.ref.store, version=c.ref.version)
        for c in request.candidates
    }
    values, admins = ahead.read_ahead(ports, reads, ports.databases)
    with _locked(ports, admins) as stagers:
        return search(request, ports, stagers, values)


def _revoke(request: RevokeRequest, ports: Ports) -> RevokeResult:
    """Leave nothing valid but the promoted generation (protocol O5)."""
    claim = request.claim
    reads = ahead.of_generations(ports, [claim.generation])
    values, admins = ahead.read_ahead(ports, reads, ports.databases)
    pending = _held(values[claim.generation], claim)
    with _locked(ports, admins) as stagers:
        record = _required(request, ports, promoting=True)
        doomed = _doomed(ports, record, claim, values, keep_base=False)
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
    revoked = logins.require_revoked(database, doomed, live=live)
    replication.wait_until_revoked(
        database,
        replication.Wait.begin(ports.clock, ports.side_by_side),
        doomed=[value.login for value in doomed.values() if value],
        live=live,
    )
    return Revoked(database=database.name, revoked=revoked)


def _doomed(
    ports: Ports, record: LockRecord, claim: Claim, known: Values, *, keep_base: bool = True
) -> dict[int, CredentialValue | None]:
    """What the record calls valid, and is not kept: the values that are known, and those that are not, read now."""
    kept = {claim.generation, claim.base_generation} if keep_base else {claim.generation}
    doomed = sorted(record.valid - kept)
    unknown = [generation for generation in doomed if generation not in known]
    read = ports.side_by_side([partial(ports.stores.find_generation, generation) for generation in unknown])
    found = {**known, **dict(zip(unknown, read, strict=True))}
    return {generation: found[generation] for generation in doomed}


@contextmanager
def _locked(ports: Ports, admins: Mapping[str, Login]) -> Iterator[dict[str, Stager]]:
    """Hold the advisory locks of these databases, as their rotation users."""
    with ExitStack() as held:
        stagers = ports.side_by_side(
            [
                partial(held.enter_context, ports.databases[name].exclusive(admin))
                for name, admin in admins.items()
            ]
        )
        yield dict(zip(admins, stagers, strict=True))
