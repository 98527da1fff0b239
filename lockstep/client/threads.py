"""The client for programs with threads, or with one."""

from asyncio import wrap_future
from collections.abc import Awaitable, Callable
from typing import TypeVar

from lockstep.client.cache import ClientCredential, CredentialCache, without_locals
from lockstep.protocol.errors import LockstepError

Connection = TypeVar("Connection")


class CredentialClient(CredentialCache[ClientCredential]):
    """Gives the credential, and logs in with it. One serves the whole process."""

    def get(self) -> ClientCredential:
        """The credential, at once if a value was ever read; `age_seconds` tells how old it is.

        Raises:
            StoreUnreachableError: No store answers, and nothing was ever read, or only what is older than
                `refuse_after_seconds`; likewise the other errors of sources.
        """
        return self.current().result()

    def refresh(self, refused: ClientCredential) -> ClientCredential:
        """A newer value, after `refused` was not let in; `refused` itself if no store has one."""
        return self.after_refusal(refused).result()

    def login(
        self, connect: Callable[[ClientCredential], Connection], is_refusal: Callable[[Exception], bool]
    ) -> Connection:
        """Connect; when the login is refused, read afresh and try once more.

        The traceback of what `connect` raises has no local variables, since a driver keeps the password in some.

        Args:
            connect: Makes a connection.
            is_refusal: Whether an exception of `connect` means a wrong password.

        Raises:
            LockstepError: As `get` does.
            Exception: What `connect` raised, the second time or for another reason than a refusal. Where no store
                answers after a refusal, the refusal, with the store's error as its cause.
        """
        credential = self.get()
        try:
            with without_locals():
                return self.opened(connect(credential), credential)
        except Exception as e:
            if not is_refusal(e):
                raise
            try:
                fresh = self.refresh(credential)
            except LockstepError as unanswered:
                raise e from unanswered
            if fresh == credential:
                raise
        with without_locals():
            return self.opened(connect(fresh), fresh)


# The client for programs with an event loop.


class AsyncCredentialClient:
    """Gives the credential, and logs in with it, without blocking the event loop: reads run in threads.

    Waiters share one read. One that is cancelled does not end it for the others.

    Args:
        cache: Threads and any number of event loops may use it at the same time.
    """

    def __init__(self, cache: CredentialClient) -> None:
        self.cache = cache

    async def get(self) -> ClientCredential:
        """As `CredentialClient.get`."""
        return await wrap_future(self.cache.current())

    async def refresh(self, refused: ClientCredential) -> ClientCredential:
        """As `CredentialClient.refresh`."""
        return await wrap_future(self.cache.after_refusal(refused))

    async def login(
        self,
        connect: Callable[[ClientCredential], Awaitable[Connection]],
        is_refusal: Callable[[Exception], bool],
    ) -> Connection:
        """As `CredentialClient.login`."""
        credential = await self.get()
        try:
            with without_locals():
                return self.cache.opened(await connect(credential), credential)
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
            return self.cache.opened(await connect(fresh), fresh)
