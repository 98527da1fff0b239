"""When rotations begin: the wall clock of both runners, the shards of an interval, and whose turn it is."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from lockstep.protocol.deadlines import CLOCK_SKEW
from lockstep.protocol.model import Schedule

# When the AWS runner is triggered: by wall clock, every interval after midnight UTC and a phase (protocol R2).
#
# The phase is that of the credential's shard (`lockstep.protocol.schedule`); that of the first one is zero. A
# schedule by wall clock does not depend on when it was deployed. So each runner knows when the other one is called,
# and the standby is called half an interval later.

_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
_UNITS = {DAY: "d", _HOUR: "h", _MINUTE: "m"}
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


def last_trigger(interval: timedelta, before: datetime, phase: timedelta) -> datetime:
    """The last trigger of the AWS runner, at or before a time."""
    return before - (before - _EPOCH - phase) % period(interval)


# Whose turn it is (protocol R8).
#
# Both runners rotate what is due. Each credential has a turn of the standby, half an interval after AWS's trigger of
# it, and half an hour after it where the interval is longer than an hour. Where AWS rotates at its triggers, nothing
# is due in the standby's turns. Where it does not, the standby rotates in its next turn, and goes on until it misses
# one itself.
#
# The standby is called more often where other credentials have other phases or intervals. What falls due between two
# turns is left to the next one: so neither a run of AWS that may still start nor the pace of the rotations depends on
# what else is in the plan.

AWS: Final = "aws"
STANDBY: Final = "oci"
"""The names of the runners."""
_OF_STANDBY = re.compile(r"\.[0-9]+$")
"""How the ids of the standby's runs end."""
CALLED_EVERY = timedelta(hours=1)
"""The longest time between two calls of the standby for a credential."""


def cloud_of(rotation_id: str) -> str:
    """The cloud in which a run goes on, by its id."""
    return STANDBY if _OF_STANDBY.search(rotation_id) else AWS


def turn_after(interval: timedelta) -> timedelta:
    """How long after a trigger of AWS the standby has its turn."""
    return min(period(interval), CALLED_EVERY) / 2


def last_turn(schedule: Schedule, before: datetime) -> datetime:
    """The last turn of the standby at a credential with this schedule, at or before a time."""
    after = turn_after(schedule.interval)
    return last_trigger(schedule.interval, before - after, schedule.phase) + after


def standby_due_by(schedule: Schedule, now: datetime) -> datetime:
    """What is due later than this is not the standby's in a call at this time (protocol R8).

    What it rotated late in its last turn is due a little later than this turn begins. Its clock may be behind.
    """
    return min(now, last_turn(schedule, now + CLOCK_SKEW) + schedule.tolerance)


def next_runner(schedule: Schedule, due: datetime) -> str:
    """The runner that comes first to what is due then, where there is a standby."""
    just_before = due - timedelta(microseconds=1)
    by_aws = last_trigger(schedule.interval, just_before, schedule.phase)
    return STANDBY if last_turn(schedule, just_before) < by_aws else AWS


# Which rule starts the rotations of a credential: one shard of the credentials that share an interval (protocol
# R2).
#
# Up to `PER_SHARD` credentials with one interval are one shard, which is triggered at midnight UTC and every
# interval after it. More of them are spread over the interval, so that no minute asks a service for what only a
# whole interval can give: Secrets Manager takes 50 writes a second, and no request raises that.
#
# Each credential has a slot of its own, by the hash of its id, whatever else the plan holds. A shard is a run of
# slots. Where a class grows its shards are divided, and no credential is moved but to a later minute within its
# old shard.
#
#     slots      0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15 16 17 18 19
#     1 shard    |--------------------------------------------------------|
#     5 shards   |---------||---------||---------||---------||-----------|

PER_SHARD = 200
"""So many credentials of an interval are one shard; the most shards hold more."""
SLOTS = 20
COUNTS = (1, 5, 10, SLOTS)
"""How many shards an interval can have. Each divides the next one, so that growth divides shards and moves none."""
MOST_APART_MS = 60_000
"""The most milliseconds between the begin of two rotations of a shard: it begins all of them within a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Credentials that one rule starts.

    Attributes:
        interval: Theirs.
        number: The shard's, from 0.
        count: The shards of that interval.
        credential_ids: Sorted.
    """

    interval: timedelta
    number: int
    count: int
    credential_ids: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its name in rules and files, such as `20m-00`."""
        unit = next(u for u in (DAY, _HOUR, _MINUTE) if not self.interval % u)
        return f"{self.interval // unit}{_UNITS[unit]}-{self.number:02}"

    @property
    def phase(self) -> timedelta:
        """How long after midnight UTC it is first triggered, in whole minutes."""
        first_slot = self.number * SLOTS // self.count
        return period(self.interval) * first_slot // SLOTS // _MINUTE * _MINUTE


def slot(credential_id: str) -> int:
    """The slot of a credential, from 0 to `SLOTS` less 1."""
    return int.from_bytes(hashlib.sha256(credential_id.encode()).digest()[:8]) % SLOTS


def run_key(credential_id: str) -> str:
    """What stands for the credential in the names of its executions, which take no slash: 16 hexadecimal digits."""
    return hashlib.sha256(credential_id.encode()).hexdigest()[:16]


def shards(intervals: Mapping[str, timedelta]) -> tuple[Shard, ...]:
    """The shards of all credentials, by interval and number; none is empty.

    Args:
        intervals: Of each credential, by id.
    """
    classes: dict[timedelta, list[str]] = defaultdict(list)
    for credential_id, interval in intervals.items():
        classes[interval].append(credential_id)
    return tuple(shard for interval in sorted(classes) for shard in _of(interval, classes[interval]))


def _of(interval: timedelta, ids: list[str]) -> list[Shard]:
    count = next((c for c in COUNTS if len(ids) <= c * PER_SHARD), COUNTS[-1])
    members: dict[int, list[str]] = defaultdict(list)
    for credential_id in sorted(ids):
        members[slot(credential_id) * count // SLOTS].append(credential_id)
    return [
        Shard(interval=interval, number=number, count=count, credential_ids=tuple(members[number]))
        for number in sorted(members)
    ]
