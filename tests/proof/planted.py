"""Bugs planted into the protocol, each by a patch from outside, and the hunt that has to find it.

A harness that finds nothing proves nothing until it is seen to find what is there. Each bug is a mistake that a
rotator could plausibly make; most have been made by one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from functions.apply_db import step as apply_db
from functions.generate import step as generate
from functions.update_secrets import step as update_secrets
from lockstep import decide
from lockstep.errors import FenceLostError
from lockstep.databases.mysql import DualPassword
from lockstep.messages import ApplyRequest, DatabaseOutcome, DatabaseResult, PreviousProof
from lockstep.model import ChainHead, Claim, ClaimKind, Lease, LockRecord, Login, Release
from lockstep.ports import Ports
from oci_fn import sequence
from tests.proof.races import Failure, Plant, play, schedule_of, shrunk
from tests.support.memory import MemoryLock
from tests.support.memory_database import MemoryDatabase
from tests.support.memory_store import MemoryStore

@dataclass(frozen=True, kw_only=True)
class Bug:
    """A planted bug.

    Attributes:
        what: The mistake, in one sentence.
        plant: Makes it, for the length of a block.
        caught_as: The invariants of which the hunt must see one broken.
        scenarios: Where it shows; where the hunt looks.
        on_the_wire: It needs a real MySQL's slots: the hunt is `enumeration`'s, not that of races.
    """

    name: str
    what: str
    plant: Plant
    caught_as: tuple[str, ...]
    scenarios: tuple[str, ...] = ("steady",)
    on_the_wire: bool = False


def hunt(bug: Bug, *, schedules: int, first_seed: int = 0) -> tuple[Failure | None, int]:
    """Look for a planted bug by races; the shortest story that shows it, and how many schedules it took."""
    for seed in range(first_seed, first_seed + schedules):
        found = play(schedule_of(seed, scenarios=bug.scenarios), bug.plant)
        if found and found.invariant in bug.caught_as:
            return shrunk(found, bug.plant, tries=150), seed - first_seed + 1
    return None, schedules


@contextmanager
def _patched(*patches: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for one in patches:
            stack.enter_context(one)
        yield


# Claims and locks.


def _adopt_by_label() -> AbstractContextManager[None]:
    """What is pending is what a store's label says; the lock record says only who may work."""

    def labelled(ports: Ports) -> LockRecord:
        record = ports.lock.read()
        newest = _staged(ports.stores[0])[-1:]
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

    def run(request: Any, ports: Ports) -> Any:
        lock: Any = _LockThatReads(ports.lock, lambda: labelled(ports))
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


def _staged(store: Any) -> list[int]:
    versions = store._secrets["app_user"].versions
    return [int(v.removeprefix("generation-")) for v in versions if v.startswith("generation-")]


class _LockThatReads:
    """A lock whose record is somebody else's idea."""

    def __init__(self, lock: Any, read: Callable[[], LockRecord]) -> None:
        self._lock = lock
        self.read = read

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lock, name)


def _require_lease_alone(self: MemoryLock, lease: Lease, claim: Claim, *, now: Any) -> LockRecord:
    del claim, now
    with self.faults.around("require"):
        if not self._held(lease):
            raise FenceLostError
        return self.record


def _claim_without_condition() -> AbstractContextManager[None]:
    def claim(self: MemoryLock, lease: Lease, claim: Claim, *, replaces: Claim | None) -> None:
        del lease, replaces
        with self.faults.around("claim"):
            self.record = replace(self.record, claim=claim, highest_generation=claim.generation)

    return _patched(patch.object(MemoryLock, "claim", claim))


def _release_without_condition() -> AbstractContextManager[None]:
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


def _claim_dropped_on_failure() -> AbstractContextManager[None]:
    original = MemoryLock.release

    def release(self: MemoryLock, lease: Lease, done: Release | None) -> None:
        original(self, lease, done)
        if done is None:
            self.record = replace(self.record, claim=None)

    return _patched(patch.object(MemoryLock, "release", release))


def _new_password_on_retry() -> AbstractContextManager[None]:
    original = generate.run

    def run(request: Any, ports: Ports) -> Any:
        standing = ports.lock.read().claim
        if standing and standing.rotation_id != request.rotation.rotation_id:
            request = request.model_copy(update={"replaces": standing})
        return original(request, ports)

    return _patched(patch.object(generate, "run", run))


