"""What PostgreSQL can be asked, for `lockstep doctor` (see `lockstep.databases.inspect`).

Every role sees `pg_roles`, memberships and settings; `pg_hba.conf` only a superuser. So its rules are asked as a client
meets them: the server says how a role has to authenticate before a password is shown. A client that then goes away is
one that has to ask a person for the password, as psql is, and counts as no refusal
(https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP).
"""

import socket
import ssl
from collections.abc import Iterator
from enum import Enum

from pg8000.native import identifier, literal  # type: ignore[import-untyped]  # it ships no types

from lockstep.databases.base import CHANGE_OWN
from lockstep.databases.findings import Answer, failed, passed, warning
from lockstep.databases.inspect import (
    ACCESS,
    ACCOUNTS,
    EXPIRY,
    LOCKOUT,
    POLICY,
    RIGHTS,
    ROLES,
    SERVER,
    LooksAnswers,
    is_master,
    listing,
    of_account,
    of_replicas,
)
from lockstep.databases.postgresql import PostgreSqlDatabase, PostgreSqlSession
from lockstep.protocol.errors import (
    AccountLockedError,
    DatabaseRejectedError,
    DatabaseUnreachableError,
    PrivilegeMissingError,
)

_PROTOCOL = 196608  # 3.0
_ADMIN_OPTION_SINCE = 160000
_MOST_CONNECTIONS_TOO_FEW = 1


class AuthRequest(Enum):
    """What the server wants of a role (AuthenticationRequest)."""

    NOTHING = 0
    CLEARTEXT = 3
    MD5 = 5
    GSS = 7
    SSPI = 9
    SASL = 10


_WITH_PASSWORD = frozenset({AuthRequest.CLEARTEXT, AuthRequest.MD5, AuthRequest.SASL})


