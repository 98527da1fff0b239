"""Pools whose new connections use the current value, and whose old ones go once their generation is revoked.

A changed password ends no session, so without more a pool keeps connections of logins that were revoked long ago.
"""

import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from lockstep.client.cache import ClientCredential
from lockstep.client.drivers import Opener, psycopg_opener, pymysql_opener
from lockstep.client.drivers_async import asyncmy_opener, asyncpg_opener, psycopg_async_opener
from lockstep.client.threads import AsyncCredentialClient, CredentialClient

if TYPE_CHECKING:
    import psycopg_pool as pools
    from psycopg import AsyncConnection
    from psycopg import Connection as PsycopgConnection
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

Connection = TypeVar("Connection")
_STAMP = "lockstep_generation"
_OPENERS: dict[str, Callable[..., Opener[Any]]] = {"pymysql": pymysql_opener, "psycopg": psycopg_opener}
_ASYNC_OPENERS: dict[str, Callable[..., Opener[Awaitable[Any]]]] = {
    "asyncmy": asyncmy_opener,
    "asyncpg": asyncpg_opener,
    "psycopg": psycopg_async_opener,
}


def sqlalchemy_creator(
    client: CredentialClient, connect: Callable[..., Connection], **options: Any
) -> Callable[[], Connection]:
    """The `creator` of a SQLAlchemy engine, for a driver that `attach_sqlalchemy` does not know."""
    return lambda: connect(client, **options)


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
        raise ValueError(f"{driver} is not among {', '.join(openers)}; use sqlalchemy_creator")
    make = openers[driver]
    make(**options)  # A wrong option is an error here, and not at the first connection.

    @event.listens_for(inner, "do_connect")
    def connect(_dialect: Any, record: Any, _arguments: Any, told: dict[str, Any]) -> Any:
        if not is_async:
            opener = _stamping(make, record, told, options)
            return client.login(opener.open, opener.is_refusal)

        async def log_in(*_no_arguments: Any, **of_dialect: Any) -> Any:
            opener = _stamping(make, record, of_dialect, options)
            return await AsyncCredentialClient(client).login(opener.open, opener.is_refusal)

        told["async_creator_fn"] = log_in
        return None

    @event.listens_for(inner, "checkout")
    def retire(_connection: Any, record: Any, _proxy: Any) -> None:
        if record.info.get(_STAMP, 0) < client.dead_before(overlap_seconds):
            raise DisconnectionError("its generation is revoked")


def _stamping(
    make: Callable[..., Opener[Connection]], record: Any, told: dict[str, Any], options: dict[str, Any]
) -> Opener[Connection]:
    """An opener that notes the generation in the pool's record of the connection. `told` is from the engine's URL."""
    names = {"database": "dbname"}
    from_url = {names.get(k, k): v for k, v in told.items() if k not in ("user", "password")}
    opener = make(**{**from_url, **options})

    def connect(credential: ClientCredential) -> Connection:
        if record is not None:
            record.info[_STAMP] = credential.generation
        return opener.open(credential)

    return Opener(connect, opener.is_refusal)


def psycopg_pool(
    client: CredentialClient,
    *,
    overlap_seconds: float,
    options: dict[str, Any] | None = None,
    **of_pool: Any,
) -> "pools.ConnectionPool[PsycopgConnection[Any]]":
    """A psycopg_pool (3.3 or newer) that logs in with the credential, and drops connections of revoked generations.

        with psycopg_pool(credential, overlap_seconds=600, options={"sslrootcert": "ca.pem"}, max_size=8) as pool:

    When a connection is taken from the pool, and a newer generation is as old as the overlap, the pool is drained once:
    idle connections are closed, those in use when they are given back.

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
            opener = psycopg_opener(connect=super().connect, **{**kwargs, **told})
            return client.login(opener.open, opener.is_refusal)

    class Pool(pools.ConnectionPool[LoggedIn]):
        """Drains itself."""

        drained_for = 0
        one_drains = threading.Lock()

        def getconn(self, timeout: float | None = None) -> LoggedIn:
            self.drain_dead()
            return super().getconn(timeout)

        def drain_dead(self) -> None:
            dead_before = client.dead_before(overlap_seconds)
            with self.one_drains:
                if self.drained_for < dead_before:
                    self.drain()
                    self.drained_for = dead_before

    def check(connection: LoggedIn) -> None:
        pool.drain_dead()
        refuse_dead(client, connection, overlap_seconds)
        if own_check is not None:
            own_check(connection)

    own_check = of_pool.pop("check", None)
    pool = Pool(connection_class=LoggedIn, check=check, **{"open": False, **of_pool})
    given: pools.ConnectionPool[Any] = pool
    return given


def refuse_dead(
    client: "CredentialClient | AsyncCredentialClient",
    connection: "PsycopgConnection[Any] | AsyncConnection[Any]",
    overlap_seconds: float,
) -> None:
    """The `check` of a psycopg_pool: a connection that was waited for may have been opened before its pool was drained.

    Raises:
        OperationalError: Its generation is revoked; it is closed, so the pool opens another one.
    """
    import psycopg

    if (client.generation_of(connection) or 0) < client.dead_before(overlap_seconds):
        connection.pgconn.finish()  # `close` may give it back (`close_returns`).
        raise psycopg.OperationalError("its generation is revoked")
