"""What a rotation may meet, in memory: the state before it and how the databases misbehave."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy

from msgspec import structs

from lockstep.protocol.model import CredentialValue, LockRecord, Login, Strategy
from tests.proof.patching import Foreign
from tests.support.memory import PLACEHOLDER_TEXT, MemoryDatabase, MemoryWorld
from tests.support.memory_store import KINDS
from tests.support.world import (
    INTERVAL_SECONDS,
    Killed,
    another_login,
    at_every_boundary,
    edit,
    login_of,
    make_world,
    orders,
    revokes_everything,
    rotate,
    rotate_again,
    undisturbed,
)


def world_of(scenario: str, strategy: Strategy) -> MemoryWorld:
    """A world with two rotations behind it, due again, in which the scenario waits."""
    world = make_world(strategy=strategy)
    _adopted(world)
    rotate(world, "first", runner="aws")
    rotate_again(world, "second", runner="oci")
    world.clock.sleep(INTERVAL_SECONDS)
    SCENARIOS[scenario](world)
    return world


def _adopted(world: MemoryWorld) -> None:
    """The secrets were there before Lockstep, and have keys of others (protocol V20)."""
    for store in world.stores.values():
        login = {**json.loads(store.current_text("app_user")), "masterarn": store.name}
        store.edit("app_user", json.dumps(login))
        store.edit("connection_blob", json.dumps({"proxy": {"of": store.name}}))


def _steady(_world: MemoryWorld) -> None:
    pass


def _fails_over(world: MemoryWorld) -> None:
    """The second database has failed over to a replica that lacked its last change."""
    _loses(world, rotations=1)


def _fails_over_twice(world: MemoryWorld) -> None:
    """The same, and the replica lacked its last two changes: nothing works there that may be valid."""
    _loses(world, rotations=2)


def _leaked_again(world: MemoryWorld) -> None:
    """After an emergency the second database has failed over to a replica that has what had leaked."""
    revokes_everything(world)
    _loses(world, rotations=1)


def _loses(world: MemoryWorld, *, rotations: int) -> None:
    before = deepcopy(world.databases["db-2"].accounts)
    for number in range(rotations):
        rotate(world, f"lost-{number}", runner="aws")
        world.clock.sleep(INTERVAL_SECONDS)
    world.databases["db-2"].accounts = before


def _no_room(world: MemoryWorld) -> None:
    """The same, and the stores were moved back to the two values that work there."""
    _fails_over_twice(world)
    for store, generation in zip(world.stores.values(), (2, 1), strict=True):
        edit(store, login_of(world, generation))


def _moved_to_what_works(world: MemoryWorld) -> None:
    """The same, and one store was moved back to a value that works there."""
    _fails_over_twice(world)
    edit(world.stores["aws"], login_of(world, 1))


def _revoked_meanwhile(world: MemoryWorld) -> None:
    """An operator orders an emergency while a run is between its claim and the databases."""
    store, left = world.stores["oci"], [1]
    prepare = store.prepare

    def orders_it(*args: Foreign, **more: Foreign) -> Foreign:
        put = prepare(*args, **more)

        def staged(value: CredentialValue) -> Foreign:
            done = put(value)
            if left:
                left.pop()
                revokes_everything(world)
            return done

        return staged

    vars(store)["prepare"] = orders_it


def _consented(world: MemoryWorld) -> None:
    """A database is under take-over without need, and a store was moved back to the value before, which works."""
    orders(world, take_over=frozenset({"db-2"}))
    edit(world.stores["aws"], login_of(world, 1))


def _edited(world: MemoryWorld) -> None:
    """An operator typed a value that no database accepts into one store."""
    edit(world.stores["aws"], another_login(world))


def _edited_meanwhile(world: MemoryWorld) -> None:
    """An operator adds a key to a secret while a run is between the staging and the promotion (protocol V20)."""
    database, store = world.databases["db-2"], world.stores["aws"]
    change, left = database.set_passwords, [1]

    def edits(username: str, *passwords: str) -> None:
        change(username, *passwords)
        if left:
            left.pop()
            store.edit("app_user", json.dumps({**json.loads(store.current_text("app_user")), "added": 1}))

    vars(database)["set_passwords"] = edits


def _forgetful(world: MemoryWorld) -> None:
    """The second database acknowledges one change and has forgotten it: a failover to a replica that lacked it."""
    database = world.databases["db-2"]
    change, left = database.set_passwords, [1]

    def forgets(username: str, *passwords: str) -> None:
        if left.pop() if left else 0:
            return
        change(username, *passwords)

    database.set_passwords = forgets  # type: ignore[method-assign]  # this one object misbehaves


def _sticky(world: MemoryWorld) -> None:
    """The first database keeps what it should drop, once: a DBA restored an account from a backup meanwhile."""
    database = world.databases["db-1"]
    change, left = database.set_passwords, [1]

    def keeps(username: str, *passwords: str) -> None:
        before = {name: account.passwords for name, account in database.accounts.items()}
        change(username, *passwords)
        if left:
            left.pop()
            account = database.accounts[username]
            account.passwords = (*account.passwords, *before[username])

    database.set_passwords = keeps  # type: ignore[method-assign]  # this one object misbehaves


def _changed_by_dba(world: MemoryWorld) -> None:
    """A DBA has changed every account on one database: nothing of ours works there, and much of it is in the stores."""
    for number in range(4):
        rotate(world, f"before-{number}")
        world.clock.sleep(INTERVAL_SECONDS)
    for account in world.databases["db-2"].accounts.values():
        account.passwords = ("set-by-a-dba",)


def _partly_changed_by_dba(world: MemoryWorld) -> None:
    """A DBA has changed what applications use on one database; the value before works there."""
    database, current = world.databases["db-2"], _current(world)
    account = database.accounts[current.username]
    ours = [p for p in account.passwords if p != current.password.reveal()]
    account.passwords = ("set-by-a-dba", *ours)


def _moved_back(world: MemoryWorld) -> None:
    """A run died after staging, and then a person moved one store back to the value before, which still works."""
    left = [1]

    def dies(boundary: str) -> None:
        if boundary == "after oci stage connection_blob" and left:
            left.pop()
            raise Killed

    at_every_boundary(world, dies)
    with suppress(Killed):
        rotate(world, "third")
    undisturbed(world)
    world.clock.sleep(INTERVAL_SECONDS)
    edit(world.stores["aws"], login_of(world, 1))


def _placeholders(world: MemoryWorld) -> None:
    """The first day: the schedules run before anybody has entered the login that applications use."""
    for store in world.stores.values():
        for kind in KINDS:
            store.edit(kind, PLACEHOLDER_TEXT)
    digest = world.credential.plan_digest
    world.lock.record = LockRecord(credential_id=world.credential.id, activate=digest)


def _two_plans(world: MemoryWorld) -> None:
    """The second database is new in the plan of AWS, which is active; OCI still has the plan before."""
    servers = world.credential.servers[:1]
    world.plans["oci"] = structs.replace(world.credential, servers=servers, plan_digest="the-plan-before")


def _paused(world: MemoryWorld) -> None:
    """An operator has paused the credential."""
    orders(world, paused=True)


def _current(world: MemoryWorld) -> Login:
    login = world.stores["aws"].current_login()
    assert login
    return login


SCENARIOS: Mapping[str, Callable[[MemoryWorld], None]] = {
    "steady": _steady,
    "fails-over": _fails_over,
    "fails-over-twice": _fails_over_twice,
    "leaked-again": _leaked_again,
    "no-room": _no_room,
    "moved-to-what-works": _moved_to_what_works,
    "revoked-meanwhile": _revoked_meanwhile,
    "consented": _consented,
    "edited": _edited,
    "edited-meanwhile": _edited_meanwhile,
    "forgetful": _forgetful,
    "sticky": _sticky,
    "changed-by-dba": _changed_by_dba,
    "partly-changed-by-dba": _partly_changed_by_dba,
    "moved-back": _moved_back,
    "placeholders": _placeholders,
    "two-plans": _two_plans,
    "paused": _paused,
    "emergency": revokes_everything,
}
UNTOUCHED = {"changed-by-dba": "I11", "placeholders": "I11", "paused": "O4"}
"""Scenarios in which the second database must stay as it is, and the invariant that says so."""
UNLIKE_STORES = frozenset(
    {
        "fails-over",
        "fails-over-twice",
        "leaked-again",
        "moved-to-what-works",
        "no-room",
        "partly-changed-by-dba",
    }
)
"""Scenarios in which the second database refuses what stores serve, and accepts something older."""


def accounts(database: MemoryDatabase) -> dict[str, tuple[str, ...]]:
    """The accepted passwords, by account."""
    return {name: account.passwords for name, account in database.accounts.items()}
