"""Spans around the steps of a run, in both clouds, and what becomes of them when an invocation is over."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

from lockstep.compiled import CompiledPlan
from lockstep.messages import FailedRun, Rotation, SkippedRun
from lockstep.ports import Clock, Ports
from lockstep.tracing.ports import traced_ports
from lockstep.tracing.sending import Send
from lockstep.tracing.trace import Attributes, Trace

SEND_SECONDS = 3.0
"""The longest that the end of an invocation is held up, whatever the collector does."""
SPARE_SECONDS = 2.0
"""Before the platform ends an invocation, in which nothing is sent any more."""

_STEP_OF_STATE = {
    "Generate": "generate",
    "ApplyDb": "apply_db",
    "RevokeDb": "apply_db",
    "UpdateSecrets": "update_secrets",
    "Audit": "audit",
    "AuditFailure": "audit",
}
"""The step that a state calls; each of the others is one call of the lock table."""

WorkT = TypeVar("WorkT", bound=Callable[..., Any])
ResultT = TypeVar("ResultT")
logger = logging.getLogger("lockstep")


class Traces:
    """Records runs, and sends what it has recorded. A run that is skipped is no rotation, and is not recorded.

    Args:
        clock: The time of the spans.
        send: Sends spans.
    """

    def __init__(self, *, clock: Clock, send: Send) -> None:
        self._clock = clock
        self._send = send
        self._waiting: list[dict[str, Any]] = []

    def ports(self, plan: CompiledPlan) -> Callable[[Ports], Ports]:
        """Puts a recorder around ports of the plan."""
        return partial(traced_ports, plan)

    def step(self, step: WorkT) -> WorkT:
        """`run` of a step that is an invocation of its own; that of Audit ends its run."""
        name = step.__module__.removesuffix(".step").rpartition(".")[2]

        def traced(request: Any, ports: Ports) -> Any:  # noqa: ANN401 - those of the step
            if isinstance(request, SkippedRun):
                return step(request, ports)
            rotation: Rotation = request.rotation
            trace = Trace(rotation.credential_id, rotation.rotation_id, self._clock)
            trace.learn(request)
            try:
                with trace.span(name, _asked(request)):
                    result = step(request, ports)
                trace.learn(result)
                if name == "audit":
                    error = request.error if isinstance(request, FailedRun) else None
                    trace.add_run(rotation.started_at, _run(rotation, request.outcome), error=error)
            finally:
                self._waiting += trace.ended()
            return result

        return cast("WorkT", traced)

    def rotation(self, rotate: WorkT) -> WorkT:
        """A whole run in one invocation, from its request, its ports and what retries its states."""

        def traced(request: Any, ports: Ports, retries: Any) -> Any:  # noqa: ANN401 - those of the runner
            trace, began = Trace(ports.credential.id, request.rotation_id, self._clock), self._clock.now()
            outcome, error = "failed", None
            try:
                done = rotate(request, ports, _TracedStates(retries, trace))
                outcome = done.outcome
            except Exception as failure:
                error = type(failure).__name__
                raise
            finally:
                if outcome != "skipped":
                    trace.add_run(began, _run(request, outcome), error=error)
                    self._waiting += trace.ended()
            return done

        return cast("WorkT", traced)

    def flush(self, *, seconds_left: float) -> None:
        """Send what was recorded. It takes SEND_SECONDS at most, and raises nothing.

        Args:
            seconds_left: Until the platform ends the invocation.
        """
        waiting, self._waiting = self._waiting, []
        if waiting:
            seconds = min(SEND_SECONDS, seconds_left - SPARE_SECONDS)
            problem = self._sent(waiting, seconds) if seconds > 0 else "the invocation has no time left"
            if problem:
                logger.warning("traces were not sent: %s", problem)

    def _sent(self, spans: list[dict[str, Any]], seconds: float) -> str | None:
        try:
            return self._send(spans, seconds)
        except Exception as error:  # noqa: BLE001 - a trace fails no step, whose result is returned after this
            return type(error).__name__


class _TracedStates:
    """What retries the states of a run, with a span around each try of a step."""

    def __init__(self, retries: Any, trace: Trace) -> None:  # noqa: ANN401 - of the runner
        self._retries, self._trace = retries, trace

    def call(self, state: str, work: Callable[[], ResultT], **options: Any) -> ResultT:  # noqa: ANN401 - likewise
        result: ResultT = self._retries.call(state, partial(self._recorded, state, work), **options)
        return result

    def _recorded(self, state: str, work: Callable[[], ResultT]) -> ResultT:
        with self._trace.span(_STEP_OF_STATE.get(state, state), {"lockstep.state": state}):
            result = work()
        self._trace.learn(result)
        return result


def _asked(request: object) -> Attributes:
    action = getattr(request, "action", None)
    return {"lockstep.action": action} if action else {}


def _run(run: Any, outcome: str) -> Attributes:  # noqa: ANN401 - a rotation, or the request for one
    return {"lockstep.runner": run.runner, "lockstep.trigger": run.trigger, "lockstep.outcome": outcome}
