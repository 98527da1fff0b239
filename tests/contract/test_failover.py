"""A fail-over that loses Lockstep's last changes is cured by the next run, and asks nobody (protocol I8).

Real replicas, which are cut off, and promoted after rotations that they never saw. MySQL and MariaDB lock an account
there after two refusals in a row.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec import structs

from lockstep.databases import mariadb
from lockstep.protocol.model import ClaimKind, Login, Strategy
from sandbox.databases import CertificateAuthority
from sandbox.databases.process import poll_until
from sandbox.databases.replicas import PostgresReplica
from tests.contract.database_harness import (
    MAX_REFUSALS,
    PAIRED_WORLDS,
    MySqlHarness,
    Pair,
    PostgresHarness,
    SqlHarness,
)
from tests.contract.rotation_driver import Refusals
from tests.support.memory import MemoryDatabase, MemoryStore, MemoryWorld
from tests.support.memory_lock import MemoryLock
from tests.unit.harness import INTERVAL_SECONDS, orders, rotate, rotate_again

pytest_plugins = ["tests.contract.replica_fixtures"]

DUAL, ALTERNATING = Strategy.DUAL_PASSWORD, Strategy.ALTERNATING_USERS
STEADY = 3
"""Rotations before the loss: each account has had a password that is superseded by then."""


@dataclass(frozen=True)
class Servers:
    """A primary with a credential's accounts, and how it comes to have a successor.

    Attributes:
        cut_off: From the beginning of the block on the successor sees no change any more; gives its port.
    """

    harness: SqlHarness
    cut_off: Callable[[], AbstractContextManager[int]]


@contextmanager
def mysql_family_successor(pair: Pair, harness: SqlHarness) -> Iterator[int]:
    """The replica itself, which takes writes while it applies none of the primary's."""
    if isinstance(harness, MySqlHarness):
        option = f"FAILED_LOGIN_ATTEMPTS {MAX_REFUSALS} PASSWORD_LOCK_TIME UNBOUNDED"
        harness.execute(*(f"ALTER USER '{u}'@'%' {option}" for u in harness.credential.usernames))
    pair.lag.catch_up()
    pair.lag.hold()
    try:
        yield pair.replica.port
    finally:
        pair.lag.catch_up()


@contextmanager
def postgresql_successor(pair: Pair, authority: CertificateAuthority) -> Iterator[int]:
    """A standby of its own, which is promoted at once, since what is promoted follows nobody again."""
    primary: Any = pair.primary
    with PostgresReplica(authority=authority, primary=primary) as standby:
        standby.execute_as_superuser("SELECT pg_promote()")
        assert poll_until(
            lambda: standby.execute_as_superuser("SELECT pg_is_in_recovery()") == [(False,)],
            timeout_seconds=25,
        )
        yield standby.port


@pytest.fixture
def servers(request: pytest.FixtureRequest, authority: CertificateAuthority) -> Servers:
    name, kind, strategy = PAIRED_WORLDS[request.param]
    pair: Pair = request.getfixturevalue(name)
    sandbox: Any = pair.primary
    harness = kind(sandbox, strategy)

    def cut_off() -> AbstractContextManager[int]:
        if isinstance(harness, PostgresHarness):
            return postgresql_successor(pair, authority)
        return mysql_family_successor(pair, harness)

    return Servers(harness, cut_off)


