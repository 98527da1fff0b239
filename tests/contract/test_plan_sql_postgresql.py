"""`lockstep plan sql` on real PostgreSQL servers, beside an application that is running."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import pg8000.native  # type: ignore[import-untyped]  # it ships no types
import pytest

from lockstep.databases.provisioning import Provisioning, provisioning
from lockstep.model import ROTATOR, CredentialValue, Login, SecretStr, Strategy
from tests.contract.database_harness import (
    DATABASE,
    PlaintextPostgresHarness,
    PostgresHarness,
    value_of,
)
from tests.support.memory import make_plan

pytest_plugins = ["tests.contract.database_fixtures"]

LIVE_PASSWORD = SecretStr("The-applications-own-1")


class LivePostgres(PostgresHarness):
    """An application that works already: with objects of its own, and rights that others granted it."""

    def provision(self) -> None:
        self.live = Login(self.credential.usernames[0], LIVE_PASSWORD)
        app = self.live.username
        self.execute(
            # What others made, and what of it the application may use
            f"CREATE ROLE {app}_vendor",
            f"CREATE ROLE {app}_readers",
            f"CREATE ROLE {app}_reporting LOGIN PASSWORD 'reporting'",
            f"CREATE SCHEMA {app}_vendor AUTHORIZATION {app}_vendor",
            f"CREATE TABLE {app}_vendor.prices (what INT, price INT, margin INT)",
            f"CREATE TABLE {app}_vendor.stock (id INT)",
            f"CREATE TABLE {app}_vendor.tenants (tenant TEXT)",
            f"INSERT INTO {app}_vendor.tenants VALUES ('mine'), ('theirs')",
            f"CREATE SEQUENCE {app}_vendor.numbers",
            f"CREATE FUNCTION {app}_vendor.answer() RETURNS INT LANGUAGE sql AS 'SELECT 42'",
            f"REVOKE EXECUTE ON FUNCTION {app}_vendor.answer() FROM PUBLIC",
            f"GRANT SELECT ON {app}_vendor.stock TO {app}_readers",
            f"CREATE ROLE {app} LOGIN PASSWORD '{LIVE_PASSWORD.reveal()}' CONNECTION LIMIT 20",
            f"GRANT CONNECT, TEMPORARY, CREATE ON DATABASE {DATABASE} TO {app}",
            f"GRANT CONNECT ON DATABASE {DATABASE} TO {app}_reporting",
            f"GRANT USAGE ON SCHEMA {app}_vendor TO {app}, {app}_readers",
            f"GRANT SELECT (what, price) ON {app}_vendor.prices TO {app} WITH GRANT OPTION",
            f"GRANT USAGE ON SEQUENCE {app}_vendor.numbers TO {app}",
            f"GRANT EXECUTE ON FUNCTION {app}_vendor.answer() TO {app}",
            f"GRANT SELECT ON {app}_vendor.tenants TO {app}",
            f"GRANT {app}_readers TO {app}",
            f"ALTER TABLE {app}_vendor.tenants ENABLE ROW LEVEL SECURITY",
            f"CREATE POLICY mine ON {app}_vendor.tenants TO {app} USING (tenant = 'mine')",
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA {app}_vendor GRANT SELECT ON TABLES TO {app}",
            f"ALTER ROLE {app} SET statement_timeout = '7s'",
            f"ALTER ROLE {app} SET \"app.tenant\" = 'mine, only'",
        )
        with self.session(self.live) as session:
            for statement in (
                f"CREATE SCHEMA {app}",
                # Found by "$user" in the search path.
                "CREATE TABLE orders (id SERIAL PRIMARY KEY, what TEXT)",
                "CREATE FUNCTION count_orders() RETURNS BIGINT LANGUAGE sql AS 'SELECT COUNT(*) FROM orders'",
                f"GRANT USAGE ON SCHEMA {app} TO {app}_reporting",
                f"GRANT SELECT ON orders TO {app}_reporting",
                f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {app}_reporting",
                "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
            ):
                session.run(statement)

    @contextmanager
    def session(self, login: Login, database: str = DATABASE) -> Iterator[pg8000.native.Connection]:
        connection = pg8000.native.Connection(
            login.username,
            host="localhost",
            port=self.sandbox.port,
            database=database,
            password=login.password.reveal(),
            ssl_context=None if self.sandbox.ca_file else False,
        )
        with closing(connection):
            yield connection

    def script(self, *, existing: bool = True) -> Provisioning:
        return provisioning(make_plan(), self.credential, self.server, existing=existing)

    def work(self, login: Login) -> int:
        """What the application does; the number of its orders."""
        with self.session(login) as session:
            return self.work_in(session)

    def work_in(self, session: pg8000.native.Connection) -> int:
        app = self.live.username
        session.run("INSERT INTO orders (what) VALUES ('work')")
        session.run("ALTER TABLE orders ALTER what SET DEFAULT 'nothing'")
        session.run("CREATE TEMPORARY TABLE IF NOT EXISTS basket (id INT)")
        session.run(f"SELECT what, price FROM {app}_vendor.prices")
        session.run(f"SELECT * FROM {app}_vendor.stock")
        session.run(f"SELECT nextval('{app}_vendor.numbers')")
        assert session.run(f"SELECT {app}_vendor.answer()") == [[42]]
        assert session.run(f"SELECT tenant FROM {app}_vendor.tenants") == [["mine"]]
        assert session.run("SHOW statement_timeout") == [["7s"]]
        assert session.run("SHOW app.tenant") == [["mine, only"]]
        return int(session.run("SELECT count_orders()")[0][0])

    def state(self) -> list[object]:
        """The roles of the credential, what they own and may do, and the rotator."""
        roles = ", ".join(f"'{r}'" for r in (*self.credential.usernames, self.credential.owner, ROTATOR))
        return [
            self.execute(statement)
            for statement in (
                (
                    "SELECT rolname, rolcanlogin, rolinherit, rolcreatedb, rolcreaterole, rolconnlimit, rolvaliduntil,"
                    " rolpassword"
                    f" FROM pg_authid WHERE rolname IN ({roles}) ORDER BY 1"
                ),
                (
                    "SELECT roleid::regrole::text, member::regrole::text, admin_option FROM pg_auth_members"
                    f" WHERE member::regrole::text IN ({roles}) ORDER BY 1, 2, 3"
                ),
                (
                    "SELECT setrole::regrole::text, setdatabase, setconfig FROM pg_db_role_setting"
                    f" WHERE setrole::regrole::text IN ({roles}) ORDER BY 1, 2"
                ),
                (
                    "SELECT dbid, classid, objid, objsubid, refobjid::regrole::text, deptype FROM pg_shdepend"
                    f" WHERE refobjid::regrole::text IN ({roles}) ORDER BY 1, 2, 3, 4, 5, 6"
                ),
                (
                    "SELECT defaclrole::regrole::text, defaclnamespace, defaclobjtype, defaclacl::text"
                    " FROM pg_default_acl ORDER BY 1, 2, 3"
                ),
            )
        ]

    def roles_there(self) -> list[object]:
        return list(self.execute("SELECT rolname FROM pg_roles ORDER BY 1"))


class PlaintextLivePostgres(LivePostgres, PlaintextPostgresHarness):
    """The same on a newer server, over which no client has TLS."""


_WORLDS: dict[str, tuple[str, type[LivePostgres]]] = {
    "postgresql": ("postgres_server", LivePostgres),
    "postgresql-18-plaintext": ("pgserver_server", PlaintextLivePostgres),
}


@pytest.fixture(params=_WORLDS)
def live(request: pytest.FixtureRequest) -> LivePostgres:
    server, harness = _WORLDS[request.param]
    return harness(request.getfixturevalue(server), Strategy.ALTERNATING_USERS)


def stage_next(live: LivePostgres) -> CredentialValue:
    """Stage what the first rotation stages, beside the live login."""
    pending = value_of(live, 1, username=live.credential.usernames[1])
    with live.database.exclusive() as stager:
        stager.stage(current=CredentialValue(0, live.live), pending=pending)
    return pending


def test_the_application_works_through_both_usernames(live: LivePostgres) -> None:
    before = live.work(live.live)
    live.run_script(existing=True)
    pending = stage_next(live)
    assert live.work(live.live) == before + 1
    assert live.work(pending.login) == before + 2


def test_a_session_that_is_open_works_on(live: LivePostgres) -> None:
    with live.session(live.live) as session:
        before = live.work_in(session)
        live.run_script(existing=True)
        pending = stage_next(live)
        assert live.work_in(session) == before + 1
    assert live.work(pending.login) == before + 2


def test_what_either_login_makes_the_other_may_alter(live: LivePostgres) -> None:
    live.run_script(existing=True)
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


def test_what_an_open_session_makes_is_taken_over_when_the_script_runs_again(live: LivePostgres) -> None:
    with live.session(live.live) as session:
        live.run_script(existing=True)
        session.run("CREATE TABLE late (id INT)")
    live.run_script(existing=True)
    with live.session(stage_next(live).login) as session:
        session.run("DROP TABLE late")


def test_a_pooler_that_discards_a_sessions_state(live: LivePostgres) -> None:
    live.run_script(existing=True)
    before = live.work(live.live)
    for login in (live.live, stage_next(live).login):
        with live.session(login) as session:
            session.run("DISCARD ALL")
            before += 1
            assert live.work_in(session) == before


def test_others_keep_what_the_application_gave_them(live: LivePostgres) -> None:
    live.run_script(existing=True)
    app = live.live.username
    with live.session(stage_next(live).login) as session:
        session.run("CREATE TABLE later (id INT)")
        session.run("CREATE FUNCTION hidden() RETURNS INT LANGUAGE sql AS 'SELECT 1'")
        session.run(f"GRANT SELECT (what) ON {app}_vendor.prices TO {app}_reporting")
    with live.session(Login(f"{app}_reporting", SecretStr("reporting"))) as session:
        session.run(f"SELECT * FROM {app}.orders")
        session.run(f"SELECT * FROM {app}.later")
        with pytest.raises(pg8000.native.DatabaseError, match="42501"):
            session.run(f"SELECT {app}.hidden()")


def test_what_others_make_later_reaches_both(live: LivePostgres) -> None:
    live.run_script(existing=True)
    live.execute(f"CREATE TABLE {live.live.username}_vendor.later (id INT)")
    for login in (live.live, stage_next(live).login):
        with live.session(login) as session:
            session.run(f"SELECT * FROM {live.live.username}_vendor.later")


def test_the_other_databases_of_the_server_see_no_change(live: LivePostgres) -> None:
    app = live.live.username
    live.sandbox.execute_as_superuser(f"CREATE DATABASE {app}_other")
    live.sandbox.execute_as_superuser(
        f"CREATE TABLE own (id INT); ALTER TABLE own OWNER TO {app}", database=f"{app}_other"
    )
    live.run_script(existing=True)
    rows = live.sandbox.execute_as_superuser(
        "SELECT tableowner FROM pg_tables WHERE tablename = 'own'", database=f"{app}_other"
    )
    assert rows == [(app,)]
    connection = pg8000.native.Connection(
        app,
        host="localhost",
        port=live.sandbox.port,
        database=f"{app}_other",
        password=LIVE_PASSWORD.reveal(),
        ssl_context=None if live.sandbox.ca_file else False,
    )
    with closing(connection):
        assert connection.run("SELECT current_user") == [[app]]
        connection.run("DROP TABLE own")


def test_an_administrator_that_is_no_superuser(live: LivePostgres) -> None:
    """As on a managed server, where nobody is; what it borrows, it gives back."""
    name = live.live.username
    master, app = Login(f"{name}_master", SecretStr("m")), Login(f"{name}_app", SecretStr("a"))
    database, (app_b, owner) = f"{name}_managed", (f"{app.username}_b", f"{app.username}_owner")
    live.sandbox.execute_as_superuser(
        [
            f"CREATE ROLE {master.username} LOGIN CREATEROLE CREATEDB PASSWORD 'm'",
            f"CREATE DATABASE {database} OWNER {master.username}",
        ]
    )
    with live.session(master, database) as session:
        for statement in (
            f"CREATE ROLE {app.username} LOGIN PASSWORD 'a'",
            f"GRANT CREATE ON DATABASE {database} TO {app.username}",
            "CREATE TABLE prices (price INT)",
            f"GRANT SELECT ON prices TO {app.username}",
        ):
            session.run(statement)
    with live.session(app, database) as session:
        session.run(f"CREATE SCHEMA {app.username}")
        session.run("CREATE TABLE orders (id SERIAL)")
    credential = replace(live.credential, usernames=(app.username, app_b), owner=owner)
    script = provisioning(make_plan(), credential, replace(live.server, dbname=database), existing=True)
    members = (
        "SELECT roleid::regrole, inherit FROM (SELECT roleid, member, pg_has_role(member, roleid, 'USAGE') AS inherit"
        f" FROM pg_auth_members) AS m WHERE member = '{master.username}'::regrole AND inherit"
    )
    before = live.execute(members)
    with live.session(master, database) as session:
        for statement in script.statements:
            session.run(statement)
    assert live.execute(members) == before
    with live.session(app, database) as session:
        assert session.run("SELECT current_user") == [[owner]]
        session.run("INSERT INTO orders DEFAULT VALUES")
        session.run("ALTER TABLE orders ADD what TEXT")
        session.run("SELECT * FROM prices")


@pytest.mark.parametrize("rotated", [False, True])
def test_run_again_it_changes_nothing(live: LivePostgres, *, rotated: bool) -> None:
    live.run_script(existing=True)
    if rotated:
        stage_next(live)
    once = live.state()
    live.execute(*live.script().statements)
    assert live.state() == once


def test_the_password_is_not_changed(live: LivePostgres) -> None:
    before = live.verifier_of(live.live.username)
    live.run_script(existing=True)
    assert live.verifier_of(live.live.username) == before


def test_the_face_for_new_accounts_stops_at_a_live_one(live: LivePostgres) -> None:
    before = live.roles_there()
    with pytest.raises(
        pg8000.native.DatabaseError, match="exists already, and is changed only with --existing"
    ):
        live.run_script()
    assert live.roles_there() == before
    assert live.work(live.live)


def test_the_face_for_new_accounts_stops_at_one_that_acts_as_the_owner_in_one_database_only(
    live: LivePostgres,
) -> None:
    live.run_script(existing=True)
    once = live.state()
    with pytest.raises(
        pg8000.native.DatabaseError, match="exists already, and is changed only with --existing"
    ):
        live.run_script()
    assert live.state() == once


def test_the_face_for_new_accounts_can_be_run_again(live: LivePostgres) -> None:
    app = live.live.username
    live.execute(f"REASSIGN OWNED BY {app} TO {app}_vendor", f"DROP OWNED BY {app}", f"DROP ROLE {app}")
    live.run_script()
    once = live.state()
    live.execute(*live.script(existing=False).statements)
    assert live.state() == once
    live.execute(*live.script(existing=True).statements)


@pytest.mark.parametrize("existing", [True, False])
def test_no_word_of_the_script_is_a_password(live: LivePostgres, *, existing: bool) -> None:
    if not existing:
        app = live.live.username
        live.execute(f"REASSIGN OWNED BY {app} TO {app}_vendor", f"DROP OWNED BY {app}", f"DROP ROLE {app}")
    live.execute(f"ALTER ROLE {ROTATOR} RENAME TO {ROTATOR}_{live.live.username}") if rotator_there(
        live
    ) else None
    script = live.script(existing=existing)
    live.execute(*script.statements)
    words = {*re.findall(r"'([^'\n]*)'", script.text()), *re.findall(r"<[^>\n]*>", script.text())} - {""}
    for username in (*live.credential.usernames, ROTATOR):
        for word in words:
            with (
                pytest.raises(pg8000.native.DatabaseError, match="28P01"),
                live.session(Login(username, SecretStr(word))),
            ):
                pass
    live.run_script(existing=existing)


def rotator_there(live: LivePostgres) -> bool:
    return bool(live.execute(f"SELECT FROM pg_roles WHERE rolname = '{ROTATOR}'"))


def test_the_command_line_client_runs_the_script(live: LivePostgres) -> None:
    done = run_in_client(live, live.script().text())
    assert (done.returncode, "ERROR" in done.stderr) == (0, False), done.stderr
    assert "without TLS" in done.stdout or "will belong to" in done.stdout
    once = live.state()
    live.execute(*live.script().statements)
    assert live.state() == once


def run_in_client(live: LivePostgres, text: str) -> "subprocess.CompletedProcess[str]":
    client = shutil.which("psql")
    if client is None:
        pytest.skip("no command-line client; Debian and Ubuntu: apt-get install postgresql-client")
    options = [
        "--no-psqlrc",
        "--host=localhost",
        f"--port={live.sandbox.port}",
        f"--username={live.sandbox.superuser}",
    ]
    return subprocess.run(  # noqa: S603 - the client that was found
        [client, *options, DATABASE],
        input=text,
        env={**os.environ, "PGPASSWORD": live.sandbox.superuser_password},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


# What must be changed first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("ALTER ROLE {app} VALID UNTIL '2030-01-01'", "is VALID UNTIL 2030"),
        ("ALTER ROLE {app} NOLOGIN", "is NOLOGIN"),
        ("ALTER ROLE {app} SUPERUSER", "is a superuser"),
        ("ALTER ROLE {app} REPLICATION", "has REPLICATION"),
        ("ALTER ROLE {app} NOINHERIT", "is NOINHERIT"),
        ("ALTER ROLE {app} CONNECTION LIMIT 1", "has CONNECTION LIMIT 1"),
        ("ALTER ROLE {app} SET role = {app}_readers", "acts as another role already"),
        ("ALTER ROLE {app} RENAME TO {app}_gone", "none of .* exists here: leave out --existing"),
        ("CREATE ROLE {owner} LOGIN", "logs in itself"),
    ],
)
def test_what_must_be_changed_first(live: LivePostgres, change: str, message: str) -> None:
    live.execute(change.format(app=live.live.username, owner=live.credential.owner))
    before = live.roles_there()
    with pytest.raises(pg8000.native.DatabaseError, match=f"Lockstep stops: .*{message}"):
        live.run_script(existing=True)
    assert live.roles_there() == before


@pytest.mark.parametrize("change", ["NOCREATEROLE", "NOLOGIN", "VALID UNTIL '2020-01-01'"])
def test_a_rotator_that_cannot_rotate(live: LivePostgres, change: str) -> None:
    live.run_script(existing=True)
    live.execute(f"ALTER ROLE {ROTATOR} {change}")
    try:
        with pytest.raises(pg8000.native.DatabaseError, match=f"Lockstep stops: .*{ROTATOR}"):
            live.execute(*live.script().statements)
    finally:
        live.execute(f"ALTER ROLE {ROTATOR} LOGIN CREATEROLE VALID UNTIL 'infinity'")


def test_what_is_locked_is_not_waited_for(live: LivePostgres) -> None:
    statements = [
        s.replace("lock_timeout = '10s'", "lock_timeout = '100ms'") for s in live.script().statements
    ]
    with live.session(live.live) as session:
        session.run("BEGIN")
        session.run("LOCK TABLE orders IN ACCESS SHARE MODE")
        with pytest.raises(pg8000.native.DatabaseError, match="55P03"):
            live.execute(*statements)
        live.work_in(session)
        session.run("COMMIT")
    assert (live.credential.owner,) not in live.roles_there()
