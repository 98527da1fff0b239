"""No password crosses a network unencrypted, unless the application consents in as many words."""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pymysql
import pytest
from pymysql.constants import CR

from lockstep.client import (
    AsyncCredentialClient,
    ClientCredential,
    CredentialClient,
    asyncpg_pool,
    connect_asyncpg,
    connect_psycopg,
    connect_psycopg_async,
    connect_pymysql,
    psycopg_async_pool,
    psycopg_pool,
)
from lockstep.client.drivers import asyncmy_opener, asyncpg_opener, psycopg_opener, pymysql_opener
from lockstep.protocol.errors import TlsVerificationError
from lockstep.protocol.model import SecretStr
from sandbox.emulators.databases import CertificateAuthority, DatabaseServer, MariaDbServer, PostgresServer
from sandbox.emulators.databases.pgserver import PgserverServer
from sandbox.emulators.databases.pgserver import available as pgserver_available
from tests.support.servers import require

PASSWORD = "a-password-of-an-application"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def mariadb(authority: CertificateAuthority) -> Iterator[MariaDbServer]:
    require(MariaDbServer)
    with MariaDbServer(authority=authority) as server:
        server.execute_as_superuser(f"CREATE USER app@'%' IDENTIFIED BY '{PASSWORD}'")
        yield server


@pytest.fixture(scope="module")
def mariadb_without_tls(mariadb: MariaDbServer) -> Iterator[MariaDbServer]:
    """The same server, started again without TLS."""
    mariadb.stop()
    mariadb.settings = {"require_secure_transport": "OFF", "ssl": "OFF"}
    mariadb.start()
    yield mariadb
    mariadb.stop()
    mariadb.settings = {}
    mariadb.start()


