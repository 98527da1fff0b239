"""Listing open sessions on real servers, with the least right that each of them has for it."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any

import pymysql
import pytest
from msgspec import structs

from lockstep.databases.sessions import LISTS, NotCountable, OpenSession, SessionList, Sessions
from lockstep.protocol.errors import AdminCredentialRejectedError, DatabaseUnreachableError
from lockstep.protocol.model import ROTATION_USER, Login, SecretStr, Strategy
from lockstep.runtime.databases import Timeouts, open_server
from sandbox.emulators.databases import CertificateAuthority, MySqlServer
from tests.contract.database_harness import (
    ADMIN,
    DATABASE,
    HASTY,
    MariaDbHarness,
    MySqlHarness,
    PlaintextPostgresHarness,
    PostgresHarness,
    SqlHarness,
    fails,
    value_of,
)
from tests.support.app_sessions import connect
from tests.support.servers import require

pytest_plugins = ["tests.contract.database_fixtures"]

_DUAL, _ALTERNATING = Strategy.DUAL_PASSWORD, Strategy.ALTERNATING_USERS
_WORLDS: dict[str, tuple[str, type[SqlHarness], Strategy]] = {
    "mariadb-dual": ("mariadb_server", MariaDbHarness, _DUAL),
    "mariadb-alternating": ("mariadb_server", MariaDbHarness, _ALTERNATING),
    "mysql-dual": ("observed_mysql_server", MySqlHarness, _DUAL),
    "mysql-alternating": ("observed_mysql_server", MySqlHarness, _ALTERNATING),
    "mysql-without-performance-schema": ("mysql_server", MySqlHarness, _ALTERNATING),
    "postgresql": ("postgres_server", PostgresHarness, _ALTERNATING),
    "postgresql-18-plaintext": ("pgserver_server", PlaintextPostgresHarness, _ALTERNATING),
}
_PROCESS = f"GRANT PROCESS ON *.* TO '{ROTATION_USER}'@'%'"
_STATS = f"GRANT pg_read_all_stats TO {ROTATION_USER}"


@pytest.fixture(scope="module")
def observed_mysql_server(authority: CertificateAuthority) -> Iterator[MySqlServer]:
    """With performance_schema, as MySQL has it by default."""
    require(MySqlServer)
    with MySqlServer(authority=authority, settings={"performance_schema": "ON"}) as server:
        server.execute_as_superuser(f"CREATE DATABASE {DATABASE}")
        yield server


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[SqlHarness]:
    server, harness, strategy = _WORLDS[request.param]
    made = harness(request.getfixturevalue(server), strategy)
    yield made
    if isinstance(made, PostgresHarness):
        made.execute(f"REVOKE pg_read_all_stats FROM {ROTATION_USER}")
    elif request.param == "mysql-without-performance-schema":
        made.execute(f"REVOKE PROCESS ON *.* FROM '{ROTATION_USER}'@'%'")


def worlds(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("world", names, indirect=True)


every_server = worlds(*_WORLDS)
postgresql = worlds("postgresql", "postgresql-18-plaintext")


def listed(world: SqlHarness, *, admin: Login = ADMIN, timeouts: Timeouts = Timeouts()) -> Any:  # noqa: ANN401, B008 - one of two; immutable
    server = open_server(world.server, world.credential, lambda: admin, timeouts=timeouts)
    return Sessions(server, LISTS[world.server.engine]).list_sessions()


def seen(world: SqlHarness) -> SessionList:
    found = listed(world)
    assert isinstance(found, SessionList)
    return found


def let_see(world: SqlHarness, found: SessionList | NotCountable) -> None:
    """What an administrator does whom the command has told."""
    if found.grants:
        world.execute(*found.grants)


def of(found: Sequence[OpenSession], username: str) -> list[OpenSession]:
    return [s for s in found if s.username == username]


@pytest.fixture
def opened(world: SqlHarness) -> Iterator[tuple[Login, Login]]:
    """Three sessions of generation 1, which a worker holds, and two of generation 2; the login of each."""
    first, second, server = value_of(world, 1), value_of(world, 2), world.sandbox
    with ExitStack() as stack:
        for current, pending, application, count in ((None, first, "worker", 3), (first, second, "web", 2)):
            with world.database.exclusive() as stager:
                stager.stage(current=current, pending=pending)
            for _ in range(count):
                stack.enter_context(closing(connect(server, pending.login, DATABASE, application)))
        yield first.login, second.login


@every_server
def test_sessions_are_counted_by_login(world: SqlHarness, opened: tuple[Login, Login]) -> None:
    let_see(world, listed(world))
    found = seen(world).sessions
    assert len(found) == 5
    if world.credential.strategy is _ALTERNATING:
        assert [len(of(found, login.username)) for login in opened] == [3, 2]
    assert {s.host for s in found} <= {"127.0.0.1", "localhost"}
    assert all(s.age_seconds is not None and 0 <= s.age_seconds < 300 for s in found)


@worlds("mysql-dual", "mysql-alternating", "postgresql", "postgresql-18-plaintext")
@pytest.mark.usefixtures("opened")
def test_a_session_tells_its_application(world: SqlHarness) -> None:
    assert sorted(s.application for s in seen(world).sessions) == ["web"] * 2 + ["worker"] * 3


@every_server
def test_neither_other_accounts_nor_the_rotation_user_are_listed(world: SqlHarness) -> None:
    let_see(world, listed(world))
    other = world.powerless_admin()
    if isinstance(world, PostgresHarness):
        world.execute(f"ALTER ROLE {other.username} LOGIN")
    else:
        world.execute(f"GRANT SELECT ON {DATABASE}.* TO '{other.username}'@'%'")
    with closing(connect(world.sandbox, other, DATABASE, "other")):
        assert seen(world).sessions == []
        itself = structs.replace(world.credential, usernames=(ROTATION_USER,))
        with world.database.exclusive():
            server = open_server(world.server, itself, lambda: ADMIN)
            found = Sessions(server, LISTS[world.server.engine]).list_sessions()
        assert isinstance(found, SessionList)
        assert len(found.sessions) == 1, "the session of a run, and not the one that asks"


# The least right


@worlds("mariadb-dual", "mysql-dual", "postgresql")
@pytest.mark.usefixtures("opened")
def test_what_the_script_grants_is_enough_to_count(world: SqlHarness) -> None:
    assert len(seen(world).sessions) == 5


@worlds("mariadb-dual", "mysql-dual", "mysql-without-performance-schema")
@pytest.mark.usefixtures("opened")
def test_without_the_right_nothing_is_counted_and_the_statement_is_named(world: SqlHarness) -> None:
    """Not zero, which is what these servers show to an account without it."""
    powerless = world.powerless_admin()
    found = listed(world, admin=powerless)
    assert isinstance(found, NotCountable)
    assert all(f"TO '{powerless.username}'@'%'" in grant for grant in found.grants)
    world.execute(*found.grants)
    after = listed(world, admin=powerless)
    assert isinstance(after, SessionList)
    assert len(after.sessions) == 5


@worlds("mysql-dual")
def test_on_mysql_the_right_shows_no_statement(world: SqlHarness) -> None:
    connection = connect(world.sandbox, ADMIN, None, "reader")
    with closing(connection), connection.cursor() as cursor:
        with pytest.raises(pymysql.err.OperationalError, match="1143"):
            cursor.execute("SELECT PROCESSLIST_INFO FROM performance_schema.threads")
        cursor.execute("SELECT COUNT(DISTINCT user) FROM information_schema.processlist")
        assert cursor.fetchone() == (1,)


@worlds("mysql-without-performance-schema")
@pytest.mark.usefixtures("opened")
def test_an_empty_performance_schema_is_not_taken_for_no_sessions(world: SqlHarness) -> None:
    found = listed(world)
    assert found == NotCountable(grants=(_PROCESS,))


@postgresql
def test_postgresql_shows_usernames_and_applications_to_everybody(
    world: SqlHarness, opened: tuple[Login, Login]
) -> None:
    powerless = world.powerless_admin()
    found = listed(world, admin=powerless)
    assert isinstance(found, SessionList)
    assert [len(of(found.sessions, login.username)) for login in opened] == [3, 2]
    assert {(s.host, s.age_seconds) for s in found.sessions} == {(None, None)}
    assert found.hidden == "client hosts and ages"
    assert seen(world).grants == (_STATS,)
    let_see(world, seen(world))
    assert (seen(world).hidden, seen(world).grants) == ("", ())


# Failures


@every_server
def test_an_admin_that_is_refused(world: SqlHarness) -> None:
    with fails(AdminCredentialRejectedError):
        listed(world, admin=Login(ROTATION_USER, SecretStr("wrong")))


@worlds("mariadb-dual", "postgresql")
def test_a_server_that_does_not_answer(world: SqlHarness) -> None:
    world.sandbox.pause()
    try:
        with fails(DatabaseUnreachableError):
            listed(world, timeouts=HASTY)
    finally:
        world.sandbox.resume()


@worlds("mariadb-dual", "postgresql")
def test_a_rotation_that_is_under_way_is_not_waited_for(world: SqlHarness) -> None:
    let_see(world, listed(world))
    with world.database.exclusive():
        assert seen(world).sessions == []
