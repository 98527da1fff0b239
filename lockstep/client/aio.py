"""The client for programs with an event loop."""

from asyncio import wait_for, wrap_future
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from lockstep.client.cache import ClientStatus, CredentialCache
from lockstep.client.credential import ClientCredential
from lockstep.client.tracebacks import without_locals
from lockstep.errors import LockstepError

Connection = TypeVar("Connection")


class AsyncCredentialClient:
    """Gives the credential, and logs in with it, without blocking the event loop: reads run in threads.

    Waiters share one read. One that is cancelled does not end it for the others.

    Args:
        cache: A `CredentialClient`. Threads and any number of event loops may use it at the same time.
    """

    def __init__(self, cache: CredentialCache) -> None:
        self._cache = cache

    async def get(self, *, wait_seconds: float = 0.0) -> ClientCredential:
        """As `CredentialClient.get`."""
        answer = self._cache.current()
        if answer.kept is None:
            return await wrap_future(answer.only_reading)
        if answer.reading and answer.is_old and wait_seconds > 0:
            with suppress(LockstepError, TimeoutError):
                return await wait_for(wrap_future(answer.reading), wait_seconds)
        return answer.kept

    async def refresh(self, refused: ClientCredential) -> ClientCredential:
        """As `CredentialClient.refresh`."""
        answer = self._cache.after_refusal(refused)
        if answer.kept is None:
            return await wrap_future(answer.only_reading)
        return answer.kept

    async def login(
        self,
        connect: Callable[[ClientCredential], Awaitable[Connection]],
        is_refusal: Callable[[Exception], bool],
    ) -> Connection:
        """As `CredentialClient.login`."""
        credential = await self.get()
        try:
            with without_locals():
                return self.opened(await connect(credential), credential)
        except Exception as e:
            if not is_refusal(e):
                raise
            try:
                fresh = await self.refresh(credential)
            except LockstepError as unanswered:
                raise e from unanswered
            if fresh == credential:
                raise
        with without_locals():
            return self.opened(await connect(fresh), fresh)

    def dead_before(self, overlap_seconds: float) -> int:
        """As `CredentialClient.dead_before`."""
        return self._cache.dead_before(overlap_seconds)

    def opened(self, connection: Connection, credential: ClientCredential) -> Connection:
        """As `CredentialClient.opened`."""
        return self._cache.opened(connection, credential)

    def generation_of(self, connection: object) -> int | None:
        """As `CredentialClient.generation_of`."""
        return self._cache.generation_of(connection)

    @property
    def status(self) -> ClientStatus:
        """As `CredentialClient.status`."""
        return self._cache.status
