"""When the standby leaves a rotation that is due to the AWS runner (protocol R8).

AWS leads. The standby rotates what AWS did not, and yields as soon as AWS shows that it is back. It must never wait for
a runner that will not come, so it yields only to one that showed a sign of life within an interval, has not left a run
unfinished within three, and has had no trigger since the credential was due. Then a rotation comes at most half an
interval after AWS's trigger, whatever AWS does.

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

from lockstep.model import AwsSigns
from lockstep.timing import TRIGGER_LATENESS
from lockstep.wall_clock import last_trigger

LEADER, STANDBY = "aws", "oci"
"""The names of the runners."""
DISTRUST_INTERVALS = 3
"""For so long after an AWS run that did not finish the standby leads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """With what the standby compares the record to see whether it yields.

    Attributes:
        late_by: A credential that was due by then has been left by a trigger of AWS: it is rotated.
        seen_after: AWS is trusted only if it was seen later than this.
        began_by: AWS is trusted only if it left no run unfinished that began later than this.
    """

    late_by: datetime
    seen_after: datetime
    began_by: datetime


def bounds(interval: timedelta, now: datetime) -> Bounds:
    """The bounds for a credential with this interval, at this time."""
    return Bounds(
        # A trigger that comes at the end of its minute must have had its turn.
        late_by=last_trigger(interval, now - TRIGGER_LATENESS),
        seen_after=now - interval,
        began_by=now - DISTRUST_INTERVALS * interval,
    )


def trusts(signs: AwsSigns, limits: Bounds) -> bool:
    """Whether the next trigger of AWS can be expected to rotate."""
    seen = signs.seen_at is not None and signs.seen_at > limits.seen_after
    unfinished = signs.began_at is not None and signs.began_at > limits.began_by
    return seen and not unfinished


def yields(signs: AwsSigns, next_due_at: datetime | None, limits: Bounds) -> bool:
    """Whether the standby leaves a credential to AWS that nothing pends for and that is due.

    Args:
        signs: What the record says of AWS.
        next_due_at: When it was due; None: it was never rotated, and is not left to anyone.
        limits: Of the standby's clock.
    """
    return next_due_at is not None and next_due_at > limits.late_by and trusts(signs, limits)
