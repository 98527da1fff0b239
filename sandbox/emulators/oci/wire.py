"""The HTTP/1.1 that the emulator speaks: one thread a connection, kept alive, nothing between socket and handler.

`http.server` parses headers as e-mail, which costs more than everything else the emulator does for a call.
"""

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from io import BufferedReader
from typing import Final
from urllib.parse import parse_qsl

from sandbox.emulators.oci.errors import ApiError, invalid, missing

_MAX_LINE: Final = 65536
_HANDSHAKE_SECONDS: Final = 10.0
_LOOPBACK: Final = "127.0.0.1"
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came: `target` undecoded, for it is what was signed; header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = field(default=b"", repr=False)

    @property
    def path(self) -> str:
        """The target without its query, still percent-encoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters, decoded; of a repeated one the last."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. To a HEAD the body is not sent, only its length.

    Attributes:
        is_cut: The connection closes in the middle of it.
        trickle_seconds: Between two bytes.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    is_cut: bool = False
    trickle_seconds: float = 0.0


def json_reply(value: object, headers: Mapping[str, str]) -> Reply:
    """200 with a JSON body."""
    return Reply(200, {"content-type": "application/json", **headers}, json.dumps(value).encode())


class _BadRequestError(Exception):
    """What came is no HTTP/1.1 request that this server takes."""


class HttpServer:
    """Serves on a free loopback port; after a stop it starts again on the same one."""

    def __init__(
        self,
        respond: Callable[[Request], Reply | None],
        *,
        host: str = _LOOPBACK,
        port: int = 0,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Answer each request with `respond`; None closes the connection without a word. TLS with a context."""
        self._respond = respond
        self._host, self._context = host, context
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self.port = port

    def start(self) -> None:
        """Listen, then accept in the background."""
        listener = socket.create_server((self._host, self.port), backlog=128)
        self.port = listener.getsockname()[1]
        with self._lock:
            self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name="oci-sandbox", daemon=True).start()

    def stop(self) -> None:
        """Refuse new connections and cut the open ones."""
        with self._lock:
            listener, self._listener = self._listener, None
            connections = list(self._connections)
        if listener is None:
            return
        # Closing alone would leave a blocked accept() or recv() waiting.
        for open_socket in (listener, *connections):
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
        listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                if self._listener is not listener:
                    connection.close()
                    return
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name="oci-sandbox", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            # The client may disconnect at any byte.
            with (
                contextlib.suppress(OSError),
                self._secured(connection) as secure,
                secure.makefile("rb") as reader,
            ):
                self._converse(secure, reader)
        finally:
            with self._lock:
                self._connections.discard(connection)

    def _secured(self, connection: socket.socket) -> socket.socket:
        connection.settimeout(_HANDSHAKE_SECONDS if self._context else None)
        return self._context.wrap_socket(connection, server_side=True) if self._context else connection

    def _converse(self, connection: socket.socket, reader: BufferedReader) -> None:
        while True:
            try:
                request = _read_request(reader, connection)
            except (_BadRequestError, ValueError):
                connection.sendall(_render(Reply(400), head=False))
                return
            if request is None:
                return
            reply = self._respond(request)
            if reply is None:
                return
            is_over = request.headers.get("connection", "").lower() == "close"
            if not _send(connection, reply, _render(reply, head=request.method == "HEAD")) or is_over:
                return


def _read_request(reader: BufferedReader, connection: socket.socket) -> Request | None:
    line = reader.readline(_MAX_LINE)
    if not line:
        return None
    method, target, version = line.decode("ascii").split()
    if version != "HTTP/1.1":
        raise _BadRequestError
    headers: dict[str, str] = {}
    while (line := reader.readline(_MAX_LINE)) not in {b"\r\n", b"\n", b""}:
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise _BadRequestError
        headers[name.strip().lower()] = value.strip()
    if "transfer-encoding" in headers:
        raise _BadRequestError
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = int(headers.get("content-length", "0"))
    return Request(method, target, headers, reader.read(length) if length else b"")


def _send(connection: socket.socket, reply: Reply, raw: bytes) -> bool:
    """Whether the connection may go on."""
    if reply.is_cut:
        connection.sendall(raw[: -len(reply.body) // 2 - 1])
        return False
    if reply.trickle_seconds:
        for byte in raw:
            connection.sendall(bytes([byte]))
            time.sleep(reply.trickle_seconds)
        return True
    connection.sendall(raw)
    return True


def _render(reply: Reply, *, head: bool) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, '')}"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    lines += [f"content-length: {len(reply.body)}", "", ""]
    top = "\r\n".join(lines).encode("latin-1")
    return top if head or reply.status == HTTPStatus.NOT_MODIFIED else top + reply.body


# A request's JSON body, read field by field with the errors that OCI answers to a malformed one.
class Details:
    """A JSON object. A field that is absent or null reads as None; one of another type is InvalidParameter."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        """Read from decoded fields."""
        self._fields = fields

    @classmethod
    def parsed(cls, body: bytes) -> "Details":
        """Read from a body; an empty one has no fields."""
        try:
            fields = json.loads(body) if body else {}
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise ApiError(400, "CannotParseRequest", "The request is incorrectly formatted.")
        return cls(fields)

    def __contains__(self, name: str) -> bool:
        return self._fields.get(name) is not None

    def text(self, name: str) -> str | None:
        """A string."""
        value = self._fields.get(name)
        if value is not None and not isinstance(value, str):
            raise invalid(f"{name} must be a string")
        return value

    def required_text(self, name: str) -> str:
        """A string that must be there."""
        value = self.text(name)
        if not value:
            raise missing(name)
        return value

    def integer(self, name: str) -> int | None:
        """A whole number."""
        value = self._fields.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise invalid(f"{name} must be an integer")
        return value

    def moment(self, name: str) -> datetime | None:
        """An RFC 3339 time with its zone."""
        text = self.text(name)
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise invalid(f"{name} must be an RFC 3339 timestamp")
        return moment

    def section(self, name: str) -> "Details | None":
        """A nested object."""
        value = self._fields.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise invalid(f"{name} must be an object")
        return Details(value)

    def mapping(self, name: str) -> Mapping[str, object]:
        """A nested object as it came; empty where absent."""
        section = self.section(name)
        return section._fields if section else {}
