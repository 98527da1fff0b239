"""Ways to break the route to a database, its certificate, the rotator admin, and what the server allows."""

import socket
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from msgspec import structs

from lockstep.databases import inspect
from lockstep.operate.doctor import servers
from lockstep.protocol.errors import StoreAccessDeniedError
from lockstep.protocol.findings import Outcome
from lockstep.protocol.model import ROTATOR, Engine, Login, SecretStr, Tls
from lockstep.runtime.system import SystemClock
from sandbox.databases import CertificateAuthority, PostgresServer
from sandbox.databases.process import free_port
from tests.contract.doctor.breakage import EACH, FAMILY, MARIADB, MYSQL, POSTGRESQL, Break, Breakage, by
from tests.contract.doctor.database_world import DoctorWorld
from tests.support.mysql_relay import CLIENT_SSL, Greeting, relay
from tests.support.peer import peer

if TYPE_CHECKING:
    from sandbox.databases.mysql_family import MySqlFamilyServer

# ---- The network


def unknown_name(world: DoctorWorld, _stack: ExitStack) -> None:
    world.server = structs.replace(world.server, host="no-such-host.invalid")


def unknown_name_inside(world: DoctorWorld, stack: ExitStack) -> None:
    world.where = "aws/apply_db"
    unknown_name(world, stack)


def unknown_name_in_oci(world: DoctorWorld, stack: ExitStack) -> None:
    world.where = "oci/rotate"
    unknown_name(world, stack)


def nothing_listens(world: DoctorWorld, _stack: ExitStack) -> None:
    world.server = structs.replace(world.server, port=free_port())


def dropped_packets(world: DoctorWorld, stack: ExitStack) -> None:
    """A port whose queue is full: Linux drops further requests for a connection, as a security group does."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    for _ in range(4):
        filler = stack.enter_context(socket.socket())
        filler.setblocking(False)
        with suppress(BlockingIOError):
            filler.connect(listener.getsockname())
    world.server = structs.replace(world.server, host="127.0.0.1", port=listener.getsockname()[1])


def another_name(world: DoctorWorld, _stack: ExitStack) -> None:
    world.server = structs.replace(world.server, host="127.0.0.1")


def another_ca(world: DoctorWorld, _stack: ExitStack) -> None:
    stranger = CertificateAuthority(world.folder / "stranger")
    world.server = structs.replace(world.server, tls=Tls(ca_file=stranger.ca_file))


def no_ca_file(world: DoctorWorld, _stack: ExitStack) -> None:
    world.server = structs.replace(world.server, tls=Tls(ca_file=world.folder / "gone.pem"))


def mysql_without_tls(world: DoctorWorld, stack: ExitStack) -> None:
    def without(greeting: Greeting) -> Greeting:
        return replace(greeting, capabilities=greeting.capabilities & ~CLIENT_SSL)

    world.server = structs.replace(world.server, port=stack.enter_context(relay(world.server.port, without)))


def postgresql_without_tls(world: DoctorWorld, stack: ExitStack) -> None:
    def refuse(connection: socket.socket) -> None:
        if connection.recv(8):
            connection.sendall(b"N")

    world.server = structs.replace(world.server, port=stack.enter_context(peer(refuse)))


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
        world.server = structs.replace(world.server, port=server.listening_port)
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
    world.server = structs.replace(world.server, engine=other[world.server.engine])


def locked(world: DoctorWorld, stack: ExitStack) -> None:
    stack.enter_context(world.harness.open().exclusive())


_YEAR = timedelta(days=365)
WARNING, NOT_ASKED = Outcome.WARNING, Outcome.NOT_ASKED
BREAKS_OF_SERVERS: tuple[Breakage, ...] = (
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
        check=inspect.SERVER,
        worlds=FAMILY,
        how=other_engine,
        says="that the strategy works on",
        shows=0,
    ),
    Breakage(
        name="read-only",
        check=inspect.SERVER,
        worlds=FAMILY,
        how=by("SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0"),
        says="is read-only",
    ),
    Breakage(
        name="no-right",
        check=inspect.RIGHTS,
        worlds=FAMILY,
        how=by("REVOKE CREATE USER ON *.* FROM {rotator}", "GRANT CREATE USER ON *.* TO {rotator}"),
        says="lacks CREATE USER",
        # MySQL shows the accounts only to who may change them.
        shows=1,
    ),
    Breakage(
        name="no-right",
        check=inspect.RIGHTS,
        worlds=POSTGRESQL,
        how=by("ALTER ROLE {rotator} NOCREATEROLE", "ALTER ROLE {rotator} CREATEROLE"),
        says="cannot change roles",
    ),
    Breakage(
        name="no-admin-option",
        check=inspect.RIGHTS,
        worlds=("postgresql-18-plaintext",),
        how=by("REVOKE {account} FROM {rotator}"),
        says="lacks ADMIN OPTION for",
        shows=0,  # This server logs none.
    ),
    Breakage(
        name="wide-rights",
        check=inspect.RIGHTS,
        worlds=FAMILY,
        how=by("GRANT SELECT ON *.* TO {rotator}", "REVOKE SELECT ON *.* FROM {rotator}"),
        says="may do more than rotate: SELECT",
        outcome=WARNING,
    ),
    Breakage(
        name="wide-rights-elsewhere",
        check=inspect.RIGHTS,
        worlds=FAMILY,
        how=by("GRANT SELECT ON app_db.* TO {rotator}", "REVOKE SELECT ON app_db.* FROM {rotator}"),
        says="may do more than rotate: app_db.*",
        outcome=WARNING,
    ),
    Breakage(
        name="wide-rights",
        check=inspect.RIGHTS,
        worlds=POSTGRESQL,
        how=by("ALTER ROLE {rotator} CREATEDB", "ALTER ROLE {rotator} NOCREATEDB"),
        says="may do more than rotate: CREATEDB",
        outcome=WARNING,
    ),
    Breakage(
        name="no-hosts",
        check=inspect.RIGHTS,
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
        check=inspect.RIGHTS,
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
)
