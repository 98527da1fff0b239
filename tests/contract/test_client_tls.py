"""No password crosses a network unencrypted, unless the application consents in as many words."""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import psycopg
import pymysql
import pytest
from pymysql.constants import CR
from sqlalchemy import create_engine

from lockstep.client import (
    AsyncCredentialClient,
    ClientCredential,
    CredentialClient,
    asyncpg_pool,
    attach_sqlalchemy,
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
from sandbox.emulators.databases import CertificateAuthority, MariaDbServer, PgserverServer, PostgresServer
from tests.support.servers import require
from tests.unit.client_world import log_in

pytest_plugins = ["tests.contract.database_fixtures"]

PASSWORD = "a-password-of-an-application"
Server = TypeVar("Server", PostgresServer, PgserverServer)


@pytest.fixture(scope="module")
def mariadb(authority: CertificateAuthority) -> Iterator[MariaDbServer]:
    """With TLS, and for the tests that ask for that started again without it."""
    require(MariaDbServer)
    with MariaDbServer(authority=authority) as server:
        server.execute_as_superuser(f"CREATE USER app@'%' IDENTIFIED BY '{PASSWORD}'")
        yield server


@pytest.fixture(scope="module")
def mariadb_without_tls(mariadb: MariaDbServer) -> MariaDbServer:
    mariadb.stop()
    mariadb.settings = {"require_secure_transport": "OFF", "ssl": "OFF"}
    mariadb.start()
    return mariadb


@pytest.fixture(scope="module")
def postgresql(postgres_server: PostgresServer) -> PostgresServer:
    return with_app(postgres_server)


@pytest.fixture(scope="module")
def postgresql_without_tls(pgserver_server: PgserverServer) -> PgserverServer:
    return with_app(pgserver_server)


def with_app(server: Server) -> Server:
    server.execute_as_superuser(["DROP ROLE IF EXISTS app", f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'"])
    return server


def client_at(server: Any, **more: str) -> CredentialClient:  # noqa: ANN401 - any of the sandbox
    where = {"host": server.host, "port": server.port, **more}
    if server.product == "PostgreSQL":
        where["dbname"] = "postgres"
    login = ClientCredential(username="app", password=SecretStr(PASSWORD), generation=1, connection=where)
    return CredentialClient([lambda: login])


# Over TLS that verifies


def test_each_way_to_give_pymysql_a_ca(mariadb: MariaDbServer) -> None:
    """Those of the other drivers: tests/statemachine/test_client.py, whose servers take no login without TLS."""
    ca = str(mariadb.ca_file)
    for options in ({"ssl_ca": ca}, {"ssl": ssl.create_default_context(cafile=ca)}):
        with connect_pymysql(client_at(mariadb), **options) as connection, connection.cursor() as cursor:
            cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
            assert (cursor.fetchone() or [""])[1] != ""
    engine = create_engine(f"mysql+pymysql://?ssl_ca={ca}")
    attach_sqlalchemy(engine, client_at(mariadb), overlap_seconds=600)
    engine.connect().close()


def test_a_certificate_of_somebody_else(mariadb: MariaDbServer, postgresql: PostgresServer) -> None:
    of_mariadb: list[tuple[CredentialClient, dict[str, Any]]] = [
        (client_at(mariadb), {}),
        (client_at(mariadb, host="127.1"), {"ssl_ca": str(mariadb.ca_file)}),
    ]
    for client, options in of_mariadb:
        with pytest.raises(pymysql.OperationalError, match="certificate verify failed"):
            connect_pymysql(client, **options)
    client = client_at(postgresql)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        connect_psycopg(client, sslrootcert="system")
    with pytest.raises(ssl.SSLCertVerificationError):
        log_in(connect_asyncpg, client)
    with pytest.raises(ValueError, match="of TLS give `ssl_ca`, or a context"):
        connect_pymysql(client, ssl=ssl.create_default_context(), ssl_ca=str(mariadb.ca_file))


# Servers without it


def test_mysql_without_tls(mariadb_without_tls: MariaDbServer) -> None:
    client, ca = client_at(mariadb_without_tls), str(mariadb_without_tls.ca_file)
    with pytest.raises(pymysql.OperationalError) as caught:
        connect_pymysql(client, ssl_ca=ca)
    assert caught.value.args[0] == CR.CR_SSL_CONNECTION_ERROR  # It sent nothing.
    connect_pymysql(client, plaintext=True).close()

    async def asynchronously() -> None:
        client = AsyncCredentialClient(client_at(mariadb_without_tls))
        opener = asyncmy_opener(ssl_ca=ca, connect_timeout=30)
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is, it is no refusal
            await client.login(opener.open, opener.is_refusal)
        assert not opener.is_refusal(caught.value)
        consenting = asyncmy_opener(plaintext=True)
        (await client.login(consenting.open, consenting.is_refusal)).close()

    asyncio.run(asynchronously())


def test_postgresql_without_tls(
    postgresql_without_tls: PgserverServer, authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment does not weaken it."""
    client, ca = client_at(postgresql_without_tls), str(authority.ca_file)
    for mode in (None, "disable"):
        if mode:
            monkeypatch.setenv("PGSSLMODE", mode)
        for connect in (connect_psycopg, connect_psycopg_async):
            with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
                log_in(connect, client, sslrootcert=ca)
    with pytest.raises(ConnectionError, match="rejected SSL upgrade"):
        log_in(connect_asyncpg, client)
    for connect in (connect_psycopg, connect_asyncpg):
        log_in(connect, client, plaintext=True)


def test_a_driver_that_goes_on_in_plaintext_is_hung_up_on(postgresql_without_tls: PgserverServer) -> None:
    """As libpq does over a Unix socket, for which it passes sslmode over."""
    opened: list[Any] = []

    def by_psycopg(**options: Any) -> Any:  # noqa: ANN401 - the driver's
        opened.append(psycopg.connect(**{**options, "sslmode": "disable"}))
        return opened[-1]

    opener = psycopg_opener(connect=by_psycopg)
    with pytest.raises(TlsVerificationError):
        client_at(postgresql_without_tls).login(opener.open, opener.is_refusal)
    assert opened[0].closed


# Options that verify less take consent

WEAK_CONTEXT = ssl.create_default_context()
WEAK_CONTEXT.check_hostname = False
WEAK: list[tuple[Callable[..., object], dict[str, Any]]] = [
    *((pymysql_opener, {f"ssl_{name}": False}) for name in ("disabled", "verify_cert", "verify_identity")),
    *(
        (pymysql_opener, {"ssl": ssl})
        for ssl in ({"check_hostname": False}, {"verify_mode": "none"}, WEAK_CONTEXT)
    ),
    *((psycopg_opener, {"sslmode": m}) for m in ("disable", "allow", "prefer", "require", "verify-ca")),
    *((asyncpg_opener, {"ssl": mode}) for mode in ("disable", "prefer", "require", "verify-ca")),
]


@pytest.mark.parametrize(("opener", "options"), WEAK)
def test_what_verifies_less_takes_consent(opener: Callable[..., object], options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="plaintext=True"):
        opener(**options)
    opener(plaintext=True, **options)


def test_a_pool_that_verifies_less_is_an_error_at_once() -> None:
    never = CredentialClient([list[ClientCredential]().pop])
    pools: list[Callable[..., object]] = [psycopg_pool, psycopg_async_pool, asyncpg_pool]
    for pool, option in zip(pools, ("sslmode", "sslmode", "ssl"), strict=True):
        with pytest.raises(ValueError, match="plaintext=True"):
            pool(never, overlap_seconds=600, options={option: "require"})
