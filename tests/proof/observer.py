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
from lockstep.protocol.model import Claim, ClaimKind, Credential, LockRecord
from lockstep.protocol.ports import AuditLog
from sandbox.outside import StoreName, Value, lets_in, value_of
from sandbox.plans import AUDIT_BUCKET, OCI_REGION
from sandbox.wire import Call
from tests.proof import invariants
from tests.proof.estate import WiredEstate
from tests.proof.invariants import Snapshot, ViolationError, Watch
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
        self._record = LockRecord(credential_id="")
        self._last_entries = dict.fromkeys(STORES, (0, NO_PREVIOUS))
        self._recorded: list[str] = []
        self.values: dict[int, Value] = {0: self._served["aws"].value}
        self._kinds: dict[int, ClaimKind] = {}
        self._revoked_through: int | None = None
        self._watch = Watch(self._snapshot())

    # What is looked at, and when.

    def look(self, call: Call) -> None:
        """Look after a call; raises ViolationError."""
        is_database = call.target in self._servers
        if not call.changes or (is_database and not call.operation.startswith("ALTER")):
            return
        self._logins = {key: seen for key, seen in self._logins.items() if key[0] != call.target}
        if store := STORE_OF.get(call.target):
            self._served[store] = self._read(store)
        elif call.target == "dynamodb":
            self._record = self._read_record()
        now, when, record = self._snapshot(), f"after {call}", self._record
        overlap = self._credential.schedule.overlap
        self._watch.look(now, when, at=self._estate.clock.now(), overlap=overlap)
        named, claim = {record.current_generation, *record.valid}, record.claim
        if claim:
            self._kinds[claim.generation] = claim.kind
            named |= {claim.generation, claim.base_generation}
            for value in filter(None, now.holds.values()):
                if self.values.setdefault(claim.generation, value) != value:
                    what = f"generation {claim.generation} has changed its value, {when}"
                    raise ViolationError("I4", what)
        moves = is_database or call.operation in {"UpdateSecretVersionStage", "update_secret"}
        if moves and record.holder not in (None, call.process.run):
            legitimate = [value for generation, value in self.values.items() if generation in named]
            invariants.serves_only(now, legitimate, when)

    def _snapshot(self) -> Snapshot[Value]:
        claim = self._record.claim
        return Snapshot(
            databases=self._servers,
            serves={store: served.value for store, served in self._served.items()},
            holds={store: self._staged(store, claim.generation) for store in STORES} if claim else {},
            lets_in=self.lets_in,
            record=self._record,
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
        when = f"after the recovery; current is {record.current_generation}"
        generations = [g for s in self._served.values() for g in (s.generation, s.blob_generation)]
        invariants.in_sync(now, generations, when)
        if not record.is_revoking and record.revoke_through != self._revoked_through:
            self._revoked_through = record.revoke_through
            leaked = [v for g, v in self.values.items() if g <= (record.revoke_through or 0)]
            invariants.emergency_is_over(now, leaked, when)
        if self._kinds.get(record.current_generation or 0) is ClaimKind.NEW:
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

    def _read_record(self) -> LockRecord:
        """The lock's item, as far as invariants speak of it."""
        item, claim = self._outside.lock_item(self._credential.id), None

        def number(name: str) -> int | None:
            return int(item[name]["N"]) if "N" in item.get(name, {}) else None

        if pending := number("pending_generation"):
            kind, base = ClaimKind(item["claim_kind"]["S"]), int(item["base_generation"]["N"])
            claim = Claim(kind=kind, generation=pending, base_generation=base, rotation_id="")
        return LockRecord(
            credential_id=self._credential.id,
            holder=item["holder"]["S"] if "holder" in item else None,
            claim=claim,
            promoting=item.get("promoting", {}).get("BOOL", False),
            current_generation=number("current_generation"),
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
