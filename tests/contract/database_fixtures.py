"""Databases as the contract suites set them up: a server per engine for the whole session, accounts per test.

A suite asks for these fixtures with `pytest_plugins = ["tests.contract.database_fixtures"]`.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest

from lockstep.databases import Timeouts, open_database
from lockstep.databases.provisioning import ROTATOR, provisioning
from lockstep.model import Engine, Login, SecretStr, Strategy
from lockstep.plan import PLAINTEXT_CONSENT, Credential, DatabaseServer
from lockstep.ports import Database
from sandbox.databases import CertificateAuthority, MariaDbServer, PgserverServer, PostgresServer, available
from sandbox.mysql_fake import MySqlFake, PasswordPolicy
from tests.support.memory import MemoryDatabase, make_plan

DATABASE = "app_db"
ADMIN = Login(ROTATOR, SecretStr("Rotator's-\\pass-1"))
HASTY = Timeouts(connect_seconds=1, io_seconds=1.5, lock_seconds=1)

_numbers = count(1)


class SandboxServer(Protocol):
    """What the servers of the sandbox have in common."""

    port: int

    @property
    def ca_file(self) -> Path | None: ...
    def execute_as_superuser(
        self, sql: str | Sequence[str], *, database: str | None = None
    ) -> list[tuple[Any, ...]]: ...
    def general_log_text(self) -> str: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class DatabaseHarness(Protocol):
    """A server with a credential's accounts, which nobody can use yet."""

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
        """Cut the connections of the rotator admin."""


def login(harness: DatabaseHarness, generation: int, *, username: str | None = None) -> Login:
    """The value of a generation, with a password that must be escaped in any SQL."""
    usernames = harness.credential.usernames
    password = f"Gen{generation}'\\\"%s;--$:{harness.credential.id}"
    return Login(username or usernames[generation % len(usernames)], SecretStr(password))


def make_credential(strategy: Strategy) -> Credential:
    name = f"u{next(_numbers)}"
    return Credential(id=f"contract/{name}", strategy=strategy, username=name, databases=("main",))


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
    def policy(self) -> Iterator[Login]:
        refused = login(self, 3)
        self.database.refuses = lambda password: password == refused.password.reveal()
        yield refused


class SqlHarness:
    """A server that is spoken to with a driver; what its superuser does differs by engine."""

    engine: ClassVar[Engine]
    plaintext: ClassVar[bool] = False

    def __init__(self, server: SandboxServer, strategy: Strategy) -> None:
        self.sandbox = server
        self.credential = make_credential(strategy)
        self.server = self.planned()
        self.database = self.open()
        self.provision()

    def planned(
        self, *, host: str = "localhost", ca_file: Path | None = None, **keys: object
    ) -> DatabaseServer:
        """The server as a plan has it."""
        security = (
            {"plaintext": PLAINTEXT_CONSENT} if self.plaintext else {"tls": {"ca_file": self.sandbox.ca_file}}
        )
        if ca_file:
            security = {"tls": {"ca_file": ca_file}}
        document = {
            "name": "main",
            "engine": self.engine,
            "host": host,
            "port": self.sandbox.port,
            "dbname": DATABASE,
            "admin_secret": "contract/admin",
        }
        return DatabaseServer.model_validate({**document, **security, **keys})

    def open(
        self,
        *,
        server: DatabaseServer | None = None,
        admin: Callable[[], Login] = lambda: ADMIN,
        timeouts: Timeouts = Timeouts(lock_seconds=1),  # noqa: B008  immutable
    ) -> Database:
        return open_database(server or self.server, self.credential, admin, timeouts=timeouts)

    def provision(self) -> None:
        """Run the SQL that a DBA would."""
        made = provisioning(make_plan(), self.credential, self.server)
        rendered = made.render_for({ADMIN.username: ADMIN.password}, os.urandom)
        self.execute(*(statement.reveal() for statement in rendered))

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        return self.sandbox.execute_as_superuser(statements, database=DATABASE)

    def rival(self) -> Database:
        return self.open()

    def refuse_admin(self) -> Database:
        return self.open(admin=lambda: Login(ROTATOR, SecretStr("wrong")))

    @contextmanager
    def unreachable(self) -> Iterator[Database]:
        hasty = self.open(timeouts=HASTY)
        self.sandbox.pause()
        try:
            yield hasty
        finally:
            self.sandbox.resume()


class _MySqlFamilyHarness(SqlHarness):
    sandbox: MariaDbServer | MySqlFake

    def lock_account(self, username: str) -> None:
        self.execute(f"ALTER USER '{username}'@'%' ACCOUNT LOCK")

    def powerless_admin(self) -> Login:
        weak = Login(f"weak{next(_numbers)}", ADMIN.password)
        self.execute(f"CREATE USER {weak.username}@'%' IDENTIFIED BY 'Rotator''s-\\\\pass-1'")
        return weak


