"""The drivers, of threads and event loops: where a login goes, and that no password crosses a network unencrypted.

A driver left to itself logs in without TLS where the server offers none: PyMySQL without TLS options, psycopg with
libpq's default `sslmode=prefer`. With `sslmode=require` no certificate is verified, and whoever answers may ask for the
password in plaintext (https://www.postgresql.org/docs/current/libpq-ssl.html). So a verified certificate and host name
are demanded, and anything less takes the words `plaintext=True`.
"""

import ssl
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from lockstep.client.cache import ClientCredential
from lockstep.client.threads import AsyncCredentialClient, CredentialClient
from lockstep.protocol.errors import TlsVerificationError
from lockstep.protocol.model import Engine, is_mysql_refusal, is_postgresql_refusal

if TYPE_CHECKING:
    import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no type information
    import psycopg
    import pymysql

MYSQL = frozenset({Engine.MYSQL.value, Engine.MARIADB.value})
POSTGRESQL = frozenset({Engine.POSTGRESQL.value})
VERIFY_FULL = "verify-full"
_OWN_ADDRESS = {"host", "hostaddr", "service", "conninfo", "unix_socket"}
_NEED_PLAINTEXT = "a verified certificate and host name are demanded; plaintext=True consents to less"


class Opener(NamedTuple):
    """How a driver opens a connection with a credential, and which of its errors are refused logins."""

    open: Callable[[ClientCredential], Any]
    is_refusal: Callable[[Exception], bool]


def connect_pymysql(
    client: CredentialClient, *, database: str | None = None, plaintext: bool = False, **options: Any
) -> "pymysql.connections.Connection[Any]":
    """A PyMySQL connection over verified TLS.

    Args:
        client: Gives the credential.
        database: The database's name in the plan; the credential's first one by default. The source must read
            `connection_blob`.
        plaintext: Consents to a connection without TLS, or without a verified certificate.
        options: For `pymysql.connect`; they override what the secret says. With `host` nothing of the address in the
            secret is used. `dbname` is PyMySQL's `database`. `ssl_ca` is a CA file, `ssl` a context; without them the
            system's CAs count.

    Raises:
        ValueError: The options switch verification off, or the database is of another engine.
        LookupError: The credential has no database of this name.
    """
    return client.login(*pymysql_opener(database=database, plaintext=plaintext, **options))


def connect_psycopg(
    client: CredentialClient, *, database: str | None = None, plaintext: bool = False, **options: Any
) -> "psycopg.Connection[Any]":
    """A psycopg 3 connection over verified TLS.

    Args:
        client: Gives the credential.
        database: As for `connect_pymysql`.
        plaintext: Consents to a connection without TLS, or without a verified certificate.
        options: For `psycopg.connect`; they override what the secret says. With `host` nothing of the address in the
            secret is used. `sslrootcert` is a CA file, or `system`.

    Raises:
        ValueError: `sslmode` is below `verify-full`, or the database is of another engine.
        LookupError: The credential has no database of this name.
    """
    return client.login(*psycopg_opener(database=database, plaintext=plaintext, **options))


async def connect_psycopg_async(
    client: AsyncCredentialClient, *, database: str | None = None, plaintext: bool = False, **options: Any
) -> "psycopg.AsyncConnection[Any]":
    """As `connect_psycopg`, for an event loop."""
    return await client.login(*psycopg_async_opener(database=database, plaintext=plaintext, **options))


async def connect_asyncpg(
    client: AsyncCredentialClient, *, database: str | None = None, plaintext: bool = False, **options: Any
) -> "asyncpg.Connection[Any]":
    """An asyncpg connection over verified TLS.

    Args:
        client: Gives the credential.
        database: As for `connect_psycopg`.
        plaintext: Consents to a connection without TLS, or without a verified certificate.
        options: For `asyncpg.connect`, as for `connect_pymysql`.

    Raises:
        ValueError: The options switch verification off, or the database is of another engine.
        LookupError: The credential has no database of this name.
    """
    return await client.login(*asyncpg_opener(database=database, plaintext=plaintext, **options))


def pymysql_opener(*, connect: Callable[..., Any] | None = None, **options: Any) -> Opener:
    """What `connect_pymysql` logs in with; `connect` replaces `pymysql.connect`.

    With a context PyMySQL sends nothing to a server without TLS, nor do asyncpg and asyncmy.
    """
    import pymysql

    return _opener(connect or pymysql.connect, MYSQL, verifying_context, **options)


def psycopg_opener(*, connect: Callable[..., Any] | None = None, **options: Any) -> Opener:
    """What `connect_psycopg` logs in with; `connect` replaces `psycopg.connect`."""
    import psycopg

    return _opener(connect or psycopg.connect, POSTGRESQL, verifying_libpq, **options)


