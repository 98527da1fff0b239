"""A server per engine for the whole session, pairs for a module, and accounts per test.

A suite asks for these fixtures with `pytest_plugins = ["tests.contract.database_fixtures"]`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from sandbox.emulators.databases import (
    CertificateAuthority,
    MariaDbServer,
    MySqlServer,
    PgserverServer,
    PostgresServer,
)
from sandbox.emulators.databases.replicas import BINARY_LOG, MariaDbReplica, MySqlReplica, PostgresReplica
from tests.contract.database_harness import (
    DATABASE,
    MAX_REFUSALS,
    MEMORY_WORLDS,
    SQL_WORLDS,
    Harness,
    MemoryHarness,
    SqlHarness,
)
from tests.support.servers import require
from tests.support.statement_faults import FrontedMySqlServer


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Harness:
    """The harness that `parametrize(..., indirect=True)` names."""
    if request.param in MEMORY_WORLDS:
        return MemoryHarness(MEMORY_WORLDS[request.param])
    kind = SQL_WORLDS[request.param]
    return SqlHarness(request.getfixturevalue(kind.server), kind)


def make_database(server: Any) -> None:  # noqa: ANN401 - one of the sandbox's
    """The application's; to that of PostgreSQL only who has an explicit grant may connect."""
    server.execute_as_superuser(f"CREATE DATABASE {DATABASE}")
    if server.product == "PostgreSQL":
        server.execute_as_superuser(f"REVOKE CONNECT ON DATABASE {DATABASE} FROM PUBLIC")


@contextmanager
def started(kind: Any, **options: object) -> Iterator[Any]:  # noqa: ANN401 - one of the sandbox's
    """A server with the application's database."""
    require(kind)
    with kind(**options) as server:
        make_database(server)
        yield server


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def over_tls(authority: CertificateAuthority) -> dict[str, Any]:
    """A certificate for one of the names under which a server can be reached."""
    return {"authority": authority, "certificate": authority.issue("localhost"), "general_log": True}


def server_fixture(name: str, kind: Any) -> Any:  # noqa: ANN401 - of the sandbox, and pytest's own
    @pytest.fixture(scope="session", name=name)
    def running(over_tls: dict[str, Any]) -> Iterator[Any]:
        with started(kind, **({} if kind is PgserverServer else over_tls)) as server:
            yield server

    return running


_mariadb = server_fixture("mariadb_server", MariaDbServer)
_mysql = server_fixture("mysql_server", FrontedMySqlServer)
_postgresql = server_fixture("postgres_server", PostgresServer)
_postgresql_18 = server_fixture("pgserver_server", PgserverServer)


class Pair(NamedTuple):
    """A primary, and a replica that lags for as long as it is told to."""

    primary: Any
    replica: Any


def pair_fixture(name: str, primary_kind: Any, replica_kind: Any, **settings: str) -> Any:  # noqa: ANN401 - as above
    """The replica of MariaDB locks an account after two refusals in a row; in MySQL that is the account's own."""

    @pytest.fixture(scope="module", name=name)
    def running(authority: CertificateAuthority) -> Iterator[Pair]:
        require(primary_kind)
        of_primary = {"settings": settings} if settings else {}
        with (
            primary_kind(authority=authority, **of_primary) as primary,
            replica_kind(authority=authority, primary=primary) as replica,
        ):
            make_database(primary)
            if primary_kind is MariaDbServer:
                replica.execute_as_superuser(f"SET GLOBAL max_password_errors = {MAX_REFUSALS}")
            yield Pair(primary, replica)

    return running


_mariadb_pair = pair_fixture("mariadb_pair", MariaDbServer, MariaDbReplica, **BINARY_LOG)
_mysql_pair = pair_fixture("mysql_pair", MySqlServer, MySqlReplica, **BINARY_LOG, performance_schema="ON")
_postgresql_pair = pair_fixture("postgres_pair", PostgresServer, PostgresReplica)
