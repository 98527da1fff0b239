"""Pools through live rotations: no login is refused, no query fails, and connections of revoked generations go."""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import django  # type: ignore[import-untyped]  # Django ships no types
import pytest
from django.conf import settings  # type: ignore[import-untyped]  # likewise
from django.core.exceptions import ImproperlyConfigured  # type: ignore[import-untyped]  # likewise
from django.db.utils import ConnectionHandler  # type: ignore[import-untyped]  # likewise
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

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
from tests.support.programs import until

OVERLAP_SECONDS = 600.0
ROTATIONS = 2
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


Pool = tuple[Callable[[], Any], Callable[[Any, str], Any]]
"""How a connection is taken, and how it is asked."""
PoolOn = Callable[[CredentialClient, str, dict[str, Any]], AbstractContextManager[Pool]]
AsyncPoolOn = Callable[[CredentialClient, str, dict[str, Any]], AbstractAsyncContextManager[Pool]]


@contextmanager
def sqlalchemy(client: CredentialClient, url: str, options: dict[str, Any]) -> Iterator[Pool]:
    engine = create_engine(url, pool_size=CONNECTIONS - 1, max_overflow=1)
    attach_sqlalchemy(engine, client, overlap_seconds=OVERLAP_SECONDS, **options)
    try:
        yield engine.connect, lambda connection, sql: connection.exec_driver_sql(sql).scalar_one()
    finally:
        engine.dispose()


@contextmanager
def psycopg(client: CredentialClient, _url: str, options: dict[str, Any]) -> Iterator[Pool]:
    sizes = {"min_size": 2, "max_size": CONNECTIONS, "timeout": PATIENCE_SECONDS}
    with psycopg_pool(client, overlap_seconds=OVERLAP_SECONDS, options=options, **sizes) as pool:
        yield pool.connection, lambda connection, sql: connection.execute(sql).fetchone()[0]


@contextmanager
def django_orm(client: CredentialClient, url: str, options: dict[str, Any]) -> Iterator[Pool]:
    module = ModuleType("shop_credentials")
    vars(module)["credential"] = client
    own = {"credential": "shop_credentials.credential", "overlap_seconds": OVERLAP_SECONDS}
    connections = django_connections(django_settings(url, options.pop("database"), **own, **options))

    @contextmanager
    def request() -> Iterator[Any]:
        """On the connection that Django keeps for this thread."""
        connection = connections["default"]
        connection.close_if_unusable_or_obsolete()
        with connection.cursor() as cursor:
            yield cursor

    def who(cursor: Any, sql: str) -> object:  # noqa: ANN401 - Django ships no types
        cursor.execute(sql)
        [name] = cursor.fetchone()
        return name

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        yield request, who


@asynccontextmanager
async def sqlalchemy_async(
    client: CredentialClient, url: str, options: dict[str, Any]
) -> AsyncIterator[Pool]:
    engine = create_async_engine(url, pool_size=CONNECTIONS - 1, max_overflow=1)
    attach_sqlalchemy(engine, client, overlap_seconds=OVERLAP_SECONDS, **options)

    async def who(connection: AsyncConnection, sql: str) -> object:
        return (await connection.exec_driver_sql(sql)).scalar_one()

    try:
        yield engine.connect, who
    finally:
        await engine.dispose()


@asynccontextmanager
async def asyncpg(client: CredentialClient, _url: str, options: dict[str, Any]) -> AsyncIterator[Pool]:
    face, sizes = AsyncCredentialClient(client), {"min_size": 1, "max_size": CONNECTIONS}
    pool = await asyncpg_pool(face, overlap_seconds=OVERLAP_SECONDS, options=options, **sizes)
    try:
        yield pool.acquire, lambda connection, sql: connection.fetchval(sql)
    finally:
        await pool.close()


@asynccontextmanager
async def psycopg_async(client: CredentialClient, _url: str, options: dict[str, Any]) -> AsyncIterator[Pool]:
    async def who(connection: Any, sql: str) -> object:  # noqa: ANN401 - of rows of any kind
        [name] = await (await connection.execute(sql)).fetchone()
        return name

    face = AsyncCredentialClient(client)
    sizes = {"min_size": 2, "max_size": CONNECTIONS, "timeout": PATIENCE_SECONDS}
    async with psycopg_async_pool(face, overlap_seconds=OVERLAP_SECONDS, options=options, **sizes) as pool:
        yield pool.connection, who


def in_a_loop(pool_on: AsyncPoolOn) -> PoolOn:
    """The same for threads: the pool is in an event loop of its own thread."""

    @contextmanager
    def on(client: CredentialClient, url: str, options: dict[str, Any]) -> Iterator[Pool]:
        loop, stack = asyncio.new_event_loop(), AsyncExitStack()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()

        def run(work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - what the work gives
            return asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE_SECONDS)

        taking, who = run(stack.enter_async_context(pool_on(client, url, options)))

        @contextmanager
        def take() -> Iterator[Any]:
            taken = AsyncExitStack()
            connection = run(taken.enter_async_context(taking()))
            try:
                yield connection
            finally:
                run(taken.aclose())

        try:
            yield take, lambda connection, sql: run(who(connection, sql))
        finally:
            run(stack.aclose())
            loop.call_soon_threadsafe(loop.stop)
            thread.join(PATIENCE_SECONDS)
            loop.close()

    return on


