"""Real database servers on this machine, for the demo and the tests.

Each server belongs to the process that started it: it listens on 127.0.0.1 only, writes into a folder of its
own, and ends with that process, however that ends.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from sandbox.emulators.databases.mysql_family import (
    MariaDbServer,
    MySqlServer,
    mariadb_available,
    mysql_available,
)
from sandbox.emulators.databases.postgresql import (
    PgserverServer,
    PostgresServer,
    pgserver_available,
    postgresql_available,
)
from sandbox.emulators.databases.server import Availability, DatabaseServer, ServerStartError
from sandbox.emulators.databases.tls import Certificate, CertificateAuthority

__all__ = [
    "Certificate",
    "CertificateAuthority",
    "DatabaseServer",
    "MariaDbServer",
    "MySqlServer",
    "PgserverServer",
    "PostgresServer",
    "ServerStartError",
    "available",
    "running",
]


def available() -> dict[type[DatabaseServer], Availability]:
    """Which of the servers this machine can start, and what the others lack."""
    return {
        MariaDbServer: mariadb_available(),
        MySqlServer: mysql_available(),
        PostgresServer: postgresql_available(),
        PgserverServer: pgserver_available(),
    }


@contextmanager
def running(*servers: DatabaseServer) -> Iterator[None]:
    """Starts servers side by side; all of them run inside, none of them does afterwards.

    Raises:
        ServerStartError: One did not come up; the others were stopped.
    """
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.close)
        with ThreadPoolExecutor(max_workers=max(1, len(servers))) as pool:
            starts = [pool.submit(server.start) for server in servers]
        for start in starts:
            start.result()
        yield
