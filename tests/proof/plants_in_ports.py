"""Rules of the lock, the databases and the stores, each left out for the length of a block; see `catalogue`.

The patches are on the shipped drivers, or on the doubles in memory and in the model where an adapter keeps the rule.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import replace
from unittest.mock import patch

from functions.generate import step as generate
from lockstep.databases.base import AlternatingUsers
from lockstep.databases.mariadb import _DualPassword as MariaDbDualPassword
from lockstep.databases.mysql import DualPassword, Slots
from lockstep.protocol import decide
from lockstep.protocol.errors import DatabaseUnreachableError
from lockstep.protocol.model import (
    Claim,
    CredentialValue,
    Lease,
    LockRecord,
    Release,
    StoreVersions,
)
from lockstep.protocol.ports import Observed
from lockstep.stores import contents, credential
from lockstep.stores.credential import CredentialSecret
from tests.proof import model_world
from tests.proof.model_ports import ModelDatabase, ModelStore
from tests.proof.patching import Foreign, patched
from tests.support.memory_database import MemoryDatabase
from tests.support.memory_lock import MemoryLock
from tests.support.memory_store import KINDS, MemoryStore

# The lock record.


def claim_without_condition() -> AbstractContextManager[None]:
    def claim(self: MemoryLock, lease: Lease, claim: Claim, *, plan: str, **_more: Foreign) -> None:
        del lease
        with self.faults.around("claim"):
            self.record = replace(
                self.record,
                claim=claim,
                promoting=False,
                plan=plan,
                activate=None,
                highest_generation=claim.generation,
            )

    return patched(patch.object(MemoryLock, "claim", claim))


def release_without_condition() -> AbstractContextManager[None]:
    original = MemoryLock.release

    def release(self: MemoryLock, lease: Lease, done: Release | None, **more: Foreign) -> None:
        fence = self.record.fence
        self.record = replace(self.record, holder=lease.holder, fence=lease.fence)
        original(self, lease, done, **more)
        self.record = replace(self.record, fence=fence)

    return patched(patch.object(MemoryLock, "release", release))


def claim_dropped_on_failure() -> AbstractContextManager[None]:
    original = MemoryLock.release

    def release(self: MemoryLock, lease: Lease, done: Release | None, **more: Foreign) -> None:
        original(self, lease, done, **more)
        if done is None:
            self.record = replace(self.record, claim=None, promoting=False)

    return patched(patch.object(MemoryLock, "release", release))


def standby_ignores_due() -> AbstractContextManager[None]:
    return patched(
        _acquired(lambda record: replace(record, next_due_at=None)),
        patch.object(decide, "overlap_runs", lambda _record, _now: False),
    )


def pause_ignored() -> AbstractContextManager[None]:
    return _acquired(lambda record: replace(record, paused=False))


def _acquired(as_if: Callable[[LockRecord], LockRecord]) -> AbstractContextManager[None]:
    """ACQUIRE decides as if the record were another."""
    original = MemoryLock.acquire

    def acquire(self: MemoryLock, **asked: Foreign) -> Foreign:
        before = self.record
        self.record = as_if(before)
        try:
            return original(self, **asked)
        finally:
            taken = self.record
            self.record = replace(before, holder=taken.holder, fence=taken.fence, expires_at=taken.expires_at)

    return patched(patch.object(MemoryLock, "acquire", acquire))


# Databases.


def no_advisory_lock() -> AbstractContextManager[None]:
    def opened(self: MemoryDatabase, session: Foreign) -> None:
        self.require_reachable()
        del session

    def reachable(self: MemoryDatabase, session: Foreign = None) -> None:
        del session
        if self.unreachable:
            raise DatabaseUnreachableError(database=self.name)

    return patched(
        patch.object(MemoryDatabase, "_open", opened),
        patch.object(MemoryDatabase, "require_reachable", reachable),
        patch.object(ModelDatabase, "lock", lambda _database: None),
        patch.object(model_world, "holds_advisory_lock", lambda *_: True),
    )


def base_not_kept() -> AbstractContextManager[None]:
    original = MemoryDatabase.set_passwords

    def set_passwords(self: MemoryDatabase, username: str, *passwords: str) -> None:
        original(self, username, *passwords[:1])

    return patched(patch.object(MemoryDatabase, "set_passwords", set_passwords))


def retain_without_probe() -> AbstractContextManager[None]:
    """RETAIN keeps the primary password: run twice, it drops current."""

    def stage(self: DualPassword, *, current: CredentialValue | None, pending: CredentialValue) -> None:
        del current
        self._account.set_primary(pending, retain=True, before=Slots())

    return patched(patch.object(DualPassword, "stage", stage))


def primary_not_set_to_base() -> AbstractContextManager[None]:
    """RETAIN keeps the primary password, which may not be base."""

    def stage(self: DualPassword, *, current: CredentialValue | None, pending: CredentialValue) -> None:
        slots = self._account.recorded(pending.login.username)
        if current is None or current.login == pending.login:
            slots = self._account.set_primary(pending, retain=False, before=slots)
            self._account.discard_secondary(pending.login.username, before=slots)
        elif not self._are_staged(slots, current, pending):
            self._account.set_primary(pending, retain=True, before=slots)

    return patched(patch.object(DualPassword, "stage", stage))


def verifier_of_base_left_out() -> AbstractContextManager[None]:
    """MariaDB's statement names pending alone."""

    def stage(
        self: MariaDbDualPassword, *, current: CredentialValue | None, pending: CredentialValue
    ) -> None:
        del current
        self._account.set_passwords(pending.login.username, pending.login.password)

    return patched(patch.object(MariaDbDualPassword, "stage", stage))


