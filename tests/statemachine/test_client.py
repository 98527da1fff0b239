"""The client on real databases through rotations: each driver, its page's examples, and pools (the second tier)."""

import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from types import ModuleType
from typing import Any

import django  # type: ignore[import-untyped]  # Django ships no types
import pytest
from anyio.from_thread import start_blocking_portal
from django.conf import settings  # type: ignore[import-untyped]  # likewise
from django.core.exceptions import ImproperlyConfigured  # type: ignore[import-untyped]  # likewise
from django.db.utils import ConnectionHandler  # type: ignore[import-untyped]  # likewise
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from lockstep.client import (
    AsyncCredentialClient,
    ClientCredential,
    CredentialClient,
    asyncpg_pool,
    attach_sqlalchemy,
    aws_source,
    connect_asyncpg,
    connect_psycopg,
    connect_psycopg_async,
    connect_pymysql,
    psycopg_async_pool,
    psycopg_pool,
)
from tests.statemachine.conftest import Case
from tests.support.client_page import adapted, examples
from tests.support.memory import FakeClock
from tests.support.programs import until
from tests.unit.test_client import log_in

OVERLAP_SECONDS = 600.0


def ca_file(case: Case, database: str) -> str:
    [tls] = [s.tls for s in case.credential.servers if s.name == database]
    assert tls
    return str(tls.ca_file)


def client_of(case: Case, *, max_age_seconds: float, clock: Callable[[], float]) -> CredentialClient:
    names = case.credential.secret_names
    source = aws_source(names.app_user, region=case.world.aws.region, connection_blob=names.connection_blob)
    return CredentialClient([source], max_age_seconds=max_age_seconds, clock=clock)


def django_connections(databases: dict[str, Any]) -> Any:  # noqa: ANN401 - Django ships no types
    if not settings.configured:
        settings.configure(USE_TZ=True)
        django.setup()
    return ConnectionHandler(databases)


DRIVERS: dict[Callable[..., Any], tuple[str, str]] = {
    connect_pymysql: ("orders", "ssl_ca"),
    connect_psycopg: ("ledger", "sslrootcert"),
    connect_psycopg_async: ("ledger", "sslrootcert"),
    connect_asyncpg: ("ledger", "ssl_ca"),
}
"""For each a database and the option of a CA file."""


