"""`lockstep plan sql` on real servers of every engine, beside an application that is running.

By the engines' own clients, and for accounts that are yet to be made: tests/docs, `SqlHarness.provision`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pg8000.native  # type: ignore[import-untyped]  # it ships no types
import pymysql
import pytest
from msgspec import structs

from lockstep.operate.plan_sql.scripts import Provisioning, provisioning
from lockstep.protocol.model import ROTATION_USER, CredentialValue, Engine, Login, SecretStr
from tests.contract.database_harness import DATABASE, POSTGRESQL, SQL_WORLDS, SqlHarness
from tests.support.memory import make_plan
from tests.support.servers import connect

pytest_plugins = ["tests.contract.database_harness"]

HOW_TO = Path(__file__).resolve().parents[2] / "docs/how-to/postgresql-live-login.md"
LIVE_PASSWORD = "The-applications-own-1"


FAMILY_MADE = (
    "SET GLOBAL require_secure_transport = OFF;"
    " CREATE TABLE {username}_orders (id INT PRIMARY KEY AUTO_INCREMENT, what TEXT);"
    " CREATE TABLE {username}_prices (what INT, price INT, margin INT);"
    " CREATE PROCEDURE {username}_count() SELECT COUNT(*) FROM {username}_orders;"
    " CREATE ROLE {username}_readers;"
    " CREATE TABLE {username}_stock (id INT);"
    " GRANT SELECT ON {db}.{username}_stock TO {username}_readers;"
    " CREATE USER {account} IDENTIFIED BY '{password}';"
    " GRANT CREATE TEMPORARY TABLES ON {db}.* TO {account};"
    " GRANT SELECT, INSERT, ALTER ON {db}.{username}_orders TO {account} WITH GRANT OPTION;"
    " GRANT SELECT (price) ON {db}.{username}_prices TO {account};"
    " GRANT EXECUTE ON PROCEDURE {db}.{username}_count TO {account};"
    " GRANT {username}_readers TO {account};"
    " SET DEFAULT ROLE {username}_readers "
)
"""With rights that others granted, and without TLS."""
# Two refusals may lock an account, and a history is not asked.
MYSQL_MADE = "TO {account}; {alter} FAILED_LOGIN_ATTEMPTS 2 PASSWORD_LOCK_TIME 1 PASSWORD HISTORY 5"
POSTGRESQL_MADE = (
    "CREATE ROLE {account} LOGIN PASSWORD '{password}' CONNECTION LIMIT 20;"
    " GRANT CONNECT, TEMPORARY, CREATE ON DATABASE {db} TO {account}"
)
FAMILY_WORK = (
    "INSERT INTO {username}_orders (what) VALUES ('work'); ALTER TABLE {username}_orders COMMENT 'altered';"
    " CREATE TEMPORARY TABLE IF NOT EXISTS basket (id INT); SELECT price FROM {username}_prices;"
    " SELECT * FROM {username}_stock; CALL {username}_count()"
)
POSTGRESQL_WORK = (
    "INSERT INTO orders (what) VALUES ('work'); ALTER TABLE orders ALTER what SET DEFAULT 'nothing';"
    " CREATE TEMPORARY TABLE IF NOT EXISTS basket (id INT); SELECT COUNT(*) FROM orders"
)


class Live(SqlHarness):
    """An application that works already: with objects or rights of its own, and a password that stays."""

    def provision(self, *, existing: bool = False) -> None:
        del existing
        self.live = Login(self.credential.usernames[0], SecretStr(LIVE_PASSWORD))
        if self.is_postgresql:
            self.on_live(POSTGRESQL_MADE)
            with closing(self.session(self.live)) as session:
                session.run(f"CREATE SCHEMA {self.live.username}")
                # Found by "$user" in the search path.
                session.run("CREATE TABLE orders (id SERIAL PRIMARY KEY, what TEXT)")
        else:
            self.on_live(FAMILY_MADE + (MYSQL_MADE if self.engine is Engine.MYSQL else "FOR {account}"))

    def on_live(self, statements: str) -> list[Any]:
        return self.run(statements, self.live.username, password=LIVE_PASSWORD)

    def script(self, *, existing: bool = True) -> Provisioning:
        """`--existing` prints nothing for PostgreSQL: a how-to page says what a DBA does before the script."""
        has_option = existing and not self.is_postgresql
        return provisioning(make_plan(), self.credential, self.server, existing=has_option)

    def begin(self) -> None:
        """What a DBA does before the script, where the account is live: by the how-to page of PostgreSQL."""
        if self.is_postgresql:
            blocks = re.findall(r"```sql\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
            text = "".join(blocks).replace("books_owner", self.credential.owner or "")
            text = text.replace("books", self.live.username)
            self.execute(*(statement.strip() for statement in text.split(";") if statement.strip()))

    def prepare(self) -> None:
        """Let the credential be ready for its first rotation, from the live account."""
        self.begin()
        if self.is_postgresql:
            path = f"{{alter}} SET search_path TO {self.live.username}, public"
            self.on_live(f"GRANT CREATE ON DATABASE {{db}} TO {{owner}}; {path}")
            super().provision()
            self.run(path, self.credential.usernames[1])
        else:
            super().provision(existing=True)

    def session(self, login: Login, *, tls: bool = True) -> Any:  # noqa: ANN401 - of a driver
        if self.is_postgresql:
            return connect(self.sandbox, login, DATABASE, "live")
        return pymysql.connect(
            host="127.0.0.1",
            port=self.sandbox.listening_port,  # The server's own, past what stands in front of it.
            user=login.username,
            password=login.password.reveal().encode(),
            database=DATABASE,
            ssl_disabled=not tls,
            ssl_verify_cert=False,
        )

    def work_in(self, session: Any) -> int:  # noqa: ANN401 - of a driver
        """What the application does; the number of its orders."""
        if self.is_postgresql:
            return int([session.run(statement) for statement in POSTGRESQL_WORK.split("; ")][-1][0][0])
        with session.cursor() as cursor:
            for statement in FAMILY_WORK.format(username=self.live.username).split("; "):
                cursor.execute(statement)
            (count,) = cursor.fetchone() or (0,)
            session.commit()
            return int(count)

    def work(self, login: Login, *, tls: bool = True) -> int:
        """The same in a session of its own."""
        with closing(self.session(login, tls=tls)) as session:
            return self.work_in(session)

    def stage_next(self) -> CredentialValue:
        """Stage what the first rotation stages, beside the live login."""
        pending = self.value(1, username=self.credential.usernames[-1])
        self.stage(CredentialValue(0, self.live), pending)
        return pending

    def state(self) -> list[Any]:
        """The accounts, and on PostgreSQL with what they own and may do."""
        if self.is_postgresql:
            names = (*self.credential.usernames, self.credential.owner, ROTATION_USER)
            roles = ", ".join(f"'{name}'" for name in names)
            return [sorted(map(str, self.execute(f"SELECT {query} IN ({roles})"))) for query in STATE]
        described: list[Any] = []
        for username in (*self.credential.usernames, ROTATION_USER):
            if self.run("SELECT 1 FROM mysql.user WHERE user = '{username}'", username):
                described.append(self.run("SHOW CREATE USER {account}", username))
                described.append(sorted(self.run("SHOW GRANTS FOR {account}", username)))
        return described

    def grants(self, username: str) -> set[str]:
        """What an account may do, without how it logs in, and in MySQL with the rights of its roles.

        There the second username has the first as a role.
        """
        if self.engine is Engine.MARIADB:
            rows = self.run("SHOW GRANTS FOR {account}", username)
            return {re.sub(" IDENTIFIED .*", "", str(granted)) for (granted,) in rows}
        first = self.live.username
        role = f"{first}_readers" if username == first else first
        rows = self.run("SHOW GRANTS FOR {account} USING '{role}'@'%'", username, role=role)
        return {str(granted) for (granted,) in rows} - {f"GRANT `{role}`@`%` TO `{username}`@`%`"}


STATE = (
    "* FROM pg_authid WHERE rolname",
    "roleid, member, admin_option FROM pg_auth_members WHERE member::regrole::text",
    "* FROM pg_db_role_setting WHERE setrole::regrole::text",
    "* FROM pg_shdepend WHERE refobjid::regrole::text",
    "* FROM pg_default_acl WHERE defaclrole::regrole::text",
)


@pytest.fixture
def live(request: pytest.FixtureRequest) -> Iterator[Live]:
    kind = SQL_WORLDS[request.param]
    made = Live(request.getfixturevalue(kind.server), kind)
    yield made
    if not made.is_postgresql:
        made.execute("SET GLOBAL require_secure_transport = ON")


def worlds(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("live", names, indirect=True)


every_world = worlds(*SQL_WORLDS)
alternating = worlds("mariadb-alternating", "mysql-alternating")


@every_world
def test_the_application_works_through_both_values_and_its_password_stays(live: Live) -> None:
    """Also in a session that was open before. Run again the script changes nothing."""
    with closing(live.session(live.live)) as session:
        before, verifier, account = live.work_in(session), live.verifier_of(live.live.username), live.state()
        live.prepare()
        script, once = live.script().statements, live.state()
        assert live.is_postgresql or once[:2] == account[:2]
        live.execute(*script)
        assert (live.state(), live.verifier_of(live.live.username)) == (once, verifier)
        pending = live.stage_next()
        assert live.work_in(session) == before + 1
    once = live.state()
    live.execute(*script)
    assert live.state() == once
    for number, login in enumerate((live.live, pending.login), before + 2):
        assert live.work(login) == number
    if not live.is_postgresql:
        live.execute(*live.script(existing=False).statements)
        assert live.state()[:2] == once[:2]
        assert [live.work(login, tls=False) for login in (live.live, pending.login)] == [
            before + 4,
            before + 5,
        ]


# MySQL and MariaDB


@alternating
def test_the_second_username_may_do_what_the_first_may_and_no_more(live: Live) -> None:
    """TLS that was required stays required of both."""
    live.on_live("{alter} REQUIRE SSL")
    live.prepare()
    first, second = live.credential.usernames
    granted = live.grants(first)
    assert live.grants(second) == {g.replace(f"`{first}`", f"`{second}`") for g in granted}
    assert len(granted) >= 5
    pending = live.stage_next()
    assert live.work(pending.login)
    with pytest.raises(pymysql.err.OperationalError):
        live.session(pending.login, tls=False)


@alternating
def test_an_account_of_the_host_that_the_plan_names(live: Live) -> None:
    """On another one as well it would stop: `STOPS`."""
    live.on_live("RENAME USER {account} TO '{username}'@'127.0.0.%'")
    live.credential = structs.replace(live.credential, account_host="127.0.0.%")
    live.database = live.open()
    live.prepare()
    pending = live.stage_next()
    assert live.work(live.live)
    assert live.work(pending.login)


# What servers claim to be that are new enough, and that are not, and what the script wants of those.
VERSIONS = {
    Engine.MYSQL: (("8.0.21", "8.0.36-0ubuntu0.22.04.1"), ("5.7.44-log", "8.0.20"), "MySQL 8.0.21"),
    Engine.MARIADB: (("10.4.0-MariaDB", "10.11.6-MariaDB-1"), ("10.3.39-MariaDB", "8.0.36"), "MariaDB 10.4"),
}


@worlds("mysql-dual", "mariadb-dual")
def test_a_server_that_is_too_old(live: Live) -> None:
    new, old, wanted = VERSIONS[live.engine]
    for version in (*new, *old):
        with ExitStack() as stops:
            if version in old:
                says = f"Lockstep stops: this is not {wanted} or newer"
                stops.enter_context(pytest.raises(pymysql.err.MySQLError, match=says))
            live.execute(*(s.replace("VERSION()", f"'{version}'") for s in live.script().statements))


# PostgreSQL


@worlds(*POSTGRESQL)
def test_what_either_login_makes_the_other_may_alter(live: Live) -> None:
    """Also over a pooler that discards a session's state."""
    live.prepare()
    pending = live.stage_next()
    for maker, other in ((live.live, pending.login), (pending.login, live.live)):
        with closing(live.session(maker)) as session:
            session.run("DISCARD ALL")
            session.run(f"CREATE TABLE of_{maker.username} (id INT)")
        with closing(live.session(other)) as session:
            session.run(f"ALTER TABLE of_{maker.username} ADD what TEXT")


