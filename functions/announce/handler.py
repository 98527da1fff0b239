"""The Lambda face of `functions.announce`: one event of Step Functions in, events of Lockstep out.

It imports no store and no database. EventBridge calls it when an execution has ended, so no rotation waits for it.
What it raises makes Lambda call it again, twice, and counts as an error of the function.
"""

import json
import sys
from functools import cached_property
from typing import Any

from functions.announce.ended import Ended, ended
from functions.face import LambdaContext, scope_of
from lockstep.aws.clients import aws_client, translated
from lockstep.plan.compiled import CompiledPlan
from lockstep.protocol.deadlines import check_scope
from lockstep.protocol.errors import (
    ErrorKind,
    EventNotSentError,
    InvalidRequestError,
    PlanDocumentMissingError,
)
from lockstep.protocol.events import Sink, event_of, source_of
from lockstep.protocol.messages import Promoted
from lockstep.runtime.identity import AWS_RUNNER
from lockstep.runtime.wiring import hosted_runner, hosted_source


class Announcer:
    """The handler. Its clients are made once."""

    def __call__(self, event: dict[str, Any], context: LambdaContext) -> None:
        """Tell of one execution.

        Raises:
            InvalidRequestError: The event is another one.
            EventNotSentError: EventBridge has not taken it, or Step Functions did not answer.
            LockstepError: The published plan cannot be had, or is not the one that was deployed.
        """
        with scope_of(context).open():
            run = ended(event, _is_known)
            if run is None:
                return
            sent = self._tell(run)
        # Unlike a record of the logger, a line on the standard output reaches CloudWatch as it is.
        sys.stdout.write(json.dumps({"rotation": run.execution.name, "events_sent": sent}) + "\n")
        sys.stdout.flush()

    def _tell(self, run: Ended) -> list[str]:
        """The types of what was sent."""
        event_data = run.event_data(self._error(run))
        if not event_data or self._sink is None:
            return []
        source = source_of(region=self._plan.lock.region, table=self._plan.lock.table)
        time = next((h.promoted_at for h in event_data if isinstance(h, Promoted)), run.at)
        events = [event_of(h, source=source, cause=run.execution.name, time=time) for h in event_data]
        self._sink.send(events)
        return [event.type for event in events]

    def _error(self, run: Ended) -> str | None:
        """The name of the error that a run ended with: Step Functions is asked where its event does not say."""
        execution = run.execution
        if execution.error or execution.status != "FAILED":
            return execution.error
        with translated(dict.fromkeys(ErrorKind, EventNotSentError)):
            described = self._states.describe_execution(executionArn=execution.execution_arn)
            found: str | None = described.get("error")
        return found

    @cached_property
    def _plan(self) -> CompiledPlan:
        return hosted_runner(AWS_RUNNER).plan

    @cached_property
    def _sink(self) -> Sink | None:
        return hosted_runner(AWS_RUNNER).event_sink("aws")

    @cached_property
    def _states(self) -> Any:  # noqa: ANN401 - botocore makes its clients' types at run time
        return aws_client("stepfunctions", self._plan.lock.region, deadline_guard=check_scope)


def _is_known(credential_id: str) -> bool:
    try:
        hosted_source().of(credential_id)
    except (InvalidRequestError, PlanDocumentMissingError):
        return False
    return True


handler = Announcer()
