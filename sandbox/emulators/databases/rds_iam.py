"""RDS IAM authentication in front of a real server: accounts that log in with a token instead of a password.

RDS runs a plugin in the server (MySQL, MariaDB) or asks another process (PostgreSQL). No server that can be had has
them, so this front does their part: it asks the client for the token in clear text, inside TLS, verifies it as RDS
does, and then logs in to the account with the server's own password, which no client knows.

The signature is recomputed here from AWS's description, not by the SDK that made it
(https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html).
"""

import hmac
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import parse_qsl, quote, urlsplit

import pymysql
from pg8000.native import Connection as PgConnection  # type: ignore[import-untyped]  # it ships no types

from sandbox.emulators.databases.front import (
    Conversation,
    DatabaseFront,
    Exchange,
    MySqlConversation,
    PostgreSqlConversation,
    TlsServer,
    mysql_packet,
    pg_message,
)
from sandbox.emulators.databases.postgresql import PostgresServer

_LIFETIME = timedelta(minutes=15)
_SKEW = timedelta(minutes=5)
_AUTH_SWITCH, _CLEAR_PASSWORD = b"\xfe", b"mysql_clear_password\0"
_MYSQL_DENIED, _PG_DENIED = 1045, "28P01"
_PG_CLEAR_PASSWORD = struct.pack(">cIII", b"R", 8, 3, 0)[:9]


@dataclass(frozen=True, kw_only=True)
class AccessKey:
    """An AWS identity that signs tokens.

    Attributes:
        session_token: Of temporary credentials.
        may_connect: The accounts that `rds-db:connect` allows it.
    """

    secret: str
    may_connect: frozenset[str]
    session_token: str | None = None


@dataclass(frozen=True, kw_only=True)
class RdsIam:
    """What RDS knows when it verifies a token.

    Attributes:
        passwords: The server's own passwords of the accounts that log in with tokens, by username.
        keys: The identities, by access key id.
        region: Of the server.
        host: The name of its endpoint.
        now: The present time, aware.
    """

    passwords: Mapping[str, str]
    keys: Mapping[str, AccessKey]
    region: str
    host: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def accepts(self, token: str, username: str, port: int) -> bool:
        """Whether a token lets an account in at a port."""
        address = urlsplit(f"https://{token}")
        given = dict(parse_qsl(address.query, keep_blank_values=True))
        signature = given.pop("X-Amz-Signature", "")
        key_id, _, scope = given.get("X-Amz-Credential", "").partition("/")
        key = self.keys.get(key_id)
        if key is None or address.path != "/" or address.netloc != f"{self.host}:{port}":
            return False
        try:
            at = datetime.strptime(given.get("X-Amz-Date", ""), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            return False
        expected = {
            "Action": "connect",
            "DBUser": username,
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{key_id}/{at:%Y%m%d}/{self.region}/rds-db/aws4_request",
            "X-Amz-Date": f"{at:%Y%m%dT%H%M%SZ}",
            "X-Amz-Expires": str(int(_LIFETIME.total_seconds())),
            "X-Amz-SignedHeaders": "host",
            **({"X-Amz-Security-Token": key.session_token} if key.session_token else {}),
        }
        in_time = at - _SKEW <= self.now() < at + _LIFETIME
        right = hmac.compare_digest(signature, _signature(key.secret, scope, address.netloc, expected))
        return given == expected and in_time and right and username in key.may_connect


def _signature(secret: str, scope: str, host: str, query: Mapping[str, str]) -> str:
    canonical_query = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(query.items())
    )
    canonical = f"GET\n/\n{canonical_query}\nhost:{host}\n\nhost\n{sha256(b'').hexdigest()}"
    to_sign = f"AWS4-HMAC-SHA256\n{query['X-Amz-Date']}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in (*scope.split("/"), to_sign):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()


class RdsFront(DatabaseFront):
    """A `DatabaseFront` where some accounts log in with tokens; others as on the server itself."""

    def __init__(self, wire: Exchange, name: str, server: TlsServer, iam: RdsIam) -> None:
        super().__init__(wire, name, server)
        self.iam = iam

    def _conversation(self, client: socket.socket, onwards: socket.socket) -> Conversation:
        kind = _PostgreSql if isinstance(self.server, PostgresServer) else _MySql
        made = kind(client, onwards, self._tls)
        made.front = self
        return made

    def opens(self, token: bytes, username: str) -> bool:
        """Whether what the client showed is a valid token."""
        return self.iam.accepts(token.decode(), username, self.port)


class _MySql(MySqlConversation):
    front: RdsFront

    def log_in(self) -> bytes:
        username, database = _mysql_names(self._message)
        password = self.front.iam.passwords.get(username)
        if password is None:
            return super().log_in()
        asked = _AUTH_SWITCH + _CLEAR_PASSWORD + b"\0"
        self.client.sendall(_mysql_framed(asked, self._message[3] + 1))
        answer = mysql_packet(self.client)
        number = answer[3] + 1
        if not self.front.opens(answer[4:].removesuffix(b"\0"), username):
            return _mysql_framed(b"\xff" + struct.pack("<H", _MYSQL_DENIED) + b"#28000Access denied", number)
        session = pymysql.connect(
            host="localhost",
            port=self.front.server.listening_port,
            user=username,
            password=password,
            database=database,
            ssl=self._tls.client_side,
        )
        self.take_over(session._sock, of=session)  # type: ignore[attr-defined]  # noqa: SLF001  PyMySQL gives it nowhere else
        return _mysql_framed(b"\0\0\0\x02\0\0\0", number)


class _PostgreSql(PostgreSqlConversation):
    front: RdsFront

    def log_in(self) -> bytes:
        words = self._message[8:].split(b"\0")
        asked = dict(zip(words[::2], words[1::2], strict=False))
        username = asked[b"user"].decode()
        password = self.front.iam.passwords.get(username)
        if password is None:
            return super().log_in()
        self.client.sendall(_PG_CLEAR_PASSWORD)
        if not self.front.opens(pg_message(self.client)[5:].removesuffix(b"\0"), username):
            fields = f"SFATAL\0C{_PG_DENIED}\0MPAM authentication failed\0\0".encode()
            return b"E" + struct.pack(">I", len(fields) + 4) + fields
        session = PgConnection(
            username,
            host="localhost",
            port=self.front.server.listening_port,
            database=asked[b"database"].decode(),
            password=password,
            ssl_context=self._tls.client_side,
        )
        self.take_over(session._usock, of=session)  # noqa: SLF001  pg8000 gives it nowhere else
        told = b"".join(
            b"S" + struct.pack(">I", len(pair) + 4) + pair
            for pair in (f"{n}\0{v}\0".encode() for n, v in session.parameter_statuses.items())
        )
        return struct.pack(">cII", b"R", 8, 0) + told + struct.pack(">cIc", b"Z", 5, b"I")


def _mysql_names(response: bytes) -> tuple[str, str | None]:
    """Username and database in a handshake response whose authentication data has one byte of length."""
    username, _, rest = response[36:].partition(b"\0")
    database = rest[1 + rest[0] :].partition(b"\0")[0]
    has_database = int.from_bytes(response[4:8], "little") & 0x08
    return username.decode(), database.decode() if has_database else None


def _mysql_framed(payload: bytes, number: int) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number % 256]) + payload
