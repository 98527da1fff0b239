"""psycopg, asyncpg and asyncmy in an event loop, under the same rules as `lockstep.client.drivers`."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from lockstep.client.cache import ClientCredential
from lockstep.client.drivers import (
    MYSQL,
    POSTGRESQL,
    Opener,
    address,
    psycopg_options,
    verifying_context,
)
from lockstep.client.threads import AsyncCredentialClient
from lockstep.protocol.engines import is_mysql_refusal, is_postgresql_refusal
from lockstep.protocol.errors import TlsVerificationError

if TYPE_CHECKING:
    import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no type information
    import psycopg


async def connect_psycopg_async(
    client: AsyncCredentialClient, *, database: str | None = None, plaintext: bool = False, **options: Any
) -> "psycopg.AsyncConnection[Any]":
    """As `connect_psycopg`, for an event loop."""
    opener = psycopg_async_opener(database=database, plaintext=plaintext, **options)
    return await client.login(opener.open, opener.is_refusal)


async def connect_asyncpg(
    client: AsyncCredentialClient, *, database: str | None = None, plaintext: bool = False, **options: Any
) -> "asyncpg.Connection[Any]":
    """An asyncpg connection over verified TLS.

    Args:
        client: Gives the credential.
        database: As for `connect_psycopg`.
        plaintext: Consents to a connection without TLS, or without a verified certificate.
        options: For `asyncpg.connect`. `ssl_ca` is a CA file, `ssl` a context; without them the system's CAs count.
            `dbname` is asyncpg's `database`.

    Raises:
        ValueError: The options switch verification off, or the database is of another engine.
        LookupError: The credential has no database of this name.
    """
    opener = asyncpg_opener(database=database, plaintext=plaintext, **options)
    return await client.login(opener.open, opener.is_refusal)


def psycopg_async_opener(
    *,
    database: str | None = None,
    plaintext: bool = False,
    connect: "Callable[..., Awaitable[psycopg.AsyncConnection[Any]]] | None" = None,
    **options: Any,
) -> "Opener[Awaitable[psycopg.AsyncConnection[Any]]]":
    """What `connect_psycopg_async` logs in with; `connect` replaces `psycopg.AsyncConnection.connect`."""
    import psycopg

    checked = psycopg_options(options, plaintext=plaintext)
    make: Callable[..., Awaitable[psycopg.AsyncConnection[Any]]] = connect or psycopg.AsyncConnection.connect

    async def open_one(credential: ClientCredential) -> "psycopg.AsyncConnection[Any]":
        connection = await make(
            **address(credential, database, POSTGRESQL, checked),
            **checked,
            user=credential.username,
            password=credential.password.reveal(),
        )
        if not (plaintext or connection.pgconn.ssl_in_use):
            await connection.close()
            raise TlsVerificationError
        return connection

    return Opener(open_one, is_postgresql_refusal)


def asyncpg_opener(
    *, database: str | None = None, plaintext: bool = False, **options: Any
) -> "Opener[Awaitable[asyncpg.Connection[Any]]]":
    """What `connect_asyncpg` logs in with. With a context, asyncpg sends nothing to a server without TLS."""
    import asyncpg

    return Opener(
        _with_context(asyncpg.connect, POSTGRESQL, database, options, plaintext=plaintext),
        is_postgresql_refusal,
    )


def asyncmy_opener(
    *,
    database: str | None = None,
    plaintext: bool = False,
    connect: Callable[..., Awaitable[Any]] | None = None,
    **options: Any,
) -> Opener[Awaitable[Any]]:
    """What pools log in with through asyncmy, which sends nothing before TLS where it has a context.

    `connect` replaces `asyncmy.connect`.
    """
    import asyncmy

    make = connect or asyncmy.connect
    return Opener(_with_context(make, MYSQL, database, options, plaintext=plaintext), is_mysql_refusal)


def _with_context(
    make: Callable[..., Awaitable[Any]],
    engines: frozenset[str],
    database: str | None,
    options: dict[str, Any],
    *,
    plaintext: bool,
) -> Callable[[ClientCredential], Awaitable[Any]]:
    if not plaintext:
        options["ssl"] = verifying_context(options)

    async def connect(credential: ClientCredential) -> Any:
        told = {**address(credential, database, engines, options), **options}
        told["database"] = told.pop("dbname", None)
        return await make(user=credential.username, password=credential.password.reveal(), **told)

    return connect
