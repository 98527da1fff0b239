"""What has happened, by the event with which Step Functions tells that an execution has ended.

https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html. It comes also where an execution ran
out of time or was stopped, and no state of it could tell anything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from lockstep.protocol.events import ErrorName, EventData, Failed, of_promotion
from lockstep.protocol.messages import Id, Promoted, RunInput
from lockstep.protocol.strict_json import MessageError, object_of, parse, read

Status = Literal["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"]
STATUSES: tuple[Status, ...] = ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")
"""Of an execution that has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An execution that has ended.

    Attributes:
        rotation: Its name, which is the id of the run.
        arn: Its ARN.
        at: When.
        run: What started it.
        output: What it returned, as a text; None unless it succeeded.
        error: The error that the event names; Step Functions may leave it out.
    """

    rotation: Id
    arn: str
    status: Status
    at: datetime
    run: RunInput
    output: str | None
    error: str | None

    def event_data(self, error: str | None) -> tuple[EventData, ...]:
        """What there is to tell; nothing of a run that was skipped.

        Args:
            error: The name of the error, if the execution failed.
        """
        if self.status == "SUCCEEDED":
            promoted = _promoted(self.output)
            return of_promotion(promoted) if promoted else ()
        status: Any = self.status.lower()
        failed = Failed(
            credential=self.run.credential_id,
            runner="aws",
            rotation=self.rotation,
            trigger=self.run.trigger,
            status=status,
            error=_name(error),
        )
        return (failed,)


def ended(event: Any, is_known: Callable[[str], bool]) -> Ended | None:  # noqa: ANN401 - JSON
    """The execution that an event is about; None where it rotates no credential of the plan.

    Args:
        event: The event.
        is_known: Whether the plan has a credential, by its id.

    Raises:
        MessageError: The event is another one.
    """
    try:
        detail = event["detail"]
        given, at = detail.get("input"), datetime.fromtimestamp(detail["stopDate"] / 1000, UTC)
        found = {
            "arn": detail["executionArn"],
            "rotation": read(Id, detail["name"]),
            "status": read(Status, detail["status"]),
            "output": detail.get("output"),
            "error": detail.get("error"),
        }
    except (LookupError, TypeError, AttributeError, ValueError):
        raise MessageError("must tell that an execution has ended") from None
    try:
        run: RunInput = read(RunInput, parse(given or "null"))
    except MessageError:
        return None  # The state machine refused it, too.
    return Ended(at=at, run=run, **found) if is_known(run.credential_id) else None


def _promoted(output: str | None) -> Promoted | None:
    """What a run has done; None where it has not rotated, or by a definition of another build that says less.

    The function has no versions, and a run under way, or after a roll-back, has an older definition (protocol R14).
    """
    told = object_of(output or "").get("promoted")
    known = {k: told[k] for k in Promoted.__struct_fields__ if k in told} if isinstance(told, dict) else None
    try:
        return read(Promoted, known)
    except MessageError:
        return None


def _name(error: str | None) -> str | None:
    """The name of an error, if it is one."""
    try:
        name: str = read(ErrorName, error)
    except MessageError:
        return None
    return name
