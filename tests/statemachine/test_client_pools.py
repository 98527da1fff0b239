"""Pools through live rotations: no login is refused, no query fails, and connections of revoked generations go."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any, Protocol

import django  # type: ignore[import-untyped]  # Django ships no types
import pytest
from django.conf import settings  # type: ignore[import-untyped]  # likewise
from django.core.exceptions import ImproperlyConfigured  # type: ignore[import-untyped]  # likewise
from django.db.utils import ConnectionHandler  # type: ignore[import-untyped]  # likewise
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from lockstep.client import (
    AsyncCredentialClient,
    CredentialClient,
    asyncpg_pool,
    attach_sqlalchemy,
    aws_source,
    psycopg_async_pool,
    psycopg_pool,
)
from tests.statemachine.conftest import Case


def at_once() -> None:
    """What a query does with its connection before it gives it back: nothing."""


class Ask(Protocol):
    """Takes a connection, asks who it is, and gives it back."""

    def __call__(self, meanwhile: Callable[[], object] = at_once, /) -> str:
        """The user.

        Args:
            meanwhile: Called while the connection is taken.
        """


PoolOn = Callable[[Case, CredentialClient, str], AbstractContextManager[Ask]]
OVERLAP_SECONDS = 600.0
ROTATIONS = 4
CONNECTIONS = 3
"""The most that a pool has."""
PATIENCE_SECONDS = 60.0
WHO = {"orders": "SELECT CURRENT_USER()", "ledger": "SELECT session_user"}
SESSIONS = {
    "orders": "SELECT USER FROM information_schema.PROCESSLIST",
    "ledger": "SELECT usename FROM pg_stat_activity WHERE usename IS NOT NULL",
}


@dataclass
class Clock:
    """The machine's clock, which a test can set forward."""

    ahead_seconds: float = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_seconds


@dataclass
class Queries:
    """Threads that take a connection, ask who they are, and give it back, until the end of a `with` block."""

    ask: Ask
    count: int = 0
    users: set[str] = field(default_factory=set)
    errors: list[BaseException] = field(default_factory=list)

    @contextmanager
    def running(self, threads: int = 3) -> Iterator[None]:
        stop = threading.Event()

        def run() -> None:
            while not stop.is_set():
                users = self.users
                try:
                    users.add(self.ask())
                except Exception as e:  # noqa: BLE001 - the test wants none
                    self.errors.append(e)
                self.count += 1

        workers = [threading.Thread(target=run) for _ in range(threads)]
        for worker in workers:
            worker.start()
        try:
            yield
        finally:
            stop.set()
            for worker in workers:
                worker.join(PATIENCE_SECONDS)

    def settle(self) -> set[str]:
        """The users of the next 50 queries. Those under way, however long they take, are not among them."""
        self.users = set()
        self._wait_for(50)
        assert self.errors == []
        return set(self.users)

    def _wait_for(self, queries: int) -> None:
        since = self.count
        until(lambda: self.count > since + queries)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def has_generation(client: CredentialClient, generation: object) -> bool:
    return client.status.generation == generation


def has_no_session(case: Case, database: str, user: str) -> bool:
    rows = case.world.servers[database].execute_as_superuser(SESSIONS[database])
    return user not in {str(name) for (name,) in rows}


def ca_file(case: Case, database: str) -> str:
    [tls] = [s.tls for s in case.credential.servers if s.name == database]
    assert tls
    return str(tls.ca_file)


def client_of(
    case: Case, clock: Callable[[], float] = time.monotonic, max_age_seconds: float = OVERLAP_SECONDS / 2
) -> CredentialClient:
    names = case.credential.secret_names
    source = aws_source(names.app_user, region=case.world.aws.region, connection_blob=names.connection_blob)
    return CredentialClient([source], max_age_seconds=max_age_seconds, clock=clock)


@contextmanager
def sqlalchemy_on(case: Case, client: CredentialClient, database: str) -> Iterator[Ask]:
    driver = {"orders": "mysql+pymysql", "ledger": "postgresql+psycopg"}[database]
    option = {"orders": "ssl_ca", "ledger": "sslrootcert"}[database]
    engine = create_engine(f"{driver}://", pool_size=CONNECTIONS - 1, max_overflow=1)
    options: dict[str, Any] = {"database": database, option: ca_file(case, database)}
    attach_sqlalchemy(engine, client, overlap_seconds=OVERLAP_SECONDS, **options)

    def ask(meanwhile: Callable[[], object] = at_once, /) -> str:
        with engine.connect() as connection:
            found = connection.exec_driver_sql(WHO[database]).scalar_one()
            meanwhile()
        return str(found).removesuffix("@%")

    try:
        yield ask
    finally:
        engine.dispose()


