"""What MySQL and MariaDB share: the wire protocol, the advisory lock and the error numbers."""

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import pymysql.err
from pymysql.connections import Connection

from lockstep.databases.base import LoginRefusedError, ServerDatabase, StagingStrategy
from lockstep.databases.tls import is_tls_failure
from lockstep.protocol.errors import (
    AccountDeniedError,
    AccountExpiredError,
    AccountLockedError,
    AccountMissingError,
    AccountPluginError,
    AccountSetupError,
    AdvisoryLockBusyError,
    DatabaseBusyError,
    DatabaseReadOnlyError,
    DatabaseRejectedError,
    DatabaseUnreachableError,
    HostBlockedError,
    LockstepError,
    PasswordRefusedByPolicyError,
    PrivilegeMissingError,
    TlsVerificationError,
    UnsupportedServerError,
)
from lockstep.protocol.model import Login

_CHARACTER_SET = "utf8mb4"

# Access denied, with and without a password having been asked for. An unknown user looks the same.
_LOGIN_REFUSED = frozenset({1045, 1698})

# What MariaDB says when it refuses a plugin, a verifier or a password; the reason is among the warnings.
_ACCOUNT_STATEMENT_FAILED = 1396

# https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html, for MariaDB its `perror`. Below
# 1000 and from 2000 to 2999: PyMySQL's own. All others: DatabaseRejectedError.
_ERRORS: dict[int, type[LockstepError]] = {
    0: DatabaseUnreachableError,  # the connection was closed before
    1040: DatabaseBusyError,  # max_connections
    1041: DatabaseBusyError,  # out of memory
    1044: PrivilegeMissingError,  # no rights on the database
    1045: PrivilegeMissingError,  # refused for a statement; for a login see _LOGIN_REFUSED
    1047: DatabaseUnreachableError,  # no quorum, or not joined yet (Galera)
    1053: DatabaseUnreachableError,  # shutdown in progress
    1129: HostBlockedError,
    1130: AccountDeniedError,  # no account takes logins from this host
    1135: DatabaseBusyError,  # no thread for another connection
    1142: PrivilegeMissingError,  # no rights on the table
    1143: PrivilegeMissingError,  # no rights on the column
    1203: DatabaseBusyError,  # the account's max_user_connections
    1205: DatabaseUnreachableError,  # lock_wait_timeout
    1226: DatabaseBusyError,  # the account's hourly limits
    1227: PrivilegeMissingError,  # a global privilege
    1251: UnsupportedServerError,  # an authentication protocol that PyMySQL lacks
    1290: DatabaseReadOnlyError,  # read_only; MariaDB: strict_password_validation, which refuses verifiers
    1317: DatabaseUnreachableError,  # statement interrupted
    1524: UnsupportedServerError,  # an authentication plugin that the server lacks
    1819: PasswordRefusedByPolicyError,  # validate_password
    1820: AccountExpiredError,  # its password
    1836: DatabaseReadOnlyError,  # read-only mode
    1862: AccountExpiredError,  # its password
    1927: DatabaseUnreachableError,  # connection killed (MariaDB)
    2003: DatabaseUnreachableError,
    2006: DatabaseUnreachableError,
    2013: DatabaseUnreachableError,
    2026: TlsVerificationError,  # the server offers no TLS
    2059: UnsupportedServerError,  # an authentication plugin that PyMySQL lacks
    3098: DatabaseUnreachableError,  # group replication refuses the change at present
    3100: DatabaseUnreachableError,  # likewise, at its commit: no majority
    3101: DatabaseUnreachableError,  # the group has rolled it back
    3118: AccountLockedError,  # by ACCOUNT LOCK (MySQL)
    3159: TlsVerificationError,  # require_secure_transport, met by a plan that says plaintext
    3638: PasswordRefusedByPolicyError,  # password_history, password_reuse_interval
    3894: AccountPluginError,  # RETAIN would change the account's plugin
    3955: AccountLockedError,  # FAILED_LOGIN_ATTEMPTS (MySQL)
    4031: DatabaseUnreachableError,  # silent for longer than wait_timeout (MySQL)
    4150: AccountLockedError,  # max_password_errors (MariaDB), unless the account has several passwords
    4151: AccountLockedError,  # by ACCOUNT LOCK (MariaDB)
    _ACCOUNT_STATEMENT_FAILED: AccountMissingError,  # with no other reason
}


