"""One driver per engine, behind `lockstep.protocol.ports.Database`."""

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from lockstep.databases.verifiers import RandomBytes
from lockstep.protocol.deadlines import DatabaseTimeouts as Timeouts
from lockstep.protocol.deadlines import DeadlineGuard, always
from lockstep.protocol.errors import UnsupportedServerError
from lockstep.protocol.model import ENGINES, Credential, DatabaseServer, Engine, Login
from lockstep.protocol.ports import Database

if TYPE_CHECKING:
    from lockstep.databases.base import ServerDatabase
    from lockstep.databases.inspect import AccountChecks

__all__ = ["Timeouts", "open_database", "open_server"]

_DEFAULT_TIMEOUTS = Timeouts()


def open_database(
    server: DatabaseServer,
    credential: Credential,
    admin: Callable[[], Login],
    *,
    timeouts: Timeouts = _DEFAULT_TIMEOUTS,
    random_bytes: RandomBytes = os.urandom,
    deadline_guard: DeadlineGuard = always,
) -> Database:
    """The database of a plan, for one credential; connects to nothing yet.

    Args:
        server: The server, with its CA file resolved.
        credential: Whose logins it changes, and by which strategy.
        admin: Fetches the rotation user's login, as it is now; nothing is kept.
        timeouts: Bounds of every wait.
        random_bytes: For the salts of verifiers, and for random passwords that are not kept.
        deadline_guard: Called before each connect and each statement (protocol F11).

    Raises:
        TlsVerificationError: The CA file cannot be read.
        UnsupportedServerError: The engine does not allow the credential's strategy.
    """
    spec = ENGINES[server.engine]
    if credential.strategy not in spec.strategies:
        raise UnsupportedServerError(database=server.name)
    reached_by = partial(
        driver_of(server.engine), timeouts=timeouts, random_bytes=random_bytes, deadline_guard=deadline_guard
    )
    replicas = tuple(reached_by(copy, credential, admin) for copy in server.copies)
    return reached_by(server, credential, admin, replicas=replicas)


def open_server(
    server: DatabaseServer,
    credential: Credential,
    admin: Callable[[], Login],
    *,
    timeouts: Timeouts = _DEFAULT_TIMEOUTS,
    deadline_guard: DeadlineGuard = always,
) -> "ServerDatabase[Any]":
    """A server, or one of its verify hosts, to be looked at and not changed; connects to nothing yet.

    Arguments and errors as of `open_database`.
    """
    return driver_of(server.engine)(
        server, credential, admin, timeouts=timeouts, random_bytes=os.urandom, deadline_guard=deadline_guard
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


def account_checks_of(engine: Engine) -> "AccountChecks":
    """What a server of an engine can be asked."""
    match engine:
        case Engine.MYSQL:
            from lockstep.databases import inspect_mysql

            return inspect_mysql.MySqlChecks()
        case Engine.MARIADB:
            from lockstep.databases import inspect_mysql

            return inspect_mysql.MariaDbChecks()
        case Engine.POSTGRESQL:
            from lockstep.databases import inspect_postgresql

            return inspect_postgresql.PostgreSqlChecks()