def _lease_shorter_than_run() -> AbstractContextManager[None]:
    return _patched(patch.object(sequence, "LEASE", timedelta(seconds=4)))


def _standby_ignores_due() -> AbstractContextManager[None]:
    original = MemoryLock.acquire

    def acquire(self: MemoryLock, **asked: Any) -> Any:
        return original(self, **{**asked, "force": True, "revoke_previous": True})

    return _patched(patch.object(MemoryLock, "acquire", acquire))


# Databases.


def _no_advisory_lock() -> AbstractContextManager[None]:
    def opened(self: MemoryDatabase, session: Any) -> None:
        self.require_reachable()
        del session

    def reachable(self: MemoryDatabase, session: Any = None) -> None:
        del session
        if self.unreachable:
            raise apply_db.InvalidRequestError

    return _patched(
        patch.object(MemoryDatabase, "_open", opened), patch.object(MemoryDatabase, "require_reachable", reachable)
    )


def _fence_not_read() -> AbstractContextManager[None]:
    original = apply_db.run

    def run(request: Any, ports: Ports) -> Any:
        return original(request, replace(ports, lock=_LockThatNeverRefuses(ports.lock)))  # type: ignore[arg-type]  # as good as a lock here

    return _patched(patch.object(apply_db, "run", run))


class _LockThatNeverRefuses:
    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def require(self, lease: Lease, claim: Claim, *, now: Any) -> LockRecord:
        del lease, claim, now
        record: LockRecord = self._lock.record
        return record


def _fence_read_before_advisory_lock() -> AbstractContextManager[None]:
    original = apply_db.run

    def run(request: Any, ports: Ports) -> Any:
        if isinstance(request, ApplyRequest):
            ports.lock.require(request.rotation.lease, request.claim, now=ports.clock.now())
            ports = replace(ports, lock=_LockThatNeverRefuses(ports.lock))  # type: ignore[arg-type]  # as above
        return original(request, ports)

    return _patched(patch.object(apply_db, "run", run))


def _base_not_probed() -> AbstractContextManager[None]:
    def accept(
        request: Any, ports: Ports, database: Any, stager: Any, *, base: Login | None, pending: Login
    ) -> DatabaseOutcome:
        if database.accepts(pending):
            return DatabaseOutcome.ALREADY_APPLIED
        ports.lock.require(request.rotation.lease, request.claim, now=ports.clock.now())
        stager.stage(current=base, pending=pending)
        return DatabaseOutcome.APPLIED

    return _patched(patch.object(apply_db, "_accept", accept))


def _neither_fence_nor_base() -> AbstractContextManager[None]:
    return _both(_fence_not_read, _base_not_probed)


@contextmanager
def _both(*plants: Plant) -> Iterator[None]:
    with ExitStack() as stack:
        for plant in plants:
            stack.enter_context(plant())
        yield


def _proof_skipped() -> AbstractContextManager[None]:
    def apply(request: Any, ports: Ports, database: Any) -> DatabaseResult:
        pending = apply_db._login(ports, request.claim.generation)
        base = apply_db._login(ports, request.claim.base_generation)
        if pending is None:
            raise apply_db.StagedValueConflictError
        with database.exclusive() as stager:
            outcome = apply_db._accept(request, ports, database, stager, base=base, pending=pending)
        return DatabaseResult(database=database.name, outcome=outcome)

    return _patched(patch.object(apply_db, "_apply", apply))


def _previous_not_proven_dead() -> AbstractContextManager[None]:
    return _patched(patch.object(apply_db, "_prove_previous_dead", lambda *_, **__: PreviousProof.REFUSED))


def _base_not_kept() -> AbstractContextManager[None]:
    original = MemoryDatabase.set_passwords

    def set_passwords(self: MemoryDatabase, username: str, *passwords: str) -> None:
        original(self, username, *passwords[:1])

    return _patched(patch.object(MemoryDatabase, "set_passwords", set_passwords))


def _one_database_is_enough() -> AbstractContextManager[None]:
    original = sequence._HeldRun._map

    def only_first(self: Any, path: tuple[str, ...], request: Any, kind: Any) -> Any:
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


