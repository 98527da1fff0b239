"""What must hold at every instant of a race in memory."""

from collections.abc import Mapping
from datetime import datetime  # noqa: TC003 - the attribute is annotated at run time too

from lockstep.model import Claim, ClaimKind, Login
from tests.proof.scenarios import REPLACING, accounts
from tests.support.memory import MemoryWorld
from tests.support.memory_store import MemoryStore
from tests.unit.harness import known_logins, quiet, shown

Shown = tuple[str, str]


class ViolationError(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: str, what: str) -> None:
        self.invariant = invariant
        self.what = what
        super().__init__(f"{invariant}: {what}")


class RaceObserver:
    """Checks I1 to I5 whenever something has changed.

    The overlap is part of I1: what a store has served until now goes on logging in for as long as the plan says.
    """

    def __init__(self, world: MemoryWorld, scenario: str) -> None:
        self._world = world
        self._may_replace = scenario in REPLACING
        self._not_ours = set(world.locked_out())
        self._accounts = {name: accounts(d) for name, d in world.databases.items()}
        self._seen: object = None
        self._served = self._serving()
        self._proven: set[tuple[str, Shown]] = set()
        self._until: dict[Shown, datetime] = {}
        self._claim: Claim | None = world.lock.record.claim
        self._claims: dict[str, Claim | None] = {}
        self._outside: object = None
        self._heads: dict[str, int] = {}
        self._current = world.lock.record.current_generation

    def saw(self, database: str, login: Login) -> None:
        """A runner has logged in."""
        self._proven.add((database, shown(login)))

    def look(self, boundary: str, rotation_id: str) -> None:
        """Raise ViolationError where something does not hold."""
        record = self._world.lock.record
        if record.holder == rotation_id:
            self._claims[rotation_id] = record.claim
        now = self._state()
        if now == self._seen:
            return
        self._seen = now
        self._no_lockout(boundary)
        self._promoted_is_proven(boundary)
        self._past_is_dead(boundary)
        self._one_in_flight(record.claim, boundary)
        self._one_half_done(boundary)
        self._write_ahead(record.claim, boundary)
        self._no_zombie(boundary, rotation_id)
        self._chains_only_grow(boundary)

    def untouched(self, database: str) -> None:
        """An account that is not as we think is not touched."""
        if accounts(self._world.databases[database]) != self._accounts[database]:
            raise ViolationError(
                "I1", f"{database} was changed by somebody else, and Lockstep changed it again"
            )

    def _no_lockout(self, boundary: str) -> None:
        locked_out = set(self._world.locked_out()) - self._not_ours
        if locked_out:
            raise ViolationError("I1", f"{', '.join(sorted(locked_out))} does not log in, {boundary}")
        now, let_in = self._world.clock.now(), known_logins(self._world)
        for value, until in self._until.items():
            refusing = [name for name, known in let_in.items() if value not in known]
            if now < until and refusing:
                raise ViolationError(
                    "I1", f"{refusing} refuses the last value before its overlap is over, {boundary}"
                )

    def _promoted_is_proven(self, boundary: str) -> None:
        let_in = known_logins(self._world)
        self._proven = {(database, value) for database, value in self._proven if value in let_in[database]}
        before, self._served = self._served, self._serving()
        for store, value in self._served.items():
            if value == before[store] or value is None:
                continue
            unproven = [d for d in self._world.databases if (d, value) not in self._proven]
            if unproven:
                raise ViolationError(
                    "I3", f"{store} serves what {unproven} was not seen to accept, {boundary}"
                )
            last = before[store]
            if last and all(last in known for known in known_logins(self._world).values()):
                self._until[last] = self._world.clock.now() + self._world.credential.schedule.overlap

    def _one_in_flight(self, claim: Claim | None, boundary: str) -> None:
        before, self._claim = self._claim, claim
        if before is None or claim == before or self._may_replace:
            return
        if self._world.lock.record.current_generation != before.generation:
            what = f"replaced by {claim.generation}" if claim else "dropped"
            raise ViolationError(
                "I4", f"generation {before.generation} was in flight and is {what}, {boundary}"
            )

    def _one_half_done(self, boundary: str) -> None:
        """Of the values that no store has ever served, databases let in one at most."""
        stores = self._world.stores.values()
        with quiet(self._world):
            newest = max(s.read_current().generation for s in stores)
            above = {g for s in stores for g in _generations(s) if g > newest}
            staged = {shown(v.login) for s in stores for g in above if (v := s.read_generation(g))}
        staged -= {value for value in self._served.values() if value}
        accepted = {v for let_in in known_logins(self._world).values() for v in let_in & staged}
        if len(accepted) > 1:
            raise ViolationError("I4", f"databases let in {len(accepted)} half-done values, {boundary}")

    def _past_is_dead(self, boundary: str) -> None:
        record, done = self._world.lock.record, self._claim
        before, self._current = self._current, record.current_generation
        if (
            done is None
            or record.current_generation in (before, None)
            or done.generation != record.current_generation
        ):
            return
        if done.kind is ClaimKind.HEAL or done.previous_generation is None:
            return
        with quiet(self._world):
            found = [s.read_generation(done.previous_generation) for s in self._world.stores.values()]
        past = {shown(v.login) for v in found if v} - {v for v in self._served.values() if v}
        alive = [name for name, let_in in known_logins(self._world).items() if past & let_in]
        if alive:
            raise ViolationError("I9", f"{alive} lets in generation {done.previous_generation}, {boundary}")

    def _chains_only_grow(self, boundary: str) -> None:
        for stream, head in self._world.lock.record.heads.items():
            if head.seq < self._heads.get(stream, 0):
                raise ViolationError("I7", f"the head of {stream} goes back to {head.seq}, {boundary}")
            self._heads[stream] = head.seq

    def _write_ahead(self, claim: Claim | None, boundary: str) -> None:
        if claim is None or claim.kind is ClaimKind.HEAL:
            return  # What is healed logs in before it is staged.
        with quiet(self._world):
            staged = [s.read_generation(claim.generation) for s in self._world.stores.values()]
        values = {shown(v.login) for v in staged if v}
        if len(values) > 1:
            raise ViolationError("I4", f"two values under generation {claim.generation}, {boundary}")
        accepting = [
            name for name, let_in in known_logins(self._world).items() if values and values <= let_in
        ]
        if accepting and not all(staged):
            raise ViolationError("I2", f"{accepting} accepts what is not staged everywhere, {boundary}")

    def _no_zombie(self, boundary: str, rotation_id: str) -> None:
        outside = (self._served, known_logins(self._world))
        before, self._outside = self._outside, outside
        record = self._world.lock.record
        overtaken = record.holder != rotation_id
        if before in (None, outside) or not overtaken or record.claim == self._claims.get(rotation_id):
            return
        raise ViolationError("I5", f"a run that had lost the lock changed something, {boundary}")

    def _serving(self) -> Mapping[str, Shown | None]:
        logins = {name: store.current_login() for name, store in self._world.stores.items()}
        return {name: shown(login) if login else None for name, login in logins.items()}

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
