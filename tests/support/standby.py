"""When the standby is called, as Terraform makes its schedules (`oci_fn/terraform/runner/schedules.tf`)."""

from collections.abc import Iterable
from datetime import timedelta

from lockstep.protocol.schedule import CALLED_EVERY, Shard, period, turn_after

_MINUTE = timedelta(minutes=1)


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
            shard = Shard(interval=interval, number=number, count=count, credential_ids=())
            first = shard.phase + turn_after(interval)
            found |= {(first + call * every) // _MINUTE % 60 for call in range(CALLED_EVERY // every)}
    return tuple(sorted(found))
