"""The client for applications: its cache, refused logins, event loops, and no password in a traceback."""

import asyncio
import json
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from inspect import iscoroutinefunction
from types import FrameType
from typing import Any

import psycopg
import pymysql
import pytest
from psycopg.errors import FinishedPGconn

from lockstep.client import AsyncCredentialClient, ClientCredential, CredentialClient
from lockstep.client.cache import (
    REFUSAL_SECONDS,
    RETRY_SECONDS,
    CredentialCache,
    StoreSource,
    decode,
    without_locals,
)
from lockstep.client.drivers import MYSQL, POSTGRESQL, address, is_refused_by_postgresql
from lockstep.protocol import errors
from lockstep.protocol.model import SecretStr, is_mysql_refusal, is_postgresql_refusal
from lockstep.stores.contents import decode_databases
from tests.support.memory import FakeClock

MAX_AGE_SECONDS = 300.0
NEEDLE, SECONDS = "needle-in-a-haystack", 30
"""What every password has, and how long a test waits for another thread at most."""


class Store:
    """A store that serves a generation, fails, or does not answer until it is let."""

    def __init__(self, generation: int = 1, *, name: str = "") -> None:
        self.name = name or f"store-{id(self)}"
        self.generation = generation
        self.trouble: BaseException | None = None
        self.reads = 0
        self.begins: Callable[[], object] = lambda: None
        self.asked = threading.Event()
        self.answers = threading.Event()
        self.answers.set()

    def __call__(self) -> ClientCredential:
        self.reads += 1
        self.begins()
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
    password = SecretStr(f"{NEEDLE}-{generation}")
    return ClientCredential(username="app", password=password, generation=generation)


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


# The cache


def test_a_value_is_read_again_in_the_background_from_half_of_its_maximum_age() -> None:
    client, clock, [store] = begun(1)
    store.generation = 2
    clock.sleep(MAX_AGE_SECONDS / 2 - 0.001)
    assert (client.get().generation, store.reads) == (1, 1)
    clock.sleep(0.001)
    assert client.get().generation == 1
    settle(client)
    assert (client.get().generation, store.reads) == (2, 2)


def test_nobody_waits_for_a_store_that_does_not_answer_while_there_is_a_value() -> None:
    client, clock, [store] = begun(1)
    store.answers.clear()
    store.asked.clear()
    clock.sleep(100 * MAX_AGE_SECONDS)
    try:
        assert {client.get().generation for _ in range(50)} == {1}
        assert store.asked.wait(SECONDS)
        assert client.get().generation == 1
        assert store.reads == 2  # One thread reads, however many ask.
    finally:
        store.answers.set()


def test_a_value_that_is_too_old_is_not_given_if_the_application_wants_that() -> None:
    store, clock = Store(), FakeClock()
    client = client_of(store, clock=clock, refuse_after_seconds=2 * MAX_AGE_SECONDS)
    client.get()
    store.trouble = errors.StoreThrottledError()
    clock.sleep(2 * MAX_AGE_SECONDS - 0.001)
    assert renewed(client) == 1
    clock.sleep(RETRY_SECONDS)
    for _ in range(2):
        with pytest.raises(errors.StoreThrottledError):
            client.get()
    assert store.reads == 3  # A dead store is not waited for by every caller.
    store.trouble, store.generation = None, 2
    clock.sleep(RETRY_SECONDS)
    assert client.get().generation == 2, "it is waited for"


def test_what_a_client_cannot_be_made_of() -> None:
    with pytest.raises(ValueError, match="at least one"):
        CredentialClient([])
    with pytest.raises(ValueError, match="refuse_after_seconds"):
        client_of(Store(), refuse_after_seconds=MAX_AGE_SECONDS - 1)
    with pytest.raises(ValueError, match="one name"):
        client_of(Store(name="aws"), Store(name="aws"))


def test_failing_sources_are_not_read_on_every_call() -> None:
    client, clock, [store] = begun(1)
    store.trouble = errors.StoreUnreachableError()
    clock.sleep(MAX_AGE_SECONDS)
    assert {renewed(client) for _ in range(50)} == {1}
    assert (store.reads, client.failures) == (2, 1)
    store.trouble, store.generation = None, 2
    clock.sleep(RETRY_SECONDS)
    assert renewed(client) == 2


def test_without_a_cached_value_the_last_sources_error_is_raised() -> None:
    near, far = Store(), Store()
    near.trouble, far.trouble = errors.StoreUnreachableError(), errors.StoreAccessDeniedError()
    client = client_of(near, far)
    with pytest.raises(errors.StoreAccessDeniedError):
        client.get()
    far.trouble = None
    assert client.get().generation == 1


