"""The drivers on real servers: which account a login is, what bars it, rights, logs, and bounded waits."""

import re
import socket
from contextlib import closing
from functools import partial
from itertools import count
from threading import Event

import pg8000.native  # type: ignore[import-untyped]  # it ships no types
import pytest
from msgspec import structs

from lockstep.protocol import errors
from lockstep.protocol.deadlines import DatabaseTimeouts as Timeouts
from lockstep.protocol.model import CredentialValue, Engine, Login, SecretStr
from sandbox.emulators.databases.process import Growing
from tests.contract import database_harness as db
from tests.support.peer import delegate, peer, relay
from tests.support.servers import connect

pytest_plugins = ["tests.contract.database_harness"]

with_logs = db.worlds(*db.FAMILY, "postgresql")
"""Those whose server writes every statement down."""


# A pooler refuses a password in words of its own, and not at another stage of the login


@db.worlds("postgresql-18-plaintext")
@pytest.mark.parametrize("requests", [(), (3,), (3, 0)], ids=["at once", "for a password", "after it"])
def test_an_error_says_if_it_ends_the_wait_for_a_password(
    world: db.SqlHarness, requests: tuple[int, ...]
) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(1024)
        asked = b"".join(b"R" + bytes([0, 0, 0, 8, 0, 0, 0, request]) for request in requests)
        connection.sendall(asked + b"E\0\0\0\x13SFATAL\0CXX000\0\0")
        connection.recv(1024)

    with peer(answer) as port, pytest.raises(errors.DatabaseRejectedError) as caught:
        world.open(port=port).accepts(world.login(1))
    assert ("stage" in caught.value.where) is (requests == (3,))


@db.worlds("mariadb-dual", "mysql-dual")
def test_a_plan_that_names_the_wrong_engine_and_a_server_that_is_too_old(world: db.SqlHarness) -> None:
    other = {Engine.MARIADB: Engine.MYSQL, Engine.MYSQL: Engine.MARIADB}[world.engine]
    with db.fails(errors.UnsupportedServerError):
        db.enter(world.open(engine=other))
    old = b"8.0.20" if world.engine is Engine.MYSQL else b"5.5.5-10.3.39-MariaDB"
    with relay(world.sandbox.port, version=old) as (port, _), db.fails(errors.UnsupportedServerError):
        db.enter(world.open(port=port))


# Whose accounts are touched


@db.each_engine
def test_the_advisory_lock_is_the_account_s(world: db.SqlHarness) -> None:
    """One account under two ids is changed by one run at a time, two accounts side by side (protocol D1)."""
    mine, usernames = world.database, ("other_a", "other_b")[: len(world.credential.usernames)]
    world.credential = structs.replace(world.credential, id="another/id")
    with mine.exclusive(), db.fails(errors.AdvisoryLockBusyError):
        db.enter(world.open())
    world.credential = structs.replace(world.credential, usernames=usernames)
    with mine.exclusive():
        db.enter(world.open())


@db.every_server
def test_no_account_but_the_credentials_own(world: db.SqlHarness) -> None:
    mine = world.value(1)
    stranger = CredentialValue(2, Login(db.ADMIN.username, mine.login.password))
    with world.database.exclusive() as stager:
        for current, pending in ((None, stranger), (stranger, mine)):
            with db.fails(errors.UnknownUsernameError):
                stager.stage(current=current, pending=pending)
        for drop, keep in ((mine, stranger), (stranger, mine)):
            with db.fails(errors.UnknownUsernameError):
                stager.retire(drop=drop, keep=keep)
        with db.fails(errors.UnknownUsernameError):
            stager.accepts_after_all(db.ADMIN)


@db.worlds(*db.FAMILY)
def test_only_the_account_of_the_host_that_the_plan_names(world: db.SqlHarness) -> None:
    """A more specific one with the same password proves nothing: the server matches it instead (protocol D17)."""
    same = CredentialValue(1, Login(world.login(1).username, SecretStr("same")))
    world.stage(None, same)
    world.run("CREATE USER '{username}'@'127.0.0.%' IDENTIFIED BY 'same'")
    world.run("GRANT SELECT ON {db}.* TO '{username}'@'127.0.0.%'")
    with db.fails(errors.AccountSetupError):
        world.accepted(same)
    world.credential = structs.replace(world.credential, account_host="192.0.2.%")
    with db.fails(errors.AccountSetupError):
        db.enter(world.open())
    world.run("DROP USER '{username}'@'127.0.0.%'")
    for username in world.credential.usernames:
        world.run("DROP USER {account}", username)
    world.credential = structs.replace(world.credential, account_host="127.0.0.%")
    world.database = world.open()
    world.provision()
    world.stage(None, 1)
    world.stage(1, 2)
    world.retire(drop=1, keep=2)
    assert world.accepted(1, 2) == [False, True]
    names = ", ".join(f"'{username}'" for username in world.credential.usernames)
    hosts = world.execute(f"SELECT DISTINCT host FROM mysql.user WHERE user IN ({names})")  # noqa: S608
    assert hosts == [("127.0.0.%",)]