@pytest.fixture(scope="module")
def postgresql(authority: CertificateAuthority) -> Iterator[PostgresServer]:
    require(PostgresServer)
    with PostgresServer(authority=authority) as server:
        server.execute_as_superuser(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
        yield server


@pytest.fixture(scope="module")
def postgresql_without_tls() -> Iterator[PgserverServer]:
    if not (available := pgserver_available()):
        pytest.skip(available.missing)
    with PgserverServer() as server:
        server.execute_as_superuser(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
        yield server


def client_at(server: DatabaseServer, **more: str) -> CredentialClient:
    where = {"host": server.host, "port": server.port, **more}
    return CredentialClient(
        [
            lambda: ClientCredential(
                username="app", password=SecretStr(PASSWORD), generation=1, connection=where
            )
        ]
    )


# MariaDB


def test_mysql_over_verified_tls(mariadb: MariaDbServer) -> None:
    client, ca = client_at(mariadb), str(mariadb.ca_file)
    context = ssl.create_default_context(cafile=ca)
    for options in (
        {"ssl_ca": ca},
        {"ssl": {"ca": ca}},
        {"ssl": context},
        {"ssl_ca": ca, "ssl_verify_identity": True},
    ):
        with connect_pymysql(client, **options) as connection, connection.cursor() as cursor:
            cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
            assert (cursor.fetchone() or [""])[1] != ""


def test_mysql_with_a_certificate_of_somebody_else(mariadb: MariaDbServer) -> None:
    with pytest.raises(pymysql.OperationalError, match="certificate verify failed"):
        connect_pymysql(client_at(mariadb))
    with pytest.raises(pymysql.OperationalError, match="certificate verify failed"):
        connect_pymysql(client_at(mariadb, host="127.1"), ssl_ca=str(mariadb.ca_file))


def test_mysql_without_tls(mariadb_without_tls: MariaDbServer) -> None:
    client = client_at(mariadb_without_tls)
    with pytest.raises(pymysql.OperationalError) as caught:
        connect_pymysql(client, ssl_ca=str(mariadb_without_tls.ca_file))
    assert caught.value.args[0] == CR.CR_SSL_CONNECTION_ERROR  # It sent nothing.
    connect_pymysql(client, plaintext=True).close()


def test_a_driver_that_goes_on_in_plaintext_is_hung_up_on(
    mariadb_without_tls: MariaDbServer,
) -> None:
    """As PyMySQL did before 1.2."""
    opened: list[pymysql.connections.Connection[Any]] = []

    def connect(**options: Any) -> "pymysql.connections.Connection[Any]":  # noqa: ANN401 - the driver's
        del options["ssl"]
        opened.append(pymysql.connections.Connection(**options))
        return opened[-1]

    opener = pymysql_opener(connect=connect)
    with pytest.raises(TlsVerificationError):
        client_at(mariadb_without_tls).login(opener.open, opener.is_refusal)
    assert [c.open for c in opened] == [False]


WEAK_CONTEXT = ssl.create_default_context()
WEAK_CONTEXT.check_hostname = False
WEAK: dict[str, dict[str, Any]] = {
    "disabled": {"ssl_disabled": True},
    "no certificate": {"ssl_verify_cert": False},
    "no host name": {"ssl_verify_identity": False},
    "mapping": {"ssl": {"check_hostname": False}},
    "mode": {"ssl": {"verify_mode": "none"}},
    "context": {"ssl": WEAK_CONTEXT},
}


@pytest.mark.parametrize("options", WEAK.values(), ids=WEAK)
def test_mysql_options_that_verify_less_take_consent(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="plaintext=True"):
        pymysql_opener(**options)
    pymysql_opener(plaintext=True, **options)


# PostgreSQL


def test_postgresql_over_verified_tls(postgresql: PostgresServer) -> None:
    client = client_at(postgresql, dbname="postgres")
    with connect_psycopg(client, sslrootcert=str(postgresql.ca_file)) as connection:
        assert connection.pgconn.ssl_in_use

    async def connect() -> bool:
        async with await connect_psycopg_async(
            AsyncCredentialClient(client), sslrootcert=str(postgresql.ca_file)
        ) as connection:
            return connection.pgconn.ssl_in_use

    assert asyncio.run(connect())


def test_postgresql_with_a_certificate_of_somebody_else(postgresql: PostgresServer) -> None:
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        connect_psycopg(client_at(postgresql, dbname="postgres"), sslrootcert="system")


def test_postgresql_without_tls(
    postgresql_without_tls: PgserverServer, authority: CertificateAuthority
) -> None:
    client = client_at(postgresql_without_tls, dbname="postgres")
    with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
        connect_psycopg(client, sslrootcert=str(authority.ca_file))
    with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
        asyncio.run(connect_psycopg_async(AsyncCredentialClient(client), sslrootcert=str(authority.ca_file)))
    connect_psycopg(client, plaintext=True).close()


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca"])
def test_postgresql_modes_that_verify_less_take_consent(mode: str) -> None:
    with pytest.raises(ValueError, match="plaintext=True"):
        psycopg_opener(sslmode=mode)
    psycopg_opener(sslmode=mode, plaintext=True)


def test_the_environment_does_not_weaken_it(
    postgresql_without_tls: PgserverServer, authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "disable")
    with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
        connect_psycopg(
            client_at(postgresql_without_tls, dbname="postgres"), sslrootcert=str(authority.ca_file)
        )


def test_a_connection_that_turned_out_unencrypted_is_closed(
    postgresql_without_tls: PgserverServer,
) -> None:
    """As over a Unix socket, for which libpq passes sslmode over."""
    opened: list[psycopg.Connection[Any]] = []

    def connect(**options: Any) -> psycopg.Connection[Any]:  # noqa: ANN401 - the driver's
        opened.append(psycopg.connect(**{**options, "sslmode": "disable"}))
        return opened[-1]

    opener = psycopg_opener(connect=connect)
    with pytest.raises(TlsVerificationError):
        client_at(postgresql_without_tls, dbname="postgres").login(opener.open, opener.is_refusal)
    assert [c.closed for c in opened] == [True]


# asyncpg and asyncmy


def test_asyncpg_over_verified_tls(postgresql: PostgresServer) -> None:
    async def work() -> None:
        client = AsyncCredentialClient(client_at(postgresql, dbname="postgres"))
        connection = await connect_asyncpg(client, ssl_ca=str(postgresql.ca_file))
        assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        await connection.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect_asyncpg(client)

    asyncio.run(work())


def test_asyncpg_without_tls(postgresql_without_tls: PgserverServer) -> None:
    async def work() -> None:
        client = AsyncCredentialClient(client_at(postgresql_without_tls, dbname="postgres"))
        with pytest.raises(ConnectionError, match="rejected SSL upgrade"):
            await connect_asyncpg(client)
        await (await connect_asyncpg(client, plaintext=True)).close()

    asyncio.run(work())


def test_asyncmy_without_tls(mariadb_without_tls: MariaDbServer) -> None:
    async def work() -> None:
        client = AsyncCredentialClient(client_at(mariadb_without_tls))
        opener = asyncmy_opener(ssl_ca=str(mariadb_without_tls.ca_file), connect_timeout=30)
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is, it is no refusal
            await client.login(opener.open, opener.is_refusal)
        assert not opener.is_refusal(caught.value)
        consenting = asyncmy_opener(plaintext=True)
        (await client.login(consenting.open, consenting.is_refusal)).close()

    asyncio.run(work())


@pytest.mark.parametrize("mode", ["require", "prefer", "disable", "verify-ca"])
def test_asyncpg_modes_that_verify_less_take_consent(mode: str) -> None:
    with pytest.raises(ValueError, match="plaintext=True"):
        asyncpg_opener(ssl=mode)
    asyncpg_opener(ssl=mode, plaintext=True)


@pytest.mark.parametrize(
    ("pool", "options"),
    [
        (asyncpg_pool, {"ssl": "require"}),
        (psycopg_async_pool, {"sslmode": "require"}),
        (psycopg_pool, {"sslmode": "require"}),
    ],
)
def test_a_pool_with_options_that_verify_less_is_an_error_at_once(
    pool: Callable[..., Any], options: dict[str, Any]
) -> None:
    def never() -> ClientCredential:
        raise AssertionError

    client: Any = CredentialClient([never])
    with pytest.raises(ValueError, match="plaintext=True"):
        pool(client, overlap_seconds=600, options=options)
