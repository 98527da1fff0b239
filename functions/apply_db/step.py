"""ApplyDb: make every database accept the pending value beside base, and prove it by real logins.

1. Read the values and the logins of the rotation users, all of them at the same time.
2. Under the advisory locks read the fence, then log in with base on each database.
3. Once every database accepts base: change, and prove by logins, the databases side by side.

Each change is made under the databases' advisory locks, held by the connections that make the changes (protocol D1). An
`ALTER USER` cannot check our fence, so the fence is read while the locks are held (protocol D4): a newer run may claim
between our check and our change, but needs the same locks to come to a database (protocol I5), and a run whose
connection died has lost both.

Where a database refuses base, nothing is changed, and the step says so: Generate reconciles. Where one fails otherwise,
the step fails, but in an emergency it may go on without it (`functions.apply_db.reached`).

A server may lock an account after a few refused logins in a row. So what must succeed is shown before what must be
refused, one login of an account at a time, and a refusal is followed by a login that succeeds (protocol D9, D18).

The same function searches for a login that works, and ends every other value in an emergency: all that needs a
database happens here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from functions.apply_db import logins
from functions.apply_db.reached import Place, Reached, Values, reached
from functions.apply_db.replication import Wait
from functions.apply_db.search import Search
from lockstep.protocol import decide
from lockstep.protocol.errors import (
    CurrentCredentialRejectedError,
    PendingCredentialRejectedError,
    StagedValueConflictError,
    TakeOverNeededError,
)
from lockstep.protocol.messages import (
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
    Staged,
)
from lockstep.protocol.model import Claim, ClaimKind, CredentialValue, Login, Strategy
from lockstep.stores.credential import Ports


def run(request: DatabaseRequest, ports: Ports) -> ApplyResult | BaseRefused | ProbeResult | RevokeResult:
    """Carry out the request's action on the credential's databases.

    Raises:
        FenceLostError: Another run holds the lock; nothing was changed.
        PlanNotActiveError: The run began under another plan; nothing was changed.
        CurrentCredentialRejectedError: The server did not keep base, or refuses what the search has seen it accept.
        PendingCredentialRejectedError: The server took it but does not let it log in.
        PreviousCredentialAcceptedError: A generation that should be revoked still logs in.
        NoRoomError: A login has no room on a database beside what must go on working there.
    """
    decide.require_same_plan(request.rotation, ports.credential)
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
        is_urgent: Whether the run goes on without a verify host that fails.
    """

    pending: CredentialValue
    beside: Mapping[str, CredentialValue | None]
    doomed: Mapping[int, CredentialValue | None]
    is_new: bool
    is_urgent: bool


def _apply(request: Staged, ports: Ports) -> ApplyResult | BaseRefused:
    claim, lease = request.claim, request.rotation.lease
    is_new = claim.kind is ClaimKind.NEW and not request.promoting
    places: dict[str, Place | None] = {one.database: one.login for one in request.beside}
    if is_new:
        places = dict.fromkeys(ports.databases, claim.base_generation or None)
    asked = [claim.generation, *(place for place in places.values() if place)]
    require = partial(ports.lock.require, lease, claim, promoting=request.promoting)
    with reached(ports, asked, require) as databases:
        record, values = databases.record, databases.values
        pending = _held(values, claim)
        places = {name: place for name, place in places.items() if name in databases.stagers}
        for name, place in places.items():
            if place is None and name not in record.take_over:
                raise TakeOverNeededError(credential=ports.credential.id, database=name)
            if place and values[place] is None:  # It could not be kept valid (protocol D3).
                raise CurrentCredentialRejectedError(database=name)
        beside = {name: values[place] if place else None for name, place in places.items()}
        # No database is changed before what is kept has logged in on every one (protocol D3, I11).
        refused = logins.refusing(databases, {name: value.login for name, value in beside.items() if value})
        if refused and is_new:
            return BaseRefused(refused=refused)
        if refused:  # What a search has seen may have ended since.
            raise CurrentCredentialRejectedError(database=refused[0])
        databases.go_on()
        kept = {claim.generation, claim.base_generation}
        change = _Change(
            pending=pending,
            beside=beside,
            doomed=databases.doomed(record.valid - kept if is_new else ()),
            is_new=is_new,
            is_urgent=record.is_revoking or not is_new,
        )
        done = databases.each(partial(_apply_one, databases, change))
    return ApplyResult(databases=tuple(done.values()))


def _held(values: Values, claim: Claim) -> CredentialValue:
    pending = values[claim.generation]
    if pending is None:  # (protocol D5)
        raise StagedValueConflictError(generation=claim.generation)
    return pending


def _apply_one(databases: Reached, change: _Change, name: str) -> DatabaseResult:
    """Change a database, or only look where it is not to be changed, and prove what works there."""
    ports, stager = databases.ports, databases.stagers[name]
    database, pending = ports.databases[name], change.pending
    is_changed, base = name in change.beside, change.beside.get(name)
    stays = base if change.is_new else _if_another_account(ports, base, pending)
    if is_changed:
        stager.stage(current=stays, pending=pending)
    revoked = logins.prove(
        database, stager, ports.side_by_side, pending=pending, base=stays, doomed=change.doomed
    )
    known = base if change.is_new else None if is_changed else pending
    behind = Wait(ports.clock, ports.side_by_side).until_accepted(
        database,
        pending=pending.login,
        base=known.login if known else None,
        doomed=[value.login for value in change.doomed.values() if value],
        is_urgent=change.is_urgent,
    )
    return DatabaseResult(
        database=name,
        outcome=DatabaseOutcome.APPLIED if is_changed else DatabaseOutcome.PROVEN,
        revoked=revoked,
        taken_over=is_changed and base is None,
        plaintext=database.plaintext,
        behind=behind,
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
    require = partial(ports.lock.require_lease, request.rotation.lease)
    with reached(ports, [candidate.ref for candidate in request.candidates], require) as databases:
        held = {candidate: databases.values[candidate.ref] for candidate in request.candidates}
        candidates = {candidate: value.login for candidate, value in held.items() if value}
        return Search(databases, request.refused, candidates).find()


def _revoke(request: RevokeRequest, ports: Ports) -> RevokeResult:
    """Leave nothing valid but the promoted generation (protocol O5)."""
    claim, lease = request.claim, request.rotation.lease
    require = partial(ports.lock.require, lease, claim, promoting=True)
    with reached(ports, [claim.generation], require) as databases:
        ended = databases.doomed(databases.record.valid - {claim.generation})
        revoke_one = partial(_revoke_one, databases, pending=_held(databases.values, claim), doomed=ended)
        done = databases.each(revoke_one)
    return RevokeResult(databases=tuple(done.values()))


def _revoke_one(
    databases: Reached,
    name: str,
    *,
    pending: CredentialValue,
    doomed: Mapping[int, CredentialValue | None],
) -> Revoked:
    ports, stager = databases.ports, databases.stagers[name]
    database = ports.databases[name]
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
                raise PendingCredentialRejectedError(database=name, generation=pending.generation)
            live.append(retired)
    revoked = logins.require_revoked(database, doomed, live=live)
    behind = Wait(ports.clock, ports.side_by_side).until_revoked(
        database,
        doomed=[value.login for value in doomed.values() if value],
        live=live,
    )
    return Revoked(database=name, revoked=revoked, behind=behind)
