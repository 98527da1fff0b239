"""The agent in a process of its own, as a machine runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ruamel.yaml import YAML

from tests.agent.harness import BOUND_SECONDS, Address

T = TypeVar("T")


@dataclass
class AgentProcess:
    """A running agent."""

    process: "subprocess.Popen[str]"
    address: Address
    token: str
    log: Path

    def value(self, secret: str, more: str = "") -> dict[str, Any]:
        """What the agent answers for a secret: its text, parsed."""
        answer = self.address.get(f"/secretsmanager/get?secretId={secret}{more}", token=self.token)
        assert answer.status == 200, answer.body
        found: dict[str, Any] = json.loads(json.loads(answer.body)["SecretString"])
        return found


def until(what: Callable[[], T | None]) -> T:
    """Ask until there is an answer."""
    ends_at = time.monotonic() + BOUND_SECONDS
    while time.monotonic() < ends_at:
        if (found := what()) is not None:
            return found
        time.sleep(0.02)
    raise AssertionError("no answer in time")


def settings_file(folder: Path, document: Mapping[str, Any]) -> Path:
    """The settings of an agent in a file."""
    file = folder / "agent.yaml"
    YAML(typ="safe", pure=True).dump(dict(document), file)
    return file


def command(file: Path, *more: str) -> list[str]:
    """How the agent is started."""
    return [sys.executable, "-m", "lockstep.agent", "--config", str(file), *more]


@contextmanager
def running_agent(folder: Path, document: Mapping[str, Any]) -> Iterator[AgentProcess]:
    """An agent that answers on a free port; it has ended by SIGTERM at the end of the block."""
    log, token_file = folder / "agent.log", folder / "token"
    whole = {"version": 1, "listen": {"port": 0}, "token_file": str(token_file), **document}
    with (
        log.open("w") as stderr,
        subprocess.Popen(  # noqa: S603 - our own module
            command(settings_file(folder, whole)), stderr=stderr, text=True, env=dict(os.environ)
        ) as process,
    ):
        try:
            port = until(lambda: _port_in(log))
            yield AgentProcess(process, Address(port), token_file.read_text(), log)
            process.send_signal(signal.SIGTERM)
            assert process.wait(BOUND_SECONDS) == 0, log.read_text()
        finally:
            process.kill()


def _port_in(log: Path) -> int | None:
    for line in log.read_text().splitlines():
        if "the agent answers" in line:
            return int(json.loads(line)["at"].rpartition(":")[2])
    return None
