"""The sandbox's databases keep what they promise: who gets in, and that nothing outlives its owner."""

import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pg8000.native  # type: ignore[import-untyped]  # pg8000 ships no type information
import pymysql
import pytest

from sandbox.emulators.databases import (
    CertificateAuthority,
    DatabaseServer,
    MariaDbServer,
    MySqlServer,
    PgserverServer,
    PostgresServer,
    ServerStartError,
    available,
)
from sandbox.emulators.databases.mysql_family import MySqlFamilyServer
from sandbox.emulators.databases.process import SupervisedProcess, poll_until
from sandbox.emulators.databases.supervisor import processes

TlsServer = MariaDbServer | MySqlServer | PostgresServer
Kind = type[TlsServer] | type[PgserverServer]

TLS_SERVERS: tuple[Kind, ...] = (MariaDbServer, MySqlServer, PostgresServer)
ALL_SERVERS: tuple[Kind, ...] = (*TLS_SERVERS, PgserverServer)
# A process that has a server, says what belongs to it, and waits for its end.
OWNER = """
import sys, threading
from pathlib import Path
from sandbox.emulators import databases
name, folder = sys.argv[1:]
tls = {} if name == "PgserverServer" else {"authority": databases.CertificateAuthority(Path(folder))}
server = getattr(databases, name)(**tls)
with databases.running(server):
    print(server.home, *server.process_ids(), flush=True)
    threading.Event().wait()
"""
CLIENT_SECONDS = 30.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def make(authority: CertificateAuthority) -> Callable[..., DatabaseServer]:
    def make_server(kind: Kind, **options: Any) -> DatabaseServer:  # noqa: ANN401  what each kind takes
        if not available()[kind]:
            pytest.skip(available()[kind].missing)
        if issubclass(kind, PgserverServer):
            return kind(**options)
        return kind(authority=authority, **options)

    return make_server


@pytest.fixture(scope="module", params=ALL_SERVERS)
def server(request: pytest.FixtureRequest, make: Callable[..., DatabaseServer]) -> Iterator[DatabaseServer]:
    """A server shared by the tests that leave it as it is."""
    with make(request.param, general_log=True) as started:
        yield started


@pytest.fixture(params=ALL_SERVERS)
def own_server(
    request: pytest.FixtureRequest, make: Callable[..., DatabaseServer]
) -> Iterator[DatabaseServer]:
    """A server that a test may ill-treat."""
    with make(request.param) as started:
        yield started


def tls(server: DatabaseServer) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=server.ca_file) if server.ca_file else None


