"""A server per engine for the whole session, and accounts per test.

A suite asks for these fixtures with `pytest_plugins = ["tests.contract.database_fixtures"]`.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.emulators.databases import (
    CertificateAuthority,
    MariaDbServer,
    MySqlServer,
    PgserverServer,
    PostgresServer,
)
from tests.contract.database_harness import (
    DATABASE,
    MEMORY_WORLDS,
    SQL_WORLDS,
    DatabaseHarness,
    MemoryHarness,
)
from tests.support.servers import require
from tests.support.statement_faults import FrontedMySqlServer


@pytest.fixture
def world(request: pytest.FixtureRequest) -> DatabaseHarness:
    """The harness that `parametrize(..., indirect=True)` names."""
    if request.param in MEMORY_WORLDS:
        return MemoryHarness(MEMORY_WORLDS[request.param])
    server, harness, strategy = SQL_WORLDS[request.param]
    made: Any = harness(request.getfixturevalue(server), strategy)
    return made  # type: ignore[no-any-return]  # which of the harnesses it is, is known at run time only


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def mariadb_server(authority: CertificateAuthority) -> Iterator[MariaDbServer]:
    require(MariaDbServer)
    # A certificate for one of the names under which the server can be reached.
    certificate = authority.issue("localhost")
    with MariaDbServer(authority=authority, certificate=certificate, general_log=True) as server:
        server.execute_as_superuser(f"CREATE DATABASE {DATABASE}")
        yield server


@pytest.fixture(scope="session")
def postgres_server(authority: CertificateAuthority) -> Iterator[PostgresServer]:
    require(PostgresServer)
    certificate = authority.issue("localhost")
    with PostgresServer(authority=authority, certificate=certificate, general_log=True) as server:
        make_database(server)
        yield server


@pytest.fixture(scope="session")
def pgserver_server() -> Iterator[PgserverServer]:
    require(PgserverServer)
    with PgserverServer() as server:
        make_database(server)
        yield server


@pytest.fixture(scope="session")
def mysql_server(authority: CertificateAuthority) -> Iterator[FrontedMySqlServer]:
    require(MySqlServer)
    certificate = authority.issue("localhost")
    with FrontedMySqlServer(authority=authority, certificate=certificate, general_log=True) as server:
        server.execute_as_superuser(f"CREATE DATABASE {DATABASE}")
        yield server


def make_database(server: PostgresServer | PgserverServer) -> None:
    """The application's database, to which only accounts with an explicit grant may connect."""
    server.execute_as_superuser(
        [f"CREATE DATABASE {DATABASE}", f"REVOKE CONNECT ON DATABASE {DATABASE} FROM PUBLIC"]
    )