class World:
    """Rotations of the real accounts, between clouds in memory; the other database, if there is one, loses nothing.

    Attributes:
        refusals: What the successor was shown.
    """

    def __init__(self, harness: SqlHarness, *, has_other: bool) -> None:
        self.refusals = Refusals()
        self._harness = harness
        self._server = harness.server
        self._databases: dict[str, Any] = {harness.server.name: harness.database}
        credential, planned = harness.credential, [harness.server]
        if has_other:
            planned.append(structs.replace(harness.server, name="other"))
            self._databases["other"] = MemoryDatabase("other", credential.strategy, credential.usernames)
        credential = structs.replace(credential, servers=tuple(planned))
        self.memory = MemoryWorld(
            credential=credential,
            stores={name: MemoryStore(name, credential) for name in ("aws", "oci")},
            databases=self._databases,
            lock=MemoryLock(credential.id),
        )
        self.memory.always_in_turn()
        orders(self.memory, activate=credential.plan_digest, take_over=frozenset(self._databases))
        rotate(self.memory, "first")
        for number in range(1, STEADY):
            rotate_again(self.memory, f"steady-{number}")

    def fail_over(self, port: int) -> None:
        """The name of the real database leads to another server from now on, which is told what it is shown."""
        self._server = structs.replace(self._server, port=port)
        successor = self._harness.open(server=self._server)
        self.refusals.watch(successor)
        self._databases[self._server.name] = successor

    def run(self, *, forced: bool) -> ClaimKind | None:
        """The next run, of the other cloud: at its trigger, or at once by hand; what it was, None for nothing."""
        if not forced:
            self.memory.clock.sleep(INTERVAL_SECONDS)
        promoted = rotate(self.memory, "cure", runner="oci", force=forced).promoted
        return ClaimKind(promoted.kind) if promoted else None

    def served(self) -> list[Login]:
        """What each store serves."""
        found = [store.current_login() for store in self.memory.stores.values()]
        return [login for login in found if login]

    def works(self, login: Login) -> bool:
        """Whether it logs in on every database; this is not counted."""
        successor = self._harness.open(server=self._server)
        others = [d for name, d in self._databases.items() if name != self._server.name]
        return all(database.accepts(login) for database in (successor, *others))

    def assert_cured(self) -> None:
        """Both stores serve one login, which works on every database, and nobody is asked for anything."""
        first, second = self.served()
        assert first == second
        assert self.works(first)
        record = self.memory.lock.record
        assert (record.holder, record.claim) == (None, None)
        assert (record.blocked, record.take_over) == (frozenset(), frozenset())

    def assert_goes_on(self) -> None:
        """The rotation after the cure makes a new value beside the one that the cure serves."""
        cured, *_ = self.served()
        rotate_again(self.memory, "following")
        self.assert_cured()
        assert self.served()[0] != cured
        assert self.works(cured)
        assert self.refusals.most <= 1


@contextmanager
def after_the_loss(servers: Servers, lost: int, *, has_other: bool) -> Iterator[World]:
    """A world whose real database has lost the last changes, which the stores do not know."""
    world = World(servers.harness, has_other=has_other)
    with servers.cut_off() as port:
        for number in range(lost):
            rotate_again(world.memory, f"lost-{number}")
        world.fail_over(port)
        with pytest.MonkeyPatch.context() as patch:
            genuine = mariadb._Account.forget_refusals

            def forget(account: Any, username: str) -> None:  # noqa: ANN401 - of another module's own
                genuine(account, username)
                world.refusals.forget(username)

            patch.setattr(mariadb._Account, "forget_refusals", forget)
            yield world


CURED = [pytest.param(name, lost, id=f"{name}-{lost}") for name in PAIRED_WORLDS for lost in (1, 2)]
forced_or_due = pytest.mark.parametrize("forced", [False, True], ids=["due", "forced"])
alone_or_beside = pytest.mark.parametrize("has_other", [False, True], ids=["alone", "beside"])


@forced_or_due
@alone_or_beside
@pytest.mark.parametrize(("servers", "lost"), CURED, indirect=["servers"])
def test_the_next_run_serves_a_login_that_works(
    servers: Servers, lost: int, *, has_other: bool, forced: bool
) -> None:
    with after_the_loss(servers, lost, has_other=has_other) as world:
        assert world.run(forced=forced) is ClaimKind.RECONCILE
        world.assert_cured()
        # A forced run begins with a search, and MySQL tells it which generations an account has.
        is_told = isinstance(servers.harness, MySqlHarness) and servers.harness.credential.strategy is DUAL
        assert world.refusals.most == (0 if is_told and forced else 1)
        world.assert_goes_on()
