"""When the model asks for the invariants, in every state and at every write, and what it shows of its world."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lockstep.model import Claim, ClaimKind
from tests.proof import invariants
from tests.proof.invariants import InFlight, Snapshot, ViolationError
from tests.proof.model_world import DATABASES, STORES, Call, Database, Effect, Lock, Login, Run, Store


class World(NamedTuple):
    """The parts of the world, without the processes."""

    lock: Lock
    stores: tuple[Store, Store]
    databases: tuple[Database, Database]


def parts(values: Sequence[object]) -> World:
    """A world from its five parts."""
    lock, *rest = values
    return World(lock, tuple(rest[:2]), tuple(rest[2:]))  # type: ignore[arg-type]  # as the checker lays them out


def violation(check: Callable[..., None], *arguments: object) -> ViolationError | None:
    """What a check raises."""
    try:
        check(*arguments)
    except ViolationError as found:
        return found
    return None


def in_state(world: World, *, has_overlap: bool) -> None:
    """What holds in every state."""
    now, when = _snapshot(world), "in a state"
    stores = dict(zip(STORES, world.stores, strict=True))
    made = _made(world)
    invariants.write_ahead(now, made, lambda store, login: stores[store].holds(login), when)
    first, second = world.stores
    for generation, login, _ in first.versions:
        invariants.one_value(generation, (login, second.find(generation)), when)
    current = world.lock.current or 0
    invariants.one_half_done(now, [login for login in made if login.password[0] > current], when)
    edited = [
        f"{name} at {database}" for name, store in stores.items() if store.edited for database in DATABASES
    ]
    invariants.no_lockout(now, when, excused=edited)
    if has_overlap:
        invariants.overlap_is_kept(now, _promised(world), when)


def of_write(
    world: World, run: Run, claim: Claim, call: Call, effect: Effect, *, waives_zombies: bool
) -> None:
    """I5 and I3, which depend on who writes."""
    when, lock = f"run {run.number} writes to {call.to}", world.lock
    # A lost lock table takes the claim away while its holder is at work. That is no zombie write.
    is_lost = lock.fence < run.fence
    if not (is_lost or waives_zombies):
        holds_lock = (lock.holder, lock.fence) == (run.number, run.fence)
        invariants.no_zombie_write(holds_lock=holds_lock, keeps_claim=lock.claim == claim, when=when)
    if call.to in STORES:
        store = effect.part
        assert isinstance(store, Store)
        aws, oci = world.stores
        stores = (store, oci) if call.to == STORES[0] else (aws, store)
        before, after = _snapshot(world), _snapshot(world._replace(stores=stores))
        invariants.promoted_is_proven(before, after, when, is_proven=after.lets_in)


def at_release(world: World, claim: Claim) -> None:
    """I9: the generation before base is dead when a rotation is done."""
    if claim.kind is ClaimKind.HEAL or claim.previous_generation is None:
        return
    store = world.stores[0]
    dead = store.find(claim.previous_generation)
    live = [store.find(g) for g in (claim.generation, claim.base_generation)]
    when = f"when generation {claim.generation} is done"
    invariants.past_is_dead(_snapshot(world), [dead] if dead else [], live, when)


def at_rest(world: World) -> None:
    """I8: a run without any disturbance has brought everything in step."""
    generations = [store.serving().generation for store in world.stores]
    invariants.in_step(_snapshot(world), generations, world.lock.holder, "after an undisturbed run")


def _snapshot(world: World) -> Snapshot[Login]:
    lock, databases = world.lock, dict(zip(DATABASES, world.databases, strict=True))
    stores = dict(zip(STORES, world.stores, strict=True))
    claim = lock.claim
    return Snapshot(
        databases=DATABASES,
        serves={name: store.serving().login for name, store in stores.items()},
        holds={name: store.find(claim.generation) for name, store in stores.items()} if claim else {},
        lets_in=lambda database, login: databases[database].accepts(login),
        in_flight=InFlight(generation=claim.generation, is_heal=claim.kind is ClaimKind.HEAL)
        if claim
        else None,
        current=lock.current,
    )


def _made(world: World) -> set[Login]:
    """Every login that works and that a run has made."""
    return {
        Login(user if database.engine == "postgresql" else 0, password)
        for database in world.databases
        for user, password in enumerate(database.passwords)
        if len(password) > 1
    }


def _promised(world: World) -> list[Login]:
    """What must log in although it is not served any more."""
    lock, store = world.lock, world.stores[0]
    if lock.due or lock.previous is None:
        return []
    previous, current = store.find(lock.previous), store.find(lock.current or 0)
    if previous is None or (current and current.password[0] != lock.current):
        return []  # A heal renames a login that works; it promises no new overlap.
    return [previous]
