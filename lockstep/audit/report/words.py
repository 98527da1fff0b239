"""Times, durations and numbers as people read them."""

from datetime import datetime, timedelta

NONE = "\N{EN DASH}"
"""For what was not measured."""
LONG_WORD = 26
_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def span(duration: timedelta | None) -> str:
    """Two units at most: `1 h 20 min`; a dash where nothing was measured."""
    if duration is None:
        return NONE
    seconds = max(0, round(duration.total_seconds()))
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
