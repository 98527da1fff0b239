"""What other programs are told after it has happened: types of events, and the CloudEvents that carry them.

What can have happened to a credential, as the `data` of a CloudEvent (protocol E18).

Names, numbers, times and outcomes, all of which the audit entry has too: no password, and no address of a database. A
field is only added within a major version of Lockstep; a receiver ignores what it does not know.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, Protocol

from lockstep.protocol.messages import Entry, ErrorName, Id, Promoted, RunInput, Runner
from lockstep.protocol.strict_json import Instant, Message, write

Status = Literal["failed", "timed_out", "aborted"]


class PreviousDies(Message):
    """The value before the promoted one stops working: sent with the promotion, ahead of the time that it names.

    Attributes:
        credential: Its id in the plan.
        runner: Who rotated.
        rotation: The run, as its audit entry names it.
        generation: What the stores serve now.
        previous_generation: What stops working.
        dies_at: Until then it logs in at the least; the first rotation after it ends it. Where `reason` is `revoked`,
            it is revoked already, and this is when the value after it was promoted.
        reason: `overlap`, as planned; or `revoked`, by an operator's order.
    """

    credential: Id
    runner: Runner
    rotation: Id
    generation: int
    previous_generation: int
    dies_at: Instant
    reason: Literal["overlap", "revoked"]


class Failed(Message):
    """A run failed. Applications keep what they have, and the next run goes on from there.

    Attributes:
        credential: Its id in the plan.
        runner: Who tried.
        rotation: The run, as its audit entry names it.
        trigger: What started the run.
        status: `failed`; or, in AWS, `timed_out` or `aborted`, of which there may be no audit entry.
        error: The name of an error, of Lockstep or of Step Functions; null where none is known.
    """

    credential: Id
    runner: Runner
    rotation: Id
    trigger: Id
    status: Status
    error: ErrorName | None


class _ByOperator(Message):
    """What an operator has done.

    Attributes:
        credential: Its id in the plan.
        entry: The audit entry, which says who did it.
    """

    credential: Id
    entry: Entry


class Adopted(_ByOperator):
    """An operator has handed a login over: every store serves it, and Lockstep rotates it from now on.

    Attributes:
        stores: Those that did not serve it before, by their names in the plan.
        databases: Those on which it logged in, by their names in the plan.
    """

    stores: tuple[Id, ...]
    databases: tuple[Id, ...]


class Paused(_ByOperator):
    """An operator has switched the scheduled runs of both clouds off."""


class Resumed(_ByOperator):
    """An operator has switched the scheduled runs on again."""


class Retired(_ByOperator):
    """An operator has ended the rotation of a credential. Applications keep what they have.

    Attributes:
        left_valid: The generations that may still log in.
    """

    left_valid: tuple[int, ...]


EventData = Promoted | PreviousDies | Failed | Adopted | Paused | Resumed | Retired
NAMES: Mapping[type[EventData], str] = {
    Promoted: "promoted",
    PreviousDies: "previous-dies",
    Failed: "failed",
    Adopted: "adopted",
    Paused: "paused",
    Resumed: "resumed",
    Retired: "retired",
}
"""What each is called in the type of its event."""


def of_promotion(promoted: Promoted) -> tuple[EventData, ...]:
    """What is told of a promotion: it, and when the value before it stops working, if that is known."""
    dies_at = promoted.promoted_at if promoted.revoked else promoted.overlap_ends_at
    if dies_at is None or not promoted.previous_generation:
        return (promoted,)
    dies = PreviousDies(
        credential=promoted.credential,
        runner=promoted.runner,
        rotation=promoted.rotation,
        generation=promoted.generation,
        previous_generation=promoted.previous_generation,
        dies_at=dies_at,
        reason="revoked" if promoted.revoked else "overlap",
    )
    return (promoted, dies)


def of_failure(
    run: RunInput, *, runner: Runner, rotation: str, error: str | None, status: Status = "failed"
) -> Failed:
    """What is told of a run that has failed."""
    return Failed(
        credential=run.credential_id,
        runner=runner,
        rotation=rotation,
        trigger=run.trigger,
        status=status,
        error=error,
    )


# CloudEvents 1.0, in the JSON format, structured mode.
#
# https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md and formats/json-format.md beside it.

PREFIX = "dev.lockstep.credential"
"""What every type begins with, before a dot: a name in reverse order, as the specification recommends."""
CONTENT_TYPE = "application/cloudevents+json"


class CloudEvent(Message, kw_only=True):
    """An event.

    Attributes:
        id: The same for the same happening, however often it is sent; unique within `source`.
        source: The lock table, which is the authority on the credential.
        subject: The credential.
        time: When it happened.
    """

    specversion: str = "1.0"
    id: str
    source: str
    type: str
    subject: str
    time: Instant
    datacontenttype: str = "application/json"
    data: Message


def source_of(*, region: str, table: str) -> str:
    """The source of all events about the credentials of a lock table.

    Args:
        region: Where the table is.
        table: Its name.
    """
    return f"/lockstep/{region}/{table}"


def event_of(data: EventData, *, source: str, cause: str, time: datetime) -> CloudEvent:
    """The event of a happening.

    Args:
        data: What has happened.
        source: Of `source_of`.
        cause: The run, or the audit entry, that it belongs to: with the credential and the type it makes the id.
        time: When.
    """
    name = NAMES[type(data)]
    return CloudEvent(
        id=f"{data.credential}/{cause}/{name}",
        source=source,
        type=f"{PREFIX}.{name}",
        subject=data.credential,
        time=time.astimezone(UTC),
        data=data,
    )


# Where events go, and what becomes of one that cannot be sent.


class Sink(Protocol):
    """Takes events. It tries once."""

    def send(self, events: Sequence[CloudEvent]) -> None:
        """Send them.

        Raises:
            EventNotSentError: At least one of them was not taken.
        """


def text_of(event: CloudEvent) -> str:
    """An event as it is sent."""
    return json.dumps(write(event), separators=(",", ":"), ensure_ascii=False)
