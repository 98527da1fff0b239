"""Rules of the steps and of the sequence, each left out by a patch for the length of a block; see `catalogue`.

The patches replace parts of the shipped code, so they work over the ports of a race, an estate and the model alike.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from unittest.mock import patch

from msgspec import structs

from functions.apply_db import logins
from functions.apply_db import step as apply_db
from functions.audit import step as audit
from functions.generate import step as generate
from functions.update_secrets import step as update_secrets
from lockstep.audit.append import Chain
from lockstep.protocol import decide
from lockstep.protocol.errors import CurrentCredentialRejectedError, FenceLostError, RetryableError
from lockstep.protocol.messages import (
    BaseRefused,
    RevocationCheck,
    RevocationResult,
    RevokeRequest,
    Staged,
)
from lockstep.protocol.model import Claim, ClaimKind, CredentialValue, Lease, LockRecord, Release
from lockstep.stores import contents
from lockstep.stores import credential as one_secret
from lockstep.stores.credential import Ports, Stores
from oci_fn import sequence
from tests.proof import model_ports
from tests.proof.model_ports import ModelStore
from tests.proof.patching import Behind, Foreign, patched
from tests.support.memory_lock import MemoryLock

# What is in flight.


def adopt_by_label() -> AbstractContextManager[None]:
    """The record names nothing; a run that has the lock works on what the label of the first store names."""

    def claim(self: MemoryLock, lease: Lease, claim: Claim, **_more: Foreign) -> None:
        del claim
        with self.faults.around("claim"):
            if not self._held(lease):
                raise FenceLostError

    def require(self: MemoryLock, lease: Lease, claim: Claim, **_more: Foreign) -> LockRecord:
        del claim
        with self.faults.around("require"):
            if not self._held(lease):
                raise FenceLostError
            return self.record

    def begin_promotion(self: MemoryLock, lease: Lease, claim: Claim, *, now: datetime) -> LockRecord:
        del now
        return require(self, lease, claim)

    return patched(
        _claims_are_seen(lambda store: _staged(store, "read_label")[-1:]),
        patch.object(MemoryLock, "claim", claim),
        patch.object(MemoryLock, "require", require),
        patch.object(MemoryLock, "begin_promotion", begin_promotion),
    )


def _staged(store: Foreign, read: str) -> list[int]:
    """The generations that a store holds, in the order in which they were staged."""
    if isinstance(store, ModelStore):
        return [store.ask(read)]
    versions = store._secrets["app_user"].versions
    return [int(v.removeprefix("generation-")) for v in versions if v.startswith("generation-")]


@contextmanager
def _claims_are_seen(newest: Callable[[Foreign], list[int]]) -> Iterator[None]:
    """What is in flight is what the first store shows."""
    original = generate.run

    def run(request: Foreign, ports: Ports) -> Foreign:
        lock: Foreign = _LockThatReads(ports.lock, lambda: newest(ports.stores.first), request)
        return original(request, replace(ports, lock=lock))

    with patch.object(generate, "run", run):
        yield


class _LockThatReads(Behind):
    """A lock whose record has the claim that a store shows."""

    def __init__(self, lock: Foreign, newest: Callable[[], list[int]], request: Foreign) -> None:
        super().__init__(lock)
        self._newest = newest
        self._request = request

    def read(self) -> LockRecord:
        record: LockRecord = self._port.read()
        newest = self._newest()
        if not newest or newest[0] <= (record.current_generation or 0):
            return replace(record, claim=None)
        claim = Claim(
            kind=ClaimKind.NEW,
            generation=newest[0],
            base_generation=record.current_generation or 0,
            rotation_id=self._request.rotation.rotation_id,
        )
        return replace(record, claim=claim)


class _AnyClaim(str):
    """The id of a claim that is equal to every other one."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str | None)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def named_without_a_look() -> AbstractContextManager[None]:
    """A generation is named without asking what the stores serve."""

    def next_generation(record: LockRecord, served: Foreign) -> int:
        del served
        return record.highest_generation + 1

    return patched(patch.object(decide, "next_generation", next_generation))