def at_once(work: Callable[[], int], *, threads: int = 16) -> set[int]:
    start = threading.Barrier(threads)

    def begin() -> int:
        start.wait(timeout=SECONDS)
        return work()

    with ThreadPoolExecutor(threads) as pool:
        return {f.result(timeout=SECONDS) for f in [pool.submit(begin) for _ in range(threads)]}


def test_many_threads_read_once_and_many_refused_ones_once_more() -> None:
    store, database = Store(1), Database(2)
    client = client_of(store)
    assert at_once(lambda: client.get().generation) == {1}
    assert store.reads == 1
    store.generation = 2
    assert at_once(lambda: client.login(database.connect, is_refusal)) == {2}
    assert store.reads == 2


# The texts of secrets


def test_a_secret_is_decoded() -> None:
    text = '{"username":"app","password":"p","generation":7,"host":"h","port":3306,"dbname":"d","engine":"mysql"}'
    found = decode(text, store="aws", secret="s")
    assert (found.username, found.password.reveal(), found.generation) == ("app", "p", 7)
    assert found.connection == {"host": "h", "port": 3306, "dbname": "d", "engine": "mysql"}
    assert "'p'" not in repr(found)
    for malformed in ("", "[]", "{}", '{"databases": {"orders": 7}}', '{"placeholder": true}'):
        with pytest.raises(errors.SecretMalformedError):
            decode_databases(malformed, store="aws", secret="s")


# Which address a login goes to

AT_ORDERS = {"host": "orders.example", "port": 3306, "dbname": "orders"}
AT_LEDGER = {"host": "ledger.example", "port": 5432, "dbname": "ledger"}
ORDERS, LEDGER = {"engine": "mariadb", **AT_ORDERS}, {"engine": "postgresql", **AT_LEDGER}


def credential(connection: Mapping[str, Any], **databases: Mapping[str, Any]) -> ClientCredential:
    return ClientCredential(
        username="app", password=SecretStr("p"), generation=1, connection=connection, databases=databases
    )


BOTH, WITHOUT_BLOB = credential(ORDERS, orders=ORDERS, ledger=LEDGER), credential(ORDERS)


def test_the_address_of_a_login() -> None:
    assert address(BOTH, None, MYSQL, {}) == AT_ORDERS, "the first database is the default"
    assert address(BOTH, "ledger", POSTGRESQL, {}) == AT_LEDGER
    assert address(BOTH, None, POSTGRESQL, {"host": "replica.example"}) == {}, (
        "port and dbname in the secret are another server's"
    )
    some = address(BOTH, "ledger", POSTGRESQL, {"dbname": "archive", "connect_timeout": 5})
    assert some == {"host": "ledger.example", "port": 5432}, "other options override one field each"
    plain = credential({"host": "h"})
    assert address(plain, None, POSTGRESQL, {}) == {"host": "h"}, "a secret without an engine is as it is"
    assert BOTH == WITHOUT_BLOB, "the same value wherever it was read"


def test_a_login_that_has_no_address() -> None:
    with pytest.raises(ValueError, match="first database is of the engine mariadb; name another"):
        address(BOTH, None, POSTGRESQL, {})
    with pytest.raises(ValueError, match="ledger is of the engine postgresql"):
        address(BOTH, "ledger", MYSQL, {})
    with pytest.raises(LookupError, match="no database 'ledgr'; known are: ledger, orders"):
        address(BOTH, "ledgr", POSTGRESQL, {})
    with pytest.raises(LookupError, match="reads no connection_blob"):
        address(WITHOUT_BLOB, "ledger", POSTGRESQL, {})
    with pytest.raises(ValueError, match="has its own host"):
        address(BOTH, "ledger", POSTGRESQL, {"host": "replica.example"})


# Refused logins


def refused(client: CredentialClient, database: Database | None = None) -> RefusedError:
    """The error of a login that no value helps."""
    with pytest.raises(RefusedError) as caught:
        client.login((database or Database()).connect, is_refusal)
    return caught.value


def test_a_refused_login_is_retried_once_with_a_fresh_value() -> None:
    # What the store has then, what the database accepts, and the generations that are tried.
    for served, accepted, tried in ((2, 2, [1, 2]), (2, 3, [1, 2]), (1, 3, [1])):
        client, _, [store] = begun(1)
        database = Database(accepted)
        store.generation = served
        if served == accepted:
            assert client.login(database.connect, is_refusal) == served
        else:
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
    store.trouble = errors.StoreUnreachableError()
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


def test_a_connection_is_revoked_an_overlap_after_a_newer_generation_was_seen() -> None:
    one, two, unknown = Database(1), Database(2), Database(3)  # Any object is a connection.
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
    clock.sleep(MAX_AGE_SECONDS / 2)
    store.asked.clear()
    revoked()
    assert store.asked.wait(SECONDS), "to ask begins a read that is due"


