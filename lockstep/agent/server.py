"""The HTTP server of the agent and of the live page: it says nothing of itself, and ends when a signal tells it to.

Connections and requests are bounded, as those of the AWS Secrets Manager Agent are (`max_conn`, MAX_BUF_BYTES). Else
whoever reaches the port could take every file descriptor of the process, or all of its memory, without a token: no
store could be read and no file written.
"""

import asyncio
import os
import resource
import socket
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from lockstep.protocol.errors import Environment, EnvironmentalError

MOST_CONNECTIONS = 800
FIRST_REQUEST_SECONDS = 10.0
"""After which a connection ends on which nothing was asked yet."""
MOST_BYTES = 321 * 1024
"""Of one request."""
_TOO_MANY = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 25\r\n"
    b"Connection: close\r\n\r\nConnection limit exceeded"
)


class _Bounded(asyncio.Protocol):
    """Put before uvicorn's protocol, whose attributes these are.

    Attributes:
        connections: All of the server.
        cycle: The latest request; None: there was none.
    """

    connections: Collection[object]
    cycle: object | None
    _counted_for: object | None = None
    _bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._transport = transport
        self._first_request = asyncio.get_running_loop().call_later(FIRST_REQUEST_SECONDS, self._close_unused)
        if len(self.connections) > most_connections() and isinstance(transport, asyncio.WriteTransport):
            transport.write(_TOO_MANY)
            transport.close()

    def data_received(self, data: bytes) -> None:
        if self._counted_for is not self.cycle:  # The head of a request was complete.
            self._counted_for, self._bytes = self.cycle, 0
        self._bytes += len(data)
        if self._bytes > MOST_BYTES:
            self._transport.close()
        else:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._first_request.cancel()
        super().connection_lost(exc)

    def _close_unused(self) -> None:
        if self.cycle is None:
            self._transport.close()


def most_connections() -> int:
    """How many connections there may be: half of the file descriptors are left for stores and files."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        MOST_CONNECTIONS if descriptors == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, descriptors // 2)
    )


def server_of(app: ASGIApp, *, graceful_seconds: int) -> tuple[uvicorn.Server, Callable[..., None]]:
    """A server, and what ends it: a handler of signals.

    Args:
        app: What answers.
        graceful_seconds: For so long requests under way are waited for at the end.
    """
    protocol: Any = type("Connection", (_Bounded, AutoHTTPProtocol), {})
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=protocol,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=graceful_seconds,
        )
    )

    def end(*_received: object) -> None:
        server.should_exit = True

    return server, end


# Where the agent listens: a port, or a Unix socket.

_WAITING = 1024


def listener_of(host: str, port: int, path: Path | None = None) -> socket.socket:
    """A socket that listens: from now on requests wait instead of being refused. One that was left over is replaced.

    Args:
        host: An address of this machine.
        port: 0: a free one.
        path: Of a Unix socket, instead of both.

    Raises:
        EnvironmentalError: Another program listens there, or this one may not.
    """
    try:
        listener = _port(host, port) if path is None else _unix_socket(path)
        listener.listen(_WAITING)
    except OSError as error:
        where = str(path or f"{host}:{port}")
        raise EnvironmentalError(
            Environment.ADDRESS_UNUSABLE, path=where, code=error.strerror or type(error).__name__
        ) from None
    return listener


def _port(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, or asyncio would not send small answers at once, and each would wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def _unix_socket(path: Path) -> socket.socket:
    with socket.socket(socket.AF_UNIX) as other:
        if other.connect_ex(str(path)) == 0:
            raise FileExistsError(None, "another program listens there")
    if path.is_symlink() or (path.exists() and not path.is_socket()):
        raise FileExistsError(None, "something else is there")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o117)  # Owner and group may connect.
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    return listener
