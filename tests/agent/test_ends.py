"""SIGTERM while a file is written: the file is the old one or the new one, and nothing of a password is beside it."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.agent import settings_file
from tests.agent.harness import app_user
from tests.agent.test_hardships import SERVED
from tests.support.programs import Ran, ran

# The agent with a store of its own, whose value is another one at each read, and with a disk on which a write to the
# file takes a second. The write with this number begins with a SIGTERM to its own process; the first read, with 0, with
# a SIGHUP.
PROGRAM = """
import os, signal, sys, time
from lockstep.agent import serve
from tests.agent.harness import FakeStore

class Store(FakeStore):
    def __call__(self):
        if not self.reads and sys.argv[1] == "0":
            os.kill(os.getpid(), signal.SIGHUP)
        self.generation += 1
        return super().__call__()

writes, fsync = iter(range(1, 100)), os.fsync

def slowly(descriptor):
    is_of_the_file = "/kept/" in os.readlink(f"/proc/self/fd/{descriptor}")
    if is_of_the_file and next(writes) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    fsync(descriptor)

os.fsync = slowly
stores = {}
serve.reader_of = lambda _store: lambda names: stores.setdefault(names.secret, Store())()
from lockstep.agent.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


def _ended(folder: Path, write: int, *more: str) -> Ran:
    kept: dict[str, Any] = {
        "token_file": f"{folder}/token",
        "listen": {"port": 0},
        "refresh": "1s",
        "files": [{"path": f"{folder}/kept/login.json", "format": "json"}],
    }
    (folder / "kept").mkdir()
    (folder / "kept" / "login.json").write_text("old\n")
    file = settings_file(folder, {**SERVED, **kept})
    return ran([sys.executable, "-c", PROGRAM, str(write), "--config", str(file), *more])


@pytest.mark.parametrize(("more", "status"), [(["--once"], 3), ([], 0)], ids=["once", "serve"])
def test_the_first_write_leaves_the_old_file(tmp_path: Path, more: list[str], status: int) -> None:
    done = _ended(tmp_path, 1, *more)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert [f.name for f in (tmp_path / "kept").iterdir()] == ["login.json"]
    assert (tmp_path / "kept" / "login.json").read_text() == "old\n"


def test_a_later_write_is_waited_for(tmp_path: Path) -> None:
    done = _ended(tmp_path, 2)
    assert done.returncode in (0, -signal.SIGTERM), done.stderr
    assert [f.name for f in (tmp_path / "kept").iterdir()] == ["login.json"]
    assert json.loads((tmp_path / "kept" / "login.json").read_text()) == json.loads(app_user(3))


def test_a_hangup_during_the_first_read_ends_nothing(tmp_path: Path) -> None:
    file = settings_file(tmp_path, {**SERVED, "token_file": f"{tmp_path}/token", "listen": {"port": 0}})
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", PROGRAM, "0", "--config", str(file)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        told = process.stderr.readline()
        process.terminate()
        process.communicate(timeout=60)
    assert "the agent answers" in told
    assert process.returncode in (0, -signal.SIGTERM)
