"""`lockstep agent` is the same program."""

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.agent import settings_file
from tests.agent.test_settings import PLAN


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-c", "from lockstep.cli import app; app()", "agent", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_checks_settings(tmp_path: Path) -> None:
    document = {**PLAN, "token_file": f"{tmp_path}/token"}
    assert _run("--check", "--config", str(settings_file(tmp_path, document))).returncode == 0


@pytest.mark.parametrize(("module", "extra"), [("starlette", "agent"), ("oci", "oci")])
@pytest.mark.parametrize(
    "program",
    [
        "from lockstep.cli import app; app()",
        "import runpy; runpy.run_module('lockstep.agent', run_name='__main__')",
    ],
)
def test_without_an_extra_it_says_what_to_install(
    tmp_path: Path, module: str, extra: str, program: str
) -> None:
    document = {**PLAN, "token_file": f"{tmp_path}/token"}
    arguments = ["--config", str(settings_file(tmp_path, document))]
    argv = ["lockstep", *(["agent"] if "cli" in program else []), *arguments]
    text = f"import sys; sys.modules[{module!r}] = None; sys.argv = {argv!r}; {program}"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 3, done.stderr
    assert f"pip install 'lockstep-rotation[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
