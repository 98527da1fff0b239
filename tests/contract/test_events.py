"""The adapters that send events, with the real SDKs over HTTP, on services as strict as the real ones."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from lockstep.aws.clients import aws_client
from lockstep.aws.eventbridge import EventBridgeBus
from lockstep.oci.clients import OciClients, OciIdentity
from lockstep.oci.notifications import NotificationsTopic
from lockstep.protocol.deadlines import CloudTimeouts
from lockstep.protocol.errors import EventNotSentError
from lockstep.protocol.events import CloudEvent, Paused, Retired, event_of
from lockstep.protocol.messages import Entry
from lockstep.protocol.strict_json import write
from lockstep.runtime.clouds import EVENT_TIMEOUTS
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.oci import OciSandbox
from sandbox.plans import EVENT_BUS
from sandbox.watching import EventEstate, make_event_estate
from tests.contract.clouds import SESSIONS

LESS_THAN_SHIPPED = CloudTimeouts().read_seconds
"""An event is given up sooner than any other call of a cloud."""


def event(data: Paused | Retired) -> CloudEvent:
    at = datetime(2026, 11, 27, 12, tzinfo=UTC)
    return event_of(data, source="/lockstep/eu-central-1/lockstep", cause="order-1", time=at)


def paused(number: int = 1) -> CloudEvent:
    return event(Paused(credential="multi-cloud/app_user", entry=Entry(stream="aws", seq=number)))


def too_large() -> CloudEvent:
    """No plan makes one; so large is a credential of 100,000 generations that may be valid."""
    return event(Retired(credential="c", left_valid=tuple(range(100_000)), entry=Entry(stream="aws", seq=1)))


@pytest.fixture
def clouds() -> Iterator[EventEstate]:
    with AwsSandbox() as aws, OciSandbox() as oci:
        yield make_event_estate(aws, oci)


def bus_of(clouds: EventEstate, name: str = EVENT_BUS) -> EventBridgeBus:
    aws = clouds.aws
    client = aws_client("events", aws.region, keys=SESSIONS, endpoint=aws.url, timeouts=EVENT_TIMEOUTS)
    return EventBridgeBus(client, name)


def topic_of(
    clouds: EventEstate, config: dict[str, str] | None = None, topic: str | None = None
) -> NotificationsTopic:
    identity = OciIdentity(config=config or clouds.oci.config())
    clients = OciClients(
        lambda: identity, "eu-frankfurt-1", endpoint=clouds.oci.endpoint, timeouts=EVENT_TIMEOUTS
    )
    return NotificationsTopic(clients, topic or clouds.topic_id)


def not_sent(send: Callable[[], None], code: str) -> None:
    """In time; whoever sends has sent before, so that its clients are made."""
    began = time.monotonic()
    with pytest.raises(EventNotSentError) as caught:
        send()
    assert caught.value.where["code"] == code
    assert time.monotonic() - began < LESS_THAN_SHIPPED


# EventBridge


def test_a_bus_gets_the_cloud_event_as_the_detail_by_tens(clouds: EventEstate) -> None:
    asked: list[str] = []
    clouds.aws.on_request = lambda _service, operation: asked.append(operation)
    bus_of(clouds).send([paused(n) for n in range(12)])
    assert asked == ["PutEvents", "PutEvents"]
    assert sorted(clouds.on_bus(), key=lambda e: int(e["data"]["entry"]["seq"])) == [
        write(paused(n)) for n in range(12)
    ]


def test_what_a_bus_refuses_or_does_not_answer_is_an_event_that_was_not_sent(clouds: EventEstate) -> None:
    bus, given = bus_of(clouds), threading.Event()
    not_sent(lambda: bus_of(clouds, "another").send([paused()]), "ResourceNotFoundException")
    not_sent(lambda: bus.send([too_large()]), "ValidationException")
    clouds.aws.event_fault = lambda: "InternalFailure"
    not_sent(lambda: bus.send([paused()]), "InternalFailure")
    clouds.aws.event_fault = lambda: None if given.wait(60) else "InternalFailure"
    try:
        not_sent(lambda: bus.send([paused()]), "ReadTimeoutError")
    finally:
        given.set()


# Notifications


def test_a_topic_gets_the_cloud_event_as_the_body_from_who_has_the_right_in_its_compartment(
    clouds: EventEstate,
) -> None:
    oci = clouds.oci
    here = oci.new_api_key("here", "ONS_TOPIC_PUBLISH", compartment=oci.own_compartment_id)
    topic_of(clouds, here).send([paused(1), paused(2)])
    [first, _] = oci.notifications.messages[clouds.topic_id]
    assert first.title == "dev.lockstep.credential.paused multi-cloud/app_user"
    assert clouds.on_topic() == [write(paused(1)), write(paused(2))]
    elsewhere = oci.new_api_key("elsewhere", "ONS_TOPIC_PUBLISH", compartment=oci.compartment_id)
    not_sent(lambda: topic_of(clouds, elsewhere).send([paused()]), "NotAuthorizedOrNotFound")


def test_what_a_topic_refuses_or_does_not_answer_is_an_event_that_was_not_sent(clouds: EventEstate) -> None:
    topic = topic_of(clouds)
    nowhere = topic_of(clouds, topic="ocid1.onstopic.oc1..none")
    not_sent(lambda: nowhere.send([paused()]), "NotAuthorizedOrNotFound")
    not_sent(lambda: topic.send([too_large()]), "InvalidParameter")
    for fault, code in (("hang", "ReadTimeout"), ("drop_request", "ConnectionError")):
        with getattr(clouds.oci.faults, fault)("publish_message") as armed:
            not_sent(lambda: topic.send([paused()]), code)
            assert armed.hits == 1  # Tried once.
    topic.send([paused(n) for n in range(60)])
    not_sent(lambda: topic.send([paused(60)]), "TooManyRequests")
