"""A primary and a replica per engine, for a module; the replica locks an account after two refusals in a row.

A suite asks for these fixtures with `pytest_plugins = ["tests.contract.replica_fixtures"]`.
"""

from collections.abc import Iterator

import pytest

from sandbox.emulators.databases import CertificateAuthority, MariaDbServer, MySqlServer, PostgresServer
from sandbox.emulators.databases.replicas import (
    BINARY_LOG,
    MariaDbReplica,
    MySqlReplica,
    PostgresReplica,
)
from tests.contract.database_harness import DATABASE, MAX_REFUSALS, Pair
from tests.support.servers import require

pytest_plugins = ["tests.contract.database_fixtures"]


@pytest.fixture(scope="module")
def mariadb_pair(authority: CertificateAuthority) -> Iterator[Pair]:
    require(MariaDbServer)
    with (
        MariaDbServer(authority=authority, settings=BINARY_LOG) as primary,
        MariaDbReplica(authority=authority, primary=primary) as replica,
    ):
        primary.execute_as_superuser(f"CREATE DATABASE {DATABASE}")
        replica.execute_as_superuser(f"SET GLOBAL max_password_errors = {MAX_REFUSALS}")
        yield Pair(primary, replica, replica)


@pytest.fixture(scope="module")
def mysql_pair(authority: CertificateAuthority) -> Iterator[Pair]:
    require(MySqlServer)
    with (
        MySqlServer(authority=authority, settings={**BINARY_LOG, "performance_schema": "ON"}) as primary,
        MySqlReplica(authority=authority, primary=primary) as replica,
    ):
        primary.execute_as_superuser(f"CREATE DATABASE {DATABASE}")
        yield Pair(primary, replica, replica)


@pytest.fixture(scope="module")
def postgres_pair(authority: CertificateAuthority) -> Iterator[Pair]:
    require(PostgresServer)
    with (
        PostgresServer(authority=authority) as primary,
        PostgresReplica(authority=authority, primary=primary) as replica,
    ):
        primary.execute_as_superuser(
            [f"CREATE DATABASE {DATABASE}", f"REVOKE CONNECT ON DATABASE {DATABASE} FROM PUBLIC"]
        )
        yield Pair(primary, replica, replica)
