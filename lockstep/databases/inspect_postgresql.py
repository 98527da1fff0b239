"""What PostgreSQL can be asked beside the rules, for `lockstep doctor` (see `lockstep.databases.inspect`)."""

import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Any

from pg8000.native import identifier, literal  # type: ignore[import-untyped]  # it ships no types

from lockstep.databases.base import CHANGE_OWN
from lockstep.databases.findings import Finding, failed
from lockstep.databases.inspect import ACCOUNTS, RIGHTS, AccountChecks, of_replicas
from lockstep.databases.postgresql import PostgreSqlDatabase, PostgreSqlSession
from lockstep.databases.rules import Rule, rules
from lockstep.protocol.errors import DatabaseRejectedError
from lockstep.protocol.model import Engine

_OF_ITSELF = frozenset({"server", "accounts"})
"""What the rules of a rotation user that rotates itself are about: it acts as no owner role."""


class PostgreSqlChecks(AccountChecks):
    """See `lockstep.databases.inspect.AccountChecks`."""

    # ---- Before a login

    def connect(self, database: PostgreSqlDatabase, tls: ssl.SSLContext | None) -> socket.socket:
        """See `AccountChecks`."""
        database.deadline_guard()
        return database.open_socket(tls)

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
