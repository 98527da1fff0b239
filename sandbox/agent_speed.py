"""What the agent costs: `python -m sandbox.agent_speed`.

Seconds from the start of its process to its first answer, its memory where it reads one cloud or both, and requests a
second from its cache over one kept connection, beside a bare Starlette application that answers the same text. The
floor of its memory is that of a process that has nothing but this server and the clients of both SDKs. `--python`
measures another installation, such as the image's. Ends with one line of JSON.
"""

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE
from sandbox.agent import plan_file
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.databases.process import free_port
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.oci_resources import create_ring

ROUNDS, REQUESTS = 5, 2_000
START_SECONDS = 60.0
SECRET = "multi-cloud/app_user"
TEXT = json.dumps(
    {"username": "app", "password": "not-a-real-one", "generation": 1, "host": "db", "port": 3306}
)
BARE = """
import socket, sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
async def answer(request): return Response(sys.argv[2], media_type="application/json")
uvicorn.run(Starlette(routes=[Route("/{path:path}", answer)]), port=int(sys.argv[1]), log_config=None, access_log=False)
"""


FLOOR = (
    """
import sys, botocore.session, oci.auth, oci.secrets, oci.vault
session = botocore.session.Session()
clients = [session.create_client("secretsmanager", region_name="eu-central-1")]
key = dict(oci.config.from_file(sys.argv[3]))
clients += [kind(key) for kind in (oci.secrets.SecretsClient, oci.vault.VaultsClient)]
"""
    + BARE
)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.agent_speed", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--python", default=sys.executable, help="the interpreter  [default: this one]")
    python = parser.parse_args().python
    with (
        AwsSandbox() as aws,
        OciSandbox() as oci,
        tempfile.TemporaryDirectory(prefix="lockstep-agent-") as name,
    ):
        folder = Path(name)
        aws.client("secretsmanager").create_secret(Name=SECRET, SecretString=TEXT)
        create_ring(oci, SECRET, TEXT)
        key = write_config_file(folder, "agent", oci.config())
        environment = {
            **os.environ,
            **aws.environment(),
            OCI_ENDPOINT_VARIABLE: oci.endpoint,
            CONFIG_FILE_VARIABLE: str(key),
        }
        vault = {"region": "eu-frankfurt-1", "compartment_id": oci.compartment_id, "vault_id": oci.vault_id}
        stores: dict[str, Mapping[str, object]] = {
            "aws": {"kind": "aws-secrets-manager", "region": aws.region},
            "oci": {"kind": "oci-vault", **vault},
        }
        bench = Bench(python, folder, environment, key)
        figures = {**bench.speed(stores["aws"]), **bench.memory(stores)}
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


@dataclass(frozen=True)
class Bench:
    """Runs an installation of the agent.

    Attributes:
        key: The file with an API key for OCI.
    """

    python: str
    folder: Path
    environment: Mapping[str, str]
    key: Path

    def speed(self, store: Mapping[str, object]) -> dict[str, float]:
        """Seconds to the first answer, and requests a second beside a bare application's."""
        starts = []
        for _ in range(ROUNDS):
            with self._agent(store) as (seconds, _process, _port):
                starts.append(seconds)
        with self._agent(store) as (_, _agent, port), self._program(BARE) as (_, _bare, bare_port):
            token = {"X-Aws-Parameters-Secrets-Token": (self.folder / "token").read_text()}
            rates, bare_rates = [], []
            for _ in range(ROUNDS):
                rates.append(_rate(port, f"/v1/{SECRET}", token))
                bare_rates.append(_rate(bare_port, "/", {}))
        return {
            "start_seconds": round(median(starts), 2),
            "requests_a_second": round(median(rates)),
            "bare_requests_a_second": round(median(bare_rates)),
            "ratio": round(median(rates) / median(bare_rates), 2),
        }

    def memory(self, stores: Mapping[str, Mapping[str, object]]) -> dict[str, float]:
        """Megabytes of an agent that has read each store alone, and of one that has read all, and two floors."""
        figures: dict[str, float] = {}
        for name, store in stores.items():
            with self._agent(store) as (_, process, _port):
                figures[f"memory_{name}_mb"] = _memory_mb(process)
        with self._agent(*stores.values()) as (_, process, _port):
            figures["memory_both_mb"] = _memory_mb(process)
        for name, program in (("floor_both", FLOOR), ("bare", BARE)):
            with self._program(program) as (_, process, _port):
                figures[f"{name}_mb"] = _memory_mb(process)
        return figures

    @contextmanager
    def _agent(self, *stores: Mapping[str, object]) -> "Iterator[tuple[float, subprocess.Popen[bytes], int]]":
        port = free_port()
        settings = {
            "version": 1,
            "plan": str(plan_file(self.folder, SECRET, stores)),
            "listen": {"port": port},
            "token_file": str(self.folder / "token"),
        }
        file = self.folder / "agent.yaml"
        file.write_text(json.dumps(settings))
        command = [self.python, "-m", "lockstep.agent", "--config", str(file)]
        with _running(command, port, self.environment) as (seconds, process):
            yield seconds, process, port

    @contextmanager
    def _program(self, text: str) -> "Iterator[tuple[float, subprocess.Popen[bytes], int]]":
        port = free_port()
        command = [self.python, "-c", text, str(port), TEXT, str(self.key)]
        with _running(command, port, self.environment) as (seconds, process):
            yield seconds, process, port


@contextmanager
def _running(
    command: Sequence[str], port: int, environment: Mapping[str, str]
) -> Iterator[tuple[float, "subprocess.Popen[bytes]"]]:
    """A server, and the seconds from its start to its first answer."""
    began = time.monotonic()
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            while True:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
                try:
                    connection.request("GET", "/ping")
                    connection.getresponse().read()
                    break
                except OSError:
                    if time.monotonic() > began + START_SECONDS:
                        raise
                    time.sleep(0.005)
                finally:
                    connection.close()
            yield time.monotonic() - began, process
        finally:
            process.terminate()


def _rate(port: int, path: str, headers: dict[str, str]) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
    began = time.monotonic()
    for _ in range(REQUESTS):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"status {answer.status}")
    connection.close()
    return REQUESTS / (time.monotonic() - began)


def _memory_mb(process: "subprocess.Popen[bytes]") -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return round(int(line.split()[1]) / 1024)


if __name__ == "__main__":
    sys.exit(main())
