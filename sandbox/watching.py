"""What arrives at who watches: from a stale credential to the messages of alarms, and the events of an estate.

An estate's events go to a bus with a queue behind it, and to a topic.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from functions.announce import handler as announce
from sandbox.emulators.aws import AwsSandbox, Execution
from sandbox.emulators.aws.alarms import CloudWatch
from sandbox.emulators.aws.deployed import DeployedStack
from sandbox.emulators.aws.events import deliver, status_change
from sandbox.emulators.aws.lambda_host import InvocationResult
from sandbox.emulators.oci import OciSandbox
from sandbox.plans import EVENT_BUS

EVERY_SECONDS = 300
"""How often the rule of the watch fires."""
MOST_ROUNDS = 20


class NothingArrivedError(Exception):
    """No message of an alarm arrived in time, or the watch failed; the text says what was seen last."""


def new_queue(aws: AwsSandbox, name: str) -> tuple[str, str]:
    """Make a queue; its URL and its ARN."""
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    return url, found["QueueArn"]


def drained(aws: AwsSandbox, url: str) -> Iterator[Any]:
    """Take what is in a queue; the parsed body of each message."""
    sqs = aws.client("sqs")
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            yield json.loads(message["Body"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


@dataclass(frozen=True)
class Subscriber:
    """A queue that subscribes to a topic."""

    aws: AwsSandbox
    queue_url: str

    @classmethod
    def of(cls, aws: AwsSandbox, topic: str, *, name: str = "subscriber") -> "Subscriber":
        """Subscribe a new queue."""
        url, arn = new_queue(aws, name)
        aws.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        return cls(aws, url)

    def received(self) -> list[dict[str, Any]]:
        """The messages of CloudWatch since the last call."""
        return [json.loads(body["Message"]) for body in drained(self.aws, self.queue_url)]


class Watching:
    """Fires the rule of the watch every five minutes of CloudWatch's time.

    Args:
        stack: A deployed stack, whose functions run.
        name: The stack's name.
    """

    def __init__(self, stack: DeployedStack, name: str) -> None:
        self._rule = stack.rule_of("watch")
        self._stack = stack
        self._name = name
        self.cloudwatch = CloudWatch(stack.aws.account_id, stack.aws.region)

    def look(self) -> Mapping[str, float]:
        """Fire the rule once, and let five minutes pass; the metrics that CloudWatch took from the log.

        Raises:
            NothingArrivedError: The function failed.
        """
        reply = self._stack.call(self._rule)
        if reply.function_error:
            raise NothingArrivedError(reply.payload.decode())
        function = self._rule.target_arn.split(":")[6]
        points = self.cloudwatch.ingest(function, self._stack.log_of(function))
        self.cloudwatch.pass_seconds(EVERY_SECONDS)
        return {point.name: point.value for point in points}

    def stay_silent(self) -> None:
        """Let five minutes pass without the watch."""
        self.cloudwatch.pass_seconds(EVERY_SECONDS)

    def minutes_until(
        self, subscriber: Subscriber, alarm: str, state: str, *, each: Callable[[], object] | None = None
    ) -> int:
        """Look until a message says that an alarm has a state; the minutes that passed.

        Args:
            subscriber: Of the alarm's topic.
            alarm: Its name, without the stack's.
            state: `ALARM`, `OK` or `INSUFFICIENT_DATA`.
            each: Done every five minutes; by default the watch looks.

        Raises:
            NothingArrivedError: No such message came.
        """
        seen: object = None
        for number in range(1, MOST_ROUNDS + 1):
            seen = (each or self.look)()
            for message in subscriber.received():
                if (message["AlarmName"], message["NewStateValue"]) == (f"{self._name}-{alarm}", state):
                    return number * EVERY_SECONDS // 60
        raise NothingArrivedError(f"{alarm} did not become {state}; {seen}")


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
