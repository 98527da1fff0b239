"""The doctor on real servers: all is well, each check fails once, and no look brings an account closer to a lock."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import pytest
from msgspec import structs

from lockstep.aws.rds import token_login
from lockstep.databases import inspect
from lockstep.databases.findings import Finding, Outcome
from lockstep.databases.inspect import VERIFY_HOSTS
from lockstep.operate.doctor import servers
from lockstep.operate.doctor.servers import EVERY_CHECK
from lockstep.protocol.deadlines import DatabaseTimeouts as Timeouts
from lockstep.protocol.errors import AdminCredentialRejectedError
from lockstep.protocol.model import ROTATION_USER, AdminCredential, LockRecord, Login, SecretStr, Tls
from sandbox.emulators.databases import CertificateAuthority
from sandbox.emulators.databases.process import free_port
from sandbox.identities import endless
from tests.contract.database_harness import (
    EACH_ENGINE,
    MAX_REFUSALS,
    SqlHarness,
    each_engine,
    every_server,
)
from tests.contract.database_world import DoctorWorld, Seen, World
from tests.contract.test_admins import ADMIN_IAM, KEYS, STRANGER, behind, estate, rds
from tests.support.world import revokes_everything, rotate_again

pytest_plugins = ["tests.contract.database_fixtures"]

MYSQL, MARIADB, POSTGRESQL = ("mysql-dual",), ("mariadb-dual",), ("postgresql",)
FAMILY = (*MYSQL, *MARIADB)


@pytest.fixture(name="doctor")
def _doctor(world: SqlHarness, tmp_path: Path) -> DoctorWorld:
    made = DoctorWorld(world, tmp_path)
    made.accept_base()
    return made


@every_server
def test_where_all_is_well_every_check_passes(doctor: DoctorWorld) -> None:
    seen = doctor.look()
    found = {check: seen.outcomes(check) for check in EVERY_CHECK if seen.found(check)}
    assert set().union(*found.values()) == {Outcome.PASSED}, seen.complaints()
    assert found.keys() == set(EVERY_CHECK) - {VERIFY_HOSTS}


# Each check fails once. A rule that the doctor asks by the same SQL as `plan sql` is in tests/contract/test_plan_sql.py
# with the others of it. Verify hosts, and a standby that is named as the server, in tests/contract/test_replicas.py.


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
    how: str | Callable[[DoctorWorld, ExitStack], None]
    says: str
    fix: str = ""
    outcome: Outcome = Outcome.FAILED
    shows: int = 1


def unknown_name_inside(world: DoctorWorld, _fixing: ExitStack) -> None:
    world.where = "aws/apply_db"
    world.server = structs.replace(world.server, host="no-such-host.invalid")


def nothing_listens(world: DoctorWorld, _fixing: ExitStack) -> None:
    world.server = structs.replace(world.server, port=free_port())


def another_ca(world: DoctorWorld, _fixing: ExitStack) -> None:
    stranger = CertificateAuthority(world.folder / "stranger")
    world.server = structs.replace(world.server, tls=Tls(ca_file=stranger.ca_file))


def wrong_admin(world: DoctorWorld, _fixing: ExitStack) -> None:
    world.admin = Login(ROTATION_USER, SecretStr("wrong"))


def locked(world: DoctorWorld, fixing: ExitStack) -> None:
    fixing.enter_context(world.harness.open().exclusive())


def unknown_password(world: DoctorWorld, _fixing: ExitStack) -> None:
    wrong = replace(world.base, login=Login(world.base.login.username, SecretStr("wrong")))
    world.serve(wrong)


def blocked(world: DoctorWorld, _fixing: ExitStack) -> None:
    world.record = LockRecord(credential_id=world.credential.id, blocked=frozenset({"main"}))


WARNING, NOT_ASKED = Outcome.WARNING, Outcome.NOT_ASKED
SEE_HOSTS = "SELECT (User, Host) ON mysql.user"
FOREIGN = "'{username}'@'192.0.2.%'"
BREAKAGES: Mapping[str, Sequence[Breakage]] = {
    servers.ROUTE: (
        Breakage(EACH_ENGINE, unknown_name_inside, "from aws/apply_db: there is no such name", shows=0),
        Breakage(EACH_ENGINE, nothing_listens, "nothing listens there", shows=0),
    ),
    servers.TLS: (Breakage(EACH_ENGINE, another_ca, "have not signed", shows=0),),
    servers.ADMIN: (Breakage(EACH_ENGINE, wrong_admin, "refuses the rotation user's login", shows=0),),
    inspect.SERVER: (
        Breakage(FAMILY, "SET GLOBAL read_only = 1", "is read-only", "SET GLOBAL read_only = 0"),
    ),
    inspect.RIGHTS: (
        Breakage(
            FAMILY,
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
        Breakage(FAMILY, "DROP USER {account}", "there is no such account", shows=0),
        Breakage(
            FAMILY,
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
        Breakage(FAMILY, "{alter} PASSWORD EXPIRE INTERVAL 90 DAY", "expires 90 days after", outcome=WARNING),
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
        Breakage(EACH_ENGINE, locked, "holds the database's advisory lock", outcome=NOT_ASKED, shows=0),
        Breakage(EACH_ENGINE, unknown_password, "refuses what aws and oci serve"),
        Breakage(EACH_ENGINE, blocked, "it is blocked", shows=0),
    ),
}

ROWS = [(check, row, world) for check, rows in BREAKAGES.items() for row in rows for world in row.worlds]


@pytest.mark.parametrize(
    ("check", "row", "world"), ROWS, indirect=["world"], ids=[f"{c}-{r.says}-{w}" for c, r, w in ROWS]
)
def test_each_check_complains_when_what_it_looks_at_is_broken(
    doctor: DoctorWorld, check: str, row: Breakage
) -> None:
    with ExitStack() as fixing:
        password = doctor.base.login.password.reveal()
        if isinstance(row.how, str):
            escaped = password.replace("\\", "\\\\").replace("'", "\\'")
            doctor.harness.run(row.how, password=escaped)
            fixing.callback(doctor.harness.run, row.fix)
        else:
            row.how(doctor, fixing)
        doctor.logged.forget()
        seen = doctor.look()
        complaint = next((a for a in seen.found(check) if row.says in a.says), None)
        assert complaint is not None, [a.says for a in seen.found(check)]
        assert complaint.outcome is row.outcome
        assert complaint.outcome is Outcome.NOT_ASKED or complaint.command
        assert doctor.logins() == row.shows
        assert password not in str(seen.everything())


# The rotation user has a token of RDS IAM authentication, or a login that is itself rotated

BY_TOKEN = "RDS IAM authentication"
"""What answers the question `aws.rds-tokens` of `--confirm`."""


def of_admin(doctor: DoctorWorld) -> Finding:
    (told,) = doctor.look().found(servers.ADMIN)
    return told


@each_engine
def test_with_a_token_every_check_passes_and_one_that_is_refused_is_told_without_it(
    world: SqlHarness, doctor: DoctorWorld
) -> None:
    with rds(world) as front:
        doctor.server = behind(world, front.port)
        doctor.admin = token_login(doctor.server, ADMIN_IAM, endless(KEYS))
        seen = doctor.look()
        assert seen.complaints() == []
        assert BY_TOKEN in seen.found(servers.ADMIN)[0].says
        doctor.admin = token_login(doctor.server, ADMIN_IAM, endless(STRANGER))
        from_here = of_admin(doctor)
        doctor.where = "aws/apply_db"
        seen = doctor.look()
    # A person need not have the right that the runner has.
    assert (from_here.outcome, from_here.command) == (Outcome.NOT_ASKED, "lockstep doctor --in-cloud")
    (told,) = seen.found(servers.ADMIN)
    assert (told.outcome, BY_TOKEN in told.says) == (Outcome.FAILED, True)
    assert "rds-db:connect" in (told.command or "")
    assert "X-Amz-" not in str(seen.everything())


@each_engine
def test_with_a_login_that_is_rotated_every_check_passes_and_one_that_is_refused_is_imported_again(
    world: SqlHarness, tmp_path: Path
) -> None:
    """Also the checks of the credential whose account the rotation user is."""
    admin, application = estate(world)
    for looked_at in (admin, application):
        doctor = DoctorWorld(world, tmp_path)
        [doctor.server] = admin.plan.databases
        doctor.credential, doctor.admin = looked_at.credential, admin.current.login
        doctor.base = looked_at.current
        seen = doctor.look()
        assert seen.complaints() == []
        assert seen.found(servers.ADMIN)[0].says == f"{admin.current.login.username} logs in"
    doctor = DoctorWorld(world, tmp_path)
    doctor.server = structs.replace(world.server, admin=AdminCredential(credential="rotators/main"))
    # There is a placeholder, or a wrong password.
    for login in (AdminCredentialRejectedError(database="main"), Login(ROTATION_USER, SecretStr("wrong"))):
        doctor.admin = login
        told = of_admin(doctor)
        assert (told.outcome, told.command) == (Outcome.FAILED, "lockstep import rotators/main")


# Beside rotations, where two wrong passwords in a row lock an account

ROTATIONS, ROTATIONS_PER_EMERGENCY = 8, 5
PATIENT = Timeouts(lock_seconds=60, io_seconds=90)
"""Each waits until the other one has left the account, however slow the machine is."""


@each_engine
def test_a_doctor_beside_rotations_locks_nobody_out_and_leaves_no_refusal(
    world: SqlHarness, tmp_path: Path
) -> None:
    """One thread rotates, with an emergency now and then; the other looks, at whatever moment of it that is."""
    world.database = world.open(timeouts=PATIENT)
    life, doctor = World(world), DoctorWorld(world, tmp_path)
    life.refusals.watch(world.database)
    doctor.timeouts, doctor.serving = PATIENT, life.current
    looks: list[Seen] = []
    is_over = Event()

    def look_often() -> None:
        while not is_over.is_set():
            looks.append(doctor.look())

    with world.limited(MAX_REFUSALS):
        doctor.logged.forget()
        looking = Thread(target=look_often)
        looking.start()
        try:
            for number in range(1, ROTATIONS + 1):
                if number % ROTATIONS_PER_EMERGENCY == 0:
                    revokes_everything(life.memory)
                rotate_again(life.memory, f"beside-{number}")
                life.assert_cured()
        finally:
            is_over.set()
            looking.join()
    assert any(seen.outcomes(servers.LOGIN) == {Outcome.PASSED} for seen in looks)
    for seen in looks:
        assert seen.refused == frozenset()
        assert Outcome.FAILED not in {answer.outcome for answer in seen.everything()}, seen.complaints()
    # Every refusal that the server has counted is one that the rotations have wanted.
    assert doctor.refusals() == life.refusals.refused
