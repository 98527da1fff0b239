"""A password goes only to the server that is named, over TLS that verifies, and an outage is never an attack.

It is so for the runners, and for the client in an application, unless that consents to less in as many words.
"""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from socket import create_connection, create_server, socket
from typing import Any

import psycopg
import pymysql
import pytest
from pymysql.constants import CR
from sqlalchemy import create_engine

from lockstep import client as clients
from lockstep.client.drivers import asyncmy_opener, asyncpg_opener, psycopg_opener, pymysql_opener
from lockstep.protocol import errors
from lockstep.protocol.model import Engine, Login, SecretStr, Strategy, Tls
from lockstep.protocol.ports import Database
from lockstep.runtime.clouds import open_database
from sandbox.emulators.databases import CertificateAuthority, MariaDbServer, PgserverServer, PostgresServer
from tests.contract import database_harness as db
from tests.support.peer import peer, relay
from tests.support.statement_faults import mysql_error
from tests.unit.test_client import log_in

pytest_plugins = ["tests.contract.database_harness"]

LOGIN = Login("nobody", SecretStr("nothing"))
MARIADB, MYSQL, POSTGRESQL = Engine.MARIADB, Engine.MYSQL, Engine.POSTGRESQL


def database_at(
    port: int, engine: Engine, authority: CertificateAuthority, host: str = "localhost"
) -> Database:
    server = db.planned(engine, port, Tls(ca_file=authority.ca_file), host)
    return open_database(server, db.make_credential(Strategy.ALTERNATING_USERS), lambda: db.ADMIN)


def require_failure(database: Database, kind: type[errors.LockstepError]) -> None:
    with db.fails(kind):
        database.accepts(LOGIN)
    with db.fails(kind):
        db.enter(database)


# Real servers


@db.each_engine
def test_a_certificate_that_does_not_verify_is_refused(world: db.SqlHarness, tmp_path: Path) -> None:
    """It is for another name, or of another authority; a CA file that is missing or none is an error at once."""
    other = CertificateAuthority(tmp_path)
    for database in (world.open(host="127.0.0.1"), world.open(tls=Tls(ca_file=other.ca_file))):
        require_failure(database, errors.TlsVerificationError)
    (tmp_path / "none.pem").write_text("no certificate")
    for name in ("missing.pem", "none.pem"):
        with db.fails(errors.TlsVerificationError):
            world.open(tls=Tls(ca_file=tmp_path / name))


@db.worlds("mariadb-dual")
def test_plaintext_is_what_the_plan_says_in_as_many_words(world: db.SqlHarness) -> None:
    world.stage(None, 1)
    plain, logged = world.open(tls=None), world.sandbox.watch_general_log()
    with db.fails(errors.TlsVerificationError):
        plain.accepts(world.login(1))
    world.run("{alter} REQUIRE NONE; SET GLOBAL require_secure_transport = OFF")
    assert plain.accepts(world.login(1))
    world.run("SET GLOBAL require_secure_transport = ON")
    assert getattr(plain, "plaintext")  # noqa: B009 - of every real one
    assert f"{world.credential.usernames[0]}@127.0.0.1 on {db.DATABASE} using TCP/IP" in logged.added()


@db.worlds("mysql-dual")
def test_a_hidden_tls_offer_is_no_reason_to_do_without(world: db.SqlHarness) -> None:
    """Neither a password nor a token is sent, for which whoever is in between could ask in clear text."""
    with relay(world.sandbox.port) as (port, said):
        require_failure(world.open(port=port), errors.TlsVerificationError)
    assert b"".join(said) == b""


# Peers that are none

Answer = Callable[[socket], None]


def first(packet: bytes) -> Answer:
    return lambda connection: connection.sendall(packet)


def to_request(answer: bytes) -> Answer:
    def reply(connection: socket) -> None:
        connection.recv(8)
        connection.sendall(answer)

    return reply


