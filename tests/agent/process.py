"""The agent in a process of its own, as a machine runs it."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sandbox import agent
from tests.agent.harness import BOUND_SECONDS, Address

if TYPE_CHECKING:
    import subprocess

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


@contextmanager
def running_agent(folder: Path, document: Mapping[str, Any]) -> Iterator[AgentProcess]:
    """An agent that answers on a free port; it has ended by SIGTERM at the end of the block."""
    with agent.running_agent(folder, document, os.environ) as running:
        yield AgentProcess(running.process, Address(running.port), running.token, running.log)
