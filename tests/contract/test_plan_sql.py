"""`lockstep plan sql` on real servers of every engine, beside an application that is running."""

import os
import re
import shutil
import subprocess
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pg8000.native  # type: ignore[import-untyped]  # it ships no types
import pymysql
import pytest
from msgspec import structs

from lockstep.operate.plan_sql.scripts import Provisioning, provisioning
from lockstep.protocol.model import ROTATION_USER, CredentialValue, Login, SecretStr, Strategy
from tests.contract.database_harness import (
    DATABASE,
    MariaDbHarness,
    MySqlFamilyHarness,
    MySqlHarness,
    PlaintextPostgresHarness,
    PostgresHarness,
    SqlHarness,
    value_of,
)
from tests.support.memory import make_plan

pytest_plugins = ["tests.contract.database_fixtures"]

HOW_TO = Path(__file__).resolve().parents[2] / "docs/how-to/postgresql-live-login.md"
LIVE_PASSWORD = SecretStr("The-applications-own-1")


class Live(SqlHarness):
    """An application that works already: with objects or rights of its own, and a password that stays."""

    live: Login
    package: str

    def script(self, *, existing: bool = False) -> Provisioning:
        return provisioning(make_plan(), self.credential, self.server, existing=existing)

    def run_in_client(self, text: str) -> "subprocess.CompletedProcess[str]":
        """Run a script as a person does."""
        program, *options = self.command_line()
        found = shutil.which(program)
        if found is None:
            pytest.skip(f"there is no {program}; Debian and Ubuntu: apt-get install {self.package}")
        return subprocess.run(  # noqa: S603 - the client that was found
            [found, *options, DATABASE],
            input=text,
            env={**os.environ, **self.password},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    @property
    @abstractmethod
    def password(self) -> dict[str, str]:
        """The superuser's, as a variable of the client."""

    @abstractmethod
    def command_line(self) -> list[str]:
        """Of the client of the server, as the superuser."""

    @abstractmethod
    def prepare(self, *, existing: bool = True) -> None:
        """Let the credential be ready for its first rotation, from the live account or from none."""

    @abstractmethod
    def begin(self) -> None:
        """What a DBA does before the script, where the account is live."""

    @abstractmethod
    def remove(self) -> None:
        """Take the live account and the rotation user away."""

    @abstractmethod
    def takes(self, login: Login) -> bool:
        """Whether the server takes the password."""

    @abstractmethod
    def work(self, login: Login) -> int:
        """What the application does; the number of its orders."""

    @abstractmethod
    def state(self) -> list[Any]:
        """The credential's accounts and the rotation user, as the server describes them."""

    @abstractmethod
    def accounts(self) -> list[Any]:
        """The names of all accounts."""


class LiveMySqlFamily(Live, MySqlFamilyHarness):
    """With rights that others granted, and without TLS."""

    package = "mariadb-client"

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
        return f"SET DEFAULT ROLE {role} FOR {account}"

    @property
    def password(self) -> dict[str, str]:
        return {"MYSQL_PWD": self.sandbox.superuser_password}

    def command_line(self) -> list[str]:
        how = f"--no-defaults --protocol=tcp --host=127.0.0.1 --port={self.sandbox.listening_port}"
        return ["mariadb", *how.split(), "--ssl-verify-server-cert=OFF", f"--user={self.sandbox.superuser}"]

    def prepare(self, *, existing: bool = True) -> None:
        self.run_script(existing=existing)

    def begin(self) -> None:
        pass

    def remove(self) -> None:
        self.execute(f"DROP USER '{self.live.username}'@'%'", f"DROP USER IF EXISTS '{ROTATION_USER}'@'%'")

    def connect(self, login: Login, *, tls: bool = False) -> "pymysql.Connection[Any]":
        return pymysql.connect(
            host="127.0.0.1",
            port=self.sandbox.listening_port,  # The server's own, past what stands in front of it.
            user=login.username,
            password=login.password.reveal().encode(),
            database=DATABASE,
            ssl_disabled=not tls,
            ssl_verify_cert=False,
        )

    def takes(self, login: Login) -> bool:
        try:
            self.connect(login, tls=True).close()
        except pymysql.err.OperationalError as e:
            return bool(e.args[0] != 1045)  # e.g. 1044: the password was right
        return True

    def work(self, login: Login, *, tls: bool = False) -> int:
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
        described: list[Any] = []
        for username in (*self.credential.usernames, ROTATION_USER):
            if self.execute(f"SELECT 1 FROM mysql.user WHERE user = '{username}'"):
                described.append(self.execute(f"SHOW CREATE USER '{username}'@'%'"))
                described.append(sorted(self.execute(f"SHOW GRANTS FOR '{username}'@'%'")))
        return described

    def accounts(self) -> list[Any]:
        return self.execute("SELECT user, host FROM mysql.user ORDER BY 1, 2")

    def grants(self, username: str) -> set[str]:
        """What an account may do, without how it logs in."""
        rows = self.execute(f"SHOW GRANTS FOR '{username}'@'%'")
        return {re.sub(" IDENTIFIED .*", "", str(granted)) for (granted,) in rows}


class LiveMariaDb(LiveMySqlFamily, MariaDbHarness):
    """The family's."""


class LiveMySql(LiveMySqlFamily, MySqlHarness):
    def default_role(self, role: str, account: str) -> str:
        return f"SET DEFAULT ROLE {role} TO {account}"

    def grants(self, username: str) -> set[str]:
        """With those of its roles; the second username has the first as a role."""
        first = self.live.username
        role = f"{first}_readers" if username == first else first
        rows = self.execute(f"SHOW GRANTS FOR '{username}'@'%' USING '{role}'@'%'")
        return {str(granted) for (granted,) in rows} - {f"GRANT `{role}`@`%` TO `{username}`@`%`"}


class LivePostgres(Live, PostgresHarness):
    """With objects of its own."""

    package = "postgresql-client"

    def provision(self) -> None:
        self.live = Login(self.credential.usernames[0], LIVE_PASSWORD)
        app = self.live.username
        self.execute(
            f"CREATE ROLE {app} LOGIN PASSWORD '{LIVE_PASSWORD.reveal()}' CONNECTION LIMIT 20",
            f"GRANT CONNECT, TEMPORARY, CREATE ON DATABASE {DATABASE} TO {app}",
        )
        with self.session(self.live) as session:
            session.run(f"CREATE SCHEMA {app}")
            # Found by "$user" in the search path.
            session.run("CREATE TABLE orders (id SERIAL PRIMARY KEY, what TEXT)")

    @property
    def password(self) -> dict[str, str]:
        return {"PGPASSWORD": self.sandbox.superuser_password}

    def command_line(self) -> list[str]:
        how = f"--no-psqlrc --host=localhost --port={self.sandbox.port}"
        return ["psql", *how.split(), f"--username={self.sandbox.superuser}"]

    def begin(self) -> None:
        """By the how-to page."""
        blocks = re.findall(r"```sql\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
        text = "".join(blocks).replace("books_owner", self.credential.owner)
        text = text.replace("books", self.live.username)
        self.execute(*(statement.strip() for statement in text.split(";") if statement.strip()))

    def prepare(self, *, existing: bool = True) -> None:
        if not existing:
            self.run_script()
            return
        app, app_b = self.credential.usernames
        self.begin()
        self.execute(
            f"GRANT CREATE ON DATABASE {DATABASE} TO {self.credential.owner}",
            f"ALTER ROLE {app} SET search_path TO {app}, public",
        )
        self.run_script()
        self.execute(f"ALTER ROLE {app_b} SET search_path TO {app}, public")

    def remove(self) -> None:
        app = self.live.username
        self.execute(f"DROP OWNED BY {app} CASCADE", f"DROP ROLE {app}")
        if self.execute(f"SELECT FROM pg_roles WHERE rolname = '{ROTATION_USER}'"):
            self.execute(f"ALTER ROLE {ROTATION_USER} RENAME TO {ROTATION_USER}_{app}")

    @contextmanager
    def session(self, login: Login) -> Iterator[pg8000.native.Connection]:
        connection = pg8000.native.Connection(
            login.username,
            host="localhost",
            port=self.sandbox.port,
            database=DATABASE,
            password=login.password.reveal(),
            ssl_context=None if self.sandbox.ca_file else False,
        )
        with closing(connection):
            yield connection

    def takes(self, login: Login) -> bool:
        try:
            with self.session(login):
                return True
        except pg8000.native.DatabaseError as e:
            return "28P01" not in str(e)

    def work(self, login: Login) -> int:
        with self.session(login) as session:
            return self.work_in(session)

    def work_in(self, session: pg8000.native.Connection) -> int:
        session.run("INSERT INTO orders (what) VALUES ('work')")
        session.run("ALTER TABLE orders ALTER what SET DEFAULT 'nothing'")
        session.run("CREATE TEMPORARY TABLE IF NOT EXISTS basket (id INT)")
        return int(session.run("SELECT COUNT(*) FROM orders")[0][0])

    def state(self) -> list[Any]:
        """With what they own and may do."""
        roles = ", ".join(
            f"'{r}'" for r in (*self.credential.usernames, self.credential.owner, ROTATION_USER)
        )
        return [
            sorted(map(str, self.execute(f"SELECT {query} IN ({roles})")))
            for query in (
                "* FROM pg_authid WHERE rolname",
                "roleid, member, admin_option FROM pg_auth_members WHERE member::regrole::text",
                "* FROM pg_db_role_setting WHERE setrole::regrole::text",
                "* FROM pg_shdepend WHERE refobjid::regrole::text",
                "* FROM pg_default_acl WHERE defaclrole::regrole::text",
            )
        ]

    def accounts(self) -> list[Any]:
        return self.execute("SELECT rolname FROM pg_roles ORDER BY 1")


class PlaintextLivePostgres(LivePostgres, PlaintextPostgresHarness):
    """The same on a newer server, over which no client has TLS."""


_DUAL, _ALTERNATING = Strategy.DUAL_PASSWORD, Strategy.ALTERNATING_USERS
_WORLDS: dict[str, tuple[str, type[Live], Strategy]] = {
    "mariadb-dual": ("mariadb_server", LiveMariaDb, _DUAL),
    "mariadb-alternating": ("mariadb_server", LiveMariaDb, _ALTERNATING),
    "mysql-dual": ("mysql_server", LiveMySql, _DUAL),
    "mysql-alternating": ("mysql_server", LiveMySql, _ALTERNATING),
    "postgresql": ("postgres_server", LivePostgres, _ALTERNATING),
    "postgresql-18-plaintext": ("pgserver_server", PlaintextLivePostgres, _ALTERNATING),
}
MARIADB, MYSQL = ("mariadb-dual",), ("mysql-dual",)
FAMILY = (*MARIADB, *MYSQL)
POSTGRESQL = ("postgresql", "postgresql-18-plaintext")


@pytest.fixture
def live(request: pytest.FixtureRequest) -> Iterator[Live]:
    server, harness, strategy = _WORLDS[request.param]
    world = harness(request.getfixturevalue(server), strategy)
    yield world
    if isinstance(world, LiveMySqlFamily):
        world.execute("SET GLOBAL require_secure_transport = ON")


def worlds(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("live", names, indirect=True)


every_world = worlds(*_WORLDS)
of_the_family = worlds("mariadb-dual", "mariadb-alternating", "mysql-dual", "mysql-alternating")
alternating = worlds("mariadb-alternating", "mysql-alternating")
of_postgresql = worlds(*POSTGRESQL)
each_face = pytest.mark.parametrize("existing", [True, False])


def stage_next(live: Live) -> CredentialValue:
    """Stage what the first rotation stages, beside the live login."""
    pending = value_of(live, 1, username=live.credential.usernames[-1])
    with live.database.exclusive() as stager:
        stager.stage(current=CredentialValue(0, live.live), pending=pending)
    return pending


@every_world
def test_the_application_works_through_both_values_and_its_password_stays(live: Live) -> None:
    before, verifier = live.work(live.live), live.verifier_of(live.live.username)
    live.prepare()
    assert live.verifier_of(live.live.username) == verifier
    pending = stage_next(live)
    assert live.work(live.live) == before + 1
    assert live.work(pending.login) == before + 2
    if isinstance(live, LiveMySqlFamily):
        assert live.work(live.live, tls=True) == before + 3
        assert live.work(pending.login, tls=True) == before + 4


@every_world
@pytest.mark.parametrize("is_rotated", [False, True])
def test_run_again_it_changes_nothing(live: Live, *, is_rotated: bool) -> None:
    live.prepare()
    script = live.script(existing=isinstance(live, LiveMySqlFamily)).statements
    pending = stage_next(live) if is_rotated else None
    once = live.state()
    live.execute(*script)
    assert live.state() == once
    assert pending is None or live.database.accepts(pending.login)


@every_world
def test_no_word_of_the_script_for_new_accounts_is_a_password(live: Live) -> None:
    live.remove()
    script = live.script()
    live.execute(*script.statements)
    words = {*re.findall(r"'([^'\n]*)'", script.text()), *re.findall(r"<[^>\n]*>", script.text())} - {""}
    assert words
    for username in (*live.credential.usernames, ROTATION_USER):
        assert not [word for word in words if live.takes(Login(username, SecretStr(word)))]
    live.prepare(existing=False)
    once = live.state()
    live.execute(*script.statements)
    assert live.state() == once


@every_world
@each_face
def test_the_command_line_client_runs_the_script(live: Live, *, existing: bool) -> None:
    live.begin() if existing else live.remove()
    script = live.script(existing=existing and isinstance(live, LiveMySqlFamily))
    done = live.run_in_client(script.text())
    assert (done.returncode, "ERROR" in done.stderr) == (0, False), done.stderr
    once = live.state()
    live.execute(*script.statements)
    assert live.state() == once


# MySQL and MariaDB


@alternating
def test_the_second_username_may_do_what_the_first_may_and_no_more(live: LiveMySqlFamily) -> None:
    live.prepare()
    first, second = live.credential.usernames
    granted = live.grants(first)
    assert live.grants(second) == {g.replace(f"`{first}`", f"`{second}`") for g in granted}
    assert len(granted) >= 5


@alternating
def test_tls_that_was_required_stays_required_of_both(live: LiveMySqlFamily) -> None:
    live.execute(f"ALTER USER '{live.live.username}'@'%' REQUIRE SSL")
    live.prepare()
    pending = stage_next(live)
    assert live.work(pending.login, tls=True)
    with pytest.raises(pymysql.err.OperationalError):
        live.connect(pending.login)


@of_the_family
@each_face
def test_an_account_that_works_is_not_changed(live: LiveMySqlFamily, *, existing: bool) -> None:
    before = live.state()[:2]
    live.prepare(existing=existing)
    assert live.state()[:2] == before
    assert live.work(live.live)


@alternating
def test_an_account_of_the_host_that_the_plan_names(live: LiveMySqlFamily) -> None:
    name = live.live.username
    live.execute(f"RENAME USER '{name}'@'%' TO '{name}'@'127.0.0.%'")
    # MySQL shows no more than the first 128 characters of what stopped it.
    require_stop(live, f"{name}: it also takes clients from '127.0.0.%'")
    live.credential = structs.replace(live.credential, account_host="127.0.0.%")
    live.database = live.open()
    live.prepare()
    pending = stage_next(live)
    assert live.work(live.live)
    assert live.work(pending.login)
    hosts = live.execute(
        f"SELECT DISTINCT host FROM mysql.user WHERE user IN ('{name}', '{pending.login.username}')"
    )
    assert hosts == [("127.0.0.%",)]


@worlds(*MYSQL)
def test_two_refusals_may_lock_an_account_and_a_history_is_not_asked(live: LiveMySql) -> None:
    policy = "FAILED_LOGIN_ATTEMPTS 2 PASSWORD_LOCK_TIME 1 PASSWORD HISTORY 5 PASSWORD REUSE INTERVAL 365 DAY"
    live.execute(f"ALTER USER '{live.live.username}'@'%' {policy}")
    live.prepare()
    assert live.work(stage_next(live).login)
    assert live.work(live.live)


OLD = [
    ("mysql-dual", "5.7.44-log", "MySQL 8.0.21"),
    ("mysql-dual", "8.0.20", "MySQL 8.0.21"),
    ("mysql-dual", "8.0.21", None),
    ("mysql-dual", "8.0.36-0ubuntu0.22.04.1", None),
    ("mysql-dual", "9.7.4", None),
    ("mysql-dual", "11.8.9-MariaDB", "MySQL 8.0.21"),
    ("mariadb-dual", "10.3.39-MariaDB-log", "MariaDB 10.4"),
    ("mariadb-dual", "10.4.0-MariaDB", None),
    ("mariadb-dual", "10.11.6-MariaDB-1:10.11.6+maria~ubu2204", None),
    ("mariadb-dual", "8.0.36", "MariaDB 10.4"),
]


@pytest.mark.parametrize(("live", "version", "wanted"), OLD, indirect=["live"])
def test_a_server_that_is_too_old(live: LiveMySqlFamily, version: str, wanted: str | None) -> None:
    script = [s.replace("VERSION()", f"'{version}'") for s in live.script(existing=True).statements]
    if wanted is None:
        live.execute(*script)
        return
    with pytest.raises(pymysql.err.MySQLError, match=f"Lockstep stops: this is not {wanted} or newer"):
        live.execute(*script)


# PostgreSQL


@of_postgresql
def test_a_session_that_is_open_works_on(live: LivePostgres) -> None:
    with live.session(live.live) as session:
        before = live.work_in(session)
        live.prepare()
        stage_next(live)
        assert live.work_in(session) == before + 1


@of_postgresql
def test_what_either_login_makes_the_other_may_alter(live: LivePostgres) -> None:
    live.prepare()
    pending = stage_next(live)
    for maker, other, table in ((live.live, pending.login, "one"), (pending.login, live.live, "two")):
        with live.session(maker) as session:
            session.run(f"CREATE TABLE {table} (id INT)")
        with live.session(other) as session:
            session.run(f"ALTER TABLE {table} ADD what TEXT")
    made = live.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE tablename IN ('one', 'two')")
    owners = {owner for (owner,) in made}
    assert live.credential.owner in owners
    assert not owners & set(live.credential.usernames)


@of_postgresql
def test_a_pooler_that_discards_a_sessions_state(live: LivePostgres) -> None:
    live.prepare()
    before = live.work(live.live)
    for login in (live.live, stage_next(live).login):
        with live.session(login) as session:
            session.run("DISCARD ALL")
            before += 1
            assert live.work_in(session) == before


# What must be changed first


class Stop(NamedTuple):
    """What the script stops at.

    Attributes:
        worlds: On which servers.
        change: SQL, with the {app} or its {account}, its {owner} and the {rotation_user}.
        says: What the script says then.
        fix: SQL, where the server is changed and not the account alone.
    """

    worlds: tuple[str, ...]
    change: str
    says: str
    fix: str = ""


_ACCOUNT = "ALTER USER {account} "
_APP, _ROTATION_USER = "ALTER ROLE {app} ", "ALTER ROLE {rotation_user} "
_FIXED = "ALTER ROLE {rotation_user} LOGIN CREATEROLE VALID UNTIL 'infinity'"
_OUTLIVED = (
    f"{_ACCOUNT}PASSWORD EXPIRE INTERVAL 1 DAY; UPDATE mysql.user SET password_last_changed ="
    " NOW() - INTERVAL 2 DAY WHERE user = '{app}'; FLUSH PRIVILEGES"
)
STOPS = (
    Stop(FAMILY, "CREATE USER '{app}'@'10.%' IDENTIFIED BY 'x'", "{app}: it also takes clients from '10.%'"),
    Stop(
        FAMILY,
        "CREATE USER ''@'10.1.2.3'",
        "an anonymous account takes clients from '10.1.2.3'",
        "DROP USER ''@'10.1.2.3'",
    ),
    Stop(FAMILY, f"{_ACCOUNT}ACCOUNT LOCK", "{app}: it is locked"),
    Stop(FAMILY, f"{_ACCOUNT}PASSWORD EXPIRE", "has an expired password"),
    Stop(FAMILY, f"{_ACCOUNT}REQUIRE X509", "requires a certificate of the client"),
    Stop(FAMILY, "DROP USER {account}", "none of .* has a password here: leave out --existing"),
    Stop(FAMILY, "SET GLOBAL read_only = ON", "the server is read-only", "SET GLOBAL read_only = OFF"),
    Stop(MYSQL, f"{_ACCOUNT}FAILED_LOGIN_ATTEMPTS 1 PASSWORD_LOCK_TIME 1", "is locked by one wrong password"),
    Stop(
        MYSQL,
        f"{_ACCOUNT}IDENTIFIED BY 'second' RETAIN CURRENT PASSWORD",
        "has a second password that is not Lockstep's",
    ),
    Stop(MYSQL, _OUTLIVED, "has outlived its password lifetime"),
    Stop(MYSQL, "GRANT SYSTEM_USER ON *.* TO {account}", "has SYSTEM_USER"),
    Stop(
        MARIADB,
        "SET GLOBAL max_password_errors = 1",
        "max_password_errors is 1",
        "SET GLOBAL max_password_errors = DEFAULT",
    ),
    Stop(
        MARIADB,
        "INSTALL SONAME 'simple_password_check'",
        "with strict_password_validation the server takes no verifiers",
        "UNINSTALL SONAME 'simple_password_check'",
    ),
    Stop(MARIADB, f"{_ACCOUNT}IDENTIFIED VIA unix_socket", "has the plugin unix_socket"),
    Stop(POSTGRESQL, f"{_APP}VALID UNTIL '2030-01-01'", "is VALID UNTIL 2030"),
    Stop(POSTGRESQL, f"{_APP}NOLOGIN", "is NOLOGIN"),
    Stop(POSTGRESQL, f"{_APP}SUPERUSER", "is a superuser or has REPLICATION"),
    Stop(POSTGRESQL, f"{_APP}REPLICATION", "is a superuser or has REPLICATION"),
    Stop(POSTGRESQL, f"{_APP}CONNECTION LIMIT 1", "its CONNECTION LIMIT of 1 is too low"),
    Stop(POSTGRESQL, f"{_APP}SET role = {{app}}", "does not act as {owner}"),
    Stop(
        POSTGRESQL,
        f"{_APP}RESET role; {_APP}IN DATABASE {DATABASE} SET role TO {{owner}}",
        "{app}: it exists, and does not act as {owner}, .*: docs/how-to/",
    ),
    Stop(POSTGRESQL, "ALTER ROLE {owner} LOGIN", "logs in itself"),
    Stop(POSTGRESQL, f"{_ROTATION_USER}NOCREATEROLE", "{rotation_user}", _FIXED),
    Stop(POSTGRESQL, f"{_ROTATION_USER}NOLOGIN", "{rotation_user}", _FIXED),
    Stop(POSTGRESQL, f"{_ROTATION_USER}VALID UNTIL '2020-01-01'", "{rotation_user}", _FIXED),
)
ROWS = [(row, world) for row in STOPS for world in row.worlds]


def require_stop(live: Live, says: str) -> None:
    """The script stops, and has made no account."""
    before = live.accounts()
    with pytest.raises(
        (pymysql.err.MySQLError, pg8000.native.DatabaseError), match=f"Lockstep stops: .*{says}"
    ):
        live.execute(*live.script(existing=isinstance(live, LiveMySqlFamily)).statements)
    assert live.accounts() == before


@pytest.mark.parametrize(("row", "live"), ROWS, indirect=["live"])
def test_what_must_be_changed_first(live: Live, row: Stop) -> None:
    app = live.live.username
    names = {
        "app": app,
        "account": f"'{app}'@'%'",
        "owner": live.credential.owner,
        "rotation_user": ROTATION_USER,
    }
    if "{rotation_user}" in row.change:
        live.prepare()
    else:
        live.begin()
    live.execute(*row.change.format(**names).split("; "))
    try:
        require_stop(live, row.says.format(**names))
    finally:
        if row.fix:
            live.execute(row.fix.format(**names))
