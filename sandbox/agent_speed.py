"""What the agent costs: `python -m sandbox.agent_speed`.

Seconds from the start of its process to its first answer, its memory, and requests a second from its cache over one
kept connection, beside a bare Starlette application that answers the same text. Ends with one line of JSON.
"""

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from sandbox.aws import AwsSandbox
from sandbox.databases.process import free_port

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


def main() -> int:
    """Measure and print."""
    argparse.ArgumentParser(
        prog="python -m sandbox.agent_speed", description=__doc__.partition("\n")[0]
    ).parse_args()
    with AwsSandbox() as aws, tempfile.TemporaryDirectory(prefix="lockstep-agent-") as name:
        aws.client("secretsmanager").create_secret(Name=SECRET, SecretString=TEXT)
        figures = _measured(Path(name), {**os.environ, **aws.environment()}, aws.region)
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


def _measured(folder: Path, environment: dict[str, str], region: str) -> dict[str, float]:
    port, bare_port = free_port(), free_port()
    settings = {
        "version": 1,
        "stores": [{"kind": "aws-secrets-manager", "region": region}],
        "serve": [{"id": SECRET, "secrets": {"app_user": SECRET}, "overlap": "16m"}],
        "listen": {"port": port},
        "token_file": str(folder / "token"),
    }
    (folder / "agent.yaml").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "lockstep.agent", "--config", str(folder / "agent.yaml")]
    starts = []
    for _ in range(ROUNDS):
        with _running(command, port, environment) as (seconds, _process):
            starts.append(seconds)
    with (
        _running(command, port, environment) as (_, agent),
        _running([sys.executable, "-c", BARE, str(bare_port), TEXT], bare_port, environment) as (_, bare),
    ):
        token = {"X-Aws-Parameters-Secrets-Token": (folder / "token").read_text()}
        rates, bare_rates = [], []
        for _ in range(ROUNDS):
            rates.append(_rate(port, f"/v1/{SECRET}", token))
            bare_rates.append(_rate(bare_port, "/", {}))
        return {
            "start_seconds": round(median(starts), 2),
            "memory_mb": _memory_mb(agent),
            "bare_memory_mb": _memory_mb(bare),
            "requests_a_second": round(median(rates)),
            "bare_requests_a_second": round(median(bare_rates)),
            "ratio": round(median(rates) / median(bare_rates), 2),
        }


@contextmanager
def _running(
    command: Sequence[str], port: int, environment: dict[str, str]
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
