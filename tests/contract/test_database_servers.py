"""The drivers on real servers: limits, rights, logs, and accounts that were changed by hand."""

import re
import socket
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import count
from threading import Event

import pg8000.native  # type: ignore[import-untyped]  # it ships no types
import pymysql
import pytest
from msgspec import structs

from lockstep.databases.postgresql import PostgreSqlDatabase
from lockstep.protocol.errors import (
    AccountDeniedError,
    AccountExpiredError,
    AccountMissingError,
    AccountSetupError,
    AdminCredentialRejectedError,
    AdvisoryLockBusyError,
    DatabaseBusyError,
    DatabaseReadOnlyError,
    DatabaseRejectedError,
    DatabaseUnreachableError,
    PrivilegeMissingError,
    UnknownUsernameError,
    UnsupportedServerError,
)
from lockstep.protocol.model import CredentialValue, Engine, Login, SecretStr
from lockstep.runtime.databases import Timeouts
from sandbox.growing import Growing
from tests.contract.database_harness import (
    ADMIN,
    DATABASE,
    SQL_WORLDS,
    MariaDbHarness,
    MySqlFamilyHarness,
    MySqlHarness,
    PlaintextPostgresHarness,
    PostgresHarness,
    SqlHarness,
    fails,
    value_of,
)
from tests.support.mysql_relay import Greeting, relay
from tests.support.peer import delegate, peer

pytest_plugins = ["tests.contract.database_fixtures"]


