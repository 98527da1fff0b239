"""What must hold at every instant of a race in memory."""

from datetime import datetime  # noqa: TC003 - the attribute is annotated at run time too

from lockstep.model import Claim, ClaimKind, Login
from tests.proof import invariants
from tests.proof.invariants import InFlight, Snapshot, ViolationError
from tests.proof.scenarios import REPLACING, accounts
from tests.support.memory import MemoryWorld
from tests.support.memory_store import MemoryStore
from tests.unit.harness import known_logins, quiet, shown

Shown = tuple[str, str]


class RaceObserver:
    """Checks I1 to I5 whenever something has changed.

    The overlap is part of I1: what a store has served until now keeps logging in for as long as the plan says.
    """

    def __init__(self, world: MemoryWorld, scenario: str) -> None:
        self._world = world
        self._may_replace = scenario in REPLACING
        self._not_ours = set(world.locked_out())
        self._accounts = {name: accounts(d) for name, d in world.databases.items()}
        self._seen: object = None
        self._proven: set[tuple[str, Shown]] = set()
        self._until: dict[Shown, datetime] = {}
        self._claim: Claim | None = world.lock.record.claim
        self._claims: dict[str, Claim | None] = {}
        self._outside: object = None
        self._heads: dict[str, int] = {}
        self._last = self._snapshot()

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
        invariants.no_lockout(now, boundary, excused=self._not_ours)
        invariants.overlap_is_kept(now, self._promised(), boundary)
        invariants.promoted_is_proven(
            before, now, boundary, is_proven=lambda database, value: (database, value) in self._proven
        )
        self._promise(before, now)
        self._past_is_dead(before, now, boundary)
        if not self._may_replace:
            invariants.one_in_flight(before, now, boundary)
        invariants.one_half_done(now, self._newer(now), boundary)
        invariants.in_flight_write_ahead(now, boundary)
        self._no_zombie(now, boundary, rotation_id)
        self._chains_only_grow(boundary)
        self._last, self._claim = now, record.claim

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
            in_flight=InFlight(generation=claim.generation, is_heal=claim.kind is ClaimKind.HEAL)
            if claim
            else None,
            current=record.current_generation,
        )

    def _promised(self) -> list[Shown]:
        now = self._world.clock.now()
        return [value for value, until in self._until.items() if now < until]

    def _promise(self, before: Snapshot[Shown], now: Snapshot[Shown]) -> None:
        """Note until when the value that a store has served until now must log in."""
        for store, value in now.serves.items():
            last = before.serves[store]
            if value and last and last != value and len(now.accepting(last)) == len(now.databases):
                self._until[last] = self._world.clock.now() + self._world.credential.schedule.overlap

    def untouched(self, database: str) -> None:
        """An account that is not as we think is not touched."""
        if accounts(self._world.databases[database]) != self._accounts[database]:
            raise ViolationError("I1", f"{database} was changed by a DBA, and Lockstep changed it again")

    def _newer(self, now: Snapshot[Shown]) -> set[Shown]:
        """The values that are staged above the current generation."""
        stores = self._world.stores.values()
        with quiet(self._world):
            above = {(s, g) for s in stores for g in _generations(s) if g > (now.current or 0)}
            return {shown(value.login) for s, g in above if (value := s.read_generation(g))}

    def _past_is_dead(self, before: Snapshot[Shown], now: Snapshot[Shown], boundary: str) -> None:
        """I9, when a rotation is done."""
        done = self._claim
        is_done = done and done.generation == now.current != before.current
        if not (done and is_done) or done.kind is ClaimKind.HEAL or done.previous_generation is None:
            return
        with quiet(self._world):
            found = [s.read_generation(done.previous_generation) for s in self._world.stores.values()]
        past = [shown(value.login) for value in found if value]
        invariants.past_is_dead(
            now, past, now.serves.values(), f"generation {done.previous_generation}, {boundary}"
        )

    def _chains_only_grow(self, boundary: str) -> None:
        for stream, head in self._world.lock.record.heads.items():
            if head.seq < self._heads.get(stream, 0):
                raise ViolationError("I7", f"the head of {stream} goes back to {head.seq}, {boundary}")
            self._heads[stream] = head.seq

    def _no_zombie(self, now: Snapshot[Shown], boundary: str, rotation_id: str) -> None:
        outside = (now.serves, known_logins(self._world))
        before, self._outside = self._outside, outside
        record = self._world.lock.record
        if before in (None, outside):
            return
        keeps_claim = record.claim == self._claims.get(rotation_id)
        invariants.no_zombie_write(
            holds_lock=record.holder == rotation_id, keeps_claim=keeps_claim, when=boundary
        )

    def _state(self) -> object:
        world = self._world
        return (
            world.lock.record.claim,
            world.lock.record.current_generation,
            world.lock.record.heads,
            [
                (secret.current, len(secret.versions))
                for store in world.stores.values()
                for secret in store._secrets.values()
            ],
            [accounts(d) for d in world.databases.values()],
        )


def _generations(store: MemoryStore) -> list[int]:
    versions = store._secrets["app_user"].versions
    return [int(v.removeprefix("generation-")) for v in versions if v.startswith("generation-")]
