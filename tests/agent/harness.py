"""Stores of the agent that a test turns on and off, and a clock that it moves."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from lockstep.agent.http import Dialect
from lockstep.agent.server import listener_of, names_of, server_of
from lockstep.agent.values import Secret, Values
from lockstep.client.cache import StoreSource
from lockstep.client.sources import StoredText
from lockstep.protocol.errors import LockstepError, StoreUnreachableError
from lockstep.protocol.model import SecretStr
from tests.support.memory import FakeClock

NEEDLE = "pa'ss\"wo:rd\\#1"
"""Part of every password: it must be escaped in every format, and must be in no log."""
NAME = "multi-cloud/app_user"
TOKEN = "the-token"
OVERLAP = timedelta(minutes=12)
BOUND_SECONDS = 90.0


def app_user(generation: int) -> str:
    """The text of an `app_user` secret."""
    return json.dumps(
        {
            "dbname": "orders",
            "engine": "mariadb",
            "generation": generation,
            "host": "db.example.com",
            "password": f"{NEEDLE}-{generation}",
            "port": 3306,
            "username": "app",
        }
    )


def blob(generation: int) -> str:
    """The text of a `connection_blob` secret."""
    ledger = {"dbname": "ledger", "engine": "postgresql", "host": "pg.example.com", "port": 5432, "tls": True}
    return json.dumps({"databases": {"ledger": ledger}, "generation": generation})


@dataclass
class FakeStore:
    """A store that serves a generation, or does not answer."""

    generation: int = 1
    is_up: bool = True
    problem: LockstepError = field(default_factory=lambda: StoreUnreachableError(store="a-store"))
    reads: int = 0
    text: str | None = None
    arn: str = ""

    def __call__(self) -> StoredText:
        self.reads += 1
        if not self.is_up:
            raise self.problem
        return StoredText(
            text=SecretStr(self.text or app_user(self.generation)),
            version=f"version-{self.generation}",
            generation=self.generation,
            created_at=datetime(2026, 11, 27, tzinfo=UTC),
            arn=self.arn,
        )


def secret_of(name: str = NAME, *, region: str | None = None, **reads: Callable[[], StoredText]) -> Secret:
    """A secret of the credential."""
    sources = [StoreSource(store, read) for store, read in reads.items()]
    return Secret(name=name, credential_id=NAME, overlap=OVERLAP, sources=sources, region=region)


@dataclass
class World:
    """Two stores of one secret, and what is kept of them."""

    near: FakeStore = field(default_factory=FakeStore)
    far: FakeStore = field(default_factory=FakeStore)
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.values = Values([secret_of(oci=self.near, aws=self.far)], self.clock.monotonic)
        [self.value] = self.values


@dataclass(frozen=True)
class Answer:
    """What the agent has answered."""

    status: int
    body: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Address:
    """Where the agent answers."""

    port: int

    def get(
        self, path: str, *, method: str = "GET", token: str | None = TOKEN, headers: Mapping[str, str] = {}
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=BOUND_SECONDS)
        brought = {"X-Aws-Parameters-Secrets-Token": token} if token is not None else {}
        try:
            connection.request(method, path, headers={**brought, **headers})
            reply = connection.getresponse()
            return Answer(reply.status, reply.read().decode(), {k.lower(): v for k, v in reply.getheaders()})
        finally:
            connection.close()


@contextmanager
def answering(values: Values) -> Iterator[Address]:
    """The agent's answers on a free port of loopback."""
    listener = listener_of(0)
    dialect = Dialect(values, matches=TOKEN.__eq__, names=names_of(listener.getsockname()[1]))
    server = server_of(dialect, graceful_seconds=5)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield Address(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(BOUND_SECONDS)
        listener.close()
