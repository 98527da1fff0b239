"""An HTTP server on loopback that answers every request with given bytes and closes the connection."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer

REQUEST_BYTES = 65_536


class GarbageServer(ThreadingTCPServer):
    """Answers until its end.

    Attributes:
        reply: The reply to requests that have none in `replies`; may be changed between requests.
        replies: Replies by method and end of the path, such as `GET /versions`.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.reply = b""
        self.replies: dict[tuple[str, str], bytes] = {}

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error."""


class _Answer(StreamRequestHandler):
    server: GarbageServer
    timeout = 5

    def handle(self) -> None:
        method, target, *_ = [*self.rfile.readline().decode("latin-1").split(" "), "", ""]
        head = {}
        while line := self.rfile.readline().strip().lower():
            name, _, value = line.partition(b":")
            head[name] = value.strip()
        if b"expect" not in head:  # Else the client has not sent the body yet: it gets the reply at once.
            self.rfile.read(int(head.get(b"content-length", 0)))
        path = target.partition("?")[0]
        replies = (r for (m, end), r in self.server.replies.items() if m == method and path.endswith(end))
        self.wfile.write(next(replies, self.server.reply))
        self.connection.shutdown(socket.SHUT_WR)
        with suppress(OSError):
            while self.connection.recv(REQUEST_BYTES):
                pass


@contextmanager
def garbage_server() -> Iterator[GarbageServer]:
    """One that listens."""
    with GarbageServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()
