"""Ways to break what the doctor looks at on a database: each check fails by one of them, on each engine."""

import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast
from unittest.mock import patch

from lockstep.databases import looks
from lockstep.databases.mysql_family import MySqlSession
from lockstep.doctor.findings import Outcome
from lockstep.doctor.probes import servers
from lockstep.errors import LockTableUnreachableError, StoreAccessDeniedError, StoreUnreachableError
from lockstep.model import ROTATOR, Engine, LockRecord, Login, SecretStr, Tls
from lockstep.system import SystemClock
from sandbox.databases import CertificateAuthority, PostgresServer
from sandbox.databases.process import free_port
from tests.contract.doctor.database_world import DoctorWorld
from tests.support.mysql_relay import CLIENT_SSL, Greeting, relay
from tests.support.peer import peer

if TYPE_CHECKING:
    from sandbox.databases.mysql_family import MySqlFamilyServer
    from tests.contract.database_harness import MySqlHarness

Break = Callable[[DoctorWorld, ExitStack], None]
MYSQL = ("mysql-dual",)
MARIADB = ("mariadb-dual",)
FAMILY = (*MYSQL, *MARIADB)
POSTGRESQL = ("postgresql",)
EACH = (*FAMILY, *POSTGRESQL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakage:
    """One way.

    Attributes:
        name: For the test's name.
        check: The check that complains.
        worlds: On which servers.
        how: Breaks it; what is pushed on the stack mends it.
        says: Part of what the check says.
        outcome: Of its complaint.
        shows: How many logins of the credential's accounts reach the server.
    """

    name: str
    check: str
    worlds: tuple[str, ...]
    how: Break
    says: str
    outcome: Outcome = Outcome.FAILED
    shows: int = 1


def _execute(world: DoctorWorld, stack: ExitStack, statement: str, mend: str | None = None) -> None:
    """Run a statement now, and one that mends it afterwards; both name the account of base as {account}."""
    names = _names(world)
    world.harness.execute(statement.format(**names))
    if mend:
        stack.callback(world.harness.execute, mend.format(**names))


def _names(world: DoctorWorld) -> dict[str, str]:
    username = world.base.login.username
    family = world.server.engine is not Engine.POSTGRESQL
    account = f"'{username}'@'%'" if family else username
    rotator = f"'{ROTATOR}'@'%'" if family else ROTATOR
    return {"account": account, "username": username, "rotator": rotator, "owner": world.credential.owner}


def by(statement: str, mend: str | None = None) -> Break:
    """Break it by SQL."""
    return lambda world, stack: _execute(world, stack, statement, mend)


# ---- The network


def unknown_name(world: DoctorWorld, _stack: ExitStack) -> None:
    world.server = replace(world.server, host="no-such-host.invalid")


def unknown_name_inside(world: DoctorWorld, stack: ExitStack) -> None:
    world.where = "aws/apply_db"
    unknown_name(world, stack)


def unknown_name_in_oci(world: DoctorWorld, stack: ExitStack) -> None:
    world.where = "oci/rotate"
    unknown_name(world, stack)


def nothing_listens(world: DoctorWorld, _stack: ExitStack) -> None:
    world.server = replace(world.server, port=free_port())


def dropped_packets(world: DoctorWorld, stack: ExitStack) -> None:
    """A port whose queue is full: Linux drops further requests for a connection, as a security group does."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    for _ in range(4):
        filler = stack.enter_context(socket.socket())
        filler.setblocking(False)
        with suppress(BlockingIOError):
            filler.connect(listener.getsockname())
    world.server = replace(world.server, host="127.0.0.1", port=listener.getsockname()[1])


def another_name(world: DoctorWorld, _stack: ExitStack) -> None:
    world.server = replace(world.server, host="127.0.0.1")


def another_ca(world: DoctorWorld, _stack: ExitStack) -> None:
    stranger = CertificateAuthority(world.folder / "stranger")
    world.server = replace(world.server, tls=Tls(ca_file=stranger.ca_file))


def no_ca_file(world: DoctorWorld, _stack: ExitStack) -> None:
    world.server = replace(world.server, tls=Tls(ca_file=world.folder / "gone.pem"))


def mysql_without_tls(world: DoctorWorld, stack: ExitStack) -> None:
    def without(greeting: Greeting) -> Greeting:
        return replace(greeting, capabilities=greeting.capabilities & ~CLIENT_SSL)

    world.server = replace(world.server, port=stack.enter_context(relay(world.server.port, without)))


def postgresql_without_tls(world: DoctorWorld, stack: ExitStack) -> None:
    def refuse(connection: socket.socket) -> None:
        if connection.recv(8):
            connection.sendall(b"N")

    world.server = replace(world.server, port=stack.enter_context(peer(refuse)))


def _running(world: DoctorWorld) -> "MySqlFamilyServer | PostgresServer":
    return cast("MySqlFamilyServer | PostgresServer", world.harness.sandbox)


def _restarted(world: DoctorWorld, stack: ExitStack, **changes: object) -> None:
    """Let the server run with other attributes, which it reads when it starts."""
    server = _running(world)
    before = {name: getattr(server, name) for name in changes}

    def run_with(attributes: Mapping[str, object]) -> None:
        server.stop()
        for name, value in attributes.items():
            setattr(server, name, value)
        server.start()

    stack.callback(run_with, before)
    run_with(changes)


def valid(*, since: timedelta, until: timedelta) -> Break:
    """Give the server a certificate that is valid between two times, counted from now."""

    def act(world: DoctorWorld, stack: ExitStack) -> None:
        server, now = _running(world), datetime.now(UTC)
        certificate = server.authority.issue_between(now + since, now + until, "localhost")
        _restarted(world, stack, certificate=certificate)
        # A front verifies the certificate too, and would hang up.
        world.server = replace(world.server, port=server.listening_port)
        world.clock = SystemClock()

    return act


def speaks_no_newer_than_tls_1_1(world: DoctorWorld, stack: ExitStack) -> None:
    of_postgresql = {"ssl_min_protocol_version": "TLSv1", "ssl_max_protocol_version": "TLSv1.1"}
    settings = of_postgresql if world.is_postgresql else {"tls_version": "TLSv1.1"}
    _restarted(world, stack, settings=settings)


# ---- The rotator admin


def wrong_admin(world: DoctorWorld, _stack: ExitStack) -> None:
    world.admin = Login(ROTATOR, SecretStr("wrong"))


def unreadable_admin(world: DoctorWorld, _stack: ExitStack) -> None:
    world.admin = StoreAccessDeniedError(store="aws", secret="contract/admin")


def unreadable_admin_inside(world: DoctorWorld, stack: ExitStack) -> None:
    world.where = "aws/apply_db"
    unreadable_admin(world, stack)


def other_engine(world: DoctorWorld, _stack: ExitStack) -> None:
    other = {Engine.MYSQL: Engine.MARIADB, Engine.MARIADB: Engine.MYSQL}
    world.server = replace(world.server, engine=other[world.server.engine])


def locked(world: DoctorWorld, stack: ExitStack) -> None:
    stack.enter_context(world.harness.open().exclusive())


# ---- Accounts


def two_hosts(world: DoctorWorld, stack: ExitStack) -> None:
    other = "'{username}'@'192.0.2.%'"
    _execute(world, stack, f"CREATE USER {other} IDENTIFIED BY 'other'", f"DROP USER {other}")


def lockout_limit_of_one(world: DoctorWorld, stack: ExitStack) -> None:
    if world.server.engine is Engine.MARIADB:
        _execute(
            world, stack, "SET GLOBAL max_password_errors = 1", "SET GLOBAL max_password_errors = DEFAULT"
        )
    else:
        _execute(world, stack, "ALTER USER {account} FAILED_LOGIN_ATTEMPTS 1 PASSWORD_LOCK_TIME UNBOUNDED")


def text_and_policy(world: DoctorWorld, stack: ExitStack) -> None:
    """A MySQL server with a policy, which says that it is from before 8.0.21; there is none to be had."""
    stack.enter_context(cast("MySqlHarness", world.harness).strict_policy())
    stack.enter_context(patch.object(MySqlSession, "server_version", "8.0.20"))


def strict_validation(world: DoctorWorld, stack: ExitStack) -> None:
    _execute(
        world, stack, "INSTALL SONAME 'simple_password_check'", "UNINSTALL SONAME 'simple_password_check'"
    )


def foreign_plugin(world: DoctorWorld, _stack: ExitStack) -> None:
    password = world.base.login.password.reveal().replace("\\", "\\\\").replace("'", "\\'")
    ways = f"mysql_native_password USING PASSWORD('{password}') OR unix_socket"
    world.harness.execute(f"ALTER USER {_names(world)['account']} IDENTIFIED VIA {ways}")


def older_plugin(world: DoctorWorld, _stack: ExitStack) -> None:
    password = world.base.login.password.reveal().replace("\\", "\\\\").replace("'", "\\'")
    world.harness.execute(
        f"ALTER USER {_names(world)['account']} IDENTIFIED WITH sha256_password BY '{password}'"
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
    return lambda world, stack: _rules(world, stack, line.format(**_names(world)))


def hba_with_a_mistake(world: DoctorWorld, stack: ExitStack) -> None:
    for right in ("SELECT ON pg_hba_file_rules", "EXECUTE ON FUNCTION pg_hba_file_rules()"):
        _execute(world, stack, f"GRANT {right} TO {{rotator}}", f"REVOKE {right} FROM {{rotator}}")
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


_YEAR = timedelta(days=365)
WARNING, NOT_ASKED = Outcome.WARNING, Outcome.NOT_ASKED
BREAKAGES: tuple[Breakage, ...] = (
    Breakage(
        name="unknown-name",
        check=servers.ADDRESS,
        worlds=EACH,
        how=unknown_name,
        says="does not resolve from here",
        outcome=NOT_ASKED,
        shows=0,
    ),
    Breakage(
        name="unknown-name-inside",
        check=servers.ADDRESS,
        worlds=EACH,
        how=unknown_name_inside,
        says="does not resolve from aws/apply_db: there is no such name",
        shows=0,
    ),
    Breakage(
        name="unknown-name-in-oci",
        check=servers.ADDRESS,
        worlds=MYSQL,
        how=unknown_name_in_oci,
        says="does not resolve from oci/rotate",
        shows=0,
    ),
    Breakage(
        name="nothing-listens",
        check=servers.ROUTE,
        worlds=EACH,
        how=nothing_listens,
        says="nothing listens there",
        shows=0,
    ),
    Breakage(
        name="dropped-packets",
        check=servers.ROUTE,
        worlds=EACH,
        how=dropped_packets,
        says="drops packets",
        shows=0,
    ),
    Breakage(
        name="another-name",
        check=servers.TLS,
        worlds=EACH,
        how=another_name,
        says="its certificate is for localhost, not for 127.0.0.1",
        shows=0,
    ),
    Breakage(
        name="another-ca", check=servers.TLS, worlds=EACH, how=another_ca, says="have not signed", shows=0
    ),
    Breakage(
        name="expires-soon",
        check=servers.TLS,
        worlds=EACH,
        how=valid(since=-_YEAR, until=timedelta(days=29, hours=12)),
        says="in 29 days",
        outcome=WARNING,
    ),
    Breakage(
        name="expired",
        check=servers.TLS,
        worlds=EACH,
        how=valid(since=-_YEAR, until=-timedelta(hours=1)),
        says="has expired",
        shows=0,
    ),
    Breakage(
        name="not-yet-valid",
        check=servers.TLS,
        worlds=EACH,
        how=valid(since=timedelta(hours=1), until=_YEAR),
        says="is not valid yet",
        shows=0,
    ),
    Breakage(
        name="old-protocol",
        check=servers.TLS,
        # MySQL 8.4 speaks nothing older than TLS 1.2 (https://dev.mysql.com/doc/refman/8.4/en/encrypted-connection-protocols-ciphers.html).
        worlds=(*MARIADB, *POSTGRESQL),
        how=speaks_no_newer_than_tls_1_1,
        says="older than 1.2",
        shows=0,
    ),
    Breakage(
        name="no-ca-file", check=servers.TLS, worlds=EACH, how=no_ca_file, says="there is no CA file", shows=0
    ),
    Breakage(
        name="no-tls",
        check=servers.TLS,
        worlds=FAMILY,
        how=mysql_without_tls,
        says="offers no TLS",
        shows=0,
    ),
    Breakage(
        name="no-tls",
        check=servers.TLS,
        worlds=POSTGRESQL,
        how=postgresql_without_tls,
        says="offers no TLS",
        shows=0,
    ),
    Breakage(
        name="wrong-admin",
        check=servers.ADMIN,
        worlds=EACH,
        how=wrong_admin,
        says="refuses the rotator admin's login",
        shows=0,
    ),
    Breakage(
        name="unreadable-admin",
        check=servers.ADMIN,
        worlds=EACH,
        how=unreadable_admin,
        says="may not be read from here",
        outcome=NOT_ASKED,
        shows=0,
    ),
    Breakage(
        name="unreadable-admin-inside",
        check=servers.ADMIN,
        worlds=EACH,
        how=unreadable_admin_inside,
        says="there is no login of the rotator admin",
        shows=0,
    ),
    Breakage(
        name="other-engine",
        check=looks.SERVER,
        worlds=FAMILY,
        how=other_engine,
        says="that the strategy works on",
        shows=0,
    ),
    Breakage(
        name="read-only",
        check=looks.SERVER,
        worlds=FAMILY,
        how=by("SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0"),
        says="is read-only",
    ),
    Breakage(
        name="no-right",
        check=looks.RIGHTS,
        worlds=FAMILY,
        how=by("REVOKE CREATE USER ON *.* FROM {rotator}", "GRANT CREATE USER ON *.* TO {rotator}"),
        says="lacks CREATE USER",
        # MySQL shows the accounts only to who may change them.
        shows=1,
    ),
    Breakage(
        name="no-right",
        check=looks.RIGHTS,
        worlds=POSTGRESQL,
        how=by("ALTER ROLE {rotator} NOCREATEROLE", "ALTER ROLE {rotator} CREATEROLE"),
        says="cannot change roles",
    ),
    Breakage(
        name="no-admin-option",
        check=looks.RIGHTS,
        worlds=("postgresql-18-plaintext",),
        how=by("REVOKE {account} FROM {rotator}"),
        says="lacks ADMIN OPTION for",
        shows=0,  # This server logs none.
    ),
    Breakage(
        name="wide-rights",
        check=looks.RIGHTS,
        worlds=FAMILY,
        how=by("GRANT SELECT ON *.* TO {rotator}", "REVOKE SELECT ON *.* FROM {rotator}"),
        says="may do more than rotate: SELECT",
        outcome=WARNING,
    ),
    Breakage(
        name="wide-rights-elsewhere",
        check=looks.RIGHTS,
        worlds=FAMILY,
        how=by("GRANT SELECT ON app_db.* TO {rotator}", "REVOKE SELECT ON app_db.* FROM {rotator}"),
        says="may do more than rotate: app_db.*",
        outcome=WARNING,
    ),
    Breakage(
        name="wide-rights",
        check=looks.RIGHTS,
        worlds=POSTGRESQL,
        how=by("ALTER ROLE {rotator} CREATEDB", "ALTER ROLE {rotator} NOCREATEDB"),
        says="may do more than rotate: CREATEDB",
        outcome=WARNING,
    ),
    Breakage(
        name="no-hosts",
        check=looks.RIGHTS,
        worlds=MARIADB,
        how=by(
            "REVOKE SELECT (User, Host) ON mysql.user FROM {rotator}",
            "GRANT SELECT (User, Host) ON mysql.user TO {rotator}",
        ),
        says="does not see the accounts",
        outcome=WARNING,
    ),
    Breakage(
        name="no-sessions",
        check=looks.RIGHTS,
        worlds=MARIADB,
        how=by("REVOKE PROCESS ON *.* FROM {rotator}", "GRANT PROCESS ON *.* TO {rotator}"),
        says="may not list sessions",
        outcome=WARNING,
    ),
    Breakage(
        name="busy",
        check=servers.LOCK,
        worlds=EACH,
        how=locked,
        says="a session holds the advisory lock",
        outcome=WARNING,
        shows=0,
    ),
    Breakage(name="two-hosts", check=looks.ACCOUNTS, worlds=FAMILY, how=two_hosts, says="192.0.2.%", shows=0),
    Breakage(
        name="gone",
        check=looks.ACCOUNTS,
        worlds=FAMILY,
        how=by("DROP USER {account}"),
        says="there is no account",
        shows=0,
    ),
    Breakage(
        name="gone",
        check=looks.ACCOUNTS,
        worlds=POSTGRESQL,
        how=by("DROP ROLE {account}"),
        says="there is no role",
        shows=0,
    ),
    Breakage(
        name="no-login",
        check=looks.ACCOUNTS,
        worlds=POSTGRESQL,
        how=by("ALTER ROLE {account} NOLOGIN"),
        says="it is NOLOGIN",
        shows=0,
    ),
    Breakage(
        name="too-few-connections",
        check=looks.ACCOUNTS,
        worlds=POSTGRESQL,
        how=by("ALTER ROLE {account} CONNECTION LIMIT 1"),
        says="CONNECTION LIMIT of 1",
    ),
    Breakage(
        name="limit-of-one",
        check=looks.LOCKOUT,
        worlds=FAMILY,
        how=lockout_limit_of_one,
        says="one wrong password locks it",
    ),
    Breakage(
        name="lifetime",
        check=looks.EXPIRY,
        worlds=FAMILY,
        how=by("ALTER USER {account} PASSWORD EXPIRE INTERVAL 90 DAY"),
        says="expires 90 days after",
        outcome=WARNING,
    ),
    Breakage(
        name="lifetime-by-default",
        check=looks.EXPIRY,
        worlds=FAMILY,
        how=by("SET GLOBAL default_password_lifetime = 30", "SET GLOBAL default_password_lifetime = 0"),
        says="expires 30 days after",
        outcome=WARNING,
    ),
    Breakage(
        name="over",
        check=looks.EXPIRY,
        worlds=POSTGRESQL,
        how=by("ALTER ROLE {account} VALID UNTIL '2000-01-01'"),
        says="is refused since then",
        shows=0,
    ),
    Breakage(
        name="will-end",
        check=looks.EXPIRY,
        worlds=POSTGRESQL,
        how=by("ALTER ROLE {account} VALID UNTIL '2999-01-01'"),
        says="refused from then on",
        outcome=WARNING,
    ),
    Breakage(
        name="text-and-policy",
        check=looks.POLICY,
        worlds=MYSQL,
        how=text_and_policy,
        says="takes passwords as text",
        outcome=WARNING,
    ),
    Breakage(
        name="strict-validation",
        check=looks.POLICY,
        worlds=MARIADB,
        how=strict_validation,
        says="takes no verifiers",
    ),
    Breakage(
        name="md5",
        check=looks.POLICY,
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
        check=looks.PLUGIN,
        worlds=MARIADB,
        how=foreign_plugin,
        says="unix_socket keeps no password",
    ),
    Breakage(
        name="older-plugin",
        check=looks.PLUGIN,
        worlds=("mysql-alternating",),
        how=older_plugin,
        says="gets caching_sha2_password at its next turn",
        outcome=WARNING,
    ),
    Breakage(
        name="trust",
        check=looks.ACCESS,
        worlds=POSTGRESQL,
        how=hba("hostssl all {username} 127.0.0.1/32 trust"),
        says="every password logs in",
    ),
    Breakage(
        name="no-line",
        check=looks.ACCESS,
        worlds=POSTGRESQL,
        how=hba("hostssl all {username} 127.0.0.1/32 reject"),
        says="lets it not in from here, with TLS: SQLSTATE 28000",
        shows=0,
    ),
    Breakage(
        name="not-valid",
        check=looks.ACCESS,
        worlds=POSTGRESQL,
        how=hba_with_a_mistake,
        says="pg_hba.conf is not valid, line 1",
    ),
    Breakage(
        name="no-member",
        check=looks.ROLES,
        worlds=POSTGRESQL,
        how=by("REVOKE {owner} FROM {account}"),
        says="it is no member of",
        shows=0,  # The session ends before anything can be asked: it may not be set to the owner role.
    ),
    Breakage(
        name="owner-logs-in",
        check=looks.ROLES,
        worlds=POSTGRESQL,
        how=by("ALTER ROLE {owner} LOGIN"),
        says="logs in itself",
    ),
    Breakage(
        name="special",
        check=looks.ROLES,
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
