"""The tutorial and the guides that go on from it: every command runs, in one sandbox, and prints what its page shows.

What a machine of the tests has already is not installed again: `make setup` is only read. All other commands run in a
clone of the repository, as a person runs them; only the overlap, and the wait for its end, are shorter.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import LIMIT_SECONDS, ROOT, Command, commands, is_as_shown, typed

TUTORIAL = ROOT / "docs/tutorial.md"
GUIDES = ("emergency", "add-a-database", "leave-a-cloud", "import")
"""In this order: each goes on from the one before."""
PROMISED_MINUTES = 15.0
CLONED = (
    f"git clone --quiet {ROOT} lockstep && git -C {ROOT} ls-files -z --cached --others --exclude-standard"
    f" | tar -C {ROOT} --ignore-failed-read --null -T - -c | tar -x -C lockstep"
    f" && ln -s {(ROOT / '.venv').resolve()} {(ROOT / '.cache').resolve()} lockstep/"
)
"""The clone has what is not committed yet, and the environment that the tests run in."""
INSTEAD = {
    "git clone REPOSITORY lockstep": CLONED,
    "make setup": "make -n setup",
    # Too early: nothing is written, and the next time it goes on.
    "sql --existing > $SANDBOX/setup.sql": "sql --existing > $SANDBOX/setup.sql && ! sandbox deploy 2> /dev/null",
    "overlap: 15s": "overlap: 4s",
    "sleep 16": "sleep 5",
}

pytestmark = pytest.mark.timeout(1800)


class Machine:
    """A person's machine, with `make sandbox` once it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clone = folder / "lockstep"
        self.sandbox: subprocess.Popen[bytes] | None = None
        names = ("PATH", "TMPDIR", "LD_LIBRARY_PATH")
        self.environment = {name: os.environ[name] for name in names if name in os.environ}
        # The environment of the tests has the code of their own checkout.
        own = {"HOME": str(folder), "PYTHONPATH": str(self.clone), "LANG": "C.UTF-8", "NO_COLOR": "1"}
        self.environment.update(own)

    def start(self, command: Command) -> None:
        """`make sandbox`, in the first terminal."""
        log = self.folder / "sandbox.log"
        with log.open("wb") as output:
            self.sandbox = subprocess.Popen(
                ["make", "--old-file=setup", "sandbox"],  # noqa: S607
                cwd=self.clone,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        give_up = time.monotonic() + LIMIT_SECONDS
        while not is_as_shown(command.shown, log.read_text()):
            assert self.sandbox.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        """Ctrl-C in the first terminal."""
        if self.sandbox and self.sandbox.poll() is None:
            os.killpg(self.sandbox.pid, signal.SIGINT)
            self.sandbox.wait(60)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    found = Machine(tmp_path_factory.mktemp("person"))
    yield found
    found.stop()


def test_the_tutorial_runs_as_it_is_written(machine: Machine) -> None:
    asked = list(commands(TUTORIAL, INSTEAD))
    begin = [command.text for command in asked].index("make sandbox")
    began = time.monotonic()
    assert typed(asked[:begin], machine.folder, machine.environment) == []
    machine.start(asked[begin])
    assert typed(asked[begin + 1 :], machine.clone, machine.environment) == []
    assert time.monotonic() - began < PROMISED_MINUTES * 60


@pytest.mark.parametrize("guide", GUIDES)
def test_the_guides_run_in_the_same_sandbox(machine: Machine, guide: str) -> None:
    asked = commands(ROOT / f"docs/how-to/{guide}.md", INSTEAD)
    assert typed(asked, machine.clone, machine.environment) == []


def test_nothing_is_left_of_a_sandbox_that_was_stopped(machine: Machine) -> None:
    machine.stop()
    assert not (machine.clone / "build/sandbox").exists()
