"""What PostgreSQL can be asked beside the rules, for `lockstep doctor` (see `lockstep.databases.inspect`)."""

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from pg8000.native import identifier, literal  # type: ignore[import-untyped]  # it ships no types

from lockstep.databases.base import CHANGE_OWN
from lockstep.databases.findings import Finding, failed
from lockstep.databases.inspect import ACCOUNTS, RIGHTS, VERIFY_HOSTS, Inspector, of_replicas
from lockstep.databases.postgresql import PostgreSqlDatabase, PostgreSqlSession
from lockstep.databases.rules import Rule
from lockstep.protocol.errors import DatabaseRejectedError

_OF_ITSELF = frozenset({"server", "accounts"})
"""What the rules of a rotation user that rotates itself are about: it acts as no owner role."""


class PostgreSqlInspector(Inspector[PostgreSqlDatabase]):
    """See `lockstep.databases.inspect.Inspector`."""

    # ---- Before a login

    def connect(self, tls: ssl.SSLContext) -> socket.socket:
        """See `Inspector`."""
        self.database.deadline_guard()
        return self.database.open_socket(tls)

    # ---- As the rotation user

    def rules(self) -> list[Rule]:
        """See `Inspector`."""
        return [r for r in super().rules() if not self.database.rotates_itself or r.about in _OF_ITSELF]

    def ask(self, session: PostgreSqlSession, sql: str) -> Sequence[Sequence[Any]]:
        """See `Inspector`."""
        return session.run(sql)

    def beside_rules(self, session: PostgreSqlSession) -> Iterator[Finding]:
        """See `Inspector`: replicas, and what lets a rotation user change itself."""
        # Who may not see the statistics of others sees that there is a sender, and nothing of it.
        stats = "'pg_read_all_stats'"
        session.run(f"SELECT set_config('role', {stats}, false) WHERE pg_has_role({stats}, 'MEMBER')")
        replicas = session.run(
            "SELECT host(client_addr) FROM pg_stat_replication AS r"
            " LEFT JOIN pg_replication_slots AS s ON s.active_pid = r.pid"
            " WHERE coalesce(sync_state, '') NOT IN ('sync', 'quorum') AND slot_type IS DISTINCT FROM 'logical'"
        )
        session.run("RESET ROLE")
        database = self.database
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

    def of_account(self, session: PostgreSqlSession, username: str) -> Iterator[Finding]:
        """See `Inspector`: that the setting of the owner role takes effect."""
        [[acts_as]] = session.run("SELECT current_user::text")
        database, owner = self.database, self.database.credential.owner
        if acts_as != owner and not database.rotates_itself:
            says = f"its sessions act as {acts_as}, not as {owner}"
            fix = f"ALTER ROLE {identifier(username)} SET role TO {identifier(owner)}"
            yield failed(ACCOUNTS, f"{database.name} {username}", says, fix)

    # ---- As a verify host

    def of_verify_host(self, session: PostgreSqlSession, username: str) -> Iterator[Finding]:
        """See `Inspector`: Pgpool-II answers this itself, and no server knows the statement."""
        [[is_replica]] = session.run("SELECT pg_is_in_recovery()")
        if is_replica:
            return
        with suppress(DatabaseRejectedError):
            if session.run("PGPOOL SHOW connection_cache") == [["on"]]:
                says = (
                    "it is Pgpool-II with connection_cache, which takes a password that a kept connection had"
                )
                fix = "connection_cache = off in pgpool.conf; see docs/deploy.md#verify-hosts"
                yield failed(VERIFY_HOSTS, f"{self.database.name} {username}", says, fix)
