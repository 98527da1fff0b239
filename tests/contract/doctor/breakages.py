"""How to break what each check looks at on a database: the table of which `test_databases` makes its tests."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from msgspec import structs

from lockstep.databases import inspect
from lockstep.databases.findings import Outcome
from lockstep.operate.doctor import servers
from lockstep.protocol.model import ROTATION_USER, Engine, LockRecord, Login, SecretStr, Tls
from sandbox.emulators.databases import CertificateAuthority
from sandbox.emulators.databases.process import free_port
from tests.contract.doctor.database_world import DoctorWorld

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


def with_plugin(clause: str) -> Break:
    """Identify the account of base by a clause with its {password}."""

    def act(world: DoctorWorld, _stack: ExitStack) -> None:
        password = world.base.login.password.reveal().replace("\\", "\\\\").replace("'", "\\'")
        account = names(world)["account"]
        world.harness.execute(f"ALTER USER {account} IDENTIFIED {clause.format(password=password)}")

    return act


# ---- What the stores and the lock table say


def unknown_password(world: DoctorWorld, _stack: ExitStack) -> None:
    wrong = replace(world.base, login=Login(world.base.login.username, SecretStr("wrong")))
    world.serve(wrong, wrong)


def blocked(world: DoctorWorld, _stack: ExitStack) -> None:
    world.record = LockRecord(credential_id=world.credential.id, blocked=frozenset({"main"}))


WARNING = Outcome.WARNING
BREAKAGES: tuple[Breakage, ...] = (
    Breakage(servers.ROUTE, EACH, unknown_name_inside, "from aws/apply_db: there is no such name", shows=0),
    Breakage(servers.ROUTE, EACH, nothing_listens, "nothing listens there", shows=0),
    Breakage(servers.TLS, EACH, another_ca, "have not signed", shows=0),
    Breakage(servers.ADMIN, EACH, wrong_admin, "refuses the rotation user's login", shows=0),
    Breakage(
        inspect.SERVER, FAMILY, by("SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0"), "is read-only"
    ),
    Breakage(
        inspect.ACCOUNTS,
        MARIADB,
        by("SET GLOBAL max_password_errors = 1", "SET GLOBAL max_password_errors = DEFAULT"),
        "one wrong password locks an account",
    ),
    Breakage(
        inspect.ACCOUNTS,
        MARIADB,
        by("INSTALL SONAME 'simple_password_check'", "UNINSTALL SONAME 'simple_password_check'"),
        "takes no verifiers",
    ),
    Breakage(
        inspect.RIGHTS,
        FAMILY,
        by("REVOKE CREATE USER ON *.* FROM {rotation_user}", "GRANT CREATE USER ON *.* TO {rotation_user}"),
        "lacks CREATE USER",
    ),
    Breakage(
        inspect.RIGHTS,
        MARIADB,
        by(
            "REVOKE SELECT (User, Host) ON mysql.user FROM {rotation_user}",
            "GRANT SELECT (User, Host) ON mysql.user TO {rotation_user}",
        ),
        "may not see everything",
        Outcome.NOT_ASKED,
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
    Breakage(inspect.RIGHTS, POSTGRESQL, by("DROP ROLE {account}"), "there is no such role", shows=0),
    Breakage(inspect.ACCOUNTS, FAMILY, by("DROP USER {account}"), "there is no such account", shows=0),
    Breakage(
        inspect.ACCOUNTS,
        FAMILY,
        by("CREATE USER '{username}'@'192.0.2.%' IDENTIFIED BY 'x'", "DROP USER '{username}'@'192.0.2.%'"),
        "it also takes clients from '192.0.2.%'",
        shows=0,
    ),
    Breakage(
        inspect.ACCOUNTS,
        FAMILY,
        by("CREATE USER ''@'192.0.2.7'", "DROP USER ''@'192.0.2.7'"),
        "an anonymous account takes clients from '192.0.2.7'",
        shows=0,
    ),
    Breakage(
        inspect.ACCOUNTS,
        MYSQL,
        by("ALTER USER {account} FAILED_LOGIN_ATTEMPTS 1 PASSWORD_LOCK_TIME UNBOUNDED"),
        "locked by one wrong password",
    ),
    Breakage(
        inspect.ACCOUNTS,
        FAMILY,
        by("ALTER USER {account} PASSWORD EXPIRE INTERVAL 90 DAY"),
        "expires 90 days after",
        WARNING,
    ),
    Breakage(
        inspect.ACCOUNTS, MYSQL, by("ALTER USER {account} PASSWORD HISTORY 5"), "a password history", WARNING
    ),
    Breakage(
        inspect.ACCOUNTS, MYSQL, by("GRANT SYSTEM_USER ON *.* TO {account}"), "or it has SYSTEM_USER", shows=0
    ),
    Breakage(
        inspect.ACCOUNTS,
        POSTGRESQL,
        by("ALTER ROLE {account} VALID UNTIL '2000-01-01'"),
        "is refused since then",
        shows=0,
    ),
    Breakage(
        inspect.ACCOUNTS,
        POSTGRESQL,
        by(
            "ALTER ROLE {rotation_user} VALID UNTIL '2100-01-01'",
            "ALTER ROLE {rotation_user} VALID UNTIL 'infinity'",
        ),
        "refused as by a wrong password from then on",
    ),
    Breakage(
        inspect.ACCOUNTS,
        POSTGRESQL,
        by("ALTER ROLE {account} CONNECTION LIMIT 1"),
        "its CONNECTION LIMIT of 1 is too low",
    ),
    Breakage(
        inspect.ACCOUNTS,
        MARIADB,
        with_plugin("VIA mysql_native_password USING PASSWORD('{password}') OR unix_socket"),
        "unix_socket, which keeps no password",
    ),
    Breakage(
        inspect.ACCOUNTS,
        ("mysql-alternating",),
        with_plugin("WITH sha256_password BY '{password}'"),
        "gets caching_sha2_password at its next turn",
        WARNING,
    ),
    Breakage(
        inspect.ACCOUNTS,
        POSTGRESQL,
        by("REVOKE {owner} FROM {account}"),
        "it is no member of",
        shows=0,  # The session would end before anything can be asked: it may not be set to the owner role.
    ),
    Breakage(inspect.ACCOUNTS, POSTGRESQL, by("ALTER ROLE {account} RESET role"), "does not act as"),
    Breakage(servers.LOGIN, EACH, locked, "a session holds the advisory lock", Outcome.NOT_ASKED, shows=0),
    Breakage(servers.LOGIN, EACH, unknown_password, "refuses what aws and oci serve"),
    Breakage(servers.LOGIN, EACH, blocked, "it is blocked", shows=0),
)
