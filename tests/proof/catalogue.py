"""The catalogue: rules of the protocol, each left out once, and the checkers that must see the difference.

Most are mistakes that a rotator has really made. The patches are on the shipped steps, decisions and drivers, or on the
doubles in memory and in the model where an adapter keeps the rule. One name holds for all checkers:

    .venv/bin/python -m tests.proof.model --story NAME          the shortest way to harm, step by step
    .venv/bin/python -m tests.proof.run --seed N --bug NAME     one race
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from datetime import timedelta
from functools import partial

from msgspec import structs

from functions.apply_db import logins, search
from functions.apply_db import step as apply_db
from functions.apply_db.replication import Wait
from functions.apply_db.search import Search, Turn
from functions.audit import step as audit
from functions.generate import step as generate
from functions.generate.step import Preparation
from functions.update_secrets import step as update_secrets
from lockstep.audit.append import Chain
from lockstep.databases.base import AlternatingUsers
from lockstep.databases.mariadb import _DualPassword as MariaDbDualPassword
from lockstep.databases.mysql import DualPassword, Slots
from lockstep.protocol import decide, errors, lock_rule
from lockstep.protocol.messages import BaseRefused, RevocationCheck, RevocationResult, RevokeRequest, Staged
from lockstep.protocol.model import Claim, ClaimKind, LockRecord, Release, StoreVersions
from lockstep.stores import contents, credential
from lockstep.stores.credential import CredentialSecret, Ports, Stores
from oci_fn import sequence
from tests.proof import model_ports, model_world
from tests.proof.model_bounds import MARIADB, ONE_MYSQL, POSTGRESQL, Budget
from tests.proof.model_ports import ModelDatabase, ModelStore
from tests.proof.planting import PLANTED, Behind, Bug, Foreign, Model, Patch, Races, around, bug, put
from tests.support.memory_database import MemoryDatabase
from tests.support.memory_lock import MemoryLock
from tests.support.memory_store import KINDS, MemoryStore

Patches = Iterable[Patch]
A_NEWER_RUN = ("I1", "I5", "I9")
"""What breaks where a run that was overtaken goes on."""
MEANWHILE, CHANGED_BY_DBA = ("revoked-meanwhile",), ("changed-by-dba",)
LATE_WRITE = Model("I5", Budget(terms=2, revokes=1), POSTGRESQL, is_slow=True)
LOST_RECORD = Budget(terms=1, losses=1, edits=1)
ONE_TERM, TWO_TERMS = Budget(terms=1), Budget(terms=2)
HOST_AMID_AN_EMERGENCY = Budget(terms=1, hosts=1, revokes=1)
GONE_AMID_AN_EMERGENCY = Budget(terms=1, outages=1, revokes=1)


def with_lock(ports: Ports, **own: Callable[..., Foreign]) -> Ports:
    """The ports with a lock that does something itself."""
    lock: Foreign = Behind(ports.lock, **own)
    return replace(ports, lock=lock)


def without_fence(ports: Ports) -> Ports:
    """The ports with a lock that shows the record, whoever holds it and whatever is in flight."""
    return with_lock(ports, require=lambda *_, **__: ports.lock.read())


def require(ports: Ports, request: Foreign) -> None:
    """Read the fence, as ApplyDb does."""
    lease = request.rotation.lease
    ports.lock.require(lease, request.claim, promoting=request.promoting, now=ports.clock.now())


# The lock record.


@bug("L6", over=(MemoryLock, "claim"), model=Model("I4", TWO_TERMS, POSTGRESQL))
def claim_without_condition(
    _original: Foreign, lock: MemoryLock, _lease: Foreign, claim: Claim, *, plan: str, **_more: Foreign
) -> None:
    """The claim is written without asking whether the lock is still held and nothing is in flight."""
    made = {"claim": claim, "promoting": False, "highest_generation": claim.generation}
    with lock.faults.around("claim"):
        lock.record = replace(lock.record, plan=plan, activate=None, **made)  # type: ignore[arg-type]  # as it has


@bug("M1", over=(MemoryLock, "release"), races=Races(("I4",), seed=3), model=Model("I5", is_slow=True))
def claim_dropped_on_failure(
    original: Foreign, lock: MemoryLock, lease: Foreign, done: Release | None, **more: Foreign
) -> None:
    """A failed run clears the claim as it gives the lock back."""
    original(lock, lease, done, **more)
    if done is None:
        lock.record = replace(lock.record, claim=None, promoting=False)


@bug("L1", model=Model("I13", engines=POSTGRESQL))
def adopt_by_label() -> Patches:
    """What is pending is what a store's label says, not what the lock record names."""

    def held(
        operation: str, _original: Foreign, lock: MemoryLock, lease: Foreign, *_: Foreign, **__: Foreign
    ) -> LockRecord | None:
        with lock.faults.around(operation):
            if not lock._held(lease):
                raise errors.FenceLostError
            return None if operation == "claim" else lock.record

    def run(original: Foreign, request: Foreign, ports: Ports) -> Foreign:
        return original(
            request, with_lock(ports, read=partial(labelled, request.rotation.rotation_id, ports))
        )

    def labelled(run_id: str, ports: Ports) -> LockRecord:
        record, store = ports.lock.read(), ports.stores.first
        assert isinstance(store, ModelStore)
        newest, current = store.ask("read_label"), record.current_generation or 0
        if newest <= current:
            return replace(record, claim=None)
        claim = Claim(kind=ClaimKind.NEW, generation=newest, base_generation=current, rotation_id=run_id)
        return replace(record, claim=claim)

    yield around(generate, "run", run)
    for name in ("claim", "require", "begin_promotion"):
        yield around(MemoryLock, name, partial(held, name))


