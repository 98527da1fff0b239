"""ApplyDb: make every database accept the pending value beside base, and prove it by real logins.

1. Read the values and the logins of the rotation users, all of them at the same time.
2. Under the advisory locks read the fence, and beside it log in with base on each database.
3. Once the fence holds and every database accepts base: change, and prove by logins, the databases side by side.

Each change is made under the databases' advisory locks, held by the connections that make the changes (protocol D1). An
`ALTER USER` cannot check our fence, so the fence is read while the locks are held (protocol D4): a newer run may claim
between our check and our change, but needs the same locks to come to a database (protocol I5), and a run whose
connection died has lost both.

A server may lock an account after a few refused logins in a row. So what must succeed is shown before what must be
refused, one login of an account at a time, and a refusal is followed by a login that succeeds (protocol D9, D19).

The same function probes candidates for a reconcile, and ends every other value in an emergency: all that needs a
database happens here.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from functions.apply_db import ahead, logins, outcomes
from functions.apply_db.logins import Answer
from lockstep.protocol import decide, replication
from lockstep.protocol.deadlines import LEASE
from lockstep.protocol.errors import (
    CurrentCredentialRejectedError,
    FenceLostError,
    InvalidRequestError,
    PasswordRefusedByPolicyError,
    PendingCredentialRejectedError,
    RetryableError,
    StagedValueConflictError,
    TakeOverNeededError,
)
from lockstep.protocol.messages import (
    ApplyRequest,
    ApplyResult,
    DatabaseOutcome,
    DatabaseRequest,
    DatabaseResult,
    ProbeRequest,
    ProbeResult,
    RevocationCheck,
    Revoked,
    RevokeRequest,
    RevokeResult,
    Rotation,
)
from lockstep.protocol.model import Claim, ClaimKind, CredentialValue, Lease, LockRecord, Login
from lockstep.protocol.ports import Database, Stager
from lockstep.stores.credential import Ports

Values = Mapping[int, CredentialValue | None]
"""Values by generation; None where no store has one."""


def run(request: DatabaseRequest, ports: Ports) -> ApplyResult | ProbeResult | RevokeResult:
    """Carry out the request's action on the credential's databases.

    Raises:
        FenceLostError: Another run holds the lock; nothing was changed.
        PlanNotActiveError: The run began under another plan; nothing was changed.
        CurrentCredentialRejectedError: Base does not log in: nothing was changed, or the server did not keep it.
        PendingCredentialRejectedError: The server took it but does not let it log in.
        PreviousCredentialAcceptedError: A generation that should be revoked still logs in.
        StoresDivergedError: No candidate logs in on every database.
    """
    decide.require_same_plan(request.rotation, ports.credential)
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
        base: None at bootstrap, where there is nothing to keep valid.
        doomed: The generations that may be valid beside base and pending, with their values where a store has them.
    """

    claim: Claim
    pending: CredentialValue
    base: CredentialValue | None
    doomed: Mapping[int, CredentialValue | None]
    take_over: frozenset[str]


def _apply(request: ApplyRequest, ports: Ports) -> ApplyResult:
    claim, lease = request.claim, request.rotation.lease
    is_reconcile = claim.kind is ClaimKind.RECONCILE
    # What the hint calls valid is read with them; whether it dies, the record decides (protocol D4).
    read = (
        [claim.generation] if is_reconcile else [claim.generation, claim.base_generation, *request.hint.valid]
    )
    values, admins = ahead.read_ahead(ports, ahead.of_generations(ports, filter(None, read)), ports.databases)
    pending = _held(values, claim)
    base = pending if is_reconcile else _base(values, claim)
    with _locked(ports, admins) as stagers:
        record, answers = _fence_beside_live(request, ports, base)
        # A reconcile changes nothing, so nothing dies by it.
        doomed = {} if is_reconcile else _doomed(ports, record, claim, values)
        change = _Change(claim=claim, pending=pending, base=base, doomed=doomed, take_over=record.take_over)
        _require_live(ports, lease, stagers, change, answers)
        databases = outcomes.all_of(
            ports,
            lease,
            [partial(_change_one, ports, name, stager, change) for name, stager in stagers.items()],
        )
    return ApplyResult(databases=databases)


def _held(values: Values, claim: Claim) -> CredentialValue:
    pending = values[claim.generation]
    if pending is None:  # (protocol D6)
        raise StagedValueConflictError(generation=claim.generation)
    return pending


def _base(values: Values, claim: Claim) -> CredentialValue | None:
    if not claim.base_generation:
        return None
    base = values[claim.base_generation]
    if base is None:  # It could not be kept valid (protocol D3).
        raise CurrentCredentialRejectedError(generation=claim.base_generation)
    return base


