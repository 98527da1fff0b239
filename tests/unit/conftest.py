"""The unit tests need no server and no process: whatever starts one fails."""

import socket
import subprocess

import pytest


class StartedError(AssertionError):
    """A unit test has started a process or a server."""


def _refused(*_: object, **_more: object) -> None:
    raise StartedError


@pytest.fixture(autouse=True)
def _nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess.Popen, "__init__", _refused)
    monkeypatch.setattr(socket.socket, "listen", _refused)
