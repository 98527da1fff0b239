"""How many rotations of a shard run at once, so that a minute's rotations begin in it and keep to the rate of writes.

Secrets Manager takes 50 writes a second of an account and region, whoever makes them, and no request raises that. A
shard is started in one minute. `concurrency` gives it what it needs to begin all its rotations within that minute, and
no more than its part of what all shards of its busiest minute may write together.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

from lockstep.cost.assumptions import ROTATION_SECONDS
from lockstep.cost.calls import Shape, read_counted
from lockstep.plan import Plan
from lockstep.quotas.base import NEAR
from lockstep.shards import Shard
from lockstep.store_kinds import AwsSecretsManager
from lockstep.wall_clock import DAY, period

WRITES_A_SECOND = 50
"""PutSecretValue, UpdateSecret and UpdateSecretVersionStage together, of an account and region; not adjustable
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html)."""
WRITES = ("PutSecretValue", "UpdateSecretVersionStage")
WINDOW = timedelta(seconds=60)
"""Within so long after its start a shard should begin its last rotation: the next shard starts then."""
HEADROOM = Fraction(3, 2)
"""Rotations may take that much longer than assumed before a shard needs more than its minute."""
LEAST = 10
"""So many rotations may run at once in any shard, as long as the writes allow it: at the speed of a loopback, 0.8 s a
rotation, they write 50 times a second."""
_MINUTE = timedelta(minutes=1)


class Busiest(NamedTuple):
    """The minute of the day at which most rotations begin.

    Attributes:
        at: After midnight UTC.
        rotations: Of all shards that are started then.
        shards: Their names.
    """

    at: timedelta
    rotations: int
    shards: tuple[str, ...]

    def __str__(self) -> str:
        hour, minute = divmod(self.at // _MINUTE, 60)
        return f"{hour:02}:{minute:02} UTC"


def busiest(shards: Sequence[Shard]) -> Busiest:
    """The busiest minute; the first of several. What is rotated every few days counts as if it were due."""
    counts = _by_minute(shards)
    at = min(counts, key=lambda minute: (-counts[minute], minute))
    return Busiest(at, counts[at], tuple(shard.name for shard in shards if at in _minutes(shard)))


def concurrency(plan: Plan) -> dict[str, int]:
    """How many rotations of each shard may run at once, by the shard's name; 1 at least."""
    counts = _by_minute(plan.shards)
    at_once = _at_once(plan)
    found = {}
    for shard in plan.shards:
        size = len(shard.credential_ids)
        wanted = max(LEAST, ceil(HEADROOM * size * ROTATION_SECONDS / int(WINDOW.total_seconds())))
        if at_once is not None:
            beside = max(counts[minute] for minute in _minutes(shard))
            wanted = min(wanted, floor(at_once * size / beside))
        found[shard.name] = max(1, min(size, wanted))
    return found


def most_at_once(plan: Plan) -> int:
    """How many rotations may run at the same time: of the shards of a minute, and of the minute before."""
    allowed = concurrency(plan)
    counts: Counter[timedelta] = Counter()
    for shard in plan.shards:
        for minute in {(m + later) % DAY for m in _minutes(shard) for later in (timedelta(), _MINUTE)}:
            counts[minute] += allowed[shard.name]
    return max(counts.values())


def writes_of_a_rotation() -> int:
    """Writes of Secrets Manager in a rotation, as counted."""
    return read_counted().number("aws rotation", Shape(databases=1), "secretsmanager", *WRITES)


def _at_once(plan: Plan) -> Fraction | None:
    """How many rotations of the account may run at once; None: no service that they write to is known to limit it."""
    if plan.store(AwsSecretsManager) is None:
        return None
    return NEAR * WRITES_A_SECOND * ROTATION_SECONDS / writes_of_a_rotation()


def _minutes(shard: Shard) -> frozenset[timedelta]:
    every = period(shard.interval)
    return frozenset(shard.phase + number * every for number in range(DAY // every))


def _by_minute(shards: Sequence[Shard]) -> Counter[timedelta]:
    counts: Counter[timedelta] = Counter()
    for shard in shards:
        for minute in _minutes(shard):
            counts[minute] += len(shard.credential_ids)
    return counts
