"""Databases as the contract suites set them up: a server per engine for the whole session, accounts per test.

A suite asks for its fixtures with `pytest_plugins = ["tests.contract.database_fixtures"]`.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple, TypeAlias

import pytest
from msgspec import structs

from lockstep.operate.plan_sql.scripts import provisioning
from lockstep.protocol.deadlines import DatabaseTimeouts as Timeouts
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
from lockstep.runtime.clouds import open_database
from sandbox.servers import verifier_statement
from tests.support.memory import MemoryDatabase, make_plan

DATABASE = "app_db"
ADMIN = Login(ROTATION_USER, SecretStr("Rotator's-\\pass-1"))
HASTY = Timeouts(connect_seconds=1, io_seconds=1.1, lock_seconds=1)

# Part of each password: what must be escaped in SQL, and what is searched in logs and errors.
NEEDLE = "'\\\"%s;--$:"
MAX_REFUSALS = 2
"""After so many in a row a server of MySQL or MariaDB locks an account, in the suites about it."""

Value: TypeAlias = int | CredentialValue
"""A generation, with the password that the harness gives it, or a value of a test's own."""

_numbers = count(1)


class Kind(NamedTuple):
    """A fixture for a server, and the credential that is made there."""

    server: str
    engine: Engine
    strategy: Strategy
    plaintext: bool = False


_DUAL, _ALTERNATING = Strategy.DUAL_PASSWORD, Strategy.ALTERNATING_USERS
SQL_WORLDS = {
    "mariadb-dual": Kind("mariadb_server", Engine.MARIADB, _DUAL),
    "mariadb-alternating": Kind("mariadb_server", Engine.MARIADB, _ALTERNATING),
    "mysql-dual": Kind("mysql_server", Engine.MYSQL, _DUAL),
    "mysql-alternating": Kind("mysql_server", Engine.MYSQL, _ALTERNATING),
    "postgresql": Kind("postgres_server", Engine.POSTGRESQL, _ALTERNATING),
    "postgresql-18-plaintext": Kind("pgserver_server", Engine.POSTGRESQL, _ALTERNATING, plaintext=True),
}
PAIRED_WORLDS = {
    name: kind._replace(server=kind.server.replace("_server", "_pair"))
    for name, kind in SQL_WORLDS.items()
    if not kind.plaintext
}
"""On a primary with a replica."""
MEMORY_WORLDS = {"memory-dual": _DUAL, "memory-alternating": _ALTERNATING}
MARIADB, MYSQL = ("mariadb-dual", "mariadb-alternating"), ("mysql-dual", "mysql-alternating")
POSTGRESQL = ("postgresql", "postgresql-18-plaintext")
FAMILY = (*MARIADB, *MYSQL)
EACH_ENGINE = ("mariadb-dual", "mysql-dual", "postgresql")