def generation_reused() -> AbstractContextManager[None]:
    """The same, and what is found under the name of a claim is taken for its value, whoever staged it."""
    in_text, in_model = contents.decode_claim_id, model_ports.claim_id

    def decoded(text: str, generation: int, **where: str) -> str:
        return _AnyClaim(in_text(text, generation, **where) or "")

    return patched(
        patch.object(one_secret, "decode_claim_id", decoded),
        patch.object(model_ports, "claim_id", lambda run: _AnyClaim(in_model(run) or "0")),
        named_without_a_look(),
    )


def reconcile_skipped() -> AbstractContextManager[None]:
    """Stores that disagree are not reconciled; the first one is believed."""

    def instead(record: LockRecord, served: Foreign) -> decide.Decision:
        if decide.is_as_recorded(record, served, plan=record.plan or ""):
            return decide.Reconcile()
        return decide.Begin(base_generation=next(iter(served.values())).generation)

    return _instead_of_reconcile(instead)


def adopt_whatever_stores_serve() -> AbstractContextManager[None]:
    """A generation in flight is finished, also if a store serves neither its base nor it."""
    return _instead_of_reconcile(
        lambda record, _served: (
            decide.Adopt(record.claim)
            if record.claim and not record.promoting and record.claim.kind is ClaimKind.NEW
            else decide.Reconcile()
        )
    )


def promotion_replaced_by_a_new_value() -> AbstractContextManager[None]:
    """Where all stores still serve base, a promotion under way counts as a claim that anything may replace."""

    def instead(record: LockRecord, served: Foreign) -> decide.Decision:
        at_base = (
            decide.agree(served.values())
            and next(iter(served.values())).generation == record.current_generation
        )
        if record.promoting and at_base and record.current_generation is not None:
            return decide.Begin(base_generation=record.current_generation)
        return decide.Reconcile()

    return _instead_of_reconcile(instead)


def reconcile_replaced_by_a_new_value() -> AbstractContextManager[None]:
    """Where all stores serve base again, a reconcile under way is replaced by a new value."""

    def instead(record: LockRecord, served: Foreign) -> decide.Decision:
        at_base = (
            decide.agree(served.values())
            and next(iter(served.values())).generation == record.current_generation
        )
        is_reconcile = (
            record.claim is not None and record.claim.kind is ClaimKind.RECONCILE and not record.promoting
        )
        if is_reconcile and at_base and record.current_generation is not None:
            return decide.Begin(base_generation=record.current_generation)
        return decide.Reconcile()

    return _instead_of_reconcile(instead)


def activation_begins_a_new_value() -> AbstractContextManager[None]:
    """A plan becomes active with the next new value; what the stores serve is not reconciled first."""

    def instead(record: LockRecord, served: Foreign) -> decide.Decision:
        values = [*served.values()]
        if record.activate and decide.agree(values) and values[0].login and values[0].generation:
            return decide.Begin(base_generation=values[0].generation)
        return decide.Reconcile()

    return _instead_of_reconcile(instead)


def _instead_of_reconcile(
    instead: Callable[[LockRecord, Foreign], decide.Decision],
) -> AbstractContextManager[None]:
    def decided(record: LockRecord, served: Foreign, asked: Mapping[str, Foreign]) -> decide.Decision:
        found = _DECIDE(record, served, **asked)
        return instead(record, served) if isinstance(found, decide.Reconcile) else found

    return _decided(decided)


_DECIDE = decide.decide


def _decided(
    wrong: Callable[[LockRecord, Foreign, Mapping[str, Foreign]], decide.Decision],
) -> AbstractContextManager[None]:
    def decided(record: LockRecord, served: Foreign, **asked: Foreign) -> decide.Decision:
        return wrong(record, served, asked)

    return patched(patch.object(decide, "decide", decided))


def emergency_adopts_an_old_value() -> AbstractContextManager[None]:
    """A value that was made before the emergency order is promoted as its answer."""
    return patched(
        patch.object(decide, "_can_adopt", lambda _record, claim, base: claim.base_generation == base)
    )


# The plan.


