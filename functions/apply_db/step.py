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

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

from functions.apply_db import logins
from functions.apply_db.replication import Wait
from functions.apply_db.search import Search
from lockstep.protocol import decide
from lockstep.protocol.errors import (
    CurrentCredentialRejectedError,
    PendingCredentialRejectedError,
    ReplicaRejectedError,
    RetryableError,
    StagedValueConflictError,
    TakeOverNeededError,
)
from lockstep.protocol.messages import (
    ApplyResult,
    BaseRefused,
    CandidateRef,
    DatabaseOutcome,
    DatabaseRequest,
    DatabaseResult,
    ProbeRequest,
    ProbeResult,
    Revoked,
    RevokeRequest,
    RevokeResult,
    Staged,
)
from lockstep.protocol.model import Claim, ClaimKind, CredentialValue, Lease, LockRecord, Login, Strategy
from lockstep.protocol.ports import Database, Stager
from lockstep.protocol.workers import run_all
from lockstep.stores.credential import Ports

Place = int | CandidateRef
"""Where the stores hold a value: by its generation, or by a version of one of them."""
Values = Mapping[Place, CredentialValue | None]
"""Values by where they were looked for; None where there is none."""


def run(request: DatabaseRequest, ports: Ports) -> ApplyResult | BaseRefused | ProbeResult | RevokeResult:
    """Carry out the request's action on the credential's databases.

    Raises:
        FenceLostError: Another run holds the lock; nothing was changed.
        PlanNotActiveError: The run began under another plan; nothing was changed.
        CurrentCredentialRejectedError: The server did not keep base, or refuses what the search has seen it accept.
        PendingCredentialRejectedError: The server took it but does not let it log in.
        PreviousCredentialAcceptedError: A generation that should be revoked still logs in.
        DatabaseBlockedError, NoRoomError: No login can be brought to work on every database.
    """
    decide.require_same_plan(request.rotation, ports.credential)
    asked = {name: d for name, d in ports.databases.items() if name not in request.rotation.without}
    ports = replace(ports, databases=asked)
    match request:
        case Staged():
            return _apply(request, ports)
        case ProbeRequest():
            return _probe(request, ports)
        case RevokeRequest():
            return _revoke(request, ports)


@dataclass(frozen=True, kw_only=True)
class _Change:
    """What one run wants of every database: a new value works beside base, or a login that works is proven.

    Attributes:
        beside: The databases that are changed, and what works there and is kept: base on all of them for a new value,
            and for a reconcile what the search has found. None where there is nothing to keep, at bootstrap and by
            consent.
        doomed: The generations that may be valid beside these, and end with the change, with their values where a
            store has them.
        is_new: Whether the value is new. What a search has found is not known to work on the verify hosts.
    """

    pending: CredentialValue
    beside: Mapping[str, CredentialValue | None]
    doomed: Mapping[int, CredentialValue | None]
    is_new: bool


def _apply(request: Staged, ports: Ports) -> ApplyResult | BaseRefused:
    claim = request.claim
    is_new = claim.kind is ClaimKind.NEW and not request.promoting
    places: dict[str, Place | None] = {one.database: one.login for one in request.beside}
    if is_new:
        places = dict.fromkeys(ports.databases, claim.base_generation or None)
    with _locked(ports, [claim.generation, *(place for place in places.values() if place)]) as (
        stagers,
        values,
    ):
        record = _required(request, ports, promoting=request.promoting)
        pending = _held(values, claim)
        for name, place in places.items():
            if place is None and name not in record.take_over:
                raise TakeOverNeededError(credential=ports.credential.id, database=name)
            if place and values[place] is None:  # It could not be kept valid (protocol D3).
                raise CurrentCredentialRejectedError(database=name)
        beside = {name: values[place] if place else None for name, place in places.items()}
        kept = {claim.generation, claim.base_generation}
        # No database is changed before what is kept has logged in on every one (protocol D3, I11).
        refused, doomed = run_all(
            ports.side_by_side,
            partial(logins.refusing, ports, stagers, {n: v.login for n, v in beside.items() if v}),
            partial(_doomed, ports, record.valid - kept if is_new else (), values),
        )
        if refused and is_new:
            return BaseRefused(refused=refused)
        if refused:  # What a search has seen may have ended since.
            raise CurrentCredentialRejectedError(database=refused[0])
        change = _Change(pending=pending, beside=beside, doomed=doomed, is_new=is_new)
        apply_one = partial(_apply_one, ports, request.rotation.lease, change)
        databases = ports.side_by_side([partial(apply_one, name, stagers[name]) for name in stagers])
    return ApplyResult(databases=databases)


def _required(request: Staged | RevokeRequest, ports: Ports, *, promoting: bool) -> LockRecord:
    """The record, while it has the run's lease and claim, and leaves out what the run does (protocol L9, O5)."""
    record = ports.lock.require(
        request.rotation.lease, request.claim, promoting=promoting, now=ports.clock.now()
    )
    decide.require_left_out(record, request.rotation)
    return record


