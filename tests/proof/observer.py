"""Looks at the world from outside: what applications read, whether it logs in, and what must hold (invariants).

See `sandbox.outside` for how it looks.

    invariant                    checked
    I1 no lockout                after every call that changes something: each store's current value, each database;
                                 and what a store served before it, until its overlap is over
    I2 write-ahead               likewise: where a database lets a pending value in, every store holds it
    I3 promote what is proven    likewise: what a store serves had been accepted everywhere before it served it
    I4 one in flight             likewise: one value a generation; a promotion ends, or a reconcile takes its place
    I5 no zombie writes          after every call of a run that has lost the lock
    I6 nothing leaks             at the end, in all that was logged, answered, recorded
    I7 every change on record    after every run
    I8 it converges              after every recovery
    I9 the past is revoked          after every recovery that made a new value: what is not valid on record is refused
    O5 an emergency ends         after every recovery, where one was ordered
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from lockstep.audit.entry import stored
from lockstep.aws.s3 import S3AuditLog
from lockstep.oci.clients import OciClients, OciIdentity
from lockstep.oci.object_storage import ObjectStorageAuditLog
from lockstep.protocol.model import Credential
from lockstep.protocol.ports import AuditLog
from sandbox.outside import StoreName, Value, lets_in, value_of
from sandbox.plans import AUDIT_BUCKET, OCI_REGION
from sandbox.wire import Call
from tests.proof import invariants
from tests.proof.estate import WiredEstate
from tests.proof.invariants import InFlight, Snapshot, ViolationError
from tests.proof.runners import Outcome

if TYPE_CHECKING:
    from datetime import datetime

STORES: tuple[StoreName, ...] = ("aws", "oci")
RECENT = 6
"""How many values are tried after a recovery, the newest: those of the disturbed run and of the runs before it."""


class Served(NamedTuple):
    """What a store serves: the generations of both secrets, and the login."""

    generation: int
    blob_generation: int
    value: Value


@dataclass(frozen=True)
class Record:
    """The lock's item, as far as invariants speak of it."""

    holder: str | None
    fence: int
    pending: int | None
    base: int | None
    kind: str
    promoting: bool
    current: int | None
    valid: frozenset[int]
    revoke_through: int | None

    @property
    def is_revoking(self) -> bool:
        """Whether an emergency is in force."""
        return self.revoke_through is not None and min(self.valid, default=0) <= self.revoke_through


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
        self._kinds: dict[int, str] = {}
        self._until: dict[Value, datetime] = {}
        self._revoked_through: int | None = None
        for store in STORES:
            self._look_at(store)
        self.values[0] = self._served["aws"].value
        self._last = self._snapshot()

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
        before, was, when = self._last, self._record, f"after {call}"
        if call.target in {"secretsmanager", "vault"}:
            store: StoreName = "aws" if call.target == "secretsmanager" else "oci"
            self._look_at(store)
        elif call.target == "dynamodb":
            record = self._record = self._read_record()
            if record.pending is not None:
                self._kinds[record.pending] = record.kind
        now = self._last = self._snapshot()
        invariants.promoted_is_proven(before, now, when, is_proven=self._is_proven)
        if was and was.promoting:
            invariants.one_in_flight(before, now, when)
        invariants.no_lockout(now, when)
        self._overlap_is_kept(before, now, when)
        invariants.in_flight_write_ahead(now, when)
        self._note(now, when)
        if self._by_overtaken(call):
            invariants.serves_only(now, self._of_the_record(), when)

    def _overlap_is_kept(self, before: Snapshot[Value], now: Snapshot[Value], when: str) -> None:
        """I1: what a store has served until now logs in until its overlap is over; an emergency ends it."""
        if self._record and self._record.is_revoking:
            self._until.clear()
            return
        at = self._estate.clock.now()
        for store, last in before.serves.items():
            if last and last != now.serves[store]:
                self._until[last] = at + self._credential.schedule.overlap
        invariants.overlap_is_kept(now, [value for value, until in self._until.items() if at < until], when)

    def _snapshot(self) -> Snapshot[Value]:
        record = self._record
        pending = record.pending if record else None
        return Snapshot(
            databases=self._servers,
            serves={store: served.value for store, served in self._served.items()},
            holds={} if pending is None else {store: self._staged(store, pending) for store in STORES},
            lets_in=self.lets_in,
            in_flight=InFlight(generation=pending, is_reconcile=record.kind != "new")
            if record and pending is not None
            else None,
            current=record.current if record else None,
        )

    def _is_proven(self, database: str, value: Value) -> bool:
        # I1 would report a refusal; this reports a promotion without a proof.
        return value in self._proven or self.lets_in(database, value)

    def _note(self, now: Snapshot[Value], when: str) -> None:
        for value in now.holds.values():
            if value is None or now.in_flight is None:
                continue
            generation = now.in_flight.generation
            if self.values.setdefault(generation, value) != value:
                raise ViolationError("I4", f"generation {generation} has changed its value, {when}")
            if len(now.accepting(value)) == len(self._servers):
                self._proven.add(value)

    def _by_overtaken(self, call: Call) -> bool:
        promotes = call.operation in {"UpdateSecretVersionStage", "update_secret"}
        moves = call.target in self._servers or promotes
        holder = self._record.holder if self._record else None
        return moves and holder is not None and call.process.run != holder

    def _of_the_record(self) -> list[Value]:
        record = self._record
        named = (record.pending, record.base, record.current, *record.valid) if record else ()
        return [value for generation, value in self.values.items() if generation in named]

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
            while metadata := log.look(self._audited[stream] + 1):
                found = stored(self._audited[stream] + 1, metadata)
                if found.seal is None or found.seal.previous_hash != self._hashes[stream]:
                    raise ViolationError("I7", f"{stream}/{found.number} does not continue the chain")
                self._audited[stream], self._hashes[stream] = found.number, found.hash
                run = found.seal.rotation_id
                self._entries[run] = self._entries.get(run, 0) + 1
                if self._entries[run] > 1:
                    raise ViolationError("I7", f"two entries for {run}")
        if outcome.outcome == "rotated" and self._entries.get(outcome.rotation_id) != 1:
            raise ViolationError("I7", f"{outcome.rotation_id} rotated and is not on record")

    def recovered(self, outcome: Outcome) -> None:
        """I8, I9 and O5, after a run that nothing disturbed."""
        if outcome.outcome != "rotated":
            raise ViolationError("I8", f"the recovery ended as {outcome.outcome} {outcome.error}")
        record = self._record = self._read_record()
        for store in STORES:
            self._look_at(store)
        self._logins.clear()
        self._last = now = self._snapshot()
        when = f"after the recovery; current is {record.current}"
        generations = [g for s in self._served.values() for g in (s.generation, s.blob_generation)]
        invariants.in_sync(now, generations, record.holder, when)
        if not record.is_revoking and record.revoke_through != self._revoked_through:
            self._revoked_through = record.revoke_through
            leaked = [v for g, v in self.values.items() if g <= (record.revoke_through or 0)]
            invariants.emergency_is_over(now, leaked, when)
        if self._kinds.get(record.current or 0) == "new":
            live = {self.values[g] for g in record.valid}
            past = [value for value in list(self.values.values())[-RECENT:] if value not in live]
            invariants.past_is_revoked(now, past, live, when)

    def leaks(self, texts: Mapping[str, str]) -> None:
        """I6, in any texts."""
        for place, text in texts.items():
            for generation, value in self.values.items():
                if generation and value.password in text:
                    raise ViolationError("I6", f"the password of generation {generation} appears in {place}")

    # Reading the world.

    def lets_in(self, database: str, value: Value) -> bool:
        """A real login, remembered until an account is changed there."""
        key = (database, value)
        if key not in self._logins:
            self.logins += 1
            self._logins[key] = lets_in(self._servers[database], value)
        return self._logins[key]

    def _look_at(self, store: StoreName) -> None:
        self._served[store] = self._read(store)

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
            promoting=item.get("promoting", {}).get("BOOL", False),
            current=number("current_generation"),
            valid=frozenset(map(int, item.get("valid", {}).get("NS", ()))),
            revoke_through=number("revoke_through"),
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
