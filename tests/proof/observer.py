"""Looks at the world from outside: what applications read, whether it logs in, and what must hold (invariants).

See `sandbox.outside` for how it looks.

    invariant                    checked
    I1 no lockout                after every call that changes something: each store's current value, each database
    I2 write-ahead               likewise: where a database lets a pending value in, every store holds it
    I3 promote what is proven    likewise: what a store serves had been accepted everywhere before it served it
    I4 one in flight             likewise: one value a generation; a claim is followed by nothing but its own end
    I5 no zombie writes          after every call of a run that has lost the lock
    I6 nothing leaks             at the end, in all that was logged, answered, recorded
    I7 every change on record    after every run
    I8 it converges              after every recovery
    I9 the past is dead          after every recovery
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from lockstep.aws.s3_audit import S3AuditLog
from lockstep.model import Credential
from lockstep.oci.clients import OciClients, OciIdentity
from lockstep.oci.object_storage_audit import ObjectStorageAuditLog
from lockstep.ports import AuditLog
from sandbox.outside import StoreName, Value, lets_in, value_of
from sandbox.plans import AUDIT_BUCKET, OCI_REGION
from sandbox.wire import Call
from tests.proof.estate import WiredEstate
from tests.proof.runners import Outcome

STORES: tuple[StoreName, ...] = ("aws", "oci")


class Served(NamedTuple):
    """What a store serves: the generations of both secrets, and the login."""

    generation: int
    blob_generation: int
    value: Value


@dataclass(frozen=True)
class ViolationError(Exception):
    """An invariant does not hold."""

    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"


@dataclass(frozen=True)
class Record:
    """The lock's item, as far as invariants speak of it."""

    holder: str | None
    fence: int
    pending: int | None
    base: int | None
    kind: str
    current: int | None
    previous: int | None


