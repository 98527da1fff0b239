"""When the standby leaves a rotation that is due to the AWS runner (protocol R8).

AWS leads. The standby rotates what AWS did not, and yields as soon as AWS shows that it is back. It must never wait for
a runner that will not come, so it yields only to one that showed a sign of life within an interval, has not left a run
unfinished within three, and has had no trigger since the credential was due. Then a rotation comes at most half an
interval after AWS's trigger, whatever AWS does.

Each credential has its turn, half an interval after AWS's trigger of it, and half an hour after it where the interval
is longer than an hour. The standby is called more often where other credentials have other phases or intervals. What
falls due between two turns is left to the next one, also where AWS does not come: so neither a run of AWS that may
still start nor the pace of the rotations depends on what else is in the plan.

Two times in the lock record say what AWS did. Only AWS writes them, and they are facts: the judgement needs the
interval, which the state machine does not know, and is made by the standby, whose plan has it (ADR 28).

    time ─────┬─────────┬─────────┬─────────┬─────────┬─────────┬─────────┬─────────┬─────────┬──▶
    aws       0 begins, hangs     20 skip             40 skip             60 skip             80 leads again
              began_at = 0        seen_at = 20        seen_at = 40        seen_at = 60        began_at absent
    standby        10 rotates          30 rotates          50 rotates          70 yields
                   (late)              (distrust)          (distrust)          (trust)

`lockstep/aws/dynamodb_lock.py` compares the record with `Bounds` in the write that acquires the lock; `yields` is the
same rule as a function.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from lockstep.model import AwsSigns, Schedule
from lockstep.timing import CLOCK_SKEW, START_LATENESS
from lockstep.wall_clock import last_trigger, period

LEADER: Final = "aws"
STANDBY: Final = "oci"
"""The names of the runners."""
DISTRUST_INTERVALS = 3
"""For so long after an AWS run that did not finish the standby leads."""
CALLED_EVERY = timedelta(hours=1)
"""The longest time between two calls of the standby for a credential."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """With what the standby compares the record to see whether it yields.

    Attributes:
        late_by: A credential that was due by then has been left by a trigger of AWS: it is rotated.
        turn_by: One that was due by then is rotated if AWS is not trusted; any other waits for its next turn.
        seen_after: AWS is trusted only if it was seen later than this.
        began_by: AWS is trusted only if it left no run unfinished that began later than this.
    """

    late_by: datetime
    turn_by: datetime
    seen_after: datetime
    began_by: datetime


def turn_after(interval: timedelta) -> timedelta:
    """How long after a trigger of AWS the standby has its turn."""
    return min(period(interval), CALLED_EVERY) / 2


def bounds(schedule: Schedule, now: datetime) -> Bounds:
    """The bounds for a credential with this schedule, at this time."""
    after = turn_after(schedule.interval)
    # The turn has come, also by a clock that is behind.
    trigger = last_trigger(schedule.interval, now + CLOCK_SKEW - after, schedule.phase)
    return Bounds(
        # The run before that trigger may have started late, by a clock that is ahead.
        late_by=trigger + START_LATENESS + CLOCK_SKEW,
        # It was rotated late in its turn, and is due a little later than the turn begins.
        turn_by=trigger + after + schedule.tolerance,
        seen_after=now - schedule.interval,
        began_by=now - DISTRUST_INTERVALS * schedule.interval,
    )


def trusts(signs: AwsSigns, limits: Bounds) -> bool:
    """Whether the next trigger of AWS can be expected to rotate."""
    seen = signs.seen_at is not None and signs.seen_at > limits.seen_after
    unfinished = signs.began_at is not None and signs.began_at > limits.began_by
    return seen and not unfinished


def yields(signs: AwsSigns, next_due_at: datetime | None, limits: Bounds) -> bool:
    """Whether the standby leaves a credential that nothing pends for and that is due to AWS, or to its next turn.

    Args:
        signs: What the record says of AWS.
        next_due_at: When it was due; None: it was never rotated, and is not left to anyone.
        limits: Of the standby's clock.
    """
    if next_due_at is None or next_due_at <= limits.late_by:
        return False
    return next_due_at > limits.turn_by or trusts(signs, limits)
