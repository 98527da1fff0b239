"""Rules of the steps and of the sequence, each left out by a patch for the length of a block; see `catalogue`.

The patches replace parts of the shipped code, so they work over the ports of a race, an estate and the model alike.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from unittest.mock import patch

from functions.apply_db import step as apply_db
from functions.generate import step as generate
from functions.update_secrets import step as update_secrets
from lockstep import decide
from lockstep.errors import FenceLostError, StagedValueConflictError
from lockstep.messages import ApplyRequest, DatabaseOutcome, DatabaseResult, PreviousProof
from lockstep.model import Claim, ClaimKind, CredentialValue, Lease, LockRecord, Login
from lockstep.ports import Ports
from lockstep.stores import Stores
from oci_fn import sequence
from tests.proof.model_ports import ModelStore
from tests.proof.patching import Foreign, patched
from tests.support.memory import MemoryLock

# Generate.


def adopt_by_label() -> AbstractContextManager[None]:
    """The record names nothing; a run that has the lock works on what the label of the first store names."""

    def claim(self: MemoryLock, lease: Lease, claim: Claim, *, replaces: Claim | None) -> None:
        del claim, replaces
        with self.faults.around("claim"):
            if not self._held(lease):
                raise FenceLostError

    def require(self: MemoryLock, lease: Lease, claim: Claim, *, now: Foreign) -> LockRecord:
        del claim, now
        with self.faults.around("require"):
            if not self._held(lease):
                raise FenceLostError
            return self.record

    return patched(
        _claims_are_seen(lambda store: _staged(store, "read_label")[-1:]),
        patch.object(MemoryLock, "claim", claim),
        patch.object(MemoryLock, "require", require),
    )


def adopt_the_highest_version() -> AbstractContextManager[None]:
    """A run claims the highest version of the first store in its own name, whatever the record says."""
    original = generate.run

    def run(request: Foreign, ports: Ports) -> Foreign:
        return original(request, replace(ports, lock=_LockThatClaims(ports.lock)))  # type: ignore[arg-type]  # as good as a lock here

    def claim(self: MemoryLock, lease: Lease, claim: Claim, *, replaces: Claim | None) -> None:
        del replaces
        with self.faults.around("claim"):
            if not self._held(lease):
                raise FenceLostError
            highest = max(self.record.highest_generation, claim.generation)
            self.record = replace(self.record, claim=claim, highest_generation=highest)

    return patched(
        patch.object(generate, "run", run),
        _claims_are_seen(lambda store: sorted(_staged(store, "read_highest"))[-1:]),
        patch.object(MemoryLock, "claim", claim),
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


class _LockThatReads:
    """A lock whose record has the claim that a store shows."""

    def __init__(self, lock: Foreign, newest: Callable[[], list[int]], request: Foreign) -> None:
        self._lock = lock
        self._newest = newest
        self._request = request

    def __getattr__(self, name: str) -> Foreign:
        return getattr(self._lock, name)

    def read(self) -> LockRecord:
        record: LockRecord = self._lock.read()
        newest = self._newest()
        if not newest or newest[0] <= (record.current_generation or 0):
            return replace(record, claim=None)
        claim = Claim(
            kind=ClaimKind.NEW,
            generation=newest[0],
            base_generation=record.current_generation or 0,
            previous_generation=record.previous_generation,
            rotation_id=self._request.rotation.rotation_id,
        )
        return replace(record, claim=claim)


class _LockThatClaims:
    """A lock that takes what is asked for as claimed."""

    def __init__(self, lock: Foreign) -> None:
        self._lock = lock

    def __getattr__(self, name: str) -> Foreign:
        return getattr(self._lock, name)

    def require(self, lease: Lease, claim: Claim, *, now: Foreign) -> None:
        del now
        self._lock.claim(lease, claim, replaces=None)


def new_password_on_retry() -> AbstractContextManager[None]:
    original = generate.run

    def run(request: Foreign, ports: Ports) -> Foreign:
        standing = ports.lock.read().claim
        if standing and standing.rotation_id != request.rotation.rotation_id:
            request = request.model_copy(update={"replaces": standing})
        return original(request, ports)

    return patched(patch.object(generate, "run", run))


def generation_reused() -> AbstractContextManager[None]:
    """A generation is named without a look at what the stores hold."""

    def claimed(ports: Ports, lease: Lease, record: LockRecord, claim: Claim) -> Claim:
        claim = replace(claim, generation=max(lease.fence, record.highest_generation + 1))
        ports.lock.claim(lease, claim, replaces=record.claim)
        return claim

    return patched(patch.object(generate, "_claimed", claimed))


def own_store_first() -> AbstractContextManager[None]:
    original = generate.run

    def run(request: Foreign, ports: Ports) -> Foreign:
        return original(
            request, replace(ports, stores=Stores(sorted(ports.stores, key=lambda s: s.name != ports.runner)))
        )

    return patched(patch.object(generate, "run", run))


def databases_before_write_ahead() -> AbstractContextManager[None]:
    """Generate stages in the first store alone; the others get the value when it is promoted."""
    staged, updated = generate._staged, update_secrets.run

    def first_alone(request: Foreign, ports: Ports, *more: Foreign) -> Foreign:
        return staged(request, replace(ports, stores=Stores(list(ports.stores)[:1])), *more)

    def stages_and_promotes(request: Foreign, ports: Ports) -> Foreign:
        value = ports.stores.find_generation(request.claim.generation)
        for store in list(ports.stores)[1:] if value else ():
            store.stage(value)  # type: ignore[arg-type]  # it is there
        return updated(request, ports)

    return patched(
        patch.object(generate, "_staged", first_alone),
        patch.object(update_secrets, "run", stages_and_promotes),
    )


def heal_skipped() -> AbstractContextManager[None]:
    original = decide.decide

    def decided(record: LockRecord, current: Foreign) -> Foreign:
        found = original(record, current)
        if isinstance(found, decide.Heal):
            return decide.Begin(base_generation=next(iter(current.values())).generation)
        return found

    return patched(patch.object(decide, "decide", decided))


# ApplyDb.


class _LockThatNeverRefuses:
    def require(self, lease: Lease, claim: Claim, *, now: Foreign) -> None:
        del lease, claim, now


def fence_not_read() -> AbstractContextManager[None]:
    original = apply_db.run

    def run(request: Foreign, ports: Ports) -> Foreign:
        return original(request, replace(ports, lock=_LockThatNeverRefuses()))  # type: ignore[arg-type]  # as good as a lock here

    return patched(patch.object(apply_db, "run", run))


def fence_read_before_advisory_lock() -> AbstractContextManager[None]:
    original = apply_db.run

    def run(request: Foreign, ports: Ports) -> Foreign:
        if isinstance(request, ApplyRequest):
            ports.lock.require(request.rotation.lease, request.claim, now=ports.clock.now())
            ports = replace(ports, lock=_LockThatNeverRefuses())  # type: ignore[arg-type]  # as above
        return original(request, ports)

    return patched(patch.object(apply_db, "run", run))


def stage_as_claimed(request: Foreign, stager: Foreign, base: Login | None, pending: Login) -> None:
    """Stage as `apply_db` does."""
    stager.stage(
        current=CredentialValue(request.claim.base_generation, base) if base else None,
        pending=CredentialValue(request.claim.generation, pending),
    )


def base_not_probed() -> AbstractContextManager[None]:
    def accept(
        request: Foreign,
        ports: Ports,
        database: Foreign,
        stager: Foreign,
        *,
        base: Login | None,
        pending: Login,
    ) -> DatabaseOutcome:
        if database.accepts(pending):
            return DatabaseOutcome.ALREADY_APPLIED
        ports.lock.require(request.rotation.lease, request.claim, now=ports.clock.now())
        stage_as_claimed(request, stager, base, pending)
        return DatabaseOutcome.APPLIED

    return patched(patch.object(apply_db, "_accept", accept))


def neither_fence_nor_base() -> AbstractContextManager[None]:
    return patched(fence_not_read(), base_not_probed())


def proof_skipped() -> AbstractContextManager[None]:
    def apply(request: Foreign, ports: Ports, database: Foreign) -> DatabaseResult:
        pending = apply_db._login(ports, request.claim.generation)
        base = apply_db._login(ports, request.claim.base_generation)
        if pending is None:
            raise StagedValueConflictError
        with database.exclusive() as stager:
            outcome = apply_db._accept(request, ports, database, stager, base=base, pending=pending)
        return DatabaseResult(database=database.name, outcome=outcome)

    return patched(patch.object(apply_db, "_apply", apply))


def previous_not_proven_dead() -> AbstractContextManager[None]:
    return patched(patch.object(apply_db, "_prove_previous_dead", lambda *_, **__: PreviousProof.REFUSED))


# UpdateSecrets.


def fence_not_read_before_promotion() -> AbstractContextManager[None]:
    original = update_secrets.run

    def run(request: Foreign, ports: Ports) -> Foreign:
        return original(request, replace(ports, lock=_LockThatNeverRefuses()))  # type: ignore[arg-type]  # as good as a lock here

    return patched(patch.object(update_secrets, "run", run))


# The sequence.


def one_database_is_enough() -> AbstractContextManager[None]:
    original = sequence._HeldRun._map

    def only_first(self: Foreign, path: tuple[str, ...], *rest: Foreign) -> Foreign:
        run_map = self._run_map
        if path[0] == "ApplyDb":
            self._run_map = lambda branch, databases: run_map(branch, [*databases][:1])
        try:
            return original(self, path, *rest)
        finally:
            self._run_map = run_map

    return patched(patch.object(sequence._HeldRun, "_map", only_first))


def lease_shorter_than_run() -> AbstractContextManager[None]:
    return patched(patch.object(sequence, "LEASE", timedelta(seconds=4)))


def fence_not_raised() -> AbstractContextManager[None]:
    return patched(patch.object(sequence._HeldRun, "_raise_fence", lambda _run: None))


def no_withdrawal() -> AbstractContextManager[None]:
    return patched(patch.object(sequence._HeldRun, "_withdraw", lambda _run, _claim: None))


def revoked_before_promotion() -> AbstractContextManager[None]:
    original = sequence._HeldRun._promote

    def promote(self: Foreign, claim: Claim) -> Foreign:
        if self._rotation.revoke_previous:
            self._revoke(claim)
        return original(self, claim)

    return patched(patch.object(sequence._HeldRun, "_promote", promote))
