"""Durations as people write them: `90s`, `20m`, `1h30m`, `7d`."""

import re
from contextlib import suppress
from datetime import timedelta

import durationpy

DURATION = r"([0-9]{1,6} ?[dhms] ?)+"
"""The pattern of a duration. durationpy also takes signs, text between the parts, and other units: months as `mm`,
nanoseconds."""


_LONGEST_IN_DAYS = timedelta(days=30)
"""From this length on durationpy would write months, which the plan refuses."""


_MAXIMUM = timedelta(days=999_999)
"""Far from the limit of `timedelta`, so that a multiple of a duration in the plan does not overflow."""


def parse_duration(value: object) -> timedelta:
    """The duration that a text in the plan means.

    Raises:
        ValueError: It is not a duration; the text says how to write one.
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str) and re.fullmatch(DURATION, value):
        with suppress(durationpy.DurationError):  # out of range; its text quotes the value
            duration: timedelta = durationpy.from_str(value.replace(" ", ""))
            if duration <= _MAXIMUM:
                return duration
    raise ValueError("write a duration as numbers with units: 90s, 20m, 1h30m or 7d")


def format_duration(duration: timedelta) -> str:
    """The duration as people write it, in whole seconds: `20m` for 1,200 seconds."""
    whole = timedelta(seconds=int(duration.total_seconds()))
    if whole >= _LONGEST_IN_DAYS and not whole % timedelta(days=1):
        return f"{whole.days}d"
    return str(durationpy.to_str(whole, extended=whole < _LONGEST_IN_DAYS)) if whole else "0s"
