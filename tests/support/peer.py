"""Servers on a port of this machine that do with each connection what a test says, or nothing."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread

_CLIENT_SSL = 0x0800
# After the version: connection id, the first part of the scramble and a filler, then the lower capabilities.
# https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_v10.html
_BEFORE_CAPABILITIES = 4 + 8 + 1


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


@contextmanager
def silent() -> Iterator[tuple[int, list[float]]]:
    """A port that takes connections and never says anything.

    With it comes how many seconds each client has waited until it hung up, complete when the block has ended. That a
    client is slow before it connects is not part of it.
    """
    waited: list[float] = []

    def listen(connection: socket.socket) -> None:
        since = time.monotonic()
        try:
            while connection.recv(65536):
                pass
        finally:
            waited.append(time.monotonic() - since)

    with peer(listen) as port:
        yield port, waited


def delegate(
    client: socket.socket, server: socket.socket, sent: Callable[[bytes], bytes] = lambda data: data
) -> None:
    """Let a client and a server talk until both have ended; what the client says goes through `sent` first."""
    back = Thread(target=_copy, args=(server, client, lambda data: data))
    back.start()
    _copy(client, server, sent)
    back.join()


def _copy(source: socket.socket, target: socket.socket, sent: Callable[[bytes], bytes]) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(sent(data))
    # Also where the source was reset: the target would wait for more, and the next client for the target.
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def relay(port: int, *, version: bytes | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """A port that leads to the server's, and what clients have said there.

    Args:
        port: Of the server.
        version: What the server claims to be. None: it offers no TLS, and says who it is.
    """
    said: list[bytes] = []

    def note(data: bytes) -> bytes:
        said.append(data)
        return data

    def pass_on(client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as server:
            packet = server.recv(1024)
            genuine, _, rest = packet[5:].partition(b"\0")
            if version is None:
                at = slice(_BEFORE_CAPABILITIES, _BEFORE_CAPABILITIES + 2)
                capabilities = int.from_bytes(rest[at], "little") & ~_CLIENT_SSL
                rest = rest[: at.start] + capabilities.to_bytes(2, "little") + rest[at.stop :]
            payload = packet[4:5] + (version or genuine) + b"\0" + rest
            client.sendall(len(payload).to_bytes(3, "little") + packet[3:4] + payload)
            delegate(client, server, note)

    with peer(pass_on) as listening:
        yield listening, said
