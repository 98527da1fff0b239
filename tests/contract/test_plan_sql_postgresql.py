"""`lockstep plan sql` on real PostgreSQL servers, beside an application that is running."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pg8000.native  # type: ignore[import-untyped]  # it ships no types
import pytest

from lockstep.operate.plan_sql.scripts import Provisioning, provisioning
from lockstep.protocol.model import ROTATOR, CredentialValue, Login, SecretStr, Strategy
from tests.contract.database_harness import (
    DATABASE,
    PlaintextPostgresHarness,
    PostgresHarness,
    value_of,
)
from tests.support.memory import make_plan

pytest_plugins = ["tests.contract.database_fixtures"]

HOW_TO = Path(__file__).resolve().parents[2] / "docs/how-to/postgresql-live-login.md"
LIVE_PASSWORD = SecretStr("The-applications-own-1")


class LivePostgres(PostgresHarness):
    """An application that works already: with objects of its own, and rights that others granted it."""

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

    def prepare(self) -> None:
        """What a DBA does by the how-to page, and what plan sql prints then."""
        app, app_b = self.credential.usernames
        self.execute(
            *recipe(app, self.credential.owner),
            f"GRANT CREATE ON DATABASE {DATABASE} TO {self.credential.owner}",
            f"ALTER ROLE {app} SET search_path TO {app}, public",
        )
        self.run_script()
        self.execute(f"ALTER ROLE {app_b} SET search_path TO {app}, public")

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

    def script(self) -> Provisioning:
        return provisioning(make_plan(), self.credential, self.server)

    def work(self, login: Login) -> int:
        """What the application does; the number of its orders."""
        with self.session(login) as session:
            return self.work_in(session)

    def work_in(self, session: pg8000.native.Connection) -> int:
        session.run("INSERT INTO orders (what) VALUES ('work')")
        session.run("ALTER TABLE orders ALTER what SET DEFAULT 'nothing'")
        session.run("CREATE TEMPORARY TABLE IF NOT EXISTS basket (id INT)")
        return int(session.run("SELECT COUNT(*) FROM orders")[0][0])

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


def recipe(login: str, owner: str) -> list[str]:
    """The statements of the how-to page."""
    blocks = re.findall(r"```sql\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    text = "".join(blocks).replace("books_owner", owner).replace("books", login)
    return [statement.strip() for statement in text.split(";") if statement.strip()]


def stage_next(live: LivePostgres) -> CredentialValue:
    """Stage what the first rotation stages, beside the live login."""
    pending = value_of(live, 1, username=live.credential.usernames[1])
    with live.database.exclusive() as stager:
        stager.stage(current=CredentialValue(0, live.live), pending=pending)
    return pending


def test_the_application_works_through_both_usernames(live: LivePostgres) -> None:
    before = live.work(live.live)
    live.prepare()
    pending = stage_next(live)
    assert live.work(live.live) == before + 1
    assert live.work(pending.login) == before + 2


def test_a_session_that_is_open_works_on(live: LivePostgres) -> None:
    with live.session(live.live) as session:
        before = live.work_in(session)
        live.prepare()
        pending = stage_next(live)
        assert live.work_in(session) == before + 1
    assert live.work(pending.login) == before + 2


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


def test_a_pooler_that_discards_a_sessions_state(live: LivePostgres) -> None:
    live.prepare()
    before = live.work(live.live)
    for login in (live.live, stage_next(live).login):
        with live.session(login) as session:
            session.run("DISCARD ALL")
            before += 1
            assert live.work_in(session) == before


@pytest.mark.parametrize("rotated", [False, True])
def test_run_again_it_changes_nothing(live: LivePostgres, *, rotated: bool) -> None:
    live.prepare()
    if rotated:
        stage_next(live)
    once = live.state()
    live.execute(*live.script().statements)
    assert live.state() == once


def test_the_password_is_not_changed(live: LivePostgres) -> None:
    before = live.verifier_of(live.live.username)
    live.prepare()
    assert live.verifier_of(live.live.username) == before


@pytest.mark.parametrize("prepared", ["nothing", "in one database"])
def test_it_stops_at_a_live_login_that_does_not_act_as_the_owner(live: LivePostgres, prepared: str) -> None:
    app, owner = live.live.username, live.credential.owner
    if prepared != "nothing":
        live.execute(f"CREATE ROLE {owner}", f"ALTER ROLE {app} IN DATABASE {DATABASE} SET role TO {owner}")
    before = live.roles_there()
    with pytest.raises(
        pg8000.native.DatabaseError, match=f"{app} exists already, and does not act as {owner}: docs/how-to/"
    ):
        live.run_script()
    assert live.roles_there() == before


def test_the_script_for_new_accounts_can_be_run_again(live: LivePostgres) -> None:
    remove(live)
    live.run_script()
    once = live.state()
    live.execute(*live.script().statements)
    assert live.state() == once


def remove(live: LivePostgres) -> None:
    app = live.live.username
    live.execute(f"DROP OWNED BY {app} CASCADE", f"DROP ROLE {app}")


def test_no_word_of_the_script_is_a_password(live: LivePostgres) -> None:
    remove(live)
    live.execute(f"ALTER ROLE {ROTATOR} RENAME TO {ROTATOR}_{live.live.username}") if rotator_there(
        live
    ) else None
    script = live.script()
    live.execute(*script.statements)
    words = {*re.findall(r"'([^'\n]*)'", script.text()), *re.findall(r"<[^>\n]*>", script.text())} - {""}
    for username in (*live.credential.usernames, ROTATOR):
        for word in words:
            with (
                pytest.raises(pg8000.native.DatabaseError, match="28P01"),
                live.session(Login(username, SecretStr(word))),
            ):
                pass
    live.run_script()


def rotator_there(live: LivePostgres) -> bool:
    return bool(live.execute(f"SELECT FROM pg_roles WHERE rolname = '{ROTATOR}'"))


def test_the_command_line_client_runs_the_script(live: LivePostgres) -> None:
    live.execute(*recipe(live.live.username, live.credential.owner))
    done = run_in_client(live, live.script().text())
    assert (done.returncode, "ERROR" in done.stderr) == (0, False), done.stderr
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
        ("ALTER ROLE {app} CONNECTION LIMIT 1", "has CONNECTION LIMIT 1"),
        ("ALTER ROLE {app} SET role = {app}", "does not act as {owner}"),
        ("ALTER ROLE {owner} LOGIN", "logs in itself"),
    ],
)
def test_what_must_be_changed_first(live: LivePostgres, change: str, message: str) -> None:
    names = {"app": live.live.username, "owner": live.credential.owner}
    live.execute(*recipe(*names.values()), change.format(**names))
    before = live.roles_there()
    with pytest.raises(pg8000.native.DatabaseError, match=f"Lockstep stops: .*{message.format(**names)}"):
        live.run_script()
    assert live.roles_there() == before


@pytest.mark.parametrize("change", ["NOCREATEROLE", "NOLOGIN", "VALID UNTIL '2020-01-01'"])
def test_a_rotator_that_cannot_rotate(live: LivePostgres, change: str) -> None:
    live.prepare()
    live.execute(f"ALTER ROLE {ROTATOR} {change}")
    try:
        with pytest.raises(pg8000.native.DatabaseError, match=f"Lockstep stops: .*{ROTATOR}"):
            live.execute(*live.script().statements)
    finally:
        live.execute(f"ALTER ROLE {ROTATOR} LOGIN CREATEROLE VALID UNTIL 'infinity'")