def psycopg_async_opener(*, connect: Callable[..., Any] | None = None, **options: Any) -> Opener:
    """What `connect_psycopg_async` logs in with; `connect` replaces `psycopg.AsyncConnection.connect`."""
    import psycopg

    make = connect or psycopg.AsyncConnection.connect
    return _opener(make, POSTGRESQL, verifying_libpq, is_async=True, **options)


def asyncpg_opener(**options: Any) -> Opener:
    """What `connect_asyncpg` logs in with."""
    import asyncpg

    return _opener(asyncpg.connect, POSTGRESQL, verifying_context, is_async=True, **options)


def asyncmy_opener(**options: Any) -> Opener:
    """What SQLAlchemy logs in with through asyncmy."""
    import asyncmy

    return _opener(asyncmy.connect, MYSQL, verifying_context, is_async=True, **options)


def _opener(
    make: Callable[..., Any],
    engines: frozenset[str],
    verifying: Callable[[dict[str, Any]], dict[str, Any]],
    *,
    is_async: bool = False,
    database: str | None = None,
    plaintext: bool = False,
    **options: Any,
) -> Opener:
    verified = options if plaintext else verifying(options)
    dbname = "dbname" if verifying is verifying_libpq else "database"

    def told(credential: ClientCredential) -> dict[str, Any]:
        found = {**address(credential, database, engines, verified), **verified}
        if "dbname" in found:
            found[dbname] = found.pop("dbname")
        return {**found, "user": credential.username, "password": credential.password.reveal()}

    def checked(connection: Any) -> Any:
        # Over a Unix socket libpq passes sslmode over.
        of_libpq = None if plaintext else getattr(connection, "pgconn", None)
        if of_libpq and not of_libpq.ssl_in_use:
            of_libpq.finish()
            raise TlsVerificationError
        return connection

    def connect(credential: ClientCredential) -> Any:
        return checked(make(**told(credential)))

    async def connect_async(credential: ClientCredential) -> Any:
        return checked(await make(**told(credential)))

    is_refusal = is_mysql_refusal if engines is MYSQL else is_refused_by_postgresql
    return Opener(connect_async if is_async else connect, is_refusal)


def is_refused_by_postgresql(error: Exception) -> bool:
    """Whether a login ended after the other side had asked for the password, in whatever words.

    A pooler has words of its own: 08P01 of pgbouncer, XX000 of Pgpool-II. libpq tells that a password was asked for;
    asyncpg tells the words alone. What is no refusal costs a read too much, of which there is one in five seconds.
    """
    asked = getattr(getattr(error, "pgconn", None), "used_password", False)
    return asked or getattr(error, "sqlstate", None) in {"08P01", "XX000"} or is_postgresql_refusal(error)


def address(
    credential: ClientCredential, database: str | None, engines: frozenset[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Host, port and dbname of a database of the credential, without those that the options have."""
    if _OWN_ADDRESS & options.keys():
        if database is not None:
            raise ValueError("a database of the plan has its own host")
        return {}
    where = credential.connection
    if database is not None:
        known = credential.databases
        if database not in known:
            listed = ", ".join(sorted(known)) or "none, since the source reads no connection_blob"
            raise LookupError(f"the credential has no database {database!r}; known are: {listed}")
        where = known[database]
    engine = where.get("engine")
    if engine is not None and engine not in engines:
        raise ValueError(
            f"{database or 'the first database'} is of the engine {engine}; name another: database=…"
        )
    return {k: where[k] for k in ("host", "port", "dbname") if k in where and k not in options}


def verifying_libpq(options: dict[str, Any]) -> dict[str, Any]:
    """The options for psycopg, with verification demanded."""
    # Without gssencmode, a Kerberos ticket would make libpq pass sslmode over.
    checked = {"sslmode": VERIFY_FULL, "gssencmode": "disable", **options}
    if checked["sslmode"] != VERIFY_FULL:
        raise ValueError(f"sslmode={checked['sslmode']}: {_NEED_PLAINTEXT}")
    return checked


def verifying_context(options: dict[str, Any]) -> dict[str, Any]:
    """The options for the other drivers, with a context that verifies: of `ssl_ca`, or the application's own."""
    context, ca = options.pop("ssl", None), options.pop("ssl_ca", None)
    both = context is not None and ca is not None
    if context is None:
        context = ssl.create_default_context(cafile=ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    others = [name for name in options if name.startswith("ssl_")]
    if others or both or not isinstance(context, ssl.SSLContext):
        raise ValueError(f"of TLS give `ssl_ca`, or a context as `ssl`: {_NEED_PLAINTEXT}")
    if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
        raise ValueError(f"the context verifies too little: {_NEED_PLAINTEXT}")
    return {**options, "ssl": context}
