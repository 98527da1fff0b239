"""What must hold at every instant of a race in memory."""

from datetime import datetime  # noqa: TC003 - the attribute is annotated at run time too
from functools import cache

from lockstep.protocol.model import Claim, ClaimKind, Login
from lockstep.stores.contents import extras_in
from tests.proof import invariants
from tests.proof.invariants import InFlight, Snapshot, ViolationError
from tests.proof.scenarios import accounts
from tests.support.memory import MemoryWorld
from tests.support.memory_store import OUR_KEYS, MemoryStore, SecretKind, Versions
from tests.support.world import known_logins, quiet, shown

Shown = tuple[str, str]


class RaceObserver:
    """Checks I1 to I5 whenever something has changed.

    The overlap is part of I1: what a store has served until now keeps logging in for as long as the plan says.
    """

    def __init__(self, world: MemoryWorld) -> None:
        self._world = world
        self._accounts = self._now = {name: accounts(d) for name, d in world.databases.items()}
        self._consent = world.lock.record.take_over
        self._seen: object = None
        self._proven: set[tuple[str, Shown]] = set()
        self._until: dict[Shown, datetime] = {}
        self._claim: Claim | None = world.lock.record.claim
        self._was_promoting = world.lock.record.promoting
        self._claims: dict[str, Claim | None] = {}
        self._outside: object = None
        self._heads: dict[str, int] = {}
        self._last = self._snapshot()
        self._not_ours = self._last.locked_out()
        self._first = world.lock.record.current_generation

    def saw(self, database: str, login: Login) -> None:
        """A runner has logged in."""
        self._proven.add((database, shown(login)))

    def look(self, boundary: str, rotation_id: str) -> None:
        """Raise ViolationError where something does not hold."""
        record = self._world.lock.record
        if record.holder == rotation_id:
            self._claims[rotation_id] = record.claim
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        before, now = self._last, self._snapshot()
        self._proven = {(database, value) for database, value in self._proven if now.lets_in(database, value)}
        self._not_ours &= now.locked_out()
        invariants.no_lockout(now, boundary, excused=self._not_ours)
        self._asks_before_it_takes(before, boundary)
        if record.is_revoking:
            self._until.clear()  # An emergency ends every overlap.
        invariants.overlap_is_kept(now, self._promised(), boundary)
        invariants.promoted_is_proven(
            before, now, boundary, is_proven=lambda database, value: (database, value) in self._proven
        )
        self._promise(before, now)
        self._past_is_revoked(now, boundary)
        if self._was_promoting:
            invariants.one_in_flight(before, now, boundary)
        invariants.in_flight_write_ahead(now, boundary)
        self._no_zombie(now, boundary, rotation_id)
        self._orders_are_heeded(now, boundary)
        self._chains_only_grow(boundary)
        self._keys_are_carried(boundary)
        self._last, self._claim, self._was_promoting = now, record.claim, record.promoting

    def _snapshot(self) -> Snapshot[Shown]:
        world, record = self._world, self._world.lock.record
        claim, let_in = record.claim, known_logins(self._world)
        serves = {name: store.current_login() for name, store in world.stores.items()}
        with quiet(world):
            held = (
                {name: store.read_generation(claim.generation) for name, store in world.stores.items()}
                if claim
                else {}
            )
        return Snapshot(
            databases=world.databases,
            serves={name: shown(login) if login else None for name, login in serves.items()},
            holds={name: shown(value.login) if value else None for name, value in held.items()},
            lets_in=lambda database, value: value in let_in[database],
            in_flight=InFlight(generation=claim.generation, is_reconcile=claim.kind is ClaimKind.RECONCILE)
            if claim
            else None,
            current=record.current_generation,
        )

    def _promised(self) -> list[Shown]:
        now = self._world.clock.now()
        return [value for value, until in self._until.items() if now < until]

    def _promise(self, before: Snapshot[Shown], now: Snapshot[Shown]) -> None:
        """Note until when the value that a store has served until now must log in."""
        if self._world.lock.record.is_revoking:
            return
        for store, value in now.serves.items():
            last = before.serves.get(store)
            if value and last and last != value and len(now.accepting(last)) == len(now.databases):
                self._until[last] = self._world.clock.now() + self._world.credential.schedule.overlap

    def untouched(self, database: str, invariant: str) -> None:
        """An account that is not as we think, or that nobody has consented to take over, is not touched."""
        if accounts(self._world.databases[database]) != self._accounts[database]:
            raise ViolationError(invariant, f"Lockstep has changed {database}")

    def _past_is_revoked(self, now: Snapshot[Shown], boundary: str) -> None:
        """I9, when a new value is done: what is not valid on record is refused."""
        done, record = self._claim, self._world.lock.record
        if not done or done.kind is ClaimKind.RECONCILE or done.generation != record.current_generation:
            return
        if record.claim is not None:
            return
        stores = list(self._world.stores.values())
        with quiet(self._world):
            staged = {g: s.read_generation(g) for s in stores for g in _generations(s)}
        live = {shown(v.login) for g, v in staged.items() if v and g in record.valid}
        past = {shown(v.login) for v in staged.values() if v} - live
        invariants.past_is_revoked(now, past, live, f"generation {done.generation} is done, {boundary}")

    def _asks_before_it_takes(self, before: Snapshot[Shown], boundary: str) -> None:
        """I11: an account is changed where a login of the credential works on its database, or with consent."""
        last, self._now = self._now, {name: accounts(d) for name, d in self._world.databases.items()}
        consent = self._consent | self._world.lock.record.take_over
        self._consent = self._world.lock.record.take_over
        for name in self._now:
            if self._now[name] != last[name] and name not in consent:
                invariants.asks_before_it_takes(before, name, self._ours(), boundary)

    def _ours(self) -> set[Shown]:
        """The logins that stores hold."""
        stores = list(self._world.stores.values())
        with quiet(self._world):
            held = [s.read_generation(g) for s in stores for g in _generations(s)]
        served = [store.current_login() for store in stores]
        return {shown(v.login) for v in held if v} | {shown(login) for login in served if login}

    def _orders_are_heeded(self, now: Snapshot[Shown], boundary: str) -> None:
        """O5: where an emergency is over, nothing that it names logs in, once a run has seen what came back."""
        record = self._world.lock.record
        through = record.revoke_through
        if through is None or record.is_revoking or record.current_generation == self._first:
            return
        stores = list(self._world.stores.values())
        with quiet(self._world):
            leaked = [s.read_generation(g) for s in stores for g in _generations(s) if g <= through]
        invariants.emergency_is_over(now, [shown(v.login) for v in leaked if v], boundary)

    def _chains_only_grow(self, boundary: str) -> None:
        for stream, head in self._world.lock.record.heads.items():
            if head.seq < self._heads.get(stream, 0):
                raise ViolationError("I7", f"the head of {stream} goes back to {head.seq}, {boundary}")
            self._heads[stream] = head.seq

    def _keys_are_carried(self, boundary: str) -> None:
        """V20: what Lockstep has written has the keys that a person wrote last before it."""
        for store in self._world.stores.values():
            for kind, secret in store._secrets.items():
                order = list(secret.versions)
                before = order[: order.index(secret.current)]
                edit = next((v for v in reversed(before) if v.startswith("edit-")), None)
                if edit and secret.current.startswith("generation-"):
                    now = _keys_of_others(secret.versions[secret.current], kind)
                    invariants.keys_are_carried(
                        _keys_of_others(secret.versions[edit], kind),
                        now,
                        f"{kind} in {store.name}, {boundary}",
                    )
                self._edit_was_seen(secret, kind, f"{kind} in {store.name}, {boundary}")

    def _edit_was_seen(self, secret: Versions, kind: SecretKind, where: str) -> None:
        """V21: what Lockstep has replaced had no keys of others that what it wrote has not."""
        is_replaced = secret.previous.startswith("edit-") and secret.current.startswith("generation-")
        if is_replaced and extras_in(secret.versions[secret.previous]) is not None:
            edit, now = (secret.versions[v] for v in (secret.previous, secret.current))
            invariants.edit_is_kept(_keys_of_others(edit, kind), _keys_of_others(now, kind), where)

    def _no_zombie(self, now: Snapshot[Shown], boundary: str, rotation_id: str) -> None:
        outside = (now.serves, known_logins(self._world))
        before, self._outside = self._outside, outside
        record = self._world.lock.record
        if before in (None, outside):
            return
        claim = self._claims.get(rotation_id)
        # A promotion that was sent before a reconcile came writes a value that every database accepts.
        keeps_claim = record.claim == claim or (claim is not None and claim.generation in record.valid)
        invariants.no_zombie_write(
            holds_lock=record.holder == rotation_id, keeps_claim=keeps_claim, when=boundary
        )

    def _state(self) -> object:
        world = self._world
        return (
            world.lock.record.claim,
            world.lock.record.promoting,
            world.lock.record.current_generation,
            world.lock.record.revoke_through,
            world.lock.record.heads,
            [
                (secret.current, len(secret.versions))
                for store in world.stores.values()
                for secret in store._secrets.values()
            ],
            [accounts(d) for d in world.databases.values()],
        )


@cache
def _keys_of_others(text: str, kind: SecretKind) -> dict[str, str]:
    found = extras_in(text)
    return dict(found.without(OUR_KEYS[kind]).reveal()) if found else {}


def _generations(store: MemoryStore) -> list[int]:
    versions = store._secrets["app_user"].versions
    return [int(v.removeprefix("generation-")) for v in versions if v.startswith("generation-")]
