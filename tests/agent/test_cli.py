"""`lockstep agent` is the same program."""

import subprocess
import sys
from pathlib import Path

from tests.agent.process import settings_file
from tests.agent.test_settings import PLAN


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-c", "from lockstep.cli import app; app()", "agent", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_checks_settings(tmp_path: Path) -> None:
    assert _run("--check", "--config", str(settings_file(tmp_path, PLAN))).returncode == 0


def test_it_tells_what_is_wrong(tmp_path: Path) -> None:
    done = _run("--config", str(settings_file(tmp_path, {**PLAN, "colour": 1})))
    assert (done.returncode, "colour: unknown key" in done.stderr) == (2, True)


def test_without_the_extra_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['starlette'] = None; "
        "from lockstep.cli import app; sys.argv = ['lockstep', 'agent', '--check']; app()"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "pip install 'lockstep[agent]'" in done.stderr
