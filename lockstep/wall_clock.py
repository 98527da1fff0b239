"""When the AWS runner is triggered: by wall clock, at midnight UTC and every interval after it (protocol R2).

A schedule by wall clock has a phase that does not depend on when it was deployed. So each runner knows when the other
one is called, and the standby is called half an interval later.
"""

from datetime import UTC, datetime, timedelta

_HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
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


def last_trigger(interval: timedelta, before: datetime) -> datetime:
    """The last trigger of the AWS runner, at or before a time."""
    return before - (before - _EPOCH) % period(interval)


def cron(interval: timedelta) -> tuple[str, str]:
    """The fields for minute and hour in EventBridge's cron expression of an interval that fits."""
    every = period(interval)
    if every < _HOUR:
        return f"0/{every // timedelta(minutes=1)}", "*"
    hours = {_HOUR: "*", DAY: "0"}
    return "0", hours.get(every, f"0/{every // _HOUR}")


def cron_expression(interval: timedelta) -> str:
    """The whole expression, as EventBridge shows it."""
    minute, hour = cron(interval)
    return f"cron({minute} {hour} * * ? *)"
