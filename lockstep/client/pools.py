"""Pools whose new connections use the current value, and whose old ones go once their generation is revoked.

A changed password ends no session, so without more a pool keeps connections of logins that were revoked long ago.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from lockstep.client.drivers import (
    Opener,
    asyncmy_opener,
    asyncpg_opener,
    psycopg_async_opener,
    psycopg_opener,
    pymysql_opener,
)
from lockstep.client.threads import AsyncCredentialClient, CredentialClient

if TYPE_CHECKING:
    import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no type information
    import psycopg_pool as pools
    from psycopg import AsyncConnection
    from psycopg import Connection as PsycopgConnection
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

CLOSE_SECONDS = 2.0
"""How long a pool waits for the end of a connection that it drops, when one is acquired."""
_OPENERS: dict[str, Callable[..., Opener]] = {"pymysql": pymysql_opener, "psycopg": psycopg_opener}
_ASYNC_OPENERS: dict[str, Callable[..., Opener]] = {
    "asyncmy": asyncmy_opener,
    "asyncpg": asyncpg_opener,
    "psycopg": psycopg_async_opener,
}


def attach_sqlalchemy(
    engine: "Engine | AsyncEngine", client: CredentialClient, *, overlap_seconds: float, **options: Any
) -> None:
    """Let an engine log in with the credential, and drop its connections of generations that are revoked.

        engine = create_engine("postgresql+psycopg://")
        attach_sqlalchemy(engine, credential, database="ledger", overlap_seconds=600, sslrootcert="ca.pem")

    A connection is dropped when it is checked out: the pool opens another one, and the application notices nothing.

    Args:
        engine: Of the drivers PyMySQL or psycopg; or one for an event loop, of psycopg, asyncpg or asyncmy. A host in
            its URL goes before what the secret says.
        client: Gives the credential.
        overlap_seconds: `overlap` in the plan.
        options: As for the `connect_…` function of the engine's driver; for asyncmy as for PyMySQL.

    Raises:
        ValueError: The engine has another driver, or as the `connect_…` function.
    """
    from sqlalchemy import event
    from sqlalchemy.exc import DisconnectionError

    inner: Engine = getattr(engine, "sync_engine", engine)  # type: ignore[arg-type]  # Where it has one.
    is_async, driver = inner.dialect.is_async, inner.dialect.driver
    openers = _ASYNC_OPENERS if is_async else _OPENERS
    if driver not in openers:
        raise ValueError(
            f"{driver} is not among {', '.join(openers)}; give the engine a `creator` that calls `login`"
        )
    make = openers[driver]
    make(**options)  # A wrong option is an error here, and not at the first connection.

    @event.listens_for(inner, "do_connect")
    def connect(_dialect: Any, _record: Any, _arguments: Any, told: dict[str, Any]) -> Any:
        if not is_async:
            return client.login(*make(**{**_of_url(told), **options}))

        async def log_in(*_no_arguments: Any, **of_dialect: Any) -> Any:
            return await AsyncCredentialClient(client).login(*make(**{**_of_url(of_dialect), **options}))

        told["async_creator_fn"] = log_in
        return None

    @event.listens_for(inner, "checkout")
    def retire(_connection: Any, record: Any, _proxy: Any) -> None:
        if client.is_revoked(record.driver_connection, overlap_seconds):
            raise DisconnectionError("its generation is revoked")


def _of_url(told: dict[str, Any]) -> dict[str, Any]:
    """What an engine's URL says of the address."""
    names = {"database": "dbname"}
    found = {names.get(k, k): v for k, v in told.items() if k not in ("user", "password")}
    match found:
        case {"ssl": {"ca": ca, **more}} if not more:  # What SQLAlchemy makes of `ssl_ca`.
            del found["ssl"]
            found["ssl_ca"] = ca
    return found


