"""Ways to break the accounts of a credential on a database, who may log in there, and what the stores serve."""

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from lockstep.databases import inspect
from lockstep.operate.doctor import servers
from lockstep.protocol.errors import LockTableUnreachableError, StoreUnreachableError
from lockstep.protocol.findings import Outcome
from lockstep.protocol.model import Engine, LockRecord, Login, SecretStr
from tests.contract.doctor.breakage import (
    EACH,
    FAMILY,
    MARIADB,
    POSTGRESQL,
    Break,
    Breakage,
    by,
    execute,
    names,
)
from tests.contract.doctor.database_world import DoctorWorld

if TYPE_CHECKING:
    from sandbox.databases import PostgresServer

# ---- Accounts


def two_hosts(world: DoctorWorld, stack: ExitStack) -> None:
    other = "'{username}'@'192.0.2.%'"
    execute(world, stack, f"CREATE USER {other} IDENTIFIED BY 'other'", f"DROP USER {other}")


def lockout_limit_of_one(world: DoctorWorld, stack: ExitStack) -> None:
    if world.server.engine is Engine.MARIADB:
        execute(
            world, stack, "SET GLOBAL max_password_errors = 1", "SET GLOBAL max_password_errors = DEFAULT"
        )
    else:
        execute(world, stack, "ALTER USER {account} FAILED_LOGIN_ATTEMPTS 1 PASSWORD_LOCK_TIME UNBOUNDED")


def strict_validation(world: DoctorWorld, stack: ExitStack) -> None:
    execute(
        world, stack, "INSTALL SONAME 'simple_password_check'", "UNINSTALL SONAME 'simple_password_check'"
    )


def foreign_plugin(world: DoctorWorld, _stack: ExitStack) -> None:
    password = world.base.login.password.reveal().replace("\\", "\\\\").replace("'", "\\'")
    ways = f"mysql_native_password USING PASSWORD('{password}') OR unix_socket"
    world.harness.execute(f"ALTER USER {names(world)['account']} IDENTIFIED VIA {ways}")


def older_plugin(world: DoctorWorld, _stack: ExitStack) -> None:
    password = world.base.login.password.reveal().replace("\\", "\\\\").replace("'", "\\'")
    world.harness.execute(
        f"ALTER USER {names(world)['account']} IDENTIFIED WITH sha256_password BY '{password}'"
    )


# ---- pg_hba.conf


def _rules(world: DoctorWorld, stack: ExitStack, first: str) -> None:
    server = cast("PostgresServer", world.harness.sandbox)
    file = server.data_folder / "pg_hba.conf"
    before = file.read_text()
    file.write_text(f"{first}\n{before}")
    server.execute_as_superuser("SELECT pg_reload_conf()")
    stack.callback(server.execute_as_superuser, "SELECT pg_reload_conf()")
    stack.callback(file.write_text, before)


def hba(line: str) -> Break:
    """Put a line first, with {username}."""
    return lambda world, stack: _rules(world, stack, line.format(**names(world)))


def hba_with_a_mistake(world: DoctorWorld, stack: ExitStack) -> None:
    for right in ("SELECT ON pg_hba_file_rules", "EXECUTE ON FUNCTION pg_hba_file_rules()"):
        execute(world, stack, f"GRANT {right} TO {{rotator}}", f"REVOKE {right} FROM {{rotator}}")
    _rules(world, stack, "hostssl all all nowhere sesame")


# ---- What the stores serve


def unknown_password(world: DoctorWorld, _stack: ExitStack) -> None:
    wrong = replace(world.base, login=Login(world.base.login.username, SecretStr("wrong")))
    world.serve(wrong, wrong)


def nothing_is_served(world: DoctorWorld, _stack: ExitStack) -> None:
    world.serve(None, None)


def foreign_username(world: DoctorWorld, _stack: ExitStack) -> None:
    stranger = replace(world.base, login=Login("stranger", SecretStr("x")))
    world.serve(stranger, stranger)


def silent_store(world: DoctorWorld, _stack: ExitStack) -> None:
    world.serve(world.base, StoreUnreachableError(store="oci"))


def no_record(world: DoctorWorld, _stack: ExitStack) -> None:
    world.record = LockTableUnreachableError()


def muted(world: DoctorWorld, _stack: ExitStack) -> None:
    world.record = LockRecord(credential_id=world.credential.id, muted=frozenset({"main"}))


def enrolled(world: DoctorWorld, _stack: ExitStack) -> None:
    world.record = LockRecord(credential_id=world.credential.id, enrol=frozenset({"main"}))


def refused_elsewhere(world: DoctorWorld, _stack: ExitStack) -> None:
    world.silent = frozenset({"main"})


