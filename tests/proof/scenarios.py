"""What a rotation may meet, in memory: the state before it and how the databases misbehave."""

import json
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from typing import NamedTuple

from msgspec import structs

from lockstep.protocol.model import CredentialValue, LockRecord, Strategy
from tests.proof.planting import Foreign
from tests.support import world as worlds
from tests.support.memory import PLACEHOLDER_TEXT, MemoryWorld
from tests.support.memory_store import KINDS


class Scenario(NamedTuple):
    """What waits for a rotation.

    Attributes:
        untouched: The invariant by which the second database must stay as it is.
        unlike_stores: A database refuses what a store serves.
    """

    arrange: Callable[[MemoryWorld], None]
    untouched: str = ""
    unlike_stores: bool = False


SCENARIOS: dict[str, Scenario] = {}
"""By name. A seed of a race draws one, so their order matters."""
Arrange = Callable[[MemoryWorld], None]


def scenario(*, untouched: str = "", unlike_stores: bool = False) -> Callable[[Arrange], Arrange]:
    """Put a function among the scenarios."""

    def named(arrange: Arrange) -> Arrange:
        SCENARIOS[arrange.__name__.replace("_", "-")] = Scenario(arrange, untouched, unlike_stores)
        return arrange

    return named


def world_of(name: str, strategy: Strategy) -> MemoryWorld:
    """A world with two rotations behind it, due again, in which the scenario waits."""
    world = worlds.make_world(strategy=strategy)
    # The secrets were there before Lockstep, and have keys of others (protocol V20).
    for store in world.stores.values():
        login = {**json.loads(store.current_text("app_user")), "masterarn": store.name}
        store.edit("app_user", json.dumps(login))
        store.edit("connection_blob", json.dumps({"proxy": {"of": store.name}}))
    worlds.rotate(world, "first", runner="aws")
    worlds.rotate_again(world, "second", runner="oci")
    world.clock.sleep(worlds.INTERVAL_SECONDS)
    SCENARIOS[name].arrange(world)
    return world


def _loses(world: MemoryWorld, *, rotations: int) -> None:
    before = deepcopy(world.databases["db-2"].accounts)
    for number in range(rotations):
        worlds.rotate(world, f"lost-{number}", runner="aws")
        world.clock.sleep(worlds.INTERVAL_SECONDS)
    world.databases["db-2"].accounts = before


def _once(double: object, method: str, instead: Callable[..., None]) -> None:
    """Do something else in the next call of a method; it gets the method first."""
    original, left = getattr(double, method), [1]

    def called(*args: Foreign) -> None:
        if left:
            left.pop()
            instead(original, *args)
        else:
            original(*args)

    vars(double)[method] = called


@scenario()
def steady(_world: MemoryWorld) -> None:
    """Nothing is out of order."""


@scenario(unlike_stores=True)
def fails_over(world: MemoryWorld) -> None:
    """The second database has failed over to a replica that lacked its last change."""
    _loses(world, rotations=1)


@scenario(unlike_stores=True)
def fails_over_twice(world: MemoryWorld) -> None:
    """The same, and the replica lacked its last two changes: nothing works there that may be valid."""
    _loses(world, rotations=2)


@scenario(unlike_stores=True)
def leaked_again(world: MemoryWorld) -> None:
    """After an emergency the second database has failed over to a replica that has what had leaked."""
    worlds.revokes_everything(world)
    _loses(world, rotations=1)


@scenario(unlike_stores=True)
def no_room(world: MemoryWorld) -> None:
    """The second database lacks two changes, and the stores were moved back to the two values that work there."""
    _loses(world, rotations=2)
    for store, generation in zip(world.stores.values(), (2, 1), strict=True):
        worlds.edit(store, worlds.login_of(world, generation))


@scenario(unlike_stores=True)
def moved_to_what_works(world: MemoryWorld) -> None:
    """The same, and one store was moved back to a value that works there."""
    _loses(world, rotations=2)
    worlds.edit(world.stores["aws"], worlds.login_of(world, 1))


@scenario()
def revoked_meanwhile(world: MemoryWorld) -> None:
    """An operator orders an emergency while a run is between its claim and the databases."""
    store, left = world.stores["oci"], [1]
    prepare = store.prepare

    def orders_it(*args: Foreign, **more: Foreign) -> Foreign:
        put = prepare(*args, **more)

        def staged(value: CredentialValue) -> Foreign:
            done = put(value)
            if left:
                left.pop()
                worlds.revokes_everything(world)
            return done

        return staged

    vars(store)["prepare"] = orders_it


