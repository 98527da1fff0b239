"""Pools in an event loop, under the same rules as `lockstep.client.pools`."""

import asyncio
from contextlib import suppress
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from lockstep.client.cache import ClientCredential
from lockstep.client.drivers_async import asyncmy_opener, asyncpg_opener, psycopg_async_opener
from lockstep.client.pools import refuse_dead
from lockstep.client.threads import AsyncCredentialClient

if TYPE_CHECKING:
    from collections import deque

    import asyncmy.pool
    import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no type information
    import psycopg_pool as pools
    from asyncmy.connection import Connection as AsyncmyConnection
    from psycopg import AsyncConnection

CLOSE_SECONDS = 2.0
"""How long a pool waits for the end of a connection that it drops, when one is acquired."""


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
            opener = psycopg_async_opener(connect=super().connect, **{**kwargs, **told})
            return await client.login(opener.open, opener.is_refusal)

    class Pool(pools.AsyncConnectionPool[LoggedIn]):
        """Drains itself."""

        drained_for = 0
        one_drains = asyncio.Lock()

        async def getconn(self, timeout: float | None = None) -> LoggedIn:  # noqa: ASYNC109 - psycopg's own
            await self.drain_dead()
            return await super().getconn(timeout)

        async def drain_dead(self) -> None:
            dead_before = client.dead_before(overlap_seconds)
            if self.drained_for < dead_before:
                async with self.one_drains:
                    if self.drained_for < dead_before:
                        await self.drain()
                        self.drained_for = dead_before

    async def check(connection: LoggedIn) -> None:
        await pool.drain_dead()
        refuse_dead(client, connection, overlap_seconds)
        if own_check is not None:
            await own_check(connection)

    own_check = of_pool.pop("check", None)
    pool = Pool(connection_class=LoggedIn, check=check, **{"open": False, **of_pool})
    given: pools.AsyncConnectionPool[Any] = pool
    return given


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
        opener = asyncpg_opener(**{**of_connection, **told})
        return await client.login(opener.open, opener.is_refusal)

    class LoggedInPool(asyncpg.Pool):  # type: ignore[misc]  # It has no types.
        """Gives no connection of a revoked generation; `_acquire` and `_con` are asyncpg's own names."""

        async def _acquire(self, timeout: float | None) -> Any:  # noqa: ASYNC109 - asyncpg's own
            async with asyncio.timeout(timeout):
                while True:
                    connection = await super()._acquire(timeout)
                    generation = client.generation_of(connection._con) or 0  # noqa: SLF001 - nothing else names it
                    if generation >= client.dead_before(overlap_seconds):
                        return connection
                    with suppress(Exception):  # It goes, whatever state it is in.
                        await connection.close(timeout=CLOSE_SECONDS)

    parameters = signature(asyncpg.create_pool).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is Parameter.KEYWORD_ONLY}
    return LoggedInPool(**{**defaults, **of_pool, "connect": connect})


def asyncmy_pool(
    client: AsyncCredentialClient,
    *,
    overlap_seconds: float,
    options: dict[str, Any] | None = None,
    minsize: int = 1,
    maxsize: int = 10,
    **of_pool: Any,
) -> "asyncmy.pool.Pool":
    """An asyncmy pool (0.2.18 or newer) that logs in with the credential, and drops connections of revoked generations.

        async with asyncmy_pool(login, overlap_seconds=600, options={"ssl_ca": "ca.pem"}, maxsize=8) as pool:

    A connection is dropped when it is acquired: another one is opened, and the application notices nothing.

    Args:
        client: Gives the credential.
        overlap_seconds: `overlap` in the plan.
        options: As for `connect_pymysql`, for `asyncmy.connect`.
        minsize: How many connections are opened by the first that is acquired.
        maxsize: How many there are at most.
        of_pool: For `asyncmy.pool.Pool`, which belongs to the event loop that runs.
    """
    from asyncmy.pool import Pool

    told = options or {}
    asyncmy_opener(**told)

    class LoggedInPool(Pool):
        """Opens connections with the client's value; `_acquire`, `_free` and `_conn_kwargs` are asyncmy's own names."""

        _free: "deque[AsyncmyConnection]"

        async def fill_free_pool(self, override_min: bool = False) -> None:  # noqa: FBT001, FBT002 - asyncmy's own
            async def fill(**login: Any) -> None:
                self._conn_kwargs = login
                try:
                    await super(LoggedInPool, self).fill_free_pool(override_min)
                finally:
                    self._conn_kwargs = {}

            opener = asyncmy_opener(connect=fill, **told)

            async def open_missing(credential: ClientCredential) -> None:
                try:
                    await opener.open(credential)
                finally:
                    for connection in self._free:
                        if client.generation_of(connection) is None:
                            client.opened(connection, credential)

            await client.login(open_missing, opener.is_refusal)

        async def _acquire(self) -> "AsyncmyConnection":
            while True:
                connection: AsyncmyConnection = await super()._acquire()  # type: ignore[misc]  # Not in its stubs.
                if (client.generation_of(connection) or 0) >= client.dead_before(overlap_seconds):
                    return connection
                try:
                    with suppress(Exception):  # It goes, whatever state it is in.
                        await connection.ensure_closed()
                finally:
                    connection.close()
                    self.release(connection)

    return LoggedInPool(minsize, maxsize, **of_pool)
