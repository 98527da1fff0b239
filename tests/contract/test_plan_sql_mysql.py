"""`lockstep plan sql` on real MySQL and MariaDB servers, beside an application that is running."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pymysql
import pytest
from msgspec import structs

from lockstep.operate.plan_sql.scripts import Provisioning, provisioning
from lockstep.protocol.model import ROTATOR, CredentialValue, Login, SecretStr, Strategy
from tests.contract.database_harness import (
    DATABASE,
    MariaDbHarness,
    MySqlFamilyHarness,
    MySqlHarness,
    value_of,
)
from tests.support.memory import make_plan

pytest_plugins = ["tests.contract.database_fixtures"]

LIVE_PASSWORD = SecretStr("The-applications-own-1")


class _Live(MySqlFamilyHarness):
    """An application that works already: with rights that others granted it, and without TLS."""

    def provision(self) -> None:
        self.live = Login(self.credential.usernames[0], LIVE_PASSWORD)
        name, account = self.live.username, f"'{self.live.username}'@'%'"
        self.execute(
            "SET GLOBAL require_secure_transport = OFF",
            f"CREATE TABLE {name}_orders (id INT PRIMARY KEY AUTO_INCREMENT, what TEXT)",
            f"CREATE TABLE {name}_prices (what INT, price INT, margin INT)",
            f"CREATE PROCEDURE {name}_count() SELECT COUNT(*) FROM {name}_orders",
            f"CREATE ROLE {name}_readers",
            f"CREATE TABLE {name}_stock (id INT)",
            f"GRANT SELECT ON {DATABASE}.{name}_stock TO {name}_readers",
            f"CREATE USER {account} IDENTIFIED BY '{LIVE_PASSWORD.reveal()}'",
            f"GRANT CREATE TEMPORARY TABLES ON {DATABASE}.* TO {account}",
            f"GRANT SELECT, INSERT, ALTER ON {DATABASE}.{name}_orders TO {account} WITH GRANT OPTION",
            f"GRANT SELECT (price) ON {DATABASE}.{name}_prices TO {account}",
            f"GRANT EXECUTE ON PROCEDURE {DATABASE}.{name}_count TO {account}",
            f"GRANT {name}_readers TO {account}",
            self.default_role(f"{name}_readers", account),
        )

    def default_role(self, role: str, account: str) -> str:
        raise NotImplementedError

    def script(self, *, existing: bool = True) -> Provisioning:
        return provisioning(make_plan(), self.credential, self.server, existing=existing)

    def connect(self, login: Login, *, tls: bool = False) -> "pymysql.Connection[Any]":
        return pymysql.connect(
            host="127.0.0.1",
            port=self.server_port,
            user=login.username,
            password=login.password.reveal().encode(),
            database=DATABASE,
            ssl_disabled=not tls,
            ssl_verify_cert=False,
        )

    @property
    def server_port(self) -> int:
        """The server's own port, past what stands in front of it."""
        return self.sandbox.listening_port

    def work(self, login: Login, *, tls: bool = False) -> int:
        """What the application does; the number of its orders."""
        name = self.live.username
        with closing(self.connect(login, tls=tls)) as connection, connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {name}_orders (what) VALUES ('work')")
            cursor.execute(f"ALTER TABLE {name}_orders COMMENT 'altered'")
            cursor.execute("CREATE TEMPORARY TABLE basket (id INT)")
            cursor.execute(f"SELECT price FROM {name}_prices")
            cursor.execute(f"SELECT * FROM {name}_stock")
            cursor.execute(f"CALL {name}_count()")
            (count,) = cursor.fetchone() or (0,)
            connection.commit()
            return int(count)

    def state(self) -> list[Any]:
        """The credential's accounts and the rotator's, as the server describes them."""
        described: list[Any] = []
        for username in (*self.credential.usernames, ROTATOR):
            if self.execute(f"SELECT 1 FROM mysql.user WHERE user = '{username}'"):
                described.append(self.execute(f"SHOW CREATE USER '{username}'@'%'"))
                described.append(sorted(self.execute(f"SHOW GRANTS FOR '{username}'@'%'")))
        return described

    def grants(self, username: str) -> set[str]:
        """What an account may do, without how it logs in."""
        rows = self.execute(f"SHOW GRANTS FOR '{username}'@'%'")
        return {re.sub(" IDENTIFIED .*", "", str(granted)) for (granted,) in rows}

    def usernames_there(self) -> set[str]:
        rows = self.execute("SELECT user FROM mysql.user WHERE host = '%'")
        return {str(name) for (name,) in rows} & set(self.credential.usernames)