def ask(
    server: DatabaseServer,
    question: str,
    *,
    context: ssl.SSLContext | None,
    password: str | None = None,
) -> object:
    """One value, over a connection of the test's own; without a context in plaintext."""
    password = server.superuser_password if password is None else password
    if isinstance(server, MySqlFamilyServer):
        with (
            pymysql.connect(
                host=server.host,
                port=server.port,
                user=server.superuser,
                password=password,
                ssl=context,
                ssl_disabled=context is None,
                connect_timeout=CLIENT_SECONDS,
                read_timeout=CLIENT_SECONDS,
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(question)
            return cursor.fetchall()[0][0]
    with closing(
        pg8000.native.Connection(
            server.superuser,
            host=server.host,
            port=server.port,
            password=password,
            ssl_context=context or False,
            timeout=CLIENT_SECONDS,
        )
    ) as session:
        return session.run(question)[0][0]


def sqlstate_or_code(error: Exception) -> object:
    """What identifies an error: PostgreSQL's SQLSTATE, the number of the others."""
    return error.args[0]["C"] if isinstance(error, pg8000.native.DatabaseError) else error.args[0]


def listens(server: DatabaseServer) -> bool:
    with socket.socket() as probe:
        probe.settimeout(CLIENT_SECONDS)
        return probe.connect_ex(("127.0.0.1", server.port)) == 0


def live(pids: frozenset[int]) -> set[int]:
    return {p.pid for p in processes() if p.pid in pids and p.state != "Z"}


def test_only_the_superusers_password_over_tls_gets_in(server: DatabaseServer, tmp_path: Path) -> None:
    question = "SELECT version()" if isinstance(server, MySqlFamilyServer) else "SHOW server_version"
    assert str(ask(server, question, context=tls(server))).startswith(server.version)
    denied = (pymysql.OperationalError, pg8000.native.DatabaseError)
    with pytest.raises(denied) as refused:
        ask(server, "SELECT 1", context=tls(server), password="wrong")
    # ER_ACCESS_DENIED_ERROR; invalid_password.
    assert sqlstate_or_code(refused.value) in {1045, "28P01"}
    if server.ca_file is None:
        return  # Built without TLS.
    with pytest.raises(denied) as refused:
        ask(server, "SELECT 1", context=None)
    # ER_SECURE_TRANSPORT_REQUIRED; invalid_authorization_specification.
    assert sqlstate_or_code(refused.value) in {3159, "28000"}
    stranger = ssl.create_default_context(cafile=CertificateAuthority(tmp_path).ca_file)
    with pytest.raises((ssl.SSLCertVerificationError, pymysql.OperationalError), match="verify failed"):
        ask(server, "SELECT 1", context=stranger)


def test_the_superusers_password_is_nowhere_to_be_read(server: DatabaseServer) -> None:
    password = server.superuser_password
    assert password not in repr(server)
    files = [Path(f"/proc/{pid}/{kind}") for pid in server.process_ids() for kind in ("cmdline", "environ")]
    for file in [*files, *server.home.rglob("*")]:
        # A worker of the server may end, and its files go, while they are looked at.
        with suppress(FileNotFoundError, ProcessLookupError):
            assert not file.is_file() or password.encode() not in file.read_bytes(), file


def test_data_survive_a_crash_and_a_stop_which_leave_no_process(own_server: DatabaseServer) -> None:
    port = own_server.port
    own_server.execute_as_superuser("CREATE DATABASE shop")
    own_server.execute_as_superuser(["CREATE TABLE t (n int)", "INSERT INTO t VALUES (7)"], database="shop")
    for end in (own_server.kill, own_server.stop):
        pids = own_server.process_ids()
        assert len(pids) > 1
        end()
        assert not own_server.is_running()
        assert not listens(own_server)
        assert (live(pids), own_server.process_ids()) == (set(), frozenset())
        own_server.start()
        assert own_server.port == port
        assert own_server.execute_as_superuser("SELECT n FROM t", database="shop") == [(7,)]


@pytest.mark.parametrize("kind", ALL_SERVERS)
def test_a_failed_start_shows_its_log(kind: Kind, make: Callable[..., DatabaseServer]) -> None:
    server = make(kind, settings={"no_such_setting": "1"})
    with pytest.raises(ServerStartError, match=r"(?s)ended while starting.*no.such.setting"), server:
        pytest.fail("it started")
    assert server.process_ids() == frozenset()


class TestSupervision:
    def test_orphans_end_with_the_command(self, tmp_path: Path) -> None:
        command = ["/bin/sh", "-c", "sleep 600 & setsid sleep 600 & touch up; sleep 600"]
        shell = SupervisedProcess(command, log_file=tmp_path / "log", folder=tmp_path)
        assert poll_until((tmp_path / "up").exists, timeout_seconds=CLIENT_SECONDS)
        assert poll_until(lambda: len(shell.tree()) == 5, timeout_seconds=CLIENT_SECONDS)
        pids = shell.tree()
        shell.kill()
        assert live(pids) == set()

    def test_a_server_ends_with_its_supervisor(self, own_server: DatabaseServer) -> None:
        pids = own_server.process_ids()
        (supervisor,) = (p.pid for p in processes() if p.pid in pids and p.parent == os.getpid())
        os.kill(supervisor, signal.SIGKILL)
        assert poll_until(lambda: not live(pids), timeout_seconds=CLIENT_SECONDS)
        assert not own_server.is_running()

    @pytest.mark.parametrize("kind", ALL_SERVERS)
    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
    def test_nothing_outlives_the_owner(
        self, kind: Kind, how: signal.Signals, make: Callable[..., DatabaseServer], tmp_path: Path
    ) -> None:
        make(kind)  # or skip
        owner = subprocess.Popen(  # noqa: S603  a program of ours
            [sys.executable, "-c", OWNER, kind.__name__, tmp_path],
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert owner.stdout is not None
        with owner.stdout:
            home, *pids = owner.stdout.readline().split()
        # To the group, as a terminal does it.
        os.killpg(owner.pid, how)
        owner.wait(CLIENT_SECONDS)
        assert pids
        assert poll_until(
            lambda: not live(frozenset(map(int, pids))) and not Path(home).exists(),
            timeout_seconds=CLIENT_SECONDS,
        )
