"""One client: the handshake, the proof of its password, and then its statements.

Source: MySQL internals, "Connection Phase", "Command Phase", "Caching_sha2_password information";
sql/auth/sql_authentication.cc of the server for what is checked in which order.
"""

import select
import ssl
from contextlib import suppress
from dataclasses import dataclass
from socket import SHUT_RDWR, socket

from sandbox.mysql_fake import auth, wire
from sandbox.mysql_fake.accounts import Account, Credentials
from sandbox.mysql_fake.engine import Engine
from sandbox.mysql_fake.errors import (
    ACCESS_DENIED,
    ACCOUNT_LOCKED,
    BAD_HANDSHAKE,
    CLIENT_TOO_OLD,
    IDLE_TOO_LONG,
    PASSWORD_EXPIRED_AT_LOGIN,
    TLS_REQUIRED,
    TOO_MANY_CONNECTIONS,
    UNKNOWN_COMMAND,
    MySqlError,
)
from sandbox.mysql_fake.faults import Fault, Hold, Moment
from sandbox.mysql_fake.state import ServerGoneError, ServerState, Session
from sandbox.mysql_fake.variables import Variables
from sandbox.mysql_fake.wire import (
    Capability,
    ClientHello,
    Command,
    ConnectionLostError,
    Ok,
    PacketStream,
    Rows,
)

_CAPABILITIES = wire.SERVER_CAPABILITIES & ~Capability.SSL
_FAST_AUTH_OK = b"\x03"
_FULL_AUTH = b"\x04"
_HUNG_UP = select.POLLRDHUP | select.POLLHUP | select.POLLERR | select.POLLNVAL


class DroppedError(Exception):
    """A fault cuts the connection here."""


@dataclass(frozen=True)
class _Proof:
    """What a client gave to show that it knows the password."""

    ok: bool
    password_used: bool


