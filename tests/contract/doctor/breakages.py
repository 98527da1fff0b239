"""How to break what each check looks at on a database: the table of which `test_databases` makes its tests.

A rule that the doctor asks by the same SQL as `plan sql` is in tests/contract/test_plan_sql.py, with the others of it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from msgspec import structs

from lockstep.databases import inspect
from lockstep.databases.findings import Outcome
from lockstep.operate.doctor import servers
from lockstep.protocol.model import ROTATION_USER, LockRecord, Login, SecretStr, Tls
from sandbox.emulators.databases import CertificateAuthority
from sandbox.emulators.databases.process import free_port
from tests.contract.database_harness import EACH_ENGINE
from tests.contract.doctor.database_world import DoctorWorld

MYSQL, MARIADB, POSTGRESQL = ("mysql-dual",), ("mariadb-dual",), ("postgresql",)
FAMILY = (*MYSQL, *MARIADB)


@dataclass(frozen=True, slots=True)
class Breakage:
    """One way.

    Attributes:
        worlds: On which servers.
        how: Breaks it: SQL, with the names of `SqlHarness.names`, or what is called.
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

    def act(self, world: DoctorWorld, fixing: ExitStack) -> None:
        """Break it; what is pushed on the stack fixes it."""
        if isinstance(self.how, str):
            password = world.base.login.password.reveal().replace("\\", "\\\\").replace("'", "\\'")
            world.harness.run(self.how, password=password)
            fixing.callback(world.harness.run, self.fix)
        else:
            self.how(world, fixing)


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
FOREIGN, ANONYMOUS = "'{username}'@'192.0.2.%'", "''@'192.0.2.7'"
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
        Breakage(
            POSTGRESQL,
            "ALTER ROLE {rotator} NOCREATEROLE",
            "cannot change roles",
            "ALTER ROLE {rotator} CREATEROLE",
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
            FAMILY,
            f"CREATE USER {ANONYMOUS}",
            "an anonymous account takes clients from '192.0.2.7'",
            f"DROP USER {ANONYMOUS}",
            shows=0,
        ),
        Breakage(
            MYSQL,
            "{alter} FAILED_LOGIN_ATTEMPTS 1 PASSWORD_LOCK_TIME UNBOUNDED",
            "locked by one wrong password",
        ),
        Breakage(FAMILY, "{alter} PASSWORD EXPIRE INTERVAL 90 DAY", "expires 90 days after", outcome=WARNING),
        Breakage(MYSQL, "{alter} PASSWORD HISTORY 5", "a password history", outcome=WARNING),
        Breakage(MYSQL, "GRANT SYSTEM_USER ON *.* TO {account}", "or it has SYSTEM_USER", shows=0),
        Breakage(
            POSTGRESQL,
            "ALTER ROLE {rotator} VALID UNTIL '2100-01-01'",
            "refused as by a wrong password from then on",
            "ALTER ROLE {rotator} VALID UNTIL 'infinity'",
        ),
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
