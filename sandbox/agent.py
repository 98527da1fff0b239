"""`lockstep agent` in a process of its own, as a machine runs it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
BOUND_SECONDS = 120.0
READER_MAY = ("SECRET_INSPECT", "SECRET_BUNDLE_READ")
"""All that an agent needs in OCI, in the compartment of the rings."""


@dataclass(frozen=True)
class RunningAgent:
    """A running agent.

    Attributes:
        port: Of loopback, where it answers.
        token: What requests must bring.
        log: Everything that it has written.
    """

    process: "subprocess.Popen[str]"
    port: int
    token: str
    log: Path


def settings_file(folder: Path, document: Mapping[str, Any]) -> Path:
    """The settings of an agent in a file."""
    file = folder / "agent.yaml"
    YAML(typ="safe", pure=True).dump(dict(document), file)
    return file


def plan_file(folder: Path, credential_id: str, stores: Sequence[Mapping[str, Any]]) -> Path:
    """The plan of the repository with these stores and one credential, in a file."""
    yaml = YAML(typ="safe", pure=True)
    plan = yaml.load((ROOT / "lockstep.yaml").read_text(encoding="utf-8"))
    plan["stores"] = [dict(store) for store in stores]
    plan["credentials"] = [{**plan["credentials"][0], "id": credential_id, "interval": "2h"}]
    if all(store["kind"] != "oci-vault" for store in stores):
        plan["audit"].pop("oci")
        plan.pop("runners")
    file = folder / "lockstep.yaml"
    yaml.dump(plan, file)
    return file


def command(file: Path, *more: str, python: str = sys.executable) -> list[str]:
    """How the agent is started."""
    return [python, "-m", "lockstep.agent", "--config", str(file), *more]


@contextmanager
def running_agent(
    folder: Path, document: Mapping[str, Any], environment: Mapping[str, str], *, image: Path | None = None
) -> Iterator[RunningAgent]:
    """An agent that answers on a free port; it has ended by SIGTERM at the end of the block.

    Args:
        folder: For its settings, its token and its log.
        document: The settings, without what this sets.
        environment: All of its variables.
        image: The interpreter of another installation than this repository.

    Raises:
        RuntimeError: It did not start, or did not end well.
    """
    log, token_file = folder / "agent.log", folder / "token"
    whole = {"version": 1, "port": 0, "token_file": str(token_file), **document}
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            command(settings_file(folder, whole), python=str(image or sys.executable)),
            stderr=stderr,
            text=True,
            env=environment,
            cwd=folder if image else ROOT,
        ) as process,
    ):
        try:
            port = _port(process, log)
            yield RunningAgent(process, port, token_file.read_text(), log)
            process.send_signal(signal.SIGTERM)
            if process.wait(BOUND_SECONDS):
                raise RuntimeError(f"the agent ended with status {process.returncode}:\n{log.read_text()}")
        finally:
            process.kill()


def _port(process: "subprocess.Popen[str]", log: Path) -> int:
    give_up = time.monotonic() + BOUND_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        for line in log.read_text().splitlines():
            if "the agent answers" in line:
                return int(json.loads(line)["at"].rpartition(":")[2])
        time.sleep(0.02)
    raise RuntimeError(f"the agent did not start:\n{log.read_text()}")
