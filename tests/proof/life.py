"""The world of a credential's whole life in memory, and what must hold in it at every instant.

The OCI store is the shipped adapter with the real SDK over the emulator. Both runners have plans of their own, because
a plan is deployed to one cloud after the other.
"""

import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from lockstep.plan.file import parse_plan
from lockstep.protocol.model import ClaimKind, Credential, Engine, LockRecord
from lockstep.protocol.names import VersionNames
from lockstep.protocol.ring import SLOTS
from lockstep.stores.credential import Ports, Stores
from sandbox import plans
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.vault import Version
from tests.contract.oci_fixtures import VaultRingHarness
from tests.proof import invariants
from tests.proof.invariants import Snapshot, ViolationError
from tests.proof.memory_observer import MemoryObserver, Shown
from tests.support.memory import FakeClock
from tests.support.memory_database import Refusals
from tests.support.memory_store import MemoryStore
from tests.support.world import known_logins, make_world, orders, seams

STORES = ("aws", "oci")
CREDENTIAL_ID = "multi-cloud/app_user"
ALL_DATABASES = tuple(f"db-{n}" for n in range(1, 6))


class Edition(NamedTuple):
    """A plan of the credential, as it is deployed; `minutes` is the interval."""

    databases: tuple[str, ...]
    minutes: int

    @property
    def credential(self) -> Credential:
        """The credential in it."""
        return _credential(self)


@cache
def _credential(edition: Edition) -> Credential:
    document = plans.plan_document(
        [plans.database(name, Engine.MYSQL) for name in edition.databases],
        [plans.credential(CREDENTIAL_ID, *edition.databases, interval=f"{edition.minutes}m")],
        oci=plans.OciNames(),
    )
    return parse_plan(json.dumps(document), base=Path()).credentials[0]


class CountedRefusals(Refusals):
    """Counts all refusals, too; and no run of them where a person has set the account."""

    def __init__(self, is_foreign: Callable[[], bool]) -> None:
        super().__init__()
        self.total = 0
        self._is_foreign = is_foreign

    def count(self, username: str, *, accepted: bool) -> None:
        self.total += not accepted
        super().count(username, accepted=accepted or self._is_foreign())


class LifeWorld:
    """Stores, databases and lock before the first day: placeholders, an empty lock table, accounts without a password.

    Attributes:
        memory: Everything except the vault.
        deployed: What each runner has.
        changes: How many calls have changed the vault.
    """

    def __init__(self, sandbox: OciSandbox, clock: FakeClock) -> None:
        first, everything = Edition(ALL_DATABASES[:2], 20), Edition(ALL_DATABASES, 20).credential
        self.sandbox = sandbox
        stores = {"aws": MemoryStore("aws", everything)}
        self.memory = make_world(stores=stores, credentials=everything, placeholder=True, clock=clock)
        self.memory.lock.record = LockRecord(credential_id=CREDENTIAL_ID)
        self.ring = VaultRingHarness(sandbox, slots=SLOTS, clock=clock)
        self.deployed = dict.fromkeys(STORES, first)
        self.changes = 0
        self._names = VersionNames(credential_id=CREDENTIAL_ID, secret=self.ring.names["app_user"])
        sandbox.on_call = self._count_change
        self.order = partial(orders, self.memory)

    def _count_change(self, when: str, operation: str, _resource: str) -> None:
        self.changes += when == "after" and operation == "update_secret"

    @property
    def record(self) -> LockRecord:
        """The lock record."""
        return self.memory.lock.record

    def ports(self, runner: str) -> Ports:
        """The world as a runner sees it, under the plan that it has."""
        self.memory.plans[runner] = self.deployed[runner].credential
        stores = Stores([self.memory.stores["aws"], self.ring.store_on(self.ring.vault)])
        return replace(self.memory.ports(runner), stores=stores)

    def generations(self) -> list[int]:
        """What both secrets of each store serve."""
        aws = [self.memory.stores["aws"].secret(kind).read_current().generation for kind in self.ring.ids]
        return [*aws, *(self.ring.serving(kind)[1] for kind in self.ring.ids)]

    def ring_serves(self) -> Shown | None:
        """The login that OCI serves; None for a placeholder."""
        current = [v for versions in self.ring_versions() for v in versions if v.stage == "CURRENT"]
        return _login(max(current, key=lambda version: self._names.generation_of(version.name)))

    def ring_holds(self, generation: int) -> Shown | None:
        """The login that OCI holds under a generation."""
        name = self._names.name_of(generation)
        held = [v for versions in self.ring_versions() for v in versions if v.name == name]
        return _login(held[0]) if held else None

    def ring_versions(self) -> Iterator[tuple[Version, ...]]:
        """The versions of `app_user` in each slot, past any outage."""
        for ocid in self.ring.ids["app_user"]:
            secret = self.sandbox.vault.settled(ocid, self.memory.clock.now())
            assert secret
            yield secret.state.versions


