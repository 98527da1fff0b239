"""What the client for applications does when a login is refused, and which errors are refusals."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import psycopg
import pymysql
import pytest

from lockstep.client import REFUSAL_SECONDS, AsyncCredentialClient, ClientCredential
from lockstep.protocol.errors import StoreUnreachableError
from lockstep.protocol.model import is_mysql_refusal, is_postgresql_refusal
from tests.support.memory import FakeClock
from tests.unit.client_world import (
    MAX_AGE_SECONDS,
    SECONDS,
    Database,
    RefusedError,
    Store,
    client_of,
    is_refusal,
    value,
)

# Refused logins


def test_a_refused_login_is_retried_once_with_a_fresh_value() -> None:
    store, database = Store(1), Database(2)
    client = client_of(store)
    client.get()
    store.generation = 2
    assert client.login(database.connect, is_refusal) == "connection with generation 2"
    assert database.tried == [1, 2]
    assert client.login(database.connect, is_refusal) == "connection with generation 2"
    assert (database.tried, store.reads) == ([1, 2, 2], 2)


def test_a_second_refusal_is_raised() -> None:
    store, database = Store(1), Database(3)
    client = client_of(store)
    client.get()
    store.generation = 2
    with pytest.raises(RefusedError):
        client.login(database.connect, is_refusal)
    assert (database.tried, store.reads) == ([1, 2], 2)


def test_an_unchanged_value_is_not_tried_again() -> None:
    store, database = Store(1), Database()
    with pytest.raises(RefusedError):
        client_of(store).login(database.connect, is_refusal)
    assert (database.tried, store.reads) == ([1], 2)


def test_a_loop_of_refused_logins_does_not_read_the_store_each_time() -> None:
    store, database, clock = Store(1), Database(), FakeClock()
    client = client_of(store, clock=clock)
    client.get()
    for _ in range(50):
        with pytest.raises(RefusedError):
            client.login(database.connect, is_refusal)
    assert (store.reads, client.status.refusals) == (2, 50)
    clock.sleep(REFUSAL_SECONDS)
    with pytest.raises(RefusedError):
        client.login(database.connect, is_refusal)
    assert store.reads == 3


def test_a_loop_of_refused_logins_delays_no_login_after_a_rotation() -> None:
    store, broken, clock = Store(1), Database(), FakeClock()
    client = client_of(store, clock=clock)
    for _ in range(3):
        with pytest.raises(RefusedError):
            client.login(broken.connect, is_refusal)
    store.generation = 2
    clock.sleep(REFUSAL_SECONDS)
    with pytest.raises(RefusedError):
        client.login(broken.connect, is_refusal)
    store.generation = 3
    # No time has passed, but generation 2 was never asked about.
    assert client.login(Database(3).connect, is_refusal) == "connection with generation 3"


def test_dead_stores_are_not_asked_after_each_refusal() -> None:
    store, database, clock = Store(1), Database(2), FakeClock()
    client = client_of(store, clock=clock)
    client.get()
    store.trouble = StoreUnreachableError()
    for _ in range(10):
        with pytest.raises(RefusedError) as caught:
            client.login(database.connect, is_refusal)
        assert caught.value.__cause__ is store.trouble
    assert store.reads == 2
    store.trouble, store.generation = None, 2
    clock.sleep(REFUSAL_SECONDS)
    assert client.login(database.connect, is_refusal) == "connection with generation 2"


def test_after_a_refusal_only_the_nearest_is_asked_if_it_has_a_newer_value() -> None:
    near, far, database = Store(1), Store(3), Database(2)
    client = client_of(near, far)
    client.get()
    near.generation = 2
    assert client.login(database.connect, is_refusal) == "connection with generation 2"
    assert far.reads == 0


def test_after_a_refusal_the_newest_of_the_older_values_is_the_last_resort() -> None:
    """A database that was restored accepts an older value, and a store may lag."""
    stores = [Store(5), Store(3), Store(4)]
    database = Database(4)
    client = client_of(*stores)
    assert client.login(database.connect, is_refusal) == "connection with generation 4"
    assert database.tried == [5, 4]


def test_after_a_refusal_a_dead_store_hides_nothing() -> None:
    near, middle, far = Store(1), Store(1), Store(2)
    middle.trouble = StoreUnreachableError()
    client = client_of(near, middle, far)
    assert client.login(Database(2).connect, is_refusal) == "connection with generation 2"
    far.trouble = StoreUnreachableError()
    near.generation = 2
    with pytest.raises(RefusedError) as caught:
        client.login(Database().connect, is_refusal)
    assert caught.value.__cause__ is None  # A store answered: it has nothing else.


def test_a_failure_that_is_not_a_refusal_reads_nothing() -> None:
    store = Store()

    def broken(_credential: ClientCredential) -> str:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        client_of(store).login(broken, is_refusal)
    assert store.reads == 1


def test_a_slow_read_does_not_bring_back_what_a_refusal_has_replaced() -> None:
    near, far, clock = Store(1), Store(2), FakeClock()
    client = client_of(near, far, clock=clock)
    client.get()
    clock.sleep(MAX_AGE_SECONDS)
    near.answers.clear()
    client.get()
    reading = client._refresh
    assert reading
    assert near.asked.wait(SECONDS)
    client.kept = client.kept and replace(client.kept, value=value(2))
    near.answers.set()
    assert reading.result(SECONDS).generation == 2
    assert client.get().generation == 2


def test_a_generation_is_revoked_an_overlap_after_a_newer_one_was_seen() -> None:
    store, clock = Store(1), FakeClock()
    client = client_of(store, clock=clock)
    assert client.dead_before(60) == 0
    client.get()
    store.generation = 2
    clock.sleep(MAX_AGE_SECONDS)
    client.get(wait_seconds=SECONDS)
    assert client.dead_before(60) == 0
    clock.sleep(60)
    assert client.dead_before(60) == 2


# Which errors are refusals

REFUSALS = {
    "1045": (pymysql.OperationalError(1045, "Access denied for user 'app'@'h' (using password: YES)"), True),
    "unknown database": (pymysql.OperationalError(1049, "Unknown database 'app'"), False),
    "unreachable": (pymysql.OperationalError(2003, "Can't connect to MySQL server"), False),
    "too many connections": (pymysql.OperationalError(1040, "Too many connections"), False),
    "locked": (pymysql.OperationalError(3118, "Account is locked"), False),
    "nothing": (OSError(), False),
}


@pytest.mark.parametrize(("error", "expected"), REFUSALS.values(), ids=REFUSALS)
def test_mysqls_refusals(error: Exception, *, expected: bool) -> None:
    assert is_mysql_refusal(error) is expected


PG_REFUSALS = {
    "by code": (psycopg.errors.InvalidPassword(), True),
    "by text": (
        psycopg.OperationalError('connection failed: FATAL:  password authentication failed for user "app"'),
        True,
    ),
    "no such database": (psycopg.OperationalError('FATAL:  database "app" does not exist'), False),
    "refused connection": (psycopg.OperationalError("connection refused"), False),
    "too many": (psycopg.errors.TooManyConnections(), False),
    "time": (TimeoutError(), False),
}


@pytest.mark.parametrize(("error", "expected"), PG_REFUSALS.values(), ids=PG_REFUSALS)
def test_postgresqls_refusals(error: Exception, *, expected: bool) -> None:
    assert is_postgresql_refusal(error) is expected


# In an event loop


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


def test_many_refused_logins_of_a_loop_read_a_fresh_value_once() -> None:
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
