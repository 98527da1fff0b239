"""The sandbox's databases keep what they promise: a server outlives no owner, and data outlive a crash.

Who gets in is seen by every test that logs in: tests/contract/test_database.py, tests/contract/test_database_tls.py.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sandbox.emulators.databases import (
    CertificateAuthority,
    DatabaseServer,
    MariaDbServer,
    MySqlServer,
    PgserverServer,
    PostgresServer,
)
from sandbox.emulators.databases.process import poll_until
from sandbox.emulators.databases.supervisor import processes
from tests.support.servers import require

each_kind = pytest.mark.parametrize("kind", [MariaDbServer, MySqlServer, PostgresServer, PgserverServer])
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
PATIENCE_SECONDS = 30.0


@pytest.fixture
def server(kind: Any, tmp_path: Path) -> Iterator[DatabaseServer]:  # noqa: ANN401 - one of four
    require(kind)
    tls = {} if kind is PgserverServer else {"authority": CertificateAuthority(tmp_path)}
    with kind(**tls) as started:
        yield started


def listens(server: DatabaseServer) -> bool:
    with socket.socket() as probe:
        probe.settimeout(PATIENCE_SECONDS)
        return probe.connect_ex(("127.0.0.1", server.port)) == 0


def live(pids: frozenset[int]) -> set[int]:
    return {p.pid for p in processes() if p.pid in pids and p.state != "Z"}


@each_kind
def test_a_crash_and_a_stop_leave_data_and_no_process_and_no_password_is_to_be_read(
    server: DatabaseServer,
) -> None:
    port, password = server.port, server.superuser_password
    assert password not in repr(server)
    server.execute_as_superuser("CREATE DATABASE shop")
    server.execute_as_superuser(["CREATE TABLE t (n int)", "INSERT INTO t VALUES (7)"], database="shop")
    files = [Path(f"/proc/{pid}/{kind}") for pid in server.process_ids() for kind in ("cmdline", "environ")]
    for file in [*files, *server.home.rglob("*")]:
        # A worker of the server may end, and its files go, while they are looked at.
        with suppress(FileNotFoundError, ProcessLookupError):
            assert not file.is_file() or password.encode() not in file.read_bytes(), file
    for end in (server.kill, server.stop):
        pids = server.process_ids()
        assert len(pids) > 1
        end()
        assert not server.is_running()
        assert not listens(server)
        assert (live(pids), server.process_ids()) == (set(), frozenset())
        server.start()
        assert server.port == port
        assert server.execute_as_superuser("SELECT n FROM t", database="shop") == [(7,)]
    pids = server.process_ids()
    (supervisor,) = (p.pid for p in processes() if p.pid in pids and p.parent == os.getpid())
    os.kill(supervisor, signal.SIGKILL)
    assert poll_until(lambda: not live(pids), timeout_seconds=PATIENCE_SECONDS)


@each_kind
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_the_owner(kind: Any, how: signal.Signals, tmp_path: Path) -> None:  # noqa: ANN401 - one of four
    require(kind)
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
    owner.wait(PATIENCE_SECONDS)
    assert pids
    assert poll_until(
        lambda: not live(frozenset(map(int, pids))) and not Path(home).exists(),
        timeout_seconds=PATIENCE_SECONDS,
    )
