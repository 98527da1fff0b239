"""CloudEvents 1.0, in the JSON format, structured mode.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md and formats/json-format.md beside it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lockstep.events.happenings import NAMES, Happening
from lockstep.strict_json import write

PREFIX = "dev.lockstep.credential"
"""What every type begins with, before a dot: a name in reverse order, as the specification recommends."""
CONTENT_TYPE = "application/cloudevents+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvent:
    """An event.

    Attributes:
        id: The same for the same happening, however often it is sent; unique within `source`.
        source: The lock table, which is the authority on the credential.
        time: When it happened.
    """

    id: str
    source: str
    time: datetime
    data: Happening

    @property
    def type(self) -> str:
        """Its type."""
        return type_of(type(self.data))

    def document(self) -> dict[str, Any]:
        """It as JSON."""
        return {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "subject": self.data.credential,
            "time": self.time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "datacontenttype": "application/json",
            "data": write(self.data),
        }


def type_of(kind: type[Happening]) -> str:
    """The type of the events of a kind of happening."""
    return f"{PREFIX}.{NAMES[kind]}"


def source_of(*, region: str, table: str) -> str:
    """The source of all events about the credentials of a lock table.

    Args:
        region: Where the table is.
        table: Its name.
    """
    return f"/lockstep/{region}/{table}"


def event_of(happening: Happening, *, source: str, cause: str, time: datetime) -> CloudEvent:
    """The event of a happening.

    Args:
        happening: What has happened.
        source: Of `source_of`.
        cause: The run, or the audit entry, that it belongs to: with the credential and the type it makes the id.
        time: When.
    """
    return CloudEvent(
        id=f"{happening.credential}/{cause}/{NAMES[type(happening)]}",
        source=source,
        time=time,
        data=happening,
    )
