"""Starts a server process that cannot outlive this one, freezes it, ends it; and what such a server needs."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import AnyStr, Generic

from sandbox.emulators.databases import supervisor

_POLL_SECONDS = 0.01
# A killed process is gone in milliseconds; this bounds a machine that is busy elsewhere.
_KILL_SECONDS = 10.0
# Debian keeps server programs where only root's PATH looks.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])

# All that a server gets to see: none of the caller's variables; messages in English, times in UTC.
ENVIRONMENT = {"PATH": SEARCH_PATH, "LC_ALL": "C", "TZ": "UTC"}


class ProcessStartError(Exception):
    """The command could not be started; its log file says why."""


def find_program(name: str) -> Path | None:
    """Where the program is installed, also if only root's PATH has it."""
    found = shutil.which(name, path=SEARCH_PATH)
    return Path(found) if found else None


def poll_until(condition: Callable[[], bool], *, timeout_seconds: float) -> bool:
    """Asks until the condition holds.

    Returns:
        Whether it came to hold within the time.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def write_private_file(path: Path, content: bytes) -> None:
    """Writes a file that only this process's user can read at any time, replacing an older one."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _shuffled_ports() -> Iterator[int]:
    # Below the ephemeral range: from there, an outgoing connection of any process could take the port while its
    # server is down, and a client that retries in that time can even connect to itself.
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = range(min(20_000, first_ephemeral // 2), first_ephemeral)
    return iter(random.SystemRandom().sample(ports, len(ports)))


_ports = _shuffled_ports()


_kept: list[socket.socket] = []


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens; it is this process's, and handed out once, for its lifetime."""
    for port in _ports:
        with socket.socket() as probe, suppress(OSError):
            # As servers do, or a port with connections in TIME_WAIT would count as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            _keep(port)
            return port
    msg = "no free port on 127.0.0.1"
    raise OSError(msg)


def _keep(port: int) -> None:
    """Let no other process be given the port, also while its server does not run yet or is down.

    What is bound is a name beside the file system (unix(7)), which is free again when this process has ended, however
    it ended, and is as far away from others as the ports are: in the network namespace.

    Raises:
        OSError: It is another process's.
    """
    keeper = socket.socket(socket.AF_UNIX)
    try:
        keeper.bind(f"\0lockstep-sandbox-port-{port}")
    except OSError:
        keeper.close()
        raise
    _kept.append(keeper)


class SupervisedProcess:
    """A running command and all its descendants, which end with this process, however it ends.

    Args:
        command: The program and its arguments. No secret belongs here.
        log_file: Takes what the command prints, after what it already holds.
        folder: The working folder.
        account: The system account to run under; None: the present one.
        scratch: A folder to remove if this process dies before the command ends.

    Raises:
        ProcessStartError: The program or the account does not exist, or may not be used.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log_file: Path,
        folder: Path,
        account: str | None = None,
        scratch: Path | None = None,
    ) -> None:
        # -I and -S: start fast, and import nothing that lies in the working folder.
        interpreter = [sys.executable, "-I", "-S", supervisor.__file__]
        with log_file.open("ab") as log:
            self._supervisor = subprocess.Popen(
                [*interpreter, str(os.getpid()), account or "", scratch or "", *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=ENVIRONMENT,
                text=True,
                # Ctrl-C is for us: we stop our servers in order.
                start_new_session=True,
            )
        # A pipe was asked for, so there is one; the check is for the type.
        assert self._supervisor.stdout is not None  # noqa: S101
        with self._supervisor.stdout as answer:
            line = answer.readline()
        if not line:
            self._supervisor.wait(_KILL_SECONDS)
            raise ProcessStartError
        self.pid = int(line)

    def is_alive(self) -> bool:
        """Whether the command runs (a paused one does)."""
        return self._supervisor.poll() is None

    def tree(self) -> frozenset[int]:
        """The ids of the supervisor, the command and all descendants."""
        found = {self._supervisor.pid}
        every_process = list(supervisor.processes())
        while children := {p.pid for p in every_process if p.parent in found} - found:
            found |= children
        return frozenset(found)

    def pause(self) -> None:
        """Freezes the command and its descendants; on return none of them runs."""
        # The command first: once it is stopped there are no new children to miss.
        self._freeze({self.pid})
        self._freeze(self.tree() - {self._supervisor.pid})

    def resume(self) -> None:
        """Undoes `pause`; does nothing to a command that runs."""
        for pid in self.tree() - {self._supervisor.pid}:
            self._signal(pid, signal.SIGCONT)

    def stop(self, stop_signal: signal.Signals, *, grace_seconds: float) -> None:
        """Asks the command to end, and kills it if it has not within the grace time."""
        self.resume()
        self._signal(self.pid, stop_signal)
        try:
            self._supervisor.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Ends the command and its descendants at once, as a crash would; on return all are gone."""
        self._signal(self.pid, signal.SIGKILL)
        self._supervisor.wait(_KILL_SECONDS)

    def _freeze(self, pids: set[int] | frozenset[int]) -> None:
        for pid in pids:
            self._signal(pid, signal.SIGSTOP)
        # The signal takes effect later than the call that sends it returns.
        if not poll_until(
            lambda: all(p.state in "TZ" for p in supervisor.processes() if p.pid in pids),
            timeout_seconds=_KILL_SECONDS,
        ):
            msg = "the processes did not stop when told to"
            raise TimeoutError(msg)

    def _signal(self, pid: int, what: signal.Signals) -> None:
        # While the supervisor lives, at most a moment passes between the end of a process and this check.
        if self.is_alive():
            with suppress(ProcessLookupError):
                os.kill(pid, what)


class Growing(Generic[AnyStr]):
    """What is added from when this is made; what was there before is somebody else's.

    Args:
        read: Reads all of it, text or bytes.
    """

    def __init__(self, read: Callable[[], AnyStr]) -> None:
        self._read: Callable[[], AnyStr] = read
        self._seen = len(read())

    def added(self) -> AnyStr:
        """What was added since this was made, or since the last `forget`.

        Raises:
            ValueError: It has become shorter, so nobody can tell what was added.
        """
        everything = self._read()
        if len(everything) < self._seen:
            raise ValueError("what grows was cut")
        return everything[self._seen :]

    def forget(self) -> None:
        """Count from now on."""
        self._seen = len(self._read())
