"""The adapters that send events, with the real SDKs over HTTP, on services as strict as the real ones.

And who takes them: the example that makes External Secrets read at once, run as it stands.
"""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from moto.events.models import EventPattern
from ruamel.yaml import YAML

from lockstep.aws.clients import aws_client
from lockstep.aws.eventbridge import EventBridgeBus
from lockstep.oci.clients import OciClients, OciIdentity
from lockstep.oci.notifications import NotificationsTopic
from lockstep.protocol.deadlines import CloudTimeouts
from lockstep.protocol.errors import EventNotSentError
from lockstep.protocol.events import CloudEvent, Paused, Retired, event_of
from lockstep.protocol.messages import Entry, Promoted
from lockstep.protocol.strict_json import write
from lockstep.runtime.clouds import EVENT_TIMEOUTS
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.wire import HttpServer, Reply, Request
from sandbox.plans import EVENT_BUS
from sandbox.watching import EventEstate, make_event_estate
from tests.contract.clouds import SESSIONS
from tests.support.event_examples import examples

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


# The example for External Secrets

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "external-secrets"
EVENT: dict[str, Any] = examples()[Promoted]
TOKEN = "t" * 64
KUBERNETES = "/apis/external-secrets.io/v1/namespaces/shop/externalsecrets"


class Receiver:
    """The example, and a cluster that has one ExternalSecret, on which it writes down what it is annotated with."""

    def __init__(self) -> None:
        self.port, self.forced = 0, list[str]()

    def patched(self, request: Request) -> Reply:
        """As the API server: who is it, may they, is it there, what is it. No strategic merge patch is taken.

        (https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-update)
        """
        there = {f"{KUBERNETES}/app-user": 200, f"{KUBERNETES}/gone": 404}
        status = there.get(request.target, 403)
        if request.headers.get("authorization") != "Bearer of-the-account":
            status = 401
        if status == 200:
            assert (request.method, request.headers["content-type"]) == (
                "PATCH",
                "application/merge-patch+json",
            )
            self.forced.append(json.loads(request.body)["metadata"]["annotations"]["force-sync"])
        return Reply(status)

    def post(self, body: object, *, token: str = TOKEN) -> int:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}"}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)) as connection:
            connection.request("POST", "/", body=data, headers=headers)
            return connection.getresponse().status


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    found = Receiver()
    server = HttpServer(found.patched)
    server.start()
    (tmp_path / "token").write_text("of-the-account")
    (tmp_path / "own").write_text(TOKEN + "\n")
    wanted = {EVENT["subject"]: ["shop/app-user"], "of/nobody": ["shop/gone"], "denied": ["other/app-user"]}
    environment = {
        "PATH": os.defpath,
        "ADDRESS": "127.0.0.1",
        "PORT": "0",
        "KUBERNETES_URL": f"http://127.0.0.1:{server.port}",
        "ACCOUNT_FOLDER": str(tmp_path),
        "TOKEN_FILE": str(tmp_path / "own"),
        "EXTERNAL_SECRETS": json.dumps(wanted),
    }
    program = [sys.executable, str(FOLDER / "force_sync.py")]
    with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - the example
        assert process.stdout
        found.port = int(process.stdout.readline().rpartition(" ")[2])
        try:
            yield found
        finally:
            process.terminate()
            server.stop()


OF_EVENTBRIDGE = {"source": "lockstep", "detail": {**EVENT, "id": "another"}}
ANSWERS: dict[str, tuple[object, int, str | None]] = {
    "a promotion, as OCI sends it": (EVENT, 204, EVENT["id"]),
    "as EventBridge does": (OF_EVENTBRIDGE, 204, "another"),
    "another kind of event": (examples()[Paused], 204, None),
    "of another plan's credential": ({**EVENT, "subject": "of/another-plan"}, 204, None),
    "of one that Kubernetes has not: to try again": ({**EVENT, "subject": "of/nobody"}, 502, None),
    "of one that it may not patch": ({**EVENT, "subject": "denied"}, 502, None),
    **{f"no event: {bad!r}": (bad, 400, None) for bad in (b"", b"no", b"[]", b"{}", b'{"detail": 1}')},
}


def test_a_promotion_is_a_sync_nothing_else_is_and_who_does_not_know_the_token_is_refused(
    receiver: Receiver,
) -> None:
    for name, (body, status, forced) in ANSWERS.items():
        for _ in range(2):  # A repeat changes nothing: it says the same.
            receiver.forced.clear()
            assert receiver.post(body) == status, name
            assert receiver.forced == ([forced] if forced else []), name
    for token in ("", "t" * 63, "t" * 64 + "x", "\xe9"):
        assert receiver.post({**EVENT, "id": "forged"}, token=token) == 401
    assert receiver.forced == []


def test_the_rule_passes_promotions_on_and_nothing_else() -> None:
    template = YAML(typ="rt").load((FOLDER / "rule.yaml").read_text())
    pattern = EventPattern.load(json.dumps(template["Resources"]["Rule"]["Properties"]["EventPattern"]))

    for kind, event in examples().items():
        envelope: Any = {"source": "lockstep", "detail-type": event["type"], "detail": event}
        assert pattern.matches_event(envelope) is (kind is Promoted)
