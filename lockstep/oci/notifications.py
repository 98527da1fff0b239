"""Events to a topic of OCI Notifications: `PublishMessage`, once for each event, with the CloudEvent as the body.

OCI's own service Events takes events of Oracle's services only: its API has rules, and nothing that publishes
(https://docs.oracle.com/iaas/api/#/en/events/20181201/). A topic takes 64 KB a message and 60 messages a minute
(https://docs.oracle.com/iaas/api/#/en/notification/20181201/NotificationTopic/PublishMessage). Its message type JSON is
out of use, and is another thing: a text for each protocol.
"""

from collections.abc import Sequence

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.oci.clients import OciClients
from lockstep.protocol.errors import ErrorKind, Errors, EventNotSentError
from lockstep.protocol.events import CloudEvent, text_of

_ERRORS: Errors = dict.fromkeys(ErrorKind, EventNotSentError)


class NotificationsTopic:
    """A topic.

    Args:
        clients: Of the topic's region.
        topic_id: Its OCID.
    """

    def __init__(self, clients: OciClients, topic_id: str) -> None:
        self._clients = clients
        self._topic_id = topic_id

    def send(self, events: Sequence[CloudEvent]) -> None:
        """As `lockstep.protocol.events.Sink`. The first that is not taken ends it."""
        for event in events:
            with self._clients.translated(_ERRORS):
                self._clients.of(oci.ons.NotificationDataPlaneClient).publish_message(
                    self._topic_id,
                    oci.ons.models.MessageDetails(title=f"{event.type} {event.subject}", body=text_of(event)),
                )