@bug("L4", races=Races(("I1",)), model=Model("I1", is_slow=True))
def standby_ignores_due() -> Patches:
    """A runner rotates although it is not due, also within the overlap."""
    yield _acquired(next_due_at=None)
    yield put(decide, "overlap_runs", lambda _record, _now: False)


@bug("O4", races=Races(("O4",), ("paused",)))
def pause_ignored() -> Patches:
    """Scheduled runs begin although the credential is paused."""
    yield _acquired(paused=False)


def _acquired(**as_if: Foreign) -> Patch:
    """ACQUIRE decides as if the record were another."""

    def acquire(original: Foreign, lock: MemoryLock, **asked: Foreign) -> Foreign:
        before = lock.record
        lock.record = replace(before, **as_if)
        try:
            return original(lock, **asked)
        finally:
            taken = lock.record
            lock.record = replace(before, holder=taken.holder, fence=taken.fence, expires_at=taken.expires_at)

    return around(MemoryLock, "acquire", acquire)


@bug("L4, I14", over=(MemoryLock, "acquire"), model=Model("I14", Budget(terms=1, edits=1)))
def repairs_wait_for_the_overlap(original: Foreign, lock: MemoryLock, **asked: Foreign) -> Foreign:
    """A run that would repair waits until a rotation may begin, also one that is forced."""
    return None if decide.overlap_runs(lock.record, asked["now"]) else original(lock, **asked)


@bug("R9", races=Races(("I8",)))
def lease_shorter_than_run() -> Patches:
    """The lease is shorter than an execution."""
    yield put(sequence, "LEASE", timedelta(seconds=4))


@bug("L17, I14", model=Model("I14", Budget(terms=1, clocks=1)))
def times_believed() -> Patches:
    """Every time in the record is believed, however late it is."""
    for owner in (lock_rule, generate, audit, search):
        yield put(owner, "believed", lambda record, *_: record)


# What a run is to do.


