"""What PostgreSQL can be asked beside the rules, for `lockstep doctor` (see `lockstep.databases.inspect`).

Every role sees `pg_roles`, memberships and settings; `pg_hba.conf` only a superuser. So its rules are asked as a client
meets them: the server says how a role has to authenticate before a password is shown. A client that then goes away is
one that has to ask a person for the password, as psql is, and counts as no refusal
(https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP).
"""

import socket
import ssl
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any

from pg8000.native import identifier, literal  # type: ignore[import-untyped]  # it ships no types

from lockstep.databases.base import CHANGE_OWN
from lockstep.databases.findings import Finding, failed, passed
from lockstep.databases.inspect import ACCESS, ACCOUNTS, RIGHTS, AccountChecks, of_replicas
from lockstep.databases.postgresql import PostgreSqlDatabase, PostgreSqlSession
from lockstep.databases.rules import Rule, rules
from lockstep.protocol.errors import DatabaseRejectedError, DatabaseUnreachableError
from lockstep.protocol.model import Engine

_PROTOCOL = 196608  # 3.0
_OF_ITSELF = frozenset({"server", "accounts"})
"""What the rules of a rotation user that rotates itself are about: it acts as no owner role."""


class AuthRequest(Enum):
    """What the server wants of a role (AuthenticationRequest)."""

    NOTHING = 0
    CLEARTEXT = 3
    MD5 = 5
    GSS = 7
    SSPI = 9
    SASL = 10


_WITH_PASSWORD = frozenset({AuthRequest.CLEARTEXT, AuthRequest.MD5, AuthRequest.SASL})


class PostgreSqlChecks(AccountChecks):
    """See `lockstep.databases.inspect.AccountChecks`."""

    # ---- Before a login

    def connect(self, database: PostgreSqlDatabase, tls: ssl.SSLContext | None) -> socket.socket:
        """See `AccountChecks`."""
        database.deadline_guard()
        return database.open_socket(tls)

    def without_login(self, database: PostgreSqlDatabase, username: str) -> Iterator[Finding]:
        """See `AccountChecks`: what `pg_hba.conf` demands of the role from here."""
        subject, how = f"{database.name} {username}", "with TLS" if database.tls else "without TLS"
        told = self._startup(database, username)
        rule = "hostssl" if database.tls else "host"
        line = f"{rule} {database.server.dbname} {username} <this client's network> scram-sha-256"
        fix = (
            f"put a line into pg_hba.conf, above those that match now: {line}; then: SELECT pg_reload_conf()"
        )
        if isinstance(told, str):
            yield failed(ACCESS, subject, f"the server lets it not in from here, {how}: {told}", fix)
        elif told is AuthRequest.NOTHING:
            yield failed(ACCESS, subject, "pg_hba.conf trusts it from here: every password logs in", fix)
        elif told in _WITH_PASSWORD:
            yield passed(ACCESS, subject, f"pg_hba.conf wants a password of it from here, {how}")
        else:
            yield failed(ACCESS, subject, f"pg_hba.conf wants {told.name} of it from here, no password", fix)

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

    def rules(self, database: PostgreSqlDatabase) -> list[Rule]:
        """See `AccountChecks`."""
        known = rules(Engine.POSTGRESQL, database.credential)
        return [rule for rule in known if not database.rotates_itself or rule.about in _OF_ITSELF]

    def ask(self, session: PostgreSqlSession, sql: str) -> Sequence[Sequence[Any]]:
        """See `AccountChecks`."""
        return session.run(sql)

    def as_admin(self, session: PostgreSqlSession, database: PostgreSqlDatabase) -> Iterator[Finding]:
        """See `AccountChecks`: replicas, and what lets a rotation user change itself."""
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
        if not database.rotates_itself:
            return
        function = f"{identifier(database.credential.owner)}.{CHANGE_OWN}(name, text)"
        [[allowed]] = session.run(
            f"SELECT coalesce(has_function_privilege(to_regprocedure({literal(function)})::oid, 'EXECUTE'), false)"
        )
        if not allowed:
            says = f"it may not call {function}, by which it changes itself"
            yield failed(RIGHTS, database.name, says, "lockstep plan sql")

    # ---- As the account

    def as_user(
        self, session: PostgreSqlSession, database: PostgreSqlDatabase, username: str
    ) -> Iterator[Finding]:
        """See `AccountChecks`: that the setting of the owner role takes effect."""
        [[acts_as]] = session.run("SELECT current_user::text")
        owner = database.credential.owner
        if acts_as != owner and not database.rotates_itself:
            says = f"its sessions act as {acts_as}, not as {owner}"
            fix = f"ALTER ROLE {identifier(username)} SET role TO {identifier(owner)}"
            yield failed(ACCOUNTS, f"{database.name} {username}", says, fix)

    # ---- As a verify host

    def keeps_connections(self, session: PostgreSqlSession) -> bool:
        """See `AccountChecks`: Pgpool-II answers this itself, and no server knows the statement."""
        [[is_replica]] = session.run("SELECT pg_is_in_recovery()")
        if is_replica:
            return False
        try:
            return session.run("PGPOOL SHOW connection_cache") == [["on"]]
        except DatabaseRejectedError:
            return False


def _message(connected: socket.socket) -> tuple[bytes, bytes]:
    """The first message of the server: its kind, and the beginning of what it holds."""
    data = b""
    while len(data) < 9:  # noqa: PLR2004 - kind, length and what an AuthenticationRequest asks
        more = connected.recv(4096)
        if not more:
            raise ConnectionResetError
        data += more
    return data[:1], data[5:]