def _retain_without_probe() -> AbstractContextManager[None]:
    """RETAIN keeps whatever is primary: twice, it throws current away."""

    def stage(self: DualPassword, *, current: Login | None, pending: Login) -> None:
        del current
        self._identify(pending, retain=True)

    def accept(
        request: Any, ports: Ports, database: Any, stager: Any, *, base: Login | None, pending: Login
    ) -> DatabaseOutcome:
        ports.lock.require(request.rotation.lease, request.claim, now=ports.clock.now())
        stager.stage(current=base, pending=pending)
        return DatabaseOutcome.APPLIED

    return _patched(patch.object(DualPassword, "stage", stage), patch.object(apply_db, "_accept", accept))


# Stores.


def _own_store_first() -> AbstractContextManager[None]:
    original = generate.run

    def run(request: Any, ports: Ports) -> Any:
        return original(
            request, replace(ports, stores=sorted(ports.stores, key=lambda s: s.name != ports.runner))
        )

    return _patched(patch.object(generate, "run", run))


def _blind_promote() -> AbstractContextManager[None]:
    def promote(self: MemoryStore, kind: Any, generation: int) -> None:
        with self.faults.around(f"promote {kind}"):
            self._secret(kind).make_current(f"generation-{generation}")

    return _patched(patch.object(MemoryStore, "_promote", promote))


def _promote_below_a_newer_one() -> AbstractContextManager[None]:
    """Compare-and-set on what was read, but nobody asks whether that is newer."""

    def promote(self: MemoryStore, kind: Any, generation: int) -> None:
        secret = self._secret(kind)
        seen = secret.current
        with self.faults.around(f"promote {kind}"):
            if secret.current == seen:
                secret.make_current(f"generation-{generation}")

    return _both(
        lambda: _patched(patch.object(MemoryStore, "_promote", promote)), _fence_not_read_before_promotion
    )


def _fence_not_read_before_promotion() -> AbstractContextManager[None]:
    original = update_secrets.run

    def run(request: Any, ports: Ports) -> Any:
        return original(request, replace(ports, lock=_LockThatNeverRefuses(ports.lock)))  # type: ignore[arg-type]  # as above

    return _patched(patch.object(update_secrets, "run", run))


def _databases_before_write_ahead() -> AbstractContextManager[None]:
    """Generate stages in the first store alone; the others get the value when it is promoted."""
    staged, updated = generate._staged, update_secrets.run

    def first_alone(request: Any, ports: Ports, *more: Any) -> Any:
        return staged(request, replace(ports, stores=ports.stores[:1]), *more)

    def stages_and_promotes(request: Any, ports: Ports) -> Any:
        value = generate.find_generation(ports.stores, request.claim.generation)
        for store in ports.stores[1:] if value else ():
            store.stage(value)  # type: ignore[arg-type]  # it is there
        return updated(request, ports)

    return _patched(
        patch.object(generate, "_staged", first_alone), patch.object(update_secrets, "run", stages_and_promotes)
    )


def _heal_skipped() -> AbstractContextManager[None]:
    original = decide.decide

    def decided(record: LockRecord, current: Any) -> Any:
        found = original(record, current)
        if isinstance(found, decide.Heal):
            return decide.Begin(base_generation=next(iter(current.values())).generation)
        return found

    return _patched(patch.object(decide, "decide", decided))


# The record.


def _head_not_compared() -> AbstractContextManager[None]:
    def move_head(self: MemoryLock, stream: str, head: ChainHead, *, after: ChainHead | None) -> None:
        del after
        with self.faults.around("move_head"):
            self.record = replace(self.record, heads={**self.record.heads, stream: head})

    return _patched(patch.object(MemoryLock, "move_head", move_head))


