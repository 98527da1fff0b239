"""The drivers, of threads and event loops: where a login goes, and that no password crosses a network unencrypted.

A driver left to itself logs in without TLS where the server offers none: PyMySQL without TLS options, psycopg with
libpq's default `sslmode=prefer`. With `sslmode=require` no certificate is verified, and whoever answers may ask for the
password in plaintext (https://www.postgresql.org/docs/current/libpq-ssl.html). So a verified certificate and host name
are demanded, and anything less takes the words `plaintext=True`.
"""

import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from lockstep.client.cache import ClientCredential
from lockstep.client.threads import AsyncCredentialClient, CredentialClient
from lockstep.protocol.errors import TlsVerificationError
from lockstep.protocol.model import Engine, is_mysql_refusal, is_postgresql_refusal

if TYPE_CHECKING:
    import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no type information
    import psycopg
    import pymysql

Made_co = TypeVar("Made_co", covariant=True)
MYSQL = frozenset({Engine.MYSQL.value, Engine.MARIADB.value})
POSTGRESQL = frozenset({Engine.POSTGRESQL.value})
VERIFY_FULL = "verify-full"
_OWN_ADDRESS = {"host", "hostaddr", "service", "conninfo", "unix_socket"}
_NEED_PLAINTEXT = "a verified certificate and host name are demanded; plaintext=True consents to less"


