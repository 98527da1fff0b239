"""Listing sessions, as the rotation user, with the least right that each engine has for it.

    engine                                what is needed                                  what that shows too
    PostgreSQL: usernames, applications   nothing
    PostgreSQL: hosts, ages               pg_read_all_stats                               the statements of all sessions
    MySQL with performance_schema         SELECT on four columns of its table `threads`   no statement
                                          and on session_connect_attrs
    MySQL without, MariaDB                PROCESS                                         the statements of all sessions

Without the right MySQL and MariaDB list the asking account's own sessions and give no error, and MySQL's
performance_schema is empty where it is off: so each listing first makes sure that it sees the others.

https://www.postgresql.org/docs/current/monitoring-stats.html, https://mariadb.com/kb/en/grant/#process,
https://dev.mysql.com/doc/refman/8.4/en/performance-schema-threads-table.html
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

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
# now, or will be soon. No server says which password a session used: only its username, and at best since when it
# is there.


class OpenSession(NamedTuple):
    """A session of an application.

    Attributes:
        host: From which host; None where the rotation user may not see it.
        application: The name that the client gives itself; empty where it gives none, or the server keeps none.
        age_seconds: Since when it is connected; None where the rotation user may not see it.
    """

    username: str
    host: str | None
    application: str
    age_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionList:
    """The sessions on a server.

    Attributes:
        server: Which server process has answered: the same for two names of one server.
        ages_are_exact: Whether the server keeps the time at which a session began. If not, an age is the time since the
            session's last statement, and the session is at least that old.
        hidden: What the rotation user may not see of a session; empty: nothing is hidden.
        grants: The statements with which an administrator lets it see that.
    """

    server: str
    sessions: Sequence[OpenSession]
    ages_are_exact: bool
    hidden: str = ""
    grants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCountable:
    """The rotation user sees no sessions but its own.

    Attributes:
        grants: The statements with which an administrator lets it see the others.
    """

    grants: tuple[str, ...]


POSTGRESQL_GRANT = "GRANT pg_read_all_stats TO {account}"
MARIADB_GRANT = "GRANT PROCESS ON *.* TO {account}"
_COLUMNS = "PROCESSLIST_ID, PROCESSLIST_USER, PROCESSLIST_HOST, PROCESSLIST_TIME, PROCESSLIST_COMMAND"
MYSQL_GRANTS = (
    f"GRANT SELECT ({_COLUMNS}) ON performance_schema.threads TO {{account}}",
    "GRANT SELECT ON performance_schema.session_connect_attrs TO {account}",
)
_CREATE_USER = "GRANT CREATE USER ON *.* TO {account}"
GRANTS: Mapping[Engine, tuple[str, ...]] = {
    Engine.MYSQL: (_CREATE_USER, *MYSQL_GRANTS),
    Engine.MARIADB: (_CREATE_USER, "GRANT SELECT (User, Host) ON mysql.user TO {account}", MARIADB_GRANT),
    Engine.POSTGRESQL: (POSTGRESQL_GRANT,),
}
"""What the rotation user may do; on PostgreSQL what a DBA may let it do, too."""

_MYSQL_SESSIONS = """
SELECT t.PROCESSLIST_USER, t.PROCESSLIST_HOST, COALESCE(p.ATTR_VALUE, c.ATTR_VALUE, ''), t.PROCESSLIST_TIME
FROM performance_schema.threads AS t
LEFT JOIN performance_schema.session_connect_attrs AS p
  ON p.PROCESSLIST_ID = t.PROCESSLIST_ID AND p.ATTR_NAME = 'program_name'
LEFT JOIN performance_schema.session_connect_attrs AS c
  ON c.PROCESSLIST_ID = t.PROCESSLIST_ID AND c.ATTR_NAME = '_client_name'
