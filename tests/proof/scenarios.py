"""What a rotation may meet, in memory: the state before it and how the databases misbehave."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache

from msgspec import structs

from lockstep.plan.model import Plan
from lockstep.protocol.model import LockRecord, Login, SecretStr, Strategy
from tests.support.memory import PLACEHOLDER_TEXT, CountingPasswords, MemoryDatabase, MemoryWorld, make_plan
from tests.support.memory_store import KINDS
from tests.unit.harness import (
    INTERVAL_SECONDS,
    Killed,
    another_login,
    at_every_boundary,
    edit,
    login_of,
    orders,
    revokes_everything,
    rotate,
    rotate_again,
    undisturbed,
)


@cache
def _plan(strategy: Strategy) -> Plan:
    return make_plan(strategy=strategy)


def world_of(scenario: str, strategy: Strategy) -> MemoryWorld:
    """A world with two rotations behind it, due again, in which the scenario waits."""
    world = MemoryWorld.create(_plan(strategy))
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


def _refused(world: MemoryWorld) -> None:
    """The second database refuses the next password by policy, after the first has taken it."""
    foretold = CountingPasswords()
    foretold.count = world.passwords.count
    refused = foretold.new_password(world.credential.password_policy).reveal()
    world.databases["db-2"].refuses = lambda password: password == refused


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
    """A DBA has changed the account on one database: current is locked out there, and not by Lockstep."""
    database = world.databases["db-2"]
    login = Login(_current(world).username, SecretStr("set-by-a-dba"))
    database.accounts[login.username].passwords = (login.password.reveal(),)


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
    "refused": _refused,
    "edited": _edited,
    "edited-meanwhile": _edited_meanwhile,
    "forgetful": _forgetful,
    "sticky": _sticky,
    "changed-by-dba": _changed_by_dba,
    "moved-back": _moved_back,
    "placeholders": _placeholders,
    "two-plans": _two_plans,
    "paused": _paused,
    "emergency": revokes_everything,
}
UNTOUCHED = frozenset({"changed-by-dba", "placeholders", "paused"})
"""Scenarios in which the second database must stay as it is."""


def accounts(database: MemoryDatabase) -> dict[str, tuple[str, ...]]:
    """The accepted passwords, by account."""
    return {name: account.passwords for name, account in database.accounts.items()}