# Which errors are refusals

ASKED = FinishedPGconn(used_password=True)
FAILED = 'connection failed: FATAL:  password authentication failed for user "app"'


@pytest.mark.parametrize(
    ("is_refusal_of", "error", "expected"),
    [
        (is_mysql_refusal, pymysql.OperationalError(1045, "Access denied for user 'app'@'h'"), True),
        (is_mysql_refusal, pymysql.OperationalError(3118, "Account is locked"), False),
        (is_postgresql_refusal, psycopg.errors.InvalidPassword(), True),
        (is_postgresql_refusal, psycopg.OperationalError(FAILED), True),
        (is_postgresql_refusal, psycopg.OperationalError('FATAL:  database "app" does not exist'), False),
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


# Tracebacks, which crash reporters send with local variables

TEXTS = {
    "malformed": f'{{"username": 7, "password": "{NEEDLE}"}}',
    "not JSON": f"password={NEEDLE}",
    "newer format": json.dumps({"login": NEEDLE, "format": 99}),
}


def frames(error: BaseException | None) -> Iterator[FrameType]:
    """Every frame of an error, of its parts, and of what it came from."""
    if error:
        yield from (frame for frame, _ in traceback.walk_tb(error.__traceback__))
        for one in (error.__cause__, error.__context__, *getattr(error, "exceptions", ())):
            yield from frames(one)


def error_of(work: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each test looks at it
        work()
    return caught.value


def leaks(error: BaseException) -> list[str]:
    """The local variables in which the needle is, as a crash reporter would send them."""
    return [
        f"{frame.f_code.co_qualname}.{name}"
        for frame in frames(error)
        for name, found in frame.f_locals.items()
        if NEEDLE in repr(found)
    ]


def fail(error: type[Exception] = KeyError) -> None:
    """With a password in a variable, as a driver has it."""
    password = NEEDLE
    raise error(len(password))


def connect(credential: ClientCredential) -> None:
    password = credential.password.reveal()
    raise RefusedError(len(password))


async def connect_async(credential: ClientCredential) -> None:
    connect(credential)


def read() -> ClientCredential:
    fail()
    return value(1)


def once() -> Iterator[ClientCredential]:
    """A store that answers the first time."""
    yield value(1)
    fail(errors.StoreUnreachableError)


def failing(
    source: Callable[[], ClientCredential], connect: Callable[[ClientCredential], None] = connect
) -> Callable[[], object]:
    return lambda: CredentialClient([source]).login(connect, is_refusal)


def failing_in_a_loop(source: Callable[[], ClientCredential]) -> Callable[[], object]:
    client = AsyncCredentialClient(CredentialClient([source]))
    return lambda: asyncio.run(client.login(connect_async, is_refusal))


def fail_with_others() -> None:
    """Its part, its cause, and what was handled are three more errors."""
    with without_locals():
        try:
            fail()
        except KeyError:
            raise ExceptionGroup("both", [KeyError(), error_of(fail)]) from error_of(fail)


FAILURES: dict[str, Callable[[], object]] = {
    "a defect of a source": CredentialClient([read]).get,
    "a refused login": failing(partial(value, 1)),
    "a refused login of a loop": failing_in_a_loop(partial(value, 1)),
    "a login that is refused twice": failing(iter([value(1), value(2)]).__next__),
    "a refused login after which no store answers": failing(once().__next__),
    "another error of a driver": failing(partial(value, 1), lambda _credential: fail()),
    "several errors": fail_with_others,
}


def test_a_failure_shows_no_password() -> None:
    for failure, work in FAILURES.items():
        error = error_of(work)
        assert leaks(error) == [], failure
        where = {frame.f_code.co_name for frame in frames(error)}
        assert where & {"fail", "connect"}, "it shows where it was"
    assert leaks(error_of(fail)) == ["fail.password"], "the search finds a password"


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_reading_shows_no_password(text: str) -> None:
    source = StoreSource("aws", lambda: decode(text[:], store="aws", secret="s"))
    client = CredentialClient([source])
    for work in (source, client.get, lambda: asyncio.run(AsyncCredentialClient(client).get())):
        error = error_of(work)
        assert isinstance(error, errors.LockstepError)
        assert [name for name in leaks(error) if "<lambda>" not in name] == []


def test_what_a_caller_handles_keeps_its_variables() -> None:
    def begin() -> None:
        raise ValueError

    kept: list[BaseException] = []
    try:
        fail()
    except KeyError as handled:
        with pytest.raises(ValueError), without_locals():  # noqa: PT011 - the error is of this test
            begin()
        kept.append(handled)
    assert leaks(kept[0]) == ["fail.password"]