def worlds(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("world", names, indirect=True)


every_server, each_engine = worlds(*SQL_WORLDS), worlds(*EACH_ENGINE)


@contextmanager
def fails(kind: type[LockstepError], match: str | None = None) -> Iterator[None]:
    """As `pytest.raises`; also checks that the printed error holds no password, ours or foreign."""
    with pytest.raises(kind, match=match) as caught:
        yield
    assert type(caught.value) is kind
    printed = "".join(traceback.format_exception(caught.value))
    for secret in (NEEDLE, ADMIN.password.reveal(), "pymysql.err", "pg8000.exceptions"):
        assert secret not in printed


def make_credential(strategy: Strategy) -> Credential:
    name = f"u{next(_numbers)}"
    usernames = (name,) if strategy is Strategy.DUAL_PASSWORD else (f"{name}_a", f"{name}_b")
    planned = make_plan(strategy=strategy).credentials[0]
    return structs.replace(planned, id=f"contract/{name}", usernames=usernames, owner=f"{name}_owner")


class Harness:
    """A server with a credential's accounts, which no password opens yet; a test names values by generation."""

    credential: Credential
    database: Database

    def value(self, generation: Value, *, username: str | None = None) -> CredentialValue:
        """The value of a generation, with a password that must be escaped in any SQL."""
        if isinstance(generation, CredentialValue):
            return generation
        usernames = self.credential.usernames
        password = f"Gen{generation}{NEEDLE}{self.credential.id}"
        login = Login(username or usernames[generation % len(usernames)], SecretStr(password))
        return CredentialValue(generation, login)

    def login(self, generation: Value) -> Login:
        return self.value(generation).login

    def wrong(self, generation: Value) -> Login:
        """A password that the account of a generation does not have."""
        return Login(self.login(generation).username, SecretStr("wrong"))

    def stage(self, current: Value | None, pending: Value, by: Database | None = None) -> None:
        base = None if current is None else self.value(current)
        with (by or self.database).exclusive() as stager:
            stager.stage(current=base, pending=self.value(pending))

    def retire(self, *, drop: Value, keep: Value) -> Login:
        with self.database.exclusive() as stager:
            return stager.retire(drop=self.value(drop), keep=self.value(keep))

    def accepted(self, *generations: Value) -> list[bool]:
        return [self.database.accepts(self.login(generation)) for generation in generations]


def enter(database: Database) -> None:
    with database.exclusive():
        pass


class MemoryHarness(Harness):
    database: MemoryDatabase

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


def planned(engine: Engine, port: int, tls: Tls | None, host: str = "localhost") -> DatabaseServer:
    """A server as a plan has it."""
    admin = AdminSecret(aws="contract/admin", oci="contract/admin")
    return DatabaseServer(
        name="main", engine=engine, host=host, port=port, dbname=DATABASE, tls=tls, admin=admin
    )


class SqlHarness(Harness):
    """A real server of the sandbox, which is spoken to with a driver.

    Attributes:
        sandbox: It; the adapter goes through the front of a MySQL server, the superuser does not.
    """

    def __init__(self, sandbox: Any, kind: Kind) -> None:  # noqa: ANN401 - one of four
        self.sandbox, self.kind, self.engine = sandbox, kind, kind.engine
        self.credential = make_credential(kind.strategy)
        tls = None if kind.plaintext else Tls(ca_file=sandbox.ca_file)
        self.server = planned(kind.engine, sandbox.port, tls)
        self.database = self.open()
        self.provision()

    @property
    def is_postgresql(self) -> bool:
        return self.engine is Engine.POSTGRESQL

    def open(
        self,
        *,
        admin: Callable[[], Login] = lambda: ADMIN,
        timeouts: Timeouts = Timeouts(lock_seconds=1),  # noqa: B008  immutable
        deadline_guard: DeadlineGuard = always,
        **changed: object,
    ) -> Database:
        """An adapter, to a server that the plan describes as changed."""
        server = structs.replace(self.server, **changed)
        return open_database(server, self.credential, admin, timeouts=timeouts, deadline_guard=deadline_guard)

    def provision(self, *, existing: bool = False) -> None:
        """Run what `lockstep plan sql` prints, as a DBA does, and give the rotation user its password."""
        made = provisioning(make_plan(), self.credential, self.server, existing=existing)
        self.execute(*made.statements, verifier_statement(self.engine, ADMIN))

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.sandbox.execute_as_superuser(statements, database=DATABASE)
        return found

    def names(self, username: str | None = None) -> dict[str, str]:
        """What stands in the statements of tables of tests; by default the account of generation 1."""
        username = username or self.login(1).username
        at = "{}" if self.is_postgresql else "'{}'@'%'"
        return {
            "username": username,
            "account": at.format(username),
            "alter": f"ALTER {'ROLE' if self.is_postgresql else 'USER'} {at.format(username)}",
            "rotator": at.format(ROTATION_USER),
            "owner": self.credential.owner or "",
            "db": DATABASE,
        }

    def run(self, statements: str, username: str | None = None, **more: str) -> list[tuple[Any, ...]]:
        """Run statements with semicolons between them, and names of `names` in them."""
        words = {**self.names(username), **more}
        return self.execute(*(one.format_map(words) for one in statements.split("; "))) if statements else []

    def either(self, family: str, postgresql: str, username: str | None = None) -> list[tuple[Any, ...]]:
        """As `run`, with the statements of the engine."""
        return self.run(postgresql if self.is_postgresql else family, username)

    def rival(self) -> Database:
        return self.open()

    def lock_account(self, username: str) -> None:
        self.either("{alter} ACCOUNT LOCK", "{alter} NOLOGIN", username)

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

    def end_admin_sessions(self) -> None:
        listed = "SELECT id FROM information_schema.processlist WHERE user = '{username}'"
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{username}'"
        for (number,) in self.either(listed, ended, ROTATION_USER):
            if not self.is_postgresql:
                self.execute(f"KILL {number}")

    def powerless_admin(self) -> Login:
        """Make an account that may connect, and nothing else."""
        weak = Login(f"weak{next(_numbers)}", SecretStr("weak"))
        self.either(
            "CREATE USER {account} IDENTIFIED BY 'weak'",
            "CREATE ROLE {account} LOGIN PASSWORD 'weak'; GRANT CONNECT ON DATABASE {db} TO {account}",
            weak.username,
        )
        return weak

    def verifier_of(self, username: str) -> str:
        """What the server stores for an account."""
        of_family = "SELECT authentication_string FROM mysql.user WHERE user = '{username}'"
        of_role = "SELECT rolpassword FROM pg_authid WHERE rolname = '{username}'"
        return str(self.either(of_family, of_role, username)[0][0])

    @contextmanager
    def limited(self, limit: int) -> Iterator[None]:
        """So many wrong passwords in a row lock an account; PostgreSQL has no such limit."""
        if self.engine is Engine.MARIADB:
            self.execute(f"SET GLOBAL max_password_errors = {limit}")
        elif self.engine is Engine.MYSQL:
            for username in self.credential.usernames:
                self.run(f"{{alter}} FAILED_LOGIN_ATTEMPTS {limit} PASSWORD_LOCK_TIME UNBOUNDED", username)
        yield
        if self.engine is Engine.MARIADB:
            self.execute("SET GLOBAL max_password_errors = DEFAULT", "FLUSH PRIVILEGES")
