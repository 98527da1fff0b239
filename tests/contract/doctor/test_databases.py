"""The doctor on real servers: all is well, each check fails once, and no look brings an account closer to a lock."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from msgspec import structs

from lockstep.databases import inspect
from lockstep.databases.findings import Outcome
from lockstep.operate.doctor import servers
from lockstep.operate.doctor.servers import EVERY_CHECK
from lockstep.protocol.errors import AdvisoryLockBusyError
from lockstep.protocol.model import ROTATION_USER, CredentialValue, LockRecord, Login, SecretStr, Tls
from sandbox.emulators.databases import CertificateAuthority
from sandbox.emulators.databases.process import free_port
from tests.contract import database_harness as db

pytest_plugins = ["tests.contract.database_harness"]

MYSQL, MARIADB, POSTGRESQL = ("mysql-dual",), ("mariadb-dual",), ("postgresql",)
DUAL = (*MYSQL, *MARIADB)


@pytest.fixture(name="doctor")
def _doctor(world: db.SqlHarness) -> db.DoctorWorld:
    world.stage(None, 1)
    return db.DoctorWorld(world)


@db.every_server
def test_where_all_is_well_every_check_passes(doctor: db.DoctorWorld) -> None:
    """The stores are read with the advisory lock held: no rotation ends what they serve before it is shown."""
    asked: list[CredentialValue] = []

    def serving() -> CredentialValue:
        with db.fails(AdvisoryLockBusyError):
            db.enter(doctor.harness.open())
        asked.append(doctor.base)
        return doctor.base

    doctor.serving = serving
    seen = doctor.look()
    found = {check: seen.outcomes(check) for check in EVERY_CHECK if seen.found(check)}
    assert set().union(*found.values()) == {Outcome.PASSED}, seen.complaints()
    assert found.keys() == set(EVERY_CHECK) - {inspect.VERIFY_HOSTS}
    assert len(asked) == 2


# Each check fails once. A rule that the doctor asks by the same SQL as `plan sql` is in tests/contract/test_plan_sql.py
# with the others of it. Verify hosts, and a standby that is named as the server, in tests/contract/test_replicas.py;
# a rotation user with a token, or with a login that is rotated, in tests/contract/test_admins.py.


class Breakage(NamedTuple):
    """A way to break what a check looks at.

    Attributes:
        worlds: On which servers.
        how: SQL, with the names of `SqlHarness.names`, or what is called; what it pushes on the stack fixes it.
        says: Part of what the check says.
        fix: SQL, where the server is broken and not the account alone.
        outcome: Of its complaint.
        shows: How many logins of the credential's accounts reach the server.
    """

    worlds: tuple[str, ...]
    how: str | Callable[[db.DoctorWorld, ExitStack], None]
    says: str
    fix: str = ""
    outcome: Outcome = Outcome.FAILED
    shows: int = 1


def unknown_name_inside(world: db.DoctorWorld, _fixing: ExitStack) -> None:
    world.where = "aws/apply_db"
    world.server = structs.replace(world.server, host="no-such-host.invalid")


def nothing_listens(world: db.DoctorWorld, _fixing: ExitStack) -> None:
    world.server = structs.replace(world.server, port=free_port())


def another_ca(world: db.DoctorWorld, fixing: ExitStack) -> None:
    stranger = CertificateAuthority(Path(fixing.enter_context(TemporaryDirectory())))
    world.server = structs.replace(world.server, tls=Tls(ca_file=stranger.ca_file))


def wrong_admin(world: db.DoctorWorld, _fixing: ExitStack) -> None:
    world.admin = Login(ROTATION_USER, SecretStr("wrong"))


def locked(world: db.DoctorWorld, fixing: ExitStack) -> None:
    fixing.enter_context(world.harness.open().exclusive())


def unknown_passwords(world: db.DoctorWorld, _fixing: ExitStack) -> None:
    """Another one in each store: after the first refusal no other is shown."""
    served = (Login(world.base.login.username, SecretStr(text)) for text in ("wrong", "wrong, too"))
    world.serving = lambda: replace(world.base, login=next(served))


def taken_over(world: db.DoctorWorld, _fixing: ExitStack) -> None:
    world.record = LockRecord(credential_id=world.credential.id, take_over=frozenset({"main"}))


WARNING, NOT_ASKED = Outcome.WARNING, Outcome.NOT_ASKED
SEE_HOSTS = "SELECT (User, Host) ON mysql.user"
FOREIGN = "'{username}'@'192.0.2.%'"
BREAKAGES: Mapping[str, Sequence[Breakage]] = {
    servers.ROUTE: (
        Breakage(db.EACH_ENGINE, unknown_name_inside, "from aws/apply_db: there is no such name", shows=0),
        Breakage(db.EACH_ENGINE, nothing_listens, "nothing listens there", shows=0),
    ),
    servers.TLS: (Breakage(db.EACH_ENGINE, another_ca, "have not signed", shows=0),),
    servers.ADMIN: (Breakage(db.EACH_ENGINE, wrong_admin, "refuses the rotation user's login", shows=0),),
    inspect.SERVER: (Breakage(DUAL, "SET GLOBAL read_only = 1", "is read-only", "SET GLOBAL read_only = 0"),),
    inspect.RIGHTS: (
        Breakage(
            DUAL,
            "REVOKE CREATE USER ON *.* FROM {rotator}",
            "lacks CREATE USER",
            "GRANT CREATE USER ON *.* TO {rotator}",
        ),
        Breakage(
            MARIADB,
            f"REVOKE {SEE_HOSTS} FROM {{rotator}}",
            "may not see everything",
            f"GRANT {SEE_HOSTS} TO {{rotator}}",
            NOT_ASKED,
        ),
        # This server logs none.
        Breakage(
            ("postgresql-18-plaintext",), "REVOKE {account} FROM {rotator}", "lacks ADMIN OPTION for", shows=0
        ),
        Breakage(POSTGRESQL, "DROP ROLE {account}", "there is no such role", shows=0),
    ),
    inspect.ACCOUNTS: (
        Breakage(
            DUAL,
            "CREATE USER IF NOT EXISTS somebody; DROP USER {account}",
            "there is no such account",
            shows=0,
        ),
        Breakage(
            DUAL,
            f"CREATE USER {FOREIGN} IDENTIFIED BY 'x'",
            "it also takes clients from '192.0.2.%'",
            f"DROP USER {FOREIGN}",
            shows=0,
        ),
        Breakage(
            MYSQL,
            "{alter} FAILED_LOGIN_ATTEMPTS 1 PASSWORD_LOCK_TIME UNBOUNDED",
            "locked by one wrong password",
        ),
        Breakage(DUAL, "{alter} PASSWORD EXPIRE INTERVAL 90 DAY", "expires 90 days after", outcome=WARNING),
        Breakage(MYSQL, "{alter} PASSWORD HISTORY 5", "a password history", outcome=WARNING),
        Breakage(
            MARIADB,
            "{alter} IDENTIFIED VIA mysql_native_password USING PASSWORD('{password}') OR unix_socket",
            "unix_socket, which keeps no password",
        ),
        Breakage(
            ("mysql-alternating",),
            "{alter} IDENTIFIED WITH sha256_password BY '{password}'",
            "gets caching_sha2_password at its next turn",
            outcome=WARNING,
        ),
        # The session would end before anything can be asked: it may not be set to the owner role.
        Breakage(POSTGRESQL, "REVOKE {owner} FROM {account}", "it is no member of", shows=0),
        Breakage(POSTGRESQL, "{alter} RESET role", "does not act as"),
    ),
    servers.LOGIN: (
        Breakage(db.EACH_ENGINE, locked, "holds the database's advisory lock", outcome=NOT_ASKED, shows=0),
        Breakage(db.EACH_ENGINE, unknown_passwords, "refuses what aws serves"),
        Breakage(db.EACH_ENGINE, taken_over, "it is under take-over", outcome=WARNING, shows=0),
    ),
}

ROWS = [(check, row, world) for check, rows in BREAKAGES.items() for row in rows for world in row.worlds]


def logins(doctor: db.DoctorWorld, log: str) -> int:
    """How often the credential's accounts were shown a login, by the server's log."""
    names = "|".join(map(re.escape, doctor.credential.usernames))
    # The first thing that the doctor asks as a role; each account has a test of its own.
    of_postgresql = rf"SELECT current_user::text|password authentication failed for user \"(?:{names})\""
    of_others = rf"Connect\t(?:{names})@"
    return len(re.findall(of_postgresql if doctor.harness.is_postgresql else of_others, log))


@pytest.mark.parametrize(
    ("check", "row", "world"), ROWS, indirect=["world"], ids=[f"{c}-{r.says}-{w}" for c, r, w in ROWS]
)
def test_each_check_complains_when_what_it_looks_at_is_broken(
    doctor: db.DoctorWorld, check: str, row: Breakage
) -> None:
    password = doctor.base.login.password.reveal()
    with ExitStack() as fixing:
        if isinstance(row.how, str):
            escaped = password.replace("\\", "\\\\").replace("'", "\\'")
            doctor.harness.run(row.how, password=escaped)
            fixing.callback(doctor.harness.run, row.fix)
        else:
            row.how(doctor, fixing)
        logged = doctor.harness.sandbox.watch_general_log()
        seen = doctor.look()
        complaint = next((a for a in seen.found(check) if row.says in a.says), None)
        assert complaint is not None, [a.says for a in seen.found(check)]
        assert complaint.outcome is row.outcome
        assert complaint.outcome is Outcome.NOT_ASKED or complaint.command
        assert logins(doctor, logged.added()) == row.shows
        assert password not in str(seen.found(*EVERY_CHECK))
