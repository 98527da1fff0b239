"""The HTTP server of the agent and of the live page: it says nothing of itself, and ends when a signal tells it to.

Whoever reaches the port, without a token, must take neither the memory nor the file descriptors of the process, nor
the place of another client: no store could be read and no file written. So requests, connections and their time are
bounded, with the figures of the AWS agent where it has one (`max_conn`, MAX_REQ_TIME_SEC; hyper's 100 headers).
"""

import asyncio
import resource
import signal
import socket
from typing import Any

import uvicorn
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from lockstep.agent.files import refused_as
from lockstep.protocol.errors import Environment

HOST = "127.0.0.1"
"""Nothing else is listened on: the requests of the agent have its token, those of the page have none."""
ENDS = (signal.SIGTERM, signal.SIGINT)
MOST_CONNECTIONS = 800
KEPT_FOR_PROBES = 2
"""Connections beyond those, for the requests of `_PROBES`."""
DEADLINE_SECONDS = 61.0
"""After which a connection ends. Nothing renews it but a request that has come as a whole."""
MOST_BYTES = 16 * 1024
"""Of one request."""
MOST_LINES = 102
"""Of one request: 100 headers, between the first line and an empty one. Each costs far more memory than its bytes."""
_PROBES = (b"GET /ping ", b"GET /healthz ")
_TOO_MANY = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 25\r\n"
    b"Connection: close\r\n\r\nConnection limit exceeded"
)


class _Bounded(asyncio.Protocol):
    """Put before uvicorn's protocol, whose attributes these are.

    Attributes:
        queue: All of the server, that of the oldest deadline first.
        cycle: The latest request whose head has come; None: there was none.
        flow: Whether what was written waits for the client.
    """

    queue: dict["_Bounded", None]
    cycle: Any
    flow: Any
    transport: asyncio.Transport
    _complete: object | None = None
    _bytes = _lines = 0
    _only_probes = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._renew()
        if (most := most_connections()) >= len(self.queue):
            return
        # The one that has been silent for longest makes room: a client that asks is never kept out by those.
        if silent := next((c for c in self.queue if c.is_waited_for and c is not self), None):
            silent.abort()
        elif len(self.queue) <= most + KEPT_FOR_PROBES:
            self._only_probes = True
        else:
            self._refuse()

    def data_received(self, data: bytes) -> None:
        self._bytes += len(data)
        self._lines += data.count(b"\n")
        if self._bytes > MOST_BYTES or self._lines > MOST_LINES:
            self.abort()
        elif self._only_probes and not data.startswith(_PROBES):
            self._refuse()
        else:
            super().data_received(data)
            if self.cycle is not self._complete and not self.cycle.more_body:
                self._complete, self._bytes, self._lines = self.cycle, 0, 0
                self._forget()
                self._renew()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    @property
    def is_waited_for(self) -> bool:
        """Whether it is the client's turn: no request of it is being answered, or it does not read the answers."""
        latest = self.cycle
        return self.flow.write_paused or latest is None or latest.more_body or latest.response_complete

    def abort(self) -> None:
        """End it now: one that is closed would wait until the client has read what was sent."""
        self._forget()
        self.transport.abort()

    def _renew(self) -> None:
        self.queue[self] = None
        self._deadline = asyncio.get_running_loop().call_later(DEADLINE_SECONDS, self.abort)

    def _forget(self) -> None:
        self.queue.pop(self, None)
        self._deadline.cancel()

    def _refuse(self) -> None:
        self._forget()
        self.transport.write(_TOO_MANY)
        self.transport.close()


def most_connections() -> int:
    """How many connections there may be: half of the file descriptors are left for stores and files."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    half = MOST_CONNECTIONS if descriptors == resource.RLIM_INFINITY else descriptors // 2
    return min(MOST_CONNECTIONS, half)


def server_of(app: ASGIApp, *, graceful_seconds: int) -> uvicorn.Server:
    """A server, which ends when it should exit.

    Args:
        app: What answers.
        graceful_seconds: For so long requests under way are waited for at the end.
    """
    protocol: Any = type("Connection", (_Bounded, AutoHTTPProtocol), {"queue": {}})
    return uvicorn.Server(
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


def run_until_signal(app: ASGIApp, listener: socket.socket, *, graceful_seconds: int) -> None:
    """Answer until SIGTERM or SIGINT; arguments as of `server_of`."""
    server = server_of(app, graceful_seconds=graceful_seconds)
    # Uvicorn has handlers of its own meanwhile; afterwards it raises what it has received again.
    for number in ENDS:
        signal.signal(number, server.handle_exit)
    server.run([listener])


# What a page of another site makes a browser ask: it has a name of its own for loopback (DNS rebinding), or says that
# it asks across origins.

_OWN_SITES = frozenset({"same-origin", "none"})
"""Of `Sec-Fetch-Site`: a request of the page itself, and an address that a person has typed
(https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header)."""
_HTTP = 80


def names_of(port: int) -> frozenset[str]:
    """What a client on this machine may call the server that listens there, as the header Host has it."""
    hosts = (HOST, "localhost")
    with_port = frozenset(f"{name}:{port}" for name in hosts)
    return with_port.union(hosts if port == _HTTP else ())


def refusal_of(headers: Headers, names: frozenset[str]) -> Response | None:
    """The answer to a request that is not for this server, or that another site's page makes; None: it may go on.

    Args:
        headers: Of the request.
        names: Those of the server.
    """
    if headers.get("host", "").lower() not in names:
        return PlainTextResponse("This address is not one of this server.\n", 421)
    origin = headers.get("origin")
    is_own = origin is None or origin.lower().removeprefix("http://") in names
    if not is_own or headers.get("sec-fetch-site", "none") not in _OWN_SITES:
        return PlainTextResponse("Another site may not ask. Open the address by hand.\n", 403)
    return None


_WAITING = 1024


def listener_of(port: int) -> socket.socket:
    """A socket that listens on loopback: from now on requests wait instead of being refused.

    Args:
        port: 0: a free one.

    Raises:
        EnvironmentalError: Another program listens there, or this one may not.
    """
    # Named as TCP, or asyncio would not send small answers at once, and each would wait 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with refused_as(Environment.ADDRESS_UNUSABLE, path=f"{HOST}:{port}"):
        listener.bind((HOST, port))
        listener.listen(_WAITING)
    return listener
