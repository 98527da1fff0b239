"""The whole world of a rotation in memory: every port, behaving as the contract suites say.

`MemoryWorld` holds one credential's stores, databases and lock, and makes the ports of either runner;
`tests.support.world.make_world` builds it. Every double has `faults`, so that a test can fail or crash a run before or
after any single change.
"""

import hashlib
import hmac
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from msgspec import structs

from lockstep.audit.entry import stored
from lockstep.plan.file import parse_plan
from lockstep.plan.model import Plan
from lockstep.protocol.errors import AuditLogAccessDeniedError
from lockstep.protocol.model import Credential, Engine, Login, PasswordPolicy, SecretStr, Strategy
from lockstep.protocol.ports import Mac, ObjectVersion, chain_folder, entry_name, number_of
from lockstep.protocol.workers import SideBySide, one_after_the_other
from lockstep.stores.credential import Ports, Stores
from sandbox import plans
from tests.support.faults import Faults
from tests.support.memory_database import Account, MemoryDatabase, MemoryStager
from tests.support.memory_lock import MemoryLock
from tests.support.memory_store import PLACEHOLDER_TEXT, MemoryStore, SecretKind

# What is imported from here beside what is defined here.
__all__ = [
    "PLACEHOLDER_TEXT",
    "Account",
    "Faults",
    "MemoryDatabase",
    "MemoryStager",
    "MemoryStore",
    "SecretKind",
]

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
MAX_METADATA_BYTES = 2_048
"""What S3 takes, names included (https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html)."""


class FakeClock:
    """A clock that moves only by `sleep`."""

    def __init__(self, now: datetime = EPOCH) -> None:
        self._now = now
        self._elapsed_seconds = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed_seconds

    def sleep(self, seconds: float) -> None:
        self._elapsed_seconds += seconds
        self._now += timedelta(seconds=seconds)


class CountingPasswords:
    """The same passwords in the same order on every run, each different."""

    def __init__(self) -> None:
        self.count = 0

    def new_password(self, policy: PasswordPolicy) -> SecretStr:
        self.count += 1
        dice = random.Random(self.count)  # noqa: S311 - a test wants what production must not have
        obligatory = [dice.choice(c) for c in policy.classes]
        free = dice.choices("".join(policy.classes), k=policy.length - len(obligatory))
        return SecretStr("".join(obligatory + free))


class EntryObjects:
    """The objects of one credential's chain in one stream; the credential is named by its id, or by its folder."""

    def __init__(self, stream: str, credential_id: str) -> None:
        self.prefix = f"{stream}/{chain_folder(credential_id)}/"

    def key(self, number: int) -> str:
        """The name of the object."""
        return f"{self.prefix}{entry_name(number)}"

    def seq_of(self, key: str) -> int:
        """The number in a name; 0 for an object that is not an entry of this chain."""
        return number_of(key.removeprefix(self.prefix))


