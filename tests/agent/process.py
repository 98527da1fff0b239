"""The agent in a process of its own, as a machine runs it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML

from sandbox.estate import Estate
from sandbox.fn import FunctionProcess
from tests.agent.harness import BOUND_SECONDS, Address
from tests.support.programs import until

Cloud = Literal["aws", "oci"]
ROOT = Path(__file__).parents[2]


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


def settings_file(folder: Path, document: Mapping[str, Any]) -> Path:
    """The settings of an agent in a file."""
    file = folder / "agent.yaml"
    YAML(typ="safe", pure=True).dump(dict(document), file)
    return file


def command(file: Path, *more: str, python: str = sys.executable) -> list[str]:
    """How the agent is started."""
    return [python, "-m", "lockstep.agent", "--config", str(file), *more]


@contextmanager
def running_agent(
    folder: Path,
    document: Mapping[str, Any],
    environment: Mapping[str, str] = os.environ,
    *,
    image: Path | None = None,
) -> Iterator[AgentProcess]:
    """An agent that answers on a free port; it has ended by SIGTERM at the end of the block.

    Args:
        folder: For its settings, its token and its log.
        document: The settings, without what this sets.
        environment: All of its variables.
        image: The interpreter of another installation than this repository.
    """
    log, token_file = folder / "agent.log", folder / "token"
    whole = {"version": 1, "port": 0, "token_file": str(token_file), **document}
    with (
        log.open("w") as stderr,
        subprocess.Popen(  # noqa: S603 - ours
            command(settings_file(folder, whole), python=str(image or sys.executable)),
            stderr=stderr,
            text=True,
            env=environment,
            cwd=folder if image else ROOT,
        ) as process,
    ):
        try:
            port = _port(process, log)
            yield AgentProcess(process, Address(port), token_file.read_text(), log)
            process.send_signal(signal.SIGTERM)
            assert not process.wait(BOUND_SECONDS), log.read_text()
        finally:
            process.kill()


def _port(process: "subprocess.Popen[str]", log: Path) -> int:
    def told() -> list[str]:
        assert process.poll() is None, log.read_text()
        return [line for line in log.read_text().splitlines() if "the agent answers" in line]

    return int(json.loads(until(told)[0])["at"].rpartition(":")[2])
