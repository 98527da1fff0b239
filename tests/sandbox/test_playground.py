"""The command `sandbox` where no sandbox runs, or where a word is wrong: one line, and an exit code."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sandbox.playground.__main__ import app
from sandbox.playground.control import CONTROL, NOT_RUNNING
from sandbox.playground.files import Files

NEEDS_A_SANDBOX = [
    ["deploy"],
    ["standby", "c"],
    ["value", "s"],
    ["edit", "s"],
    ["login", "orders"],
]


@pytest.mark.parametrize("words", NEEDS_A_SANDBOX, ids=lambda words: words[0])
def test_without_a_sandbox_it_says_how_to_start_one(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in ("", str(tmp_path / "of-one-that-has-ended")):
        monkeypatch.setenv(CONTROL, address)
        shown = CliRunner().invoke(app, words, input="{}")
        assert (shown.exit_code, shown.stdout, shown.stderr) == (3, "", f"{NOT_RUNNING}\n")


def test_a_command_is_there_at_once() -> None:
    """The clouds' emulators take seconds to load, and the tutorial has fourteen commands."""
    text = (
        "import sys, sandbox.playground.__main__; print(*{'botocore', 'lockstep', 'moto'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", text], check=True, capture_output=True).stdout == b"\n"  # noqa: S603


def test_a_database_that_does_not_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX", str(tmp_path))
    shown = CliRunner().invoke(app, ["sql", "orders"])
    assert (shown.exit_code, "no database orders runs here" in shown.stderr) == (3, True)


def test_what_a_shell_sources_is_for_its_owner_alone(tmp_path: Path) -> None:
    files = Files(tmp_path)
    assert files.control() == ""
    files.write_environment({CONTROL: "/run/control", "WITH_SPACE": "a b"})
    assert files.control() == "/run/control"
    assert files.environment.stat().st_mode & 0o077 == 0
    assert "export WITH_SPACE='a b'\n" in files.environment.read_text()
