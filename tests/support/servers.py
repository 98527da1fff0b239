"""The servers that a test needs, and sessions as an application opens them there, with a name of its own."""

import ssl
from typing import Any

import pg8000.native  # type: ignore[import-untyped]  # it ships no types
import pymysql
import pytest

from lockstep.protocol.model import Login
from sandbox.emulators.databases import DatabaseServer, available


def require(server: type[DatabaseServer]) -> None:
    """Skip where the machine cannot start a server."""
    availability = next(found for kind, found in available().items() if issubclass(server, kind))
    if not availability:
        pytest.skip(availability.missing)


def connect(server: Any, login: Login, database: str | None, application: str) -> Any:  # noqa: ANN401 - of either kind
    """Open a session on a server of the sandbox, over TLS if that has it."""
    tls = ssl.create_default_context(cafile=server.ca_file) if server.ca_file else None
    if server.product == "PostgreSQL":
        return pg8000.native.Connection(
            login.username,
            host="localhost",
            port=server.port,
            database=database,
            password=login.password.reveal(),
            ssl_context=tls or False,
            application_name=application,
        )
    return pymysql.connect(
        host="localhost",
        port=server.port,
        user=login.username,
        password=login.password.reveal().encode(),
        database=database,
        ssl=tls,
        program_name=application,
    )
