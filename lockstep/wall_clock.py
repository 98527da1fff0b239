"""When the AWS runner is triggered: by wall clock, every interval after midnight UTC and a phase (protocol R2).

The phase is that of the credential's shard (`lockstep.shards`); that of the first one is zero. A schedule by wall clock
does not depend on when it was deployed. So each runner knows when the other one is called, and the standby is called
half an interval later.
"""

from datetime import UTC, datetime, timedelta

_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
_NO_PHASE = timedelta()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHORT = tuple(
    [timedelta(minutes=m) for m in (10, 12, 15, 20, 30)]
    + [timedelta(hours=h) for h in (1, 2, 3, 4, 6, 8, 12)]
)
"""What divides an hour or, as whole hours, a day, and leaves room for the tolerance: one cron expression each."""


def fits(interval: timedelta) -> bool:
    """Whether one cron expression can trigger at this interval: it divides an hour or a day, or is whole days."""
    return interval in _SHORT or (bool(interval) and not interval % DAY)


def neighbours(interval: timedelta) -> tuple[timedelta, ...]:
    """The nearest intervals that fit: the one below, if there is one, and the one above."""
    days = interval // DAY * DAY
    candidates = (*_SHORT, *(d for d in (days, days + DAY) if d))
    below = [c for c in candidates if c <= interval]
    above = [c for c in candidates if c > interval]
    return (*below[-1:], *above[:1])


def period(interval: timedelta) -> timedelta:
    """The time between two triggers. A longer interval than a day is triggered daily; most triggers are skipped."""
    return min(interval, DAY)


def last_trigger(interval: timedelta, before: datetime, phase: timedelta = _NO_PHASE) -> datetime:
    """The last trigger of the AWS runner, at or before a time."""
    return before - (before - _EPOCH - phase) % period(interval)


def cron(interval: timedelta, phase: timedelta = _NO_PHASE) -> tuple[str, str]:
    """The fields for minute and hour in EventBridge's cron expression of an interval that fits.

    Args:
        interval: It fits.
        phase: In whole minutes, and shorter than the period.
    """
    every = period(interval)
    hour, minute = divmod(phase // _MINUTE, 60)
    if every < _HOUR:
        return f"{minute}/{every // _MINUTE}", "*"
    hours = {_HOUR: "*", DAY: str(hour)}
    return str(minute), hours.get(every, f"{hour}/{every // _HOUR}")


def cron_expression(interval: timedelta, phase: timedelta = _NO_PHASE) -> str:
    """The whole expression, as EventBridge shows it."""
    minute, hour = cron(interval, phase)
    return f"cron({minute} {hour} * * ? *)"