GONE = errors.DatabaseUnreachableError
PEERS = [
    # A third party could forge this answer, and a password would count as revoked.
    ("access denied before TLS", first(mysql_error(1045, sequence=0)), errors.TlsVerificationError),
    ("too many connections", first(mysql_error(1040, sequence=0)), errors.DatabaseBusyError),
    # No quorum in a cluster, or shutting down.
    *((f"error {n}", first(mysql_error(n, sequence=0)), GONE) for n in (1047, 1053, 3098, 3100, 3101)),
    ("nothing", first(b""), errors.DatabaseUnreachableError),
    ("half a packet", first(b"\x4a\0\0"), errors.DatabaseUnreachableError),
]
POSTGRESQL_PEERS = [
    ("no TLS", to_request(b"N"), errors.TlsVerificationError),
    ("an error", to_request(b"E"), errors.TlsVerificationError),
    ("nothing", to_request(b""), errors.DatabaseUnreachableError),
    ("yes, and the end", to_request(b"S"), errors.DatabaseUnreachableError),
    ("no handshake", to_request(b"Snonsense in place of a handshake"), errors.TlsVerificationError),
]
ROWS = [(MYSQL, *row) for row in PEERS] + [(POSTGRESQL, *row) for row in POSTGRESQL_PEERS]


@pytest.mark.parametrize(
    ("engine", "answer", "kind"),
    [pytest.param(engine, answer, kind, id=f"{engine}: {name}") for engine, name, answer, kind in ROWS],
)
def test_what_a_peer_says_before_tls(
    authority: CertificateAuthority, engine: Engine, answer: Answer, kind: type[errors.LockstepError]
) -> None:
    with peer(answer) as port:
        require_failure(database_at(port, engine, authority), kind)


@db.worlds("mariadb-dual")
def test_a_mysql_handshake_that_is_cut_short_is_an_outage(world: db.SqlHarness) -> None:
    with create_connection(("127.0.0.1", world.sandbox.port)) as real:
        greeting = real.recv(1024)

    def greet(connection: socket) -> None:
        connection.sendall(greeting)
        connection.recv(36)

    with peer(greet) as port:
        require_failure(world.open(port=port), errors.DatabaseUnreachableError)


@pytest.mark.parametrize("engine", [MYSQL, POSTGRESQL])
def test_a_port_without_a_server_is_unreachable(authority: CertificateAuthority, engine: Engine) -> None:
    with create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for host in ("localhost", "nowhere.invalid"):
        require_failure(database_at(port, engine, authority, host), errors.DatabaseUnreachableError)


# The client in an application

PASSWORD = "a-password-of-an-application"


@pytest.fixture(scope="module")
def mariadb(mariadb_server: MariaDbServer) -> MariaDbServer:
    mariadb_server.execute_as_superuser(f"CREATE OR REPLACE USER app@'%' IDENTIFIED BY '{PASSWORD}'")
    return mariadb_server


@pytest.fixture(scope="module")
def postgresqls(
    postgres_server: PostgresServer, pgserver_server: PgserverServer
) -> tuple[PostgresServer, PgserverServer]:
    """The second one has no TLS."""
    for server in (postgres_server, pgserver_server):
        made = f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'"
        server.execute_as_superuser(["DROP ROLE IF EXISTS app", made])
    return postgres_server, pgserver_server


def client_at(server: Any, **more: str | int) -> clients.CredentialClient:  # noqa: ANN401 - any of the sandbox
    where = {"host": "localhost", "port": server.port, **more}
    if server.product == "PostgreSQL":
        where["dbname"] = "postgres"
    login = clients.ClientCredential(
        username="app", password=SecretStr(PASSWORD), generation=1, connection=where
    )
    return clients.CredentialClient([lambda: login])


