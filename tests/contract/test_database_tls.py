"""A password goes only to the server that the plan names, and an outage is never taken for an attack."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lockstep.protocol.errors import (
    DatabaseBusyError,
    DatabaseUnreachableError,
    LockstepError,
    TlsVerificationError,
)
from lockstep.protocol.model import AdminSecret, DatabaseServer, Engine, Login, SecretStr, Strategy, Tls
from lockstep.protocol.ports import Database
from lockstep.runtime.clouds import open_database
from sandbox.emulators.databases import CertificateAuthority, MariaDbServer, PgserverServer, PostgresServer
from tests.contract.database_harness import (
    ADMIN,
    DATABASE,
    Kind,
    SqlHarness,
    each_engine,
    enter,
    fails,
    make_credential,
    worlds,
)
from tests.support.mysql_relay import hide_tls, relay
from tests.support.peer import peer
from tests.support.servers import require
from tests.support.statement_faults import mysql_error

pytest_plugins = ["tests.contract.database_fixtures"]

LOGIN = Login("nobody", SecretStr("nothing"))
MARIADB, MYSQL, POSTGRESQL = Engine.MARIADB, Engine.MYSQL, Engine.POSTGRESQL


def database_at(
    port: int, engine: Engine, authority: CertificateAuthority, host: str = "localhost"
) -> Database:
    server = DatabaseServer(
        name="main",
        engine=engine,
        host=host,
        port=port,
        dbname=DATABASE,
        tls=Tls(ca_file=authority.ca_file),
        admin=AdminSecret(aws="admin", oci="admin"),
    )
    return open_database(server, make_credential(Strategy.ALTERNATING_USERS), lambda: ADMIN)


def require_failure(database: Database, kind: type[LockstepError]) -> None:
    with fails(kind):
        database.accepts(LOGIN)
    with fails(kind):
        enter(database)


# Real servers


@each_engine
def test_a_certificate_that_does_not_verify_is_refused(world: SqlHarness, tmp_path: Path) -> None:
    """It is for another name, or of another authority; a CA file that is missing or none is an error at once."""
    other = CertificateAuthority(tmp_path)
    for elsewhere in (world.planned(host="127.0.0.1"), world.planned(ca_file=other.ca_file)):
        require_failure(world.open(host=elsewhere.host, tls=elsewhere.tls), TlsVerificationError)
    (tmp_path / "none.pem").write_text("no certificate")
    for name in ("missing.pem", "none.pem"):
        with fails(TlsVerificationError):
            world.open(tls=Tls(ca_file=tmp_path / name))


def test_an_expired_certificate_is_refused(authority: CertificateAuthority) -> None:
    kinds: dict[Engine, Any] = {MARIADB: MariaDbServer, POSTGRESQL: PostgresServer}
    expired = authority.issue_expired("localhost")
    for engine, kind in kinds.items():
        require(kind)
        with kind(authority=authority, certificate=expired) as server:
            require_failure(database_at(server.port, engine, authority), TlsVerificationError)


def test_without_tls_no_password_is_sent(
    authority: CertificateAuthority, pgserver_server: PgserverServer
) -> None:
    require_failure(database_at(pgserver_server.port, POSTGRESQL, authority), TlsVerificationError)
    settings = {"require_secure_transport": "OFF", "ssl": "OFF"}
    with MariaDbServer(authority=authority, settings=settings, general_log=True) as mariadb:
        logged = mariadb.watch_general_log()
        require_failure(database_at(mariadb.port, MARIADB, authority), TlsVerificationError)
        assert LOGIN.username not in logged.added()


def test_plaintext_is_what_the_plan_says_in_as_many_words(authority: CertificateAuthority) -> None:
    """On a server of its own: the rotation user of a shared one requires TLS."""
    settings = {"require_secure_transport": "OFF"}
    with MariaDbServer(authority=authority, settings=settings, general_log=True) as server:
        server.execute_as_superuser(f"CREATE DATABASE {DATABASE}")
        logged = server.watch_general_log()
        world = SqlHarness(server, Kind("", MARIADB, Strategy.DUAL_PASSWORD, plaintext=True))
        world.stage(None, 1)
        assert world.accepted(1) == [True]
        assert getattr(world.database, "plaintext")  # noqa: B009 - of every real one
        assert f"{world.credential.usernames[0]}@127.0.0.1 on {DATABASE} using TCP/IP" in logged.added()
        server.execute_as_superuser("SET GLOBAL require_secure_transport = ON")
        require_failure(world.database, TlsVerificationError)


@worlds("mysql-dual")
def test_a_hidden_tls_offer_is_no_reason_to_do_without(world: SqlHarness) -> None:
    said: list[bytes] = []
    with relay(world.sandbox.port, hide_tls, said) as port:
        require_failure(world.open(port=port), TlsVerificationError)
    assert b"".join(said) == b""


# Peers that are none

Answer = Callable[[socket.socket], None]


def first(packet: bytes) -> Answer:
    return lambda connection: connection.sendall(packet)


def to_request(answer: bytes) -> Answer:
    def reply(connection: socket.socket) -> None:
        connection.recv(8)
        connection.sendall(answer)

    return reply


PEERS = [
    # A third party could forge this answer, and a password would count as revoked.
    ("access denied before TLS", first(mysql_error(1045, sequence=0)), TlsVerificationError),
    ("too many connections", first(mysql_error(1040, sequence=0)), DatabaseBusyError),
    ("shutting down", first(mysql_error(1053, sequence=0)), DatabaseUnreachableError),
    ("nothing", first(b""), DatabaseUnreachableError),
    ("half a packet", first(b"\x4a\0\0"), DatabaseUnreachableError),
]
POSTGRESQL_PEERS = [
    ("no TLS", to_request(b"N"), TlsVerificationError),
    ("an error", to_request(b"E"), TlsVerificationError),
    ("nothing", to_request(b""), DatabaseUnreachableError),
    ("yes, and the end", to_request(b"S"), DatabaseUnreachableError),
    ("no handshake", to_request(b"Snonsense in place of a handshake"), TlsVerificationError),
]
ROWS = [
    *((engine, *row) for row in PEERS for engine in (MARIADB, MYSQL)),
    *((POSTGRESQL, *row) for row in POSTGRESQL_PEERS),
]


@pytest.mark.parametrize(
    ("engine", "answer", "kind"),
    [pytest.param(engine, answer, kind, id=f"{engine}: {name}") for engine, name, answer, kind in ROWS],
)
def test_what_a_peer_says_before_tls(
    authority: CertificateAuthority, engine: Engine, answer: Answer, kind: type[LockstepError]
) -> None:
    with peer(answer) as port:
        require_failure(database_at(port, engine, authority), kind)


@worlds("mariadb-dual")
def test_a_mysql_handshake_that_is_cut_short_is_an_outage(world: SqlHarness) -> None:
    with socket.create_connection(("127.0.0.1", world.sandbox.port)) as real:
        greeting = real.recv(1024)

    def greet(connection: socket.socket) -> None:
        connection.sendall(greeting)
        connection.recv(36)

    with peer(greet) as port:
        require_failure(world.open(port=port), DatabaseUnreachableError)


@pytest.mark.parametrize("engine", Engine)
def test_a_port_without_a_server_is_unreachable(authority: CertificateAuthority, engine: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for host in ("localhost", "nowhere.invalid"):
        require_failure(database_at(port, engine, authority, host), DatabaseUnreachableError)
