"""The check of the topic to which the OCI runner, and operators, send events."""

from collections.abc import Iterator

from lockstep.doctor.checks import Check, with_oci
from lockstep.doctor.context import Context
from lockstep.doctor.findings import Answer, failed
from lockstep.doctor.oci_runner import subscribed, topic_of
from lockstep.plan import Plan

_CORRECT = "lockstep plan check  # then correct events.oci.topic_id: Terraform makes no topic for events"


def events(context: Context) -> Iterator[Answer]:
    """The topic is there, where the policy lets the function publish, and somebody is told."""
    named = context.plan.events.oci if context.plan.events else None
    if named is None:
        return
    topic = topic_of(context, named.region, named.topic_id)
    if topic is not None and topic.compartment_id != named.compartment_id:
        text = (
            f"it is in {topic.compartment_id}, and the plan says {named.compartment_id}, so the function may not "
            "publish"
        )
        yield failed(topic.name, text, "lockstep plan check  # then correct events.oci.compartment_id")
        return
    yield subscribed(context, named.region, named.topic_id, lost="no event", mend=_CORRECT)


def _with_topic(plan: Plan) -> bool:
    return with_oci(plan) and plan.events is not None and plan.events.oci is not None


CHECKS = (
    Check(
        id="oci.events",
        title="events",
        looks_at="where the plan names a topic: whether it exists in the plan's compartment, is active, and has an "
        "active subscription",
        means="no event of a run in OCI reaches anybody; rotations do not depend on it",
        command="oci ons subscription create --topic-id TOPIC --protocol EMAIL --subscription-endpoint YOU@EXAMPLE.COM",
        ask=events,
        needs="oci.identity",
        applies=_with_topic,
    ),
)
