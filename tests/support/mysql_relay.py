"""A port in front of a MySQL server that passes bytes on, except the greeting, which is not protected by TLS."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tests.support.peer import delegate, peer

_CLIENT_SSL = 0x0800
# After the version: connection id, the first part of the scramble and a filler, then the lower capabilities.
# https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_v10.html
_BEFORE_CAPABILITIES = 4 + 8 + 1


@dataclass(frozen=True, kw_only=True)
class Greeting:
    """What may be changed in the first packet of a server."""

    version: bytes
    capabilities: int


def hide_tls(greeting: Greeting) -> Greeting:
    """Offer no TLS."""
    return replace(greeting, capabilities=greeting.capabilities & ~_CLIENT_SSL)


@contextmanager
def relay(
    port: int, change: Callable[[Greeting], Greeting], said: list[bytes] | None = None
) -> Iterator[int]:
    """A port that leads to the server's; `said` collects what clients send."""

    def collect(data: bytes) -> bytes:
        if said is not None:
            said.append(data)
        return data

    def pass_on(client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as server:
            client.sendall(_changed(server.recv(1024), change))
            delegate(client, server, collect)

    with peer(pass_on) as listening:
        yield listening


def _changed(packet: bytes, change: Callable[[Greeting], Greeting]) -> bytes:
    protocol, (version, _, rest) = packet[4:5], packet[5:].partition(b"\0")
    before, lower, after = (
        rest[:_BEFORE_CAPABILITIES],
        rest[_BEFORE_CAPABILITIES : _BEFORE_CAPABILITIES + 2],
        rest[_BEFORE_CAPABILITIES + 2 :],
    )
    greeting = change(Greeting(version=version, capabilities=int.from_bytes(lower, "little")))
    capabilities = greeting.capabilities.to_bytes(2, "little")
    payload = protocol + greeting.version + b"\0" + before + capabilities + after
    return len(payload).to_bytes(3, "little") + packet[3:4] + payload
