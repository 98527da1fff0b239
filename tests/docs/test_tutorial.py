"""The tutorial and the guides that go on from it: every command runs, in one sandbox, and prints what its page shows.

What a machine of the tests has already is not installed again: `make setup` is only read. All other commands run in a
clone of the repository, as a person runs them.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.docs.console import Command, Shell, commands, follow, has_come, is_as_shown, typed
from tests.docs.pages import ROOT, repository_files

TUTORIAL = ROOT / "docs/tutorial.md"
GUIDES = ("emergency", "add-a-database", "leave-a-cloud", "import")
"""In this order: each goes on from the one before."""
HOW_TO = [ROOT / f"docs/how-to/{guide}.md" for guide in GUIDES]
PROMISED_MINUTES = 15.0

pytestmark = pytest.mark.timeout(1800)


@dataclass
class Machine:
    """A person's machine.

    Attributes:
        folder: Where the person begins.
        sandbox: `make sandbox`, once it runs.
    """

    folder: Path
    sandbox: "subprocess.Popen[bytes] | None" = field(default=None)

    @property
    def clone(self) -> Path:
        return self.folder / "lockstep"

    def shell(self) -> Shell:
        found = {
            name: os.environ[name] for name in ("PATH", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ
        }
        # The environment of the tests has the code of their own checkout.
        own = {"HOME": str(self.folder), "PYTHONPATH": str(self.clone), "LANG": "C.UTF-8", "NO_COLOR": "1"}
        return Shell(self.folder, {**found, **own})

    def follow(self, shell: Shell, page: Path) -> list[str]:
        """Type the commands of a page; what is not as it shows."""
        return [problem for command in commands(page) for problem in self._typed(shell, command)]

    def _typed(self, shell: Shell, command: Command) -> Iterator[str]:
        match command.text.split():
            case ["git", "clone", *_]:
                yield from typed(
                    shell, Command(text=f"git clone --quiet {ROOT} lockstep", shown=[], line=command.line)
                )
                self._as_the_tests_are()
            case ["make", "setup"]:
                yield from typed(shell, Command(text="make -n setup", shown=command.shown, line=command.line))
            case ["make", "sandbox"]:
                yield from self._start(command)
            case _:
                yield from typed(shell, command)

    def _as_the_tests_are(self) -> None:
        """Let the clone have what is not committed yet, and the environment that the tests run in."""
        for file in repository_files():
            copy = self.clone / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, copy, follow_symlinks=False)
        for name in (".venv", ".cache"):
            (self.clone / name).symlink_to((ROOT / name).resolve())

    def _start(self, command: Command) -> Iterator[str]:
        log = self.folder / "sandbox.log"
        with log.open("wb") as output:
            self.sandbox = subprocess.Popen(
                ["make", "--old-file=setup", "sandbox"],  # noqa: S607
                cwd=self.clone,
                env=dict(self.shell().environment),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        if not has_come(lambda: is_as_shown(command, log.read_text()), self.sandbox):
            yield f"line {command.line}: make sandbox printed:\n{log.read_text()}"

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


def test_what_differs_from_a_page_is_found() -> None:
    command = Command(text="x", shown=["…", "generation … is", "…"], line=1)
    for output, is_shown in (
        ("a\nb\ngeneration 12 is\n", True),
        ("generation 12 is\nmore\n", True),
        ("a generation 12 is\n", False),
        ("generation\n12 is\n", False),
    ):
        assert is_as_shown(command, output) is is_shown


def test_the_tutorial_runs_as_it_is_written(
    machine: Machine, record_property: Callable[[str, object], None]
) -> None:
    began = time.monotonic()
    with machine.shell() as shell:
        assert machine.follow(shell, TUTORIAL) == []
    minutes = (time.monotonic() - began) / 60
    record_property("minutes_without_setup", round(minutes, 1))
    assert minutes < PROMISED_MINUTES


@pytest.mark.parametrize("guide", GUIDES)
def test_the_guides_run_in_the_same_sandbox(machine: Machine, guide: str) -> None:
    with machine.shell() as shell:
        shell.run(f"cd {machine.clone}")
        assert follow(shell, ROOT / f"docs/how-to/{guide}.md") == []


def test_nothing_is_left_of_a_sandbox_that_was_stopped(machine: Machine) -> None:
    machine.stop()
    assert not (machine.clone / "build/sandbox").exists()