def plan_not_compared() -> AbstractContextManager[None]:
    """A runner acts under its own plan, whatever the record says."""
    return patched(
        patch.object(generate, "require_active", lambda _record, credential: credential.plan_digest),
        patch.object(MemoryLock, "_is_under", lambda _lock, _plan, *, activates: activates in (True, False)),
    )


def blocked_database_asked() -> AbstractContextManager[None]:
    return patched(patch.object(generate, "require_not_blocked", lambda _record, _credential: None))


def take_over_not_asked() -> AbstractContextManager[None]:
    """Where there are only placeholders, or no login works, the accounts are taken."""

    def decided(record: LockRecord, served: Foreign, asked: Mapping[str, Foreign]) -> decide.Decision:
        return _DECIDE(replace(record, take_over=frozenset(asked["databases"])), served, **asked)

    taking_over = _over(
        apply_db, lambda ports: replace(ports, lock=_LockThatTakesOver(ports.lock, ports.databases))
    )
    return patched(_decided(decided), taking_over)


class _LockThatTakesOver(Behind):
    """A lock whose record has every database under take-over."""

    def __init__(self, lock: Foreign, databases: Collection[str]) -> None:
        super().__init__(lock)
        self._databases = databases

    def require(self, *args: Foreign, **more: Foreign) -> LockRecord:
        record: LockRecord = self._port.require(*args, **more)
        return replace(record, take_over=frozenset(self._databases))

    def require_lease(self, *args: Foreign, **more: Foreign) -> LockRecord:
        record: LockRecord = self._port.require_lease(*args, **more)
        return replace(record, take_over=frozenset(self._databases))


# Staging.


def own_store_first() -> AbstractContextManager[None]:
    original = generate.run

    def run(request: Foreign, ports: Ports) -> Foreign:
        return original(
            request, replace(ports, stores=Stores(sorted(ports.stores, key=lambda s: s.name != ports.runner)))
        )

    return patched(patch.object(generate, "run", run))


def databases_before_write_ahead() -> AbstractContextManager[None]:
    """Generate stages in the first store alone; the others get the value when it is promoted."""
    staged, updated = Stores._stage, update_secrets.run

    def first_alone(self: Stores, puts: Foreign, value: CredentialValue) -> Foreign:
        return staged(Stores([self.first]), puts[:1], value)

    def stages_and_promotes(request: Foreign, ports: Ports) -> Foreign:
        value = ports.stores.find_generation(request.claim.generation)
        for store in list(ports.stores)[1:] if value else ():
            store.prepare(request.claim.generation)(value)  # type: ignore[arg-type]  # it is there
        return updated(request, ports)

    return patched(
        patch.object(Stores, "_stage", first_alone),
        patch.object(update_secrets, "run", stages_and_promotes),
    )


def other_stores_not_waited_for() -> AbstractContextManager[None]:
    """Generate does not ask what has become of the staging in the other stores."""
    staged = Stores._stage

    def stage(self: Stores, puts: Foreign, value: CredentialValue) -> Foreign:
        first, *others = puts
        seen = staged(Stores([self.first]), [first], value)
        for put in others:
            with suppress(RetryableError):
                put(self.first.read_generation(value.generation))
        return seen

    return patched(patch.object(Stores, "_stage", stage))


# ApplyDb.


class LockThatNeverRefuses(Behind):
    """A lock that shows the record, whoever holds it and whatever is in flight."""

    def require(self, lease: Lease, claim: Claim, **_more: Foreign) -> LockRecord:
        del lease, claim
        return self._port.read()  # type: ignore[no-any-return]  # a lock's


def fence_not_read() -> AbstractContextManager[None]:
    return _over(apply_db, lambda ports: replace(ports, lock=LockThatNeverRefuses(ports.lock)))


class _LockThatIsAskedOnce(Behind):
    """A lock whose conditional write of a promotion is made once; whoever asks again learns nothing new."""

    _answer: LockRecord | None = None

    def begin_promotion(self, *args: Foreign, **more: Foreign) -> LockRecord:
        self._answer = self._answer or self._port.begin_promotion(*args, **more)
        return self._answer


