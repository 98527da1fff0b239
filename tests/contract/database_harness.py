"""Databases as the contract suites set them up: a server per engine for the whole session, accounts per test.

A suite asks for these fixtures with `pytest_plugins = ["tests.contract.database_fixtures"]`.
"""

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest
from msgspec import structs

from lockstep.operate.plan_sql.scripts import provisioning
from lockstep.protocol.deadlines import DeadlineGuard, always
from lockstep.protocol.errors import LockstepError
from lockstep.protocol.model import (
    ROTATION_USER,
    AdminSecret,
    Credential,
    CredentialValue,
    DatabaseServer,
    Engine,
    Login,
    SecretStr,
    Strategy,
    Tls,
)
from lockstep.protocol.ports import Database
from lockstep.runtime.databases import Timeouts, open_database
from sandbox.emulators.databases import MariaDbServer, PgserverServer, PostgresServer
from sandbox.emulators.databases.replicas import Replica
from sandbox.growing import Growing
from sandbox.servers import verifier_statement
from tests.support.memory import MemoryDatabase, make_plan
from tests.support.statement_faults import FrontedMySqlServer, StatementFaults

DATABASE = "app_db"
ADMIN = Login(ROTATION_USER, SecretStr("Rotator's-\\pass-1"))
HASTY = Timeouts(connect_seconds=1, io_seconds=1.1, lock_seconds=1)

# Part of each password: what must be escaped in SQL, and what is searched in logs and errors.
NEEDLE = "'\\\"%s;--$:"

_numbers = count(1)


class SandboxServer(Protocol):
    """What the servers of the sandbox have in common."""

    port: int

    @property
    def product(self) -> str: ...
    @property
    def ca_file(self) -> Path | None: ...
    def execute_as_superuser(
        self, sql: str | Sequence[str], *, database: str | None = None
    ) -> list[tuple[Any, ...]]: ...
    def watch_general_log(self) -> Growing[str]: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


MAX_REFUSALS = 2
"""After so many in a row a replica of MySQL or MariaDB locks an account, in the suites about replicas."""


@dataclass(frozen=True)
class Pair:
    """A primary, and a replica that lags for as long as it is told to."""

    primary: SandboxServer
    replica: SandboxServer
    lag: Replica


class DatabaseHarness(Protocol):
    """A server with a credential's accounts, which no password opens yet."""

    credential: Credential

    @property
    def database(self) -> Database:
        """The adapter."""

    def rival(self) -> Database:
        """The same database through another adapter, as another runner has it."""

    def lock_account(self, username: str) -> None:
        """Bar an account from logging in."""

    def refuse_admin(self) -> Database:
        """An adapter with an admin login that is wrong."""

    def unreachable(self) -> AbstractContextManager[Database]:
        """An adapter to a server that does not answer inside."""

    def end_admin_sessions(self) -> None:
        """Cut the connections of the rotation user."""


def value_of(harness: DatabaseHarness, generation: int, *, username: str | None = None) -> CredentialValue:
    """The value of a generation, with a password that must be escaped in any SQL."""
    usernames = harness.credential.usernames
    password = f"Gen{generation}{NEEDLE}{harness.credential.id}"
    login = Login(username or usernames[generation % len(usernames)], SecretStr(password))
    return CredentialValue(generation, login)


@contextmanager
def fails(kind: type[LockstepError]) -> Iterator[None]:
    """As `pytest.raises`; also checks that the printed error holds no password, ours or foreign."""
    with pytest.raises(kind) as caught:
        yield
    assert type(caught.value) is kind
    printed = "".join(traceback.format_exception(caught.value))
    assert NEEDLE not in printed
    assert ADMIN.password.reveal() not in printed
    assert "pymysql.err" not in printed
    assert "pg8000.exceptions" not in printed


def make_credential(strategy: Strategy) -> Credential:
    name = f"u{next(_numbers)}"
    usernames = (name,) if strategy is Strategy.DUAL_PASSWORD else (f"{name}_a", f"{name}_b")
    planned = make_plan(strategy=strategy).credentials[0]
    return structs.replace(planned, id=f"contract/{name}", usernames=usernames, owner=f"{name}_owner")


class MemoryHarness:
    def __init__(self, strategy: Strategy) -> None:
        self.credential = make_credential(strategy)
        self.database = MemoryDatabase("main", strategy, self.credential.usernames)

    def rival(self) -> Database:
        return self.database

    def lock_account(self, username: str) -> None:
        self.database.accounts[username].locked = True

    def refuse_admin(self) -> Database:
        self.database.admin_refused = True
        return self.database

    @contextmanager
    def unreachable(self) -> Iterator[Database]:
        self.database.unreachable = True
        yield self.database
        self.database.unreachable = False

    def end_admin_sessions(self) -> None:
        self.database.kill_connections()

    @contextmanager
    def policy(self) -> Iterator[CredentialValue]:
        refused = value_of(self, 3)
        self.database.refuses = lambda password: password == refused.login.password.reveal()
        yield refused


