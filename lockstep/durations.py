"""Durations as people write them: `90s`, `20m`, `2h`, `7d`."""

import re
from datetime import timedelta

_DURATION = re.compile(r"([0-9]{1,6})\s*(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_duration(value: object) -> timedelta:
    """The duration that a text in the plan means.

    Raises:
        ValueError: It is not a duration; the text says how to write one.
    """
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise ValueError("write a duration as a number and a unit, for example 90s, 20m, 2h or 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def format_duration(duration: timedelta) -> str:
    """The shortest text that `parse_duration` reads back as this duration, in whole seconds: `20m`, `1h 30m`."""
    left, parts = int(duration.total_seconds()), []
    for unit, name in (("d", "days"), ("h", "hours"), ("m", "minutes"), ("s", "seconds")):
        count, left = divmod(left, int(timedelta(**{name: 1}).total_seconds()))
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0s"