class _AnyClaim(str):
    """The id of a claim that is equal to every other one."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str | None)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


@bug("C3, V22", model=Model("I13", LOST_RECORD, POSTGRESQL))
def generation_reused() -> Patches:
    """A generation is named without a look at the stores, and what they hold of that name is taken for its value."""
    yield put(decide, "next_generation", lambda record, _served: record.highest_generation + 1)
    yield around(model_ports, "claim_id", lambda original, run: _AnyClaim(original(run) or "0"))


def instead_of_reconcile(instead: Callable[[LockRecord, Foreign], decide.Decision | None]) -> Patch:
    """Where the stores, or the plan, are to be reconciled, something else is done, or the same where it gives None."""

    def decided(original: Foreign, record: LockRecord, served: Foreign, **asked: Foreign) -> decide.Decision:
        found: decide.Decision = original(record, served, **asked)
        return (instead(record, served) if isinstance(found, decide.Reconcile) else None) or found

    return around(decide, "decide", decided)


@bug("C5", races=Races(("I1", "I8"), ("edited",)), model=Model("I13", Budget(terms=1, edits=1)))
def reconcile_skipped() -> Patches:
    """Stores that disagree are not reconciled; the first one is believed."""

    def instead(record: LockRecord, served: Foreign) -> decide.Decision | None:
        if decide.is_as_recorded(record, served, plan=record.plan or ""):
            return None
        return decide.Begin(base_generation=next(iter(served.values())).generation)

    yield instead_of_reconcile(instead)


@bug("C5", races=Races(("I1",), ("moved-back",)))
def adopt_whatever_stores_serve() -> Patches:
    """A value in flight is finished although a store was moved back to an earlier value that works."""

    def instead(record: LockRecord, _served: Foreign) -> decide.Decision | None:
        is_open = record.claim and not record.promoting and record.claim.kind is ClaimKind.NEW
        return decide.Adopt(record.claim) if record.claim and is_open else None

    yield instead_of_reconcile(instead)


@bug("I4", model=Model("I4", TWO_TERMS, POSTGRESQL, is_slow=True))
def promotion_replaced_by_a_new_value() -> Patches:
    """Where all stores still serve base, a promotion under way is replaced by a new value."""

    def instead(record: LockRecord, served: Foreign) -> decide.Decision | None:
        base = record.current_generation
        at_base = decide.agree(served.values()) and next(iter(served.values())).generation == base
        if record.promoting and at_base and base is not None:
            return decide.Begin(base_generation=base)
        return None

    yield instead_of_reconcile(instead)


@bug("O7", model=Model("I12", Budget(terms=2, sudden_losses=1), POSTGRESQL, is_slow=True))
def activation_begins_a_new_value() -> Patches:
    """A plan becomes active with a new value; what the stores serve is not reconciled first."""

    def instead(record: LockRecord, served: Foreign) -> decide.Decision | None:
        first = next(iter(served.values()))
        if record.activate and decide.agree(served.values()) and first.login and first.generation:
            return decide.Begin(base_generation=first.generation)
        return None

    yield instead_of_reconcile(instead)


@bug("C5, I16", over=(decide, "can_finish"), model=Model("I16", Budget(terms=1, edits=1), POSTGRESQL))
def half_done_claim_replaced(_original: Foreign, *_: Foreign, **__: Foreign) -> None:
    """Each run replaces what it finds half done by a version of its own."""


@bug("I10", races=Races(("I1", "I3"), ("two-plans",)))
def plan_not_compared() -> Patches:
    """A runner acts under its own plan, whatever the record says."""
    yield put(generate, "require_active", lambda _record, credential: credential.plan_digest)
    yield put(MemoryLock, "_is_under", lambda *_, **__: True)


@bug("I11", races=Races(("I11",), ("placeholders",), seed=2))
def take_over_not_asked() -> Patches:
    """Accounts of which no login is known are taken over without consent."""

    def decided(original: Foreign, record: LockRecord, *served: Foreign, **asked: Foreign) -> Foreign:
        return original(replace(record, take_over=frozenset(asked["databases"])), *served, **asked)

    def taken(ports: Ports, original: Foreign, *args: Foreign, **more: Foreign) -> Foreign:
        return replace(original(*args, **more), take_over=frozenset(ports.databases))

    def run(original: Foreign, request: Foreign, ports: Ports) -> Foreign:
        asked = {
            name: partial(taken, ports, getattr(ports.lock, name)) for name in ("require", "require_lease")
        }
        return original(request, with_lock(ports, **asked))

    yield around(decide, "decide", decided)
    yield around(apply_db, "run", run)


# Staging.


@bug("V1", over=(generate, "run"), model=Model("I4", engines=POSTGRESQL))
def own_store_first(original: Foreign, request: Foreign, ports: Ports) -> Foreign:
    """Each runner stages in the store of its own cloud first."""
    stores = sorted(ports.stores, key=lambda store: store.name != ports.runner)
    return original(request, replace(ports, stores=Stores(stores)))


@bug("M2", races=Races(("I2",)), model=Model("I2", ONE_TERM))
def databases_before_write_ahead() -> Patches:
    """Databases accept the value before every store holds it."""

    def first_alone(original: Foreign, stores: Stores, puts: Foreign, value: Foreign) -> Foreign:
        return original(Stores([stores.first]), puts[:1], value)

    def stages_and_promotes(original: Foreign, request: Foreign, ports: Ports) -> Foreign:
        value: Foreign = ports.stores.find_generation(request.claim.generation)
        for store in list(ports.stores)[1:] if value else ():
            store.prepare(request.claim.generation)(value)
        return original(request, ports)

    yield around(Stores, "_stage", first_alone)
    yield around(update_secrets, "run", stages_and_promotes)


@bug("M2, V1", over=(Stores, "_stage"), races=Races(("I2",), seed=8))
def other_stores_not_waited_for(original: Foreign, stores: Stores, puts: Foreign, value: Foreign) -> Foreign:
    """Databases are changed although a store other than the first did not take the value."""
    first, *others = puts
    seen = original(Stores([stores.first]), [first], value)
    for other in others:
        with suppress(errors.RetryableError):
            other(stores.first.read_generation(value.generation))
    return seen


@bug("V20", races=Races(("V20",), ("edited",)))
def keys_lost_on_reissue() -> Patches:
    """A reconcile writes the login without the keys of others that the secret had."""
    is_reconcile = ContextVar("is_reconcile", default=False)

    def reconcile(original: Foreign, *args: Foreign) -> Foreign:
        token = is_reconcile.set(True)
        try:
            return original(*args)
        finally:
            is_reconcile.reset(token)

    def forgets(original: Foreign, served: Foreign) -> Foreign:
        return contents.NO_EXTRAS if is_reconcile.get() else original(served)

    yield around(Preparation, "reconciled", reconcile)
    yield around(credential, "carried", forgets)


# ApplyDb.


@bug("D1", races=Races(A_NEWER_RUN, ("steady", *MEANWHILE), seed=54), model=Model("I12", is_slow=True))
def no_advisory_lock() -> Patches:
    """The databases are changed without their advisory lock."""

    def reachable(database: MemoryDatabase, _session: Foreign = None) -> None:
        if database.unreachable:
            raise errors.DatabaseUnreachableError(database=database.name)

    yield put(MemoryDatabase, "_open", reachable)
    yield put(MemoryDatabase, "require_reachable", reachable)
    yield put(ModelDatabase, "lock", lambda _database: None)
    yield put(model_world, "holds_advisory_lock", lambda *_: True)


@bug("D4", over=(apply_db, "run"), races=Races(A_NEWER_RUN, MEANWHILE, 58), model=LATE_WRITE)
def fence_not_read(original: Foreign, request: Foreign, ports: Ports) -> Foreign:
    """The lock record is not read before an account is changed."""
    return original(request, without_fence(ports))


@bug("D4", over=(apply_db, "run"), races=Races(A_NEWER_RUN, MEANWHILE, 58), model=LATE_WRITE)
def fence_read_before_advisory_lock(original: Foreign, request: Foreign, ports: Ports) -> Foreign:
    """The lock record is read, but before the advisory lock is taken."""
    if isinstance(request, Staged):
        require(ports, request)
        ports = without_fence(ports)
    return original(request, ports)


@bug("D4", over=(apply_db, "_apply"), races=Races(A_NEWER_RUN, MEANWHILE, 58), model=LATE_WRITE)
def changed_before_the_fence_answered(original: Foreign, request: Foreign, ports: Ports) -> Foreign:
    """The databases are changed while the lock record is still being read."""
    done = original(request, without_fence(ports))
    require(ports, request)
    return done


@bug("D3", over=(logins, "refusing"), races=Races(("I1", "I11"), CHANGED_BY_DBA))
def base_not_probed(_original: Foreign, *_: Foreign) -> tuple[str, ...]:
    """An account is changed without asking whether base logs in."""
    return ()


@bug("D3, D4", races=Races(A_NEWER_RUN, seed=82), model=LATE_WRITE)
def neither_fence_nor_base() -> Patches:
    """Neither the lock record is read nor base asked for before an account is changed."""
    return [fence_not_read(), base_not_probed()]


@bug("D5", over=(MemoryDatabase, "set_passwords"), races=Races(("I1",), seed=2))
def base_not_kept(original: Foreign, database: MemoryDatabase, username: str, *passwords: str) -> None:
    """A database gets the new password in place of the old one."""
    original(database, username, *passwords[:1])


@bug("D12", over=(DualPassword, "stage"), faults="mysql", model=Model("I12", ONE_TERM))
def retain_without_probe(_original: Foreign, stager: DualPassword, *, pending: Foreign, **_: Foreign) -> None:
    """MySQL's RETAIN is run without asking which generation is in which slot: run twice, it drops current."""
    stager._account.set_primary(pending, retain=True, before=Slots())