def test_every_driver_and_the_pages_examples_go_on_after_rotations(
    spanning: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of docs/client.md, as they are there."""
    spanning.rotate()
    clients = [client_of(spanning, max_age_seconds=1e9, clock=time.monotonic) for _ in DRIVERS]
    names, ca = spanning.credential.secret_names, ca_file(spanning, "orders")
    own = {
        "multi-cloud/ledger_user": names.app_user,
        "multi-cloud/ledger_user.connection": names.connection_blob,
        "eu-central-1": spanning.world.aws.region,
        "ca.pem": ca,
    }
    blocks = [adapted(e, own) for e in examples() if "oci_ring_source" not in e]
    assert len(blocks) == len(examples()) - 1 >= 8
    here: dict[str, Any] = {"__name__": "page"}
    shop = ModuleType("shop.credentials")
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.credentials", shop)
    # During the overlap a cached value still works. Then generation 1 is revoked on every database.
    for generation, cached in ((1, 1), (2, 1), (3, 3)):
        for client, (connect, (database, ca_option)) in zip(clients, DRIVERS.items(), strict=True):
            log_in(connect, client, database=database, **{ca_option: ca})
            assert client.get().generation == cached
        for block in blocks:
            shop.credential = here.get("credential")  # type: ignore[attr-defined]
            exec(compile(block, "docs/client.md", "exec"), here)  # noqa: S102 - the page's examples
        for name in ("orders", "ledger"):
            with here[name].connect() as connection:
                connection.exec_driver_sql("SELECT 1")
            here[name].dispose()
        with django_connections(here["DATABASES"])["default"].cursor() as cursor:
            cursor.execute("SELECT 1")
        here["connection"].close()
        client, value = here["credential"], here["value"]
        assert isinstance(client, CredentialClient)
        assert isinstance(value, ClientCredential)
        assert (value.generation, client.get().generation, client.refusals) == (generation, generation, 0)
        spanning.again()


def of_django(kind: str, name: str, **options: object) -> dict[str, Any]:
    engine = f"lockstep.client.django.{kind}"
    return {"default": {"ENGINE": engine, "NAME": name, "OPTIONS": options, "CONN_MAX_AGE": None}}


def test_djangos_settings_are_checked() -> None:
    own: dict[str, Any] = {"credential": "a.b", "overlap_seconds": 600}
    for options, says in (({}, "no credential and no overlap_seconds"), ({**own, "pool": True}, "`pool`")):
        with pytest.raises(ImproperlyConfigured, match=says):
            django_connections(of_django("postgresql", "ledger", **options))["default"]


# Pools: no login is refused, no query fails, and connections of revoked generations go

ROTATIONS = 2
CONNECTIONS = 3
"""The most that a pool has."""
PATIENCE_SECONDS = 60.0
WHO = {"orders": "SELECT CURRENT_USER()", "ledger": "SELECT session_user"}
SESSIONS = {
    "orders": "SELECT USER FROM information_schema.PROCESSLIST",
    "ledger": "SELECT usename FROM pg_stat_activity WHERE usename IS NOT NULL",
}
Pool = tuple[Callable[[], Any], Callable[[Any, str], Any]]
"""How a connection is taken, and how it is asked."""
PoolOn = Callable[[CredentialClient, str, dict[str, Any]], AbstractContextManager[Pool]]
AsyncPoolOn = Callable[[CredentialClient, str, dict[str, Any]], AbstractAsyncContextManager[Pool]]


@contextmanager
def sqlalchemy(client: CredentialClient, url: str, options: dict[str, Any]) -> Iterator[Pool]:
    engine = create_engine(url, pool_size=CONNECTIONS - 1, max_overflow=1)
    attach_sqlalchemy(engine, client, overlap_seconds=OVERLAP_SECONDS, **options)
    yield engine.connect, lambda connection, sql: connection.exec_driver_sql(sql).scalar_one()
    engine.dispose()


@contextmanager
def psycopg(client: CredentialClient, _url: str, options: dict[str, Any]) -> Iterator[Pool]:
    sizes = {"min_size": 2, "max_size": CONNECTIONS, "timeout": PATIENCE_SECONDS}
    with psycopg_pool(client, overlap_seconds=OVERLAP_SECONDS, options=options, **sizes) as pool:
        yield pool.connection, lambda connection, sql: connection.execute(sql).fetchone()[0]


@contextmanager
def django_orm(client: CredentialClient, kind: str, options: dict[str, Any]) -> Iterator[Pool]:
    module = ModuleType("shop_credentials")
    vars(module)["credential"] = client
    own = {"credential": "shop_credentials.credential", "overlap_seconds": OVERLAP_SECONDS}
    connections = django_connections(of_django(kind, options.pop("database"), **own, **options))

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

    yield engine.connect, who
    await engine.dispose()


@asynccontextmanager
async def asyncpg(client: CredentialClient, _url: str, options: dict[str, Any]) -> AsyncIterator[Pool]:
    face, sizes = AsyncCredentialClient(client), {"min_size": 1, "max_size": CONNECTIONS}
    async with asyncpg_pool(face, overlap_seconds=OVERLAP_SECONDS, options=options, **sizes) as pool:
        yield pool.acquire, lambda connection, sql: connection.fetchval(sql)


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
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(pool_on(client, url, options)) as (taking, who),
        ):
            yield (
                lambda: portal.wrap_async_context_manager(taking()),
                lambda connection, sql: portal.call(who, connection, sql),
            )

    return on


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


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_goes_through_rotations(spanning: Case, name: str) -> None:
    """Who had to wait for a connection is given none whose generation died meanwhile."""
    spanning.rotate()
    clock, (pool_on, url, database, ca_option) = FakeClock(), POOLS[name]
    client = client_of(spanning, max_age_seconds=OVERLAP_SECONDS / 2, clock=clock.monotonic)
    options: dict[str, Any] = {"database": database, ca_option: ca_file(spanning, database)}
    go_on, taken_by = threading.Event(), threading.Semaphore(0)

    def renew() -> str:
        """Half of the maximum age: it is read again in the background; the username that is served then."""
        clock.sleep(OVERLAP_SECONDS / 4)
        client.get()
        generation = spanning.record().current_generation
        until(lambda: client.get().generation == generation)
        return spanning.stored_login().username

    def has_session(user: str) -> bool:
        rows = spanning.world.servers[database].execute_as_superuser(SESSIONS[database])
        return user in {str(name) for (name,) in rows}

    with ThreadPoolExecutor(2 * CONNECTIONS) as threads, pool_on(client, url, options) as (take, who):

        def ask(*, holding: bool = False) -> str:
            """Whose the connection is that is taken."""
            with take() as connection:
                user = str(who(connection, WHO[database])).removesuffix("@%")
                if holding:
                    taken_by.release()
                    assert go_on.wait(PATIENCE_SECONDS)
                return user

        def users() -> set[str]:
            """Of 50 queries; none of them may fail."""
            return set(threads.map(lambda _number: ask(), range(50)))

        for _ in range(ROTATIONS):
            before = spanning.stored_login().username
            assert users() == {before}
            rotation = threads.submit(spanning.again)
            assert users() <= set(spanning.credential.usernames)
            assert rotation.result().status == "SUCCEEDED"
            now = renew()
            assert now != before
            # The old connections stay.
            assert before in users()
            clock.sleep(OVERLAP_SECONDS)
            assert users() == {now}
            # A pool drops a connection when it is taken, and a server ends the session some time after that.
            until(lambda: users() == {now} and not has_session(before))  # noqa: B023 - of this turn
        assert (client.refusals, client.failures) == (0, 0)
        if "Django" in name:
            return  # It has a connection for each thread, so none is waited for.
        try:
            asked = [threads.submit(ask, holding=True) for _ in range(2 * CONNECTIONS)]
            for _ in range(CONNECTIONS):
                assert taken_by.acquire(timeout=PATIENCE_SECONDS)
            before = spanning.stored_login().username
            assert spanning.again().status == "SUCCEEDED"
            now = renew()
            clock.sleep(OVERLAP_SECONDS)
        finally:
            go_on.set()
        held = sorted(one.result(PATIENCE_SECONDS) for one in asked)
    assert held == sorted([before] * CONNECTIONS + [now] * CONNECTIONS)
    assert (client.refusals, client.failures) == (0, 0)
