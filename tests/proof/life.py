"""The world of a credential's whole life in memory, and what must hold in it at every instant.

The OCI store is the shipped adapter with the real SDK over the emulator. Both runners have plans of their own, because
a plan is deployed to one cloud after the other.
"""

import json
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from lockstep.plan.file import parse_plan
from lockstep.plan.model import Plan
from lockstep.protocol.model import ClaimKind, Credential, Engine, LockRecord, Login
from lockstep.protocol.names import VersionNames
from lockstep.protocol.ring import SLOTS
from lockstep.stores.credential import Ports, Stores
from sandbox import plans
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.secret import Version
from tests.contract.oci_fixtures import VaultRingHarness
from tests.proof import invariants
from tests.proof.invariants import InFlight, Snapshot, ViolationError
from tests.support.memory import FakeClock
from tests.support.memory_database import FORGOTTEN, Refusals
from tests.support.world import make_world, seams, shown

if TYPE_CHECKING:
    from datetime import datetime

Shown = tuple[str, str]
STORES = ("aws", "oci")
CREDENTIAL_ID = "multi-cloud/app_user"
ALL_DATABASES = tuple(f"db-{n}" for n in range(1, 6))


@dataclass(frozen=True, kw_only=True)
class Edition:
    """A plan of the credential, as it is deployed.

    Attributes:
        minutes: The interval.
    """

    databases: tuple[str, ...]
    minutes: int

    @cached_property
    def plan(self) -> Plan:
        """The plan file's content."""
        document = plans.plan_document(
            [plans.database(name, Engine.MYSQL) for name in self.databases],
            [plans.credential(CREDENTIAL_ID, *self.databases, interval=f"{self.minutes}m")],
            oci=plans.OciNames(),
        )
        return parse_plan(json.dumps(document), base=Path())

    @property
    def credential(self) -> Credential:
        """The credential in it."""
        return self.plan.credentials[0]