WARNING, NOT_ASKED = Outcome.WARNING, Outcome.NOT_ASKED
BREAKS_OF_ACCOUNTS: tuple[Breakage, ...] = (
    Breakage(
        name="two-hosts", check=inspect.ACCOUNTS, worlds=FAMILY, how=two_hosts, says="192.0.2.%", shows=0
    ),
    Breakage(
        name="gone",
        check=inspect.ACCOUNTS,
        worlds=FAMILY,
        how=by("DROP USER {account}"),
        says="there is no account",
        shows=0,
    ),
    Breakage(
        name="gone",
        check=inspect.ACCOUNTS,
        worlds=POSTGRESQL,
        how=by("DROP ROLE {account}"),
        says="there is no role",
        shows=0,
    ),
    Breakage(
        name="no-login",
        check=inspect.ACCOUNTS,
        worlds=POSTGRESQL,
        how=by("ALTER ROLE {account} NOLOGIN"),
        says="it is NOLOGIN",
        shows=0,
    ),
    Breakage(
        name="too-few-connections",
        check=inspect.ACCOUNTS,
        worlds=POSTGRESQL,
        how=by("ALTER ROLE {account} CONNECTION LIMIT 1"),
        says="CONNECTION LIMIT of 1",
    ),
    Breakage(
        name="limit-of-one",
        check=inspect.LOCKOUT,
        worlds=FAMILY,
        how=lockout_limit_of_one,
        says="one wrong password locks it",
    ),
    Breakage(
        name="lifetime",
        check=inspect.EXPIRY,
        worlds=FAMILY,
        how=by("ALTER USER {account} PASSWORD EXPIRE INTERVAL 90 DAY"),
        says="expires 90 days after",
        outcome=WARNING,
    ),
    Breakage(
        name="lifetime-by-default",
        check=inspect.EXPIRY,
        worlds=FAMILY,
        how=by("SET GLOBAL default_password_lifetime = 30", "SET GLOBAL default_password_lifetime = 0"),
        says="expires 30 days after",
        outcome=WARNING,
    ),
    Breakage(
        name="over",
        check=inspect.EXPIRY,
        worlds=POSTGRESQL,
        how=by("ALTER ROLE {account} VALID UNTIL '2000-01-01'"),
        says="is refused since then",
        shows=0,
    ),
    Breakage(
        name="will-end",
        check=inspect.EXPIRY,
        worlds=POSTGRESQL,
        how=by("ALTER ROLE {account} VALID UNTIL '2999-01-01'"),
        says="refused from then on",
        outcome=WARNING,
    ),
    Breakage(
        name="strict-validation",
        check=inspect.POLICY,
        worlds=MARIADB,
        how=strict_validation,
        says="takes no verifiers",
    ),
    Breakage(
        name="md5",
        check=inspect.POLICY,
        worlds=POSTGRESQL,
        how=by(
            "ALTER ROLE {rotator} SET password_encryption = 'md5'",
            "ALTER ROLE {rotator} RESET password_encryption",
        ),
        says="are stored as md5",
        outcome=WARNING,
    ),
    Breakage(
        name="no-password-kept",
        check=inspect.PLUGIN,
        worlds=MARIADB,
        how=foreign_plugin,
        says="unix_socket keeps no password",
    ),
    Breakage(
        name="older-plugin",
        check=inspect.PLUGIN,
        worlds=("mysql-alternating",),
        how=older_plugin,
        says="gets caching_sha2_password at its next turn",
        outcome=WARNING,
    ),
    Breakage(
        name="trust",
        check=inspect.ACCESS,
        worlds=POSTGRESQL,
        how=hba("hostssl all {username} 127.0.0.1/32 trust"),
        says="every password logs in",
    ),
    Breakage(
        name="no-line",
        check=inspect.ACCESS,
        worlds=POSTGRESQL,
        how=hba("hostssl all {username} 127.0.0.1/32 reject"),
        says="lets it not in from here, with TLS: SQLSTATE 28000",
        shows=0,
    ),
    Breakage(
        name="not-valid",
        check=inspect.ACCESS,
        worlds=POSTGRESQL,
        how=hba_with_a_mistake,
        says="pg_hba.conf is not valid, line 1",
    ),
    Breakage(
        name="no-member",
        check=inspect.ROLES,
        worlds=POSTGRESQL,
        how=by("REVOKE {owner} FROM {account}"),
        says="it is no member of",
        shows=0,  # The session ends before anything can be asked: it may not be set to the owner role.
    ),
    Breakage(
        name="owner-logs-in",
        check=inspect.ROLES,
        worlds=POSTGRESQL,
        how=by("ALTER ROLE {owner} LOGIN"),
        says="logs in itself",
    ),
    Breakage(
        name="special",
        check=inspect.ROLES,
        worlds=POSTGRESQL,
        how=by("ALTER ROLE {account} REPLICATION"),
        says="has REPLICATION",
    ),
    Breakage(
        name="unknown-password",
        check=servers.LOGIN,
        worlds=EACH,
        how=unknown_password,
        says="refuses what aws and oci serve",
    ),
    Breakage(
        name="expired-password",
        check=servers.LOGIN,
        worlds=FAMILY,
        how=by("ALTER USER {account} PASSWORD EXPIRE"),
        says="has expired",
    ),
    Breakage(
        name="locked-account",
        check=servers.LOGIN,
        worlds=FAMILY,
        how=by("ALTER USER {account} ACCOUNT LOCK"),
        says="the account is locked",
    ),
    Breakage(
        name="placeholder",
        check=servers.LOGIN,
        worlds=EACH,
        how=nothing_is_served,
        says="but a placeholder",
        outcome=WARNING,
        shows=0,
    ),
    Breakage(
        name="foreign-username",
        check=servers.LOGIN,
        worlds=EACH,
        how=foreign_username,
        says="a username that the plan does not name",
        shows=0,
    ),
    Breakage(
        name="silent-store",
        check=servers.LOGIN,
        worlds=EACH,
        how=silent_store,
        says="what it serves is not known",
        outcome=NOT_ASKED,
    ),
    Breakage(
        name="no-record",
        check=servers.LOGIN,
        worlds=EACH,
        how=no_record,
        says="lock table did not answer",
        outcome=NOT_ASKED,
        shows=0,
    ),
    Breakage(name="muted", check=servers.LOGIN, worlds=EACH, how=muted, says="it is muted", shows=0),
    Breakage(
        name="enrolled",
        check=servers.LOGIN,
        worlds=EACH,
        how=enrolled,
        says="under enrolment",
        outcome=WARNING,
        shows=0,
    ),
    Breakage(
        name="refused-elsewhere",
        check=servers.LOGIN,
        worlds=EACH,
        how=refused_elsewhere,
        says="another place has seen it refuse",
        outcome=NOT_ASKED,
        shows=0,
    ),
)