@contextmanager
def psycopg_pool_on(case: Case, client: CredentialClient, database: str) -> Iterator[Ask]:
    options = {"database": database, "sslrootcert": ca_file(case, database)}
    with psycopg_pool(
        client, overlap_seconds=OVERLAP_SECONDS, options=options, min_size=2, max_size=CONNECTIONS
    ) as pool:

        def ask(meanwhile: Callable[[], object] = at_once, /) -> str:
            with pool.connection() as connection:
                [name] = connection.execute(WHO[database]).fetchone() or [""]
                meanwhile()
            return str(name)

        yield ask


class Loop:
    """An event loop in a thread, for the pools that need one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - what the work gives
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self._loop.close()


def async_engine_on(url: str) -> PoolOn:
    @contextmanager
    def on(case: Case, client: CredentialClient, database: str) -> Iterator[Ask]:
        loop = Loop()
        engine = create_async_engine(url, pool_size=CONNECTIONS - 1, max_overflow=1)
        option = "sslrootcert" if "psycopg" in url else "ssl_ca"
        options: dict[str, Any] = {"database": database, option: ca_file(case, database)}
        attach_sqlalchemy(engine, client, overlap_seconds=OVERLAP_SECONDS, **options)

        async def ask(meanwhile: Callable[[], object]) -> str:
            async with engine.connect() as connection:
                found = (await connection.exec_driver_sql(WHO[database])).scalar_one()
                await asyncio.to_thread(meanwhile)
            return str(found).removesuffix("@%")

        try:
            yield lambda meanwhile=at_once, /: str(loop.run(ask(meanwhile)))
        finally:
            loop.run(engine.dispose())
            loop.close()

    return on


@contextmanager
def asyncpg_pool_on(case: Case, client: CredentialClient, database: str) -> Iterator[Ask]:
    loop = Loop()
    options = {"database": database, "ssl_ca": ca_file(case, database)}

    async def make() -> Any:  # noqa: ANN401 - asyncpg ships no types
        face = AsyncCredentialClient(client)
        return await asyncpg_pool(
            face, overlap_seconds=OVERLAP_SECONDS, options=options, min_size=1, max_size=CONNECTIONS
        )

    pool = loop.run(make())

    async def ask(meanwhile: Callable[[], object]) -> str:
        async with pool.acquire() as connection:
            name = await connection.fetchval(WHO[database])
            await asyncio.to_thread(meanwhile)
        return str(name)

    try:
        yield lambda meanwhile=at_once, /: str(loop.run(ask(meanwhile)))
    finally:
        loop.run(pool.close())
        loop.close()


@contextmanager
def psycopg_async_pool_on(case: Case, client: CredentialClient, database: str) -> Iterator[Ask]:
    loop = Loop()
    options = {"database": database, "sslrootcert": ca_file(case, database)}
    face = AsyncCredentialClient(client)
    pool = psycopg_async_pool(
        face, overlap_seconds=OVERLAP_SECONDS, options=options, min_size=2, max_size=CONNECTIONS
    )
    loop.run(pool.open())

    async def ask(meanwhile: Callable[[], object]) -> str:
        async with pool.connection() as connection:
            [name] = await (await connection.execute(WHO[database])).fetchone() or [""]
            await asyncio.to_thread(meanwhile)
        return str(name)

    try:
        yield lambda meanwhile=at_once, /: str(loop.run(ask(meanwhile)))
    finally:
        loop.run(pool.close())
        loop.close()


@contextmanager
def django_on(case: Case, client: CredentialClient, database: str) -> Iterator[Ask]:
    module = ModuleType("shop_credentials")
    module.credential = client  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    option = {"orders": "ssl_ca", "ledger": "sslrootcert"}[database]
    connections = django_connections(
        django_settings(
            {"orders": "mysql", "ledger": "postgresql"}[database],
            database,
            credential="shop_credentials.credential",
            overlap_seconds=OVERLAP_SECONDS,
            **{option: ca_file(case, database)},
        )
    )

    def ask(meanwhile: Callable[[], object] = at_once, /) -> str:
        """One request, on the connection that Django keeps for this thread."""
        connection = connections["default"]
        connection.close_if_unusable_or_obsolete()
        with connection.cursor() as cursor:
            cursor.execute(WHO[database])
            [name] = cursor.fetchone()
        meanwhile()
        return str(name).removesuffix("@%")

    try:
        yield ask
    finally:
        del sys.modules[module.__name__]


def django_settings(kind: str, name: str, **options: object) -> dict[str, Any]:
    engine = f"lockstep.client.django.{kind}"
    return {"default": {"ENGINE": engine, "NAME": name, "OPTIONS": options, "CONN_MAX_AGE": None}}


def django_connections(databases: dict[str, Any]) -> Any:  # noqa: ANN401 - Django ships no types
    if not settings.configured:
        settings.configure(USE_TZ=True)
        django.setup()
    return ConnectionHandler(databases)


POOLS: dict[str, tuple[PoolOn, str]] = {
    "SQLAlchemy, PyMySQL": (sqlalchemy_on, "orders"),
    "SQLAlchemy, psycopg": (sqlalchemy_on, "ledger"),
    "SQLAlchemy, asyncmy": (async_engine_on("mysql+asyncmy://"), "orders"),
    "SQLAlchemy, asyncpg": (async_engine_on("postgresql+asyncpg://"), "ledger"),
    "SQLAlchemy, psycopg in a loop": (async_engine_on("postgresql+psycopg://"), "ledger"),
    "psycopg_pool": (psycopg_pool_on, "ledger"),
    "psycopg_pool in a loop": (psycopg_async_pool_on, "ledger"),
    "asyncpg": (asyncpg_pool_on, "ledger"),
}
DJANGO: dict[str, tuple[PoolOn, str]] = {
    "Django, PyMySQL": (django_on, "orders"),
    "Django, psycopg": (django_on, "ledger"),
}
"""A connection for each thread, so none is waited for."""


@pytest.mark.parametrize(("pool_on", "database"), [*POOLS.values(), *DJANGO.values()], ids=[*POOLS, *DJANGO])
def test_a_pool_goes_through_rotations(spanning: Case, pool_on: Callable[..., Any], database: str) -> None:
    spanning.rotate()
    clock = Clock()
    client = client_of(spanning, clock)
    with pool_on(spanning, client, database) as ask:
        queries = Queries(ask)
        with queries.running():
            for _ in range(ROTATIONS):
                before = spanning.stored_login().username
                assert queries.settle() == {before}
                execution = spanning.again()
                assert execution.status == "SUCCEEDED", execution.cause
                now = spanning.stored_login().username
                assert now != before
                # Half of the maximum age: it is read again in the background, and the old connections stay.
                clock.ahead_seconds += OVERLAP_SECONDS / 4
                generation = spanning.stored(spanning.credential.secret_names.app_user)["generation"]
                until(partial(has_generation, client, generation))
                assert before in queries.settle()
                clock.ahead_seconds += OVERLAP_SECONDS
                assert queries.settle() == {now}
                # A pool drops a connection when it is taken, and a server ends the session some time after that.
                until(partial(has_no_session, spanning, database, before))
    assert queries.errors == []
    assert (client.status.refusals, client.status.failures) == (0, 0)


@pytest.mark.parametrize(("pool_on", "database"), POOLS.values(), ids=POOLS)
def test_no_connection_is_given_whose_generation_died_while_it_was_waited_for(
    spanning: Case, pool_on: PoolOn, database: str
) -> None:
    spanning.rotate()
    before = spanning.stored_login().username
    clock = Clock()
    client = client_of(spanning, clock)
    go_on, taken = threading.Event(), threading.Semaphore(0)

    def meanwhile() -> None:
        taken.release()
        assert go_on.wait(PATIENCE_SECONDS)

    with pool_on(spanning, client, database) as ask, ThreadPoolExecutor(2 * CONNECTIONS) as threads:
        try:
            asked = [threads.submit(ask, meanwhile) for _ in range(2 * CONNECTIONS)]
            for _ in range(CONNECTIONS):
                assert taken.acquire(timeout=PATIENCE_SECONDS)
            assert spanning.again().status == "SUCCEEDED"
            now = spanning.stored_login().username
            clock.ahead_seconds += OVERLAP_SECONDS / 4
            client.get()
            generation = spanning.stored(spanning.credential.secret_names.app_user)["generation"]
            until(partial(has_generation, client, generation))
            clock.ahead_seconds += OVERLAP_SECONDS
        finally:
            go_on.set()
        users = sorted(one.result(PATIENCE_SECONDS) for one in asked)
    assert users == sorted([before] * CONNECTIONS + [now] * CONNECTIONS)
    assert (client.status.refusals, client.status.failures) == (0, 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"overlap_seconds": 600}, "no credential"),
        ({"credential": "a.b"}, "no overlap_seconds"),
        ({"credential": "a.b", "overlap_seconds": 600, "pool": True}, "pool"),
    ],
)
def test_djangos_settings_are_checked(options: dict[str, object], says: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=says):
        django_connections(django_settings("postgresql", "ledger", **options))["default"]
