"""Tells other programs what a run has done, after its lock is free again (protocol E18).

An event is tried once, and for seconds at the most. After the first that is not sent, or takes long, no other is tried
in this call, so that credentials that come later do not wait for a topic.
"""

import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from lockstep.protocol.errors import DeadlineExceededError, LockstepError
from lockstep.protocol.events import EventData, event_of, of_failure, of_promotion, source_of
from lockstep.protocol.messages import Promoted, RunInput
from lockstep.protocol.ports import Clock
from lockstep.runtime.wiring import Runner

SLOW_SECONDS = 2.0
"""A topic that takes longer for the events of a run is left alone for the rest of the call."""

logger = logging.getLogger("lockstep")


@dataclass
class EventPublisher:
    """Sends the events of the runs of one call.

    Attributes:
        runner: Returns one runner, whose plan may name a topic. It is asked after a run, whose document says the same
            of that as the index. No run waits for it, and none fails where neither can be read.
        clock: The function's.
        last_call_at: In the clock's monotonic seconds; after it none is sent.
        scope: Opens a scope for what is sent.
    """

    runner: Callable[[], Runner]
    clock: Clock
    last_call_at: float
    scope: Callable[[], AbstractContextManager[None]]
    _gave_up: str = ""

    def publish(self, run: RunInput, rotation_id: str, promoted: Promoted | None, *, error: str) -> None:
        """Tell of one run. Raises nothing; what is not sent is logged, by its number.

        Args:
            run: What started it.
            rotation_id: The run.
            promoted: What it has done; None: it was skipped, or failed.
            error: The name of the error that it failed with; empty if it did not.
        """
        event_data = of_promotion(promoted) if promoted else ()
        if error:
            event_data = (of_failure(run, runner="oci", rotation=rotation_id, error=error),)
        if not event_data:
            return
        problem = self._gave_up
        try:
            if not problem:
                self._send(event_data, rotation_id, promoted)
        except LockstepError as e:
            problem = self._gave_up = str(e.where.get("code") or e.name)
        except Exception as e:  # noqa: BLE001 - an event fails no run
            problem = self._gave_up = type(e).__name__
        if problem:
            told = {"credential_id": run.credential_id, "rotation_id": rotation_id}
            logger.warning(json.dumps({**told, "events_not_sent": len(event_data), "error": problem}))

    def _send(self, event_data: tuple[EventData, ...], rotation_id: str, promoted: Promoted | None) -> None:
        with self.scope():
            runner = self.runner()
            sink = runner.event_sink("oci")
            if sink is None:
                return
            began = self.clock.monotonic()
            if began >= self.last_call_at:
                raise DeadlineExceededError
            time = promoted.promoted_at if promoted else self.clock.now().replace(microsecond=0)
            source = source_of(region=runner.plan.lock.region, table=runner.plan.lock.table)
            sink.send([event_of(h, source=source, cause=rotation_id, time=time) for h in event_data])
        if self.clock.monotonic() - began > SLOW_SECONDS:
            self._gave_up = "slow"
