"""Listing open sessions on real servers, with the least right that each of them has for it."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from msgspec import structs

from lockstep.databases.sessions import NotCountable, SessionList, open_sessions
from lockstep.protocol.model import ROTATION_USER, Engine, Login, Strategy
from lockstep.runtime.clouds import open_database
from sandbox.emulators.databases import CertificateAuthority, MySqlServer
from tests.contract.database_harness import (
    ADMIN,
    DATABASE,
    POSTGRESQL,
    SQL_WORLDS,
    Kind,
    SqlHarness,
    started,
    worlds,
)
from tests.support.servers import connect

pytest_plugins = ["tests.contract.database_harness"]

PROCESS = f"GRANT PROCESS ON *.* TO '{ROTATION_USER}'@'%'"
OBSERVED = "observed_mysql_server"
WORLDS = {
    "mariadb-dual": SQL_WORLDS["mariadb-dual"],
    "mysql-dual": Kind(OBSERVED, Engine.MYSQL, Strategy.DUAL_PASSWORD),
    "mysql-without-performance-schema": SQL_WORLDS["mysql-alternating"],
    **{name: SQL_WORLDS[name] for name in POSTGRESQL},
}


@pytest.fixture(scope="module")
def observed_mysql_server(authority: CertificateAuthority) -> Iterator[MySqlServer]:
    """With performance_schema, as MySQL has it by default."""
    with started(MySqlServer, authority=authority, settings={"performance_schema": "ON"}) as server:
        yield server


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[SqlHarness]:
    made = SqlHarness(request.getfixturevalue(WORLDS[request.param].server), WORLDS[request.param])
    yield made
    if made.is_postgresql:
        made.run("REVOKE pg_read_all_stats FROM {rotator}")
    elif request.param == "mysql-without-performance-schema":
        made.run("REVOKE PROCESS ON *.* FROM {rotator}")


every_server = worlds(*WORLDS)


def listed(world: SqlHarness, *, admin: Login = ADMIN) -> Any:  # noqa: ANN401 - one of two
    return open_sessions(open_database(world.server, world.credential, lambda: admin))


def seen(world: SqlHarness) -> SessionList:
    """After what an administrator does whom the command has told."""
    if grants := listed(world).grants:
        world.execute(*grants)
    found = listed(world)
    assert isinstance(found, SessionList)
    return found


def by_login(found: SessionList, opened: tuple[Login, Login]) -> list[int]:
    return [sum(s.username == login.username for s in found.sessions) for login in opened]


@pytest.fixture
def opened(world: SqlHarness) -> Iterator[tuple[Login, Login]]:
    """Three sessions of generation 1, which a worker holds, and two of generation 2; the login of each."""
    with ExitStack() as stack:
        for current, pending, application, count in ((None, 1, "worker", 3), (1, 2, "web", 2)):
            world.stage(current, pending)
            for _ in range(count):
                session = connect(world.sandbox, world.login(pending), DATABASE, application)
                stack.enter_context(closing(session))
        yield world.login(1), world.login(2)


@every_server
def test_sessions_are_counted_by_login(world: SqlHarness, opened: tuple[Login, Login]) -> None:
    """What the script grants is enough to count, except where performance_schema is off, which shows no sessions."""
    first = listed(world)
    if world.kind == SQL_WORLDS["mysql-alternating"]:
        assert first == NotCountable(grants=(PROCESS,))
    else:
        assert len(first.sessions) == 5
    listing = seen(world)
    found = listing.sessions
    assert len(found) == 5
    if world.kind.strategy is Strategy.ALTERNATING_USERS:
        assert by_login(listing, opened) == [3, 2]
    assert {s.host for s in found} <= {"127.0.0.1", "localhost"}
    assert all(s.age_seconds is not None and 0 <= s.age_seconds < 300 for s in found)
    if world.kind.server == OBSERVED or world.is_postgresql:
        assert sorted(s.application for s in found) == ["web"] * 2 + ["worker"] * 3


@every_server
def test_neither_other_accounts_nor_the_rotation_user_are_listed(world: SqlHarness) -> None:
    other = world.powerless_admin()
    if not world.is_postgresql:
        world.run("GRANT SELECT ON {db}.* TO {account}", other.username)
    with closing(connect(world.sandbox, other, DATABASE, "other")):
        assert seen(world).sessions == []
        itself = structs.replace(world.credential, usernames=(ROTATION_USER,))
        with world.database.exclusive():
            assert seen(world).sessions == [], "a rotation that is under way is not waited for"
            found: Any = open_sessions(open_database(world.server, itself, lambda: ADMIN))
        assert len(found.sessions) == 1, "the session of a run, and not the one that asks"


# The least right


@worlds("mariadb-dual", "mysql-dual", "mysql-without-performance-schema")
@pytest.mark.usefixtures("opened")
def test_without_the_right_nothing_is_counted_and_the_statement_is_named(world: SqlHarness) -> None:
    """Not zero, which is what these servers show to an account without it."""
    powerless = world.powerless_admin()
    found = listed(world, admin=powerless)
    assert isinstance(found, NotCountable)
    assert all(f"TO '{powerless.username}'@'%'" in grant for grant in found.grants)
    world.execute(*found.grants)
    assert len(listed(world, admin=powerless).sessions) == 5


@worlds(*POSTGRESQL)
def test_postgresql_shows_names_to_everybody(world: SqlHarness, opened: tuple[Login, Login]) -> None:
    found = listed(world, admin=world.powerless_admin())
    assert by_login(found, opened) == [3, 2]
    assert {(s.host, s.age_seconds) for s in found.sessions} == {(None, None)}
    assert found.hidden == "client hosts and ages"
    assert listed(world).grants == (f"GRANT pg_read_all_stats TO {ROTATION_USER}",)
    assert (seen(world).hidden, seen(world).grants) == ("", ())
