"""WSGI applications on ports of the loopback interface, each request in a thread of its own; and rates of calls."""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.wrappers import Response

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class QuietHandler(MotoRequestHandler):
    """Writes no access log; errors are still logged. Each connection is for one request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


class KeepingHandler(QuietHandler):
    """Keeps connections, as AWS does; one that is kept is served on when its server has ended."""

    protocol_version = "HTTP/1.1"


def served(
    application: "WSGIApplication", name: str, handler: type[QuietHandler] = KeepingHandler
) -> BaseWSGIServer:
    """A server that has begun to serve, at a free port; to be ended by `end`.

    Args:
        application: Answers.
        name: Of the thread.
        handler: Of its requests.
    """
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name=name, daemon=True).start()
    return server


def end(server: BaseWSGIServer) -> None:
    """Stop listening."""
    server.shutdown()
    server.server_close()


@dataclass
class Rate:
    """Takes so many calls of some operations a second, and refuses what is above that.

    A bucket of tokens that holds those of a second, as AWS describes its own throttling
    (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/throttling.html).

    Attributes:
        operations: Which count, together.
        per_second: How many of them are taken.
        refused: How many were not.
        monotonic: A clock, in seconds.
    """

    operations: frozenset[str]
    per_second: float
    refused: int = 0
    monotonic: Callable[[], float] = monotonic
    _tokens: float = field(init=False)
    _at: float = field(init=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        self._tokens, self._at = self.per_second, self.monotonic()

    def takes(self, operation: str) -> bool:
        """Whether a call is taken; each that is counts."""
        if operation not in self.operations:
            return True
        with self._lock:
            now = self.monotonic()
            self._tokens = min(self.per_second, self._tokens + (now - self._at) * self.per_second)
            self._at = now
            if self._tokens < 1:
                self.refused += 1
                return False
            self._tokens -= 1
            return True


def throttled() -> Response:
    """The reply of a service with the JSON protocol to a call above its rate.

    Of Secrets Manager: https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html.
    """
    return Response(
        '{"__type": "ThrottlingException", "message": "Rate exceeded"}',
        status=400,
        content_type="application/x-amz-json-1.1",
    )