class MemoryAuditLog:
    """An append-only stream of objects: bodies and metadata."""

    def __init__(self, stream: str, folder: str = "multi-cloud/app_user") -> None:
        self.faults = Faults()
        self.entries: dict[int, tuple[bytes, Mapping[str, str]]] = {}
        self.dates: dict[int, datetime] = {}
        """When an object was written, where that was not at its entry's own time."""
        self.past: dict[str, list[int | None]] = {}
        """Of a name the older versions by their sizes, oldest first; None for a delete marker."""
        self.objects = EntryObjects(stream, folder)
        self.stream = stream

    def put(self, number: int, body: bytes, metadata: Mapping[str, str]) -> bool:
        with self.faults.around("put"):
            # As S3: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
            size = sum(len(name) + len(value) for name, value in metadata.items())
            if size > MAX_METADATA_BYTES or not all(value.isascii() for value in metadata.values()):
                raise AuditLogAccessDeniedError(stream=self.stream, seq=number, code="MetadataTooLarge")
            if number in self.entries:
                return False
            self.entries[number] = (body, metadata)
            return True

    def look(self, number: int) -> Mapping[str, str] | None:
        with self.faults.around("look"):
            return self.entries[number][1] if number in self.entries else None

    def read(self, number: int) -> bytes | None:
        with self.faults.around("read"):
            return self.entries[number][0] if number in self.entries else None

    def numbers(self, *, after: int = 0) -> Iterator[int]:
        return (number for number, _ in self.dated(after=after))

    def dated(self, *, after: int = 0) -> Iterator[tuple[int, datetime]]:
        with self.faults.around("numbers"):
            return iter([(n, self.at(n)) for n in sorted(self.entries) if n > after])

    def at(self, number: int) -> datetime:
        """When an object was written; a name that nothing has any more has no time."""
        seal = stored(number, self.entries[number][1]).seal if number in self.entries else None
        written = datetime.fromtimestamp(seal.time / 1000, UTC) if seal else EPOCH
        return self.dates.get(number, written)

    def history(self) -> Iterator[ObjectVersion]:
        with self.faults.around("history"):
            standing = {self.objects.key(seq): len(body) for seq, (body, _) in self.entries.items()}
            for key in sorted(standing.keys() | self.past.keys()):
                versions = [*self.past.get(key, []), *([standing[key]] if key in standing else [])]
                for number in range(len(versions), 0, -1):
                    size = versions[number - 1]
                    yield ObjectVersion(
                        key=key,
                        version_id=str(number),
                        is_delete_marker=size is None,
                        is_latest=number == len(versions),
                        at=self.at(self.objects.seq_of(key)),
                        size=size or 0,
                    )

    def overwrite(self, seq: int, body: bytes) -> None:
        """Write a second version, as who may put without a condition does."""
        old, summary = self.entries[seq]
        self.past.setdefault(self.objects.key(seq), []).append(len(old))
        self.entries[seq] = (body, summary)

    def delete(self, seq: int) -> None:
        """Put a marker on an entry, as who may delete does."""
        old, _ = self.entries.pop(seq)
        self.past.setdefault(self.objects.key(seq), []).extend([len(old), None])

    def plant(self, name: str) -> None:
        """Write an object that is not an entry."""
        self.past.setdefault(f"{self.objects.prefix}{name}", []).append(2)


class MemorySigner:
    """HMAC keys, each of which follows from its id.

    Args:
        key_id: The key that signs.
        retired: Those that did, the oldest first.
        orders: The key that signs orders; by default this one.
    """

    def __init__(self, key_id: str, *, retired: Sequence[str] = (), orders: str | None = None) -> None:
        self.faults = Faults()
        self.orders = MemorySigner(orders, retired=retired) if orders else self
        self.orders.faults = self.faults
        self.key_id = key_id
        self._keys = (*retired, key_id)

    def sign(self, digest: bytes) -> Mac:
        with self.faults.around("sign"):
            return Mac(key_id=self.key_id, value=hmac.digest(self.key(self.key_id), digest, "sha256"))

    def prepare(self) -> None:
        """The key is here."""

    def verify(self, digest: bytes, mac: Mac) -> bool:
        with self.faults.around("verify"):
            made = hmac.digest(self.key(mac.key_id), digest, "sha256")
            return mac.key_id in self._keys and hmac.compare_digest(made, mac.value)

    def rank(self, key_id: str) -> tuple[int, int]:
        return (self._keys.index(key_id) if key_id in self._keys else len(self._keys) - 1), 0

    @staticmethod
    def key(key_id: str) -> bytes:
        return hashlib.sha256(key_id.encode()).digest()


