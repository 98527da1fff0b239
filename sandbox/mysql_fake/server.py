"""The server: its life, its faults, and what a test may ask of it."""

import re
import secrets
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar, Self

import pymysql

from sandbox.mysql_fake import auth
from sandbox.mysql_fake.accounts import Account, Accounts, Credentials
from sandbox.mysql_fake.connection import Connection
from sandbox.mysql_fake.faults import Fault, Hold, Moment
from sandbox.mysql_fake.privileges import DYNAMIC_PRIVILEGES, STATIC_PRIVILEGES
from sandbox.mysql_fake.settings import Settings
from sandbox.mysql_fake.state import ServerState
from sandbox.mysql_fake.statements import EVERYTHING, AccountName

# For the superuser's connections, so that a paused server makes them fail instead of hang.
CLIENT_SECONDS = 10.0
_JOIN_SECONDS = 10.0
_FIRST_CONNECTION_ID = 8


@dataclass(eq=False)
class MySqlFake:
    """A server that speaks MySQL's protocol on a port of the loopback and keeps accounts as MySQL 8.4 does.

    In a `with` statement it runs from beginning to end. It may be stopped, killed and started again in between,
    on the same port and with the same accounts and log.

    Args:
        tls_cert_file: The server's certificate chain, as PEM; read at each start.
        tls_key_file: Its key.
        ca_file: The authority that issued it, for clients.
        settings: The configuration, which may be changed while the server runs.
        superuser_password: Generated where none is given.
        now: The time, for the general log.
        random_bytes: For salts and nonces.
    """

    product: ClassVar[str] = "MySQL"
    host: ClassVar[str] = "localhost"
    superuser: ClassVar[str] = "root"

    tls_cert_file: Path
    tls_key_file: Path
    _: KW_ONLY
    ca_file: Path
    settings: Settings = field(default_factory=Settings)
    superuser_password: str = field(default_factory=secrets.token_urlsafe, repr=False)
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC), repr=False)
    random_bytes: Callable[[int], bytes] = field(default=secrets.token_bytes, repr=False)
    port: int = field(default=0, init=False)
    _listener: socket.socket | None = field(default=None, init=False, repr=False)
    _acceptor: Thread | None = field(default=None, init=False, repr=False)
    _connections: dict[Connection, Thread] = field(default_factory=dict, init=False, repr=False)
    _ids: "count[int]" = field(default_factory=lambda: count(_FIRST_CONNECTION_ID), init=False, repr=False)

    def __post_init__(self) -> None:
        self._state = ServerState(self.settings, self.now, self.random_bytes)
        verifier = auth.make_verifier(auth.CACHING_SHA2, self.superuser_password.encode(), self.random_bytes)
        everything = set(STATIC_PRIVILEGES | DYNAMIC_PRIVILEGES)
        credentials = Credentials(auth.CACHING_SHA2, verifier)
        self.accounts.add(
            Account(AccountName(self.superuser), credentials, privileges={EVERYTHING: everything})
        )

    @property
    def version(self) -> str:
        """The version that it tells, such as `8.4.7`."""
        return self.settings.version

    @property
    def accounts(self) -> Accounts:
        """The accounts, by user and host: `server.accounts["app_user", "%"].accepts("…")`."""
        return self._state.accounts

    # Its life.

    def start(self) -> None:
        """Listens, on the same port as before if it ran before.

        Raises:
            RuntimeError: It runs already.
            OSError: The port was taken, or the certificate cannot be read.
        """
        if self.is_running():
            raise RuntimeError(f"{self} runs already")
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.load_cert_chain(self.tls_cert_file, self.tls_key_file)
        with self._state.condition:
            self._state.running, self._state.paused = True, False
        try:
            self.admit_connections()
        except OSError:
            self._state.running = False
            raise

    def stop(self) -> None:
        """Ends the server and all connections; accounts and log stay. A statement in progress has no effect."""
        with self._state.condition:
            self._state.running = False
            self._state.fast_digests.clear()
            self._state.condition.notify_all()
        self.refuse_connections()
        with self._state.condition:
            threads = list(self._connections.values())
        self.cut_connections()
        for thread in threads:
            thread.join(_JOIN_SECONDS)

    def kill(self) -> None:
        """Ends it as a crash would. A client cannot tell the difference to `stop`: neither says goodbye."""
        self.stop()

    def pause(self) -> None:
        """Freezes it: connections are accepted, nothing is answered, and what arrives waits."""
        self._set_paused(paused=True)

    def resume(self) -> None:
        """Ends a pause; what arrived meanwhile takes effect now, also of clients that are gone."""
        self._set_paused(paused=False)

    def is_running(self) -> bool:
        """Whether it was started and has not ended; a paused one runs."""
        return self._state.running

    def close(self) -> None:
        """Ends it."""
        self.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __str__(self) -> str:
        return f"{self.product} {self.version} (fake) on {self.host}:{self.port}"

    # Its faults.

    def refuse_connections(self) -> None:
        """Makes new connections fail with ECONNREFUSED; those that stand go on."""
        listener, acceptor = self._listener, self._acceptor
        self._listener = self._acceptor = None
        if listener is not None and acceptor is not None:
            # Wakes the thread that accepts; closing alone does not.
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(_JOIN_SECONDS)
            listener.close()

    def admit_connections(self) -> None:
        """Takes new connections again."""
        if self._listener is not None:
            return
        listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._acceptor = Thread(target=self._accept, args=(listener,), name=f"{self}: accept", daemon=True)
        self._acceptor.start()

    def cut_connections(self) -> None:
        """Breaks all connections that stand, as a failing network does; both sides notice at once."""
        with self._state.condition:
            connections = list(self._connections)
        for connection in connections:
            connection.cut()

    def drop_connection_before(self, pattern: str) -> Fault:
        """Drops the connection of the next statement that matches, without carrying the statement out.

        Args:
            pattern: A regular expression, searched in the statement without regard to case.
        """
        return self._arm_fault(pattern, Moment.BEFORE)

    def drop_connection_after(self, pattern: str) -> Fault:
        """Carries out the next statement that matches, and drops the connection instead of answering."""
        return self._arm_fault(pattern, Moment.AFTER)

    def hold(self, pattern: str) -> Hold:
        """Holds the next statement that matches until `release`, and then carries it out, client or no client."""
        hold = Hold(re.compile(pattern, re.IGNORECASE), self._state.condition)
        with self._state.condition:
            self._state.faults.arm(hold)
        return hold

    # What a test may ask.

    def execute_as_superuser(
        self, sql: str | Sequence[str], *, database: str | None = None
    ) -> list[tuple[Any, ...]]:
        """Runs statements over verified TLS; the rows of the last one.

        Raises:
            Exception: PyMySQL's own, as it came.
        """
        connection = pymysql.connect(
            host=self.host,
            port=self.port,
            user=self.superuser,
            password=self.superuser_password,
            database=database,
            ssl_ca=str(self.ca_file),
            ssl_verify_cert=True,
            ssl_verify_identity=True,
            connect_timeout=CLIENT_SECONDS,
            read_timeout=CLIENT_SECONDS,
            write_timeout=CLIENT_SECONDS,
        )
        with closing(connection), connection.cursor() as cursor:
            for statement in [sql] if isinstance(sql, str) else sql:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def general_log_text(self) -> str:
        """Every login and statement so far, in the format of MySQL's general log."""
        return self._state.log.text()

    def connection_count(self) -> int:
        """How many connections stand."""
        with self._state.condition:
            return len(self._connections)

    def _set_paused(self, *, paused: bool) -> None:
        with self._state.condition:
            if not self._state.running:
                raise RuntimeError(f"{self} does not run")
            self._state.paused = paused
            self._state.condition.notify_all()

    def _arm_fault(self, pattern: str, moment: Moment) -> Fault:
        fault = Fault(re.compile(pattern, re.IGNORECASE), moment)
        with self._state.condition:
            self._state.faults.arm(fault)
        return fault

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                accepted, peer = listener.accept()
            except OSError:
                return
            # Or the client's delayed acknowledgement would cost 40 ms of each login.
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._state.condition:
                connection = Connection(
                    self._state,
                    accepted,
                    self._tls,
                    host=peer[0],
                    connection_id=next(self._ids),
                    place=len(self._connections) + 1,
                )
                name = f"{self}: {connection.connection_id}"
                thread = Thread(target=self._serve, args=(connection,), name=name, daemon=True)
                self._connections[connection] = thread
                thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            connection.serve()
        finally:
            with self._state.condition:
                del self._connections[connection]
