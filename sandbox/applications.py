"""Applications that log in without a pause, with the value that they read from a store.

Each reads the credential through `lockstep.client`, keeps it for some seconds, and opens a new database connection
again and again. A refused login is counted and never tried again with a fresh value: an application without
`lockstep.client` would have failed there.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from lockstep.client import ClientCredential, CredentialClient
from lockstep.client.drivers import psycopg_opener, pymysql_opener
from lockstep.engines import ENGINES
from lockstep.model import DatabaseServer, Engine

TIMEOUT_SECONDS = 10
CACHE_SECONDS = 5.0
"""How long an application keeps what it read."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A login that the database refused."""

    application: str
    generation: int
    at: float


@dataclass
class Application:
    """One application: a store that it reads, a database that it logs in to.

    Attributes:
        name: Shown in reports.
        client: Its view of the store.
        server: Where it logs in.
        logins: How many succeeded.
        refusals: Those that did not.
        troubles: Names of other errors: the store or the database could not be asked.
        slowest_seconds: The longest login.
    """

    name: str
    client: CredentialClient
    server: DatabaseServer
    logins: int = 0
    generation: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0

    def log_in_once(self) -> None:
        """One round: get the credential, open a connection, ask the database something, close."""
        try:
            # A pause of the machine must not make it use a value that is older than its cache allows.
            credential = self.client.get(wait_seconds=TIMEOUT_SECONDS)
        except Exception as e:  # noqa: BLE001 - counted, and shown by name
            self.troubles.append(type(e).__name__)
            return
        began = time.monotonic()
        try:
            log_in(self.server, credential)
        except Exception as e:  # noqa: BLE001 - counted, and shown by name
            if ENGINES[self.server.engine].is_refusal(e):
                self.refusals.append(
                    Refusal(application=self.name, generation=credential.generation, at=began)
                )
            else:
                self.troubles.append(type(e).__name__)
            return
        self.logins += 1
        self.generation = credential.generation
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)


def log_in(server: DatabaseServer, credential: ClientCredential) -> None:
    """Open a connection over verified TLS (or plaintext where the plan says so), run a query, close."""
    where: dict[str, Any] = {"host": server.host, "port": server.port, "dbname": server.dbname}
    where["connect_timeout"] = TIMEOUT_SECONDS
    ca_file = str(server.tls.ca_file) if server.tls and server.tls.ca_file else None
    if server.engine is Engine.POSTGRESQL:
        if not server.plaintext:
            where["sslrootcert"] = ca_file or "system"
        with psycopg_opener(plaintext=server.plaintext, **where).open(credential) as postgresql:
            postgresql.execute("SELECT 1")
        return
    if ca_file:
        where["ssl_ca"] = ca_file
    opener = pymysql_opener(plaintext=server.plaintext, read_timeout=TIMEOUT_SECONDS, **where)
    with opener.open(credential) as mysql:
        mysql.ping()


class Applications:
    """A thread for each application, from `with` to the end of its block."""

    def __init__(self, applications: Sequence[Application], *, pause_seconds: float = 0.0) -> None:
        self.all = applications
        self._pause_seconds = pause_seconds
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(a.log_in_once,), name=a.name, daemon=True)
            for a in applications
        ]

    def _run(self, once: Callable[[], None]) -> None:
        while not self._stop.wait(self._pause_seconds):
            once()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=2 * TIMEOUT_SECONDS)

    @property
    def logins(self) -> int:
        """The number of logins of all applications."""
        return sum(a.logins for a in self.all)

    @property
    def refusals(self) -> list[Refusal]:
        """The refused logins of all applications."""
        return [r for a in self.all for r in a.refusals]

    @property
    def troubles(self) -> list[str]:
        """The other errors of all applications."""
        return [t for a in self.all for t in a.troubles]