@db.worlds("mariadb-dual")
def test_an_admin_that_may_not_see_the_hosts_goes_by_the_logins(world: db.SqlHarness) -> None:
    weak = world.powerless_admin()
    world.execute(f"GRANT CREATE USER ON *.* TO {weak.username}@'%'")
    world.run("CREATE USER '{username}'@'192.0.2.%' IDENTIFIED BY 'other'")
    world.stage(None, 1, world.open(admin=lambda: weak))
    assert world.accepted(1) == [True]


@db.worlds("mariadb-alternating", "mysql-alternating", "postgresql", "postgresql-18-plaintext")
def test_the_account_of_current_is_never_touched(world: db.SqlHarness) -> None:
    current, pending = world.value(1), world.value(2)
    world.stage(None, current)
    before = world.verifier_of(current.login.username)
    with world.database.exclusive() as stager:
        stager.stage(current=current, pending=pending)
        with db.fails(errors.UnknownUsernameError):
            stager.stage(current=current, pending=world.value(3))
        stager.stage(current=current, pending=current)
        stager.retire(drop=pending, keep=current)
        stager.retire(drop=world.value(3), keep=current)
    assert world.verifier_of(current.login.username) == before


@db.worlds("postgresql-18-plaintext")
def test_the_admin_reaches_only_what_it_was_granted(world: db.SqlHarness) -> None:
    """On PostgreSQL since 16. MySQL and MariaDB: tests/unit/test_provision.py."""
    stranger = world.powerless_admin().username
    with closing(connect(world.sandbox, db.ADMIN, db.DATABASE, "reader")) as session:
        for statement in (
            f"ALTER ROLE {stranger} PASSWORD 'x'",
            f"SET ROLE {world.credential.usernames[0]}",
            f"SET ROLE {world.credential.owner}",
        ):
            with pytest.raises(pg8000.native.DatabaseError, match="42501"):
                session.run(statement)


@db.worlds("mariadb-dual")
def test_a_mariadb_account_keeps_its_other_options(world: db.SqlHarness) -> None:
    world.run("{alter} WITH MAX_USER_CONNECTIONS 7")
    world.stage(None, 1)
    ((made,),) = world.run("SHOW CREATE USER {account}")
    assert "REQUIRE SSL" in made
    assert "MAX_USER_CONNECTIONS 7" in made


# Accounts that lock themselves (protocol D18)


def block(world: db.SqlHarness) -> None:
    """Refuse an account as often as the limit of two says; the last answer may name the block already."""
    assert not world.database.accepts(world.wrong(1))
    try:
        assert not world.database.accepts(world.wrong(1))
    except errors.AccountLockedError:
        assert world.engine is Engine.MYSQL


@db.worlds("mariadb-dual", "mariadb-alternating", "mysql-dual")
def test_a_blocked_account_is_no_wrong_password_and_a_second_look_leaves_no_refusal_behind(
    world: db.SqlHarness,
) -> None:
    """MySQL names the block, so that its second look does nothing."""
    world.stage(None, 1)
    with world.limited(2):
        refused = 1 if world.engine is Engine.MYSQL else 5
        for _ in range(refused):
            assert not world.database.accepts(world.wrong(1))
            with world.database.exclusive() as stager:
                assert not stager.accepts_after_all(world.wrong(1))
        assert refused == 1 or not world.database.accepts(world.wrong(1)), "one more is not too many"
        assert world.accepted(1) == [True]
        block(world)
        with db.fails(errors.AccountLockedError):
            world.accepted(1)
        world.run("{alter} ACCOUNT UNLOCK")
        assert world.accepted(1) == [True]


@db.worlds("mariadb-dual")
def test_a_mariadb_account_with_two_passwords_is_left_as_it_was_blocked_or_locked(
    world: db.SqlHarness,
) -> None:
    """The server refuses the one that it names first as if it were wrong; what a person locks stays locked."""
    world.stage(None, 1)
    world.stage(1, 2)
    with world.limited(2):
        block(world)
        assert world.accepted(2) == [False]
        with world.database.exclusive() as stager:
            assert stager.accepts_after_all(world.login(2))
        block(world)
        assert world.accepted(2, 1, 2) == [False, True, True], "a login of base ends the block"
    world.run("{alter} ACCOUNT LOCK")
    for _ in range(2):
        with db.fails(errors.AccountLockedError), world.database.exclusive() as stager:
            stager.accepts_after_all(world.login(1))


# Where passwords must not be


