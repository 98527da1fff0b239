"""Where events go, and what becomes of one that cannot be sent."""

import json
from collections.abc import Sequence
from typing import Protocol

from lockstep.events.cloud_event import CloudEvent


class Sink(Protocol):
    """Takes events. It tries once."""

    def send(self, events: Sequence[CloudEvent]) -> None:
        """Send them.

        Raises:
            EventNotSentError: At least one of them was not taken.
        """


def text_of(event: CloudEvent) -> str:
    """An event as it is sent."""
    return json.dumps(event.document(), separators=(",", ":"), ensure_ascii=False)
