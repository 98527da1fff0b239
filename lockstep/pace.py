"""How fast the rotations of a shard begin, and how many run at once (protocol R17).

Secrets Manager takes 50 writes a second of an account and region, whoever makes them, and no request raises that. So
one rotation after the other begins, `every` so many milliseconds: what a shard writes in a second does not depend on
how long a rotation takes. All shards of a minute share what may be written. How many rotations run at once is a limit
for the day on which they take longer, not the pace: by a limit alone they would begin in waves, and rotations that are
faster than assumed would write more than is taken (docs/fleet.md).
"""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from fractions import Fraction
from math import ceil
from typing import NamedTuple

from lockstep.fleet import MOST_APART_MS
from lockstep.plan import Plan
from lockstep.shards import Shard
from lockstep.timing import LAST_START, START_POLICY, TRIGGER_LATENESS
from lockstep.wall_clock import DAY, period

WRITES_A_SECOND = 50
"""PutSecretValue, UpdateSecret and UpdateSecretVersionStage together, of an account and region; not adjustable
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html). What OCI Vault takes is not
published, so a plan without a store in AWS keeps to the same pace."""
WRITES_OF_A_ROTATION = 4
"""PutSecretValue and UpdateSecretVersionStage, for both secrets; a test counts them."""
ROTATION_SECONDS = 6
"""What a rotation takes in AWS. `make bench` measures a median of 0.8 s on a loopback; four functions that start anew,
each at a few hundred milliseconds, and calls of real services come on top."""
WINDOW = timedelta(seconds=60)
"""Within so long after its start a shard should begin its last rotation: the next shard starts then."""
USUAL = Fraction(8, 10)
"""So much of the writes rotations use where they have the time."""
FULLEST = Fraction(95, 100)
"""A minute in which more begin than `USUAL` of the writes allows uses no more than this share of them."""
SPREAD_MS = (LAST_START - START_POLICY.longest - TRIGGER_LATENESS) // timedelta(milliseconds=1)
"""Over so much of it a shard spreads its rotations where it may begin them faster: whoever else is asked, such as OCI
Vault, whose rates are not published, is asked evenly. And where the trigger is late by its minute, the last one still
begins in time."""
SLOWEST_MS = 250
"""No shard begins them slower."""
LONGER = 2
"""Rotations may take so many times what is assumed before fewer of them run at once than the pace needs."""
LEAST = 10
"""So many rotations may run at once in any shard."""
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
    return Busiest(at, counts[at], tuple(shard.name for shard in shards if at in minutes(shard)))


def every_ms(plan: Plan) -> dict[str, int]:
    """The milliseconds from the begin of a rotation to that of the next one in the same shard, by the shard's name."""
    counts, found = _by_minute(plan.shards), {}
    for shard in plan.shards:
        size = len(shard.credential_ids)
        of_all = Fraction(max(counts[minute] for minute in minutes(shard)), size)
        usual, fastest = (
            ceil(of_all * 1000 * WRITES_OF_A_ROTATION / (share * WRITES_A_SECOND))
            for share in (USUAL, FULLEST)
        )
        in_window = int(1000 * WINDOW.total_seconds()) // size
        apart = max(min(usual, max(fastest, in_window)), min(SPREAD_MS // size, SLOWEST_MS))
        found[shard.name] = min(apart, MOST_APART_MS)
    return found


def concurrency(plan: Plan) -> dict[str, int]:
    """How many rotations of each shard may run at once, by the shard's name; 1 at least."""
    every = every_ms(plan)
    return {
        shard.name: min(
            len(shard.credential_ids),
            max(LEAST, ceil(Fraction(1000 * LONGER * ROTATION_SECONDS, every[shard.name]))),
        )
        for shard in plan.shards
    }


def most_at_once(plan: Plan) -> int:
    """How many rotations may run at the same time: of the shards of a minute, and of the minute before."""
    allowed = concurrency(plan)
    counts: Counter[timedelta] = Counter()
    for shard in plan.shards:
        for minute in {(m + later) % DAY for m in minutes(shard) for later in (timedelta(), _MINUTE)}:
            counts[minute] += allowed[shard.name]
    return max(counts.values())


def minutes(shard: Shard) -> frozenset[timedelta]:
    """The minutes of a day at which it is started, after midnight UTC."""
    every = period(shard.interval)
    return frozenset(shard.phase + number * every for number in range(DAY // every))


def _by_minute(shards: Sequence[Shard]) -> Counter[timedelta]:
    counts: Counter[timedelta] = Counter()
    for shard in shards:
        for minute in minutes(shard):
            counts[minute] += len(shard.credential_ids)
    return counts
