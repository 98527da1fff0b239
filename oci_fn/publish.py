"""Tells other programs what a run has done, after its lock is free again (protocol E18).

Loaded only where the plan names a topic. An event is tried once, and for seconds at the most. After the first that is
not sent, or takes long, no other is tried in this call, so that credentials that come later do not wait for a topic.
"""

import json
import logging
from collections.abc import Callable
from functools import cached_property

from lockstep.plan.compiled import CompiledPlan
from lockstep.protocol.deadlines import Scope, check_scope
from lockstep.protocol.errors import DeadlineExceededError, LockstepError
from lockstep.protocol.events import EventData, Failed, Sink, event_of, of_promotion, source_of
from lockstep.protocol.messages import Promoted, RunInput
from lockstep.protocol.ports import Clock
from lockstep.runtime.identity import OCI_RUNNER
from lockstep.runtime.wiring import endpoints_from_environment, event_sink

SLOW_SECONDS = 2.0
"""A topic that takes longer for the events of a run is left alone for the rest of the call."""

logger = logging.getLogger("lockstep")


class EventPublisher:
    """Sends the events of the runs of one call.

    Args:
        plan: The plan.
        clock: The function's.
        last_call_at: In the clock's monotonic seconds; after it none is sent.
        scope: Makes a scope for a call.
    """

    def __init__(
        self,
        plan: CompiledPlan,
        *,
        clock: Clock,
        last_call_at: float,
        scope: Callable[[], Scope],
    ) -> None:
        self._plan = plan
        self._source = source_of(region=plan.lock.region, table=plan.lock.table)
        self._clock = clock
        self._last_call_at = last_call_at
        self._scope = scope
        self._gave_up = ""

    def publish(self, run: RunInput, rotation_id: str, promoted: Promoted | None, *, error: str) -> None:
        """Tell of one run. Raises nothing; what is not sent is logged, by its number.

        Args:
            run: What started it.
            rotation_id: The run.
            promoted: What it has done; None: it was skipped, or failed.
            error: The name of the error that it failed with; empty if it did not.
        """
        number, problem = 1, self._gave_up
        try:
            event_data = _event_data(run, rotation_id, promoted, error)
            number = len(event_data)
            if event_data and not problem:
                self._send(event_data, rotation_id, promoted)
        except LockstepError as e:
            problem = self._gave_up = str(e.where.get("code") or e.name)
        except Exception as e:  # noqa: BLE001 - an event fails no run
            problem = self._gave_up = type(e).__name__
        if problem and number:
            logger.warning(
                json.dumps(
                    {
                        "credential_id": run.credential_id,
                        "rotation_id": rotation_id,
                        "events_not_sent": number,
                        "error": problem,
                    }
                )
            )

    def _send(self, event_data: tuple[EventData, ...], rotation_id: str, promoted: Promoted | None) -> None:
        if self._clock.monotonic() >= self._last_call_at:
            raise DeadlineExceededError
        now = self._clock.now().replace(microsecond=0)
        time = promoted.promoted_at if promoted else now
        events = [event_of(h, source=self._source, cause=rotation_id, time=time) for h in event_data]
        with self._scope().open():
            sink = self._sink
            began = self._clock.monotonic()
            if sink:
                sink.send(events)
        if self._clock.monotonic() - began > SLOW_SECONDS:
            self._gave_up = "slow"

    @cached_property
    def _sink(self) -> Sink | None:
        endpoints = endpoints_from_environment()
        return event_sink(
            self._plan, "oci", OCI_RUNNER, endpoints=endpoints, clock=self._clock, deadline_guard=check_scope
        )


def _event_data(
    run: RunInput, rotation_id: str, promoted: Promoted | None, error: str
) -> tuple[EventData, ...]:
    if error:
        failed = Failed(
            credential=run.credential_id,
            runner="oci",
            rotation=rotation_id,
            trigger=run.trigger,
            status="failed",
            error=error,
        )
        return (failed,)
    return of_promotion(promoted) if promoted else ()