class PostgreSqlLooks:
    """See `lockstep.databases.inspect.AccountChecks`."""

    # ---- Before a login

    def connect(self, database: PostgreSqlDatabase, tls: ssl.SSLContext | None) -> socket.socket:
        """See `Looks`."""
        database.deadline_guard()
        return database.open_socket(tls)

    def without_login(self, database: PostgreSqlDatabase, username: str) -> LooksAnswers:
        """See `Looks`: what `pg_hba.conf` demands of the role from here."""
        subject, how = of_account(database, username), "with TLS" if database.tls else "without TLS"
        told = self._startup(database, username)
        rule = "hostssl" if database.tls else "host"
        line = f"{rule} {database.server.dbname} {username} <this client's network> scram-sha-256"
        fix = (
            f"put a line into pg_hba.conf, above those that match now: {line}; then: SELECT pg_reload_conf()"
        )
        if isinstance(told, str):
            yield ACCESS, failed(subject, f"the server lets it not in from here, {how}: {told}", fix)
        elif told is AuthRequest.NOTHING:
            yield ACCESS, failed(subject, "pg_hba.conf trusts it from here: every password logs in", fix)
        elif told in _WITH_PASSWORD:
            yield ACCESS, passed(subject, f"pg_hba.conf wants a password of it from here, {how}")
        else:
            yield ACCESS, failed(subject, f"pg_hba.conf wants {told.name} of it from here, no password", fix)

    def _startup(self, database: PostgreSqlDatabase, username: str) -> AuthRequest | str:
        fields = {"user": username, "database": database.server.dbname, "application_name": "lockstep"}
        body = b"".join(f"{k}\0{v}\0".encode() for k, v in fields.items()) + b"\0"
        message = (len(body) + 8).to_bytes(4, "big") + _PROTOCOL.to_bytes(4, "big") + body
        try:
            with self.connect(database, database.tls) as connected:
                connected.sendall(message)
                kind, answer = _message(connected)
        except OSError as error:
            raise DatabaseUnreachableError(database=database.name, code=type(error).__name__) from None
        if kind == b"R":
            code = int.from_bytes(answer[:4], "big")
            return next((asks for asks in AuthRequest if asks.value == code), AuthRequest.GSS)
        # Only the code: a text of the server's may be anything.
        code_field = next((f for f in answer.split(b"\0") if f[:1] == b"C"), b"C?????")
        return f"SQLSTATE {code_field[1:6].decode('ascii', 'replace')}"

    # ---- As the rotation user

    def as_admin(self, session: PostgreSqlSession, database: PostgreSqlDatabase) -> LooksAnswers:
        """See `Looks`."""
        yield SERVER, self._server(session, database)
        # Who may not see the statistics of others sees that there is a sender, and nothing of it.
        stats = "'pg_read_all_stats'"
        session.run(f"SELECT set_config('role', {stats}, false) WHERE pg_has_role({stats}, 'MEMBER')")
        replicas = session.run(
            "SELECT host(client_addr) FROM pg_stat_replication AS r"
            " LEFT JOIN pg_replication_slots AS s ON s.active_pid = r.pid"
            " WHERE coalesce(sync_state, '') NOT IN ('sync', 'quorum') AND slot_type IS DISTINCT FROM 'logical'"
        )
        session.run("RESET ROLE")
        yield from of_replicas(database.server, [host for (host,) in replicas])
        for answer in self._rights(session, database):
            yield RIGHTS, answer
        yield from self._roles(session, database)
        yield LOCKOUT, passed(database.name, "PostgreSQL locks no role by wrong passwords")
        yield POLICY, self._verifiers(session, database)
        yield from self._rules(session, database)

    def _server(self, session: PostgreSqlSession, database: PostgreSqlDatabase) -> Answer:
        [[version, standby]] = session.run("SELECT current_setting('server_version'), pg_is_in_recovery()")
        server = database.server
        if standby:
            return failed(
                server.name,
                f"{server.host} is a standby, so no password can be changed there",
                "name its primary as `host` in the plan, and this one under `verify_hosts`; then: lockstep check",
            )
        return passed(
            server.name,
            f"{version} is a {server.engine} that the strategy {database.credential.strategy} works on",
        )

    def _rights(self, session: PostgreSqlSession, database: PostgreSqlDatabase) -> Iterator[Answer]:
        name = database.name
        [[admin, is_super, may_create_roles, wide]] = session.run(
            "SELECT session_user::text, rolsuper, rolcreaterole,"
            " array_remove(ARRAY[CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolcreatedb THEN 'CREATEDB' END,"
            " CASE WHEN rolreplication THEN 'REPLICATION' END, CASE WHEN rolbypassrls THEN 'BYPASSRLS' END], NULL)"
            " FROM pg_roles WHERE rolname = session_user"
        )
        role = identifier(admin)
        missing = list(self._missing(session, database, role, can=bool(is_super or may_create_roles)))
        yield from missing
        if is_master(database.server):
            yield passed(name, f"{admin} is the master user, as the plan says, and may do more than rotate")
        elif wide:
            off = " ".join(f"NO{right}" for right in wide)
            yield warning(
                name, f"{admin} may do more than rotate: {listing(wide)}", f"ALTER ROLE {role} {off}"
            )
        elif not missing:
            yield passed(name, f"{admin} may change the roles of the credential, and nothing else")

    def _missing(
        self, session: PostgreSqlSession, database: PostgreSqlDatabase, role: str, *, can: bool
    ) -> Iterator[Answer]:
        name, owner = database.name, database.credential.owner
        if database.rotates_itself:
            function = f"{identifier(owner)}.{CHANGE_OWN}(name, text)"
            [[allowed]] = session.run(
                f"SELECT coalesce(has_function_privilege(to_regprocedure({literal(function)})::oid, 'EXECUTE'), false)"
            )
            if not allowed:
                yield failed(
                    name, f"{role} may not call {function}, by which it changes itself", "lockstep plan sql"
                )
            return
        if not can:
            yield failed(name, f"{role} cannot change roles", f"ALTER ROLE {role} CREATEROLE")
        logins = ", ".join(literal(u) for u in database.credential.usernames)
        [[lacking]] = session.run(
            "SELECT coalesce(array_agg(r.rolname::text), '{}') FROM pg_roles AS r, pg_roles AS me"  # noqa: S608 - literals are quoted
            f" WHERE r.rolname IN ({logins}) AND me.rolname = session_user AND NOT me.rolsuper"
            f" AND current_setting('server_version_num')::int >= {_ADMIN_OPTION_SINCE} AND NOT EXISTS ("
            " SELECT FROM pg_auth_members AS m WHERE m.roleid = r.oid AND m.member = me.oid AND m.admin_option)"
        )
        if lacking:
            named = ", ".join(map(identifier, sorted(lacking)))
            yield failed(
                name,
                f"{role} lacks ADMIN OPTION for {listing(lacking)}, so it cannot change their passwords",
                f"GRANT {named} TO {role} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE",
            )

    def _roles(self, session: PostgreSqlSession, database: PostgreSqlDatabase) -> LooksAnswers:
        owner = database.credential.owner
        [[owner_state]] = session.run(
            f"SELECT (SELECT rolcanlogin FROM pg_roles WHERE rolname = {literal(owner)})"  # noqa: S608 - as above
        )
        for username in database.credential.usernames:
            yield from self._role(session, database, username)
        if database.rotates_itself:
            return
        if owner_state is None:
            yield ROLES, failed(database.name, f"there is no owner role {owner}", "lockstep plan sql")
        elif owner_state:
            yield (
                ROLES,
                failed(
                    database.name,
                    f"the owner role {owner} logs in itself, and its password is never rotated",
                    f"ALTER ROLE {identifier(owner)} NOLOGIN",
                ),
            )

    def _role(self, session: PostgreSqlSession, database: PostgreSqlDatabase, username: str) -> LooksAnswers:
        subject, role = of_account(database, username), identifier(username)
        owner = database.credential.owner
        rows = session.run(
            "SELECT r.rolcanlogin, r.rolconnlimit, r.rolvaliduntil::text, r.rolvaliduntil <= now(),"  # noqa: S608 - as above
            " r.rolvaliduntil < 'infinity', r.rolsuper OR r.rolreplication,"
            " coalesce(pg_has_role(r.oid, (SELECT oid FROM pg_roles"
            f" WHERE rolname = {literal(owner)}), 'MEMBER'), false),"
            " EXISTS (SELECT FROM pg_db_role_setting AS s WHERE s.setrole = r.oid AND s.setdatabase IN (0,"
            " (SELECT oid FROM pg_database WHERE datname = current_database()))"
            f" AND {literal(f'role={owner}')} = ANY (s.setconfig))"
            f" FROM pg_roles AS r WHERE r.rolname = {literal(username)}"
        )
        if not rows:
            yield ACCOUNTS, failed(subject, f"there is no role {username}", "lockstep plan sql")
            return
        [[can_log_in, connections, until, is_over, ends, is_special, is_member, acts]] = rows
        yield ACCOUNTS, _usable(subject, role, can_log_in=can_log_in, connections=connections)
        infinity = f"ALTER ROLE {role} VALID UNTIL 'infinity'"
        if is_over:
            yield EXPIRY, failed(subject, f"it was valid until {until}, and is refused since then", infinity)
        elif ends:
            yield EXPIRY, warning(subject, f"it is valid until {until}, and refused from then on", infinity)
        else:
            yield EXPIRY, passed(subject, "it does not expire")
        if database.rotates_itself:
            yield ROLES, passed(subject, "it is the rotation user's own, which acts as no owner role")
            return
        if is_special:
            yield (
                ROLES,
                failed(
                    subject,
                    "it is a superuser or has REPLICATION, so the rotation user may not change it",
                    f"ALTER ROLE {role} NOSUPERUSER NOREPLICATION",
                ),
            )
        if not is_member:
            yield (
                ROLES,
                failed(subject, f"it is no member of {owner}", f"GRANT {identifier(owner)} TO {role}"),
            )
        elif not acts:
            yield (
                ROLES,
                failed(
                    subject,
                    f"it does not act as {owner}, so what it makes belongs to it alone",
                    f"ALTER ROLE {role} SET role TO {identifier(owner)}",
                ),
            )
        elif not is_special:
            yield ROLES, passed(subject, f"it acts as {owner}, a role of which it is a member")

    def _verifiers(self, session: PostgreSqlSession, database: PostgreSqlDatabase) -> Answer:
        [[encryption]] = session.run("SELECT current_setting('password_encryption')")
        if encryption == "scram-sha-256":
            return passed(
                database.name, "passwords that people set become SCRAM verifiers, as those of Lockstep are"
            )
        return warning(
            database.name,
            f"passwords that people set are stored as {encryption}; those of Lockstep are SCRAM verifiers all the same",
            "ALTER SYSTEM SET password_encryption = 'scram-sha-256'; SELECT pg_reload_conf()",
        )

    def _rules(self, session: PostgreSqlSession, database: PostgreSqlDatabase) -> LooksAnswers:
        """Lines of `pg_hba.conf` that would be refused at the next start, where the rotation user may read them."""
        try:
            [[lines]] = session.run(
                "SELECT coalesce(string_agg(line_number::text, ', '), '') FROM pg_hba_file_rules"
                " WHERE error IS NOT NULL"
            )
        except PrivilegeMissingError:
            return
        if lines:
            yield (
                ACCESS,
                failed(
                    database.name,
                    f"pg_hba.conf is not valid, line {lines}: it is not reloaded, and the next start fails",
                    "SELECT line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL",
                ),
            )

    def must_not_try(
        self, session: PostgreSqlSession, database: PostgreSqlDatabase, username: str
    ) -> str | None:
        """See `Looks`."""
        del database
        rows = session.run(
            "SELECT rolcanlogin, coalesce(rolvaliduntil <= now(), false) FROM pg_roles"  # noqa: S608 - as above
            f" WHERE rolname = {literal(username)}"
        )
        if not rows:
            return "there is no such role"
        [[can_log_in, is_over]] = rows
        return None if can_log_in and not is_over else "it is over" if is_over else "it is NOLOGIN"

    # ---- As the account

    def as_user(
        self, session: PostgreSqlSession, database: PostgreSqlDatabase, username: str
    ) -> LooksAnswers:
        """See `Looks`: that the setting takes effect."""
        if database.rotates_itself:
            return
        [[acts_as]] = session.run("SELECT current_user::text")
        owner, subject = database.credential.owner, of_account(database, username)
        if acts_as != owner:
            role = identifier(username)
            command = f"ALTER ROLE {role} SET role TO {identifier(owner)}"
            yield ROLES, failed(subject, f"its sessions act as {acts_as}, not as {owner}", command)

    # ---- Replication

    def position(self, session: PostgreSqlSession) -> str | None:
        """See `Looks`: the end of the write-ahead log."""
        [[position]] = session.run("SELECT pg_current_wal_flush_lsn()::text")
        return str(position)

    def behind(self, session: PostgreSqlSession, position: str) -> bool | None:
        """See `Looks`; what is not in recovery is a proxy in front of the server itself."""
        [[behind]] = session.run(
            "SELECT CASE WHEN pg_is_in_recovery() THEN"
            f" coalesce(pg_last_wal_replay_lsn() < {literal(position)}::pg_lsn, true) END"
        )
        return None if behind is None else bool(behind)

    def keeps_connections(self, session: PostgreSqlSession) -> bool:
        """See `Looks`: Pgpool-II answers this itself, and no server knows the statement."""
        try:
            return session.run("PGPOOL SHOW connection_cache") == [["on"]]
        except DatabaseRejectedError:
            return False


def _usable(subject: str, role: str, *, can_log_in: bool, connections: int) -> Answer:
    if not can_log_in:
        return failed(subject, "it is NOLOGIN", AccountLockedError.advice)
    if 0 <= connections <= _MOST_CONNECTIONS_TOO_FEW:
        return failed(
            subject,
            f"its CONNECTION LIMIT of {connections} is too low for applications and Lockstep",
            f"ALTER ROLE {role} CONNECTION LIMIT -1",
        )
    return passed(subject, "the role exists, and may log in")


def _message(connected: socket.socket) -> tuple[bytes, bytes]:
    """The first message of the server: its kind, and the beginning of what it holds."""
    data = b""
    while len(data) < 9:  # noqa: PLR2004 - kind, length and what an AuthenticationRequest asks
        more = connected.recv(4096)
        if not more:
            raise ConnectionResetError
        data += more
    return data[:1], data[5:]


LOOKS = PostgreSqlLooks()