def worlds(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("world", names, indirect=True)


every_server = worlds(*SQL_WORLDS)
each_engine = worlds("mariadb-dual", "mysql-dual", "postgresql")
alternating = worlds("mariadb-alternating", "mysql-alternating", "postgresql", "postgresql-18-plaintext")


def rotate(world: SqlHarness, current: CredentialValue | None, pending: CredentialValue) -> None:
    with world.database.exclusive() as stager:
        stager.stage(current=current, pending=pending)


# A pooler refuses a password in words of its own, and not at another stage of the login


@worlds("postgresql-18-plaintext")
@pytest.mark.parametrize("requests", [(), (3,), (3, 0)], ids=["at once", "for a password", "after it"])
def test_an_error_says_whether_it_ends_the_wait_for_a_password(
    world: PlaintextPostgresHarness, requests: tuple[int, ...]
) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(1024)
        asked = b"".join(b"R" + bytes([0, 0, 0, 8, 0, 0, 0, request]) for request in requests)
        connection.sendall(asked + b"E\0\0\0\x13SFATAL\0CXX000\0\0")
        connection.recv(1024)

    with peer(answer) as port, pytest.raises(DatabaseRejectedError) as caught:
        world.open(server=structs.replace(world.server, port=port)).accepts(value_of(world, 1).login)
    assert ("stage" in caught.value.where) is (requests == (3,))


# Each way to be barred has its name


@each_engine
def test_too_many_connections(world: SqlHarness) -> None:
    value = value_of(world, 1)
    rotate(world, None, value)
    with world.exhausted(value.login.username), fails(DatabaseBusyError):
        world.database.accepts(value.login)


@worlds("mariadb-dual", "mysql-dual")
def test_an_expired_password(world: MySqlFamilyHarness) -> None:
    value = value_of(world, 1)
    rotate(world, None, value)
    world.expire_password(value.login.username)
    with fails(AccountExpiredError):
        world.database.accepts(value.login)


@each_engine
def test_an_account_that_may_not_use_the_database(
    world: SqlHarness,
) -> None:
    value = value_of(world, 1)
    rotate(world, None, value)
    world.revoke_rights(value.login.username)
    with fails(AccountDeniedError):
        world.database.accepts(value.login)


@every_server
def test_an_admin_without_rights(world: SqlHarness) -> None:
    weak = world.powerless_admin()
    with fails(PrivilegeMissingError), world.open(admin=lambda: weak).exclusive() as stager:
        stager.stage(current=None, pending=value_of(world, 1))


@each_engine
def test_an_admin_that_is_locked(world: SqlHarness) -> None:
    weak = world.powerless_admin()
    world.lock_account(weak.username)
    with fails(AdminCredentialRejectedError), world.open(admin=lambda: weak).exclusive():
        pass


@each_engine
def test_an_account_that_was_never_made(world: SqlHarness) -> None:
    world.drop_account(value_of(world, 1).login.username)
    with fails(AccountMissingError), world.database.exclusive() as stager:
        stager.stage(current=None, pending=value_of(world, 1))


@worlds("mariadb-dual")
def test_a_read_only_mariadb(world: MariaDbHarness) -> None:
    world.execute("SET GLOBAL read_only = ON")
    try:
        with fails(DatabaseReadOnlyError), world.database.exclusive() as stager:
            stager.stage(current=None, pending=value_of(world, 1))
    finally:
        world.execute("SET GLOBAL read_only = OFF")


@worlds("postgresql")
def test_a_read_only_postgresql(world: PostgresHarness) -> None:
    weak = world.powerless_admin()
    world.execute(f"ALTER ROLE {weak.username} SUPERUSER")
    world.execute(f"ALTER ROLE {weak.username} SET default_transaction_read_only = on")
    with fails(DatabaseReadOnlyError), world.open(admin=lambda: weak).exclusive() as stager:
        stager.stage(current=None, pending=value_of(world, 1))


@worlds("postgresql")
def test_staging_gives_a_role_its_owner_back(world: PostgresHarness) -> None:
    """Else new objects would be the user's own, and the other user could not use them (protocol D13)."""
    value = value_of(world, 1)
    world.execute(f"ALTER ROLE {value.login.username} RESET role")
    rotate(world, None, value)
    database = world.open()
    assert isinstance(database, PostgreSqlDatabase)
    with database.as_user(value.login) as session:
        assert session.run("SELECT current_user") == [[world.credential.owner]]


@worlds("postgresql")
@pytest.mark.parametrize("change", ["RESET role", f"IN DATABASE {DATABASE} SET role TO none"])
def test_a_login_that_does_not_act_as_the_owner_role_is_no_proof(world: PostgresHarness, change: str) -> None:
    value = value_of(world, 1)
    rotate(world, None, value)
    world.execute(f"ALTER ROLE {value.login.username} {change}")
    with pytest.raises(AccountDeniedError, match="SET role TO <owner>"):
        world.database.accepts(value.login)


@worlds("mariadb-dual", "mariadb-alternating")
def test_a_mariadb_that_takes_no_verifiers(world: MariaDbHarness) -> None:
    """`strict_password_validation`, on by default, has an effect once a validation plugin is there."""
    world.execute("INSTALL SONAME 'simple_password_check'")
    try:
        with fails(AccountSetupError), world.database.exclusive() as stager:
            stager.stage(current=None, pending=value_of(world, 1))
        # The way out that the error names.
        world.execute("SET GLOBAL strict_password_validation = OFF")
        rotate(world, None, value_of(world, 1))
        rotate(world, value_of(world, 1), value_of(world, 2))
        assert [world.database.accepts(value_of(world, g).login) for g in (1, 2)] == [True, True]
    finally:
        world.execute("SET GLOBAL strict_password_validation = ON")
        world.execute("UNINSTALL SONAME 'simple_password_check'")


@worlds("mariadb-dual")
def test_an_account_with_a_plugin_that_the_client_lacks(world: MariaDbHarness) -> None:
    username = value_of(world, 1).login.username
    world.execute(
        "INSTALL SONAME 'auth_ed25519'",
        f"ALTER USER {username}@'%' IDENTIFIED VIA ed25519 USING PASSWORD('x')",
    )
    try:
        with fails(UnsupportedServerError):
            world.database.accepts(value_of(world, 1).login)
    finally:
        world.execute("UNINSTALL SONAME 'auth_ed25519'")
    rotate(world, None, value_of(world, 1))
    assert world.database.accepts(value_of(world, 1).login)


@worlds("mariadb-dual", "mysql-dual")
def test_a_plan_that_names_the_wrong_engine(world: SqlHarness) -> None:
    other = {Engine.MARIADB: Engine.MYSQL, Engine.MYSQL: Engine.MARIADB}[world.engine]
    server = structs.replace(world.server, engine=other)
    with fails(UnsupportedServerError), world.open(server=server).exclusive():
        pass


@worlds("mysql-dual")
def test_a_mysql_that_is_too_old(world: MySqlHarness) -> None:
    def age(greeting: Greeting) -> Greeting:
        return replace(greeting, version=b"8.0.20")

    with relay(world.sandbox.port, age) as port, fails(UnsupportedServerError):
        old = structs.replace(world.server, port=port)
        with world.open(server=old).exclusive():
            pass


# Whose accounts are touched


@every_server
def test_no_account_but_the_credentials_own(world: SqlHarness) -> None:
    mine = value_of(world, 1)
    stranger = CredentialValue(2, Login(ADMIN.username, mine.login.password))
    with world.database.exclusive() as stager:
        for current, pending in ((None, stranger), (stranger, mine)):
            with fails(UnknownUsernameError):
                stager.stage(current=current, pending=pending)
        for drop, keep in ((mine, stranger), (stranger, mine)):
            with fails(UnknownUsernameError):
                stager.retire(drop=drop, keep=keep)


@worlds("mariadb-dual", "mysql-dual", "mariadb-alternating", "mysql-alternating")
def test_an_account_of_the_host_that_the_plan_names(world: MySqlFamilyHarness) -> None:
    for username in world.credential.usernames:
        world.execute(f"DROP USER '{username}'@'%'")
    world.credential = structs.replace(world.credential, account_host="127.0.0.%")
    world.database = world.open()
    world.provision()
    rotate(world, None, value_of(world, 1))
    rotate(world, value_of(world, 1), value_of(world, 2))
    with world.database.exclusive() as stager:
        stager.retire(drop=value_of(world, 1), keep=value_of(world, 2))
    assert [world.database.accepts(value_of(world, g).login) for g in (1, 2)] == [False, True]
    names = ", ".join(f"'{username}'" for username in world.credential.usernames)
    hosts = world.execute(f"SELECT DISTINCT host FROM mysql.user WHERE user IN ({names})")  # noqa: S608
    assert hosts == [("127.0.0.%",)]


@alternating
def test_the_account_of_current_is_never_touched(
    world: SqlHarness,
) -> None:
    current, pending = value_of(world, 1), value_of(world, 2)
    rotate(world, None, current)
    before = world.verifier_of(current.login.username)
    with world.database.exclusive() as stager:
        stager.stage(current=current, pending=pending)
        with fails(UnknownUsernameError):
            stager.stage(current=current, pending=value_of(world, 3))
        stager.stage(current=current, pending=current)
        stager.retire(drop=pending, keep=current)
        stager.retire(drop=value_of(world, 3), keep=current)
    assert world.verifier_of(current.login.username) == before


@worlds("mariadb-dual", "mariadb-alternating", "mysql-dual", "mysql-alternating")
def test_the_admin_cannot_read_the_applications_data(world: MySqlFamilyHarness) -> None:
    world.execute(f"CREATE TABLE IF NOT EXISTS {DATABASE}.orders (id INT)")
    connection = pymysql.connect(
        host="localhost",
        port=world.sandbox.port,
        user=ADMIN.username,
        password=ADMIN.password.reveal(),
        ssl_ca=str(world.sandbox.ca_file),
    )
    with closing(connection), pytest.raises(pymysql.err.OperationalError, match=r"1044"):
        connection.select_db(DATABASE)


@worlds("postgresql-18-plaintext")
def test_since_postgresql_16_the_admin_reaches_only_what_it_was_granted(
    world: PlaintextPostgresHarness,
) -> None:
    stranger = world.powerless_admin().username
    with postgres_session(world, ADMIN) as session:
        for statement in (
            f"ALTER ROLE {stranger} PASSWORD 'x'",
            f"SET ROLE {world.credential.usernames[0]}",
            f"SET ROLE {world.credential.owner}",
        ):
            with pytest.raises(pg8000.native.DatabaseError, match="42501"):
                session.run(statement)


def postgres_session(world: PostgresHarness, who: Login) -> pg8000.native.Connection:
    return pg8000.native.Connection(
        who.username,
        host="localhost",
        port=world.sandbox.port,
        database=DATABASE,
        password=who.password.reveal(),
        ssl_context=None if world.sandbox.ca_file else False,
    )


@worlds("mariadb-dual", "mariadb-alternating")
def test_a_mariadb_account_keeps_its_other_options(world: MariaDbHarness) -> None:
    username = value_of(world, 2).login.username
    world.execute(f"ALTER USER {username}@'%' WITH MAX_USER_CONNECTIONS 7")
    rotate(world, None, value_of(world, 1))
    rotate(world, value_of(world, 1), value_of(world, 2))
    ((made,),) = world.execute(f"SHOW CREATE USER {username}@'%'")
    assert "REQUIRE SSL" in made
    assert "MAX_USER_CONNECTIONS 7" in made


# Where passwords must not be


@worlds("mariadb-dual", "mariadb-alternating", "mysql-dual", "mysql-alternating", "postgresql")
def test_no_log_of_the_server_holds_a_password(world: SqlHarness) -> None:
    logged = world.sandbox.watch_general_log()
    changes = Growing(lambda: _binary_logs(world))
    for generation in range(1, 5):
        rotate(
            world, value_of(world, generation - 1) if generation > 1 else None, value_of(world, generation)
        )
    with world.database.exclusive() as stager:
        stager.retire(drop=value_of(world, 3), keep=value_of(world, 4))
    log = logged.added()
    assert (
        len(re.findall(rf"ALTER (?:USER|ROLE) ['\"]{world.credential.owner.removesuffix('_owner')}", log))
        >= 5
    )
    assert not re.search(r"Gen\d", log)
    assert "pass-1" not in log
    if isinstance(world, MySqlHarness):
        assert changes.added().count(b"ALTER USER") >= 5
        # Salts and hashes are random: a few bytes of a password turn up there by chance.
        password = re.compile(rb"Gen\d.{3,6}%s;--", re.DOTALL)  # In whatever way its quotes are escaped.
        assert not re.search(password, changes.added())


def _binary_logs(world: SqlHarness) -> bytes:
    """What a MySQL server writes for its replicas; other servers are not asked to write it."""
    if not isinstance(world, MySqlHarness):
        return b""
    return b"".join(file.read_bytes() for file in sorted(world.sandbox.data_folder.glob("binlog.0*")))


# Waits are bounded on both sides


@each_engine
def test_a_runner_that_falls_silent_loses_the_lock(world: SqlHarness) -> None:
    frozen = world.open(timeouts=Timeouts(lock_seconds=1, idle_seconds=1))
    current, pending = value_of(world, 1), value_of(world, 2)
    rotate(world, None, current)
    with fails(DatabaseUnreachableError), frozen.exclusive() as stager:
        for _ in range(30):
            try:
                rotate(world, current, pending)
                break
            except AdvisoryLockBusyError:
                continue
        stager.stage(current=current, pending=value_of(world, 4))
    assert [world.database.accepts(value_of(world, g).login) for g in (1, 2, 4)] == [True, True, False]


@each_engine
def test_a_time_out_gives_the_lock_back_whoever_keeps_the_error(world: SqlHarness) -> None:
    current, pending = value_of(world, 1), value_of(world, 2)
    rotate(world, None, current)
    is_silent = Event()

    def pass_on(client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", world.server.port)) as server:
            delegate(client, server, lambda data: b"" if is_silent.is_set() else data)

    with peer(pass_on) as port:
        server = structs.replace(world.server, port=port)
        hasty = world.open(server=server, timeouts=Timeouts(io_seconds=4, lock_seconds=1))
        with (  # noqa: PT012 - the server falls silent within the session
            pytest.raises(DatabaseUnreachableError) as kept,
            hasty.exclusive() as stager,
        ):
            is_silent.set()
            stager.stage(current=current, pending=pending)
        rotate(world, current, pending)
    assert kept.value.__context__ is not None


@worlds("mysql-dual")
def test_a_statement_that_takes_effect_late_keeps_the_lock_until_then(world: MySqlHarness) -> None:
    current, late, pending = value_of(world, 1), value_of(world, 2), value_of(world, 4)
    rotate(world, None, current)
    hasty = world.open(timeouts=Timeouts(io_seconds=4, lock_seconds=1))
    world.faults.held = Event()
    with fails(DatabaseUnreachableError), hasty.exclusive() as stager:
        stager.stage(current=current, pending=late)
    with fails(AdvisoryLockBusyError):
        rotate(world, current, pending)
    world.faults.held.set()
    world.faults.held = None
    rotate(world, current, pending)
    assert [world.database.accepts(value_of(world, g).login) for g in (1, 2, 4)] == [True, False, True]


def test_bounds_must_let_the_server_give_up_first() -> None:
    for lock_seconds in (0, 10):
        with pytest.raises(ValueError, match="lock_seconds"):
            Timeouts(lock_seconds=lock_seconds, io_seconds=10)


class RotatedLogin:
    """The rotation user's login as a secret shows it that something else rotates."""

    def __init__(self, *passwords: str) -> None:
        self.passwords = list(passwords)
        self.reads = 0

    def __call__(self) -> Login:
        """What it shows now; the last value stays."""
        self.reads += 1
        password = self.passwords.pop(0) if len(self.passwords) > 1 else self.passwords[0]
        return Login(ADMIN.username, SecretStr(password))


@each_engine
def test_an_admin_login_that_was_rotated_after_it_was_read_is_read_again(world: SqlHarness) -> None:
    """As RDS rotates it (protocol D22)."""
    rotated = RotatedLogin("before", ADMIN.password.reveal())
    with world.open(admin=rotated).exclusive() as stager:
        stager.stage(current=None, pending=value_of(world, 1))
    assert rotated.reads == 2
    assert world.database.accepts(value_of(world, 1).login)


@each_engine
def test_an_admin_login_that_did_not_change_is_shown_once(world: SqlHarness) -> None:
    """A second refusal would bring the admin nearer to a limit of wrong passwords (protocol D22)."""
    rotated, connects = RotatedLogin("before"), count()
    with (
        fails(AdminCredentialRejectedError),
        world.open(admin=rotated, deadline_guard=partial(next, connects)).exclusive(),
    ):
        pass
    assert (rotated.reads, next(connects)) == (2, 1)


@each_engine
def test_an_admin_login_that_is_refused_twice_ends_the_run(world: SqlHarness) -> None:
    """The next run reads it again (protocol D22)."""
    rotated = RotatedLogin("before", "between", ADMIN.password.reveal())
    with fails(AdminCredentialRejectedError), world.open(admin=rotated).exclusive():
        pass
    with world.open(admin=rotated).exclusive():
        pass


# How many statements: each is a round trip


_STATEMENT = re.compile(r" Query\t|statement: ")


logging_worlds = pytest.mark.parametrize(
    "world", [name for name in SQL_WORLDS if "plaintext" not in name], indirect=True
)
"""Those whose server writes every statement down."""


def _statements(logged: Growing[str]) -> list[str]:
    return [line for line in logged.added().splitlines() if _STATEMENT.search(line)]


@logging_worlds
def test_a_login_takes_one_statement(world: SqlHarness) -> None:
    value = value_of(world, 1)
    with world.database.exclusive() as stager:
        stager.stage(current=None, pending=value)
    logged = world.sandbox.watch_general_log()
    assert world.database.accepts(value.login)
    # Which account it is, and when it is locked, or as which role it acts (protocol D13, D17, D18).
    assert len(_statements(logged)) == 1


@logging_worlds
def test_an_advisory_lock_takes_one_statement_or_three(world: SqlHarness) -> None:
    logged = world.sandbox.watch_general_log()
    with world.database.exclusive():
        pass
    # Bounds and lock at once; or character set and bounds, the lock, and which accounts there are.
    expected = 1 if world.server.engine is Engine.POSTGRESQL else 3
    assert len(_statements(logged)) == expected