def fence_not_read_before_promotion() -> AbstractContextManager[None]:
    """After a lost comparison a store is looked at and promoted without another look at the fence."""
    return _over(update_secrets, lambda ports: replace(ports, lock=_LockThatIsAskedOnce(ports.lock)))


def promoted_before_the_conditional_write() -> AbstractContextManager[None]:
    """Stores compare and set before it is known that the lock is still held."""
    original = update_secrets.run

    def run(request: Foreign, ports: Ports) -> Foreign:
        ports.stores.prepare_promotion(request.claim.generation, request.seen)(lambda: None)
        return original(request, ports)

    return patched(patch.object(update_secrets, "run", run))


def _over(step: Foreign, changed: Callable[[Ports], Ports]) -> AbstractContextManager[None]:
    original = step.run

    def run(request: Foreign, ports: Ports) -> Foreign:
        return original(request, changed(ports))

    return patched(patch.object(step, "run", run))


def fence_read_before_advisory_lock() -> AbstractContextManager[None]:
    original = apply_db.run

    def run(request: Foreign, ports: Ports) -> Foreign:
        if isinstance(request, Staged):
            ports.lock.require(
                request.rotation.lease, request.claim, promoting=request.promoting, now=ports.clock.now()
            )
            ports = replace(ports, lock=LockThatNeverRefuses(ports.lock))
        return original(request, ports)

    return patched(patch.object(apply_db, "run", run))


def phase_not_compared() -> AbstractContextManager[None]:
    """A step goes on whether the claim is open or promoting."""
    original = MemoryLock.require

    def require(
        self: MemoryLock, lease: Lease, claim: Claim, *, promoting: bool, now: datetime
    ) -> LockRecord:
        return original(self, lease, claim, promoting=promoting and self.record.promoting, now=now)

    def either(self: MemoryLock, lease: Lease, claim: Claim, *, promoting: bool, now: datetime) -> LockRecord:
        del promoting
        return require(self, lease, claim, promoting=self.record.promoting, now=now)

    return patched(patch.object(MemoryLock, "require", either))


def base_not_probed() -> AbstractContextManager[None]:
    return patched(patch.object(logins, "refusing", lambda *_: ()))


def live_barrier_missing() -> AbstractContextManager[None]:
    """Each database shows for itself that base logs in, just before it is changed."""
    apply, apply_one, refusing = apply_db._apply, apply_db._apply_one, logins.refusing

    def change_one(ports: Ports, lease: Lease, change: Foreign, name: str, stager: Foreign) -> Foreign:
        base = change.beside.get(name)
        if base and refusing(ports, {name: stager}, {name: base.login}):
            raise CurrentCredentialRejectedError(database=name)
        return apply_one(ports, lease, change, name, stager)

    def applied(request: Foreign, ports: Ports) -> Foreign:
        try:
            return apply(request, ports)
        except CurrentCredentialRejectedError as error:
            return BaseRefused(refused=(error.where["database"],))

    return patched(
        base_not_probed(),
        patch.object(apply_db, "_apply_one", change_one),
        patch.object(apply_db, "_apply", applied),
    )


def neither_fence_nor_base() -> AbstractContextManager[None]:
    return patched(fence_not_read(), base_not_probed())


def proof_skipped() -> AbstractContextManager[None]:
    """A database that acknowledges a change is believed without a login."""
    return patched(patch.object(logins, "require_accepted", lambda *_, **__: None), past_not_proven_revoked())


def past_not_proven_revoked() -> AbstractContextManager[None]:
    def believed(_database: Foreign, doomed: Mapping[int, CredentialValue | None], **_: Foreign) -> Foreign:
        return tuple(RevocationCheck(generation=g, revocation=RevocationResult.REFUSED) for g in doomed)

    return patched(patch.object(logins, "require_revoked", believed))


def refusal_not_taken_back() -> AbstractContextManager[None]:
    """What must be refused is shown last, and no login of that account follows."""

    def require_revoked(
        database: Foreign, doomed: Mapping[int, CredentialValue | None], *, live: Foreign
    ) -> tuple[RevocationCheck, ...]:
        shown = [(g, v) for g, v in doomed.items() if v and v.login not in live]
        assert not any(database.accepts(v.login) for _, v in shown)
        return tuple(RevocationCheck(generation=g, revocation=RevocationResult.REFUSED) for g, _ in shown)

    return patched(patch.object(logins, "require_revoked", require_revoked))


