"""A server on a port of this machine that does with each connection what a test says."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread


@contextmanager
def peer(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port that answers each connection, one after the other, and closes it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            # A client that resets its connection is no reason to turn the next one away.
            with connection, suppress(OSError):
                answer(connection)

    thread = Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
