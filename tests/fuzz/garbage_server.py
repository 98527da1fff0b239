"""An HTTP server on loopback that answers every request with given bytes and closes the connection."""

import socket
from contextlib import suppress
from threading import Thread
from types import TracebackType
from typing import Self

ENOUGH_FOR_A_REQUEST = 65_536


class GarbageServer:
    """Answers until its `with` block ends.

    Attributes:
        reply: The reply to requests that have none in `replies`; may be changed between requests.
        replies: Replies by method and end of the path, such as `GET /versions`.
    """

    def __init__(self) -> None:
        self.reply = b""
        self.replies: dict[tuple[str, str], bytes] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = Thread(target=self._serve, name="garbage", daemon=True)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(5)
                method, path = self._read_request(connection)
                found = (r for (m, end), r in self.replies.items() if m == method and path.endswith(end))
                connection.sendall(next(found, self.reply))
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(ENOUGH_FOR_A_REQUEST):
                    pass

    def _read_request(self, connection: socket.socket) -> tuple[str, str]:
        received = b""
        while b"\r\n\r\n" not in received:
            more = connection.recv(ENOUGH_FOR_A_REQUEST)
            if not more:
                return "", ""
            received += more
        head, _, body = received.partition(b"\r\n\r\n")
        method, target, *_ = head.decode("latin-1").split(" ")
        asked = method, target.partition("?")[0]
        lines = head.lower().split(b"\r\n")
        if b"expect: 100-continue" in lines:
            return asked  # The client has not sent the body yet: it gets the reply at once.
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        while len(body) < length:
            more = connection.recv(ENOUGH_FOR_A_REQUEST)
            if not more:
                break
            body += more
        return asked
