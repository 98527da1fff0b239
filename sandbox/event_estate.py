"""Where the events of an estate go: a bus with a queue behind it, and a topic; and what has arrived there."""

import json
from dataclasses import dataclass
from typing import Any

from functions.announce import handler as announce
from sandbox.emulators.aws import AwsSandbox, Execution
from sandbox.emulators.aws.lambda_host import InvocationResult
from sandbox.emulators.aws.status_changes import deliver, status_change
from sandbox.emulators.oci import OciSandbox
from sandbox.plans import EVENT_BUS
from sandbox.watching import drained, new_queue

ANNOUNCE = "announce"
_TIMEOUT_SECONDS = 60.0
_QUEUE = "lockstep-events-consumer"

CloudEvent = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class EventEstate:
    """A consumer in each cloud.

    Attributes:
        queue_url: What the bus has taken, behind a rule.
        topic_id: In OCI.
    """

    aws: AwsSandbox
    oci: OciSandbox
    queue_url: str
    topic_id: str

    def ended(self, execution: Execution) -> list[InvocationResult]:
        """Let Step Functions tell that an execution has ended; what became of the calls of the function."""
        return deliver(self.aws, ANNOUNCE, status_change(self.aws, execution.arn))

    def on_bus(self) -> list[CloudEvent]:
        """What has arrived from the bus since the last look: the details of EventBridge's envelopes."""
        found = list[CloudEvent]()
        for envelope in drained(self.aws, self.queue_url):
            assert envelope["source"] == "lockstep"  # noqa: S101 - what the rule matches
            assert envelope["detail-type"] == envelope["detail"]["type"]  # noqa: S101 - one type
            found.append(envelope["detail"])
        return sorted(found, key=lambda event: (event["time"], event["type"]))

    def on_topic(self) -> list[CloudEvent]:
        """What has arrived at the topic since the last look."""
        found = [json.loads(m.body) for m in self.oci.notifications.messages[self.topic_id]]
        self.oci.notifications.messages[self.topic_id].clear()
        return found


def make_event_estate(aws: AwsSandbox, oci: OciSandbox) -> EventEstate:
    """Make bus, rule, queue and topic, and the function that announces."""
    events = aws.client("events")
    events.create_event_bus(Name=EVENT_BUS)
    url, arn = new_queue(aws, _QUEUE)
    events.put_rule(Name="all", EventBusName=EVENT_BUS, EventPattern=json.dumps({"source": ["lockstep"]}))
    events.put_targets(Rule="all", EventBusName=EVENT_BUS, Targets=[{"Id": "queue", "Arn": arn}])
    aws.lambda_host.register_handler(ANNOUNCE, announce.handler, timeout_seconds=_TIMEOUT_SECONDS)
    topic = oci.notifications.create_topic(oci.own_compartment_id)
    return EventEstate(aws=aws, oci=oci, queue_url=url, topic_id=topic)
