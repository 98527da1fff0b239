"""A port in front of a MySQL server that passes bytes on, except the greeting, which is not protected by TLS."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.peer import delegate, peer

_CLIENT_SSL = 0x0800
# After the version: connection id, the first part of the scramble and a filler, then the lower capabilities.
# https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_v10.html
_BEFORE_CAPABILITIES = 4 + 8 + 1


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