class LiveMariaDb(_Live, MariaDbHarness):
    def default_role(self, role: str, account: str) -> str:
        return f"SET DEFAULT ROLE {role} FOR {account}"


class LiveMySql(_Live, MySqlHarness):
    def default_role(self, role: str, account: str) -> str:
        return f"SET DEFAULT ROLE {role} TO {account}"

    def grants(self, username: str) -> set[str]:
        """With those of its roles; the second username has the first as a role."""
        first = self.live.username
        role = f"{first}_readers" if username == first else first
        rows = self.execute(f"SHOW GRANTS FOR '{username}'@'%' USING '{role}'@'%'")
        return {str(granted) for (granted,) in rows} - {f"GRANT `{role}`@`%` TO `{username}`@`%`"}


_DUAL, _ALTERNATING = Strategy.DUAL_PASSWORD, Strategy.ALTERNATING_USERS
_WORLDS: dict[str, tuple[str, type[_Live], Strategy]] = {
    "mariadb-dual": ("mariadb_server", LiveMariaDb, _DUAL),
    "mariadb-alternating": ("mariadb_server", LiveMariaDb, _ALTERNATING),
    "mysql-dual": ("mysql_server", LiveMySql, _DUAL),
    "mysql-alternating": ("mysql_server", LiveMySql, _ALTERNATING),
}


@pytest.fixture
def live(request: pytest.FixtureRequest) -> Iterator[_Live]:
    server, harness, strategy = _WORLDS[request.param]
    world = harness(request.getfixturevalue(server), strategy)
    yield world
    world.execute("SET GLOBAL require_secure_transport = ON")