@bug("D12", over=(DualPassword, "stage"), model=Model("I12", Budget(terms=1, failovers=1)))
def primary_not_set_to_base(
    _original: Foreign, stager: DualPassword, *, current: Foreign, pending: Foreign
) -> None:
    """MySQL's RETAIN is run without making base the primary password first."""
    slots = stager._account.recorded(pending.login.username)
    if current is None or current.login == pending.login:
        slots = stager._account.set_primary(pending, retain=False, before=slots)
        stager._account.discard_secondary(pending.login.username, before=slots)
    elif not stager._are_staged(slots, current, pending):
        stager._account.set_primary(pending, retain=True, before=slots)


@bug("D12", over=(MariaDbDualPassword, "stage"), faults="mariadb", model=Model("I12", ONE_TERM, MARIADB))
def verifier_of_base_left_out(
    _original: Foreign, stager: MariaDbDualPassword, *, pending: Foreign, **_: Foreign
) -> None:
    """MariaDB's ALTER USER names the pending verifier alone."""
    stager._account.set_passwords(pending.login.username, pending.login.password)


@bug("D13", faults="alternating", model=Model("I12", ONE_TERM, POSTGRESQL))
def same_user_again() -> Patches:
    """The alternating users do not alternate, and the driver does not mind."""

    def stage(stager: AlternatingUsers, *, pending: Foreign, **_: Foreign) -> None:
        stager._set_password(pending.login)

    return [
        put(generate, "next_username", lambda usernames, **_: usernames[0]),
        put(AlternatingUsers, "stage", stage),
    ]