def _login(version: Version) -> Shown | None:
    fields = json.loads(b64decode(version.content))
    return (fields["username"], fields["password"]) if "password" in fields else None


class LifeObserver(MemoryObserver):
    """Checks the invariants after every call that has changed something.

    Attributes:
        readers: The databases that applications use.
        restored: Those that a person has restored from a backup, until Lockstep has them back.
        failed_over: Those that have lost their last changes, until they accept what stores serve.
        runner: Who is at work.
        violations: What did not hold.
    """

    def __init__(self, life: LifeWorld) -> None:
        self.readers: set[str] = set()
        self.restored: set[str] = set()
        self.failed_over: set[str] = set()
        self.violations: list[str] = []
        self.runner = ""
        self._life = life
        self._kinds: dict[int, ClaimKind] = {}
        self._changes = 0
        super().__init__(life.memory)
        self.refusals = {
            name: CountedRefusals(partial(self._is_foreign, name)) for name in life.memory.databases
        }
        for name, database in life.memory.databases.items():
            database.refusals = self.refusals[name]
        for name, double in seams(life.memory):
            double.faults.after = lambda operation, name=name: self.look(f"after {name} {operation}")

    def _is_foreign(self, database: str) -> bool:
        return database in self.restored or database not in self.readers

    def serves(self) -> dict[str, Shown | None]:
        return super().serves() | {"oci": self._life.ring_serves()}

    def holds(self, generation: int) -> dict[str, Shown | None]:
        return {**super().holds(generation), "oci": self._life.ring_holds(generation)}

    def snapshot(self) -> Snapshot[Shown]:
        planned = self._life.deployed[self.runner].databases if self.runner else ()
        return replace(super().snapshot(), databases=sorted(self.readers), planned=planned)

    def has_changed(self) -> bool:
        changes, self._changes = self._changes, self._life.changes
        return super().has_changed() or changes != self._changes

    @contextmanager
    def by_a_person(self) -> Iterator[None]:
        """What is changed inside the block is not Lockstep's doing."""
        yield
        self.watch.forget(self.snapshot())

    def look(self, when: str) -> None:
        """Note what does not hold."""
        if self.has_changed():
            self._noting(partial(self._look, when))

    def _noting(self, check: Callable[[], None]) -> None:
        try:
            check()
        except ViolationError as violation:
            at = self.world.clock.now().isoformat(timespec="minutes")
            self.violations.append(f"{at} {self.runner}: {violation}")

    def _look(self, when: str) -> None:
        now, claim = self.snapshot(), self.world.lock.record.claim
        if claim:
            self._kinds[claim.generation] = claim.kind
        served = [value for value in now.serves.values() if value]
        self.failed_over = {d for d in self.failed_over if not all(now.lets_in(d, v) for v in served)}
        excused = [f"{store} at {d}" for store in STORES for d in self.restored | self.failed_over]
        of = self._life.deployed[self.runner].credential if self.runner else self.world.credential
        self.watch.look(now, when, at=self.world.clock.now(), overlap=of.schedule.overlap, excused=excused)

    def rotated(self) -> None:
        """I8, I9 and O5, after a run that says that it has rotated."""
        self._noting(self._rotated)

    def _rotated(self) -> None:
        record, now, when = self.world.lock.record, self.snapshot(), f"after a rotation of {self.runner}"
        invariants.in_sync(now, self._life.generations(), record.holder, when)
        if self._kinds.get(record.current_generation or 0) is ClaimKind.NEW:
            live = [self.holds(g)["aws"] for g in record.valid]
            let_in = known_logins(self.world)
            past = set().union(*(let_in[d] for d in now.databases if d not in self.restored))
            invariants.past_is_revoked(now, past.difference(live), live, when)
        if record.revoke_through is not None and not record.is_revoking:
            generations = range(record.revoke_through, 0, -1)[:20]
            leaked = [v for g in generations if (v := self.holds(g)["aws"])]
            invariants.emergency_is_over(now, leaked, when)
