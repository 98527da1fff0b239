"""The doubles in memory, for the contract suites."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from lockstep.protocol.errors import (
    AuditLogUnreachableError,
    LockstepError,
    LockTableUnreachableError,
    StoreUnreachableError,
)
from lockstep.protocol.ports import VersionedSecret
from tests.contract.harness import (
    CREDENTIAL,
    AuditLogHarness,
    Disturbance,
    LockHarness,
    Signers,
    StoreHarness,
)
from tests.support.faults import Faults
from tests.support.memory import MemoryAuditLog, MemorySigner, MemoryStore
from tests.support.memory_lock import MemoryLock


class _Disturbed:
    """Disturbs a double through its faults."""

    def __init__(self, faults: Faults, unreachable: type[LockstepError]) -> None:
        self._faults = faults
        self._unreachable = unreachable

    @contextmanager
    def before_call(self, call: int, act: Callable[[], object]) -> Iterator[None]:
        self._faults.before = Disturbance(call, act)
        try:
            yield
        finally:
            self._faults.before = lambda _operation: None

    @contextmanager
    def lose_reply(self, call: int) -> Iterator[None]:
        self._faults.after = Disturbance(call, self._raise)
        try:
            yield
        finally:
            self._faults.after = lambda _operation: None

    def _raise(self) -> None:
        raise self._unreachable


class MemoryStoreHarness(_Disturbed):
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


class MemoryLockHarness(_Disturbed):
    """The double `MemoryLock`."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.lock = MemoryLock("multi-cloud/app_user")
        super().__init__(self.lock.faults, LockTableUnreachableError)

    def order(self, **orders: object) -> None:
        self.lock.record = replace(self.lock.record, **orders)  # type: ignore[arg-type]  # the test names the fields


class MemoryAuditLogHarness(_Disturbed):
    """The double `MemoryAuditLog`."""

    def __init__(self) -> None:
        self.log = MemoryAuditLog("aws")
        super().__init__(self.log.faults, AuditLogUnreachableError)
        self.overwrite, self.delete, self.plant = self.log.overwrite, self.log.delete, self.log.plant

    def anew(self) -> "MemoryAuditLogHarness":
        return MemoryAuditLogHarness()


@contextmanager
def memory_store() -> Iterator[StoreHarness]:
    yield MemoryStoreHarness()


@contextmanager
def memory_lock() -> Iterator[LockHarness]:
    yield MemoryLockHarness()


@contextmanager
def memory_audit_log() -> Iterator[AuditLogHarness]:
    yield MemoryAuditLogHarness()


@contextmanager
def memory_signer() -> Iterator[Signers]:
    yield Signers(MemorySigner("key"), MemorySigner("other-key"))
