"""WSGI applications on ports of the loopback interface, each request in a thread of its own."""

from threading import Thread
from typing import TYPE_CHECKING

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import BaseWSGIServer, make_server

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
