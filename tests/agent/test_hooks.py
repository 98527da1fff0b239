"""What runs after a file has changed: bounded in time, and without the password."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lockstep.agent.files import run_command, send_signal
from lockstep.protocol.errors import EnvironmentalError
from tests.agent.process import until


@pytest.mark.parametrize(
    ("command", "code"), [(["false"], "status 1"), (["/no/such/program"], "No such file or directory")]
)
def test_a_command_that_fails_is_told(command: list[str], code: str) -> None:
    with pytest.raises(EnvironmentalError, match=code):
        run_command(command, seconds=10)


def test_a_command_that_hangs_ends_with_all_that_it_has_started(tmp_path: Path) -> None:
    child = tmp_path / "child"
    script = f"sleep 60 & echo $! > {child}; wait"
    began = time.monotonic()
    with pytest.raises(EnvironmentalError, match=r"not done in 2 s"):
        run_command(["/bin/sh", "-c", script], seconds=2)
    assert time.monotonic() - began < 40  # It would have been done after a minute.
    _ends(int(child.read_text()))


def test_a_command_ends_with_a_process_that_is_ended(tmp_path: Path) -> None:
    """As by `--once` in a job that is cancelled: SIGTERM raises SystemExit there."""
    child = tmp_path / "child"
    script = f"sleep 60 & echo $! > {child}; wait"

    def is_cut() -> bool:  # Once the command has begun.
        if child.exists() and child.read_text():
            os.kill(os.getpid(), signal.SIGUSR1)
        return False

    def end(*_received: object) -> None:
        raise SystemExit(3)

    before = signal.signal(signal.SIGUSR1, end)
    try:
        with pytest.raises(SystemExit):
            run_command(["/bin/sh", "-c", script], seconds=60, is_cut=is_cut)
    finally:
        signal.signal(signal.SIGUSR1, before)
    _ends(int(child.read_text()))


def _ends(pid: int) -> None:
    until(lambda: not _is_running(pid) or None)


def _is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_a_signal_reaches_the_process_of_the_file(tmp_path: Path) -> None:
    code = (
        "import signal; signal.signal(signal.SIGHUP, lambda *_: print('again', flush=True)); "
        "print('on', flush=True)\nwhile True: signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout
        assert process.stdout.readline() == "on\n"
        (tmp_path / "pid").write_text(f"{process.pid}\n")
        send_signal("HUP", tmp_path / "pid")
        assert process.stdout.readline() == "again\n"
        process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("text", ["", "abc", "-1", "0", "1", "99999999", None])
def test_no_other_process_gets_a_signal(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "pid").write_text(text)
    with pytest.raises(EnvironmentalError, match=None if text is not None else "No such file"):
        send_signal("HUP", tmp_path / "pid")
