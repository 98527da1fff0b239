"""`lockstep serve` in a process of its own, as an operator runs it."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOUND_SECONDS = 120.0
_ADDRESS = re.compile(r"http://[0-9.:\[\]]+/")


@dataclass(frozen=True)
class RunningPage:
    """A page that is shown.

    Attributes:
        url: Its address.
        log: Everything that it has written.
    """

    process: "subprocess.Popen[bytes]"
    url: str
    log: Path


@contextmanager
def running_page(folder: Path, plan: Path, *more: str) -> Iterator[RunningPage]:
    """A page on a plan, with this process's environment; it has ended by Ctrl-C at the end of the block.

    Args:
        folder: For its log.
        plan: The plan file.
        more: Further arguments.

    Raises:
        RuntimeError: It did not start, or did not end well.
    """
    log = folder / "page.log"
    with log.open("wb") as output, subprocess.Popen(_command(plan, more), stderr=output, cwd=ROOT) as process:
        try:
            yield RunningPage(process, _url(process, log), log)
            process.send_signal(signal.SIGINT)
            if process.wait(BOUND_SECONDS):
                raise RuntimeError(f"the page ended with status {process.returncode}:\n{log.read_text()}")
        finally:
            process.kill()


def _command(plan: Path, more: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "lockstep", "serve", "--plan", str(plan), *more]


def _url(process: "subprocess.Popen[bytes]", log: Path) -> str:
    give_up = time.monotonic() + BOUND_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        if found := _ADDRESS.search(log.read_text()):
            return found[0]
        time.sleep(0.02)
    raise RuntimeError(f"the page did not start:\n{log.read_text()}")
