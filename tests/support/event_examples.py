"""An event of each kind, as docs/events.md shows it."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from lockstep.protocol.events import (
    Adopted,
    EventData,
    Failed,
    Paused,
    PreviousDies,
    Resumed,
    Retired,
    event_of,
    source_of,
)
from lockstep.protocol.messages import Entry, Promoted
from lockstep.protocol.strict_json import write

_PROMOTED_AT = datetime(2026, 11, 27, 12, 0, 7, tzinfo=UTC)
_OVERLAP_ENDS_AT = datetime(2026, 11, 27, 12, 16, 7, tzinfo=UTC)
_ENTRY = Entry(stream="aws", seq=42)
_RUN: Any = {
    "credential": "multi-cloud/app_user",
    "runner": "aws",
    "rotation": "5d0b9a1c-6f3e-4c39-9d63-2f8f6b1f7c11",
}
_ORDERED: Any = {"credential": _RUN["credential"], "entry": _ENTRY}

PROMOTED = Promoted(
    **_RUN,
    trigger="schedule",
    kind="new",
    generation=8,
    previous_generation=7,
    stores=("aws", "oci"),
    promoted_at=_PROMOTED_AT,
    overlap_ends_at=_OVERLAP_ENDS_AT,
    revoked=False,
    adopted=False,
    entry=_ENTRY,
)


def examples() -> Mapping[type[EventData], dict[str, Any]]:
    """An event of each kind."""
    source = source_of(region="eu-central-1", table="lockstep")
    return {
        type(h): write(event_of(h, source=source, cause=_RUN["rotation"], time=_PROMOTED_AT))
        for h in _event_data()
    }


def _event_data() -> Iterator[EventData]:
    yield PROMOTED
    yield PreviousDies(
        **_RUN,
        generation=8,
        previous_generation=7,
        dies_at=_OVERLAP_ENDS_AT,
        reason="overlap",
    )
    yield Failed(
        **_RUN,
        trigger="schedule",
        status="failed",
        error="DatabaseUnreachableError",
    )
    yield Adopted(stores=("aws", "oci"), databases=("orders",), **_ORDERED)
    yield Paused(**_ORDERED)
    yield Resumed(**_ORDERED)
    yield Retired(left_valid=(7, 8), **_ORDERED)