# What must be changed first


def require_stop(live: Live, says: str) -> None:
    """The script stops, and has made no account."""
    accounts = "SELECT rolname FROM pg_roles" if live.is_postgresql else "SELECT user, host FROM mysql.user"
    before = sorted(live.execute(accounts))
    with pytest.raises(
        (pymysql.err.MySQLError, pg8000.native.DatabaseError), match=f"Lockstep stops: .*{says}"
    ):
        live.execute(*live.script().statements)
    assert sorted(live.execute(accounts)) == before


_OUTLIVED = (
    "{alter} PASSWORD EXPIRE INTERVAL 1 DAY; UPDATE mysql.user SET password_last_changed ="
    " NOW() - INTERVAL 2 DAY WHERE user = '{username}'; FLUSH PRIVILEGES"
)
_FIXED = "ALTER ROLE {rotator} LOGIN CREATEROLE VALID UNTIL 'infinity'"
MYSQL, MARIADB = ("mysql-dual",), ("mariadb-dual",)
BOTH = (*MARIADB, *MYSQL)
STOPS: Mapping[tuple[str, ...], Sequence[tuple[str, str] | tuple[str, str, str]]] = {
    BOTH: (
        (
            "CREATE USER '{username}'@'10.%' IDENTIFIED BY 'x'",
            "{username}: it also takes clients from '10.%'",
        ),
        (
            "CREATE USER ''@'10.1.2.3'",
            "an anonymous account takes clients from '10.1.2.3'",
            "DROP USER ''@'10.1.2.3'",
        ),
        ("{alter} ACCOUNT LOCK", "{username}: it is locked"),
        ("{alter} PASSWORD EXPIRE", "has an expired password"),
        ("{alter} REQUIRE X509", "requires a certificate of the client"),
        ("DROP USER {account}", "none of .* has a password here: leave out --existing"),
    ),
    MYSQL: (
        ("{alter} FAILED_LOGIN_ATTEMPTS 1 PASSWORD_LOCK_TIME 1", "is locked by one wrong password"),
        (
            "{alter} IDENTIFIED BY 'second' RETAIN CURRENT PASSWORD",
            "has a second password that is not Lockstep's",
        ),
        (_OUTLIVED, "has outlived its password lifetime"),
        ("GRANT SYSTEM_USER ON *.* TO {account}", "has SYSTEM_USER"),
    ),
    MARIADB: (
        (
            "SET GLOBAL max_password_errors = 1",
            "max_password_errors is 1",
            "SET GLOBAL max_password_errors = DEFAULT",
        ),
        (
            "INSTALL SONAME 'simple_password_check'",
            "with strict_password_validation the server takes no verifiers",
            "UNINSTALL SONAME 'simple_password_check'",
        ),
        ("{alter} IDENTIFIED VIA unix_socket", "has the plugin unix_socket"),
    ),
    POSTGRESQL: (
        ("{alter} VALID UNTIL '2030-01-01'", "is VALID UNTIL 2030"),
        ("{alter} NOLOGIN", "is NOLOGIN"),
        ("{alter} SUPERUSER", "is a superuser or has REPLICATION"),
        ("{alter} REPLICATION", "is a superuser or has REPLICATION"),
        ("{alter} CONNECTION LIMIT 1", "its CONNECTION LIMIT of 1 is too low"),
        ("{alter} SET role = {username}", "does not act as {owner}"),
        (
            "{alter} RESET role; {alter} IN DATABASE {db} SET role TO {owner}",
            "{username}: it exists, and does not act as {owner}, .*: docs/how-to/",
        ),
        ("ALTER ROLE {owner} LOGIN", "logs in itself"),
        ("ALTER ROLE {rotator} NOCREATEROLE", "{rotator}", _FIXED),
        ("ALTER ROLE {rotator} NOLOGIN", "{rotator}", _FIXED),
        ("ALTER ROLE {rotator} VALID UNTIL '2020-01-01'", "{rotator}", _FIXED),
    ),
}
ROWS = [
    pytest.param(world, *row[:2], row[2] if len(row) == 3 else "", id=f"{world}: {row[1]}, {row[0]}")
    for names, rows in STOPS.items()
    for row in rows
    for world in names
]


@pytest.mark.parametrize(("live", "change", "says", "fix"), ROWS, indirect=["live"])
def test_what_must_be_changed_first(live: Live, change: str, says: str, fix: str) -> None:
    """By SQL; `fix` where it changes the server and not the account alone."""
    live.prepare() if "{rotator}" in change else live.begin()
    live.on_live(change)
    try:
        require_stop(live, says.format_map(live.names(live.live.username)))
    finally:
        live.on_live(fix)