@bug(
    "D9",
    over=(logins, "require_revoked"),
    races=Races(("I9",), ("sticky",)),
    model=Model("I9", Budget(terms=1, clinging=1), MARIADB),
)
def past_not_proven_revoked(
    _original: Foreign, _database: Foreign, doomed: Mapping[int, Foreign], **_: Foreign
) -> Foreign:
    """What should be revoked is said to be revoked without a login."""
    return _refused(doomed)


def _refused(generations: Iterable[int]) -> tuple[RevocationCheck, ...]:
    return tuple(RevocationCheck(generation=g, revocation=RevocationResult.REFUSED) for g in generations)


@bug("D7", races=Races(("I1", "I3"), ("steady", "forgetful")), model=Model("I3", Budget(terms=1, deaf=1)))
def proof_skipped() -> Patches:
    """A database that acknowledged the change is believed without a login."""
    return [put(logins, "require_accepted", lambda *_, **__: None), past_not_proven_revoked()]


@bug("D18", over=(logins, "require_revoked"), races=Races(("I1",), seed=121))
def refusal_not_taken_back(
    _original: Foreign, database: Foreign, doomed: Mapping[int, Foreign], *, live: Foreign
) -> Foreign:
    """What must be refused is shown last, so that a run ends with a refusal and the next begins with one."""
    shown = {g: value.login for g, value in doomed.items() if value and value.login not in live}
    assert not any(map(database.accepts, shown.values()))
    return _refused(shown)