_BUGS: Sequence[Bug] = (
    Bug(
        name="adopt-by-label",
        what="what is pending is what a store's label says, not what the lock record names",
        plant=_adopt_by_label,
        caught_as=("I1", "I2", "I3", "I4", "I5"),
        scenarios=("steady", "refused"),
    ),
    Bug(
        name="claim-without-condition",
        what="the claim is written without asking whether the lock is still held and nothing is in flight",
        plant=_claim_without_condition,
        caught_as=("I1", "I4"),
    ),
    Bug(
        name="release-without-condition",
        what="the lock is released without asking whether it is still held",
        plant=_release_without_condition,
        caught_as=("I1", "I4"),
    ),
    Bug(
        name="claim-dropped-on-failure",
        what="a failed run clears the claim as it gives the lock back",
        plant=_claim_dropped_on_failure,
        caught_as=("I4",),
    ),
    Bug(
        name="new-password-on-retry",
        what="a half-done generation is replaced by a new password instead of being finished",
        plant=_new_password_on_retry,
        caught_as=("I4",),
    ),
    Bug(
        name="lease-shorter-than-run",
        what="the lease is shorter than an execution",
        plant=_lease_shorter_than_run,
        caught_as=("I8",),
    ),
    Bug(
        name="standby-ignores-due",
        what="a runner rotates whether it is due or not, also within the overlap",
        plant=_standby_ignores_due,
        caught_as=("I1",),
    ),
    Bug(
        name="no-advisory-lock",
        what="the databases are changed without their advisory lock",
        plant=_no_advisory_lock,
        caught_as=("I1", "I5", "I9"),
        scenarios=("steady", "refused"),
    ),
    Bug(
        name="fence-not-read",
        what="the lock record is not read before an account is changed",
        plant=_fence_not_read,
        caught_as=("I1", "I5", "I9"),
        scenarios=("refused",),
    ),
    Bug(
        name="fence-read-before-advisory-lock",
        what="the lock record is read, but before the advisory lock is taken",
        plant=_fence_read_before_advisory_lock,
        caught_as=("I1", "I5", "I9"),
        scenarios=("refused",),
    ),
    Bug(
        name="base-not-probed",
        what="an account is changed without asking whether base logs in",
        plant=_base_not_probed,
        caught_as=("I1",),
        scenarios=("changed-by-dba",),
    ),
    Bug(
        name="neither-fence-nor-base",
        what="neither of the two",
        plant=_neither_fence_nor_base,
        caught_as=("I1", "I5", "I9"),
    ),
    Bug(
        name="proof-skipped",
        what="a database that acknowledged the change is believed, without a login",
        plant=_proof_skipped,
        caught_as=("I1", "I3"),
        scenarios=("steady", "forgetful"),
    ),
    Bug(
        name="previous-not-proven-dead",
        what="the generation before base is said to be dead without a login",
        plant=_previous_not_proven_dead,
        caught_as=("I9",),
        scenarios=("sticky",),
    ),
    Bug(
        name="base-not-kept",
        what="a database gets the new password in place of the old one",
        plant=_base_not_kept,
        caught_as=("I1",),
    ),
    Bug(
        name="one-database-is-enough",
        what="the value is promoted when one database has accepted it",
        plant=_one_database_is_enough,
        caught_as=("I1", "I3"),
    ),
    Bug(
        name="own-store-first",
        what="each runner stages in the store of its own cloud first",
        plant=_own_store_first,
        caught_as=("I4", "I8"),
    ),
    Bug(
        name="blind-promote",
        what="a store is told to serve a generation, whatever it serves",
        plant=_blind_promote,
        caught_as=("I1", "I5"),
    ),
    Bug(
        name="promote-below-newer",
        what="promotion compares and sets, but does not ask whether current is newer, nor whether the lock is held",
        plant=_promote_below_a_newer_one,
        caught_as=("I1", "I5"),
    ),
    Bug(
        name="databases-before-write-ahead",
        what="databases accept the value before every store holds it",
        plant=_databases_before_write_ahead,
        caught_as=("I2",),
    ),
    Bug(
        name="heal-skipped",
        what="stores that disagree are not healed, the first one is believed",
        plant=_heal_skipped,
        caught_as=("I1", "I8"),
        scenarios=("edited",),
    ),
    Bug(
        name="head-not-compared",
        what="the head of the audit chain is moved without comparing it",
        plant=_head_not_compared,
        caught_as=("I7",),
    ),
    Bug(
        name="retain-without-probe",
        what="MySQL's RETAIN is run without asking who logs in already",
        plant=_retain_without_probe,
        caught_as=("I1",),
        on_the_wire=True,
    ),
)
BUGS: Mapping[str, Bug] = {bug.name: bug for bug in _BUGS}
