"""The Lambda face of `functions.announce`: one event of Step Functions in, events of Lockstep out.

It imports no store and no database. EventBridge calls it when an execution has ended, so no rotation waits for it.
What it raises makes Lambda call it again, twice, and counts as an error of the function.
"""

import json
import sys
from typing import Any

from functions.announce.ended import Ended, ended
from functions.face import LambdaContext, scope_of
from lockstep.aws.clients import translated
from lockstep.protocol.errors import (
    ErrorKind,
    EventNotSentError,
    InvalidRequestError,
    PlanDocumentMissingError,
)
from lockstep.protocol.events import event_of, source_of
from lockstep.protocol.messages import Promoted
from lockstep.runtime.identity import AWS_RUNNER
from lockstep.runtime.wiring import Runner, hosted_runner


def handler(event: dict[str, Any], context: LambdaContext) -> None:
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
        sent = _tell(hosted_runner(AWS_RUNNER), run)
    # Unlike a record of the logger, a line on the standard output reaches CloudWatch as it is.
    sys.stdout.write(json.dumps({"rotation": run.execution.name, "events_sent": sent}) + "\n")
    sys.stdout.flush()


def _tell(runner: Runner, run: Ended) -> list[str]:
    """The types of what was sent."""
    event_data = run.event_data(_error(runner, run))
    sink = runner.event_sink("aws") if event_data else None
    if sink is None:
        return []
    source = source_of(region=runner.plan.lock.region, table=runner.plan.lock.table)
    time = next((h.promoted_at for h in event_data if isinstance(h, Promoted)), run.at)
    events = [event_of(h, source=source, cause=run.execution.name, time=time) for h in event_data]
    sink.send(events)
    return [event.type for event in events]


def _error(runner: Runner, run: Ended) -> str | None:
    """The name of the error that a run ended with: Step Functions is asked where its event does not say."""
    execution = run.execution
    if execution.error or execution.status != "FAILED":
        return execution.error
    with translated(dict.fromkeys(ErrorKind, EventNotSentError)):
        states = runner.aws("stepfunctions", runner.plan.lock.region)
        found: str | None = states.describe_execution(executionArn=execution.execution_arn).get("error")
    return found


def _is_known(credential_id: str) -> bool:
    try:
        hosted_runner(AWS_RUNNER).source.of(credential_id)
    except (InvalidRequestError, PlanDocumentMissingError):
        return False
    return True
