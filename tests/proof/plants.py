"""Mistakes in the protocol, each as a patch from outside, for the length of a block. `planted` says what they are."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeAlias
from unittest.mock import patch

from functions.apply_db import step as apply_db
from functions.generate import step as generate
from functions.update_secrets import step as update_secrets
from lockstep import decide
from lockstep.databases.base import AlternatingUsers
from lockstep.databases.mariadb import _DualPassword as MariaDbDualPassword
from lockstep.databases.mysql import DualPassword
from lockstep.errors import DatabaseUnreachableError, FenceLostError, StagedValueConflictError
from lockstep.messages import ApplyRequest, DatabaseOutcome, DatabaseResult, PreviousProof
from lockstep.model import ChainHead, Claim, ClaimKind, Lease, LockRecord, Login, Release
from lockstep.ports import Ports
from lockstep.stores import Stores
from oci_fn import sequence
from tests.support.memory import MemoryLock
from tests.support.memory_database import MemoryDatabase
from tests.support.memory_store import KINDS, MemoryStore

Foreign: TypeAlias = Any
"""What a patch takes over from the code as it is."""
Plant = Callable[[], AbstractContextManager[None]]


@contextmanager
def _patched(*patches: Foreign) -> Iterator[None]:
    with ExitStack() as stack:
        for one in patches:
            stack.enter_context(one)
        yield


# Claims and locks.


def adopt_by_label() -> AbstractContextManager[None]:
    """What is pending is what a store's label says; the lock record says only who may work."""

    def labelled(ports: Ports) -> LockRecord:
        record = ports.lock.read()
        newest = _staged(ports.stores.first)[-1:]
        if not newest or newest[0] <= (record.current_generation or 0):
            return replace(record, claim=None)
        claim = Claim(
            kind=ClaimKind.NEW,
            generation=newest[0],
            base_generation=record.current_generation or 0,
            previous_generation=record.previous_generation,
            rotation_id="label",
        )
        return replace(record, claim=claim)

    original = generate.run

    def run(request: Foreign, ports: Ports) -> Foreign:
        lock: Foreign = _LockThatReads(ports.lock, lambda: labelled(ports))
        return original(request, replace(ports, lock=lock))

    def claim(self: MemoryLock, lease: Lease, claim: Claim, *, replaces: Claim | None) -> None:
        del claim, replaces
        with self.faults.around("claim"):
            if not self._held(lease):
                raise FenceLostError

    return _patched(
        patch.object(generate, "run", run),
        patch.object(MemoryLock, "claim", claim),
        patch.object(MemoryLock, "require", _require_lease_alone),
    )


def _staged(store: Foreign) -> list[int]:
    versions = store._secrets["app_user"].versions
    return [int(v.removeprefix("generation-")) for v in versions if v.startswith("generation-")]


class _LockThatReads:
    """A lock whose record is somebody else's idea."""

    def __init__(self, lock: Foreign, read: Callable[[], LockRecord]) -> None:
        self._lock = lock
        self.read = read

    def __getattr__(self, name: str) -> Foreign:
        return getattr(self._lock, name)


def _require_lease_alone(self: MemoryLock, lease: Lease, claim: Claim, *, now: Foreign) -> LockRecord:
    del claim, now
    with self.faults.around("require"):
        if not self._held(lease):
            raise FenceLostError
        return self.record


def claim_without_condition() -> AbstractContextManager[None]:
    def claim(self: MemoryLock, lease: Lease, claim: Claim, *, replaces: Claim | None) -> None:
        del lease, replaces
        with self.faults.around("claim"):
            self.record = replace(self.record, claim=claim, highest_generation=claim.generation)

    return _patched(patch.object(MemoryLock, "claim", claim))


def release_without_condition() -> AbstractContextManager[None]:
    def release(self: MemoryLock, lease: Lease, done: Release | None) -> None:
        del lease
        with self.faults.around("release"):
            self.record = replace(self.record, holder=None, expires_at=None)
            if done:
                self.record = replace(
                    self.record,
                    claim=None,
                    current_generation=done.current_generation,
                    previous_generation=done.previous_generation,
                    next_due_at=done.next_due_at,
                    not_before=done.not_before,
                )

    return _patched(patch.object(MemoryLock, "release", release))


