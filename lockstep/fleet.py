"""What starts the rotations of a shard in AWS, and how their executions are named (protocol R15, R16, R17, R18).

`cdk/fleetmachine.py` writes these into `cdk/fleet.asl.json`, which checks its input by them.
"""

from typing import Annotated

from lockstep.messages import Id
from lockstep.strict_json import Message, matching

AT_ONCE = 10
"""So many rotations of a shard run at the same time where its input does not say it; its rule does."""
MOST_AT_ONCE = 1_000
"""No more of them: so many executions of functions an account may have at the same time, unless it asks for more
(https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html)."""
APART_MS = 100
"""Milliseconds from the begin of a rotation of a shard to that of the next one, where its input does not say it; its
rule does. At ten a second, Secrets Manager is asked for 40 of the 50 writes a second that it takes."""
MOST_APART_MS = 60_000
"""No more of them: a shard begins its rotations within a minute."""
TOLERATED_ONE_IN = 10
"""A shard has failed where more than one of so many rotations has. Of fewer credentials than that, each counts."""

ShardName = Annotated[str, matching(r"[0-9a-z]{1,20}-[0-9]{2}")]
"""See `lockstep.shards.Shard.name`."""
PlanDigest = Annotated[str, matching(r"[0-9a-f]{64}")]
"""Names the folder of a published plan."""
Moment = Annotated[
    str,
    matching(
        r"20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z"
    ),
]
"""A time as EventBridge writes it."""


class FleetInput(Message):
    """What starts the rotations of one shard. It is checked before anything is read (protocol R15).

    Attributes:
        plan: The published plan that lists the shard.
        time: When its rule was to fire; without it, the start of the execution.
        concurrency: So many rotations run at the same time, from 1 to `MOST_AT_ONCE`.
        every_ms: The next rotation begins so many milliseconds after the one before, from 1 to `MOST_APART_MS`.
        trigger: What the runs name as theirs.
    """

    shard: ShardName
    plan: PlanDigest
    time: Moment | None = None
    concurrency: int = AT_ONCE
    every_ms: int = APART_MS
    trigger: Id = "manual"