@bug("D18", over=(logins, "prove"), races=Races(("I1",), ("steady", "edited", "forgetful"), 16))
def refusals_side_by_side(
    original: Foreign, database: Foreign, stager: Foreign, side_by_side: Foreign, **values: Foreign
) -> Foreign:
    """All logins of an account that must be refused are shown at the same time, and then one that must succeed."""
    doomed = values.pop("doomed")
    original(database, stager, side_by_side, **values, doomed={})
    live = [value.login for value in values.values() if value]
    shown = {g: value.login for g, value in doomed.items() if value and value.login not in live}
    if any(side_by_side([partial(database.accepts, login) for login in shown.values()])):
        raise errors.PreviousCredentialAcceptedError(database=database.name)
    for login in live:
        database.accepts(login)
    return _refused(shown)


@bug(
    "D3, I13",
    over=(apply_db, "_apply"),
    races=Races(("I8",), ("fails-over",)),
    model=Model("I13", Budget(terms=1, failovers=1)),
)
def refused_base_not_reconciled(original: Foreign, request: Foreign, ports: Ports) -> Foreign:
    """Where a database refuses base, nothing is searched, and a person is waited for."""
    result = original(request, ports)
    if isinstance(result, BaseRefused):
        raise errors.CurrentCredentialRejectedError(database=result.refused[0])
    return result


@bug("V8, I13", over=(decide, "decide"), model=Model("I13", Budget(terms=1, texts=1)))
def text_stops_every_run(original: Foreign, record: LockRecord, served: Foreign, **asked: Foreign) -> Foreign:
    """A text that is no credential ends the run, whatever the other stores serve."""
    decide._require_ours(served.values())
    return original(record, served, **asked)


@bug("O5, I17", over=(Wait, "until_accepted"), model=Model("I17", HOST_AMID_AN_EMERGENCY, POSTGRESQL))
def emergency_waits_for_hosts(original: Foreign, wait: Wait, database: Foreign, **more: Foreign) -> Foreign:
    """In an emergency, too, a verify host that fails ends the run."""
    return original(wait, database, **{**more, "is_urgent": False})


@bug("O5, I17", over=(LockRecord, "may_pass_over"), model=Model("I17", GONE_AMID_AN_EMERGENCY, POSTGRESQL))
def emergency_waits_for_what_is_gone(_original: Foreign, *_: Foreign) -> bool:
    """A database that does not answer ends the run, also in an emergency and with consent."""
    return False


@bug("O5, I3", over=(LockRecord, "may_pass_over"), model=Model("I3", GONE_AMID_AN_EMERGENCY, POSTGRESQL))
def passed_over_without_consent(_original: Foreign, record: LockRecord, *_: Foreign) -> bool:
    """In an emergency every database is passed over that does not answer."""
    return record.is_revoking


# The search for a login that works.


@bug("C5, I15", races=Races(("I1",), ("consented",), seed=2))
def consent_applied_without_a_search() -> Patches:
    """Consent is used without a look at what works on the database: it has no vote, and gets the winner alone."""

    def may_show(original: Foreign, one: Search, database: str, *asked: Foreign) -> bool:
        return database not in one._record.take_over and original(one, database, *asked)

    def chosen(original: Foreign, tried: Foreign, databases: Iterable[str]) -> Foreign:
        asked = [name for name in databases if any(name in one.works for one in tried)]
        return original(tried, asked or databases)

    return [around(Search, "_may_show", may_show), around(decide, "choose", chosen)]


