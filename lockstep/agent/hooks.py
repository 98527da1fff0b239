"""What runs after a file has changed: a command, or a signal to a process.

Neither gets a password, not as an argument and not in its environment: the file has it.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from lockstep.errors import LockstepError

_LOOK_SECONDS = 0.25


class HookFailedError(LockstepError):
    """A hook did not do its work; it is tried again at the next refresh."""


def run_command(
    command: Sequence[str], *, seconds: float, is_cut: Callable[[], bool] = lambda: False
) -> None:
    """Run a command; it and what it has started end after so many seconds at the latest.

    Args:
        command: A program and its arguments.
        seconds: For so long it may run.
        is_cut: Whether it must end now, since nobody will wait for it.

    Raises:
        HookFailedError: It could not be started, ended with another status than 0, or did not end in time.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - the operator's own setting
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise HookFailedError(code=error.strerror or type(error).__name__) from None
    ends_at = time.monotonic() + seconds
    try:
        while (status := _status(process)) is None and time.monotonic() < ends_at and not is_cut():
            pass
    finally:  # Also where a signal ends this process.
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status is None:
        raise HookFailedError(code="ended with the agent" if is_cut() else f"not done in {seconds:g} s")
    if status:
        raise HookFailedError(code=f"status {status}")


def _status(process: "subprocess.Popen[bytes]") -> int | None:
    """The exit status, or None if it still runs a moment later."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(_LOOK_SECONDS)
    return None


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