@scenario()
def consented(world: MemoryWorld) -> None:
    """A database is under take-over without need, and a store was moved back to the value before, which works."""
    worlds.orders(world, take_over=frozenset({"db-2"}))
    worlds.edit(world.stores["aws"], worlds.login_of(world, 1))


@scenario(unlike_stores=True)
def edited(world: MemoryWorld) -> None:
    """An operator typed a value that no database accepts into one store."""
    worlds.edit(world.stores["aws"], worlds.another_login(world))


@scenario()
def edited_meanwhile(world: MemoryWorld) -> None:
    """An operator adds a key to a secret while a run is between the staging and the promotion (protocol V20)."""
    store = world.stores["aws"]

    def edits(change: Callable[..., None], *passwords: str) -> None:
        change(*passwords)
        store.edit("app_user", json.dumps({**json.loads(store.current_text("app_user")), "added": 1}))

    _once(world.databases["db-2"], "set_passwords", edits)


@scenario()
def forgetful(world: MemoryWorld) -> None:
    """The second database acknowledges one change and has forgotten it: a failover to a replica that lacked it."""
    _once(world.databases["db-2"], "set_passwords", lambda *_: None)


@scenario()
def sticky(world: MemoryWorld) -> None:
    """The first database keeps what it should drop, once: a DBA restored an account from a backup meanwhile."""
    database = world.databases["db-1"]

    def keeps(change: Callable[..., None], username: str, *passwords: str) -> None:
        before = database.accounts[username].passwords
        change(username, *passwords)
        account = database.accounts[username]
        account.passwords = (*account.passwords, *before)

    _once(database, "set_passwords", keeps)


@scenario(untouched="I11")
def changed_by_dba(world: MemoryWorld) -> None:
    """A DBA has changed every account on one database: nothing of ours works there, and much of it is in the stores."""
    for number in range(4):
        worlds.rotate(world, f"before-{number}")
        world.clock.sleep(worlds.INTERVAL_SECONDS)
    for account in world.databases["db-2"].accounts.values():
        account.passwords = ("set-by-a-dba",)


@scenario(unlike_stores=True)
def partly_changed_by_dba(world: MemoryWorld) -> None:
    """A DBA has changed what applications use on one database; the value before works there."""
    current = world.stores["aws"].current_login()
    assert current
    account = world.databases["db-2"].accounts[current.username]
    ours = [p for p in account.passwords if p != current.password.reveal()]
    account.passwords = ("set-by-a-dba", *ours)


@scenario()
def moved_back(world: MemoryWorld) -> None:
    """A run died after staging, and then a person moved one store back to the value before, which still works."""

    def dies(boundary: str) -> None:
        if boundary == "after oci stage connection_blob":
            raise worlds.Killed

    worlds.at_every_boundary(world, dies)
    with suppress(worlds.Killed):
        worlds.rotate(world, "third")
    worlds.undisturbed(world)
    world.clock.sleep(worlds.INTERVAL_SECONDS)
    worlds.edit(world.stores["aws"], worlds.login_of(world, 1))


@scenario(untouched="I11")
def placeholders(world: MemoryWorld) -> None:
    """The first day: the schedules run before anybody has entered the login that applications use."""
    for store in world.stores.values():
        for kind in KINDS:
            store.edit(kind, PLACEHOLDER_TEXT)
    digest = world.credential.plan_digest
    world.lock.record = LockRecord(credential_id=world.credential.id, activate=digest)


@scenario()
def two_plans(world: MemoryWorld) -> None:
    """The second database is new in the plan of AWS, which is active; OCI still has the plan before."""
    servers = world.credential.servers[:1]
    world.plans["oci"] = structs.replace(world.credential, servers=servers, plan_digest="the-plan-before")


@scenario(untouched="O4")
def paused(world: MemoryWorld) -> None:
    """An operator has paused the credential."""
    worlds.orders(world, paused=True)


@scenario()
def emergency(world: MemoryWorld) -> None:
    """An operator has ordered an emergency."""
    worlds.revokes_everything(world)