def django_settings(kind: str, name: str, **options: object) -> dict[str, Any]:
    engine = f"lockstep.client.django.{kind}"
    return {"default": {"ENGINE": engine, "NAME": name, "OPTIONS": options, "CONN_MAX_AGE": None}}


def django_connections(databases: dict[str, Any]) -> Any:  # noqa: ANN401 - Django ships no types
    if not settings.configured:
        settings.configure(USE_TZ=True)
        django.setup()
    return ConnectionHandler(databases)


POOLS: dict[str, tuple[PoolOn, str, str, str]] = {
    "SQLAlchemy, PyMySQL": (sqlalchemy, "mysql+pymysql://", "orders", "ssl_ca"),
    "SQLAlchemy, psycopg": (sqlalchemy, "postgresql+psycopg://", "ledger", "sslrootcert"),
    "SQLAlchemy, asyncmy": (in_a_loop(sqlalchemy_async), "mysql+asyncmy://", "orders", "ssl_ca"),
    "SQLAlchemy, asyncpg": (in_a_loop(sqlalchemy_async), "postgresql+asyncpg://", "ledger", "ssl_ca"),
    "SQLAlchemy, psycopg in a loop": (
        *(in_a_loop(sqlalchemy_async), "postgresql+psycopg://", "ledger", "sslrootcert"),
    ),
    "psycopg_pool": (psycopg, "", "ledger", "sslrootcert"),
    "psycopg_pool in a loop": (in_a_loop(psycopg_async), "", "ledger", "sslrootcert"),
    "asyncpg": (in_a_loop(asyncpg), "", "ledger", "ssl_ca"),
    "Django, PyMySQL": (django_orm, "mysql", "orders", "ssl_ca"),
    "Django, psycopg": (django_orm, "postgresql", "ledger", "sslrootcert"),
}
"""For each: what its adapter is, its URL, a database and the option of a CA file."""


@contextmanager
def taking(
    case: Case, client: CredentialClient, name: str
) -> Iterator[Callable[[], AbstractContextManager[str]]]:
    """How a connection is taken for a block; whose it is."""
    pool_on, url, database, ca_option = POOLS[name]
    with pool_on(client, url, {"database": database, ca_option: ca_file(case, database)}) as (take, who):

        @contextmanager
        def taken() -> Iterator[str]:
            with take() as connection:
                yield str(who(connection, WHO[database])).removesuffix("@%")

        yield taken


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_goes_through_rotations(spanning: Case, name: str) -> None:
    """Who had to wait for a connection is given none whose generation died meanwhile."""
    spanning.rotate()
    clock, database = Clock(), POOLS[name][2]
    client = client_of(spanning, clock)
    go_on, taken_by = threading.Event(), threading.Semaphore(0)

    def renew() -> str:
        """Half of the maximum age: it is read again in the background; the username that is served then."""
        clock.ahead_seconds += OVERLAP_SECONDS / 4
        client.get()
        generation = spanning.stored(spanning.credential.secret_names.app_user)["generation"]
        until(lambda: client.get().generation == generation)
        return spanning.stored_login().username

    def has_session(user: str) -> bool:
        rows = spanning.world.servers[database].execute_as_superuser(SESSIONS[database])
        return user in {str(name) for (name,) in rows}

    with ThreadPoolExecutor(2 * CONNECTIONS) as threads, taking(spanning, client, name) as taken:

        def ask(_number: int) -> str:
            with taken() as user:
                return user

        def users() -> set[str]:
            """Of 50 queries; none of them may fail."""
            return set(threads.map(ask, range(50)))

        def hold() -> str:
            with taken() as user:
                taken_by.release()
                assert go_on.wait(PATIENCE_SECONDS)
                return user

        for _ in range(ROTATIONS):
            before = spanning.stored_login().username
            assert users() == {before}
            rotation = threads.submit(spanning.again)
            assert users() <= set(spanning.credential.usernames)
            execution = rotation.result()
            assert execution.status == "SUCCEEDED", execution.cause
            now = renew()
            assert now != before
            # The old connections stay.
            assert before in users()
            clock.ahead_seconds += OVERLAP_SECONDS
            assert users() == {now}
            # A pool drops a connection when it is taken, and a server ends the session some time after that.
            until(lambda: users() == {now} and not has_session(before))  # noqa: B023 - of this turn
        assert (client.refusals, client.failures) == (0, 0)
        if "Django" in name:
            return  # It has a connection for each thread, so none is waited for.
        try:
            asked = [threads.submit(hold) for _ in range(2 * CONNECTIONS)]
            for _ in range(CONNECTIONS):
                assert taken_by.acquire(timeout=PATIENCE_SECONDS)
            before = spanning.stored_login().username
            assert spanning.again().status == "SUCCEEDED"
            now = renew()
            clock.ahead_seconds += OVERLAP_SECONDS
        finally:
            go_on.set()
        held = sorted(one.result(PATIENCE_SECONDS) for one in asked)
    assert held == sorted([before] * CONNECTIONS + [now] * CONNECTIONS)
    assert (client.refusals, client.failures) == (0, 0)


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