class Observer:
    """Watches one credential."""

    def __init__(self, estate: WiredEstate, credential: Credential) -> None:
        self._estate = estate
        self._credential = credential
        self._outside = estate.running.outside
        self._servers = {s.name: s for s in credential.servers}
        self._logs = self._audit_logs()
        self._all_staged: set[tuple[str, int]] = set()
        self._logins: dict[tuple[str, Value], bool] = {}
        self._served: dict[StoreName, Served] = {}
        self._record: Record | None = None
        self._proven: set[Value] = set()
        self._audited: dict[str, int] = dict.fromkeys(STORES, 0)
        self._hashes: dict[str, str] = dict.fromkeys(STORES, "0" * 64)
        self._entries: dict[str, int] = {}
        self.values: dict[int, Value] = {}
        self.logins = 0
        self.looks = 0
        self.allowed_to_replace = False
        for store in STORES:
            self._served[store] = self._read(store)
        self.values[0] = self._served["aws"].value

    # What is looked at, and when.

    def look(self, call: Call) -> None:
        """Look after a call; raises ViolationError."""
        if not call.changes:
            return
        self.looks += 1
        if call.target in self._servers:
            if not call.operation.startswith("ALTER"):
                return
            for key in [k for k in self._logins if k[0] == call.target]:
                del self._logins[key]
            self._proven.clear()
        elif call.target == "secretsmanager":
            self._reread("aws")
        elif call.target == "vault":
            self._reread("oci")
        elif call.target == "dynamodb":
            self._follow(self._read_record())
        self.no_lockout(f"after {call}")
        self._write_ahead(call)
        self._no_zombie(call)

    def no_lockout(self, when: str) -> None:
        """I1, and base and pending while a rotation is under way."""
        for store, served in self._served.items():
            for database in self._servers:
                if not self.lets_in(database, served.value):
                    raise ViolationError(
                        "I1", f"{store} serves {served.generation}, {database} refuses it, {when}"
                    )

    def _reread(self, store: StoreName) -> None:
        before, now = self._served[store], self._read(store)
        if now.value != before.value and now.value not in self._proven:
            # The very look at I1 would see a refusal; this sees a promotion that nobody had a right to make.
            refusing = [d for d in self._servers if not self.lets_in(d, now.value)]
            if refusing:
                raise ViolationError(
                    "I3", f"{store} serves {now.generation}, which {refusing} had not accepted"
                )
        self._served[store] = now

    def _write_ahead(self, call: Call) -> None:
        record = self._record
        if record is None or record.pending is None:
            return
        staged = {store: self._staged(store, record.pending) for store in STORES}
        values = {v for v in staged.values() if v}
        if len(values) > 1:
            raise ViolationError("I4", f"two values under generation {record.pending}, after {call}")
        for value in values:
            known = self.values.setdefault(record.pending, value)
            if known != value:
                raise ViolationError("I4", f"generation {record.pending} has changed its value, after {call}")
            accepting = [d for d in self._servers if self.lets_in(d, value)]
            if accepting and record.kind == "new" and not all(staged.values()):
                raise ViolationError("I2", f"{accepting} accepts what is not staged everywhere, after {call}")
            if len(accepting) == len(self._servers):
                self._proven.add(value)

    def _follow(self, now: Record) -> None:
        before, self._record = self._record, now
        if before is None or before.pending in (None, now.pending):
            return
        is_done = now.current == before.pending
        if not is_done and not self.allowed_to_replace:
            raise ViolationError(
                "I4", f"generation {before.pending} was in flight and {now.pending} replaced it"
            )

    def _no_zombie(self, call: Call) -> None:
        record = self._record
        moved = call.target in self._servers or call.operation in {
            "UpdateSecretVersionStage",
            "update_secret",
        }
        if not (record and moved and record.holder and call.process.run != record.holder):
            return
        inside = [v for g, v in self.values.items() if g in (record.pending, record.base, record.current)]
        for store, served in self._served.items():
            if served.value not in inside:
                raise ViolationError(
                    "I5", f"{store} serves {served.generation}, written by an overtaken run: {call}"
                )

    # After runs.

    def snapshot(self) -> object:
        """What a run that was overtaken must not change: what is served, and who is let in."""
        self._logins.clear()
        return (
            {s: self._read(s) for s in STORES},
            {(d, g): self.lets_in(d, v) for d in self._servers for g, v in list(self.values.items())[-4:]},
        )

    def ended(self, outcome: Outcome) -> None:
        """I7, after a run."""
        for stream, log in self._logs.items():
            while found := log.summary(self._audited[stream] + 1):
                if found.previous_hash != self._hashes[stream]:
                    raise ViolationError("I7", f"{stream}/{found.seq} does not continue the chain")
                self._audited[stream], self._hashes[stream] = found.seq, found.hash
                self._entries[found.rotation_id] = self._entries.get(found.rotation_id, 0) + 1
                if self._entries[found.rotation_id] > 1:
                    raise ViolationError("I7", f"two entries for {found.rotation_id}")
        if outcome.outcome == "rotated" and self._entries.get(outcome.rotation_id) != 1:
            raise ViolationError("I7", f"{outcome.rotation_id} rotated and is not on record")

    def recovered(self, outcome: Outcome) -> None:
        """I8 and I9, after a run that nothing disturbed."""
        if outcome.outcome != "rotated":
            raise ViolationError("I8", f"the recovery ended as {outcome.outcome} {outcome.error}")
        record = self._record = self._read_record()
        if record.holder or record.pending is not None:
            raise ViolationError("I8", f"the lock is held by {record.holder}, {record.pending} is pending")
        current = record.current
        for store in STORES:
            served = self._served[store] = self._read(store)
            if (served.generation, served.blob_generation) != (current, current):
                raise ViolationError(
                    "I8", f"{store} serves {served.generation}, {served.blob_generation} not {current}"
                )
        self._logins.clear()
        self.no_lockout("after the recovery")
        live = {self.values[g] for g in (current, record.previous) if g in self.values}
        for generation, value in list(self.values.items())[-5:]:
            for database in self._servers:
                if self.lets_in(database, value) != (value in live):
                    state = "alive" if value not in live else "dead"
                    raise ViolationError(
                        "I9", f"generation {generation} is {state} on {database}; current is {current}"
                    )

    def leaks(self, texts: Mapping[str, str]) -> None:
        """I6, in any texts."""
        for place, text in texts.items():
            for generation, value in self.values.items():
                if generation and value.password in text:
                    raise ViolationError("I6", f"the password of generation {generation} stands in {place}")

    # Reading the world.

    def lets_in(self, database: str, value: Value) -> bool:
        """A real login, remembered until an account is changed there."""
        key = (database, value)
        if key not in self._logins:
            self.logins += 1
            self._logins[key] = lets_in(self._servers[database], value)
        return self._logins[key]

    def _read(self, store: StoreName) -> Served:
        names = self._credential.secret_names
        app_user = self._outside.serves(store, self._credential, names.app_user)
        blob = self._outside.serves(store, self._credential, names.connection_blob)
        value = value_of(app_user.text)
        assert value
        return Served(app_user.generation, blob.generation, value)

    def _staged(self, store: StoreName, generation: int) -> Value | None:
        if generation in self.values and (store, generation) in self._all_staged:
            return self.values[generation]
        text = self._outside.holds(store, self._credential, generation)
        if text is None:
            return None
        self._all_staged.add((store, generation))
        return value_of(text)

    def read_record(self) -> Record:
        """The lock's item."""
        return self._read_record()

    def _read_record(self) -> Record:
        item = self._outside.lock_item(self._credential.id)

        def number(name: str) -> int | None:
            return int(item[name]["N"]) if "N" in item.get(name, {}) else None

        return Record(
            holder=item["holder"]["S"] if "holder" in item else None,
            fence=number("fence") or 0,
            pending=number("pending_generation"),
            base=number("base_generation"),
            kind=item.get("claim_kind", {}).get("S", ""),
            current=number("current_generation"),
            previous=number("previous_generation"),
        )

    def lock_text(self) -> str:
        """All of the lock's item."""
        return json.dumps(self._outside.lock_item(self._credential.id))

    def _audit_logs(self) -> dict[str, AuditLog]:
        sandbox = self._estate.running.oci
        identity = OciIdentity(config=sandbox.config())
        clients = OciClients(lambda: identity, OCI_REGION, endpoint=sandbox.endpoint)
        return {
            "aws": S3AuditLog(
                self._estate.running.aws.client("s3"), AUDIT_BUCKET, "aws", self._credential.id
            ),
            "oci": ObjectStorageAuditLog(
                clients,
                namespace=sandbox.namespace,
                bucket=AUDIT_BUCKET,
                stream="oci",
                credential_id=self._credential.id,
            ),
        }
