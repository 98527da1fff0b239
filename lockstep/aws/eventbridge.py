"""Events to a bus of EventBridge: `PutEvents`, once, with the CloudEvent as the detail.

https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html: 10 entries a request at most, 256 KB in
all; an entry that is refused is no exception, but counted in `FailedEntryCount`.
"""

from collections.abc import Sequence
from typing import Any

from lockstep.aws.clients import translated
from lockstep.protocol.errors import ErrorKind, Errors, EventNotSentError
from lockstep.protocol.events import CloudEvent, text_of

ENTRIES = 10
SOURCE = "lockstep"
"""What EventBridge's own envelope says: a rule that matches it and nothing else gets every event."""
_ERRORS: Errors = dict.fromkeys(ErrorKind, EventNotSentError)


class EventBridgeBus:
    """A bus.

    Args:
        client: Of the service `events`.
        bus: Its name.
    """

    def __init__(self, client: Any, bus: str) -> None:  # noqa: ANN401 - botocore makes its clients' types at run time
        self._client = client
        self._bus = bus

    def send(self, events: Sequence[CloudEvent]) -> None:
        """As `lockstep.protocol.events.Sink`."""
        for first in range(0, len(events), ENTRIES):
            some = events[first : first + ENTRIES]
            with translated(_ERRORS):
                reply = self._client.put_events(Entries=[self._entry(event) for event in some])
                refused = [e["ErrorCode"] for e in reply["Entries"] if "ErrorCode" in e]
                failed = reply["FailedEntryCount"] or len(refused)
            if failed:
                raise EventNotSentError(code=refused[0] if refused else "FailedEntryCount")

    def _entry(self, event: CloudEvent) -> dict[str, Any]:
        return {
            "EventBusName": self._bus,
            "Source": SOURCE,
            "DetailType": event.type,
            "Time": event.time,
            "Detail": text_of(event),
        }
