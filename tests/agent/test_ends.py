"""SIGTERM while a file is written: the file is the old one or the new one, and nothing of a password is beside it."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from lockstep.agent import serve
from lockstep.agent.__main__ import main
from lockstep.client.sources import StoredText
from lockstep.protocol.names import VersionNames
from tests.agent.harness import FakeStore, app_user
from tests.agent.process import settings_file
from tests.agent.test_hardships import SERVED
from tests.contract.test_client_fork import in_child


def _ended(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, *more: str) -> int:
    """The status of an agent with a store of its own, whose value is another one at each read.

    A write to the file takes a second, and the write with this number begins with a SIGTERM to the agent. If it serves,
    the first read begins with a SIGHUP, which ends nothing.
    """
    stores: dict[str, FakeStore] = {}
    writes, fsync = iter(range(1, 100)), os.fsync

    def read(names: VersionNames) -> StoredText:
        store = stores.setdefault(names.secret, FakeStore())
        if not (store.reads or more):
            os.kill(os.getpid(), signal.SIGHUP)
        store.generation += 1
        return store()

    def slowly(descriptor: int) -> None:
        if "/kept/" in str(Path(f"/proc/self/fd/{descriptor}").readlink()) and next(writes) == number:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slowly)
    monkeypatch.setattr(serve, "reader_of", lambda _store: read)
    (folder / "kept").mkdir()
    (folder / "kept" / "login.json").write_text("old\n")
    files = [{"path": f"{folder}/kept/login.json", "format": "json"}]
    own = {"token_file": f"{folder}/token", "port": 0, "refresh": "1s", "files": files}
    file = settings_file(folder, {**SERVED, **own})
    return in_child(lambda: main(["--config", str(file), *more]))


def _kept(folder: Path) -> str:
    [file] = (folder / "kept").iterdir()
    return file.read_text()


@pytest.mark.parametrize(("more", "status"), [(["--once"], 3), ([], 0)], ids=["once", "serve"])
def test_the_first_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], status: int
) -> None:
    assert _ended(tmp_path, monkeypatch, 1, *more) == status
    assert _kept(tmp_path) == "old\n"


def test_a_later_write_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _ended(tmp_path, monkeypatch, 2) in (0, -signal.SIGTERM)
    assert json.loads(_kept(tmp_path)) == json.loads(app_user(3))