def same_user_again() -> AbstractContextManager[None]:
    """Alternating users that do not alternate, and a driver that does not mind."""

    def stage(self: AlternatingUsers, *, current: CredentialValue | None, pending: CredentialValue) -> None:
        del current
        self._set_password(pending.login)

    return patched(
        patch.object(generate, "next_username", lambda usernames, **_: usernames[0]),
        patch.object(AlternatingUsers, "stage", stage),
    )


# Stores.


def keys_lost_on_reissue() -> AbstractContextManager[None]:
    """A reconcile writes the login and nothing else."""
    is_reconcile, reconciled, carried = (
        ContextVar("is_reconcile", default=False),
        generate._reconciled,
        contents.carried,
    )

    def reconcile(*args: Foreign) -> Foreign:
        token = is_reconcile.set(True)
        try:
            return reconciled(*args)
        finally:
            is_reconcile.reset(token)

    def forgets(served: Foreign) -> Foreign:
        return contents.NO_EXTRAS if is_reconcile.get() else carried(served)

    return patched(
        patch.object(generate, "_reconciled", reconcile), patch.object(credential, "carried", forgets)
    )


def seen_not_compared() -> AbstractContextManager[None]:
    """A promotion replaces what is current, whatever Generate saw when it made the text."""

    def from_seen(self: CredentialSecret, generation: int, _seen: str) -> Observed | None:
        found = self.versions.observe(generation)
        return found if found.generation < generation else None

    return patched(patch.object(CredentialSecret, "from_seen", from_seen))


def blind_promote() -> AbstractContextManager[None]:
    def promote(
        self: MemoryStore, generation: int, _seen: Foreign, _found: Foreign, _still_ours: Foreign
    ) -> StoreVersions:
        for kind in KINDS:
            with self.faults.around(f"promote {kind}"):
                self._secrets[kind].make_current(f"generation-{generation}")
        return _promoted(self, generation)

    def set_current(self: ModelStore, generation: int, _seen: str, _still_ours: Foreign) -> StoreVersions:
        self.ask("promote", generation)
        return _promoted(self, generation)

    return patched(
        patch.object(MemoryStore, "_promote", promote), patch.object(ModelStore, "_promote", set_current)
    )


def _promoted(store: MemoryStore | ModelStore, generation: int) -> StoreVersions:
    version = f"generation-{generation}"
    return StoreVersions(store=store.name, app_user=version, connection_blob=version)


def promote_below_newer() -> AbstractContextManager[None]:
    """Compare-and-set on what was read, even if that is newer."""

    def promote(
        self: MemoryStore, generation: int, _seen: Foreign, _found: Foreign, _still_ours: Foreign
    ) -> StoreVersions:
        for kind in KINDS:
            secret = self._secrets[kind]
            seen = secret.current
            with self.faults.around(f"promote {kind}"):
                if secret.current == seen:
                    secret.make_current(f"generation-{generation}")
        return _promoted(self, generation)

    return patched(patch.object(MemoryStore, "_promote", promote))