def claim_dropped_on_failure() -> AbstractContextManager[None]:
    original = MemoryLock.release

    def release(self: MemoryLock, lease: Lease, done: Release | None) -> None:
        original(self, lease, done)
        if done is None:
            self.record = replace(self.record, claim=None)

    return _patched(patch.object(MemoryLock, "release", release))


def new_password_on_retry() -> AbstractContextManager[None]:
    original = generate.run

    def run(request: Foreign, ports: Ports) -> Foreign:
        standing = ports.lock.read().claim
        if standing and standing.rotation_id != request.rotation.rotation_id:
            request = request.model_copy(update={"replaces": standing})
        return original(request, ports)

    return _patched(patch.object(generate, "run", run))


def lease_shorter_than_run() -> AbstractContextManager[None]:
    return _patched(patch.object(sequence, "LEASE", timedelta(seconds=4)))


def standby_ignores_due() -> AbstractContextManager[None]:
    original = MemoryLock.acquire

    def acquire(self: MemoryLock, **asked: Foreign) -> Foreign:
        return original(self, **{**asked, "force": True, "revoke_previous": True})

    return _patched(patch.object(MemoryLock, "acquire", acquire))


# Databases.


def no_advisory_lock() -> AbstractContextManager[None]:
    def opened(self: MemoryDatabase, session: Foreign) -> None:
        self.require_reachable()
        del session

    def reachable(self: MemoryDatabase, session: Foreign = None) -> None:
        del session
        if self.unreachable:
            raise DatabaseUnreachableError(database=self.name)

    return _patched(
        patch.object(MemoryDatabase, "_open", opened),
        patch.object(MemoryDatabase, "require_reachable", reachable),
    )


def fence_not_read() -> AbstractContextManager[None]:
    original = apply_db.run

    def run(request: Foreign, ports: Ports) -> Foreign:
        return original(request, replace(ports, lock=_LockThatNeverRefuses(ports.lock)))  # type: ignore[arg-type]  # as good as a lock here

    return _patched(patch.object(apply_db, "run", run))


class _LockThatNeverRefuses:
    def __init__(self, lock: Foreign) -> None:
        self._lock = lock

    def require(self, lease: Lease, claim: Claim, *, now: Foreign) -> LockRecord:
        del lease, claim, now
        record: LockRecord = self._lock.record
        return record


def fence_read_before_advisory_lock() -> AbstractContextManager[None]:
    original = apply_db.run

    def run(request: Foreign, ports: Ports) -> Foreign:
        if isinstance(request, ApplyRequest):
            ports.lock.require(request.rotation.lease, request.claim, now=ports.clock.now())
            ports = replace(ports, lock=_LockThatNeverRefuses(ports.lock))  # type: ignore[arg-type]  # as above
        return original(request, ports)

    return _patched(patch.object(apply_db, "run", run))


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
        stager.stage(current=base, pending=pending)
        return DatabaseOutcome.APPLIED

    return _patched(patch.object(apply_db, "_accept", accept))


def neither_fence_nor_base() -> AbstractContextManager[None]:
    return _both(fence_not_read, base_not_probed)


@contextmanager
def _both(*plants: Plant) -> Iterator[None]:
    with ExitStack() as stack:
        for plant in plants:
            stack.enter_context(plant())
        yield


def proof_skipped() -> AbstractContextManager[None]:
    def apply(request: Foreign, ports: Ports, database: Foreign) -> DatabaseResult:
        pending = apply_db._login(ports, request.claim.generation)
        base = apply_db._login(ports, request.claim.base_generation)
        if pending is None:
            raise StagedValueConflictError
        with database.exclusive() as stager:
            outcome = apply_db._accept(request, ports, database, stager, base=base, pending=pending)
        return DatabaseResult(database=database.name, outcome=outcome)

    return _patched(patch.object(apply_db, "_apply", apply))


def previous_not_proven_dead() -> AbstractContextManager[None]:
    return _patched(patch.object(apply_db, "_prove_previous_dead", lambda *_, **__: PreviousProof.REFUSED))