class SqlHarness(ABC):
    """A server that is spoken to with a driver; what its superuser does differs by engine."""

    engine: ClassVar[Engine]
    plaintext: ClassVar[bool] = False

    def __init__(self, server: SandboxServer, strategy: Strategy) -> None:
        self.sandbox = server
        self.credential = make_credential(strategy)
        self.server = self.planned()
        self.database = self.open()
        self.provision()

    def planned(self, *, host: str = "localhost", ca_file: Path | None = None) -> DatabaseServer:
        """The server as a plan has it, or almost."""
        return DatabaseServer(
            name="main",
            engine=self.engine,
            host=host,
            port=self.sandbox.port,
            dbname=DATABASE,
            tls=None if self.plaintext else Tls(ca_file=ca_file or self.sandbox.ca_file),
            admin=AdminSecret(aws="contract/admin", oci="contract/admin"),
        )

    def open(
        self,
        *,
        server: DatabaseServer | None = None,
        admin: Callable[[], Login] = lambda: ADMIN,
        timeouts: Timeouts = Timeouts(lock_seconds=1),  # noqa: B008  immutable
        deadline_guard: DeadlineGuard = always,
    ) -> Database:
        return open_database(
            server or self.server, self.credential, admin, timeouts=timeouts, deadline_guard=deadline_guard
        )

    def provision(self) -> None:
        """Run the SQL that a DBA would."""
        self.run_script()

    def run_script(self, *, existing: bool = False) -> None:
        """Run what `lockstep plan sql` prints, and give the rotation user its password."""
        made = provisioning(make_plan(), self.credential, self.server, existing=existing)
        self.execute(*made.statements, verifier_statement(self.server.engine, ADMIN))

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        return self.sandbox.execute_as_superuser(statements, database=DATABASE)

    def rival(self) -> Database:
        return self.open()

    def refuse_admin(self) -> Database:
        return self.open(admin=lambda: Login(ROTATION_USER, SecretStr("wrong")))

    @contextmanager
    def unreachable(self) -> Iterator[Database]:
        hasty = self.open(timeouts=HASTY)
        self.sandbox.pause()
        try:
            yield hasty
        finally:
            self.sandbox.resume()

    @abstractmethod
    def lock_account(self, username: str) -> None:
        """See `DatabaseHarness`."""

    @abstractmethod
    def end_admin_sessions(self) -> None:
        """See `DatabaseHarness`."""

    @abstractmethod
    def exhausted(self, username: str) -> AbstractContextManager[None]:
        """Let an account have no connections left."""

    @abstractmethod
    def revoke_rights(self, username: str) -> None:
        """Take from an account its rights on the database."""

    @abstractmethod
    def drop_account(self, username: str) -> None:
        """Remove an account."""

    @abstractmethod
    def powerless_admin(self) -> Login:
        """Make an account that may connect, and nothing else."""

    @abstractmethod
    def verifier_of(self, username: str) -> str:
        """What the server stores for an account."""


