"""A database server as the code under test sees it: a port that ends TLS, reads the protocol, and speaks TLS onwards.

It has the server's own certificate, so that clients verify it, and so that SCRAM's channel binding
(`tls-server-end-point`, RFC 5929: a hash of that certificate) is the same on both sides.

Each login and each statement is one call on the wire. Where a call is cut, both connections end, as they do when the
client's process dies: the server ends the session and frees its advisory lock.
"""

import os
import re
import socket
import ssl
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Protocol, Self

from sandbox.emulators.databases.mysql_family import MySqlFamilyServer
from sandbox.emulators.databases.postgresql import PostgresServer
from sandbox.wire import CutError, Process, wait_for_hangup

CONNECT_SECONDS = 5.0
_MYSQL_SSL, _SSL_REQUEST_LENGTH = 0x0800, 32
_OK, _MORE_DATA, _END, _ERROR = 0x00, 0x01, 0xFE, 0xFF
_FAST_AUTH_OK = 0x03
_END_LENGTH = 9
_ENDS = 2
"""An answer has an end after the columns, and another one after the rows."""
_QUIT, _QUERY = 0x01, 0x03
_PG_SSL_REQUEST = struct.pack(">II", 8, 80877103)
_PG_FURTHER_PASSWORD = {3, 5, 10, 11}
_CHANGES = re.compile(r"ALTER|GET_LOCK|pg_advisory_lock", re.IGNORECASE)


TlsServer = MySqlFamilyServer | PostgresServer
"""A server that a front can be put before. It must have been given its certificate."""


class Exchange(Protocol):
    """Carries calls out, or does to them what a test wants; `sandbox.wire.Wire` is one."""

    @property
    def process(self) -> Process:
        """Whose a new connection is."""

    def exchange(
        self,
        target: str,
        operation: str,
        effect: Callable[[], bytes],
        *,
        changes: bool,
        process: Process | None = None,
        wait_for_hangup: Callable[[], None] = ...,
    ) -> bytes:
        """See `sandbox.wire.Wire.exchange`."""


class DatabaseFront:
    """A port in front of one server.

    Attributes:
        port: Where clients connect to.
        server: Behind the front.
    """

    def __init__(self, wire: Exchange, name: str, server: TlsServer, *, port: int = 0) -> None:
        """Listen; `start` accepts.

        Args:
            wire: Gets each login and each statement as a call.
            name: The calls' target.
            server: Behind the front.
            port: To listen on; 0: any free one.
        """
        self._wire = wire
        self._name = name
        self.server = server
        self._listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._tls = _Tls.of(server)

    def start(self) -> None:
        """Accept connections."""
        Thread(target=self._accept, name=f"front of {self._name}", daemon=True).start()

    def stop(self) -> None:
        """Accept no more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            process = self._wire.process
            Thread(target=self._serve, args=(accepted, process), daemon=True).start()

    def _serve(self, accepted: socket.socket, process: Process) -> None:
        conversation: Conversation | None = None
        try:
            onwards = socket.create_connection(("127.0.0.1", self.server.listening_port), CONNECT_SECONDS)
            conversation = self._conversation(accepted, onwards)
            process.closers.append(conversation.cut)
            process.sessions.append(conversation.end_session)
            username = conversation.greet()
            self._call(f"login {username}", conversation.log_in, process, conversation)
            while statement := conversation.next_statement():
                self._call(statement, conversation.answer, process, conversation)
        except (CutError, OSError, EOFError):
            pass
        finally:
            if conversation:
                conversation.close()
            accepted.close()

    def _conversation(self, client: socket.socket, onwards: socket.socket) -> "Conversation":
        kind = PostgreSqlConversation if isinstance(self.server, PostgresServer) else MySqlConversation
        return kind(client, onwards, self._tls)

    def _call(
        self, operation: str, effect: Callable[[], bytes], process: Process, conversation: "Conversation"
    ) -> None:
        reply = self._wire.exchange(
            self._name,
            operation,
            effect,
            changes=_CHANGES.search(operation) is not None,
            process=process,
            wait_for_hangup=conversation.wait_for_hangup,
        )
        conversation.client.sendall(reply)


class ProtocolError(Exception):
    """The client says something that this front does not know."""


@dataclass(frozen=True)
class _Tls:
    """Both ends of TLS, in the server's place and in the client's."""

    server_side: ssl.SSLContext
    client_side: ssl.SSLContext

    @classmethod
    def of(cls, server: TlsServer) -> "_Tls":
        if server.certificate is None:
            raise ValueError(f"{server} was given no certificate, so a front cannot have the same")
        server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_side.load_cert_chain(server.certificate.chain_file, server.certificate.key_file)
        return cls(server_side, ssl.create_default_context(cafile=server.ca_file))


class Conversation(ABC):
    """Two connections, and the messages that go from one to the other."""

    def __init__(self, client: socket.socket, server: socket.socket, tls: _Tls) -> None:
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.client, self.server = client, server
        self._tls = tls
        self._message = b""
        self._owner: object = None
        # They outlive the change to TLS, which replaces the sockets above.
        self._to_client, self._to_server = client.dup(), server.dup()
        server.settimeout(None)

    def cut(self) -> None:
        """End both connections, from any thread.

        Only the thread that serves them closes them: a number that is free again is the next connection's, and what
        TLS has still to say would be said there.
        """
        _shut(self._to_client)
        self.end_session()

    def end_session(self) -> None:
        """End the connection to the server, from any thread: it ends the session; the client does not know yet."""
        _shut(self._to_server)

    def close(self) -> None:
        """Close both connections."""
        self.cut()
        for end in (self._to_client, self._to_server, self.client, self.server):
            with suppress(OSError):
                end.close()

    def wait_for_hangup(self) -> None:
        """Return when the client has given up."""
        wait_for_hangup(self._to_client)

    def take_over(self, session: socket.socket, *, of: object) -> None:
        """Go on with another connection to the server, on which somebody is logged in.

        Args:
            session: The connection.
            of: The driver's connection, which closes it when it is forgotten.
        """
        for end in (self._to_server, self.server):
            end.close()
        session.settimeout(None)
        self._owner = of
        # What does TLS cannot be duplicated, but the connection below it can.
        self.server, self._to_server = session, socket.socket(fileno=os.dup(session.fileno()))

    def _start_tls(self) -> None:
        self.server = self._tls.client_side.wrap_socket(self.server, server_hostname="localhost")
        self.client = self._tls.server_side.wrap_socket(self.client, server_side=True)

    @abstractmethod
    def greet(self) -> str:
        """Up to the client's first message inside TLS; the username in it."""

    @abstractmethod
    def log_in(self) -> bytes:
        """Send that message on, and all others of the login; the last answer."""

    @abstractmethod
    def next_statement(self) -> str:
        """Read a statement; how it begins. Empty: the client says goodbye."""

    @abstractmethod
    def answer(self) -> bytes:
        """Send the statement on; its whole answer."""


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class MySqlConversation(Conversation):
    """MySQL's and MariaDB's protocol."""

    def greet(self) -> str:
        """See `Conversation`."""
        self.client.sendall(mysql_packet(self.server))
        first = mysql_packet(self.client)
        if len(first) != _SSL_REQUEST_LENGTH + 4:
            raise ProtocolError("the client does not ask for TLS")
        self.server.sendall(first)
        self._start_tls()
        self._message = mysql_packet(self.client)
        return self._message[4 + 32 :].partition(b"\0")[0].decode()

    def log_in(self) -> bytes:
        """See `Conversation`."""
        self.server.sendall(self._message)
        while True:
            packet = mysql_packet(self.server)
            if packet[4] in (_OK, _ERROR):
                return packet
            self.client.sendall(packet)
            if not (packet[4] == _MORE_DATA and packet[5] == _FAST_AUTH_OK):
                self.server.sendall(mysql_packet(self.client))

    def next_statement(self) -> str:
        """See `Conversation`."""
        self._message = mysql_packet(self.client)
        if self._message[4] == _QUIT:
            return ""
        return shown(self._message[5:]) if self._message[4] == _QUERY else f"command {self._message[4]}"

    def answer(self) -> bytes:
        """See `Conversation`."""
        self.server.sendall(self._message)
        first = mysql_packet(self.server)
        if first[4] in (_OK, _ERROR):
            return first
        answer, ends = bytearray(first), 0
        while ends < _ENDS:
            packet = mysql_packet(self.server)
            answer += packet
            if packet[4] == _ERROR:
                break
            ends += packet[4] == _END and len(packet) - 4 < _END_LENGTH
        return bytes(answer)


