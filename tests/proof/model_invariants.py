"""When the model asks for the invariants, in every state and at every write, and what it shows of its world."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

from lockstep.protocol.model import Claim, ClaimKind
from tests.proof import invariants
from tests.proof.invariants import InFlight, Snapshot, ViolationError
from tests.proof.model_process import Process
from tests.proof.model_world import (
    DATABASES,
    STORES,
    Call,
    Database,
    Effect,
    Lock,
    Login,
    Run,
    Store,
    holds_advisory_lock,
)


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
    claim = world.lock.claim
    for generation, login, *_ in first.versions:
        if world.lock.promoting or not claim or claim.generation != generation:
            continue
        invariants.one_value(generation, (login, second.find(generation)), when)
    invariants.no_lockout(now, when, excused=_excused(world))
    _emergency_is_over(world)
    if has_overlap:
        invariants.overlap_is_kept(now, _promised(world), when)


def _emergency_is_over(world: World) -> None:
    """O5: where the order is no longer in force, nothing that it names logs in."""
    lock = world.lock
    if lock.revoke is None or lock.is_revoking or any(d.foreign for d in world.databases):
        return
    leaked = [login for generation, login, *_ in world.stores[0].versions if generation <= lock.revoke]
    invariants.emergency_is_over(_snapshot(world), leaked, f"after the order through {lock.revoke}")


def of_write(
    world: World, process: Process, claim: Claim, call: Call, effect: Effect, *, waives_zombies: bool
) -> None:
    """I5, I3 and I12, which depend on who writes."""
    run, lock = process.run, world.lock
    when = f"run {run.number} writes to {call.to}"
    # A lost lock table takes the claim away while its holder is at work. That is no zombie write.
    is_lost = lock.fence < run.fence
    # A promotion that was sent before a reconcile came is a write of a value that every database accepts.
    is_reconciled = lock.claim is not None and lock.claim.kind is ClaimKind.RECONCILE
    is_promotion = call.to in STORES and is_reconciled and claim.generation in lock.valid
    if not (is_lost or waives_zombies or is_promotion or _is_begun(world, process, call)):
        invariants.no_zombie_write(holds_lock=has_lock(lock, run), keeps_claim=lock.claim == claim, when=when)
    if call.to in DATABASES:
        _ends_nothing_served(world, call, effect, when)
    if call.to in STORES:
        store = effect.part
        assert isinstance(store, Store)
        aws, oci = world.stores
        stores = (store, oci) if call.to == STORES[0] else (aws, store)
        before, after = _snapshot(world), _snapshot(world._replace(stores=stores))
        restored = [n for n, d in zip(DATABASES, world.databases, strict=True) if d.foreign]
        invariants.promoted_is_proven(
            before, after, when, is_proven=lambda d, value: d in restored or after.lets_in(d, value)
        )


def _ends_nothing_served(world: World, call: Call, effect: Effect, when: str) -> None:
    """I12: no statement ends a login that works there and that a store serves, but what somebody has typed."""
    before, after = world.databases[DATABASES.index(call.to)], effect.part
    assert isinstance(after, Database)
    for name, store in zip(STORES, world.stores, strict=True):
        login = store.serving().login
        if before.accepts(login) and not after.accepts(login) and not store.edited:
            raise ViolationError("I12", f"{call.to} does not accept what {name} serves any more, {when}")


def at_staging(world: World, call: Call) -> None:
    """I16: a reconcile gives no login that another one, which is not done, has given already.

    A lost record begins anew, and so does a promotion whose database fails over.
    """
    generation, login, *_ = call.args
    lock, store = world.lock, world.stores[STORES.index(call.to)]
    if lock.current is None or lock.claim is None or any(d.foreign for d in world.databases):
        return
    later = range(max(lock.current, login.password[0]) + 1, generation)
    given = [g for g, held, *_ in store.versions if held == login and g in later]
    if given and lock.claim.kind is ClaimKind.RECONCILE and lock.claim.generation == generation:
        raise ViolationError("I16", f"generation {generation} gives what {given} give, at {call.to}")


def has_lock(lock: Lock, run: Run) -> bool:
    """Whether no other run has acquired the lock since a run did, and the run has not released it."""
    return (lock.holder, lock.fence) == run


def _is_begun(world: World, process: Process, call: Call) -> bool:
    """Whether a change counts from a look at the fence: nobody else has come to this database since."""
    database = dict(zip(DATABASES, world.databases, strict=True)).get(call.to)
    return database is not None and holds_advisory_lock(database, process.session) and database.fenced


def at_claim(world: World, after: Lock) -> None:
    """I4: what is in promotion gives its place to a reconcile alone."""
    if world.lock.promoting:
        claimed = world._replace(lock=after)
        invariants.one_in_flight(_snapshot(world), _snapshot(claimed), "when another one is claimed")


def at_release(world: World, claim: Claim, valid: Collection[int]) -> None:
    """I9: when a new value is done, no database accepts what is not valid on record; one that was restored may."""
    if claim.kind is ClaimKind.RECONCILE:
        return
    through = world.lock.revoke
    if through is not None and world.lock.is_revoking and claim.generation > through:
        valid = [claim.generation]
    store = world.stores[0]
    live = [store.find(g) for g in valid]
    past = [login for _, login, *_ in store.versions if login not in live]
    when = f"when generation {claim.generation} is done"
    now = _snapshot(world)
    watched = [name for name, d in zip(DATABASES, world.databases, strict=True) if not d.foreign]
    invariants.past_is_revoked(replace(now, databases=watched), past, live, when)


def at_rest(world: World) -> None:
    """I8: a run without any disturbance has brought everything in sync."""
    generations = [store.serving().generation for store in world.stores]
    invariants.in_sync(_snapshot(world), generations, world.lock.holder, "after an undisturbed run")


def _excused(world: World) -> list[str]:
    """Where a change from outside Lockstep has locked applications out: an edit, or a database from a backup."""
    edited = {name for name, store in zip(STORES, world.stores, strict=True) if store.edited}
    restored = {name for name, d in zip(DATABASES, world.databases, strict=True) if d.foreign}
    return [f"{s} at {d}" for s in STORES for d in DATABASES if s in edited or d in restored]


def _snapshot(world: World) -> Snapshot[Login]:
    lock, databases = world.lock, dict(zip(DATABASES, world.databases, strict=True))
    stores = dict(zip(STORES, world.stores, strict=True))
    claim = lock.claim
    return Snapshot(
        databases=DATABASES,
        serves={name: store.serving().login for name, store in stores.items()},
        holds={name: store.find(claim.generation) for name, store in stores.items()} if claim else {},
        lets_in=lambda database, login: databases[database].accepts(login),
        in_flight=InFlight(generation=claim.generation, is_reconcile=claim.kind is ClaimKind.RECONCILE)
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
    older = [g for g in lock.valid if lock.current is not None and g < lock.current]
    if lock.due or not older or any(d.foreign for d in world.databases):
        return []
    previous, current = store.find(max(older)), store.find(lock.current or 0)
    if previous is None or (current and current.password[0] != lock.current):
        return []  # A reconcile renames a login that works; it promises no new overlap.
    return [previous]
