"""PostgreSQL: one verifier a role, so two login roles that take turns."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pg8000.exceptions import DatabaseError, InterfaceError  # type: ignore[import-untyped]  # it ships no types
from pg8000.native import Connection, identifier, literal  # type: ignore[import-untyped]  # as above
from scramp import ScramException  # type: ignore[import-untyped]  # as above

from lockstep.databases.base import (
    CHANGE_OWN,
    AlternatingUsers,
    LoginRefusedError,
    ServerDatabase,
    StagingStrategy,
)
from lockstep.databases.tls import is_tls_failure
from lockstep.databases.verifiers import scram_sha_256
from lockstep.protocol.errors import (
    AccountDeniedError,
    AccountExpiredError,
    AccountLockedError,
    AccountMissingError,
    AdvisoryLockBusyError,
    DatabaseBusyError,
    DatabaseReadOnlyError,
    DatabaseRejectedError,
    DatabaseUnreachableError,
    LockstepError,
    PasswordRefusedByPolicyError,
    PrivilegeMissingError,
    TlsVerificationError,
    UnsupportedServerError,
)
from lockstep.protocol.model import Login

# https://www.postgresql.org/docs/current/protocol-message-formats.html: SSLRequest, and what answers it.
_SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
_TLS_FOLLOWS = b"S"

# Older servers would hash a SCRAM verifier as if it were a password.
_MINIMUM_MAJOR_VERSION = 10
_IDLE_SESSION_TIMEOUT_SINCE = 14

# Of an AuthenticationRequest: AuthenticationOk; and SASLFinal, by which the other side proves to know the password.
_PASSWORD_ACCEPTED = frozenset(code.to_bytes(4, "big") for code in (0, 12))

_LOGIN_REFUSED = "28P01"
_LOCK_TIMEOUT = "55P03"
_ACCOUNT_REFUSED = "28000"
# The routine that reports NOLOGIN (src/backend/utils/init/miscinit.c), under the code of all refusals of an account.
_NOLOGIN_FROM = "InitializeSessionUserId"

# https://www.postgresql.org/docs/current/errcodes-appendix.html: codes, then classes. All others:
# DatabaseRejectedError.
_ERRORS: dict[str, type[LockstepError]] = {
    "0A000": UnsupportedServerError,  # feature not supported
    "22023": PasswordRefusedByPolicyError,  # what the module passwordcheck says
    "25006": DatabaseReadOnlyError,
    _ACCOUNT_REFUSED: AccountDeniedError,  # no entry in pg_hba.conf; for NOLOGIN see _NOLOGIN_FROM
    "42704": AccountMissingError,
    "42501": PrivilegeMissingError,
    _LOCK_TIMEOUT: DatabaseUnreachableError,
    "57014": DatabaseUnreachableError,  # statement_timeout
    "57P01": DatabaseUnreachableError,  # shutdown, or the session was terminated
    "57P02": DatabaseUnreachableError,  # another session's crash
    "57P03": DatabaseUnreachableError,  # starting up, shutting down, recovering
    "57P05": DatabaseUnreachableError,  # idle_session_timeout
    "08": DatabaseUnreachableError,  # connection exceptions
    "53": DatabaseBusyError,  # insufficient resources, among them connections
}


class _Connection(Connection):  # type: ignore[misc]  # as above
    """A connection whose errors say whether they have ended a login instead of accepting its password."""

    _is_password_open = False

    def handle_AUTHENTICATION_REQUEST(self, data: bytes, context: Any) -> None:  # noqa: ANN401, N802 - pg8000's own
        """Between what asks for a password and what accepts it an error is about the password."""
        self._is_password_open = data[:4] not in _PASSWORD_ACCEPTED
        super().handle_AUTHENTICATION_REQUEST(data, context)

    def handle_ERROR_RESPONSE(self, data: bytes, context: Any) -> None:  # noqa: ANN401, N802 - pg8000's own
        """Keep the stage beside what the server says."""
        super().handle_ERROR_RESPONSE(data, context)
        if self._is_password_open:
            context.error.args[0]["stage"] = "password"


class PostgreSqlDatabase(ServerDatabase["PostgreSqlSession"]):
    """PostgreSQL since 10, always with alternating users.

    An account whose VALID UNTIL has passed looks like a wrong password, since PostgreSQL says no more to the client;
    `accepts_after_all` asks as the rotation user.

    The application's roles need a password entry in pg_hba.conf (`scram-sha-256`, `md5` or `password`): where
    it says `trust`, every password logs in, and the proof that an old one is revoked fails.
    """

    def _try(self, login: Login) -> None:
        """See `ServerDatabase`.

        Raises:
            AccountDeniedError: What it made would belong to another role than the owner role (protocol D13).
        """
        with self.as_user(login) as session:
            if not self.rotates_itself and session.run("SELECT current_user") != [[self.credential.owner]]:
                raise AccountDeniedError(database=self.name, code="role")

    def _log_in(self, login: Login) -> "PostgreSqlSession":
        return PostgreSqlSession(*self._connect(login), self)

    def _log_in_as_admin(self, admin: Login) -> "PostgreSqlSession":
        return self._log_in(admin)

    def _accepts_after_all(self, session: "PostgreSqlSession", login: Login) -> bool:
        name = literal(login.username)
        # A literal is quoted, and statements with parameters are spoken over another protocol than all others.
        rows = session.run(f"SELECT rolvaliduntil <= now() FROM pg_roles WHERE rolname = {name}")  # noqa: S608
        if not rows:
            raise AccountMissingError(database=self.name)
        if rows == [[True]]:
            raise AccountExpiredError(database=self.name)
        return False

    def _stager(self, session: "PostgreSqlSession") -> StagingStrategy:
        def set_only_password(login: Login) -> None:
            verifier = literal(scram_sha_256(login.password, self.random_bytes).reveal())
            if self.rotates_itself:
                function = f"{identifier(self.credential.owner)}.{CHANGE_OWN}"
                session.run(f"SELECT {function}({literal(login.username)}, {verifier})")
            else:
                role = identifier(login.username)
                # Whoever took the owner role from it would have objects made that the other user does not own.
                acts_as = f"ALTER ROLE {role} SET role TO {identifier(self.credential.owner)}"
                session.run(f"ALTER ROLE {role} PASSWORD {verifier}", acts_as)

        return AlternatingUsers(self.credential, self.name, set_only_password, self.random_bytes)

    def _connect(self, login: Login) -> tuple[Connection, socket.socket]:
        self.deadline_guard()
        try:
            connected = self.open_socket(self.tls)
        except OSError as e:
            raise _meaning(self.name, e) from None
        try:
            connection = _Connection(
                login.username,
                host=self.server.host,
                database=self.server.dbname,
                password=login.password.reveal(),
                sock=connected,
                ssl_context=False,  # it is done
                application_name="lockstep",
            )
        except (DatabaseError, InterfaceError, OSError, ScramException) as e:
            connected.close()
            raise self._login_error(e) from None
        return connection, connected

    def open_socket(self, tls: ssl.SSLContext | None) -> socket.socket:
        """A connection up to the TLS handshake; raises OSError, and TlsVerificationError where there is no TLS.

        pg8000 would do this too, but calls a server that hangs up one that refuses TLS: an outage would look
        like a downgrade.
        """
        timeouts = self.timeouts
        connected = socket.create_connection((self.server.host, self.server.port), timeouts.connect_seconds)
        try:
            connected.settimeout(timeouts.io_seconds)
            # A login is a handful of small messages to and fro; without this each waits 40 ms for the next.
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is None:
                return connected
            connected.sendall(_SSL_REQUEST)
            self._require_tls(connected.recv(1))
            return tls.wrap_socket(connected, server_hostname=self.server.host)
        except BaseException:
            connected.close()
            raise

    def _require_tls(self, answer: bytes) -> None:
        if not answer:
            raise ConnectionResetError
        if answer != _TLS_FOLLOWS:
            raise TlsVerificationError(database=self.name)

    def _login_error(self, error: Exception) -> Exception:
        code = _field(error, "C")
        stage = _field(error, "stage")
        if code == _LOGIN_REFUSED or stage:
            unproven = DatabaseRejectedError(database=self.name, code=code, stage=stage)
            return LoginRefusedError(*([] if code == _LOGIN_REFUSED else [unproven]))
        if code and _kind(code) is PrivilegeMissingError:
            # The account's own right to connect, not the rotation user's.
            return AccountDeniedError(database=self.name, code=code)
        if code == _ACCOUNT_REFUSED and _field(error, "R") == _NOLOGIN_FROM:
            return AccountLockedError(database=self.name, code=code)
        if isinstance(error, ScramException):
            # The server does not know the password's verifier itself, or speaks no SCRAM that we know.
            return DatabaseRejectedError(database=self.name)
        if str(error).startswith("Authentication method"):
            return UnsupportedServerError(database=self.name)
        return _meaning(self.name, error)


class PostgreSqlSession:
    """The rotation user's connection."""

    def __init__(
        self, connection: Connection, connected: socket.socket, database: PostgreSqlDatabase
    ) -> None:
        self._connection = connection
        self._connected = connected
        self._database = database

    @property
    def _major_version(self) -> int:
        return int(self._connection.parameter_statuses["server_version"].partition(".")[0])

    def require_version(self) -> None:
        """See `Session`."""
        if self._major_version < _MINIMUM_MAJOR_VERSION:
            raise UnsupportedServerError(database=self._database.name, code=self._major_version)

    def run(self, *statements: str) -> list[list[Any]]:
        """Run statements, in one transaction of their own and one round trip; the rows of the last that has any."""
        self._database.deadline_guard()
        with _translated(self._database.name):
            return list(self._connection.run("; ".join(statements)) or ())

    def lock(self, key: bytes) -> None:
        """See `Session`; PostgreSQL names a lock by 64 bits.

        Before that: the server gives up before we do, and ends the session when it stays silent.
        """
        number = int.from_bytes(key[:8], "big", signed=True)
        timeouts = self._database.timeouts
        bounds = [f"SET lock_timeout = '{timeouts.lock_seconds}s'"]
        if self._major_version >= _IDLE_SESSION_TIMEOUT_SINCE:
            bounds.append(f"SET idle_session_timeout = '{timeouts.idle_seconds}s'")
        try:
            self.run(*bounds, f"SELECT pg_advisory_lock({number})")
        except DatabaseUnreachableError as e:
            if e.where.get("code") == _LOCK_TIMEOUT:
                raise AdvisoryLockBusyError(database=self._database.name) from None
            raise

    def close(self) -> None:
        """See `Session`."""
        # pg8000 sends a farewell first, which fails if the server is gone. Its socket stays open as long as anything
        # refers to the file that it has made of it, as the traceback of a time-out does, and the lock stays taken.
        with suppress(InterfaceError, OSError):
            self._connection.close()
        with suppress(OSError):
            socket.socket.shutdown(self._connected, socket.SHUT_RDWR)


@contextmanager
def _translated(database: str) -> Iterator[None]:
    """What pg8000 raises on an open connection as ours, without its text, which may quote a statement."""
    try:
        yield
    except (DatabaseError, InterfaceError, OSError) as e:
        raise _meaning(database, e) from None


def _meaning(database: str, error: BaseException) -> LockstepError:
    code = _field(error, "C")
    if code:
        return _kind(code)(database=database, code=code)
    failed_tls = any(is_tls_failure(e) for e in _chain(error))
    return (TlsVerificationError if failed_tls else DatabaseUnreachableError)(database=database)


def _kind(code: str) -> type[LockstepError]:
    return _ERRORS.get(code) or _ERRORS.get(code[:2]) or DatabaseRejectedError


def _field(error: BaseException, name: str) -> str:
    """What the server said, even if closing the connection failed afterwards; empty if it said nothing.

    The names: https://www.postgresql.org/docs/current/protocol-error-fields.html.
    """
    said = (e.args[0] for e in _chain(error) if isinstance(e, DatabaseError) and e.args)
    return next((str(fields[name]) for fields in said if isinstance(fields, dict) and name in fields), "")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