class PostgreSqlConversation(Conversation):
    """PostgreSQL's protocol."""

    def greet(self) -> str:
        """See `Conversation`."""
        if _read(self.client, 8) != _PG_SSL_REQUEST:
            raise ProtocolError("the client does not ask for TLS")
        self.server.sendall(_PG_SSL_REQUEST)
        self.client.sendall(_read(self.server, 1))
        self._start_tls()
        head = _read(self.client, 4)
        rest = _read(self.client, struct.unpack(">I", head)[0] - 4)
        self._message = head + rest
        words = rest[4:].split(b"\0")
        return words[words.index(b"user") + 1].decode()

    def log_in(self) -> bytes:
        """See `Conversation`."""
        self.server.sendall(self._message)
        while True:
            message = pg_message(self.server)
            if message[:1] == b"E":
                return message
            if message[:1] == b"R":
                kind = struct.unpack(">I", message[5:9])[0]
                if kind == 0:
                    return message + self._until_ready()
                self.client.sendall(message)
                if kind in _PG_FURTHER_PASSWORD:
                    self.server.sendall(pg_message(self.client))

    def next_statement(self) -> str:
        """See `Conversation`."""
        self._message = pg_message(self.client)
        kind = self._message[:1]
        if kind == b"X":
            return ""
        if kind != b"Q":
            raise ProtocolError(f"not a simple query: {kind!r}")
        return shown(self._message[5:-1])

    def answer(self) -> bytes:
        """See `Conversation`."""
        self.server.sendall(self._message)
        return self._until_ready()

    def _until_ready(self) -> bytes:
        answer = bytearray()
        while True:
            message = pg_message(self.server)
            answer += message
            if message[:1] == b"Z":
                return bytes(answer)


def shown(statement: bytes) -> str:
    """How a statement begins, and whether it sets an ATTRIBUTE, without anything that may be secret."""
    text = statement.decode(errors="replace")
    for name in ("GET_LOCK", "pg_advisory_lock"):
        if name in text:
            return f"SELECT {name}"
    words = re.sub(r"'[^']*'(@'[^']*')?|\"[^\"]*\"", "…", text).split()
    mark = ["…", "ATTRIBUTE"] if "ATTRIBUTE" in words[6:] else []
    return " ".join([*words[:6], *mark])


def mysql_packet(connection: socket.socket) -> bytes:
    """One packet, its head included."""
    head = _read(connection, 4)
    return head + _read(connection, int.from_bytes(head[:3], "little"))


def pg_message(connection: socket.socket) -> bytes:
    """One message, its head included."""
    head = _read(connection, 5)
    return head + _read(connection, struct.unpack(">I", head[1:])[0] - 4)


def _read(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