Argument = str | int | tuple[str, ...]
"""Of a statement; a tuple becomes a list in parentheses."""


class _Connection(Connection):
    """A connection that is open once the login is through.

    PyMySQL would send SET NAMES with each: a login is not asked anything for which that matters, and a session of the
    rotation user sets it together with its bounds.
    """

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        """Nothing: the handshake names the character set."""


class MySqlSession:
    """The rotation user's connection, or an application's login."""

    def __init__(self, connection: "Connection[Any]", database: "MySqlFamilyDatabase") -> None:
        self._connection = connection
        self._database = database

    def require_version(self) -> None:
        """See `Session`.

        A server says `8.4.3`, `11.8.9-MariaDB-1~deb13`, or for old clients' sake `5.5.5-10.6.1-MariaDB`.
        """
        text = str(self._connection.get_server_info())  # type: ignore[no-untyped-call]  # the stubs' gap
        version = tuple(map(int, re.findall(r"\d+", text.removeprefix("5.5.5-"))[:3]))
        database = self._database
        if ("mariadb" in text.lower()) != database.is_mariadb or version < database.minimum_version:
            raise UnsupportedServerError(database=database.name, code=".".join(map(str, version)))

    def run(self, sql: str, *arguments: Argument) -> tuple[Any, ...] | None:
        """Run a statement; the first row of its result, if it has one."""
        return next(iter(self.rows(sql, *arguments)), None)

    def rows(self, sql: str, *arguments: Argument) -> tuple[tuple[Any, ...], ...]:
        """Run a statement; all rows of its result.

        PyMySQL escapes the arguments into the statement's text, in sync with the server's SQL mode.
        """
        try:
            return self._rows(sql, *arguments)
        except pymysql.err.Error as e:
            raise self._meaning(_number(e)) from None

    def _rows(self, sql: str, *arguments: Argument) -> tuple[tuple[Any, ...], ...]:
        self._database.deadline_guard()
        with self._connection.cursor() as cursor:
            cursor.execute(sql, arguments)
            rows: tuple[tuple[Any, ...], ...] = cursor.fetchall()
            return rows

    def _meaning(self, number: int) -> LockstepError:
        if number == _ACCOUNT_STATEMENT_FAILED:
            reasons = (n for n in self._error_numbers() if n in _ERRORS and n != number)
            number = next(reasons, number)
        return error_of(self._database.name, number)

    def _error_numbers(self) -> list[int]:
        """The numbers of the last statement's errors, the causes first."""
        try:
            return [number for level, number, _ in self._rows("SHOW WARNINGS") if level == "Error"]
        except pymysql.err.Error:
            return []

    def lock(self, key: bytes) -> None:
        """See `Session`. A name has 64 characters at most and no case, so it is hexadecimal.

        Before that: the character set in which PyMySQL escapes, since a server can be told to ignore what the handshake
        says; and the server gives up before we do, and ends the session when it stays silent.
        """
        timeouts = self._database.timeouts
        self.run(
            f"SET NAMES {_CHARACTER_SET}, SESSION wait_timeout = %s, SESSION lock_wait_timeout = %s",
            timeouts.idle_seconds,
            timeouts.lock_seconds,
        )
        row = self.run("SELECT GET_LOCK(%s, %s)", f"lockstep:{key.hex()[:32]}", timeouts.lock_seconds)
        if row != (1,):
            raise AdvisoryLockBusyError(database=self._database.name)

    def close(self) -> None:
        """See `Session`."""
        self._connection.close()


def account_at(host: str) -> str:
    """An account, for `MySqlSession.run`, whose username is the statement's next argument.

    The host goes into the statement as it is: the plan allows no quote and no backslash in it.
    """
    return "%s@'" + host.replace("%", "%%") + "'"


@dataclass(frozen=True, slots=True)
class Matched:
    """The account that the server has matched a login to.

    Attributes:
        account: As CURRENT_USER() shows it: `username@host`.
        most_refusals: So many wrong passwords in a row lock it; None: no number does.
    """

    account: str
    most_refusals: int | None


class KnownAccount(NamedTuple):
    """An account, as the server shows it to the rotation user.

    Attributes:
        attribute: MySQL's ATTRIBUTE: a JSON object, or None.
    """

    username: str
    host: str
    attribute: str | None = None