@with_logs
def test_no_log_of_the_server_holds_a_password(world: db.SqlHarness) -> None:
    logged = world.sandbox.watch_general_log()
    changes = Growing(lambda: _binary_logs(world))
    for generation in range(1, 5):
        world.stage(generation - 1 or None, generation)
    world.retire(drop=3, keep=4)
    log = logged.added()
    altered = rf"ALTER (?:USER|ROLE) ['\"]{world.names()['owner'].removesuffix('_owner')}"
    assert len(re.findall(altered, log)) >= 5
    assert not re.search(r"Gen\d", log)
    assert "pass-1" not in log
    if world.engine is Engine.MYSQL:
        assert changes.added().count(b"ALTER USER") >= 5
        # Salts and hashes are random: a few bytes of a password turn up there by chance.
        password = re.compile(rb"Gen\d.{3,6}%s;--", re.DOTALL)  # In whatever way its quotes are escaped.
        assert not re.search(password, changes.added())


def _binary_logs(world: db.SqlHarness) -> bytes:
    """What a MySQL server writes for its replicas; other servers are not asked to write it."""
    files = world.sandbox.data_folder.glob("binlog.0*") if world.engine is Engine.MYSQL else ()
    return b"".join(file.read_bytes() for file in sorted(files))


# Waits are bounded on both sides


@db.each_engine
def test_a_runner_that_falls_silent_loses_the_lock(world: db.SqlHarness) -> None:
    frozen = world.open(timeouts=Timeouts(lock_seconds=1, idle_seconds=1))
    world.stage(None, 1)
    with db.fails(errors.DatabaseUnreachableError), frozen.exclusive() as stager:
        for _ in range(30):
            try:
                world.stage(1, 2)
                break
            except errors.AdvisoryLockBusyError:
                continue
        stager.stage(current=world.value(1), pending=world.value(4))
    assert world.accepted(1, 2, 4) == [True, True, False]


@db.worlds("postgresql")
def test_a_time_out_gives_the_lock_back_whoever_keeps_the_error(world: db.SqlHarness) -> None:
    world.stage(None, 1)
    is_silent = Event()

    def pass_on(client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", world.server.port)) as server:
            delegate(client, server, lambda data: b"" if is_silent.is_set() else data)

    with peer(pass_on) as port:
        hasty = world.open(port=port, timeouts=Timeouts(io_seconds=4, lock_seconds=1))
        with (  # noqa: PT012 - the server falls silent within the session
            pytest.raises(errors.DatabaseUnreachableError) as kept,
            hasty.exclusive() as stager,
        ):
            is_silent.set()
            stager.stage(current=world.value(1), pending=world.value(2))
        world.stage(1, 2)
    assert kept.value.__context__ is not None


@db.worlds("mysql-dual")
def test_a_statement_that_takes_effect_late_keeps_the_lock_until_then(world: db.SqlHarness) -> None:
    world.stage(None, 1)
    faults = world.sandbox.faults
    faults.held = Event()
    with db.fails(errors.DatabaseUnreachableError):
        world.stage(1, 2, world.open(timeouts=Timeouts(io_seconds=4, lock_seconds=1)))
    with db.fails(errors.AdvisoryLockBusyError):
        world.stage(1, 4)
    faults.held.set()
    faults.held = None
    world.stage(1, 4)
    assert world.accepted(1, 2, 4) == [True, False, True]


# The rotation user's login, as a secret shows it that something else rotates, such as RDS (protocol D22)

RIGHT = db.ADMIN.password.reveal()


@db.worlds("mysql-dual")
@pytest.mark.parametrize(
    ("passwords", "reads", "refused_connects"),
    [
        pytest.param(("before", RIGHT), 2, None, id="rotated after it was read: it is read again"),
        pytest.param(("before",), 2, 1, id="unchanged: no second refusal, nearer to a limit"),
        pytest.param(("before", "between", RIGHT), 3, 2, id="refused twice: the next run reads it"),
    ],
)
def test_an_admin_login_that_is_rotated(
    world: db.SqlHarness, passwords: tuple[str, ...], reads: int, refused_connects: int | None
) -> None:
    left, read, connected = list(passwords), count(), count()

    def login() -> Login:
        next(read)
        return Login(db.ADMIN.username, SecretStr(left.pop(0) if len(left) > 1 else left[0]))

    if refused_connects:
        with db.fails(errors.AdminCredentialRejectedError):
            db.enter(world.open(admin=login, deadline_guard=partial(next, connected)))
        assert next(connected) == refused_connects
    if RIGHT in passwords:
        world.stage(None, 1, world.open(admin=login))
        assert world.accepted(1) == [True]
    assert next(read) == reads


# How many statements: each is a round trip


@with_logs
def test_a_login_takes_one_statement_and_an_advisory_lock_one_or_three(world: db.SqlHarness) -> None:
    statement = re.compile(r" Query\t|statement: ")
    world.stage(None, 1)
    logged = world.sandbox.watch_general_log()
    # Which account it is, and when it is locked, or as which role it acts (protocol D13, D17, D18).
    assert world.accepted(1) == [True]
    assert len(statement.findall(logged.added())) == 1
    logged.forget()
    db.enter(world.database)
    # Bounds and lock at once; or character set and bounds, the lock, and which accounts there are.
    assert len(statement.findall(logged.added())) == (1 if world.is_postgresql else 3)
