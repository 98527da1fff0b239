"""How to break what each check looks at on a database: the table of which `test_databases` makes its tests."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from msgspec import structs

from lockstep.databases import inspect
from lockstep.databases.findings import Outcome
from lockstep.operate.doctor import servers
from lockstep.protocol.model import ROTATION_USER, Engine, LockRecord, Login, SecretStr, Tls
from sandbox.databases import CertificateAuthority
from sandbox.databases.process import free_port
from tests.contract.doctor.database_world import DoctorWorld

if TYPE_CHECKING:
    from sandbox.databases import PostgresServer

Break = Callable[[DoctorWorld, ExitStack], None]
MYSQL = ("mysql-dual",)
MARIADB = ("mariadb-dual",)
FAMILY = (*MYSQL, *MARIADB)
POSTGRESQL = ("postgresql",)
EACH = (*FAMILY, *POSTGRESQL)


@dataclass(frozen=True, slots=True)
class Breakage:
    """One way.

    Attributes:
        check: The check that complains.
        worlds: On which servers.
        how: Breaks it; what is pushed on the stack fixes it.
        says: Part of what the check says.
        outcome: Of its complaint.
        shows: How many logins of the credential's accounts reach the server.
    """

    check: str
    worlds: tuple[str, ...]
    how: Break
    says: str
    outcome: Outcome = Outcome.FAILED
    shows: int = 1


def execute(world: DoctorWorld, stack: ExitStack, statement: str, fix: str | None = None) -> None:
    """Run a statement now, and one that fixes it afterwards; both name the account of base as {account}."""
    found = names(world)
    world.harness.execute(statement.format(**found))
    if fix:
        stack.callback(world.harness.execute, fix.format(**found))


def names(world: DoctorWorld) -> dict[str, str]:
    username = world.base.login.username
    family = world.server.engine is not Engine.POSTGRESQL
    account = f"'{username}'@'%'" if family else username
    rotation_user = f"'{ROTATION_USER}'@'%'" if family else ROTATION_USER
    return {
        "account": account,
        "username": username,
        "rotation_user": rotation_user,
        "owner": world.credential.owner,
    }


def by(statement: str, fix: str | None = None) -> Break:
    """Break it by SQL."""
    return lambda world, stack: execute(world, stack, statement, fix)


# ---- The server and the rotation user


def unknown_name_inside(world: DoctorWorld, _stack: ExitStack) -> None:
    world.where = "aws/apply_db"
    world.server = structs.replace(world.server, host="no-such-host.invalid")


def nothing_listens(world: DoctorWorld, _stack: ExitStack) -> None:
    world.server = structs.replace(world.server, port=free_port())


def another_ca(world: DoctorWorld, _stack: ExitStack) -> None:
    stranger = CertificateAuthority(world.folder / "stranger")
    world.server = structs.replace(world.server, tls=Tls(ca_file=stranger.ca_file))


def wrong_admin(world: DoctorWorld, _stack: ExitStack) -> None:
    world.admin = Login(ROTATION_USER, SecretStr("wrong"))


def locked(world: DoctorWorld, stack: ExitStack) -> None:
    stack.enter_context(world.harness.open().exclusive())


# ---- Accounts


def lockout_limit_of_one(world: DoctorWorld, stack: ExitStack) -> None:
    if world.server.engine is Engine.MARIADB:
        execute(
            world, stack, "SET GLOBAL max_password_errors = 1", "SET GLOBAL max_password_errors = DEFAULT"
        )
    else:
        execute(world, stack, "ALTER USER {account} FAILED_LOGIN_ATTEMPTS 1 PASSWORD_LOCK_TIME UNBOUNDED")


def with_plugin(clause: str) -> Break:
    """Identify the account of base by a clause with its {password}."""

    def act(world: DoctorWorld, _stack: ExitStack) -> None:
        password = world.base.login.password.reveal().replace("\\", "\\\\").replace("'", "\\'")
        account = names(world)["account"]
        world.harness.execute(f"ALTER USER {account} IDENTIFIED {clause.format(password=password)}")

    return act


def trusted(world: DoctorWorld, stack: ExitStack) -> None:
    """Let every password in, by the first line of pg_hba.conf."""
    server = cast("PostgresServer", world.harness.sandbox)
    file = server.data_folder / "pg_hba.conf"
    before = file.read_text()
    file.write_text(f"hostssl all {names(world)['username']} 127.0.0.1/32 trust\n{before}")
    server.execute_as_superuser("SELECT pg_reload_conf()")
    stack.callback(server.execute_as_superuser, "SELECT pg_reload_conf()")
    stack.callback(file.write_text, before)


# ---- What the stores and the lock table say


def unknown_password(world: DoctorWorld, _stack: ExitStack) -> None:
    wrong = replace(world.base, login=Login(world.base.login.username, SecretStr("wrong")))
    world.serve(wrong, wrong)


def blocked(world: DoctorWorld, _stack: ExitStack) -> None:
    world.record = LockRecord(credential_id=world.credential.id, blocked=frozenset({"main"}))


WARNING = Outcome.WARNING
BREAKAGES: tuple[Breakage, ...] = (
    Breakage(servers.ADDRESS, EACH, unknown_name_inside, "from aws/apply_db: there is no such name", shows=0),
    Breakage(servers.ROUTE, EACH, nothing_listens, "nothing listens there", shows=0),
    Breakage(servers.TLS, EACH, another_ca, "have not signed", shows=0),
    Breakage(servers.ADMIN, EACH, wrong_admin, "refuses the rotation user's login", shows=0),
    Breakage(
        inspect.SERVER, FAMILY, by("SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0"), "is read-only"
    ),
    Breakage(
        inspect.RIGHTS,
        FAMILY,
        by("REVOKE CREATE USER ON *.* FROM {rotation_user}", "GRANT CREATE USER ON *.* TO {rotation_user}"),
        "lacks CREATE USER",
    ),
    Breakage(
        inspect.RIGHTS,
        POSTGRESQL,
        by("ALTER ROLE {rotation_user} NOCREATEROLE", "ALTER ROLE {rotation_user} CREATEROLE"),
        "cannot change roles",
    ),
    Breakage(
        inspect.RIGHTS,
        ("postgresql-18-plaintext",),
        by("REVOKE {account} FROM {rotation_user}"),
        "lacks ADMIN OPTION for",
        shows=0,  # This server logs none.
    ),
    Breakage(servers.LOCK, EACH, locked, "a session holds the advisory lock", WARNING, shows=0),
    Breakage(
        inspect.ACCOUNTS,
        FAMILY,
        by("CREATE USER '{username}'@'192.0.2.%' IDENTIFIED BY 'x'", "DROP USER '{username}'@'192.0.2.%'"),
        "192.0.2.%",
        shows=0,
    ),
    Breakage(inspect.ACCOUNTS, POSTGRESQL, by("DROP ROLE {account}"), "there is no role", shows=0),
    Breakage(inspect.LOCKOUT, FAMILY, lockout_limit_of_one, "one wrong password locks it"),
    Breakage(
        inspect.EXPIRY,
        FAMILY,
        by("ALTER USER {account} PASSWORD EXPIRE INTERVAL 90 DAY"),
        "expires 90 days after",
        WARNING,
    ),
    Breakage(
        inspect.EXPIRY,
        POSTGRESQL,
        by("ALTER ROLE {account} VALID UNTIL '2000-01-01'"),
        "is refused since then",
        shows=0,
    ),
    Breakage(
        inspect.POLICY,
        MARIADB,
        by("INSTALL SONAME 'simple_password_check'", "UNINSTALL SONAME 'simple_password_check'"),
        "takes no verifiers",
    ),
    Breakage(
        inspect.POLICY,
        POSTGRESQL,
        by(
            "ALTER ROLE {rotation_user} SET password_encryption = 'md5'",
            "ALTER ROLE {rotation_user} RESET password_encryption",
        ),
        "are stored as md5",
        WARNING,
    ),
    Breakage(
        inspect.PLUGIN,
        MARIADB,
        with_plugin("VIA mysql_native_password USING PASSWORD('{password}') OR unix_socket"),
        "unix_socket keeps no password",
    ),
    Breakage(
        inspect.PLUGIN,
        ("mysql-alternating",),
        with_plugin("WITH sha256_password BY '{password}'"),
        "gets caching_sha2_password at its next turn",
        WARNING,
    ),
    Breakage(inspect.ACCESS, POSTGRESQL, trusted, "every password logs in"),
    Breakage(
        inspect.ROLES,
        POSTGRESQL,
        by("REVOKE {owner} FROM {account}"),
        "it is no member of",
        shows=0,  # The session ends before anything can be asked: it may not be set to the owner role.
    ),
    Breakage(servers.LOGIN, EACH, unknown_password, "refuses what aws and oci serve"),
    Breakage(servers.LOGIN, EACH, blocked, "it is blocked", shows=0),
)
