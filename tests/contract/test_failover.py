"""A fail-over that loses Lockstep's last changes is cured by the next run, and asks nobody (protocol I8).

Real replicas, which are cut off, and promoted after rotations that they never saw. MySQL and MariaDB lock an account
there after two refusals in a row.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from lockstep.protocol.model import ClaimKind, Strategy
from sandbox.emulators.databases import CertificateAuthority
from sandbox.emulators.databases.process import poll_until
from sandbox.emulators.databases.replicas import PostgresReplica
from tests.contract.database_harness import (
    MAX_REFUSALS,
    PAIRED_WORLDS,
    MySqlHarness,
    Pair,
    PostgresHarness,
    SqlHarness,
)
from tests.contract.database_world import World
from tests.support.world import rotate_again

pytest_plugins = ["tests.contract.replica_fixtures"]

DUAL, ALTERNATING = Strategy.DUAL_PASSWORD, Strategy.ALTERNATING_USERS


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


@contextmanager
def after_the_loss(servers: Servers, lost: int, *, has_other: bool) -> Iterator[World]:
    """A world whose real database has lost the last changes, which the stores do not know."""
    world = World(servers.harness, has_other=has_other)
    with servers.cut_off() as port:
        for number in range(lost):
            rotate_again(world.memory, f"lost-{number}")
        world.fail_over(port)
        with world.counted():
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
