"""What must hold in every state of the model, or at every write (protocol I1, I2, I3, I4, I5, I8, I9)."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from lockstep.model import Claim, ClaimKind
from tests.proof.model_story import told
from tests.proof.model_world import DATABASES, STORES, Call, Database, Effect, Lock, Login, Run, Store


class Violation(NamedTuple):
    """An invariant that does not hold, and how it shows."""

    invariant: str
    text: str


class World(NamedTuple):
    """The parts of the world, without the processes."""

    lock: Lock
    stores: tuple[Store, Store]
    databases: tuple[Database, Database]


def in_state(world: World, waives: AbstractSet[str]) -> Violation | None:
    """The first invariant that a state breaks."""
    for check in (_write_ahead, _one_in_flight, _no_lockout, _overlap):
        found = check(world)
        if found and found.invariant not in waives:
            return found
    return None


def _let_in(database: Database) -> Iterator[Login]:
    """Every login that works and that a run has made."""
    for i, password in enumerate(database.passwords):
        if len(password) > 1:
            yield Login(i if database.engine == "postgresql" else 0, password)


def _write_ahead(world: World) -> Violation | None:
    for name, database in zip(DATABASES, world.databases, strict=True):
        for login in _let_in(database):
            for store_name, store in zip(STORES, world.stores, strict=True):
                if all(held != login for _, held, _ in store.versions):
                    return Violation("I2", f"{name} lets {told(login)} in, which {store_name} does not hold")
    return None


def _one_in_flight(world: World) -> Violation | None:
    first, second = world.stores
    for generation, login, _ in first.versions:
        other = second.find(generation)
        if other and other != login:
            return Violation(
                "I4", f"generation {generation} is {told(login)} in one store, {told(other)} in the other"
            )
    current, claim = world.lock.current, world.lock.claim
    if current is None or (claim and claim.kind is ClaimKind.HEAL):
        # After the lock table was lost nothing is known. A heal chooses; the next rotation ends what it leaves.
        return None
    pending = first.find(claim.generation) if claim else None
    for name, database in zip(DATABASES, world.databases, strict=True):
        for login in _let_in(database):
            if login.password[0] > current and login != pending:
                flying = f"generation {claim.generation} is" if claim else "none is"
                return Violation("I4", f"{name} lets {told(login)} in, but {flying} in flight")
    return None


def _no_lockout(world: World) -> Violation | None:
    for store_name, store in zip(STORES, world.stores, strict=True):
        for name, database in zip(DATABASES, world.databases, strict=True):
            login = store.serving().login
            if not store.edited and not database.accepts(login):
                return Violation("I1", f"{store_name} serves {told(login)}, {name} refuses it")
    return None


def _overlap(world: World) -> Violation | None:
    lock, store = world.lock, world.stores[0]
    if lock.due or lock.previous is None:
        return None
    previous, current = store.find(lock.previous), store.find(lock.current or 0)
    if previous is None or (current and current.password[0] != lock.current):
        return None  # A heal renames a login that works; it promises no new overlap.
    for name, database in zip(DATABASES, world.databases, strict=True):
        if not database.accepts(previous):
            return Violation("overlap", f"{name} refuses {told(previous)}, whose overlap is not over")
    return None


def of_write(
    world: World, run: Run, claim: Claim, call: Call, effect: Effect, waives: AbstractSet[str]
) -> Violation | None:
    """What a write breaks: I5 and I3, which depend on who writes."""
    what = f"run {run.number} writes to {call.to}"
    lock = world.lock
    # A lost lock table takes the claim away while its holder is at work. That is no zombie write.
    is_lost = lock.fence < run.fence
    if (
        (lock.holder, lock.fence) != (run.number, run.fence)
        and lock.claim != claim
        and not is_lost
        and "I5" not in waives
    ):
        return Violation(
            "I5", f"{what} for generation {claim.generation}; it has lost the lock, and the claim is gone"
        )
    if call.to in STORES:
        store = effect.part
        assert isinstance(store, Store)
        for name, database in zip(DATABASES, world.databases, strict=True):
            login = store.find(claim.generation)
            if login and not database.accepts(login):
                return Violation(
                    "I3", f"{call.to} is made to serve generation {claim.generation}, {name} refuses it"
                )
    return None


def at_release(world: World, claim: Claim) -> Violation | None:
    """I9: the generation before base is dead when a rotation is done."""
    if claim.kind is ClaimKind.HEAL or claim.previous_generation is None:
        return None
    live = [world.stores[0].find(g) for g in (claim.generation, claim.base_generation)]
    dead = world.stores[0].find(claim.previous_generation)
    for name, database in zip(DATABASES, world.databases, strict=True):
        if dead and dead not in live and database.accepts(dead):
            return Violation(
                "I9", f"{name} still lets {told(dead)} in, when generation {claim.generation} is done"
            )
    return None


def when_at_rest(world: World) -> Violation | None:
    """I8: a run without any disturbance has brought everything in step."""
    served = [store.serving() for store in world.stores]
    if world.lock.holder or world.lock.claim:
        return Violation("I8", "an undisturbed run does not free the lock")
    if served[0] != served[1]:
        return Violation("I8", "an undisturbed run leaves the stores apart")
    return _no_lockout(world)


def parts(values: Sequence[object]) -> World:
    """A world from its five parts."""
    lock, *rest = values
    return World(lock, tuple(rest[:2]), tuple(rest[2:]))  # type: ignore[arg-type]  # as the checker lays them out
