"""The client in an event loop: no call blocks it, waiters share a read, and one that gives up ends it for nobody."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lockstep.client import AsyncCredentialClient
from tests.support.memory import FakeClock
from tests.unit.client_world import (
    MAX_AGE_SECONDS,
    SECONDS,
    Database,
    RefusedError,
    Store,
    client_of,
    is_refusal,
)


def run(work: Callable[[], Awaitable[Any]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(SECONDS):
            await work()

    asyncio.run(limited())


def face(*stores: Store, clock: FakeClock | None = None) -> AsyncCredentialClient:
    return AsyncCredentialClient(client_of(*stores, clock=clock))


async def others_run() -> None:
    for _ in range(20):
        await asyncio.sleep(0.001)


def test_a_read_does_not_block_the_loop() -> None:
    store = Store()
    client = face(store)

    async def work() -> None:
        store.answers.clear()
        waiting = asyncio.create_task(client.get())
        await others_run()
        assert not waiting.done()
        store.answers.set()
        assert (await waiting).generation == 1

    run(work)


def test_a_waiter_that_is_cancelled_does_not_cancel_the_read_of_the_others() -> None:
    store = Store()
    client = face(store)

    async def work() -> None:
        store.answers.clear()
        first, second = (asyncio.create_task(client.get()) for _ in range(2))
        await others_run()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        store.answers.set()
        assert (await second).generation == 1
        assert store.reads == 1

    run(work)


def test_a_value_is_given_at_once_while_it_is_read_again() -> None:
    store, clock = Store(), FakeClock()
    client = face(store, clock=clock)

    async def work() -> None:
        await client.get()
        store.answers.clear()
        clock.sleep(MAX_AGE_SECONDS)
        assert (await client.get()).generation == 1
        assert (await client.get(wait_seconds=0.01)).generation == 1
        store.generation = 2
        store.answers.set()
        assert (await client.get(wait_seconds=SECONDS)).generation == 2
        assert client.status.generation == 2

    run(work)


def test_a_refused_login_is_retried_once_with_a_fresh_value() -> None:
    store, database = Store(1), Database(2)
    client = face(store)

    async def work() -> None:
        await client.get()
        store.generation = 2
        logins = [client.login(database.connect_async, is_refusal) for _ in range(10)]
        assert set(await asyncio.gather(*logins)) == {"connection with generation 2"}
        assert store.reads == 2
        database.accepted = {3}
        with pytest.raises(RefusedError):
            await client.login(database.connect_async, is_refusal)

    run(work)


def test_threads_and_loops_share_one_cache() -> None:
    store = Store(1)
    threads = client_of(store)
    client = AsyncCredentialClient(threads)
    run(client.get)
    run(client.get)  # Another loop.
    assert (threads.get().generation, store.reads) == (1, 1)