class Connection:
    """Serves one client, in a thread of its own.

    Args:
        state: The server's.
        accepted: The connection as it was accepted; this object closes it.
        tls: The server's certificate.
        host: The client's address.
        connection_id: As `CONNECTION_ID()` tells it.
        place: How many connections there are, with this one.
    """

    def __init__(
        self,
        state: ServerState,
        accepted: socket,
        tls: ssl.SSLContext,
        *,
        host: str,
        connection_id: int,
        place: int,
    ) -> None:
        self.connection_id = connection_id
        self._state = state
        self._engine = Engine(state)
        self._host = host
        self._tls = tls
        self._place = place
        self._stream = PacketStream(accepted)
        self._is_secure = False
        # Outlives the change to TLS, which replaces the socket object above.
        self._wire = accepted.dup()

    def serve(self) -> None:
        """Serves until either side ends the connection; its locks are free afterwards."""
        try:
            self._stream.set_timeout(self._state.settings.connect_timeout_seconds)
            session = self._greet()
            if session is not None:
                self._serve_commands(session)
        except (ConnectionLostError, DroppedError, ServerGoneError, TimeoutError):
            pass
        finally:
            with self._state.condition:
                self._state.locks.release_all(owner=self.connection_id)
            self._stream.close()
            self._wire.close()

    def cut(self) -> None:
        """Ends the connection from another thread, as a failing network does."""
        with suppress(OSError):
            self._wire.shutdown(SHUT_RDWR)

    # The connection phase.

    def _greet(self) -> Session | None:
        """Lets the client log in; None where it may not."""
        settings = self._state.settings
        if self._place > settings.max_connections + 1:
            self._write(wire.error(MySqlError(TOO_MANY_CONNECTIONS), with_state=False))
            return None
        try:
            session, hello = self._log_in()
            if hello.database:
                with self._state.turn():
                    self._engine.use(session, hello.database)
        except MySqlError as problem:
            self._state.log.write(self.connection_id, "Connect", problem.message)
            self._write(wire.error(problem))
            return None
        transport = "SSL/TLS" if self._is_secure else "TCP/IP"
        who = f"{session.user}@{session.host} on {hello.database} using {transport}"
        self._state.log.write(self.connection_id, "Connect", who)
        self._write(wire.ok(Ok(), session.status, 0))
        return session

    def _log_in(self) -> tuple[Session, ClientHello]:
        settings = self._state.settings
        nonce = self._new_nonce()
        capabilities = _CAPABILITIES | (Capability.SSL if settings.offers_tls else Capability(0))
        self._write(
            wire.handshake(settings.version, self.connection_id, nonce, auth.CACHING_SHA2, capabilities)
        )
        packet = self._stream.read()
        if wire.asks_for_tls(packet):
            if not settings.offers_tls:
                raise MySqlError(BAD_HANDSHAKE)
            self._stream.start_tls(self._tls)
            self._is_secure = True
            packet = self._stream.read()
        hello = wire.client_hello(packet)
        if settings.require_secure_transport and not self._is_secure:
            raise MySqlError(TLS_REQUIRED)
        if not hello.capabilities & Capability.PLUGIN_AUTH:
            raise MySqlError(CLIENT_TOO_OLD)

        with self._state.turn():
            account = self._state.accounts.for_login(hello.user, self._host)
        proof = self._prove(account.credentials if account else None, hello, nonce)
        denied = MySqlError(ACCESS_DENIED, hello.user, self._host, "YES" if proof.password_used else "NO")
        if account is None or not proof.ok:
            raise denied
        with self._state.turn():
            self._check(account, hello, denied)
            session = Session(
                connection_id=self.connection_id,
                user=hello.user,
                host=self._host,
                account=account.name,
                global_privileges=self._state.global_privileges(account),
                variables=Variables(settings),
                password_expired=account.password_expired,
                is_client_there=self._is_client_there,
            )
            if self._place > settings.max_connections and not session.may("CONNECTION_ADMIN", "SUPER"):
                raise MySqlError(TOO_MANY_CONNECTIONS)
        return session, hello

    def _prove(self, known: Credentials | None, hello: ClientHello, nonce: bytes) -> _Proof:
        """Goes through the account's plugin; an unknown user meets the same questions as a wrong password."""
        plugin = known.plugin if known else auth.CACHING_SHA2
        answer = hello.auth_data
        if hello.plugin != plugin:
            nonce = self._new_nonce()
            self._write(wire.auth_switch(plugin, nonce))
            answer = self._stream.read()
        # Some clients say "no password" by a lone NUL.
        if answer in {b"", b"\0"}:
            return _Proof(ok=known is not None and not known.primary, password_used=False)
        if known and plugin == auth.NATIVE:
            ok = any(auth.native_matches(verifier, nonce, answer) for verifier in known.verifiers)
            return _Proof(ok, password_used=True)
        return _Proof(self._prove_sha2(known, nonce, answer), password_used=True)

    def _prove_sha2(self, known: Credentials | None, nonce: bytes, scramble: bytes) -> bool:
        digests = self._state.fast_digests
        if known and any(digests.proves(verifier, nonce, scramble) for verifier in known.verifiers):
            self._write(wire.auth_more(_FAST_AUTH_OK))
            return True
        self._write(wire.auth_more(_FULL_AUTH))
        answer = self._stream.read()
        # Without TLS the client may ask for an RSA key to hide the password; this server has none.
        if known is None or not self._is_secure:
            return False
        password = answer.removesuffix(b"\0")
        verifier = known.verifier_of(password)
        if verifier is not None:
            digests.remember(verifier, password)
        return verifier is not None

    def _check(self, account: Account, hello: ClientHello, denied: MySqlError) -> None:
        """What may still stand against a client that knows the password."""
        if account.require_tls and not self._is_secure:
            raise denied
        if account.locked:
            raise MySqlError(ACCOUNT_LOCKED, hello.user, self._host)
        if account.password_expired and not hello.capabilities & Capability.HANDLE_EXPIRED_PASSWORDS:
            raise MySqlError(PASSWORD_EXPIRED_AT_LOGIN)

    def _new_nonce(self) -> bytes:
        return auth.random_text(auth.NONCE_LENGTH, self._state.random_bytes)

    # The command phase.

    def _serve_commands(self, session: Session) -> None:
        while True:
            self._stream.set_timeout(session.variables.wait_timeout_seconds)
            try:
                packet = self._stream.read()
            except TimeoutError:
                self._stream.restart_numbering()
                self._write(wire.error(MySqlError(IDLE_TOO_LONG)))
                return
            except MySqlError as problem:
                self._write(wire.error(problem))
                return
            if packet[:1] == bytes([Command.QUIT]):
                self._state.log.write(self.connection_id, "Quit")
                return
            try:
                answer = self._answer(session, packet)
            except MySqlError as problem:
                answer = [wire.error(problem)]
            self._write(*answer)

    def _answer(self, session: Session, packet: bytes) -> list[bytes]:
        command, text = packet[:1], packet[1:].decode(errors="replace")
        with self._state.turn():
            if command == bytes([Command.QUERY]):
                return self._query(session, text)
            if command == bytes([Command.INIT_DB]):
                self._engine.use(session, text)
            elif command != bytes([Command.PING]):
                raise MySqlError(UNKNOWN_COMMAND)
            return [wire.ok(Ok(), session.status, 0)]

    def _query(self, session: Session, sql: str) -> list[bytes]:
        fault = self._state.faults.take(sql)
        if isinstance(fault, Hold):
            self._hold(fault)
        if isinstance(fault, Fault) and fault.moment is Moment.BEFORE:
            self._drop(fault)
        result = self._engine.execute(session, sql)
        if isinstance(fault, Fault):
            self._drop(fault)
        warnings = len(session.warnings)
        if isinstance(result, Rows):
            return wire.result_set(result, session.status, warnings)
        return [wire.ok(result, session.status, warnings)]

    def _hold(self, hold: Hold) -> None:
        hold.reached = True
        self._state.condition.notify_all()
        self._state.wait_until(lambda: hold.released)

    def _drop(self, fault: Fault) -> None:
        fault.struck = True
        raise DroppedError

    def _write(self, *packets: bytes) -> None:
        self._state.wait_for_turn()
        self._stream.write(*packets)

    def _is_client_there(self) -> bool:
        poll = select.poll()
        poll.register(self._wire, select.POLLRDHUP)
        return not any(events & _HUNG_UP for _, events in poll.poll(0))