def _held(values: Values, claim: Claim) -> CredentialValue:
    pending = values[claim.generation]
    if pending is None:  # (protocol D5)
        raise StagedValueConflictError(generation=claim.generation)
    return pending


def _apply_one(ports: Ports, lease: Lease, change: _Change, name: str, stager: Stager) -> DatabaseResult:
    """Change a database, or only look where it is not to be changed, and prove what works there.

    A database one of whose hosts refuses what the database itself accepts is blocked: the next run's login would be one
    more refusal in a row there (protocol D20).
    """
    database, pending = ports.databases[name], change.pending
    is_changed, base = name in change.beside, change.beside.get(name)
    stays = base if change.is_new else _if_another_account(ports, base, pending)
    if is_changed:
        stager.stage(current=stays, pending=pending)
    revoked = logins.prove(
        database, stager, ports.side_by_side, pending=pending, base=stays, doomed=change.doomed
    )
    known = base if change.is_new else None if is_changed else pending
    try:
        Wait(ports.clock, ports.side_by_side).until_accepted(
            database,
            pending=pending.login,
            base=known.login if known else None,
            doomed=[value.login for value in change.doomed.values() if value],
        )
    except ReplicaRejectedError:
        with suppress(RetryableError):  # The run ends all the same, and no login is shown in it any more.
            ports.lock.block(lease, [name])
        raise
    return DatabaseResult(
        database=name,
        outcome=DatabaseOutcome.APPLIED if is_changed else DatabaseOutcome.PROVEN,
        revoked=revoked,
        taken_over=is_changed and base is None,
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
    """Search among the candidates whose values the stores still hold."""
    with _locked(ports, [candidate.ref for candidate in request.candidates]) as (stagers, values):
        record = ports.lock.require_lease(request.rotation.lease, now=ports.clock.now())
        decide.require_left_out(record, request.rotation)
        held = {candidate: values[candidate.ref] for candidate in request.candidates}
        candidates = {candidate: value.login for candidate, value in held.items() if value}
        return Search(ports, record, stagers, request.refused).find(candidates, request.rotation.lease)


def _revoke(request: RevokeRequest, ports: Ports) -> RevokeResult:
    """Leave nothing valid but the promoted generation (protocol O5)."""
    claim = request.claim
    with _locked(ports, [claim.generation]) as (stagers, values):
        record = _required(request, ports, promoting=True)
        doomed = _doomed(ports, record.valid - {claim.generation}, values)
        revoke_one = partial(_revoke_one, ports, pending=_held(values, claim), doomed=doomed)
        databases = ports.side_by_side(
            [partial(revoke_one, ports.databases[name], stager) for name, stager in stagers.items()]
        )
    return RevokeResult(databases=databases)


def _revoke_one(
    ports: Ports,
    database: Database,
    stager: Stager,
    *,
    pending: CredentialValue,
    doomed: Mapping[int, CredentialValue | None],
) -> Revoked:
    logins.require_accepted(database, stager, pending=pending, base=None)
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
    Wait(ports.clock, ports.side_by_side).until_revoked(
        database,
        doomed=[value.login for value in doomed.values() if value],
        live=live,
    )
    return Revoked(database=database.name, revoked=revoked)


def _doomed(ports: Ports, generations: Collection[int], known: Values) -> dict[int, CredentialValue | None]:
    """What is valid and is not kept: the values that are known, and those that are not, read now."""
    unknown = sorted(generation for generation in generations if generation not in known)
    read = ports.side_by_side([partial(ports.stores.find_generation, generation) for generation in unknown])
    found: Values = {**known, **dict(zip(unknown, read, strict=True))}
    return {generation: found[generation] for generation in sorted(generations)}


@contextmanager
def _locked(ports: Ports, places: Iterable[Place]) -> Iterator[tuple[dict[str, Stager], Values]]:
    """Hold the advisory locks of the databases, as their rotation users.

    Values, and the logins of the rotation users, are read before, all at the same time: a login that several databases
    have is read once (protocol D22).
    """
    asked, databases = list(dict.fromkeys(places)), ports.databases
    having: dict[Hashable, Database] = {}
    for database in databases.values():
        having.setdefault(database.admin, database)
    found, read = run_all(
        ports.side_by_side,
        partial(ports.side_by_side, [partial(_value, ports, place) for place in asked]),
        partial(ports.side_by_side, [database.admin_login for database in having.values()]),
    )
    admins = dict(zip(having, read, strict=True))
    with ExitStack() as held:
        stagers = ports.side_by_side(
            [partial(held.enter_context, d.exclusive(admins[d.admin])) for d in databases.values()]
        )
        yield dict(zip(databases, stagers, strict=True)), dict(zip(asked, found, strict=True))


def _value(ports: Ports, place: Place) -> CredentialValue | None:
    if isinstance(place, int):
        return ports.stores.find_generation(place)
    return ports.stores.read_version(store=place.store, version=place.version)
