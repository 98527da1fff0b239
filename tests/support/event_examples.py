"""An event of each kind; that of a promotion as docs/events.md shows it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lockstep.protocol import events
from lockstep.protocol.messages import Entry, Promoted
from lockstep.protocol.strict_json import read, write

PAGE = Path(__file__).parents[2] / "docs" / "events.md"
[_SHOWN] = map(json.loads, re.findall(r"```json\n(\{\n.*?)```", PAGE.read_text(), re.DOTALL))
PROMOTED = read(Promoted, _SHOWN["data"])
_RUN: Any = {"credential": PROMOTED.credential, "runner": "aws", "rotation": PROMOTED.rotation}
_ORDERED: Any = {"credential": PROMOTED.credential, "entry": Entry(stream="aws", seq=42)}
_DIES: Any = {"generation": 8, "previous_generation": 7, "dies_at": PROMOTED.overlap_ends_at}
HAPPENED = (
    PROMOTED,
    events.PreviousDies(**_RUN, **_DIES, reason="overlap"),
    events.Failed(**_RUN, trigger="schedule", status="failed", error="DatabaseUnreachableError"),
    events.Adopted(stores=("aws", "oci"), databases=("orders",), **_ORDERED),
    events.Paused(**_ORDERED),
    events.Resumed(**_ORDERED),
    events.Retired(left_valid=(7, 8), **_ORDERED),
)


def examples() -> Mapping[type[events.EventData], dict[str, Any]]:
    """An event of each kind."""
    told: Any = {
        "source": events.source_of(region="eu-central-1", table="lockstep"),
        "cause": PROMOTED.rotation,
        "time": PROMOTED.promoted_at,
    }
    return {type(data): write(events.event_of(data, **told)) for data in HAPPENED}
