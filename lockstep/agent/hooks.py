"""What runs after a file has changed: a command, or a signal to a process.

Neither gets a password, not as an argument and not in its environment: the file has it.
"""

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lockstep.errors import LockstepError


class HookFailedError(LockstepError):
    """A hook did not do its work; it is tried again at the next refresh."""


def run_command(command: Sequence[str], *, seconds: float) -> None:
    """Run a command; it and what it has started end after so many seconds at the latest.

    Raises:
        HookFailedError: It could not be started, ended with another status than 0, or did not end in time.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - the operator's own setting
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise HookFailedError(code=error.strerror or type(error).__name__) from None
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise HookFailedError(code=f"not done in {seconds:g} s") from None
    if status:
        raise HookFailedError(code=f"status {status}")


def send_signal(name: str, pid_file: Path) -> None:
    """Send a signal, such as `HUP`, to the process whose id is in a file.

    Raises:
        HookFailedError: There is no such process, or this one may not.
    """
    try:
        pid = int(pid_file.read_text(encoding="ascii").split()[0])
        if pid <= 1:
            raise HookFailedError(code="no-process-id")
        os.kill(pid, signal.Signals[f"SIG{name}"])
    except (OSError, ValueError, IndexError) as error:
        raise HookFailedError(code=type(error).__name__) from None
