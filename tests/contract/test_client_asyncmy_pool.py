"""asyncmy's pool with the client's value, on a real server: connections of revoked generations go unnoticed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from asyncmy.connection import Connection
from asyncmy.pool import Pool

from lockstep.client import AsyncCredentialClient, ClientCredential, CredentialClient, asyncmy_pool
from lockstep.protocol.model import SecretStr
from sandbox.databases import CertificateAuthority, MariaDbServer
from tests.support.memory import FakeClock
from tests.support.servers import require

OVERLAP_SECONDS = 600.0


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDbServer]:
    require(MariaDbServer)
    with MariaDbServer(authority=CertificateAuthority(tmp_path_factory.mktemp("ca"))) as server:
        for generation in (1, 2):
            server.execute_as_superuser(f"CREATE USER app_{generation}@'%' IDENTIFIED BY 'pw-{generation}'")
        yield server


class World:
    """A store that serves one generation after the other, each with a user of its own."""

    def __init__(self, server: MariaDbServer) -> None:
        self.server = server
        self.generation = 1
        self.wrong: set[int] = set()
        self.clock = FakeClock()
        self.client = CredentialClient(
            [self._read], max_age_seconds=OVERLAP_SECONDS / 2, clock=self.clock.monotonic
        )

    def _read(self) -> ClientCredential:
        password = "not-it" if self.generation in self.wrong else f"pw-{self.generation}"
        return ClientCredential(
            username=f"app_{self.generation}",
            password=SecretStr(password),
            generation=self.generation,
            connection={"host": self.server.host, "port": self.server.port},
        )

    def let_generation_1_die(self) -> None:
        self.generation = 2
        self.clock.sleep(OVERLAP_SECONDS / 2)
        assert self.client.get(wait_seconds=10).generation == 2
        self.clock.sleep(OVERLAP_SECONDS)

    def run(self, work: Callable[[Pool], Awaitable[None]], *, maxsize: int = 2) -> None:
        async def with_pool() -> None:
            face = AsyncCredentialClient(self.client)
            options = {"ssl_ca": str(self.server.ca_file)}
            async with asyncmy_pool(
                face, overlap_seconds=OVERLAP_SECONDS, options=options, maxsize=maxsize
            ) as pool:
                await work(pool)

        asyncio.run(asyncio.wait_for(with_pool(), 60))


async def _user(connection: Connection) -> str:
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT CURRENT_USER()")
        [name] = await cursor.fetchone()
    return str(name).removesuffix("@%")


async def _next_user(pool: Pool) -> str:
    async with pool.acquire() as connection:
        return await _user(connection)


def test_a_connection_in_use_is_not_cut_when_its_generation_dies(mariadb: MariaDbServer) -> None:
    world = World(mariadb)

    async def work(pool: Pool) -> None:
        async with pool.acquire() as connection:
            await asyncio.to_thread(world.let_generation_1_die)
            assert await _next_user(pool) == "app_2"
            assert await _user(connection) == "app_1"
        assert {await _next_user(pool) for _ in range(4)} == {"app_2"}
        assert pool.size <= 2

    world.run(work)


def test_who_gives_up_while_a_dead_connection_goes_takes_no_place_with_it(mariadb: MariaDbServer) -> None:
    world = World(mariadb)

    async def work(pool: Pool) -> None:
        async with pool.acquire() as connection:
            closed = asyncio.Event()

            async def hang() -> None:
                closed.set()
                await asyncio.Event().wait()

            connection.ensure_closed = hang  # type: ignore[method-assign]  # A server that has vanished.
        await asyncio.to_thread(world.let_generation_1_die)
        waiting = asyncio.ensure_future(_next_user(pool))
        await closed.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not connection.connected
        assert await _next_user(pool) == "app_2"

    world.run(work, maxsize=1)
