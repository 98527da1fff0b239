"""A store, a database and a clock for the tests of the client."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import wait
from inspect import iscoroutinefunction
from typing import Any

from lockstep.client import AsyncCredentialClient, ClientCredential, CredentialClient
from lockstep.client.cache import CredentialCache
from lockstep.protocol.model import SecretStr
from tests.support.memory import FakeClock

MAX_AGE_SECONDS = 300.0
SECONDS = 30
"""How long a test waits for another thread at most."""


class Store:
    """A store that serves a generation, fails, or does not answer until it is let."""

    def __init__(self, generation: int = 1, *, name: str = "") -> None:
        self.name = name or f"store-{id(self)}"
        self.generation = generation
        self.trouble: BaseException | None = None
        self.reads = 0
        self.asked = threading.Event()
        self.answers = threading.Event()
        self.answers.set()

    def __call__(self) -> ClientCredential:
        self.reads += 1
        self.asked.set()
        if not self.answers.wait(SECONDS):
            raise TimeoutError
        if self.trouble:
            raise self.trouble
        return value(self.generation)


class RefusedError(Exception):
    pass


class Database:
    """A database that accepts some generations; a connection is the generation that it was opened with."""

    def __init__(self, *accepted: int) -> None:
        self.accepted = set(accepted)
        self.tried: list[int] = []

    def connect(self, credential: ClientCredential) -> int:
        self.tried.append(credential.generation)
        if credential.generation not in self.accepted:
            raise RefusedError(credential.generation)
        return credential.generation

    async def connect_async(self, credential: ClientCredential) -> int:
        return self.connect(credential)


def value(generation: int) -> ClientCredential:
    return ClientCredential(
        username="app", password=SecretStr(f"password {generation}"), generation=generation
    )


def is_refusal(error: Exception) -> bool:
    return isinstance(error, RefusedError)


def client_of(
    *stores: Store, clock: FakeClock | None = None, refuse_after_seconds: float | None = None
) -> CredentialClient:
    return CredentialClient(
        stores,
        max_age_seconds=MAX_AGE_SECONDS,
        refuse_after_seconds=refuse_after_seconds,
        clock=(clock or FakeClock()).monotonic,
    )


def begun(*generations: int) -> tuple[CredentialClient, FakeClock, list[Store]]:
    """A client that has read once, its clock, and its stores."""
    stores, clock = [Store(generation) for generation in generations], FakeClock()
    client = client_of(*stores, clock=clock)
    client.get()
    return client, clock, stores


def settle(cache: CredentialCache[ClientCredential]) -> None:
    """Wait for reads that are under way."""
    _, pending = wait([r for r in (cache._refresh, cache._reread) if r], SECONDS)
    assert not pending


def renewed(client: CredentialClient) -> int:
    """The generation that it gives when the read that is due has ended."""
    client.get()
    settle(client)
    return client.get().generation


def log_in(connect: Callable[..., Any], client: CredentialClient, **options: object) -> None:
    """Open a connection as a function of the client does, of threads or of event loops, and close it."""

    async def in_a_loop() -> None:
        await (await connect(AsyncCredentialClient(client), **options)).close()

    if iscoroutinefunction(connect):
        asyncio.run(in_a_loop())
    else:
        connect(client, **options).close()
