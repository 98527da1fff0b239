"""The two runners as they are deployed: AWS's state machine with its functions, and the OCI function."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import BytesIO
from itertools import count
from typing import Any, Literal, NamedTuple

from fdk import context  # type: ignore[import-untyped]  # fdk ships no types

from lockstep.protocol.deadlines import START_LATENESS
from lockstep.protocol.schedule import STANDBY, last_trigger, period, turn_after
from lockstep.runtime.identity import OCI_RUNNER
from lockstep.runtime.wiring import hosted_source
from oci_fn import func
from sandbox.emulators.aws import InvocationContext, InvocationResult, ProcessDied
from sandbox.estate import runner_of
from sandbox.wire import Process
from tests.proof.estate import INTERVAL_SECONDS, WiredEstate

Event = Any
"""What a function is invoked with."""
RunnerName = Literal["aws", "oci"]
RUNNERS: tuple[RunnerName, ...] = ("aws", "oci")
RUN_SECONDS = 300
OCI_DEADLINE_SECONDS = 10 * INTERVAL_SECONDS
"""So late that it stops no run that sleeps and is overtaken: what stops such a run must be the protocol."""
_ids = count(1)


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        outcome: `rotated`, `skipped`, `failed`, or `died`.
        error: The error's name.
        text: All that a reader of histories and answers could see.
    """

    rotation_id: str
    outcome: str
    error: str = ""
    text: str = ""

    def __str__(self) -> str:
        return f"{self.outcome} {self.error}".strip()


class Runners:
    """Starts runs and waits for their end."""

    def __init__(self, estate: WiredEstate) -> None:
        self._estate = estate
        waits, clock, workers = estate.running.settings.timeouts, estate.clock, estate.wire.side_by_side
        self._function = func.Function(
            lambda: runner_of(hosted_source(), OCI_RUNNER, timeouts=waits, clock=clock, side_by_side=workers),
            clock=estate.clock,
        )
        self._processes: dict[str, tuple[Process, Process]] = {}

    @contextmanager
    def ready(self) -> Iterator["Runners"]:
        """Hooks in place: each invocation is a process of its own."""
        host = self._estate.running.aws.lambda_host
        host.before_call, host.after_call = self._begin, self._end
        yield self
        host.before_call = host.after_call = None

    def wait_for(self, runner: RunnerName, credential_id: str) -> None:
        """Let an interval pass, and more until this runner comes to it, on time or late (protocol R2, R8)."""
        credential = self._estate.running.direct.credential(credential_id)
        assert credential
        schedule, now = credential.schedule, self._estate.clock.now()
        phase = schedule.phase + (turn_after(schedule.interval) if runner == STANDBY else timedelta())
        comes_at = now + schedule.interval
        called_at = last_trigger(schedule.interval, comes_at, phase)
        if comes_at >= called_at + START_LATENESS:
            comes_at = called_at + period(schedule.interval)
        self._estate.clock.jump((comes_at - now).total_seconds())

    def rotate(self, runner: RunnerName, credential_id: str) -> Outcome:
        """One run, from its trigger to its end."""
        rotation_id = f"{runner}-{next(_ids)}"
        run = self._aws if runner == "aws" else self._oci
        return run(rotation_id, {"credential_id": credential_id})

    def _aws(self, rotation_id: str, event: Event) -> Outcome:
        running = self._estate.running
        with self._estate.wire.by(Process("state machine", rotation_id)):
            execution = running.aws.run_execution(
                running.machine_arn, event, timeout_seconds=RUN_SECONDS, name=rotation_id, poll_seconds=0.05
            )
        outcome = (execution.output or {}).get("outcome", "failed")
        return Outcome(rotation_id, outcome, execution.error or "", execution.text)

    def _oci(self, rotation_id: str, event: Event) -> Outcome:
        process = Process("function", f"{rotation_id}.1")
        deadline = (self._estate.clock.now() + timedelta(seconds=OCI_DEADLINE_SECONDS)).isoformat()
        asked = context.InvokeContext("app", "app", "fn", "fn", rotation_id, deadline=deadline)
        with self._estate.wire.by(process):
            answer = self._function(asked, BytesIO(json.dumps(event).encode()))
        if process.dead:
            return Outcome(process.run, "died")
        result = json.loads(answer.body())["results"][0]
        return Outcome(process.run, result["outcome"], result.get("error", ""), answer.body())

    def _begin(self, call: InvocationContext, event: Event) -> None:
        wire = self._estate.wire
        process = Process(call.function_name, event["rotation"]["rotation_id"])
        self._processes[call.request_id] = process, wire.process
        wire.process = process

    def _end(self, call: InvocationContext, _event: Event, _result: InvocationResult) -> None:
        process, before = self._processes.pop(call.request_id)
        self._estate.wire.process = before
        if process.dead:
            raise ProcessDied
