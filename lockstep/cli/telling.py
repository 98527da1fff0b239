"""Events of what an operator has done at the command line."""

from datetime import datetime

from lockstep.cli.failures import in_our_words
from lockstep.cli.output import complain
from lockstep.environment import line_of
from lockstep.events.cloud_event import event_of, source_of
from lockstep.events.happenings import Happening
from lockstep.identity import OPERATOR, Cloud
from lockstep.plan import Plan
from lockstep.wiring import endpoints_from_environment, event_sink

_CLOUDS: tuple[Cloud, ...] = ("aws", "oci")


def tell(plan: Plan, happening: Happening, *, cause: str, time: datetime) -> None:
    """Send an event to each place that the plan names. One that is not sent is complained of, and changes nothing.

    Args:
        plan: The plan.
        happening: What has happened.
        cause: The id of its audit entry.
        time: When.
    """
    source = source_of(region=plan.lock.region, table=plan.lock.table)
    event = event_of(happening, source=source, cause=cause, time=time.replace(microsecond=0))
    for cloud in _CLOUDS:
        try:
            sink = event_sink(plan, cloud, OPERATOR, endpoints=endpoints_from_environment())
            if sink:
                sink.send([event])
        except Exception as error:  # noqa: BLE001 - what was ordered is done, and an event changes no outcome (E18)
            ours = in_our_words(error)
            why = ours.where.get("code") or line_of(ours)
            complain(f"{happening.credential}: done, but events.{cloud} did not take its event: {why}")
