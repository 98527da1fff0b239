"""One driver per engine, behind `lockstep.protocol.ports.Database`."""

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from lockstep.protocol.deadlines import DatabaseTimeouts as Timeouts
from lockstep.protocol.deadlines import DeadlineGuard, always
from lockstep.protocol.errors import UnsupportedServerError
from lockstep.protocol.model import ENGINES, Credential, DatabaseServer, Engine, Login
from lockstep.protocol.ports import Database, Replica

if TYPE_CHECKING:
    from lockstep.databases.base import ServerDatabase
    from lockstep.databases.inspect import Inspector

__all__ = ["Timeouts", "open_database", "open_server"]

_DEFAULT_TIMEOUTS = Timeouts()


def open_database(
    server: DatabaseServer,
    credential: Credential,
    admin: Callable[[], Login],
    *,
    timeouts: Timeouts = _DEFAULT_TIMEOUTS,
    deadline_guard: DeadlineGuard = always,
) -> Database:
    """The database of a plan, for one credential; connects to nothing yet.

    Args:
        server: The server, with its CA file resolved.
        credential: Whose logins it changes, and by which strategy.
        admin: Fetches the rotation user's login, as it is now; nothing is kept.
        timeouts: Bounds of every wait.
        deadline_guard: Called before each connect and each statement (protocol F11).

    Raises:
        TlsVerificationError: The CA file cannot be read.
        UnsupportedServerError: The engine does not allow the credential's strategy.
    """
    if credential.strategy not in ENGINES[server.engine].strategies:
        raise UnsupportedServerError(database=server.name)
    reached = partial(
        open_server, credential=credential, admin=admin, timeouts=timeouts, deadline_guard=deadline_guard
    )
    return reached(server, replicas=tuple(reached(copy) for copy in server.copies))


def open_server(
    server: DatabaseServer,
    credential: Credential,
    admin: Callable[[], Login],
    *,
    timeouts: Timeouts = _DEFAULT_TIMEOUTS,
    deadline_guard: DeadlineGuard = always,
    replicas: tuple[Replica, ...] = (),
) -> "ServerDatabase[Any]":
    """A server, or one of its verify hosts, to be looked at and not changed; connects to nothing yet.

    Arguments and errors as of `open_database`.
    """
    return driver_of(server.engine)(
        server,
        credential,
        admin,
        timeouts=timeouts,
        random_bytes=os.urandom,
        deadline_guard=deadline_guard,
        replicas=replicas,
    )


def driver_of(engine: Engine) -> "type[ServerDatabase[Any]]":
    """How a server of an engine is reached. A runner loads only the drivers that its plan needs."""
    match engine:
        case Engine.MYSQL:
            from lockstep.databases.mysql import MySqlDatabase

            return MySqlDatabase
        case Engine.MARIADB:
            from lockstep.databases.mariadb import MariaDbDatabase

            return MariaDbDatabase
        case Engine.POSTGRESQL:
            from lockstep.databases.postgresql import PostgreSqlDatabase

            return PostgreSqlDatabase


def inspector_of(engine: Engine) -> "type[Inspector[Any]]":
    """How a server of an engine is looked at."""
    if engine is Engine.POSTGRESQL:
        from lockstep.databases.inspect_postgresql import PostgreSqlInspector

        return PostgreSqlInspector
    from lockstep.databases.inspect_mysql import MariaDbInspector, MySqlInspector

    return MySqlInspector if engine is Engine.MYSQL else MariaDbInspector
