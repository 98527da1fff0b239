"""A part of the second tier ends in time, and says what it has not reached."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.proof.work import ROOT

TESTS = """\
import math, os, types
import pytest
from tests.proof import bounded

@pytest.fixture
def broken():
    yield
    raise RuntimeError

def test_passes():
    if "CLOCK_RUNS_OUT" in os.environ:
        bounded.time = types.SimpleNamespace(monotonic=lambda: math.inf)
def test_skips(): pytest.skip("for a reason")
def test_fails(): assert False
def test_fails_at_its_end(broken): pass
"""


def bounded(folder: Path, **environment: str) -> tuple[int, object]:
    """The exit status and the figures of a run."""
    (folder / "test_some.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    plain = ["-p", "no:cacheprovider", "-p", "tests.proof.bounded", "--bound-minutes", "10"]
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [
            sys.executable,
            "-m",
            "pytest",
            *plain,
            "--rootdir",
            str(folder),
            "-c",
            str(folder / "pytest.ini"),
            str(folder),
        ],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("{"))
    return done.returncode, json.loads(line)


def test_every_test_is_counted_once(tmp_path: Path) -> None:
    assert bounded(tmp_path) == (1, {"passed": 1, "failed": 2, "skipped": 1, "not_reached": 0})


def test_after_the_time_no_test_begins_and_none_is_counted_as_passed(tmp_path: Path) -> None:
    assert bounded(tmp_path, CLOCK_RUNS_OUT="1") == (
        0,
        {"passed": 1, "failed": 0, "skipped": 0, "not_reached": 3},
    )