def worlds(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("live", names, indirect=True)


every_world = worlds(*_WORLDS)
each_engine = worlds("mariadb-dual", "mysql-dual")
alternating = worlds("mariadb-alternating", "mysql-alternating")


def stage_next(live: _Live) -> CredentialValue:
    """Stage what the first rotation stages, beside the live login."""
    username = live.credential.usernames[-1]
    pending = value_of(live, 1, username=username)
    with live.database.exclusive() as stager:
        stager.stage(current=CredentialValue(0, live.live), pending=pending)
    return pending


@every_world
def test_the_application_works_through_both_values(live: _Live) -> None:
    before = live.work(live.live)
    live.run_script(existing=True)
    pending = stage_next(live)
    assert live.work(live.live) == before + 1
    assert live.work(pending.login) == before + 2
    assert live.work(live.live, tls=True) == before + 3
    assert live.work(pending.login, tls=True) == before + 4


@every_world
def test_a_client_without_tls_still_connects(live: _Live) -> None:
    live.run_script(existing=True)
    pending = stage_next(live)
    for login in (live.live, pending.login):
        live.connect(login).close()


@alternating
def test_the_second_username_may_do_what_the_first_may_and_no_more(live: _Live) -> None:
    live.run_script(existing=True)
    first, second = live.credential.usernames
    granted = live.grants(first)
    assert live.grants(second) == {g.replace(f"`{first}`", f"`{second}`") for g in granted}
    assert len(granted) >= 5


@alternating
def test_tls_that_was_required_stays_required_of_both(live: _Live) -> None:
    live.execute(f"ALTER USER '{live.live.username}'@'%' REQUIRE SSL")
    live.run_script(existing=True)
    pending = stage_next(live)
    assert live.work(pending.login, tls=True)
    with pytest.raises(pymysql.err.OperationalError):
        live.connect(pending.login)


@every_world
def test_an_account_that_works_is_not_changed(live: _Live) -> None:
    before = live.state()[:2]
    live.run_script(existing=True)
    assert live.state()[:2] == before


@every_world
@pytest.mark.parametrize("existing", [True, False])
def test_run_again_it_changes_nothing(live: _Live, *, existing: bool) -> None:
    live.run_script(existing=existing)
    once, script = live.state(), live.script(existing=existing).statements
    live.execute(*script)
    assert live.state() == once
    pending = stage_next(live)
    staged = live.state()
    live.execute(*script)
    assert live.state() == staged
    assert live.database.accepts(pending.login)


@every_world
def test_the_face_for_new_accounts_leaves_a_live_one_alone(live: _Live) -> None:
    before = live.state()[:2]
    live.run_script()
    assert live.state()[:2] == before
    assert live.work(live.live)


@every_world
@pytest.mark.parametrize("existing", [True, False])
def test_no_word_of_the_script_is_a_password(live: _Live, *, existing: bool) -> None:
    live.execute(f"DROP USER IF EXISTS '{ROTATOR}'@'%'")
    script = live.script(existing=existing)
    live.execute(*script.statements)
    words = {"", *re.findall(r"'([^']*)'", script.text()), *re.findall(r"<[^>\n]*>", script.text())}
    logins = [Login(u, SecretStr(w)) for u in (*live.credential.usernames, ROTATOR) for w in words]
    accepted = []
    for login in logins:
        try:
            live.connect(login, tls=True).close()
        except pymysql.err.OperationalError as e:
            if e.args[0] != 1045:  # e.g. 1044: the password was right
                accepted.append(login.username)
        else:
            accepted.append(login.username)
    assert not accepted
    live.run_script(existing=existing)


@every_world
@pytest.mark.parametrize("existing", [True, False])
def test_the_command_line_client_runs_the_script(live: _Live, *, existing: bool) -> None:
    done = run_in_client(live, live.script(existing=existing).text())
    assert done.returncode == 0, done.stderr
    assert "to know" in done.stdout or existing
    once = live.state()
    live.execute(*live.script(existing=existing).statements)
    assert live.state() == once


def run_in_client(live: _Live, text: str) -> "subprocess.CompletedProcess[str]":
    client = shutil.which("mariadb")
    if client is None:
        pytest.skip("no command-line client; Debian and Ubuntu: apt-get install mariadb-client")
    options = [
        "--protocol=tcp",
        "--host=127.0.0.1",
        f"--port={live.server_port}",
        "--ssl-verify-server-cert=OFF",
    ]
    return subprocess.run(  # noqa: S603 - the client that was found
        [client, "--no-defaults", *options, f"--user={live.sandbox.superuser}", DATABASE],
        input=text,
        env={**os.environ, "MYSQL_PWD": live.sandbox.superuser_password},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


# What must be changed first


@contextmanager
def stopped(live: _Live, message: str, *, existing: bool = True) -> Iterator[None]:
    """The script stops with a message, and has made no account."""
    there, rotators = live.usernames_there(), live.execute("SELECT COUNT(*) FROM mysql.user")
    with pytest.raises(pymysql.err.MySQLError, match=f"Lockstep stops: .*{message}"):
        live.run_script(existing=existing)
    assert live.usernames_there() == there
    assert live.execute("SELECT COUNT(*) FROM mysql.user") == rotators
    yield


def alter(live: _Live, change: str) -> None:
    live.execute(f"ALTER USER '{live.live.username}'@'%' {change}")


@every_world
@pytest.mark.parametrize("existing", [True, False])
def test_several_entries_of_one_username(live: _Live, *, existing: bool) -> None:
    live.execute(f"CREATE USER '{live.live.username}'@'10.%' IDENTIFIED BY 'x'")
    with stopped(live, f"'{live.live.username}'@'10.%' takes clients from that host", existing=existing):
        live.execute(f"DROP USER '{live.live.username}'@'10.%'")
    live.run_script(existing=existing)


@each_engine
def test_an_anonymous_account(live: _Live) -> None:
    live.execute("CREATE USER ''@'10.1.2.3'")
    try:
        with stopped(live, "''@'10.1.2.3' is an anonymous account"):
            pass
    finally:
        live.execute("DROP USER ''@'10.1.2.3'")


@each_engine
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("ACCOUNT LOCK", "is locked: ACCOUNT UNLOCK"),
        ("PASSWORD EXPIRE", "has an expired password"),
        ("REQUIRE X509", "requires a certificate of the client"),
    ],
)
def test_an_account_that_lockstep_could_not_log_in_with(live: _Live, change: str, message: str) -> None:
    alter(live, change)
    with stopped(live, message):
        pass


@worlds("mysql-dual")
@pytest.mark.parametrize(
    ("version", "old"),
    [
        ("5.7.44-log", True),
        ("8.0.20", True),
        ("8.0.21", False),
        ("8.0.36-0ubuntu0.22.04.1", False),
        ("9.7.4", False),
        ("11.8.9-MariaDB", True),
    ],
)
def test_a_mysql_that_is_too_old(live: LiveMySql, version: str, *, old: bool) -> None:
    script = [s.replace("VERSION()", f"'{version}'") for s in live.script().statements]
    if not old:
        live.execute(*script)
        return
    with pytest.raises(pymysql.err.MySQLError, match=r"Lockstep stops: this is not MySQL 8.0.21 or newer"):
        live.execute(*script)