@bug("C5", over=(apply_db, "_if_another_account"), races=Races(("I1",), ("moved-to-what-works",), 2))
def winner_staged_alone(_original: Foreign, *_: Foreign) -> None:
    """On a database that refuses the winner nothing is kept beside it."""


@bug("C5, I12", over=(decide, "ended_by"), races=Races(("I1",), ("no-room",)))
def room_not_asked(_original: Foreign, *_: Foreign) -> list[Foreign]:
    """The winner is staged whatever it ends."""
    return []


@bug(
    "C5",
    over=(decide, "superseded_generations"),
    races=Races(("I8",), ("fails-over-twice",)),
    model=Model("I13", Budget(terms=1, failovers=2), POSTGRESQL),
)
def superseded_not_shown(_original: Foreign, *_: Foreign) -> tuple[list[int], list[int]]:
    """Where nothing works that may be valid, nothing older is shown."""
    return [], []


@bug("C5, I13", over=(Search, "_turn"), model=Model("I13", Budget(terms=1, attributes=1)))
def names_decide(original: Foreign, *asked: Foreign, **known: Foreign) -> Turn | None:
    """What MySQL's ATTRIBUTE does not name is not shown."""
    turn = original(*asked, **known)
    return None if turn in {Turn.BEST, Turn.NAMED_ALTHOUGH_WRONG, Turn.OTHER} else turn


@bug("C5, I13", over=(Search, "_turn"), model=Model("I13", Budget(terms=1, dbas=1), ONE_MYSQL))
def typed_not_first(original: Foreign, *asked: Foreign, **known: Foreign) -> Turn | None:
    """What the server names comes before what a person has written into the stores."""
    turn = original(*asked, **known)
    return Turn.OTHER if turn is Turn.TYPED else turn


@bug(
    "C5",
    over=(decide, "superseded_generations"),
    model=Model("I13", Budget(terms=1, failovers=2), POSTGRESQL),
)
def base_shown_again_too_early(original: Foreign, *asked: Foreign) -> tuple[list[int], list[int]]:
    """What a database has refused is shown again before all that was current once."""
    were_current, only_staged = original(*asked)
    return [], [*were_current, *only_staged]


@bug("C11", over=(Preparation, "reconciled"), races=Races(("O5",), ("leaked-again",)))
def accepted_not_recorded(original: Foreign, *given: Foreign) -> Foreign:
    """What a search has seen to log in is not valid on record."""
    *others, found = given
    return original(*others, structs.replace(found, accepted=()))


@bug("C5", over=(Search, "_may_show"), races=Races(("I1",), CHANGED_BY_DBA, 44))
def every_candidate_shown(_original: Foreign, *_: Foreign) -> bool:
    """The search goes on, whatever an account has refused."""
    return True


# Promotion.


@bug("I3", races=Races(("I1", "I3")), model=Model("I3", ONE_TERM))
def one_database_is_enough() -> Patches:
    """The value is promoted when one database has accepted it."""

    def apply(original: Foreign, request: Foreign, ports: Ports) -> Foreign:
        return original(request, replace(ports, databases=dict(list(ports.databases.items())[:1])))

    def run(original: Foreign, request: Foreign, ports: Ports) -> Foreign:
        return original(structs.replace(request, proven=tuple(ports.databases)), ports)

    return [around(apply_db, "_apply", apply), around(update_secrets, "run", run)]


def _promoted(store: Foreign, generation: int) -> StoreVersions:
    version = f"generation-{generation}"
    return StoreVersions(store=store.name, app_user=version, connection_blob=version)


