"""Which rule starts the rotations of a credential: one shard of the credentials that share an interval (protocol R2).

Up to `PER_SHARD` credentials with one interval are one shard, which is triggered at midnight UTC and every interval
after it. More of them are spread over the interval, so that no minute asks a service for what only a whole interval can
give: Secrets Manager takes 50 writes a second, and no request raises that.

Each credential has a slot of its own, by the hash of its id, whatever else the plan holds. A shard is a run of slots.
Where a class grows its shards are divided, and no credential is moved but to a later minute within its old shard.

    slots      0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15 16 17 18 19
    1 shard    |--------------------------------------------------------|
    5 shards   |---------||---------||---------||---------||-----------|
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from lockstep.standby import CALLED_EVERY, turn_after
from lockstep.wall_clock import period

PER_SHARD = 200
"""So many credentials of an interval are one shard; the most shards hold more."""
SLOTS = 20
COUNTS = (1, 5, 10, SLOTS)
"""How many shards an interval can have. Each divides the next one, so that growth divides shards and moves none."""
_MINUTE = timedelta(minutes=1)


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
        from lockstep.durations import format_duration  # noqa: PLC0415 - a function knows no shard, only `run_key`

        return f"{format_duration(self.interval)}-{self.number:02}"

    @property
    def phase(self) -> timedelta:
        """How long after midnight UTC it is first triggered, in whole minutes."""
        return phase(self.interval, self.number * SLOTS // self.count)


def slot(credential_id: str) -> int:
    """The slot of a credential, from 0 to `SLOTS` less 1."""
    return int.from_bytes(hashlib.sha256(credential_id.encode()).digest()[:8]) % SLOTS


def run_key(credential_id: str) -> str:
    """What stands for the credential in the names of its executions, which take no slash: 16 hexadecimal digits."""
    return hashlib.sha256(credential_id.encode()).hexdigest()[:16]


def phase(interval: timedelta, first_slot: int) -> timedelta:
    """When the shard that begins with this slot is triggered, after the beginning of the interval."""
    return period(interval) * first_slot // SLOTS // _MINUTE * _MINUTE


def shards(intervals: Mapping[str, timedelta]) -> tuple[Shard, ...]:
    """The shards of all credentials, by interval and number; none is empty.

    Args:
        intervals: Of each credential, by id.
    """
    classes: dict[timedelta, list[str]] = defaultdict(list)
    for credential_id, interval in intervals.items():
        classes[interval].append(credential_id)
    return tuple(shard for interval in sorted(classes) for shard in _of(interval, classes[interval]))


def standby_minutes(plan: Iterable[Shard]) -> tuple[int, ...]:
    """The minutes of an hour at which the standby is called: the turns of all shards (protocol R2).

    Those without a credential count too: Terraform knows how many credentials an interval has, and not their slots.

    Args:
        plan: The shards of a plan.
    """
    found: set[int] = set()
    for interval, count in {(shard.interval, shard.count) for shard in plan}:
        every = min(period(interval), CALLED_EVERY)
        for number in range(count):
            first = phase(interval, number * SLOTS // count) + turn_after(interval)
            found |= {(first + call * every) // _MINUTE % 60 for call in range(CALLED_EVERY // every)}
    return tuple(sorted(found))


def _of(interval: timedelta, ids: list[str]) -> list[Shard]:
    count = next((c for c in COUNTS if len(ids) <= c * PER_SHARD), COUNTS[-1])
    members: dict[int, list[str]] = defaultdict(list)
    for credential_id in sorted(ids):
        members[slot(credential_id) * count // SLOTS].append(credential_id)
    return [
        Shard(interval=interval, number=number, count=count, credential_ids=tuple(members[number]))
        for number in sorted(members)
    ]
