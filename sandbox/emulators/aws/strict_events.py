"""EventBridge as AWS documents it, where moto is more lenient, and what can go wrong with a call.

The facts are of https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html and
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html.
"""

from collections.abc import Callable
from typing import Any

from moto.core.exceptions import JsonRESTError

from sandbox.emulators.aws.patching import Foreign, Patches

ENTRIES_LIMIT_BYTES = 256 * 1024
"""Of all entries of a request together, counted as the user guide says."""
_TIME_BYTES = 14

Fault = Callable[[], str | None]
"""Called for each PutEvents. It may wait, or raise what the service answers with; a code that it returns refuses every
entry: the call succeeds, and says so in FailedEntryCount alone."""


def apply(patches: Patches, fault: Callable[[], Fault | None]) -> None:
    """Make PutEvents as strict as the real one.

    Args:
        patches: Of moto.
        fault: Gives the fault that is armed.
    """

    def wrapper(original: Foreign) -> object:
        def put_events(self: Foreign, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
            armed = fault()
            code = armed() if armed else None
            if sum(_size(event) for event in events) > ENTRIES_LIMIT_BYTES:
                raise JsonRESTError(
                    "ValidationException", "Total size of the entries in the request is over the limit."
                )
            if code:
                return [{"ErrorCode": code, "ErrorMessage": "refused by an armed fault"} for _ in events]
            taken = [e for e in events if not _is_reserved(e)]
            answers = iter(original(self, taken))
            return [_RESERVED if _is_reserved(event) else next(answers) for event in events]

        return put_events

    patches.wrap("moto.events.models:EventsBackend.put_events", wrapper)


_RESERVED = {"ErrorCode": "NotAuthorizedForSourceException", "ErrorMessage": "Not authorized for the source."}


def _is_reserved(event: dict[str, Any]) -> bool:
    return str(event.get("Source", "")).startswith("aws.")


def _size(event: dict[str, Any]) -> int:
    texts = [event.get(name, "") for name in ("Source", "DetailType", "Detail")]
    texts += event.get("Resources", [])
    return sum(len(str(text).encode()) for text in texts) + (_TIME_BYTES if event.get("Time") else 0)