@cache
def make_plan(
    *, databases: int = 2, stores: int = 2, strategy: Strategy = Strategy.DUAL_PASSWORD, **more: object
) -> Plan:
    """A plan with one credential, `multi-cloud/app_user`.

    Args:
        databases: How many: `db-1`, `db-2` ….
        stores: 1 for `aws`, 2 for `aws` and `oci`.
        strategy: With dual passwords the databases are MySQL, with alternating users PostgreSQL.
        more: More keys of the credential, as in the file.
    """
    engine = Engine.MYSQL if strategy is Strategy.DUAL_PASSWORD else Engine.POSTGRESQL
    names = [f"db-{n}" for n in range(1, databases + 1)]
    app_user = plans.credential("multi-cloud/app_user", *names, strategy=strategy)
    document = plans.plan_document(
        [plans.database(name, engine) for name in names],
        [{**app_user, **more}],
        oci=plans.OciNames() if stores > 1 else None,
    )
    return parse_plan(json.dumps(document), base=Path())


@dataclass(kw_only=True)
class MemoryWorld:
    """What both runners share, and each runner's own audit log and key.

    Attributes:
        plans: The credential as a runner's plan has it, where that is another one.
        side_by_side: Runs what a step does side by side.
    """

    credential: Credential
    stores: Mapping[str, MemoryStore]
    databases: Mapping[str, MemoryDatabase]
    lock: MemoryLock
    plans: dict[str, Credential] = field(default_factory=dict)
    side_by_side: SideBySide = one_after_the_other
    clock: FakeClock = field(default_factory=FakeClock)
    passwords: CountingPasswords = field(default_factory=CountingPasswords)
    audit_logs: Mapping[str, MemoryAuditLog] = field(
        default_factory=lambda: {r: MemoryAuditLog(r) for r in ("aws", "oci")}
    )
    signers: Mapping[str, MemorySigner] = field(
        default_factory=lambda: {
            "aws": MemorySigner("aws-key", orders="aws-orders"),
            "oci": MemorySigner("oci-key"),
        }
    )

    def always_in_turn(self) -> None:
        """Let the standby's turns begin where the clock is, as long as it moves by whole intervals (protocol R8)."""
        schedule = self.credential.schedule
        phase = (self.clock.now() - EPOCH + schedule.interval / 2) % schedule.interval
        self.credential = structs.replace(self.credential, schedule=structs.replace(schedule, phase=phase))

    def by_wall_clock(self) -> None:
        """Let AWS's triggers begin at midnight, as those of a first shard do."""
        schedule = structs.replace(self.credential.schedule, phase=timedelta())
        self.credential = structs.replace(self.credential, schedule=schedule)

    def import_login(self, login: Login) -> None:
        """Put a login in every store and every database in memory, as people did before Lockstep."""
        text = json.dumps({"username": login.username, "password": login.password.reveal()})
        for store in self.stores.values():
            if isinstance(store, MemoryStore):
                store.edit("app_user", text)
        for database in self.databases.values():
            if isinstance(database, MemoryDatabase):
                database.accounts[login.username].passwords = (login.password.reveal(),)

    def ports(self, runner: str = "aws") -> Ports:
        """The world as a runner sees it."""
        credential = self.plans.get(runner, self.credential)
        for store in self.stores.values():
            if isinstance(store, MemoryStore):
                store.runs(self.side_by_side)
        return Ports(
            runner=runner,
            credential=credential,
            stores=Stores(list(self.stores.values()), side_by_side=self.side_by_side),
            databases={name: self.databases[name] for name in credential.databases},
            side_by_side=self.side_by_side,
            lock=self.lock,
            audit_log=self.audit_logs[runner],
            signer=self.signers[runner],
            clock=self.clock,
            passwords=self.passwords,
        )

    def locked_out(self) -> list[str]:
        """Where the value that a store serves does not log in: empty, or invariant I1 is broken."""
        return [
            f"{store.name} at {database.name}"
            for store in self.stores.values()
            if (login := store.current_login())
            for database in self.databases.values()
            if login.password.reveal() not in database.accounts.get(login.username, Account()).passwords
        ]
