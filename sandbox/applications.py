"""Applications that log in again and again, with the value that they read.

Those of the demo read the credential through `lockstep.client` and keep it for some seconds. Each opens a new database
connection every time. A refused login is counted and never tried again with a fresh value: an application that does not
try again would have failed.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Self

from lockstep.client import ClientCredential, CredentialClient, aws_source, oci_ring_source
from lockstep.client.cache import Source
from lockstep.client.drivers import psycopg_opener, pymysql_opener
from lockstep.plan.model import Plan
from lockstep.plan.stores import OciVault
from lockstep.protocol.model import ENGINES, Credential, DatabaseServer, Engine

TIMEOUT_SECONDS = 10
CACHE_SECONDS = 5.0
"""How long an application keeps what it read."""


class Login(NamedTuple):
    """A login that an application is about to make.

    Attributes:
        generation: Of the value; 0 where the application cannot know it.
        make: Opens a connection, asks the database something, closes.
    """

    generation: int
    make: Callable[[], None]


@dataclass
class Application:
    """One application: what it reads, and the database that it logs in to.

    Attributes:
        name: Shown in reports.
        read: Gets the credential.
        is_refusal: Whether an error means that the server refuses the login.
        pause_seconds: Between two logins.
        logins: How many succeeded.
        refusals: Those that the database refused, in words.
        troubles: Names of other errors: what it reads or the database could not be asked.
        slowest_seconds: The longest login.
    """

    name: str
    read: Callable[[], Login]
    is_refusal: Callable[[Exception], bool]
    pause_seconds: float = 0.0
    logins: int = 0
    generation: int = 0
    refusals: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0

    def log_in_once(self) -> None:
        """One round: get the credential, log in."""
        try:
            login = self.read()
        except Exception as e:  # noqa: BLE001 - counted, and shown by name
            self.troubles.append(type(e).__name__)
            return
        began = time.monotonic()
        try:
            login.make()
        except Exception as e:  # noqa: BLE001 - counted, and shown by name
            if self.is_refusal(e):
                self.refusals.append(f"{self.name}, generation {login.generation}")
            else:
                self.troubles.append(type(e).__name__)
            return
        self.logins += 1
        self.generation = login.generation
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)


def sources(plan: Plan, credential: Credential) -> dict[str, Source]:
    """What an application reads a credential from, by the name of the cloud; the plan has a store in both."""
    secret, vault = credential.secret_names.app_user, plan.store(OciVault)
    if not isinstance(vault, OciVault):
        raise TypeError("the plan has no OCI store")
    return {
        "aws": aws_source(secret, region=plan.lock.region),
        "oci": oci_ring_source(
            secret,
            region=vault.region,
            compartment_id=vault.compartment_id,
            vault_id=vault.vault_id,
            credential_id=credential.id,
        ),
    }


def by_client(name: str, client: CredentialClient, server: DatabaseServer) -> Application:
    """An application that uses `lockstep.client`."""

    def read() -> Login:
        # A pause of the machine must not make it use a value that is older than its cache allows.
        if client.age_seconds > CACHE_SECONDS:
            wait([client.read()], TIMEOUT_SECONDS)
        credential = client.get()
        return Login(credential.generation, partial(log_in, server, credential))

    return Application(name, read, ENGINES[server.engine].is_refusal)


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

    def __init__(self, applications: Sequence[Application]) -> None:
        self.all = applications
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(a,), name=a.name, daemon=True) for a in applications
        ]

    def _run(self, application: Application) -> None:
        while not self._stop.wait(application.pause_seconds):
            application.log_in_once()

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
    def refusals(self) -> list[str]:
        """The refused logins of all applications."""
        return [r for a in self.all for r in a.refusals]

    @property
    def troubles(self) -> list[str]:
        """The other errors of all applications."""
        return [t for a in self.all for t in a.troubles]
