"""MySQL's client/server protocol, server side, as far as a text-protocol client needs it.

Source: MySQL internals, "Client/Server Protocol": packets, connection phase (handshake version 10),
command phase with the text result set.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from socket import socket
from ssl import SSLContext

from sandbox.mysql_fake.errors import BAD_HANDSHAKE, PACKET_TOO_LARGE, MySqlError

# Larger than any statement that changes an account; below the 16 MiB from which packets are split.
MAX_PACKET = 1 << 20

_UTF8MB4 = 255  # utf8mb4_0900_ai_ci
_BINARY = 63


class Capability(IntFlag):
    """What both sides can do, as far as this server looks at it."""

    LONG_PASSWORD = 1
    FOUND_ROWS = 1 << 1
    LONG_FLAG = 1 << 2
    CONNECT_WITH_DB = 1 << 3
    PROTOCOL_41 = 1 << 9
    INTERACTIVE = 1 << 10
    SSL = 1 << 11
    TRANSACTIONS = 1 << 13
    SECURE_CONNECTION = 1 << 15
    PLUGIN_AUTH = 1 << 19
    CONNECT_ATTRS = 1 << 20
    LENENC_AUTH_DATA = 1 << 21
    HANDLE_EXPIRED_PASSWORDS = 1 << 22


SERVER_CAPABILITIES = ~Capability(0)


class Status(IntFlag):
    """The session's state, sent with every answer."""

    AUTOCOMMIT = 2
    NO_BACKSLASH_ESCAPES = 512


class Command(IntEnum):
    """First byte of a client's packet in the command phase."""

    QUIT = 1
    INIT_DB = 2
    QUERY = 3
    PING = 14


class ColumnType(IntEnum):
    """Types of a result set's columns."""

    INTEGER = 8
    JSON = 245
    TEXT = 253


@dataclass(frozen=True)
class Column:
    """A column of a result set."""

    name: str
    type: ColumnType


@dataclass(frozen=True)
class Rows:
    """A result set."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[int | str | None]]


@dataclass(frozen=True)
class Ok:
    """A statement's success without a result set."""

    affected_rows: int = 0


Result = Rows | Ok


@dataclass(frozen=True)
class ClientHello:
    """A client's answer to the handshake."""

    capabilities: Capability
    user: str
    auth_data: bytes
    database: str
    plugin: str


class ConnectionLostError(Exception):
    """The client is gone."""