def _fence_beside_live(
    request: ApplyRequest, ports: Ports, base: CredentialValue | None
) -> tuple[LockRecord, dict[str, Answer]]:
    """Read the fence beside the first login on each database (protocol D4).

    A run that was overtaken may show a base that is revoked by now, which its clock must make unlikely (protocol D18).
    It shows no other login, and changes nothing.
    """
    claim, lease = request.claim, request.rotation.lease
    _require_time_left(request.rotation, ports)
    records: list[LockRecord] = []
    answers: dict[str, Answer] = {}

    def read_fence() -> None:
        records.append(ports.lock.require(lease, claim, promoting=False, now=ports.clock.now()))

    def log_in(name: str, login: Login) -> None:
        answers[name] = logins.answer_of(ports.databases[name], login)

    asked = [name for name in ports.databases if name not in request.hint.take_over]
    calls: list[Callable[[], None]] = [read_fence]
    if base:
        calls += [partial(log_in, name, base.login) for name in asked]
    try:
        ports.side_by_side(calls)
    except RetryableError:
        # Tried again, the step would show the login again to a database that has refused it (protocol D20).
        for name, answer in answers.items():
            if answer is False:
                raise CurrentCredentialRejectedError(
                    database=name, generation=claim.base_generation
                ) from None
        raise
    return records[0], answers


def _require_time_left(rotation: Rotation, ports: Ports) -> None:
    if ports.clock.now() >= rotation.started_at + LEASE:  # The lease began later than the run.
        raise FenceLostError(credential=rotation.credential_id)


def _require_live(
    ports: Ports,
    lease: Lease,
    stagers: Mapping[str, Stager],
    change: _Change,
    answers: Mapping[str, Answer],
) -> None:
    """No database is changed before what applications use has logged in on every one (protocol D3, I11)."""
    asked = [name for name in stagers if name not in change.take_over]
    if change.base is None:
        for name in asked:
            raise TakeOverNeededError(credential=ports.credential.id, database=name)
        return
    login, generation = change.base.login, change.claim.base_generation
    outcomes.all_of(
        ports,
        lease,
        [
            partial(
                logins.require_live,
                ports.databases[name],
                stagers[name],
                login,
                generation,
                answers.get(name),
            )
            for name in asked
            if answers.get(name) is not True
        ],
    )


def _change_one(ports: Ports, name: str, stager: Stager, change: _Change) -> DatabaseResult:
    database, taken_over = ports.databases[name], name in change.take_over
    outcome = DatabaseOutcome.PROVEN
    revoked: tuple[RevocationCheck, ...] = ()
    try:
        if taken_over:  # What the account accepts is not known, so first it accepts base alone, or pending.
            stager.stage(current=None, pending=change.base or change.pending)
        if taken_over or change.claim.kind is ClaimKind.NEW:
            stager.stage(current=change.base, pending=change.pending)
            outcome = DatabaseOutcome.APPLIED
    except PasswordRefusedByPolicyError:
        outcome = DatabaseOutcome.REFUSED_BY_POLICY  # An answer: the other databases go on (protocol M4).
    else:
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
        outcome=outcome,
        revoked=revoked,
        taken_over=taken_over,
        plaintext=database.plaintext,
    )


def _probe(request: ProbeRequest, ports: Ports) -> ProbeResult:
    unknown = set(request.databases).difference(ports.databases)
    if unknown or not request.databases:
        raise InvalidRequestError(credential=ports.credential.id)
    reads = {
        c: partial(ports.stores.read_version, store=c.store, version=c.version) for c in request.candidates
    }
    values, admins = ahead.read_ahead(ports, reads, request.databases)
    with _locked(ports, admins) as stagers:
        # What a run that was overtaken would show may be revoked by now (protocol D18).
        ports.lock.require_lease(request.rotation.lease, now=ports.clock.now())
        candidates = {candidate: value.login for candidate, value in values.items() if value}
        winner = logins.first_that_works(ports, request.rotation.lease, stagers, candidates)
    return ProbeResult(winner=winner)


def _revoke(request: RevokeRequest, ports: Ports) -> RevokeResult:
    """Leave nothing valid but the promoted generation (protocol O5)."""
    claim = request.claim
    reads = ahead.of_generations(ports, [claim.generation])
    values, admins = ahead.read_ahead(ports, reads, ports.databases)
    pending = _held(values, claim)
    with _locked(ports, admins) as stagers:
        record = ports.lock.require(request.rotation.lease, claim, promoting=True, now=ports.clock.now())
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