@worlds("mariadb-dual")
@pytest.mark.parametrize(
    ("version", "old"),
    [
        ("10.3.39-MariaDB-log", True),
        ("10.4.0-MariaDB", False),
        ("10.11.6-MariaDB-1:10.11.6+maria~ubu2204", False),
        ("8.0.36", True),
    ],
)
def test_a_mariadb_that_takes_no_two_passwords(live: LiveMariaDb, version: str, *, old: bool) -> None:
    script = [s.replace("VERSION()", f"'{version}'") for s in live.script().statements]
    if not old:
        live.execute(*script)
        return
    with pytest.raises(pymysql.err.MySQLError, match=r"Lockstep stops: this is not MariaDB 10.4 or newer"):
        live.execute(*script)


@alternating
def test_an_account_of_the_host_that_the_plan_names(live: _Live) -> None:
    name = live.live.username
    live.execute(f"RENAME USER '{name}'@'%' TO '{name}'@'127.0.0.%'")
    # MySQL shows no more than the first 128 characters of what stopped it.
    with stopped(live, f"'{name}'@'127.0.0.%' takes clients"):
        live.credential = structs.replace(live.credential, account_host="127.0.0.%")
    live.database = live.open()
    live.run_script(existing=True)
    pending = stage_next(live)
    assert live.work(live.live)
    assert live.work(pending.login)
    hosts = live.execute(
        f"SELECT DISTINCT host FROM mysql.user WHERE user IN ('{name}', '{pending.login.username}')"
    )
    assert hosts == [("127.0.0.%",)]


@worlds("mysql-dual", "mysql-alternating")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("FAILED_LOGIN_ATTEMPTS 1 PASSWORD_LOCK_TIME 1", "is locked by one wrong password"),
        ("IDENTIFIED BY 'second' RETAIN CURRENT PASSWORD", "has a second password that is not Lockstep's"),
    ],
)
def test_a_policy_of_mysql(live: LiveMySql, change: str, message: str) -> None:
    alter(live, change)
    with stopped(live, message):
        pass


@worlds("mysql-dual")
def test_two_refusals_may_lock_an_account_and_a_history_is_not_asked(live: LiveMySql) -> None:
    alter(
        live,
        "FAILED_LOGIN_ATTEMPTS 2 PASSWORD_LOCK_TIME 1 PASSWORD HISTORY 5 PASSWORD REUSE INTERVAL 365 DAY",
    )
    live.run_script(existing=True)
    assert live.work(stage_next(live).login)
    assert live.work(live.live)


@worlds("mysql-dual")
def test_a_password_past_its_lifetime(live: LiveMySql) -> None:
    alter(live, "PASSWORD EXPIRE INTERVAL 1 DAY")
    live.run_script(existing=True)
    live.execute(
        f"UPDATE mysql.user SET password_last_changed = NOW() - INTERVAL 2 DAY WHERE user = '{live.live.username}'",
        "FLUSH PRIVILEGES",
    )
    with stopped(live, "has outlived its password lifetime"):
        pass


@worlds("mysql-dual")
def test_an_account_out_of_the_rotators_reach(live: LiveMySql) -> None:
    live.execute(f"GRANT SYSTEM_USER ON *.* TO '{live.live.username}'@'%'")
    with stopped(live, "has SYSTEM_USER"):
        pass


@worlds("mariadb-dual")
def test_a_limit_of_one_refusal_on_mariadb(live: LiveMariaDb) -> None:
    live.execute("SET GLOBAL max_password_errors = 1")
    try:
        with stopped(live, "max_password_errors is 1"):
            pass
    finally:
        live.execute("SET GLOBAL max_password_errors = DEFAULT")


@worlds("mariadb-dual")
def test_a_mariadb_that_takes_no_verifiers(live: LiveMariaDb) -> None:
    live.execute("INSTALL SONAME 'simple_password_check'")
    try:
        with stopped(live, "strict_password_validation lets the server take no verifiers"):
            pass
    finally:
        live.execute("UNINSTALL SONAME 'simple_password_check'")


@worlds("mariadb-dual")
def test_a_plugin_that_keeps_no_password(live: LiveMariaDb) -> None:
    alter(live, "IDENTIFIED VIA unix_socket")
    with stopped(live, "has the plugin unix_socket"):
        pass


@each_engine
def test_a_read_only_server(live: _Live) -> None:
    live.execute("SET GLOBAL read_only = ON")
    try:
        with stopped(live, "this server is read-only"):
            pass
    finally:
        live.execute("SET GLOBAL read_only = OFF")


@every_world
def test_no_live_account(live: _Live) -> None:
    live.drop_account(live.live.username)
    with stopped(live, "none of .* has a password here: leave out --existing"):
        pass