class PacketStream:
    """Numbered packets over a connection that may turn to TLS."""

    def __init__(self, connection: socket) -> None:
        self._connection = connection
        self._sequence = 0

    def read(self) -> bytes:
        """The next packet.

        Raises:
            ConnectionLostError: The client closed the connection.
            TimeoutError: Nothing came within the time-out.
            MySqlError: The packet is larger than `MAX_PACKET`.
        """
        header = self._receive(4)
        length = int.from_bytes(header[:3], "little")
        self._sequence = (header[3] + 1) % 256
        if length > MAX_PACKET:
            raise MySqlError(PACKET_TOO_LARGE)
        return self._receive(length)

    def write(self, *packets: bytes) -> None:
        """Sends packets, with one system call."""
        data = bytearray()
        for packet in packets:
            data += len(packet).to_bytes(3, "little") + bytes([self._sequence]) + packet
            self._sequence = (self._sequence + 1) % 256
        try:
            self._connection.sendall(data)
        except OSError as error:
            raise ConnectionLostError from error

    def restart_numbering(self) -> None:
        """Numbers the next packet 0, for one that answers no client packet."""
        self._sequence = 0

    def start_tls(self, context: SSLContext) -> None:
        """Shakes hands for TLS as the server."""
        try:
            self._connection = context.wrap_socket(self._connection, server_side=True)
        except OSError as error:
            raise ConnectionLostError from error

    def set_timeout(self, seconds: float) -> None:
        """How long the next reads and writes may take."""
        self._connection.settimeout(seconds)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _receive(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                piece = self._connection.recv(count - len(data))
            except TimeoutError:
                raise
            except OSError as error:
                raise ConnectionLostError from error
            if not piece:
                raise ConnectionLostError
            data += piece
        return bytes(data)


def handshake(version: str, connection_id: int, nonce: bytes, plugin: str, capabilities: Capability) -> bytes:
    """The server's first packet."""
    return b"".join(
        (
            b"\x0a",
            version.encode() + b"\0",
            struct.pack("<I", connection_id),
            nonce[:8] + b"\0",
            struct.pack("<HBH", capabilities & 0xFFFF, _UTF8MB4, Status.AUTOCOMMIT),
            struct.pack("<HB", capabilities >> 16, len(nonce) + 1),
            bytes(10),
            nonce[8:] + b"\0",
            plugin.encode() + b"\0",
        )
    )


def asks_for_tls(packet: bytes) -> bool:
    """Whether the client's first packet is the short one that asks for TLS."""
    _check_length(packet, 32)
    return len(packet) == 32 and bool(_capabilities(packet) & Capability.SSL)  # noqa: PLR2004


def client_hello(packet: bytes) -> ClientHello:
    """Reads a client's answer to the handshake; MySqlError where it is malformed."""
    _check_length(packet, 32)
    capabilities = _capabilities(packet)
    if not capabilities & Capability.PROTOCOL_41:
        raise MySqlError(BAD_HANDSHAKE)
    reader = _Reader(packet[32:])
    user = reader.text()
    auth_data = (
        reader.lengthed() if capabilities & Capability.LENENC_AUTH_DATA else reader.take(reader.take(1)[0])
    )
    database = reader.text() if capabilities & Capability.CONNECT_WITH_DB else ""
    plugin = reader.text() if capabilities & Capability.PLUGIN_AUTH else ""
    return ClientHello(capabilities, user, auth_data, database, plugin)


def auth_switch(plugin: str, nonce: bytes) -> bytes:
    """Asks the client to authenticate by another plugin than the one it began with."""
    return b"\xfe" + plugin.encode() + b"\0" + nonce + b"\0"


def auth_more(data: bytes) -> bytes:
    """A further packet of the plugin's own conversation."""
    return b"\x01" + data


def ok(result: Ok, status: Status, warnings: int) -> bytes:
    """The packet that says that a statement or a login succeeded."""
    return b"\0" + _length(result.affected_rows) + _length(0) + struct.pack("<HH", status, warnings)


def error(problem: MySqlError, *, with_state: bool = True) -> bytes:
    """The packet that says why a statement or a login failed; before the handshake it takes no SQLSTATE."""
    state = b"#" + problem.sqlstate.encode() if with_state else b""
    return b"\xff" + struct.pack("<H", problem.number) + state + problem.message.encode()


def result_set(result: Rows, status: Status, warnings: int) -> list[bytes]:
    """The packets of a text result set."""
    end = b"\xfe" + struct.pack("<HH", warnings, status)
    columns = [_column(column) for column in result.columns]
    rows = [b"".join(_value(value) for value in row) for row in result.rows]
    return [_length(len(columns)), *columns, end, *rows, end]


def _column(column: Column) -> bytes:
    charset = _UTF8MB4 if column.type is ColumnType.TEXT else _BINARY
    names = (b"def", b"", b"", b"", column.name.encode(), b"")
    fixed = struct.pack("<BHIBHB2x", 12, charset, 1024, column.type, 0, 0)
    return b"".join(_lengthed(name) for name in names) + fixed


def _value(value: int | str | None) -> bytes:
    return b"\xfb" if value is None else _lengthed(str(value).encode())


def _lengthed(data: bytes) -> bytes:
    return _length(len(data)) + data


def _length(number: int) -> bytes:
    if number < 251:  # noqa: PLR2004  the protocol's own bounds
        return bytes([number])
    return b"\xfc" + struct.pack("<H", number) if number < 1 << 16 else b"\xfd" + number.to_bytes(3, "little")


def _capabilities(packet: bytes) -> Capability:
    return Capability(int.from_bytes(packet[:4], "little") & SERVER_CAPABILITIES)


def _check_length(packet: bytes, least: int) -> None:
    if len(packet) < least:
        raise MySqlError(BAD_HANDSHAKE)


class _Reader:
    """Reads the fields of a packet one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, count: int) -> bytes:
        if count > len(self._data):
            raise MySqlError(BAD_HANDSHAKE)
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def text(self) -> str:
        taken, end, self._data = self._data.partition(b"\0")
        if not end:
            raise MySqlError(BAD_HANDSHAKE)
        return taken.decode(errors="replace")

    def lengthed(self) -> bytes:
        first = self.take(1)[0]
        width = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first, 0)
        return self.take(int.from_bytes(self.take(width), "little") if width else first)
