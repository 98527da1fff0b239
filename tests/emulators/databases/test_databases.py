"""The sandbox's databases keep what they promise: a server outlives no owner, and data outlive a crash.

Who gets in is seen by every test that logs in: tests/contract/test_database.py, tests/contract/test_database_tls.py.
"""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sandbox.emulators.databases import (
    CertificateAuthority,
    MariaDbServer,
    MySqlServer,
    PgserverServer,
    PostgresServer,
)
from sandbox.emulators.databases.process import poll_until
from sandbox.emulators.databases.supervisor import processes
from tests.support.servers import require

# A process that has a server, says what belongs to it, and waits for its end.
OWNER = """
import threading
from sandbox.emulators import databases
with databases.running(server := databases.PgserverServer()):
    print(server.home, *server.process_ids(), flush=True)
    threading.Event().wait()
"""
PATIENCE_SECONDS = 30.0


def live(pids: frozenset[int]) -> set[int]:
    return {p.pid for p in processes() if p.pid in pids and p.state != "Z"}


@pytest.mark.parametrize("kind", [MariaDbServer, MySqlServer, PostgresServer, PgserverServer])
def test_a_crash_and_a_stop_leave_data_and_no_process_and_no_password_is_to_be_read(
    kind: Any,  # noqa: ANN401 - one of four
    tmp_path: Path,
) -> None:
    require(kind)
    tls = {} if kind is PgserverServer else {"authority": CertificateAuthority(tmp_path)}
    with kind(**tls) as server:
        port, password = server.port, server.superuser_password
        assert password not in repr(server)
        server.execute_as_superuser("CREATE DATABASE shop")
        server.execute_as_superuser(["CREATE TABLE t (n int)", "INSERT INTO t VALUES (7)"], database="shop")
        files = [
            Path(f"/proc/{pid}/{name}") for pid in server.process_ids() for name in ("cmdline", "environ")
        ]
        for file in [*files, *server.home.rglob("*")]:
            # A worker of the server may end, and its files go, while they are looked at.
            with suppress(FileNotFoundError, ProcessLookupError):
                assert not file.is_file() or password.encode() not in file.read_bytes(), file
        for end in (server.kill, server.stop):
            pids = server.process_ids()
            assert len(pids) > 1
            end()
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", port)) != 0
            assert (live(pids), server.process_ids(), server.is_running()) == (set(), frozenset(), False)
            server.start()
            assert server.port == port
            assert server.execute_as_superuser("SELECT n FROM t", database="shop") == [(7,)]
        pids = server.process_ids()
        (supervisor,) = (p.pid for p in processes() if p.pid in pids and p.parent == os.getpid())
        os.kill(supervisor, signal.SIGKILL)
        assert poll_until(lambda: not live(pids), timeout_seconds=PATIENCE_SECONDS)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_the_owner(how: signal.Signals) -> None:
    require(PgserverServer)
    root, pipe = Path(__file__).parents[3], subprocess.PIPE
    command = [sys.executable, "-c", OWNER]
    with subprocess.Popen(command, cwd=root, stdout=pipe, text=True, start_new_session=True) as owner:  # noqa: S603  ours
        assert owner.stdout
        home, *pids = owner.stdout.readline().split()
        # To the group, as a terminal does it.
        os.killpg(owner.pid, how)
        owner.wait(PATIENCE_SECONDS)
    assert pids
    assert poll_until(
        lambda: not live(frozenset(map(int, pids))) and not Path(home).exists(),
        timeout_seconds=PATIENCE_SECONDS,
    )
