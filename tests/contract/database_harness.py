"""Real databases as the contract suites set them up: servers for the whole session, accounts for each test, and lives.

A suite asks for the fixtures with `pytest_plugins = ["tests.contract.database_harness"]`.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeAlias

import pytest
from msgspec import structs

from lockstep.databases import mariadb
from lockstep.databases.findings import HERE, Finding, Outcome
from lockstep.databases.inspect import Inspector
from lockstep.operate.doctor.servers import EVERY_CHECK, Databases
from lockstep.operate.plan_sql.scripts import provisioning
from lockstep.protocol import model
from lockstep.protocol.deadlines import DatabaseTimeouts as Timeouts
from lockstep.protocol.deadlines import DeadlineGuard, always
from lockstep.protocol.errors import LockstepError
from lockstep.protocol.ports import Database
from lockstep.protocol.workers import one_after_the_other
from lockstep.runtime.clouds import inspector_of, open_database
from sandbox.emulators import databases as servers
from sandbox.emulators.databases.replicas import BINARY_LOG, MariaDbReplica, MySqlReplica, PostgresReplica
from sandbox.servers import verifier_statement
from tests.support.memory import FakeClock, make_plan
from tests.support.memory_database import MemoryDatabase, Refusals
from tests.support.servers import require
from tests.support.statement_faults import FrontedMySqlServer
from tests.support.world import INTERVAL_SECONDS, make_world, rotate, rotate_again

DATABASE = "app_db"
ADMIN = model.Login(model.ROTATION_USER, model.SecretStr("Rotator's-\\pass-1"))

# Part of each password: what must be escaped in SQL, and what is searched in logs and errors.
NEEDLE = "'\\\"%s;--$:"
MAX_REFUSALS = 2
"""After so many in a row a server of MySQL or MariaDB locks an account, in the suites about it."""

Value: TypeAlias = int | model.CredentialValue
"""A generation, with the password that the harness gives it, or a value of a test's own."""

_numbers = count(1)


class Kind(NamedTuple):
    """A fixture for a server, and the credential that is made there."""

    server: str
    engine: model.Engine
    strategy: model.Strategy
    plaintext: bool = False


