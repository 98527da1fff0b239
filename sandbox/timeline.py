"""What an execution did and when, read from its history."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sandbox.emulators.aws import Execution

CALLS = ("Generate", "ApplyDb", "UpdateSecrets", "RevokeDb", "Audit", "ReleaseLock")


@dataclass(frozen=True, kw_only=True)
class Span:
    """A state, from entering it to leaving it; milliseconds from the execution's start."""

    state: str
    begin_ms: int
    end_ms: int


def spans(execution: Execution) -> list[Span]:
    """The states, in the order in which they were entered."""
    if not execution.history:
        return []
    start: datetime = execution.history[0]["timestamp"]
    entered: dict[str, datetime] = {}
    found = []
    for event in execution.history:
        if name := _name(event, "stateEnteredEventDetails"):
            entered[name] = event["timestamp"]
        elif (name := _name(event, "stateExitedEventDetails")) and name in entered:
            found.append(
                Span(
                    state=name, begin_ms=_ms(start, entered.pop(name)), end_ms=_ms(start, event["timestamp"])
                )
            )
    return found


def duration_ms(execution: Execution) -> int:
    """The time from the first event to the last, in milliseconds."""
    return _ms(execution.history[0]["timestamp"], execution.history[-1]["timestamp"])


def _name(event: Mapping[str, Any], details: str) -> str:
    return str(event.get(details, {}).get("name", ""))


def _ms(start: datetime, moment: datetime) -> int:
    return round((moment - start).total_seconds() * 1000)
