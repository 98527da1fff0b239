"""Runs one server so that nothing of it outlives the process that asked for it.

A program of its own, started by `process.SupervisedProcess`; it needs the standard library alone:

    supervisor.py PARENT_PID ACCOUNT SCRATCH COMMAND...

It starts the command, under the given system account unless that is empty, writes the command's process id
to standard output, and ends with its status. Two things end the command early: the death of the parent, which
is noticed within `PARENT_CHECK_SECONDS`, and the death of the supervisor itself. When the command has ended,
so has every process that it left behind. SCRATCH, unless empty, is a folder of the parent's, which the
supervisor removes after the parent's death.

The parent is watched by its id. `PR_SET_PDEATHSIG` would not do between parent and supervisor: it fires when
the *thread* that started the child ends (prctl(2)), and servers are started from a pool of threads.
"""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PARENT_CHECK_SECONDS = 0.2

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class Process(NamedTuple):
    """A process as `/proc/<pid>/stat` shows it (proc(5))."""

    pid: int
    parent: int
    state: str


def processes() -> Iterator[Process]:
    """All processes of this machine that have not been reaped."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        # A process may end between its listing and its reading.
        with suppress(FileNotFoundError, ProcessLookupError):
            # The name, in parentheses, may itself hold spaces and parentheses.
            head, _, tail = stat.read_text(errors="replace").rpartition(")")
            state, parent = tail.split()[:2]
            yield Process(pid=int(head.split()[0]), parent=int(parent), state=state)


def supervise(parent: int, account_name: str, scratch: str, command: list[str]) -> int:
    """Runs the command to its end, or to the parent's.

    Returns:
        The command's exit status; 128 + n if signal n ended it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # Orphans of the server become our children instead of init's, so that we can end them and know it.
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    account = pwd.getpwnam(account_name) if account_name else None
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
        # Safe here: this process has one thread, which lives as long as the process does.
        preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),  # noqa: PLW1509
    )
    print(server.pid, flush=True)  # noqa: T201  the answer that the parent waits for
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while server.poll() is None:
        if os.getppid() != parent:
            server.kill()
        signal.sigtimedwait({signal.SIGCHLD}, PARENT_CHECK_SECONDS)
    _end_orphans()
    if scratch and os.getppid() != parent:
        shutil.rmtree(scratch)
    return server.returncode if server.returncode >= 0 else 128 - server.returncode


def _end_orphans() -> None:
    # An orphan that ends may leave orphans of its own, so this repeats until the kernel reports none.
    while True:
        for process in processes():
            if process.parent == os.getpid():
                os.kill(process.pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


if __name__ == "__main__":
    sys.exit(supervise(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]))
