"""Times as people read them: in this machine's zone or in UTC, and how far away they are."""

from datetime import UTC, datetime, timedelta
from typing import overload

from lockstep.cli.output import is_document, wants_utc

_UNITS = (
    (timedelta(days=2), timedelta(days=1), "days"),
    (timedelta(hours=2), timedelta(hours=1), "hours"),
    (timedelta(minutes=2), timedelta(minutes=1), "minutes"),
    (timedelta(0), timedelta(seconds=1), "seconds"),
)
"""From which distance on a unit is used, the unit, and its name."""


def moment(time: datetime) -> str:
    """A time for other programs, UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


@overload
def to_second(time: datetime) -> datetime: ...
@overload
def to_second(time: datetime | None) -> datetime | None: ...
def to_second(time: datetime | None) -> datetime | None:
    """A time for a document: UTC, to the second."""
    return time and time.astimezone(UTC).replace(microsecond=0)


def clock_time(time: datetime, now: datetime) -> str:
    """A time for people: `14:05:12 (in 7 minutes)`, with the date where it is not today's; in documents as `moment`."""
    if is_document():
        return moment(time)
    return f"{absolute(time, now)} ({relative(time, now)})"


def absolute(time: datetime, now: datetime) -> str:
    """A time for people, without its distance; UTC with `--utc`."""
    if wants_utc():
        return moment(time)
    try:
        local = time.astimezone()
    except OverflowError:  # At the end of the last year there are zones in which the next one has begun.
        return moment(time)
    is_today = local.date() == now.astimezone().date()
    return f"{local:%H:%M:%S}" if is_today else f"{local:%Y-%m-%d %H:%M:%S}"


def relative(time: datetime, now: datetime) -> str:
    """How far away a time is: `in 7 minutes`, `3 hours ago`."""
    distance = abs(time - now)
    unit, name = next((unit, name) for least, unit, name in _UNITS if distance >= least)
    number = distance // unit
    if time > now and distance % unit and unit == timedelta(seconds=1):
        number += 1  # Who waits for as long as is told does not come too early.
    count = f"{number} {name if number != 1 else name.removesuffix('s')}"
    return f"in {count}" if time > now else f"{count} ago"