def unexpected_refusal_not_blocked() -> AbstractContextManager[None]:
    """A database that refuses what should work is asked again by every run."""
    return patched(patch.object(MemoryLock, "block", lambda _lock, _lease, _databases: None))


# UpdateSecrets, Audit.


def promotion_not_marked() -> AbstractContextManager[None]:
    """The claim stays open while stores begin to serve it."""

    def begin_promotion(self: MemoryLock, lease: Lease, claim: Claim, *, now: datetime) -> LockRecord:
        return self.require(lease, claim, promoting=False, now=now)

    return patched(patch.object(MemoryLock, "begin_promotion", begin_promotion), phase_not_compared())


def proven_not_compared() -> AbstractContextManager[None]:
    """UpdateSecrets promotes what some databases have accepted."""
    original = update_secrets.run

    def run(request: Foreign, ports: Ports) -> Foreign:
        return original(structs.replace(request, proven=tuple(ports.databases)), ports)

    return patched(_one_database_alone(), patch.object(update_secrets, "run", run))


def one_database_is_enough() -> AbstractContextManager[None]:
    """The value is promoted when one database has accepted it."""
    return proven_not_compared()


def _one_database_alone() -> AbstractContextManager[None]:
    original = apply_db._apply

    def apply(request: Foreign, ports: Ports) -> Foreign:
        first = dict([next(iter(ports.databases.items()))])
        return original(request, replace(ports, databases=first))

    return patched(patch.object(apply_db, "_apply", apply))


def past_forgotten() -> AbstractContextManager[None]:
    """What may be valid is what was current last, whatever else was served and not shown to be revoked."""
    original = decide.release_after

    def release_after(claim: Claim, record: LockRecord, *more: Foreign, **named: Foreign) -> Release:
        kept = record.valid & {claim.base_generation}
        return original(claim, replace(record, valid=frozenset(kept)), *more, **named)

    return patched(patch.object(decide, "release_after", release_after))


def revocation_on_one_database_is_enough() -> AbstractContextManager[None]:
    def revoked_somewhere(databases: Foreign) -> set[int]:
        return {d.generation for database in databases for d in database.revoked}

    return patched(patch.object(audit, "_revoked_everywhere", revoked_somewhere))


def own_entry_not_looked_for() -> AbstractContextManager[None]:
    """An entry is written whatever the log holds of the same run."""
    return patched(patch.object(Chain, "_own", lambda *_: None))


def emergency_without_revocation() -> AbstractContextManager[None]:
    """A new value is promoted, but what the order names stays valid."""
    return patched(patch.object(update_secrets, "_revokes", lambda _record, _claim: False))


def emergency_ended_by_a_reconcile() -> AbstractContextManager[None]:
    """A reconcile, which gives an old login again, counts as the answer to the order."""
    original = decide.release_after

    def release_after(claim: Claim, record: LockRecord, *more: Foreign, **named: Foreign) -> Release:
        done = original(claim, record, *more, **named)
        return structs.replace(done, valid=frozenset({claim.generation})) if record.is_revoking else done

    return patched(patch.object(decide, "release_after", release_after))


# The sequence.


def lease_shorter_than_run() -> AbstractContextManager[None]:
    return patched(patch.object(sequence, "LEASE", timedelta(seconds=4)))


def revoked_before_promotion() -> AbstractContextManager[None]:
    """In an emergency everything else dies before the stores serve pending."""
    original = update_secrets.run

    def run(request: Foreign, ports: Ports) -> Foreign:
        if ports.lock.read().is_revoking and request.claim.kind is ClaimKind.NEW:
            revocation = RevokeRequest(rotation=request.rotation, claim=request.claim)
            lock: Foreign = LockThatNeverRefuses(ports.lock)
            apply_db.run(revocation, replace(ports, lock=lock))
        return original(request, ports)

    return patched(patch.object(update_secrets, "run", run))
