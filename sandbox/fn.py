"""The function as OCI runs it: the real fdk in a process of its own, called over its Unix socket.

Between two calls the process is frozen, as Fn pauses an idle container (its `FN_FREEZE_IDLE_MSECS`).
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE
from lockstep.runtime.wiring import PLAN_VARIABLE
from sandbox.emulators.databases.process import Growing

ROOT = Path(__file__).resolve().parents[1]
FUNCTION = ROOT / "oci_fn" / "func.py"
START_SECONDS = 120.0
CALL_SECONDS = 120.0
POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Answer:
    """What the caller gets."""

    status: int
    text: str

    @property
    def body(self) -> Any:  # noqa: ANN401 - JSON
        """Parsed."""
        return json.loads(self.text)


class FunctionProcess:
    """A running function."""

    def __init__(self, process: "subprocess.Popen[bytes]", listener: Path, log: Path) -> None:
        self._process = process
        self._listener = listener
        self._log = log
        self._calls = 0
        self._under_way = 0
        self._lock = threading.Lock()

    @property
    def log(self) -> str:
        """Everything that it has written to stdout and stderr, whoever called it."""
        return self._log.read_text(errors="replace")

    def watch_log(self) -> Growing[str]:
        """What it writes to stdout and stderr from now on."""
        return Growing(lambda: self.log)

    def logged(self, rotation_id: str) -> dict[str, Any]:
        """What it has logged about a run that it has answered; empty if it has logged nothing."""
        for line in self.log.splitlines():
            _, brace, rest = line.partition("{")
            if rotation_id in rest:
                found: dict[str, Any] = json.loads(brace + rest)
                return found
        return {}

    def call(
        self, body: object = None, *, seconds: float = 120.0, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Call it, as Fn does.

        Args:
            body: JSON, or bytes as they are; None for an empty body.
            seconds: Until its deadline.
            headers: Override Fn's.
        """
        with self._running():
            return self._call(body, seconds, headers or {})

    def invoked(self, body: bytes, *, seconds: float = 120.0) -> tuple[int, bytes]:
        """Call it, as what stands under an OCID (`sandbox.emulators.oci.deployment`)."""
        answer = self.call(body, seconds=seconds)
        return answer.status, answer.text.encode()

    @contextmanager
    def _running(self) -> Iterator[None]:
        with self._lock:
            self._calls += 1
            self._under_way += 1
            self._process.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1
                if not self._under_way:
                    self._process.send_signal(signal.SIGSTOP)

    def _call(self, body: object, seconds: float, headers: Mapping[str, str]) -> Answer:
        deadline = datetime.now(UTC) + timedelta(seconds=seconds)
        fn = {
            "Fn-Call-Id": f"01KF{self._process.pid:010d}{self._calls:012d}",
            "Fn-Deadline": deadline.isoformat().replace("+00:00", "Z"),
            "Content-Type": "application/json",
        }
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        connection = _UnixConnection(self._listener)
        try:
            connection.request("POST", "/call", body=data, headers={**fn, **headers})
            reply = connection.getresponse()
            return Answer(reply.status, reply.read().decode())
        finally:
            connection.close()

    def wait_until_it_listens(self) -> None:
        """Return once it takes calls."""
        give_up = time.monotonic() + START_SECONDS
        while not self._listener.exists():
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"the function did not start:\n{self.log}")
            time.sleep(POLL_SECONDS)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=CALL_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CALL_SECONDS)
        self.sock.connect(str(self._path))


def function_variables(*, aws: str, oci: str, plan: Path, config: Path) -> dict[str, str]:
    """What the function's environment has in the sandbox.

    Args:
        aws: The address of AWS.
        oci: The address of OCI.
        plan: The plan file.
        config: The SDK config that stands for its resource principal.
    """
    return {
        "AWS_ENDPOINT_URL": aws,
        "AWS_EC2_METADATA_DISABLED": "true",
        OCI_ENDPOINT_VARIABLE: oci,
        PLAN_VARIABLE: str(plan),
        CONFIG_FILE_VARIABLE: str(config),
    }


@contextmanager
def running_function(
    environment: Mapping[str, str], *, module: Path = FUNCTION, command: Sequence[str] | None = None
) -> Iterator[FunctionProcess]:
    """Start the function; it is gone afterwards.

    Args:
        environment: Its variables, besides Fn's.
        module: What fdk loads.
        command: Another command than fdk with the module, such as an image's entry point.
    """
    with tempfile.TemporaryDirectory(prefix="fn-") as folder:
        listener, log = Path(folder) / "fn.sock", Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command or [str(Path(sys.executable).parent / "fdk"), str(module), "handler"],
                cwd=folder,
                env={
                    "PATH": os.defpath,
                    "PYTHONPATH": str(ROOT),
                    "FN_FORMAT": "http-stream",
                    "FN_LISTENER": f"unix:{listener}",
                    **environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        function = FunctionProcess(process, listener, log)
        try:
            function.wait_until_it_listens()
            yield function
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