def psycopg_pool(
    client: CredentialClient,
    *,
    overlap_seconds: float,
    options: dict[str, Any] | None = None,
    **of_pool: Any,
) -> "pools.ConnectionPool[PsycopgConnection[Any]]":
    """A psycopg_pool (3.3 or newer) that logs in with the credential, and drops connections of revoked generations.

        with psycopg_pool(credential, overlap_seconds=600, options={"sslrootcert": "ca.pem"}, max_size=8) as pool:

    When such a connection is taken from the pool, the pool is drained: idle connections are closed, those in use when
    they are given back.

    Args:
        client: Gives the credential.
        overlap_seconds: `overlap` in the plan.
        options: As for `connect_psycopg`.
        of_pool: For `psycopg_pool.ConnectionPool`.
    """
    import psycopg
    import psycopg_pool as pools

    told = options or {}
    psycopg_opener(**told)

    class LoggedIn(psycopg.Connection[Any]):
        """Connects with the client's value."""

        @classmethod
        def connect(cls, conninfo: str = "", **kwargs: Any) -> Any:
            del conninfo  # The pool has none.
            return client.login(*psycopg_opener(connect=super().connect, **{**kwargs, **told}))

    def check(connection: LoggedIn) -> None:
        if client.is_revoked(connection, overlap_seconds):
            pool.drain()
            connection.pgconn.finish()  # `close` may give it back (`close_returns`).
            raise psycopg.OperationalError("its generation is revoked")
        if own_check is not None:
            own_check(connection)

    own_check = of_pool.pop("check", None)
    pool: pools.ConnectionPool[Any] = pools.ConnectionPool(
        connection_class=LoggedIn, check=check, **{"open": False, **of_pool}
    )
    return pool


def psycopg_async_pool(
    client: AsyncCredentialClient,
    *,
    overlap_seconds: float,
    options: dict[str, Any] | None = None,
    **of_pool: Any,
) -> "pools.AsyncConnectionPool[AsyncConnection[Any]]":
    """As `psycopg_pool`, for an event loop.

        async with psycopg_async_pool(login, overlap_seconds=600, options={"sslrootcert": "ca.pem"}) as pool:

    Args:
        client: Gives the credential.
        overlap_seconds: `overlap` in the plan.
        options: As for `connect_psycopg_async`.
        of_pool: For `psycopg_pool.AsyncConnectionPool`.
    """
    import psycopg
    import psycopg_pool as pools

    told = options or {}
    psycopg_async_opener(**told)

    class LoggedIn(psycopg.AsyncConnection[Any]):
        """Connects with the client's value."""

        @classmethod
        async def connect(cls, conninfo: str = "", **kwargs: Any) -> Any:
            del conninfo  # The pool has none.
            return await client.login(*psycopg_async_opener(connect=super().connect, **{**kwargs, **told}))

    async def check(connection: LoggedIn) -> None:
        if client.cache.is_revoked(connection, overlap_seconds):
            await pool.drain()
            connection.pgconn.finish()  # `close` may give it back (`close_returns`).
            raise psycopg.OperationalError("its generation is revoked")
        if own_check is not None:
            await own_check(connection)

    own_check = of_pool.pop("check", None)
    pool: pools.AsyncConnectionPool[Any] = pools.AsyncConnectionPool(
        connection_class=LoggedIn, check=check, **{"open": False, **of_pool}
    )
    return pool


def asyncpg_pool(
    client: AsyncCredentialClient,
    *,
    overlap_seconds: float,
    options: dict[str, Any] | None = None,
    **of_pool: Any,
) -> "asyncpg.Pool[Any]":
    """An asyncpg pool (0.30 or newer) that logs in with the credential, and drops connections of revoked generations.

        async with asyncpg_pool(login, overlap_seconds=600, options={"ssl_ca": "ca.pem"}, max_size=8) as pool:

    A connection of a revoked generation is closed when it is acquired: another one is taken or opened, and the
    application notices nothing.

    Args:
        client: Gives the credential.
        overlap_seconds: `overlap` in the plan.
        options: As for `connect_asyncpg`.
        of_pool: For `asyncpg.create_pool`.
    """
    import asyncpg

    told = options or {}
    asyncpg_opener(**told)

    async def connect(*_arguments: Any, **of_connection: Any) -> Any:
        return await client.login(*asyncpg_opener(**{**of_connection, **told}))

    class LoggedInPool(asyncpg.Pool):  # type: ignore[misc]  # It has no types.
        """Gives no connection of a revoked generation; `_acquire` and `_con` are asyncpg's own names."""

        async def _acquire(self, timeout: float | None) -> Any:  # noqa: ASYNC109 - asyncpg's own
            async with asyncio.timeout(timeout):
                while True:
                    connection = await super()._acquire(timeout)
                    if not client.cache.is_revoked(connection._con, overlap_seconds):  # noqa: SLF001 - nothing else names it
                        return connection
                    with suppress(Exception):  # It goes, whatever state it is in.
                        await connection.close(timeout=CLOSE_SECONDS)

    parameters = signature(asyncpg.create_pool).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is Parameter.KEYWORD_ONLY}
    return LoggedInPool(**{**defaults, **of_pool, "connect": connect})
