"""What must hold at every instant of a run and of a race, in memory."""

from collections.abc import Mapping
from functools import cache

from lockstep.protocol.model import Claim, ClaimKind, Login
from lockstep.stores.contents import extras_in
from tests.proof import invariants
from tests.proof.invariants import Snapshot, ViolationError, Watch
from tests.support.memory import MemoryDatabase, MemoryWorld
from tests.support.memory_store import OUR_KEYS, SecretKind, generation_of
from tests.support.world import known_logins, quiet, shown

Shown = tuple[str, str]


def accounts(database: MemoryDatabase) -> dict[str, tuple[str, ...]]:
    """The accepted passwords, by account."""
    return {name: account.passwords for name, account in database.accounts.items()}


class InstantObserver:
    """Checks what holds at every instant by itself: I1, I2 and I4. Lockouts that exist from the start are ignored."""

    def __init__(self, world: MemoryWorld) -> None:
        self.world = world
        self._seen: object = None
        self._not_ours = self.snapshot().locked_out()

    def look(self, boundary: str) -> None:
        """Raise ViolationError where something does not hold."""
        if self.has_changed():
            now = self.snapshot()
            invariants.no_lockout(now, boundary, excused=self._not_ours)
            invariants.in_flight_write_ahead(now, boundary)

    def serves(self) -> dict[str, Shown | None]:
        """The login that each store serves; None for a placeholder."""
        logins = {name: store.current_login() for name, store in self.world.stores.items()}
        return {name: shown(login) if login else None for name, login in logins.items()}

    def holds(self, generation: int) -> Mapping[str, Shown | None]:
        """The login that each store holds under a generation."""
        with quiet(self.world):
            held = {name: store.read_generation(generation) for name, store in self.world.stores.items()}
        return {name: shown(value.login) if value else None for name, value in held.items()}

    def snapshot(self) -> Snapshot[Shown]:
        """This instant."""
        record, let_in = self.world.lock.record, known_logins(self.world)
        return Snapshot(
            databases=self.world.databases,
            serves=self.serves(),
            holds=self.holds(record.claim.generation) if record.claim else {},
            lets_in=lambda database, value: value in let_in[database],
            record=record,
        )

    def has_changed(self) -> bool:
        """Whether there is something to look at."""
        kept = [secret for store in self.world.stores.values() for secret in store._secrets.values()]
        before = self._seen
        self._seen = (
            self.world.lock.record,
            [(secret.current, len(secret.versions)) for secret in kept],
            [accounts(database) for database in self.world.databases.values()],
        )
        return before != self._seen


