"""How long an execution took, read from its history."""

from datetime import datetime

from sandbox.emulators.aws import Execution


def states_ms(execution: Execution) -> dict[str, int]:
    """How long it was in each of its states, in milliseconds, from entering it to leaving it."""
    entered: dict[str, datetime] = {}
    found: dict[str, int] = {}
    for event in execution.history:
        if details := event.get("stateEnteredEventDetails"):
            entered[details["name"]] = event["timestamp"]
        elif details := event.get("stateExitedEventDetails"):
            found[details["name"]] = _ms(entered[details["name"]], event["timestamp"])
    return found


def duration_ms(execution: Execution) -> int:
    """The time from the first event to the last, in milliseconds."""
    return _ms(execution.history[0]["timestamp"], execution.history[-1]["timestamp"])


def _ms(start: datetime, moment: datetime) -> int:
    return round((moment - start).total_seconds() * 1000)
