"""A server per engine for the whole session, pairs for a module, and accounts per test.

A suite asks for these fixtures with `pytest_plugins = ["tests.contract.database_fixtures"]`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from sandbox.emulators.databases import (
    CertificateAuthority,
    MariaDbServer,
    MySqlServer,
    PgserverServer,
    PostgresServer,
)
from sandbox.emulators.databases.replicas import (
    BINARY_LOG,
    MariaDbReplica,
    MySqlReplica,
    PostgresReplica,
)
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


@contextmanager
def started(server: Any) -> Iterator[Any]:  # noqa: ANN401 - one of the sandbox's
    """With the application's database; to that of PostgreSQL only who has an explicit grant may connect."""
    with server:
        server.execute_as_superuser(f"CREATE DATABASE {DATABASE}")
        if server.product == "PostgreSQL":
            server.execute_as_superuser(f"REVOKE CONNECT ON DATABASE {DATABASE} FROM PUBLIC")
        yield server


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def over_tls(authority: CertificateAuthority) -> dict[str, Any]:
    """A certificate for one of the names under which a server can be reached."""
    return {"authority": authority, "certificate": authority.issue("localhost"), "general_log": True}


@pytest.fixture(scope="session")
def mariadb_server(over_tls: dict[str, Any]) -> Iterator[MariaDbServer]:
    require(MariaDbServer)
    with started(MariaDbServer(**over_tls)) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server(over_tls: dict[str, Any]) -> Iterator[PostgresServer]:
    require(PostgresServer)
    with started(PostgresServer(**over_tls)) as server:
        yield server


@pytest.fixture(scope="session")
def pgserver_server() -> Iterator[PgserverServer]:
    require(PgserverServer)
    with started(PgserverServer()) as server:
        yield server


@pytest.fixture(scope="session")
def mysql_server(over_tls: dict[str, Any]) -> Iterator[FrontedMySqlServer]:
    require(MySqlServer)
    with started(FrontedMySqlServer(**over_tls)) as server:
        yield server


# A primary and a replica; the replica locks an account after two refusals in a row


@dataclass(frozen=True)
class Pair:
    """A primary, and a replica that lags for as long as it is told to."""

    primary: Any
    replica: Any


@pytest.fixture(scope="module")
def mariadb_pair(authority: CertificateAuthority) -> Iterator[Pair]:
    require(MariaDbServer)
    with (
        MariaDbServer(authority=authority, settings=BINARY_LOG) as primary,
        MariaDbReplica(authority=authority, primary=primary) as replica,
    ):
        primary.execute_as_superuser(f"CREATE DATABASE {DATABASE}")
        replica.execute_as_superuser(f"SET GLOBAL max_password_errors = {MAX_REFUSALS}")
        yield Pair(primary, replica)


@pytest.fixture(scope="module")
def mysql_pair(authority: CertificateAuthority) -> Iterator[Pair]:
    """What locks an account is its own option here, which is replicated."""
    require(MySqlServer)
    with (
        MySqlServer(authority=authority, settings={**BINARY_LOG, "performance_schema": "ON"}) as primary,
        MySqlReplica(authority=authority, primary=primary) as replica,
    ):
        primary.execute_as_superuser(f"CREATE DATABASE {DATABASE}")
        yield Pair(primary, replica)


@pytest.fixture(scope="module")
def postgres_pair(authority: CertificateAuthority) -> Iterator[Pair]:
    require(PostgresServer)
    with (
        started(PostgresServer(authority=authority)) as primary,
        PostgresReplica(authority=authority, primary=primary) as replica,
    ):
        yield Pair(primary, replica)
