"""Notifications, as far as publishing goes: topics, and the messages that they were given.

https://docs.oracle.com/iaas/api/#/en/notification/20181201/NotificationTopic/PublishMessage: 64 KB a message, 60
messages a minute and topic. A policy cannot name a topic: only the general variables are supported
(https://docs.oracle.com/iaas/Content/Identity/Reference/notificationpolicyreference.htm).
"""

import threading
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from sandbox.emulators.oci.calls import Call
from sandbox.emulators.oci.clock import Ids, SandboxClock
from sandbox.emulators.oci.errors import ApiError, invalid, not_found
from sandbox.emulators.oci.wire import Reply, json_reply

MESSAGE_LIMIT_BYTES = 64 * 1024
MESSAGES_A_MINUTE = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message, as its subscribers get it."""

    title: str | None
    body: str
    at: datetime


class NotificationsService:
    """The topics of a tenancy.

    Attributes:
        topics: The compartment of each, by its OCID.
        messages: What each was given.
        lock: Held while a call is served.
    """

    def __init__(self, clock: SandboxClock, ids: Ids) -> None:
        self._clock = clock
        self._ids = ids
        self.topics: dict[str, str] = {}
        self.messages: defaultdict[str, list[Message]] = defaultdict(list)
        self.lock = threading.RLock()

    def create_topic(self, compartment: str) -> str:
        """Make a topic; its OCID."""
        topic: str = self._ids.ocid("onstopic")
        self.topics[topic] = compartment
        return topic

    def publish_message(self, call: Call) -> Reply:
        """Serve PublishMessage."""
        topic = call.path["topic"]
        compartment = self.topics.get(topic)
        if compartment is None or not call.may("ONS_TOPIC_PUBLISH", resource=None, compartment=compartment):
            raise not_found()
        details, now = call.details(), self._clock.now()
        message = Message(title=details.text("title"), body=details.required_text("body"), at=now)
        if len(call.request.body) > MESSAGE_LIMIT_BYTES:
            raise invalid(f"the message is larger than {MESSAGE_LIMIT_BYTES} bytes")
        given = self.messages[topic]
        if sum(now - m.at < timedelta(minutes=1) for m in given) >= MESSAGES_A_MINUTE:
            raise ApiError(429, "TooManyRequests", "Too many requests for the topic.")
        given.append(message)
        reply = json_reply({"messageId": self._ids.request(), "timeStamp": now.isoformat()}, {})
        return Reply(202, reply.headers, reply.body)