class Opener(NamedTuple, Generic[Made_co]):
    """How a driver opens a connection with a credential, and which of its errors are refused logins."""

    open: Callable[[ClientCredential], Made_co]
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
            secret is used. `dbname` is PyMySQL's `database`. `ssl_ca` is a CA file; without one the system's CAs count.

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
        options: For `asyncpg.connect`. `ssl_ca` is a CA file, `ssl` a context; without them the system's CAs count.
            `dbname` is asyncpg's `database`.

    Raises:
        ValueError: The options switch verification off, or the database is of another engine.
        LookupError: The credential has no database of this name.
    """
    return await client.login(*asyncpg_opener(database=database, plaintext=plaintext, **options))


def pymysql_opener(
    *,
    database: str | None = None,
    plaintext: bool = False,
    connect: "Callable[..., pymysql.connections.Connection[Any]] | None" = None,
    **options: Any,
) -> "Opener[pymysql.connections.Connection[Any]]":
    """What `connect_pymysql` logs in with; `connect` replaces `pymysql.connect`."""
    import pymysql

    make: Callable[..., pymysql.connections.Connection[Any]] = connect or pymysql.connect
    if not plaintext:
        options["ssl"] = verifying_context(options)

    def open_one(credential: ClientCredential) -> "pymysql.connections.Connection[Any]":
        connection = make(**_told(credential, database, MYSQL, options))
        # Since PyMySQL 1.2 nothing is sent to a server without TLS; older ones went on in plaintext.
        if not plaintext and not isinstance(getattr(connection, "_sock", None), ssl.SSLSocket):
            connection.close()
            raise TlsVerificationError
        return connection

    return Opener(open_one, is_mysql_refusal)


def psycopg_opener(
    *,
    database: str | None = None,
    plaintext: bool = False,
    connect: "Callable[..., psycopg.Connection[Any]] | None" = None,
    **options: Any,
) -> "Opener[psycopg.Connection[Any]]":
    """What `connect_psycopg` logs in with; `connect` replaces `psycopg.connect`."""
    import psycopg

    checked, make = psycopg_options(options, plaintext=plaintext), connect or psycopg.connect

    def open_one(credential: ClientCredential) -> "psycopg.Connection[Any]":
        connection = make(**_told(credential, database, POSTGRESQL, checked, dbname="dbname"))
        if not (plaintext or connection.pgconn.ssl_in_use):  # For example a Unix socket.
            connection.close()
            raise TlsVerificationError
        return connection

    return Opener(open_one, is_refused_by_postgresql)


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
        connection = await make(**_told(credential, database, POSTGRESQL, checked, dbname="dbname"))
        if not (plaintext or connection.pgconn.ssl_in_use):
            await connection.close()
            raise TlsVerificationError
        return connection

    return Opener(open_one, is_refused_by_postgresql)


def asyncpg_opener(
    *, database: str | None = None, plaintext: bool = False, **options: Any
) -> "Opener[Awaitable[asyncpg.Connection[Any]]]":
    """What `connect_asyncpg` logs in with. With a context, asyncpg sends nothing to a server without TLS."""
    import asyncpg

    connect = _with_context(asyncpg.connect, POSTGRESQL, database, options, plaintext=plaintext)
    return Opener(connect, is_refused_by_postgresql)


def is_refused_by_postgresql(error: Exception) -> bool:
    """Whether a login ended after the other side had asked for the password, in whatever words.

    A pooler has words of its own: 08P01 of pgbouncer, XX000 of Pgpool-II. libpq tells that a password was asked for;
    asyncpg tells the words alone. What is no refusal costs a read too much, of which there is one in five seconds.
    """
    asked = getattr(getattr(error, "pgconn", None), "used_password", False)
    return asked or getattr(error, "sqlstate", None) in {"08P01", "XX000"} or is_postgresql_refusal(error)


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
        return await make(**_told(credential, database, engines, options))

    return connect


def _told(
    credential: ClientCredential,
    database: str | None,
    engines: frozenset[str],
    options: Mapping[str, Any],
    *,
    dbname: str = "database",
) -> dict[str, Any]:
    """What a driver is told; `dbname` is its name for the database."""
    told = {**address(credential, database, engines, options), **options}
    if "dbname" in told:
        told[dbname] = told.pop("dbname")
    return {**told, "user": credential.username, "password": credential.password.reveal()}


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


def psycopg_options(options: Mapping[str, Any], *, plaintext: bool) -> dict[str, Any]:
    """The options for psycopg, with verification demanded unless `plaintext` is."""
    if plaintext:
        return dict(options)
    # Without gssencmode, a Kerberos ticket would make libpq pass sslmode over.
    checked = {"sslmode": VERIFY_FULL, "gssencmode": "disable", **options}
    if checked["sslmode"] != VERIFY_FULL:
        raise ValueError(f"sslmode={checked['sslmode']}: {_NEED_PLAINTEXT}")
    return checked


def verifying_context(options: dict[str, Any]) -> ssl.SSLContext:
    """The TLS options of PyMySQL, taken out of `options`, as a context that verifies."""
    given = options.pop("ssl", None)
    if isinstance(given, str) and given != VERIFY_FULL:
        raise ValueError(f"ssl={given}: {_NEED_PLAINTEXT}")
    told = dict(given) if isinstance(given, Mapping) else {}
    told |= {k.removeprefix("ssl_"): options.pop(k) for k in [*options] if k.startswith("ssl_")}
    if told.pop("disabled", False):
        raise ValueError(f"ssl_disabled: {_NEED_PLAINTEXT}")
    for switch in ("verify_cert", "verify_identity", "verify_mode", "check_hostname"):
        if told.pop(switch, True) not in (True, ssl.CERT_REQUIRED, "required"):
            raise ValueError(f"{switch}: {_NEED_PLAINTEXT}")
    if isinstance(given, ssl.SSLContext):
        context = given
    else:
        context = ssl.create_default_context(cafile=told.pop("ca", None), capath=told.pop("capath", None))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if "cert" in told:
            password = told.pop("key_password", None) or told.pop("password", None)
            context.load_cert_chain(told.pop("cert"), told.pop("key", None), password)
    if told:
        raise ValueError(f"TLS options without an effect: {', '.join(sorted(told))}")
    if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
        raise ValueError(f"the context verifies too little: {_NEED_PLAINTEXT}")
    return context