class MySqlFamilyDatabase(ServerDatabase[MySqlSession]):
    """Logging in, for both engines.

    Attributes:
        is_mariadb: Which of the two the server must be.
        minimum_version: The oldest one that can do what staging needs.
    """

    is_mariadb: ClassVar[bool]
    minimum_version: ClassVar[tuple[int, ...]]

    def _try(self, login: Login) -> None:
        """See `ServerDatabase`; the login also says which account it is, and how often it may be refused.

        Raises:
            AccountSetupError: The server has matched another account (protocol D17), or the next refusal would lock
                this one (protocol D18).
        """
        # An account whose password has expired may still connect, and then run nothing.
        with self.as_user(login) as session:
            matched = self.matched(session)
        if matched.account != f"{login.username}@{self.credential.account_host}":
            raise AccountSetupError(database=self.name, code="several-hosts")
        if matched.most_refusals == 1:
            raise AccountSetupError(database=self.name, code="lockout-limit")

    def _log_in(self, login: Login) -> MySqlSession:
        # The rotation user has rights on no database.
        return self._session(login, None if self.rotates_itself else self.server.dbname)

    @abstractmethod
    def matched(self, session: MySqlSession) -> "Matched":
        """The account that a session is logged in as."""

    def _stager(self, session: MySqlSession) -> StagingStrategy:
        """See `ServerDatabase`; raises AccountSetupError where the server shows other hosts (protocol D17)."""
        accounts = self.accounts(session) or ()
        if {known.host for known in accounts} - {self.credential.account_host}:
            raise AccountSetupError(database=self.name, code="several-hosts")
        return self._staging_strategy(session, accounts)

    @abstractmethod
    def accounts(self, session: MySqlSession) -> Sequence[KnownAccount] | None:
        """The accounts with the credential's usernames; None where the rotation user cannot see them."""

    @abstractmethod
    def _staging_strategy(self, session: MySqlSession, accounts: Sequence[KnownAccount]) -> StagingStrategy:
        """The strategy of the credential on this engine."""

    def _log_in_as_admin(self, admin: Login) -> MySqlSession:
        return self._session(admin, None)

    def _session(self, login: Login, database: str | None) -> MySqlSession:
        self.deadline_guard()
        connection = _Connection(
            host=self.server.host,
            port=self.server.port,
            user=login.username,
            password=login.password.reveal().encode(),
            database=database,
            charset=_CHARACTER_SET,
            ssl=self.tls,
            ssl_disabled=self.plaintext,
            connect_timeout=self.timeouts.connect_seconds,
            read_timeout=self.timeouts.io_seconds,
            write_timeout=self.timeouts.io_seconds,
            autocommit=None,
            defer_connect=True,
        )
        try:
            connection.connect()
        except pymysql.err.Error as e:
            over_tls = connection._secure  # type: ignore[attr-defined]  # noqa: SLF001  PyMySQL tells nowhere else
            raise self._login_error(e, over_tls=over_tls) from None
        except RuntimeError:
            # PyMySQL's wording for a plugin of which it lacks the cryptography (MariaDB's ed25519).
            raise UnsupportedServerError(database=self.name) from None
        return MySqlSession(connection, self)

    def _login_error(self, error: pymysql.err.Error, *, over_tls: bool) -> Exception:
        number = _number(error)
        if is_tls_failure(error.__context__):
            return TlsVerificationError(database=self.name)
        if number in _LOGIN_REFUSED:
            # Before the handshake a third party can forge this answer, and with it the proof that a password is
            # revoked.
            trusted = over_tls or self.plaintext
            return LoginRefusedError() if trusted else TlsVerificationError(database=self.name)
        kind = _ERRORS.get(number, DatabaseRejectedError)
        if kind is PrivilegeMissingError:
            # The account's own rights, not the rotation user's.
            kind = AccountDeniedError
        return kind(database=self.name, code=number)


def error_of(database: str, number: int) -> LockstepError:
    """What the number of a server's error means."""
    return _ERRORS.get(number, DatabaseRejectedError)(database=database, code=number)


def _number(error: pymysql.err.Error) -> int:
    # Where the server violates the protocol, PyMySQL gives a text instead of a number.
    number = error.args[0] if error.args else -1
    return number if isinstance(number, int) else -1
