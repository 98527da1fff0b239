"""The doubles in memory, for the contract suites."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from lockstep.protocol.errors import (
    AuditLogUnreachableError,
    LockstepError,
    LockTableUnreachableError,
    StoreUnreachableError,
)
from lockstep.protocol.ports import VersionedSecret
from tests.contract.harness import CREDENTIAL, Disturbance, Disturbed
from tests.support.faults import Faults
from tests.support.memory import MemoryAuditLog, MemoryStore
from tests.support.memory_lock import MemoryLock


class _OfDouble(Disturbed):
    """Disturbs a double through its faults."""

    def __init__(self, faults: Faults, unreachable: type[LockstepError]) -> None:
        self._faults = faults
        self._unreachable = unreachable

    @contextmanager
    def _at(self, when: str, disturbance: Disturbance) -> Iterator[None]:
        setattr(self._faults, when, disturbance)
        try:
            yield
        finally:
            setattr(self._faults, when, lambda _operation: None)

    def _lose(self) -> None:
        raise self._unreachable


class MemoryStoreHarness(_OfDouble):
    """The double `MemoryStore`, whose secrets are `MemorySecret`."""

    def __init__(self) -> None:
        self.credential = CREDENTIAL
        self.store = MemoryStore("memory", CREDENTIAL)
        self.rival, self.edit = self.store.another_client, self.store.edit
        self.remove, self.current_text = self.store.remove, self.store.current_text
        super().__init__(self.store.faults, StoreUnreachableError)

    def anew(self) -> "MemoryStoreHarness":
        return MemoryStoreHarness()

    @property
    def secret(self) -> VersionedSecret:
        return self.store.secret("app_user")

    def rival_secret(self) -> VersionedSecret:
        return self.rival().secret("app_user")


class MemoryLockHarness(_OfDouble):
    """The double `MemoryLock`."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.lock = MemoryLock("multi-cloud/app_user")
        super().__init__(self.lock.faults, LockTableUnreachableError)

    def order(self, **orders: object) -> None:
        self.lock.record = replace(self.lock.record, **orders)  # type: ignore[arg-type]  # the test names the fields


class MemoryAuditLogHarness(_OfDouble):
    """The double `MemoryAuditLog`."""

    def __init__(self) -> None:
        self.log = MemoryAuditLog("aws")
        super().__init__(self.log.faults, AuditLogUnreachableError)
        self.overwrite, self.delete, self.plant = self.log.overwrite, self.log.delete, self.log.plant

    def anew(self) -> "MemoryAuditLogHarness":
        return MemoryAuditLogHarness()