@bug("V10", races=Races(("I1", "I5"), seed=43))
def blind_promote() -> Patches:
    """A store is made to serve a generation without a look at what it serves."""

    def promote(store: MemoryStore, generation: int, *_: Foreign) -> StoreVersions:
        for kind in KINDS:
            with store.faults.around(f"promote {kind}"):
                store._secrets[kind].make_current(f"generation-{generation}")
        return _promoted(store, generation)

    def set_current(store: ModelStore, generation: int, *_: Foreign) -> StoreVersions:
        store.ask("promote", generation)
        return _promoted(store, generation)

    return [put(MemoryStore, "_promote", promote), put(ModelStore, "_promote_as", set_current)]


@bug("V10", over=(MemoryStore, "_promote"), races=Races(("I1", "I5"), seed=43))
def promote_below_newer(
    _original: Foreign, store: MemoryStore, generation: int, *_: Foreign
) -> StoreVersions:
    """Promotion compares and sets, but asks neither whether current is newer nor whether the lock is held."""
    for kind in KINDS:
        secret = store._secrets[kind]
        seen = secret.current
        with store.faults.around(f"promote {kind}"):
            if secret.current == seen:
                secret.make_current(f"generation-{generation}")
    return _promoted(store, generation)


@bug("V10", over=(update_secrets, "run"), model=LATE_WRITE)
def promoted_before_the_conditional_write(original: Foreign, request: Foreign, ports: Ports) -> Foreign:
    """Stores compare and set before the claim is marked as promoting, under the fence."""
    ports.stores.prepare_promotion(request.claim.generation, request.seen)(lambda: None)
    return original(request, ports)


@bug("V10, V20", over=(CredentialSecret, "from_seen"), races=Races(("V20", "V21"), ("edited-meanwhile",)))
def seen_not_compared(_original: Foreign, secret: CredentialSecret, generation: int, _seen: str) -> Foreign:
    """A promotion replaces what is current, whatever Generate saw when it made the text."""
    found = secret.versions.observe(generation)
    return found if found.generation < generation else None


@bug("L14", model=LATE_WRITE)
def promotion_not_marked() -> Patches:
    """A claim stays open while stores begin to serve its value."""

    def begin_promotion(lock: MemoryLock, *claim: Foreign, **now: Foreign) -> LockRecord:
        return lock.require(*claim, promoting=False, **now)

    def require_either(
        original: Foreign, lock: MemoryLock, *claim: Foreign, promoting: bool, **now: Foreign
    ) -> Foreign:
        del promoting
        return original(lock, *claim, promoting=lock.record.promoting, **now)

    yield put(MemoryLock, "begin_promotion", begin_promotion)
    yield around(MemoryLock, "require", require_either)


@bug("M2", over=(update_secrets, "run"), model=Model("I12", Budget(terms=1, revokes=1)))
def revoked_before_promotion(original: Foreign, request: Foreign, ports: Ports) -> Foreign:
    """In an emergency base is revoked before the stores serve pending."""
    if ports.lock.read().is_revoking and request.claim.kind is ClaimKind.NEW:
        apply_db.run(RevokeRequest(rotation=request.rotation, claim=request.claim), without_fence(ports))
    return original(request, ports)


# The record of it.


@bug("E9", over=(Chain, "_own"), races=Races(("I7",), seed=132))
def own_entry_not_looked_for(_original: Foreign, *_: Foreign) -> None:
    """A run writes its entry whether or not the log has it."""


@bug("O5", over=(update_secrets, "_revokes"), model=Model("I9", Budget(terms=1, revokes=1)))
def emergency_without_revocation(_original: Foreign, *_: Foreign) -> bool:
    """After an emergency order a new value is promoted, and the old ones live on."""
    return False


@bug("O5", over=(decide, "release_after"), model=Model("I9", Budget(terms=1, revokes=1, edits=1)))
def emergency_ended_by_a_reconcile(
    original: Foreign, claim: Claim, record: LockRecord, *more: Foreign, **named: Foreign
) -> Foreign:
    """A reconcile, which gives an old login again, ends an emergency."""
    done = original(claim, record, *more, **named)
    return structs.replace(done, valid=frozenset({claim.generation})) if record.is_revoking else done


CATALOGUE: Mapping[str, Bug] = PLANTED
"""All of them, by name."""