class RaceObserver(InstantObserver):
    """Checks I3, I5, I7, I9, I11, O5 and V20, too.

    The overlap is part of I1: what a store has served until now keeps logging in for as long as the plan says.
    """

    def __init__(self, world: MemoryWorld) -> None:
        super().__init__(world)
        self.watch = Watch(self.snapshot(), proven=set())
        for database in world.databases.values():
            database.on_login = self._saw
        record = world.lock.record
        self._accounts = self._now = {name: accounts(d) for name, d in world.databases.items()}
        self._consent, self._claim, self._first = record.take_over, record.claim, record.current_generation
        self._claims: dict[str, Claim | None] = {}
        self._has_begun: dict[str, bool] = {}
        self._outside: object = None
        self._heads: dict[str, int] = {}

    def _saw(self, database: str, login: Login) -> None:
        assert self.watch.proven is not None
        self.watch.proven.add((database, shown(login)))

    def look_at(self, boundary: str, rotation_id: str) -> None:
        """Raise ViolationError where something does not hold."""
        record = self.world.lock.record
        if record.holder == rotation_id:
            self._claims[rotation_id] = record.claim
        # A change of a database begins with the look at the fence, under the advisory lock (D4).
        if boundary == "after lock require" or boundary.endswith(" lock"):
            self._has_begun[rotation_id] = boundary == "after lock require" and record.holder == rotation_id
        if not self.has_changed():
            return
        before, now, clock = self.watch.last, self.snapshot(), self.world.clock
        self._not_ours &= now.locked_out()
        self._asks_before_it_takes(before, boundary)
        overlap = self.world.credential.schedule.overlap
        self.watch.look(now, boundary, at=clock.now(), overlap=overlap, excused=self._not_ours)
        done, self._claim = self._claim, record.claim
        is_done = record.claim is None and done and done.generation == record.current_generation
        if done and is_done and done.kind is not ClaimKind.RECONCILE:
            # I9, when a new value is done: what is not valid on record is refused.
            held = self._held()
            live = {value for generation, value in held if generation in record.valid}
            past = {value for _, value in held} - live
            invariants.past_is_revoked(now, past, live, f"generation {done.generation} is done, {boundary}")
        self._no_zombie(now, boundary, rotation_id)
        through = record.revoke_through
        if through is not None and not record.is_revoking and record.current_generation != self._first:
            # O5, once a run has seen what came back.
            invariants.emergency_is_over(now, [v for g, v in self._held() if g <= through], boundary)
        for stream, head in record.heads.items():
            if head.seq < self._heads.get(stream, 0):
                raise ViolationError("I7", f"the head of {stream} goes back to {head.seq}, {boundary}")
            self._heads[stream] = head.seq
        self._keys_are_carried(boundary)

    def untouched(self, database: str, invariant: str) -> None:
        """An account that is not as we think, or that nobody has consented to take over, is not touched."""
        if accounts(self.world.databases[database]) != self._accounts[database]:
            raise ViolationError(invariant, f"Lockstep has changed {database}")

    def _held(self) -> list[tuple[int, Shown]]:
        """The generations that stores hold, with their logins."""
        versions = {v for s in self.world.stores.values() for v in s._secrets["app_user"].versions}
        generations = sorted(filter(None, map(generation_of, versions)))
        return [(g, value) for g in generations for value in self.holds(g).values() if value]

    def _asks_before_it_takes(self, before: Snapshot[Shown], boundary: str) -> None:
        """I11: an account is changed where a login of the credential works on its database, or with consent."""
        last, self._now = self._now, {name: accounts(d) for name, d in self.world.databases.items()}
        before_that, self._consent = self._consent, self.world.lock.record.take_over
        for name in self._now:
            if self._now[name] != last[name] and name not in before_that | self._consent:
                ours = {value for _, value in self._held()} | {v for v in self.serves().values() if v}
                invariants.asks_before_it_takes(before, name, ours, boundary)

    def _keys_are_carried(self, boundary: str) -> None:
        """V20: what Lockstep has written has the keys that a person wrote last before it; V21: so have late ones."""
        secrets = [(s.name, k, kept) for s in self.world.stores.values() for k, kept in s._secrets.items()]
        for store, kind, secret in secrets:
            if not generation_of(secret.current):
                continue
            where, texts = f"{kind} in {store}, {boundary}", secret.versions
            now, order = _keys_of_others(texts[secret.current], kind), list(texts)
            before = order[: order.index(secret.current)]
            edit = next((v for v in reversed(before) if v.startswith("edit-")), None)
            if edit:
                invariants.keys_are_carried(_keys_of_others(texts[edit], kind), now, where)
            if secret.previous.startswith("edit-") and extras_in(texts[secret.previous]) is not None:
                invariants.edit_is_kept(_keys_of_others(texts[secret.previous], kind), now, where)

    def _no_zombie(self, now: Snapshot[Shown], boundary: str, rotation_id: str) -> None:
        before, self._outside = self._outside, (now.serves, known_logins(self.world))
        record, claim = self.world.lock.record, self._claims.get(rotation_id)
        if before in (None, self._outside):
            return
        # A promotion that was sent before a reconcile came writes a value that every database accepts.
        keeps_claim = record.claim == claim or (claim is not None and claim.generation in record.valid)
        has_begun = boundary.split()[1] in self.world.databases and self._has_begun.get(rotation_id, False)
        holds_lock = has_begun or record.holder == rotation_id
        invariants.no_zombie_write(holds_lock=holds_lock, keeps_claim=keeps_claim, when=boundary)


@cache
def _keys_of_others(text: str, kind: SecretKind) -> dict[str, str]:
    found = extras_in(text)
    return dict(found.without(OUR_KEYS[kind]).reveal()) if found else {}