def base_not_kept() -> AbstractContextManager[None]:
    original = MemoryDatabase.set_passwords

    def set_passwords(self: MemoryDatabase, username: str, *passwords: str) -> None:
        original(self, username, *passwords[:1])

    return _patched(patch.object(MemoryDatabase, "set_passwords", set_passwords))


def one_database_is_enough() -> AbstractContextManager[None]:
    original = sequence._HeldRun._map

    def only_first(self: Foreign, path: tuple[str, ...], request: Foreign, kind: Foreign) -> Foreign:
        if path[0] != "ApplyDb":
            return original(self, path, request, kind)
        databases = self._ports.databases
        first = dict(list(databases.items())[:1])
        self._ports = replace(self._ports, databases=first)
        try:
            return original(self, path, request, kind)
        finally:
            self._ports = replace(self._ports, databases=databases)

    return _patched(patch.object(sequence._HeldRun, "_map", only_first))


def retain_without_probe() -> AbstractContextManager[None]:
    """RETAIN keeps whatever is primary: twice, it throws current away."""

    def stage(self: DualPassword, *, current: Login | None, pending: Login) -> None:
        del current
        self._identify(pending, retain=True)

    def accept(
        request: Foreign,
        ports: Ports,
        database: Foreign,
        stager: Foreign,
        *,
        base: Login | None,
        pending: Login,
    ) -> DatabaseOutcome:
        del database
        ports.lock.require(request.rotation.lease, request.claim, now=ports.clock.now())
        stager.stage(current=base, pending=pending)
        return DatabaseOutcome.APPLIED

    return _patched(patch.object(DualPassword, "stage", stage), patch.object(apply_db, "_accept", accept))


def verifier_of_base_left_out() -> AbstractContextManager[None]:
    """MariaDB's statement names pending alone."""

    def stage(self: MariaDbDualPassword, *, current: Login | None, pending: Login) -> None:
        del current
        self._account.set_passwords(pending.username, pending.password)

    return _patched(patch.object(MariaDbDualPassword, "stage", stage))


def same_user_again() -> AbstractContextManager[None]:
    """Alternating users that do not alternate, and a driver that does not mind."""

    def stage(self: AlternatingUsers, *, current: Login | None, pending: Login) -> None:
        del current
        self._set_password(pending)

    return _patched(
        patch.object(decide, "next_username", lambda usernames, _base: usernames[0]),
        patch.object(AlternatingUsers, "stage", stage),
    )


# Stores.


def own_store_first() -> AbstractContextManager[None]:
    original = generate.run

    def run(request: Foreign, ports: Ports) -> Foreign:
        return original(
            request, replace(ports, stores=Stores(sorted(ports.stores, key=lambda s: s.name != ports.runner)))
        )

    return _patched(patch.object(generate, "run", run))


def blind_promote() -> AbstractContextManager[None]:
    def promote(self: MemoryStore, generation: int, _still_ours: Foreign) -> None:
        for kind in KINDS:
            with self.faults.around(f"promote {kind}"):
                self._secrets[kind].make_current(f"generation-{generation}")

    return _patched(patch.object(MemoryStore, "promote", promote))


def promote_below_a_newer_one() -> AbstractContextManager[None]:
    """Compare-and-set on what was read, but nobody asks whether that is newer."""

    def promote(self: MemoryStore, generation: int, _still_ours: Foreign) -> None:
        for kind in KINDS:
            secret = self._secrets[kind]
            seen = secret.current
            with self.faults.around(f"promote {kind}"):
                if secret.current == seen:
                    secret.make_current(f"generation-{generation}")

    return _patched(patch.object(MemoryStore, "promote", promote))


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

    return _patched(
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

    return _patched(patch.object(decide, "decide", decided))


# The record.


def head_not_compared() -> AbstractContextManager[None]:
    def move_head(self: MemoryLock, stream: str, head: ChainHead, *, after: ChainHead | None) -> None:
        del after
        with self.faults.around("move_head"):
            self.record = replace(self.record, heads={**self.record.heads, stream: head})

    return _patched(patch.object(MemoryLock, "move_head", move_head))
