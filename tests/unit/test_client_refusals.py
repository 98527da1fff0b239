"""What the client for applications does when a login is refused, and which errors are refusals."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import psycopg
import pymysql
import pytest
from psycopg.errors import FinishedPGconn

from lockstep.client import AsyncCredentialClient, ClientCredential, CredentialClient
from lockstep.client.cache import REFUSAL_SECONDS
from lockstep.client.drivers import is_refused_by_postgresql
from lockstep.protocol.errors import StoreUnreachableError
from lockstep.protocol.model import is_mysql_refusal, is_postgresql_refusal
from tests.unit.client_world import (
    MAX_AGE_SECONDS,
    SECONDS,
    Database,
    RefusedError,
    Store,
    begun,
    client_of,
    is_refusal,
    renewed,
    value,
)

# Refused logins


def refused(client: CredentialClient, database: Database | None = None) -> RefusedError:
    """The error of a login that no value helps."""
    with pytest.raises(RefusedError) as caught:
        client.login((database or Database()).connect, is_refusal)
    return caught.value


def test_a_refused_login_is_retried_once_with_a_fresh_value() -> None:
    client, _, [store] = begun(1)
    database = Database(2)
    store.generation = 2
    assert [client.login(database.connect, is_refusal) for _ in range(2)] == [2, 2]
    assert (database.tried, store.reads) == ([1, 2, 2], 2)


@pytest.mark.parametrize(("served", "tried"), [(2, [1, 2]), (1, [1])])
def test_a_second_refusal_is_raised_and_an_unchanged_value_not_tried_again(
    served: int, tried: list[int]
) -> None:
    client, _, [store] = begun(1)
    database = Database(3)
    store.generation = served
    refused(client, database)
    assert (database.tried, store.reads) == (tried, 2)


def test_a_loop_of_refused_logins_does_not_read_the_store_each_time() -> None:
    client, clock, [store] = begun(1)
    for _ in range(50):
        refused(client)
    assert (store.reads, client.refusals) == (2, 50)
    clock.sleep(REFUSAL_SECONDS)
    store.generation = 2
    refused(client)
    assert store.reads == 3
    store.generation = 3
    # No time has passed, but generation 2 was never asked about.
    assert client.login(Database(3).connect, is_refusal) == 3


def test_dead_stores_are_not_asked_after_each_refusal() -> None:
    client, clock, [store] = begun(1)
    store.trouble = StoreUnreachableError()
    for _ in range(10):
        assert refused(client).__cause__ is store.trouble
    assert store.reads == 2
    store.trouble, store.generation = None, 2
    clock.sleep(REFUSAL_SECONDS)
    assert client.login(Database(2).connect, is_refusal) == 2


def test_a_failure_that_is_not_a_refusal_reads_nothing() -> None:
    client, _, [store] = begun(1)

    def broken(_credential: ClientCredential) -> str:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        client.login(broken, is_refusal)
    assert store.reads == 1


def test_a_slow_read_does_not_bring_back_what_a_refusal_has_replaced() -> None:
    client, clock, [near, _] = begun(1, 2)
    clock.sleep(MAX_AGE_SECONDS)
    near.answers.clear()
    near.asked.clear()
    client.get()
    reading = client._refresh
    assert reading
    assert near.asked.wait(SECONDS)
    client.kept = client.kept and replace(client.kept, value=value(2))
    near.answers.set()
    assert reading.result(SECONDS).generation == 2
    assert client.get().generation == 2


class Connection:
    """What a driver gives."""


def test_a_connection_is_revoked_an_overlap_after_a_newer_generation_was_seen() -> None:
    one, two, unknown = Connection(), Connection(), Connection()
    assert not client_of(Store(1)).is_revoked(unknown, 60), "it knows nothing yet"
    client, clock, [store] = begun(1)
    client.opened(one, value(1))
    client.opened(7, value(1))  # Nothing that can be noted; no error.
    store.generation = 2
    clock.sleep(MAX_AGE_SECONDS)
    assert renewed(client) == 2
    client.opened(two, value(2))

    def revoked() -> list[bool]:
        return [client.is_revoked(connection, 60) for connection in (one, two, unknown)]

    assert revoked() == [False, False, False]
    clock.sleep(60)
    assert revoked() == [True, False, True]


def test_asking_for_revoked_connections_begins_a_read_that_is_due() -> None:
    client, clock, [store] = begun(1)
    clock.sleep(MAX_AGE_SECONDS / 2)
    store.asked.clear()
    client.is_revoked(Connection(), 60)
    assert store.asked.wait(SECONDS)


# Which errors are refusals

ASKED = FinishedPGconn(used_password=True)
FAILED = 'connection failed: FATAL:  password authentication failed for user "app"'


@pytest.mark.parametrize(
    ("is_refusal_of", "error", "expected"),
    [
        (is_mysql_refusal, pymysql.OperationalError(1045, "Access denied for user 'app'@'h'"), True),
        (is_mysql_refusal, pymysql.OperationalError(3118, "Account is locked"), False),
        (is_mysql_refusal, OSError(), False),
        (is_postgresql_refusal, psycopg.errors.InvalidPassword(), True),
        (is_postgresql_refusal, psycopg.OperationalError(FAILED), True),
        (is_postgresql_refusal, psycopg.OperationalError('FATAL:  database "app" does not exist'), False),
        (is_postgresql_refusal, psycopg.errors.TooManyConnections(), False),
        (is_refused_by_postgresql, psycopg.OperationalError("FATAL:  SASL failed", pgconn=ASKED), True),
        (is_refused_by_postgresql, psycopg.OperationalError("FATAL:  no such host"), False),
        (is_refused_by_postgresql, psycopg.errors.ProtocolViolation(), True),
    ],
)
def test_which_errors_are_refusals(
    is_refusal_of: Callable[[Exception], bool], error: Exception, *, expected: bool
) -> None:
    assert is_refusal_of(error) is expected


# In an event loop


def test_a_waiter_that_is_cancelled_neither_blocks_the_loop_nor_cancels_the_read_of_the_others() -> None:
    store = Store()
    client = AsyncCredentialClient(client_of(store))

    async def work() -> None:
        store.answers.clear()
        first, second = (asyncio.create_task(client.get()) for _ in range(2))
        assert await asyncio.to_thread(store.asked.wait, SECONDS)
        assert not first.done()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        store.answers.set()
        assert (await second).generation == 1
        assert store.reads == 1

    asyncio.run(work())


def test_many_refused_logins_of_a_loop_read_a_fresh_value_once() -> None:
    store, database = Store(1), Database(2)
    client = AsyncCredentialClient(client_of(store))

    async def work() -> None:
        await client.get()
        store.generation = 2
        logins = [client.login(database.connect_async, is_refusal) for _ in range(10)]
        assert set(await asyncio.gather(*logins)) == {2}
        assert store.reads == 2
        database.accepted = {3}
        with pytest.raises(RefusedError):
            await client.login(database.connect_async, is_refusal)

    asyncio.run(work())


def test_threads_and_loops_share_one_cache() -> None:
    threads, _, [store] = begun(1)
    client = AsyncCredentialClient(threads)
    asyncio.run(client.get())
    asyncio.run(client.get())  # Another loop.
    assert (threads.get().generation, store.reads) == (1, 1)
