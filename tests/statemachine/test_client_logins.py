"""New connections without a pause through live rotations, with each driver: no login is refused."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from lockstep.client import (
    AsyncCredentialClient,
    CredentialClient,
    connect_asyncpg,
    connect_psycopg,
    connect_psycopg_async,
    connect_pymysql,
)
from tests.statemachine.conftest import Case
from tests.statemachine.test_client import ca_file, server
from tests.statemachine.test_client_pools import (
    OVERLAP_SECONDS,
    ROTATIONS,
    WHO,
    Clock,
    Queries,
    client_of,
    has_generation,
    until,
)


def with_pymysql(client: CredentialClient, ca: str) -> str:
    with connect_pymysql(client, database="orders", ssl_ca=ca) as connection, connection.cursor() as cursor:
        cursor.execute(WHO["orders"])
        [name] = cursor.fetchone() or [""]
    return str(name).removesuffix("@%")


def with_psycopg(client: CredentialClient, ca: str) -> str:
    with connect_psycopg(client, database="ledger", sslrootcert=ca) as connection:
        [name] = connection.execute(WHO["ledger"]).fetchone() or [""]
    return str(name)


def with_psycopg_async(client: CredentialClient, ca: str) -> str:
    async def log_in() -> str:
        face = AsyncCredentialClient(client)
        async with await connect_psycopg_async(face, database="ledger", sslrootcert=ca) as connection:
            [name] = await (await connection.execute(WHO["ledger"])).fetchone() or [""]
        return str(name)

    return asyncio.run(log_in())


def with_asyncpg(client: CredentialClient, ca: str) -> str:
    async def log_in() -> str:
        connection = await connect_asyncpg(AsyncCredentialClient(client), database="ledger", ssl_ca=ca)
        try:
            return str(await connection.fetchval(WHO["ledger"]))
        finally:
            await connection.close()

    return asyncio.run(log_in())


@pytest.mark.parametrize("log_in", [with_pymysql, with_psycopg, with_psycopg_async, with_asyncpg])
def test_no_login_is_refused(spanning: Case, log_in: Callable[[CredentialClient, str], str]) -> None:
    spanning.rotate()
    clock = Clock()
    client = client_of(spanning, clock)
    logins = Queries(partial(log_in, client, ca_file(server(spanning, "orders"))))
    with logins.running():
        for generation in range(2, ROTATIONS + 2):
            logins.settle()
            execution = spanning.again()
            assert execution.status == "SUCCEEDED", execution.cause
            clock.ahead_seconds += OVERLAP_SECONDS / 4  # Half of the maximum age, and within the overlap.
            until(partial(has_generation, client, generation))
            assert logins.settle() == {spanning.stored_login().username}
    assert logins.errors == []
    assert (client.status.refusals, client.status.failures) == (0, 0)
