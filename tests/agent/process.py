"""The agent in a process of its own, as a machine runs it."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sandbox import agent
from sandbox.estate import Estate
from sandbox.fn import FunctionProcess
from tests.agent.harness import Address

if TYPE_CHECKING:
    import subprocess

Cloud = Literal["aws", "oci"]


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


def rotate(estate: Estate, function: FunctionProcess, *, by: Cloud) -> None:
    """Let the runner of a cloud rotate, as if the interval and the overlap had passed."""
    [credential] = estate.plan.credentials
    estate.outside.expire_schedule(credential.id)
    if by == "aws":
        assert estate.rotate(credential.id).status == "SUCCEEDED"
    else:
        answer = function.call({"credential_id": credential.id, "force": True})
        assert answer.status == 200, answer.text


@contextmanager
def running_agent(folder: Path, document: Mapping[str, Any]) -> Iterator[AgentProcess]:
    """An agent that answers on a free port; it has ended by SIGTERM at the end of the block."""
    with agent.running_agent(folder, document, os.environ) as running:
        yield AgentProcess(running.process, Address(running.port), running.token, running.log)