def test_the_client_shows_a_login_to_the_server_alone_whose_certificate_verifies(
    mariadb: MariaDbServer, postgresqls: tuple[PostgresServer, PgserverServer]
) -> None:
    """By each way to give PyMySQL a CA. Those of other drivers: tests/statemachine/test_client.py."""
    ca, client = str(mariadb.ca_file), client_at(mariadb)
    ways: list[dict[str, Any]] = [{"ssl_ca": ca}, {"ssl": ssl.create_default_context(cafile=ca)}]
    for options in ways:
        clients.connect_pymysql(client, **options).close()
    engine = create_engine(f"mysql+pymysql://?ssl_ca={ca}")
    clients.attach_sqlalchemy(engine, client, overlap_seconds=600)
    engine.connect().close()
    for wrong, options in ((client, dict[str, Any]()), (client_at(mariadb, host="127.1"), ways[0])):
        with pytest.raises(pymysql.OperationalError, match="certificate verify failed"):
            clients.connect_pymysql(wrong, **options)
    with pytest.raises(ValueError, match="of TLS give `ssl_ca`, or a context"):
        clients.connect_pymysql(client, ssl=ssl.create_default_context(), ssl_ca=ca)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        clients.connect_psycopg(client_at(postgresqls[0]), sslrootcert="system")
    with pytest.raises(ssl.SSLCertVerificationError):
        log_in(clients.connect_asyncpg, client_at(postgresqls[0]))


def test_the_client_and_a_mysql_without_tls(mariadb: MariaDbServer) -> None:
    ca, said = str(mariadb.ca_file), list[bytes]()
    with create_connection(("127.0.0.1", mariadb.port)) as real:
        greeting = real.recv(1024)

    def greet(connection: socket) -> None:
        """As a server does that knows nothing of TLS: what follows the request for it is nonsense there."""
        connection.sendall(greeting)
        said.append(connection.recv(65536))

    async def asynchronously(plain_port: int) -> None:
        face = clients.AsyncCredentialClient(client_at(mariadb, port=plain_port))
        consenting, opener = asyncmy_opener(plaintext=True), asyncmy_opener(ssl_ca=ca, connect_timeout=30)
        (await face.login(consenting.open, consenting.is_refusal)).close()
        with peer(greet) as port:
            face = clients.AsyncCredentialClient(client_at(mariadb, port=port))
            with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is, it is no refusal
                await face.login(opener.open, opener.is_refusal)
        assert not opener.is_refusal(caught.value)

    mariadb.execute_as_superuser("SET GLOBAL require_secure_transport = OFF")
    with relay(mariadb.port) as (port, _):
        client = client_at(mariadb, port=port)
        with pytest.raises(pymysql.OperationalError) as caught:
            clients.connect_pymysql(client, ssl_ca=ca)
        assert caught.value.args[0] == CR.CR_SSL_CONNECTION_ERROR  # It sent nothing.
        clients.connect_pymysql(client, plaintext=True).close()
        asyncio.run(asynchronously(port))
    mariadb.execute_as_superuser("SET GLOBAL require_secure_transport = ON")
    assert said
    assert b"app" not in b"".join(said)


def test_the_client_and_a_postgresql_without_tls(
    postgresqls: tuple[PostgresServer, PgserverServer],
    authority: CertificateAuthority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The environment does not weaken it. As libpq does over a Unix socket, a driver may pass sslmode over."""
    client, ca = client_at(postgresqls[1]), str(authority.ca_file)
    for mode in ("verify-full", "disable"):
        monkeypatch.setenv("PGSSLMODE", mode)
        for connect in (clients.connect_psycopg, clients.connect_psycopg_async):
            with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
                log_in(connect, client, sslrootcert=ca)
    with pytest.raises(ConnectionError, match="rejected SSL upgrade"):
        log_in(clients.connect_asyncpg, client)
    for connect in (clients.connect_psycopg, clients.connect_asyncpg):
        log_in(connect, client, plaintext=True)
    opened: list[Any] = []

    def by_psycopg(**options: Any) -> Any:  # noqa: ANN401 - the driver's
        opened.append(psycopg.connect(**{**options, "sslmode": "disable"}))
        return opened[-1]

    opener = psycopg_opener(connect=by_psycopg)
    with pytest.raises(errors.TlsVerificationError):
        client.login(opener.open, opener.is_refusal)
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
    never = clients.CredentialClient([list[clients.ClientCredential]().pop])
    pools: list[Callable[..., object]] = [
        clients.psycopg_pool,
        clients.psycopg_async_pool,
        clients.asyncpg_pool,
    ]
    for pool, option in zip(pools, ("sslmode", "sslmode", "ssl"), strict=True):
        with pytest.raises(ValueError, match="plaintext=True"):
            pool(never, overlap_seconds=600, options={option: "require"})