WHERE t.PROCESSLIST_USER IN %s AND t.PROCESSLIST_ID <> CONNECTION_ID()
"""


def postgresql(session: "PostgreSqlSession", credential: Credential) -> SessionList:
    """Every role sees usernames and applications. A role that does not inherit must act as pg_read_all_stats."""
    [[server, admin, sees_all, may_see_all]] = session.run(
        "SELECT extract(epoch FROM pg_postmaster_start_time())::text, quote_ident(session_user),"
        " pg_has_role('pg_read_all_stats', 'USAGE'), pg_has_role('pg_read_all_stats', 'MEMBER')"
    )
    if may_see_all and not sees_all:
        session.run("SET ROLE pg_read_all_stats")
    # Background and parallel workers are told apart only where they are shown.
    rows = session.run(
        "SELECT usename::text, host(client_addr), application_name,"  # noqa: S608 - the literals are quoted
        " extract(epoch FROM clock_timestamp() - backend_start)::float8 FROM pg_stat_activity"
        f" WHERE usename IN ({listed(credential.usernames)}) AND pid <> pg_backend_pid()"
        " AND coalesce(backend_type, 'client backend') = 'client backend'"
    )
    found = [
        # A session over the server's own socket has no address.
        OpenSession(username, (host or "localhost") if may_see_all else None, application or "", age)
        for username, host, application, age in rows
    ]
    hidden = "" if may_see_all else "client hosts and ages"
    grants = () if may_see_all else (POSTGRESQL_GRANT.format(account=admin),)
    return SessionList(server=server, sessions=found, ages_are_exact=True, hidden=hidden, grants=grants)


def mysql(session: "MySqlSession", credential: Credential) -> SessionList | NotCountable:
    """From performance_schema where it is on, else from the process list."""
    if session.run("SELECT @@performance_schema") != (1,):
        return mariadb(session, credential)
    try:
        rows = session.rows(_MYSQL_SESSIONS, credential.usernames)
    except PrivilegeMissingError:
        return _not_countable(session, *MYSQL_GRANTS)
    return _listed(session, credential, rows)


def mariadb(session: "MySqlSession", credential: Credential) -> SessionList | NotCountable:
    """From the process list; MySQL has the same one."""
    try:
        # Refused without PROCESS, whether an account has it itself or by a role.
        session.run("SELECT COUNT(*) FROM information_schema.INNODB_CMP")
    except PrivilegeMissingError:
        return _not_countable(session, MARIADB_GRANT)
    rows = session.rows(
        "SELECT user, host, '', time FROM information_schema.processlist"
        " WHERE user IN %s AND id <> CONNECTION_ID()",
        credential.usernames,
    )
    without_ports = [(user, host.rpartition(":")[0] or host, *more) for user, host, *more in rows]
    return _listed(session, credential, without_ports)


def _listed(session: "MySqlSession", credential: Credential, rows: Iterable[tuple[Any, ...]]) -> SessionList:
    (server,) = session.run("SELECT CONCAT_WS(':', @@hostname, @@port, @@server_id)") or ("",)
    found = [
        OpenSession(username, host, application, None if seconds is None else float(seconds))
        for username, host, application, seconds in rows
        # The server compares usernames without regard to case, and accounts with it.
        if username in credential.usernames
    ]
    return SessionList(server=server, sessions=found, ages_are_exact=False)


def _not_countable(session: "MySqlSession", *grants: str) -> NotCountable:
    (account,) = session.run("SELECT CURRENT_USER()") or ("",)
    username, _, host = account.rpartition("@")
    named = f"{quoted(username)}@{quoted(host)}"
    return NotCountable(grants=tuple(grant.format(account=named) for grant in grants))


_LISTS: Mapping[Engine, Callable[[Any, Credential], SessionList | NotCountable]] = {
    Engine.MYSQL: mysql,
    Engine.MARIADB: mariadb,
    Engine.POSTGRESQL: postgresql,
}


def open_sessions(database: "ServerDatabase[Any]") -> SessionList | NotCountable:
    """The sessions of the credential's usernames, without the rotation user's own. It only reads, and takes no lock.

    Errors: DatabaseUnreachableError, DatabaseBusyError, TlsVerificationError, AdminCredentialRejectedError,
    UnsupportedServerError, DatabaseRejectedError; those of a store, where the rotation user's login is read.
    """
    with database.as_admin() as session:
        return _LISTS[database.server.engine](session, database.credential)
