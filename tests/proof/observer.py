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
    I9 the past is revoked       after every recovery that made a new value: what is not valid on record is refused
    O5 an emergency ends         after every recovery, where one was ordered
"""

import json
from collections.abc import Mapping
from typing import NamedTuple

from lockstep.audit.entry import NO_PREVIOUS, stored
from lockstep.oci.clients import OciClients, OciIdentity
from lockstep.protocol.model import Credential
from lockstep.protocol.ports import AuditLog
from sandbox.outside import StoreName, Value, lets_in, value_of
from sandbox.plans import AUDIT_BUCKET, OCI_REGION
from sandbox.wire import Call
from tests.proof import invariants
from tests.proof.estate import WiredEstate
from tests.proof.invariants import InFlight, Snapshot, ViolationError, Watch
from tests.proof.runners import Outcome
from tests.support.logs import object_storage_log, s3_log

STORES: tuple[StoreName, ...] = ("aws", "oci")
STORE_OF: Mapping[str, StoreName] = {"secretsmanager": "aws", "vault": "oci"}
RECENT = 6
"""How many values are tried after a recovery, the newest: those of the disturbed run and of the runs before it."""


class Served(NamedTuple):
    """What a store serves: the generations of both secrets, and the login."""

    generation: int
    blob_generation: int
    value: Value


class Record(NamedTuple):
    """The lock's item, as far as invariants speak of it."""

    holder: str | None = None
    pending: int | None = None
    base: int | None = None
    kind: str = ""
    promoting: bool = False
    current: int | None = None
    valid: frozenset[int] = frozenset()
    revoke_through: int | None = None

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
        self._served = {store: self._read(store) for store in STORES}
        self._record = Record()
        self._last_entries = dict.fromkeys(STORES, (0, NO_PREVIOUS))
        self._recorded: list[str] = []
        self.values: dict[int, Value] = {0: self._served["aws"].value}
        self._kinds: dict[int, str] = {}
        self._revoked_through: int | None = None
        self._watch = Watch(self._snapshot())

    # What is looked at, and when.

    def look(self, call: Call) -> None:
        """Look after a call; raises ViolationError."""
        if not call.changes:
            return
        if call.target in self._servers:
            if not call.operation.startswith("ALTER"):
                return
            self._logins = {key: seen for key, seen in self._logins.items() if key[0] != call.target}
        if store := STORE_OF.get(call.target):
            self._served[store] = self._read(store)
        elif call.target == "dynamodb":
            record = self._record = self._read_record()
            if record.pending is not None:
                self._kinds[record.pending] = record.kind
        now, when = self._snapshot(), f"after {call}"
        overlap = self._credential.schedule.overlap
        self._watch.look(now, when, at=self._estate.clock.now(), overlap=overlap)
        for value in filter(None, now.holds.values()):
            generation = self._record.pending or 0
            if self.values.setdefault(generation, value) != value:
                raise ViolationError("I4", f"generation {generation} has changed its value, {when}")
        moves = call.target in self._servers or call.operation in {
            "UpdateSecretVersionStage",
            "update_secret",
        }
        if moves and self._record.holder not in (None, call.process.run):
            record = self._record
            named = {record.pending, record.base, record.current, *record.valid}
            legitimate = [value for generation, value in self.values.items() if generation in named]
            invariants.serves_only(now, legitimate, when)

    def _snapshot(self) -> Snapshot[Value]:
        record = self._record
        pending = record.pending
        return Snapshot(
            databases=self._servers,
            serves={store: served.value for store, served in self._served.items()},
            holds={} if pending is None else {store: self._staged(store, pending) for store in STORES},
            lets_in=self.lets_in,
            in_flight=None if pending is None else InFlight(pending, record.kind != "new"),
            current=record.current,
            promoting=record.promoting,
            revoking=record.is_revoking,
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
            number, previous = self._last_entries[stream]
            while metadata := log.look(number + 1):
                found = stored(number + 1, metadata)
                if found.seal is None or found.seal.previous_hash != previous:
                    raise ViolationError("I7", f"{stream}/{found.number} does not continue the chain")
                number, previous = self._last_entries[stream] = found.number, found.hash
                if found.seal.rotation_id in self._recorded:
                    raise ViolationError("I7", f"two entries for {found.seal.rotation_id}")
                self._recorded.append(found.seal.rotation_id)
        if outcome.outcome == "rotated" and outcome.rotation_id not in self._recorded:
            raise ViolationError("I7", f"{outcome.rotation_id} rotated and is not on record")

    def recovered(self, outcome: Outcome) -> None:
        """I8, I9 and O5, after a run that nothing disturbed."""
        if outcome.outcome != "rotated":
            raise ViolationError("I8", f"the recovery ended as {outcome.outcome} {outcome.error}")
        record = self._record = self._read_record()
        self._served = {store: self._read(store) for store in STORES}
        self._logins.clear()
        self._watch.last = now = self._snapshot()
        when = f"after the recovery; current is {record.current}"
        generations = [g for s in self._served.values() for g in (s.generation, s.blob_generation)]
        invariants.in_sync(now, generations, record.holder, when)
        if not record.is_revoking and record.revoke_through != self._revoked_through:
            self._revoked_through = record.revoke_through
            leaked = [v for g, v in self.values.items() if g <= (record.revoke_through or 0)]
            invariants.emergency_is_over(now, leaked, when)
        if self._kinds.get(record.current or 0) == "new":
            live = {self.values[g] for g in record.valid}
            invariants.past_is_revoked(now, list(self.values.values())[-RECENT:], live, when)

    def leaks(self, texts: Mapping[str, str]) -> None:
        """I6, in any texts, and in the lock's item."""
        texts = {**texts, "lock": json.dumps(self._outside.lock_item(self._credential.id))}
        for place, text in texts.items():
            for generation, value in self.values.items():
                if generation and value.password in text:
                    raise ViolationError("I6", f"the password of generation {generation} appears in {place}")

    # Reading the world.

    def lets_in(self, database: str, value: Value) -> bool:
        """A real login, remembered until an account is changed there."""
        key = (database, value)
        if key not in self._logins:
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

    def _read_record(self) -> Record:
        item = self._outside.lock_item(self._credential.id)

        def number(name: str) -> int | None:
            return int(item[name]["N"]) if "N" in item.get(name, {}) else None

        return Record(
            holder=item["holder"]["S"] if "holder" in item else None,
            pending=number("pending_generation"),
            base=number("base_generation"),
            kind=item.get("claim_kind", {}).get("S", ""),
            promoting=item.get("promoting", {}).get("BOOL", False),
            current=number("current_generation"),
            valid=frozenset(map(int, item.get("valid", {}).get("NS", ()))),
            revoke_through=number("revoke_through"),
        )

    def _audit_logs(self) -> dict[StoreName, AuditLog]:
        sandbox, of = self._estate.running.oci, self._credential.id
        identity = OciIdentity(config=sandbox.config())
        clients = OciClients(lambda: identity, OCI_REGION, endpoint=sandbox.endpoint)
        return {
            "aws": s3_log(self._estate.running.aws.client("s3"), AUDIT_BUCKET, of),
            "oci": object_storage_log(clients, sandbox.namespace, AUDIT_BUCKET, of),
        }
