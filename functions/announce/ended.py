"""What has happened, by the event with which Step Functions tells that an execution has ended.

https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html. It comes also where an execution ran
out of time or was stopped, and no state of it could tell anything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import msgspec

from functions.face import validated
from lockstep.protocol.events import EventData, of_failure, of_promotion
from lockstep.protocol.messages import ErrorName, Id, Promoted, RunInput
from lockstep.protocol.strict_json import MessageError, object_of, read

Status = Literal["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"]
STATUSES: tuple[Status, ...] = get_args(Status)
"""Of an execution that has ended."""


class Execution(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An execution that has ended, as the event names it.

    Attributes:
        name: The id of the run.
        stop_date: When, in milliseconds from 1970.
        input: What started it, as a text; Step Functions leaves out a long one.
        output: What it returned, as a text; None unless it succeeded.
        error: The error that the event names; Step Functions may leave it out.
    """

    execution_arn: str
    name: Id
    status: Status
    stop_date: int
    input: str | None = None
    output: str | None = None
    error: str | None = None


class _Event(msgspec.Struct):
    detail: Execution


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An execution that has ended, with what started it."""

    execution: Execution
    run: RunInput

    @property
    def at(self) -> datetime:
        """When."""
        return datetime.fromtimestamp(self.execution.stop_date / 1000, UTC)

    def event_data(self, error: str | None) -> tuple[EventData, ...]:
        """What there is to tell; nothing of a run that was skipped.

        Args:
            error: The name of the error, if the execution failed.
        """
        execution = self.execution
        if execution.status == "SUCCEEDED":
            promoted = _promoted(execution.output)
            return of_promotion(promoted) if promoted else ()
        status: Any = execution.status.lower()
        name = _if_fitting(ErrorName, error)
        return (of_failure(self.run, runner="aws", rotation=execution.name, error=name, status=status),)


def ended(event: object, is_known: Callable[[str], bool]) -> Ended | None:
    """The execution that an event is about; None where it rotates no credential of the plan.

    Args:
        event: The event.
        is_known: Whether the plan has a credential, by its id.

    Raises:
        InvalidRequestError: The event is another one.
    """
    execution: Execution = validated(_Event, event).detail
    run: RunInput | None = _if_fitting(RunInput, object_of(execution.input or ""))
    # What is no input the state machine refused, too.
    return Ended(execution=execution, run=run) if run and is_known(run.credential_id) else None


def _promoted(output: str | None) -> Promoted | None:
    """What a run has done; None where it has not rotated, or by a definition of another build that says less.

    The function has no versions, and a run under way, or after a roll-back, has an older definition (protocol R14).
    """
    told = object_of(output or "").get("promoted")
    known = {k: told[k] for k in Promoted.__struct_fields__ if k in told} if isinstance(told, dict) else None
    found: Promoted | None = _if_fitting(Promoted, known)
    return found


def _if_fitting(kind: object, value: object) -> Any:  # noqa: ANN401 - of that kind
    """The value, read as this kind; None where it does not fit."""
    try:
        return read(kind, value)
    except MessageError:
        return None
