"""A password goes only to the server that the plan names, and an outage is never taken for an attack."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from lockstep.protocol.errors import (
    DatabaseBusyError,
    DatabaseUnreachableError,
    LockstepError,
    TlsVerificationError,
)
from lockstep.protocol.model import AdminSecret, DatabaseServer, Engine, Login, SecretStr, Strategy, Tls
from lockstep.protocol.ports import Database
from lockstep.runtime.databases import open_database
from sandbox.emulators.databases import (
    CertificateAuthority,
    MariaDbServer,
    MySqlServer,
    PgserverServer,
    PostgresServer,
)
from tests.contract.database_harness import (
    ADMIN,
    DATABASE,
    MariaDbHarness,
    MySqlHarness,
    SqlHarness,
    fails,
    make_credential,
    value_of,
)
from tests.support.mysql_relay import CLIENT_SSL, Greeting, relay
from tests.support.peer import peer
from tests.support.servers import require
from tests.support.statement_faults import mysql_error

pytest_plugins = ["tests.contract.database_fixtures"]

each_engine = pytest.mark.parametrize("world", ["mariadb-dual", "mysql-dual", "postgresql"], indirect=True)


class PlaintextMariaDbHarness(MariaDbHarness):
    plaintext = True


LOGIN = Login("nobody", SecretStr("nothing"))


def database_at(port: int, engine: Engine, ca_file: Path, host: str = "localhost") -> Database:
    server = DatabaseServer(
        name="main",
        engine=engine,
        host=host,
        port=port,
        dbname="app_db",
        tls=Tls(ca_file=ca_file),
        admin=AdminSecret(aws="admin", oci="admin"),
    )
    credential = make_credential(Strategy.ALTERNATING_USERS)
    return open_database(server, credential, lambda: ADMIN)


def require_failure(database: Database, kind: type[LockstepError]) -> None:
    with fails(kind):
        database.accepts(LOGIN)
    with fails(kind), database.exclusive():
        pass


# Real servers


@each_engine
def test_a_certificate_for_another_name_is_refused(world: SqlHarness) -> None:
    require_failure(world.open(server=world.planned(host="127.0.0.1")), TlsVerificationError)


@each_engine
def test_a_certificate_of_another_authority_is_refused(world: SqlHarness, tmp_path: Path) -> None:
    other = CertificateAuthority(tmp_path)
    require_failure(world.open(server=world.planned(ca_file=other.ca_file)), TlsVerificationError)


@each_engine
def test_a_missing_or_invalid_ca_file_is_an_error_at_once(world: SqlHarness, tmp_path: Path) -> None:
    for content in (None, "no certificate"):
        if content:
            (tmp_path / "ca.pem").write_text(content)
        with fails(TlsVerificationError):
            world.open(server=world.planned(ca_file=tmp_path / "ca.pem"))


def test_an_expired_certificate_is_refused(authority: CertificateAuthority) -> None:
    for kind in (MariaDbServer, PostgresServer, MySqlServer):
        require(kind)
    expired = authority.issue_expired("localhost")
    with (
        MariaDbServer(authority=authority, certificate=expired) as mariadb,
        PostgresServer(authority=authority, certificate=expired) as postgres,
        MySqlServer(authority=authority, certificate=expired) as mysql,
    ):
        for server, engine in (
            (mariadb, Engine.MARIADB),
            (postgres, Engine.POSTGRESQL),
            (mysql, Engine.MYSQL),
        ):
            require_failure(database_at(server.port, engine, authority.ca_file), TlsVerificationError)


def test_a_server_without_tls_gets_no_password(
    authority: CertificateAuthority, pgserver_server: PgserverServer
) -> None:
    require_failure(
        database_at(pgserver_server.port, Engine.POSTGRESQL, authority.ca_file), TlsVerificationError
    )
    settings = {"require_secure_transport": "OFF", "ssl": "OFF"}
    with MariaDbServer(authority=authority, settings=settings, general_log=True) as mariadb:
        logged = mariadb.watch_general_log()
        require_failure(database_at(mariadb.port, Engine.MARIADB, authority.ca_file), TlsVerificationError)
        assert "nobody" not in logged.added()


@pytest.mark.parametrize("world", ["mysql-dual"], indirect=True)
def test_a_hidden_tls_offer_is_no_reason_to_do_without(world: MySqlHarness) -> None:
    def hide_tls(greeting: Greeting) -> Greeting:
        return replace(greeting, capabilities=greeting.capabilities & ~CLIENT_SSL)

    said: list[bytes] = []
    with relay(world.sandbox.port, hide_tls, said) as port:
        require_failure(world.open(server=structs.replace(world.server, port=port)), TlsVerificationError)
    assert b"".join(said) == b""


def test_plaintext_is_what_the_plan_says_in_as_many_words(authority: CertificateAuthority) -> None:
    settings = {"require_secure_transport": "OFF"}
    with MariaDbServer(authority=authority, settings=settings, general_log=True) as mariadb:
        mariadb.execute_as_superuser(f"CREATE DATABASE {DATABASE}")
        logged = mariadb.watch_general_log()
        world = PlaintextMariaDbHarness(mariadb, Strategy.DUAL_PASSWORD)
        assert world.database.plaintext
        with world.database.exclusive() as stager:
            stager.stage(current=None, pending=value_of(world, 1))
        assert world.database.accepts(value_of(world, 1).login)
        assert f"{world.credential.usernames[0]}@127.0.0.1 on {DATABASE} using TCP/IP" in logged.added()
        mariadb.execute_as_superuser("SET GLOBAL require_secure_transport = ON")
        require_failure(world.database, TlsVerificationError)


# Peers that are none


@pytest.mark.parametrize(
    ("first_packet", "kind"),
    [
        # A third party could forge this answer, and a password would count as revoked.
        (mysql_error(1045, sequence=0), TlsVerificationError),
        (mysql_error(1040, sequence=0), DatabaseBusyError),
        (mysql_error(1053, sequence=0), DatabaseUnreachableError),
        (b"", DatabaseUnreachableError),
        (b"\x4a\0\0", DatabaseUnreachableError),
    ],
)
@pytest.mark.parametrize("engine", [Engine.MARIADB, Engine.MYSQL])
def test_what_a_mysql_peer_says_before_tls(
    authority: CertificateAuthority, engine: Engine, first_packet: bytes, kind: type[LockstepError]
) -> None:
    with peer(lambda connection: connection.sendall(first_packet)) as port:
        require_failure(database_at(port, engine, authority.ca_file), kind)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"N", TlsVerificationError),
        (b"E", TlsVerificationError),
        (b"", DatabaseUnreachableError),
        (b"S", DatabaseUnreachableError),
        (b"Snonsense in place of a handshake", TlsVerificationError),
    ],
)
def test_what_a_postgresql_peer_says_before_tls(
    authority: CertificateAuthority, answer: bytes, kind: type[LockstepError]
) -> None:
    def reply(connection: socket.socket) -> None:
        connection.recv(8)
        connection.sendall(answer)

    with peer(reply) as port:
        require_failure(database_at(port, Engine.POSTGRESQL, authority.ca_file), kind)


@pytest.mark.parametrize("world", ["mariadb-dual"], indirect=True)
def test_a_mysql_handshake_that_is_cut_short_is_an_outage(
    world: SqlHarness, authority: CertificateAuthority
) -> None:
    with socket.create_connection(("127.0.0.1", world.sandbox.port)) as real:
        greeting = real.recv(1024)

    def greet(connection: socket.socket) -> None:
        connection.sendall(greeting)
        connection.recv(36)

    with peer(greet) as port:
        require_failure(database_at(port, Engine.MARIADB, authority.ca_file), DatabaseUnreachableError)


@pytest.mark.parametrize("engine", Engine)
def test_a_port_without_a_server_is_unreachable(authority: CertificateAuthority, engine: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    require_failure(database_at(port, engine, authority.ca_file), DatabaseUnreachableError)
    require_failure(database_at(port, engine, authority.ca_file, "nowhere.invalid"), DatabaseUnreachableError)
