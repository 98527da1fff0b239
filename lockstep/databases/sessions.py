"""Counting sessions, as the rotation user, with the least right that each engine has for it.

    engine                                what is needed                         what that shows too
    PostgreSQL                            nothing
    MySQL with performance_schema         SELECT on columns of its table `threads`  no statement
    MySQL without, MariaDB                PROCESS                                the statements of all sessions

Without the right MySQL and MariaDB list the asking account's own sessions and give no error, and MySQL's
performance_schema is empty where it is off: so each count first makes sure that it sees the others.

https://www.postgresql.org/docs/current/monitoring-stats.html, https://mariadb.com/kb/en/grant/#process,
https://dev.mysql.com/doc/refman/8.4/en/performance-schema-threads-table.html
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lockstep.databases.base import listed, quoted
from lockstep.protocol.errors import PrivilegeMissingError
from lockstep.protocol.model import Credential, Engine

if TYPE_CHECKING:
    from lockstep.databases.base import ServerDatabase
    from lockstep.databases.mysql_family import MySqlSession
    from lockstep.databases.postgresql import PostgreSqlSession


# Who is logged in: the open sessions of a credential's usernames on a server.
#
# A server ends no session when a password changes, so sessions show who connected with a login that is revoked by
# now, or will be soon. No server says which password a session used: only its username.


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCounts:
    """The sessions on a server.

    Attributes:
        server: Which server process has answered: the same for two names of one server.
        of: How many each username of the credential has; one without any may lack.
    """

    server: str
    of: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCountable:
    """The rotation user sees no sessions but its own.

    Attributes:
        grant: The statement with which an administrator lets it see the others.
    """

    grant: str


class SessionSource(Protocol):
    """A server whose sessions can be counted. It only reads, and takes no lock."""

    @property
    def name(self) -> str:
        """The database's name in the plan; of a verify host with the host."""

    def count(self) -> SessionCounts | NotCountable:
        """The sessions of the credential's usernames, without the rotation user's own.

        Errors: DatabaseUnreachableError, DatabaseBusyError, TlsVerificationError, AdminCredentialRejectedError,
        UnsupportedServerError, DatabaseRejectedError; those of a store, where the rotation user's login is read.
        """


POSTGRESQL_GRANT = "GRANT pg_read_all_stats TO {account}"
MARIADB_GRANT = "GRANT PROCESS ON *.* TO {account}"
_COLUMNS = "PROCESSLIST_ID, PROCESSLIST_USER, PROCESSLIST_HOST, PROCESSLIST_COMMAND"
MYSQL_GRANT = f"GRANT SELECT ({_COLUMNS}) ON performance_schema.threads TO {{account}}"
"""Also to see which hosts replicate from it."""


class Counts(Protocol):
    """How an engine counts sessions."""

    def __call__(self, session: Any, credential: Credential, /) -> SessionCounts | NotCountable:  # noqa: ANN401 - the engine's own session
        """The sessions of the credential's usernames, as a session of the rotation user sees them."""


class Sessions:
    """The port `SessionSource`.

    Args:
        database: How the server is reached.
        counts: Of its engine.
    """

    def __init__(self, database: "ServerDatabase[Any]", counts: Counts) -> None:
        self._database = database
        self._counts = counts

    @property
    def name(self) -> str:
        """See `lockstep.databases.sessions.SessionSource`."""
        return self._database.name

    def count(self) -> SessionCounts | NotCountable:
        """See `lockstep.databases.sessions.SessionSource`."""
        with self._database.as_admin() as session:
            return self._counts(session, self._database.credential)


def postgresql(session: "PostgreSqlSession", credential: Credential) -> SessionCounts:
    """Every role sees usernames."""
    [[server]] = session.run("SELECT extract(epoch FROM pg_postmaster_start_time())::text")
    # Background and parallel workers are told apart only where they are shown.
    rows = session.run(
        "SELECT usename::text, count(*) FROM pg_stat_activity"  # noqa: S608 - the literals are quoted
        f" WHERE usename IN ({listed(credential.usernames)}) AND pid <> pg_backend_pid()"
        " AND coalesce(backend_type, 'client backend') = 'client backend' GROUP BY usename"
    )
    return SessionCounts(server=server, of=dict(rows))


def mysql(session: "MySqlSession", credential: Credential) -> SessionCounts | NotCountable:
    """From performance_schema where it is on, else from the process list."""
    if session.run("SELECT @@performance_schema") != (1,):
        return mariadb(session, credential)
    try:
        rows = session.rows(
            "SELECT PROCESSLIST_USER FROM performance_schema.threads"
            " WHERE PROCESSLIST_USER IN %s AND PROCESSLIST_ID <> CONNECTION_ID()",
            credential.usernames,
        )
    except PrivilegeMissingError:
        return _not_countable(session, MYSQL_GRANT)
    return _counted(session, credential, rows)


def mariadb(session: "MySqlSession", credential: Credential) -> SessionCounts | NotCountable:
    """From the process list; MySQL has the same one."""
    try:
        # Refused without PROCESS, whether an account has it itself or by a role.
        session.run("SELECT COUNT(*) FROM information_schema.INNODB_CMP")
    except PrivilegeMissingError:
        return _not_countable(session, MARIADB_GRANT)
    rows = session.rows(
        "SELECT user FROM information_schema.processlist WHERE user IN %s AND id <> CONNECTION_ID()",
        credential.usernames,
    )
    return _counted(session, credential, rows)


def _counted(
    session: "MySqlSession", credential: Credential, rows: Iterable[tuple[Any, ...]]
) -> SessionCounts:
    (server,) = session.run("SELECT CONCAT_WS(':', @@hostname, @@port, @@server_id)") or ("",)
    # The server compares usernames without regard to case, and accounts with it.
    return SessionCounts(
        server=server, of=Counter(username for (username,) in rows if username in credential.usernames)
    )


def _not_countable(session: "MySqlSession", grant: str) -> NotCountable:
    (account,) = session.run("SELECT CURRENT_USER()") or ("",)
    username, _, host = account.rpartition("@")
    return NotCountable(grant=grant.format(account=f"{quoted(username)}@{quoted(host)}"))


COUNTS: Mapping[Engine, Counts] = {
    Engine.MYSQL: mysql,
    Engine.MARIADB: mariadb,
    Engine.POSTGRESQL: postgresql,
}