class CountedRefusals(Refusals):
    """Counts all refusals, too; and no run of them where a person has set the account.

    Args:
        is_foreign: Whether a person has.
    """

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
        memory: Everything except the vault; its own store `oci` is not used.
        deployed: What each runner has.
        changes: How many calls have changed the vault.
    """

    def __init__(self, sandbox: OciSandbox, clock: FakeClock) -> None:
        first = Edition(databases=ALL_DATABASES[:2], minutes=20)
        everything = replace(first, databases=ALL_DATABASES)
        self.sandbox = sandbox
        self.memory = make_world(credentials=everything.credential, placeholder=True, clock=clock)
        self.memory.lock.record = LockRecord(credential_id=CREDENTIAL_ID)
        self.ring = VaultRingHarness(sandbox, slots=SLOTS, clock=clock)
        self.deployed = dict.fromkeys(STORES, first)
        self.changes = 0
        self._names = VersionNames(credential_id=CREDENTIAL_ID, secret=self.ring.names["app_user"])
        sandbox.on_call = self._count_change

    @property
    def record(self) -> LockRecord:
        """The lock record."""
        return self.memory.lock.record

    def order(self, **fields: object) -> None:
        """Write an order into the record, as an operator does, without the lock."""
        self.memory.lock.record = replace(self.record, **fields)  # type: ignore[arg-type]  # the act names them

    def ports(self, runner: str) -> Ports:
        """The world as a runner sees it, under the plan that it has."""
        edition = self.deployed[runner]
        self.memory.plans[runner] = edition.credential
        stores = Stores([self.memory.stores["aws"], self.ring.store_on(self.ring.vault)])
        return replace(self.memory.ports(runner), stores=stores)

    def serves(self) -> dict[str, Shown | None]:
        """The login that each store serves; None for a placeholder."""
        login = self.memory.stores["aws"].current_login()
        text = max(self._slots())[2]
        return {"aws": shown(login) if login else None, "oci": _login(text)}

    def generations(self) -> list[int]:
        """What both secrets of each store serve."""
        aws = [self.memory.stores["aws"].secret(kind).read_current().generation for kind in self.ring.ids]
        return [*aws, *(self.ring.serving(kind)[1] for kind in self.ring.ids)]

    def holds(self, generation: int) -> dict[str, Shown | None]:
        """The login that each store holds under a generation."""
        version = self.memory.stores["aws"].secret("app_user").read_generation(generation)
        name = self._names.name_of(generation)
        texts = [_text(v) for v in self._versions() if v.name == name]
        return {
            "aws": _login(version.text or "{}") if version else None,
            "oci": _login(texts[0]) if texts else None,
        }

    def accepted(self, database: str) -> set[Shown]:
        """The logins that a database accepts, without those that nobody knows."""
        accounts = self.memory.databases[database].accounts
        return {(u, p) for u, account in accounts.items() for p in account.passwords if p != FORGOTTEN}

    def _slots(self) -> Iterator[tuple[int, int, str]]:
        for place, versions in enumerate(self.ring_versions()):
            current = next(v for v in versions if v.stage == "CURRENT")
            yield self._names.generation_of(current.name), -place, _text(current)

    def _versions(self) -> Iterator[Version]:
        for versions in self.ring_versions():
            yield from versions

    def ring_versions(self) -> Iterator[tuple[Version, ...]]:
        """The versions of `app_user` in each slot, past any outage."""
        now = self.memory.clock.now()
        for ocid in self.ring.ids["app_user"]:
            secret = self.sandbox.vault.settled(ocid, now)
            assert secret
            yield secret.state.versions

    def _count_change(self, when: str, operation: str, _resource: str) -> None:
        self.changes += when == "after" and operation == "update_secret"


class LifeObserver:
    """Checks the invariants after every call that has changed something.

    Attributes:
        readers: The databases that applications use.
        restored: Those that a person has restored from a backup, until Lockstep has them back.
        failed_over: Those that have lost their last changes, until they accept what stores serve.
        violations: What did not hold.
    """

    def __init__(self, world: LifeWorld) -> None:
        self.readers: set[str] = set()
        self.restored: set[str] = set()
        self.failed_over: set[str] = set()
        self.violations: list[str] = []
        self.runner = ""
        self._world = world
        self._until: dict[tuple[str, Shown], datetime] = {}
        self._proven: set[tuple[str, Shown]] = set()
        self._seen: object = None
        self._was_promoting = False
        self._kinds: dict[int, ClaimKind] = {}
        self._last = self._snapshot()
        for name, database in world.memory.databases.items():
            database.on_login = self._saw
            database.refusals = CountedRefusals(partial(self._is_foreign, name))
        for name, double in seams(world.memory):
            double.faults.after = lambda operation, name=name: self.look(f"after {name} {operation}")

    @contextmanager
    def by_a_person(self) -> Iterator[None]:
        """What is changed inside the block is not Lockstep's doing."""
        yield
        self._last = self._snapshot()
        self._until = {(d, v): until for (d, v), until in self._until.items() if self._last.lets_in(d, v)}

    def look(self, when: str) -> None:
        """Note what does not hold."""
        try:
            self._look(when)
        except ViolationError as violation:
            at = self._world.memory.clock.now().isoformat(timespec="minutes")
            self.violations.append(f"{at} {self.runner}: {violation}")

    def _look(self, when: str) -> None:
        state = self._state()
        if state == self._seen:
            return
        self._seen, record = state, self._world.record
        before, now = self._last, self._snapshot()
        self._last, was_promoting, self._was_promoting = now, self._was_promoting, record.promoting
        if record.claim:
            self._kinds[record.claim.generation] = record.claim.kind
        self._proven = {(d, v) for d, v in self._proven if now.lets_in(d, v)}
        self.failed_over -= {
            d for d in self.failed_over if all(now.lets_in(d, v) for v in now.serves.values() if v)
        }
        excused = [f"{store} at {d}" for store in STORES for d in self.restored | self.failed_over]
        invariants.no_lockout(now, when, excused=excused)
        self._overlap_is_kept(before, now, when)
        plan = self._world.deployed[self.runner].databases if self.runner else ()
        invariants.promoted_is_proven(
            before, replace(now, databases=plan), when, is_proven=lambda d, v: (d, v) in self._proven
        )
        if was_promoting:
            invariants.one_in_flight(before, now, when)
        invariants.in_flight_write_ahead(replace(now, databases=plan), when)

    def _overlap_is_kept(self, before: Snapshot[Shown], now: Snapshot[Shown], when: str) -> None:
        at = self._world.memory.clock.now()
        if self._world.record.is_revoking:
            self._until.clear()
        elif self.runner:
            until = at + self._world.deployed[self.runner].credential.schedule.overlap
            changed = [v for s, v in before.serves.items() if v and v != now.serves[s]]
            self._until |= {(d, v): until for v in changed for d in now.accepting(v)}
        for database in now.databases:
            promised = [v for (d, v), until in self._until.items() if d == database and at < until]
            invariants.overlap_is_kept(replace(now, databases=[database]), promised, when)

    def rotated(self) -> None:
        """I8, I9 and O5, after a run that says that it has rotated."""
        try:
            self._rotated()
        except ViolationError as violation:
            at = self._world.memory.clock.now().isoformat(timespec="minutes")
            self.violations.append(f"{at} {self.runner}: {violation}")

    def _rotated(self) -> None:
        record, now, when = self._world.record, self._snapshot(), f"after a rotation of {self.runner}"
        invariants.in_sync(now, self._world.generations(), record.holder, when)
        if self._kinds.get(record.current_generation or 0) is ClaimKind.NEW:
            self.past_is_revoked(when)
        if record.revoke_through is not None and not record.is_revoking:
            leaked = [
                v for g in range(record.revoke_through, 0, -1)[:20] if (v := self._world.holds(g)["aws"])
            ]
            invariants.emergency_is_over(now, leaked, when)

    def past_is_revoked(self, when: str) -> None:
        """I9: what a database accepts is valid on record."""
        live = [self._world.holds(g)["aws"] for g in self._world.record.valid]
        now = self._snapshot()
        past = set().union(*(self._world.accepted(d) for d in now.databases if d not in self.restored))
        invariants.past_is_revoked(now, past.difference(live), live, when)

    def _is_foreign(self, database: str) -> bool:
        return database in self.restored or database not in self.readers

    def _saw(self, database: str, login: Login) -> None:
        self._proven.add((database, shown(login)))

    def _snapshot(self) -> Snapshot[Shown]:
        world, record = self._world, self._world.record
        claim, let_in = record.claim, {d: world.accepted(d) for d in ALL_DATABASES}
        return Snapshot(
            databases=sorted(self.readers),
            serves=world.serves(),
            holds=world.holds(claim.generation) if claim else {},
            lets_in=lambda database, value: value in let_in[database],
            in_flight=InFlight(generation=claim.generation, is_reconcile=claim.kind is ClaimKind.RECONCILE)
            if claim
            else None,
            current=record.current_generation,
        )

    def _state(self) -> object:
        world = self._world
        return (
            world.changes,
            (world.record.claim, world.record.promoting, world.record.revoke_through, world.record.valid),
            [(s.current, len(s.versions)) for s in world.memory.stores["aws"]._secrets.values()],
            {d: world.accepted(d) for d in ALL_DATABASES},
        )

    def refused_logins(self) -> tuple[int, int]:
        """How many logins of Lockstep's were refused, and how many at most in a row on one account."""
        counts = Counter[str]()
        for database in self._world.memory.databases.values():
            assert isinstance(database.refusals, CountedRefusals)
            counts["total"] += database.refusals.total
            counts["most"] = max(counts["most"], database.refusals.most)
        return counts["total"], counts["most"]


def _text(version: Version) -> str:
    return b64decode(version.content).decode()


def _login(text: str) -> Shown | None:
    fields = json.loads(text)
    return (fields["username"], fields["password"]) if "password" in fields else None