_DUAL, _ALTERNATING = model.Strategy.DUAL_PASSWORD, model.Strategy.ALTERNATING_USERS
SQL_WORLDS = {
    "mariadb-dual": Kind("mariadb_server", model.Engine.MARIADB, _DUAL),
    "mariadb-alternating": Kind("mariadb_server", model.Engine.MARIADB, _ALTERNATING),
    "mysql-dual": Kind("mysql_server", model.Engine.MYSQL, _DUAL),
    "mysql-alternating": Kind("mysql_server", model.Engine.MYSQL, _ALTERNATING),
    "postgresql": Kind("postgres_server", model.Engine.POSTGRESQL, _ALTERNATING),
    "postgresql-18-plaintext": Kind("pgserver_server", model.Engine.POSTGRESQL, _ALTERNATING, plaintext=True),
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


def make_credential(strategy: model.Strategy) -> model.Credential:
    name = f"u{next(_numbers)}"
    usernames = (name,) if strategy is model.Strategy.DUAL_PASSWORD else (f"{name}_a", f"{name}_b")
    planned = make_plan(strategy=strategy).credentials[0]
    return structs.replace(planned, id=f"contract/{name}", usernames=usernames, owner=f"{name}_owner")


class Harness:
    """A server with a credential's accounts, which no password opens yet; a test names values by generation."""

    credential: model.Credential
    database: Database

    def value(self, generation: Value, *, username: str | None = None) -> model.CredentialValue:
        """The value of a generation, with a password that must be escaped in any SQL."""
        if isinstance(generation, model.CredentialValue):
            return generation
        usernames = self.credential.usernames
        password = f"Gen{generation}{NEEDLE}{self.credential.id}"
        login = model.Login(username or usernames[generation % len(usernames)], model.SecretStr(password))
        return model.CredentialValue(generation, login)

    def login(self, generation: Value) -> model.Login:
        return self.value(generation).login

    def wrong(self, generation: Value) -> model.Login:
        """A password that the account of a generation does not have."""
        return model.Login(self.login(generation).username, model.SecretStr("wrong"))

    def stage(self, current: Value | None, pending: Value, by: Database | None = None) -> None:
        base = None if current is None else self.value(current)
        with (by or self.database).exclusive() as stager:
            stager.stage(current=base, pending=self.value(pending))

    def retire(self, *, drop: Value, keep: Value) -> model.Login:
        with self.database.exclusive() as stager:
            return stager.retire(drop=self.value(drop), keep=self.value(keep))

    def rival(self) -> Database:
        return self.database

    def accepted(self, *generations: Value) -> list[bool]:
        return [self.database.accepts(self.login(generation)) for generation in generations]


def enter(database: Database) -> None:
    with database.exclusive():
        pass


class MemoryHarness(Harness):
    database: MemoryDatabase

    def __init__(self, strategy: model.Strategy) -> None:
        self.credential = make_credential(strategy)
        self.database = MemoryDatabase("main", strategy, self.credential.usernames)

    def end_admin_sessions(self) -> None:
        self.database.kill_connections()


def planned(
    engine: model.Engine, port: int, tls: model.Tls | None, host: str = "localhost"
) -> model.DatabaseServer:
    """A server as a plan has it."""
    admin = model.AdminSecret(aws="contract/admin", oci="contract/admin")
    return model.DatabaseServer(
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
        tls = None if kind.plaintext else model.Tls(ca_file=sandbox.ca_file)
        self.server = planned(kind.engine, sandbox.port, tls)
        self.database = self.open()
        self.provision()

    @property
    def is_postgresql(self) -> bool:
        return self.engine is model.Engine.POSTGRESQL

    def open(
        self,
        *,
        admin: Callable[[], model.Login] = lambda: ADMIN,
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
            "rotator": at.format(model.ROTATION_USER),
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

    def end_admin_sessions(self) -> None:
        listed = "SELECT id FROM information_schema.processlist WHERE user = '{username}'"
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{username}'"
        for (number,) in self.either(listed, ended, model.ROTATION_USER):
            if not self.is_postgresql:
                self.execute(f"KILL {number}")

    def powerless_admin(self) -> model.Login:
        """Make an account that may connect, and nothing else."""
        weak = model.Login(f"weak{next(_numbers)}", model.SecretStr("weak"))
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
        if self.engine is model.Engine.MARIADB:
            self.execute(f"SET GLOBAL max_password_errors = {limit}")
        elif self.engine is model.Engine.MYSQL:
            for username in self.credential.usernames:
                self.run(f"{{alter}} FAILED_LOGIN_ATTEMPTS {limit} PASSWORD_LOCK_TIME UNBOUNDED", username)
        yield
        if self.engine is model.Engine.MARIADB:
            self.execute("SET GLOBAL max_password_errors = DEFAULT", "FLUSH PRIVILEGES")


# Servers


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Harness:
    """The harness that `parametrize(..., indirect=True)` names."""
    if request.param in MEMORY_WORLDS:
        return MemoryHarness(MEMORY_WORLDS[request.param])
    kind = SQL_WORLDS[request.param]
    return SqlHarness(request.getfixturevalue(kind.server), kind)


def make_database(server: Any) -> None:  # noqa: ANN401 - one of the sandbox's
    """The application's; to that of PostgreSQL only who has an explicit grant may connect."""
    server.execute_as_superuser(f"CREATE DATABASE {DATABASE}")
    if server.product == "PostgreSQL":
        server.execute_as_superuser(f"REVOKE CONNECT ON DATABASE {DATABASE} FROM PUBLIC")


@contextmanager
def started(kind: Any, **options: object) -> Iterator[Any]:  # noqa: ANN401 - one of the sandbox's
    """A server with the application's database."""
    require(kind)
    with kind(**options) as server:
        make_database(server)
        yield server


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> servers.CertificateAuthority:
    return servers.CertificateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def over_tls(authority: servers.CertificateAuthority) -> dict[str, Any]:
    """A certificate for one of the names under which a server can be reached."""
    return {"authority": authority, "certificate": authority.issue("localhost"), "general_log": True}


def server_fixture(name: str, kind: Any) -> Any:  # noqa: ANN401 - of the sandbox, and pytest's own
    @pytest.fixture(scope="session", name=name)
    def running(over_tls: dict[str, Any]) -> Iterator[Any]:
        with started(kind, **({} if kind is servers.PgserverServer else over_tls)) as server:
            yield server

    return running


_mariadb = server_fixture("mariadb_server", servers.MariaDbServer)
_mysql = server_fixture("mysql_server", FrontedMySqlServer)
_postgresql = server_fixture("postgres_server", servers.PostgresServer)
_postgresql_18 = server_fixture("pgserver_server", servers.PgserverServer)


class Pair(NamedTuple):
    """A primary, and a replica that lags for as long as it is told to."""

    primary: Any
    replica: Any


def pair_fixture(name: str, primary_kind: Any, replica_kind: Any, **settings: str) -> Any:  # noqa: ANN401 - as above
    """The replica of MariaDB locks an account after two refusals in a row; in MySQL that is the account's own."""

    @pytest.fixture(scope="module", name=name)
    def running(authority: servers.CertificateAuthority) -> Iterator[Pair]:
        require(primary_kind)
        of_primary = {"settings": settings} if settings else {}
        with (
            primary_kind(authority=authority, **of_primary) as primary,
            replica_kind(authority=authority, primary=primary) as replica,
        ):
            make_database(primary)
            if primary_kind is servers.MariaDbServer:
                replica.execute_as_superuser(f"SET GLOBAL max_password_errors = {MAX_REFUSALS}")
            yield Pair(primary, replica)

    return running


_mariadb_pair = pair_fixture("mariadb_pair", servers.MariaDbServer, MariaDbReplica, **BINARY_LOG)
_mysql_pair = pair_fixture(
    "mysql_pair", servers.MySqlServer, MySqlReplica, **BINARY_LOG, performance_schema="ON"
)
_postgresql_pair = pair_fixture("postgres_pair", servers.PostgresServer, PostgresReplica)


# Lives: rotations of the accounts of a real database, between clouds in memory

STEADY = 3
"""Rotations at the beginning: each account has had a password that is superseded by then."""


class Shown(Refusals):
    """What a server was shown: refusals, and the longest run of them on one account."""

    refused = 0

    def count(self, username: str, *, accepted: bool) -> None:
        self.refused += not accepted
        super().count(username, accepted=accepted)

    def watch(self, database: Database) -> None:
        """Count the logins of an adapter from now on, its own while staging included."""
        genuine = database.accepts

        def accepts(login: model.Login) -> bool:
            try:
                accepted = genuine(login)
            except LockstepError as error:
                if "stage" in error.where:  # A pooler's refusal.
                    self.count(login.username, accepted=False)
                raise
            self.count(login.username, accepted=accepted)
            return accepted

        database.accepts = accepts  # type: ignore[method-assign]


class Life:
    """A credential's life; `refusals` is what a successor was shown."""

    def __init__(self, harness: SqlHarness) -> None:
        self.refusals = Shown()
        self.harness, self._server = harness, harness.server
        credential = structs.replace(harness.credential, servers=(harness.server,))
        databases: dict[str, Any] = {harness.server.name: harness.database}
        self.memory = make_world(databases, credentials=credential, placeholder=True)
        self._databases: Any = self.memory.databases  # The real one is among doubles.
        rotate(self.memory, "first")
        for number in range(1, STEADY):
            rotate_again(self.memory, f"steady-{number}")

    @contextmanager
    def failed_over(self, port: int) -> Iterator[None]:
        """The name of the real database leads to another server from now on, which is told what it is shown.

        Inside, what MariaDB's rotation user takes back is no refusal in a row.
        """
        self._server = structs.replace(self._server, port=port)
        successor, genuine = self.harness.open(port=port), mariadb._Account.forget_refusals
        self.refusals.watch(successor)
        self._databases[self._server.name] = successor

        def forget(account: Any, username: str) -> None:  # noqa: ANN401 - of another module's own
            genuine(account, username)
            self.refusals.count(username, accepted=True)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mariadb._Account, "forget_refusals", forget)
            yield

    def run(self, *, forced: bool = False) -> model.ClaimKind | None:
        """The next run, of the other cloud: at its trigger, or at once by hand; what it was, None for nothing."""
        if not forced:
            self.memory.clock.sleep(INTERVAL_SECONDS)
        promoted = rotate(self.memory, "cure", runner="oci", force=forced).promoted
        return model.ClaimKind(promoted.kind) if promoted else None

    def served(self) -> list[model.Login]:
        """What each store serves."""
        found = [store.current_login() for store in self.memory.stores.values()]
        return [login for login in found if login]

    def works(self, login: model.Login) -> bool:
        """Whether it logs in; this is not counted."""
        return self.harness.open(port=self._server.port).accepts(login)

    def assert_cured(self) -> None:
        """Both stores serve one login, which works on every database, and nobody is asked for anything."""
        first, second = self.served()
        assert first == second
        assert self.works(first)
        record = self.memory.lock.record
        assert (record.holder, record.claim, record.take_over) == (None, None, frozenset())

    def assert_goes_on(self) -> None:
        """The rotation after the cure makes a new value beside the one that the cure serves."""
        cured, *_ = self.served()
        rotate_again(self.memory, "following")
        self.assert_cured()
        assert self.served()[0] != cured
        assert self.works(cured)
        assert self.refusals.most <= 1


class DoctorWorld:
    """What `lockstep.runtime.clouds.Clouds` gives the doctor, around the server of a harness.

    Attributes:
        server: As the plan has it; a test may replace it.
        base: What both stores serve, unless `serving` is replaced.
    """

    def __init__(self, harness: SqlHarness) -> None:
        self.harness, self.server, self.credential = harness, harness.server, harness.credential
        self.admin, self.base = ADMIN, harness.value(1)
        self.serving: Callable[[], model.CredentialValue] = lambda: self.base
        self.record = model.LockRecord(credential_id=harness.credential.id)
        self.clock, self.side_by_side, self.where = FakeClock(), one_after_the_other, HERE

    def inspector(self, server: model.DatabaseServer, credential: model.Credential) -> Inspector[Any]:
        timeouts = Timeouts(lock_seconds=1)
        return inspector_of(server.engine)(
            open_database(server, credential, lambda: self.admin, timeouts=timeouts)
        )

    def lock(self, _credential: model.Credential) -> object:
        return SimpleNamespace(read=lambda: self.record)

    def each_store(self, _credential: model.Credential) -> Sequence[object]:
        return [
            SimpleNamespace(name=name, read_login=lambda: self.serving().login) for name in ("aws", "oci")
        ]

    def look(self) -> "Seen":
        """Look once, as one run of the doctor does."""
        credential = structs.replace(self.credential, servers=(self.server,))
        seen = Seen([credential], self, where=self.where)  # type: ignore[arg-type]  # what it asks of Clouds is above
        seen.outcomes(*EVERY_CHECK)  # What is not asked for is not looked at.
        return seen


class Seen(Databases):
    """What one look has found."""

    def outcomes(self, *checks: str) -> set[Outcome]:
        """What became of checks."""
        return {answer.outcome for answer in self.found(*checks)}

    def complaints(self) -> list[Finding]:
        """All that did not pass."""
        return [answer for answer in self.found(*EVERY_CHECK) if answer.outcome is not Outcome.PASSED]
