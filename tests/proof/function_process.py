"""The OCI function in a process of its own, which can be killed for real: `python -m tests.proof.function_process`.

One line of JSON in for each call (`call_id`, `credential_id`, `ahead_seconds`), one line out: the answer and the
memory that the process holds.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

from fdk import context  # type: ignore[import-untyped]  # fdk ships no types

from lockstep.protocol.workers import one_after_the_other
from lockstep.runtime.identity import OCI_RUNNER
from lockstep.runtime.wiring import hosted_runner
from oci_fn import func
from tests.proof.clock import JumpingClock

DEADLINE_SECONDS = 300
ROOT = Path(__file__).resolve().parents[2]


class FunctionProcess:
    """Starts the process when it is needed, and again after it was killed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.started = 0
        self.memory_kilobytes: list[int] = []

    def call(self, call_id: str, credential_id: str, *, ahead_seconds: float) -> dict[str, Any] | None:
        """The function's answer; None where the process died before it gave one."""
        process = self._valid()
        asked = {"call_id": call_id, "credential_id": credential_id, "ahead_seconds": ahead_seconds}
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.kill()
            return None
        reply: dict[str, Any] = json.loads(line)
        self.memory_kilobytes.append(reply["memory_kilobytes"])
        return reply

    def kill(self) -> None:
        """SIGKILL: no handler and no `finally` runs, and no message is sent."""
        process, self._process = self._process, None
        if process:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream:
                    with suppress(BrokenPipeError):
                        stream.close()

    def _valid(self) -> subprocess.Popen[str]:
        if self._process is None:
            self.started += 1
            self._process = subprocess.Popen(  # noqa: S603 - this very module
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd=ROOT,
                env=dict(os.environ),
            )
        return self._process


def memory_kilobytes() -> int:
    """Resident memory of this process."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def main() -> None:
    """Answer calls until there are no more."""
    clock, ahead = JumpingClock(), 0.0
    function = func.Function(
        lambda: hosted_runner(OCI_RUNNER, clock=clock, side_by_side=one_after_the_other), clock=clock
    )
    for line in sys.stdin:
        asked = json.loads(line)
        clock.jump(asked["ahead_seconds"] - ahead)
        ahead = asked["ahead_seconds"]
        deadline = (clock.now() + timedelta(seconds=DEADLINE_SECONDS)).isoformat()
        ctx = context.InvokeContext("app", "app", "fn", "fn", asked["call_id"], deadline=deadline)
        body = json.dumps({"credential_id": asked["credential_id"]}).encode()
        answer = function(ctx, BytesIO(body))
        reply = {"answer": json.loads(answer.body()), "memory_kilobytes": memory_kilobytes()}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
