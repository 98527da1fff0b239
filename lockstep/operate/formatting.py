"""Times, durations, numbers and names of errors as people read them."""

import shlex
from argparse import Namespace
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import ceil
from typing import TypeVar

from lockstep.protocol.errors import told_errors

TimeT = TypeVar("TimeT", datetime, datetime | None)

NONE = "\N{EN DASH}"
"""For what was not measured."""
LONG_WORD = 26
_UNITS = (("d", "days", 86_400), ("h", "hours", 3600), ("min", "minutes", 60), ("s", "seconds", 1))
"""Each unit's sign, its name, and its seconds."""
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
    for (unit, _, size), (smaller, _, part) in pairwise(_UNITS):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds} s"


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


def generation_name(number: int) -> str:
    """A generation, by its number; 0 is none."""
    return f"generation {number}" if number else "a version that Lockstep did not write"


def is_long(text: str) -> bool:
    """Whether it has a word that must be broken to fit a column."""
    return max(map(len, text.split()), default=0) > LONG_WORD


def error_text(name: str) -> str:
    """The fixed sentence of an error's class (protocol E4, F1); empty for a name that this build does not know."""
    meaning, _ = told_errors().get(name, (_OF_THE_PLATFORM.get(name, ""), None))
    return meaning


# The commands that findings name: complete, and quoted for a shell.


def aws(region: str, words: str, *arguments: str) -> str:
    """A command of the AWS CLI.

    Args:
        region: Where it acts.
        words: Service and operation, which need no quotes.
        arguments: Options and their values.
    """
    return f"aws {words} {shlex.join([*arguments, '--region', region])}"


def oci(region: str, words: str, *arguments: str) -> str:
    """A command of the OCI CLI; arguments as of `aws`."""
    return f"oci {words} {shlex.join([*arguments, '--region', region])}"


DEPLOY_AWS = "make deploy-aws"
DEPLOY_OCI = "make deploy-oci"
DEPLOY_IMAGE_OCI = (
    "make image-oci IMAGE=REPOSITORY:TAG && docker push REPOSITORY:TAG && "
    f"TF_VAR_image=REPOSITORY:TAG {DEPLOY_OCI}"
)
"""The function's image holds code and CA files, so a deployment without a new image changes neither."""
DEPLOY_PLAN_OCI = f"TF_VAR_image=REPOSITORY:TAG {DEPLOY_OCI}"
"""The image that is deployed may stay; without one the function would go."""


# Times as people read them: in this machine's zone (with TZ=UTC in UTC), and how far away they are.


def moment(time: datetime) -> str:
    """A time for other programs, UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def to_second(time: TimeT) -> TimeT:
    """A time for a document: UTC, to the second."""
    return time and time.astimezone(UTC).replace(microsecond=0)


def at_milliseconds(milliseconds: int) -> datetime | None:
    """The time so many milliseconds after the epoch; None where there is none such."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def clock_time(time: datetime, now: datetime) -> str:
    """A time for people: `14:05:12 (in 7 minutes)`, with the date where it is not today's; in documents as `moment`."""
    if wants_json():
        return moment(time)
    return f"{absolute(time, now)} ({relative(time, now)})"


def absolute(time: datetime, now: datetime) -> str:
    """A time for people, without its distance."""
    try:
        local = time.astimezone()
    except OverflowError:  # At the end of the last year there are zones in which the next one has begun.
        return moment(time)
    is_today = local.date() == now.astimezone().date()
    return f"{local:%H:%M:%S}" if is_today else f"{local:%Y-%m-%d %H:%M:%S}"


def relative(time: datetime, now: datetime) -> str:
    """How far away a time is: `in 7 minutes`, `3 hours ago`."""
    distance = abs(time - now).total_seconds()
    if time > now:
        distance = ceil(distance)  # Who waits for as long as is told does not come too early.
    name, size = next((name, size) for _, name, size in _UNITS if distance >= 2 * size or size == 1)
    number = int(distance // size)
    count = f"{number} {name if number != 1 else name.removesuffix('s')}"
    return f"in {count}" if time > now else f"{count} ago"


asked = Namespace(is_json=False, plan_file=None, is_given=False)
"""What was said to the whole command."""


def wants_json() -> bool:
    """Whether a document is printed, whose times are in UTC."""
    return bool(asked.is_json)