class MariaDbHarness(_MySqlFamilyHarness):
    engine = Engine.MARIADB
    sandbox: MariaDbServer

    def end_admin_sessions(self) -> None:
        sessions = self.execute(f"SELECT id FROM information_schema.processlist WHERE user = '{ROTATOR}'")  # noqa: S608
        self.execute(*(f"KILL {number}" for (number,) in sessions))

    def expire_password(self, username: str) -> None:
        self.execute(f"ALTER USER '{username}'@'%' PASSWORD EXPIRE")

    def exhaust_connections(self, username: str) -> None:
        self.execute(f"ALTER USER '{username}'@'%' WITH MAX_CONNECTIONS_PER_HOUR 1")


class MySqlHarness(_MySqlFamilyHarness):
    engine = Engine.MYSQL
    sandbox: MySqlFake

    def end_admin_sessions(self) -> None:
        self.sandbox.cut_connections()

    @contextmanager
    def policy(self) -> Iterator[Login]:
        """A server whose password policy refuses this value."""
        self.sandbox.settings.password_policy = PasswordPolicy(length=100)
        yield login(self, 3)
        self.sandbox.settings.password_policy = None


class PostgresHarness(SqlHarness):
    engine = Engine.POSTGRESQL
    sandbox: PostgresServer | PgserverServer

    def lock_account(self, username: str) -> None:
        self.execute(f"ALTER ROLE {username} NOLOGIN")

    def end_admin_sessions(self) -> None:
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROTATOR}'")  # noqa: S608

    def exhaust_connections(self, username: str) -> None:
        self.execute(f"ALTER ROLE {username} CONNECTION LIMIT 0")

    def powerless_admin(self) -> Login:
        weak = Login(f"weak{next(_numbers)}", ADMIN.password)
        self.execute(f"CREATE ROLE {weak.username} LOGIN PASSWORD 'Rotator''s-\\pass-1'")
        return weak

    @contextmanager
    def policy(self) -> Iterator[Login]:
        """A server with the module passwordcheck: of a verifier it can tell only that it is the username's."""
        self.execute(f"ALTER ROLE {ROTATOR} SET session_preload_libraries = 'passwordcheck'")
        idle = login(self, 3).username
        yield Login(idle, SecretStr(idle))
        self.execute(f"ALTER ROLE {ROTATOR} RESET session_preload_libraries")


class PlaintextPostgresHarness(PostgresHarness):
    plaintext = True


_DUAL, _ALTERNATING = Strategy.DUAL_PASSWORD, Strategy.ALTERNATING_USERS
SQL_WORLDS: dict[str, tuple[str, type[SqlHarness], Strategy]] = {
    "mariadb-dual": ("mariadb_server", MariaDbHarness, _DUAL),
    "mariadb-alternating": ("mariadb_server", MariaDbHarness, _ALTERNATING),
    "mysql-dual": ("mysql_server", MySqlHarness, _DUAL),
    "mysql-alternating": ("mysql_server", MySqlHarness, _ALTERNATING),
    "postgresql": ("postgres_server", PostgresHarness, _ALTERNATING),
    "postgresql-18-plaintext": ("pgserver_server", PlaintextPostgresHarness, _ALTERNATING),
}
MEMORY_WORLDS = {"memory-dual": _DUAL, "memory-alternating": _ALTERNATING}


@pytest.fixture
def world(request: pytest.FixtureRequest) -> DatabaseHarness:
    """The harness that `parametrize(..., indirect=True)` names."""
    if request.param in MEMORY_WORLDS:
        return MemoryHarness(MEMORY_WORLDS[request.param])
    server, harness, strategy = SQL_WORLDS[request.param]
    made: Any = harness(request.getfixturevalue(server), strategy)
    return made  # type: ignore[no-any-return]  # which of the harnesses it is, is known at run time only


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def mariadb_server(authority: CertificateAuthority) -> Iterator[MariaDbServer]:
    require(MariaDbServer)
    # A certificate for one of the names under which the server can be reached.
    certificate = authority.issue("localhost")
    with MariaDbServer(authority=authority, certificate=certificate, general_log=True) as server:
        server.execute_as_superuser(f"CREATE DATABASE {DATABASE}")
        yield server


@pytest.fixture(scope="session")
def postgres_server(authority: CertificateAuthority) -> Iterator[PostgresServer]:
    require(PostgresServer)
    certificate = authority.issue("localhost")
    with PostgresServer(authority=authority, certificate=certificate, general_log=True) as server:
        server.execute_as_superuser(f"CREATE DATABASE {DATABASE}")
        yield server


@pytest.fixture(scope="session")
def pgserver_server() -> Iterator[PgserverServer]:
    require(PgserverServer)
    with PgserverServer() as server:
        server.execute_as_superuser(f"CREATE DATABASE {DATABASE}")
        yield server


@pytest.fixture(scope="session")
def mysql_server(authority: CertificateAuthority) -> Iterator[MySqlFake]:
    certificate = authority.issue("localhost")
    with MySqlFake(certificate.chain_file, certificate.key_file, ca_file=authority.ca_file) as server:
        server.execute_as_superuser(f"CREATE DATABASE {DATABASE}")
        yield server


def require(server: type[Any]) -> None:
    """Skip where the machine cannot start a server."""
    availability = available()[server]
    if not availability:
        pytest.skip(availability.missing)