class MySqlFamilyHarness(SqlHarness):
    sandbox: MariaDbServer | FrontedMySqlServer

    def lock_account(self, username: str) -> None:
        self.execute(f"ALTER USER '{username}'@'%' ACCOUNT LOCK")

    def expire_password(self, username: str) -> None:
        self.execute(f"ALTER USER '{username}'@'%' PASSWORD EXPIRE")

    def revoke_rights(self, username: str) -> None:
        self.execute(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM '{username}'@'%'")

    def drop_account(self, username: str) -> None:
        self.execute(f"DROP USER '{username}'@'%'")

    def powerless_admin(self) -> Login:
        weak = Login(f"weak{next(_numbers)}", SecretStr("weak"))
        self.execute(f"CREATE USER {weak.username}@'%' IDENTIFIED BY 'weak'")
        return weak

    def verifier_of(self, username: str) -> str:
        rows = self.execute(f"SELECT authentication_string FROM mysql.user WHERE user = '{username}'")  # noqa: S608
        return str(rows[0][0])

    def end_admin_sessions(self) -> None:
        sessions = self.execute(
            f"SELECT id FROM information_schema.processlist WHERE user = '{ROTATION_USER}'"  # noqa: S608
        )
        if sessions:
            self.execute(*(f"KILL {number}" for (number,) in sessions))

    @contextmanager
    def exhausted(self, username: str) -> Iterator[None]:
        """An account that has no connections left."""
        self.execute(f"ALTER USER '{username}'@'%' WITH MAX_CONNECTIONS_PER_HOUR 1")
        assert self.database.accepts(value_of(self, 1).login)
        yield


class MariaDbHarness(MySqlFamilyHarness):
    engine = Engine.MARIADB
    sandbox: MariaDbServer


class MySqlHarness(MySqlFamilyHarness):
    """The adapter goes through the server's front, the superuser does not."""

    engine = Engine.MYSQL
    sandbox: FrontedMySqlServer

    @property
    def faults(self) -> StatementFaults:
        return self.sandbox.faults

    @contextmanager
    def strict_policy(self) -> Iterator[None]:
        """See `FrontedMySqlServer.set_strict_policy`."""
        self.sandbox.set_strict_policy(on=True)
        yield
        self.sandbox.set_strict_policy(on=False)


class PostgresHarness(SqlHarness):
    engine = Engine.POSTGRESQL
    sandbox: PostgresServer | PgserverServer

    def lock_account(self, username: str) -> None:
        self.execute(f"ALTER ROLE {username} NOLOGIN")

    def end_admin_sessions(self) -> None:
        self.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROTATION_USER}'"  # noqa: S608
        )

    def revoke_rights(self, username: str) -> None:
        self.execute(f"REVOKE {self.credential.owner} FROM {username}")

    def drop_account(self, username: str) -> None:
        self.execute(f"DROP ROLE {username}")

    def powerless_admin(self) -> Login:
        weak = Login(f"weak{next(_numbers)}", SecretStr("weak"))
        self.execute(
            f"CREATE ROLE {weak.username} LOGIN PASSWORD 'weak'",
            f"GRANT CONNECT ON DATABASE {DATABASE} TO {weak.username}",
        )
        return weak

    def verifier_of(self, username: str) -> str:
        rows = self.execute(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{username}'")  # noqa: S608
        return str(rows[0][0])

    @contextmanager
    def exhausted(self, username: str) -> Iterator[None]:
        """An account that has no connections left."""
        self.execute(f"ALTER ROLE {username} CONNECTION LIMIT 0")
        yield

    @contextmanager
    def policy(self) -> Iterator[CredentialValue]:
        """A server with the module passwordcheck: of a verifier it can tell only that it is the username's."""
        self.execute(f"ALTER ROLE {ROTATION_USER} SET session_preload_libraries = 'passwordcheck'")
        idle = value_of(self, 3).login.username
        yield CredentialValue(3, Login(idle, SecretStr(idle)))
        self.execute(f"ALTER ROLE {ROTATION_USER} RESET session_preload_libraries")


class PlaintextPostgresHarness(PostgresHarness):
    plaintext = True


@contextmanager
def limited(world: SqlHarness, limit: int) -> Iterator[None]:
    """So many wrong passwords in a row lock an account; PostgreSQL has no such limit."""
    if isinstance(world, MariaDbHarness):
        world.execute(f"SET GLOBAL max_password_errors = {limit}")
    elif isinstance(world, MySqlHarness):
        option = f"FAILED_LOGIN_ATTEMPTS {limit} PASSWORD_LOCK_TIME UNBOUNDED"
        world.execute(*(f"ALTER USER '{u}'@'%' {option}" for u in world.credential.usernames))
    yield
    if isinstance(world, MariaDbHarness):
        world.execute("SET GLOBAL max_password_errors = DEFAULT", "FLUSH PRIVILEGES")


_DUAL, _ALTERNATING = Strategy.DUAL_PASSWORD, Strategy.ALTERNATING_USERS
SQL_WORLDS: dict[str, tuple[str, type[SqlHarness], Strategy]] = {
    "mariadb-dual": ("mariadb_server", MariaDbHarness, _DUAL),
    "mariadb-alternating": ("mariadb_server", MariaDbHarness, _ALTERNATING),
    "mysql-dual": ("mysql_server", MySqlHarness, _DUAL),
    "mysql-alternating": ("mysql_server", MySqlHarness, _ALTERNATING),
    "postgresql": ("postgres_server", PostgresHarness, _ALTERNATING),
    "postgresql-18-plaintext": ("pgserver_server", PlaintextPostgresHarness, _ALTERNATING),
}
# On a primary with a replica: `tests.contract.replica_fixtures`.
PAIRED_WORLDS: dict[str, tuple[str, type[SqlHarness], Strategy]] = {
    name: (server.replace("_server", "_pair"), harness, strategy)
    for name, (server, harness, strategy) in SQL_WORLDS.items()
    if harness is not PlaintextPostgresHarness
}
MEMORY_WORLDS = {"memory-dual": _DUAL, "memory-alternating": _ALTERNATING}
