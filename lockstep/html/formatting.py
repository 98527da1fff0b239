"""Times, durations, numbers and names of errors as people read them."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache

from lockstep.errors import LockstepError, family

NONE = "\N{EN DASH}"
"""For what was not measured."""
LONG_WORD = 26
_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
_OF_THE_PLATFORM: Mapping[str, str] = {
    "States.Timeout": "The execution ran out of time.",
    "States.TaskFailed": "A step failed in a way that has no name of its own.",
    "Lambda.Unknown": "The function ended without an answer.",
}


def span(duration: timedelta | float | None) -> str:
    """Two units at most: `1 h 20 min`; a dash where nothing was measured. A number is one of seconds."""
    if duration is None:
        return NONE
    seconds = max(0, round(duration.total_seconds() if isinstance(duration, timedelta) else duration))
    parts = []
    for unit, size in _UNITS:
        if seconds >= size:
            parts.append(f"{seconds // size} {unit}")
            seconds %= size
        elif parts:
            break
        if len(parts) == 2:  # noqa: PLR2004 - two units
            break
    return " ".join(parts) or "0 s"


def stamp(moment: datetime | None) -> str:
    """To the second, UTC: `2026-11-27 04:00:01`; a dash for none."""
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else NONE


def minute(moment: datetime | None) -> str:
    """To the minute, UTC: `2026-11-27 04:00`; a dash for none."""
    return f"{moment:%Y-%m-%d %H:%M}" if moment else NONE


def number(value: int) -> str:
    """With commas: `26,280`."""
    return f"{value:,}"


def many(value: int, one: str, more: str = "") -> str:
    """A number with its noun: `1 entry`, `2 entries`."""
    return f"{value:,} {one if value == 1 else more or one + 's'}"


def is_long(text: str) -> bool:
    """Whether it has a word that must be broken to fit a column."""
    return max(map(len, text.split()), default=0) > LONG_WORD


@cache
def _error_names() -> Mapping[str, str]:
    ours = {error.__name__: (error.__doc__ or "").strip() for error in family(LockstepError)}
    return {**_OF_THE_PLATFORM, **ours}


def error_text(name: str) -> str:
    """The fixed sentence of an error's class (protocol E5, F2); empty for a name that this build does not know."""
    return _error_names().get(name, "")
