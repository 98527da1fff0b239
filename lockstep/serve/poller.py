"""Looks again and again, for all browsers together: often while somebody looks, rarely while nobody does."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from lockstep.environment import line_of
from lockstep.errors import LockstepError
from lockstep.ports import Clock
from lockstep.serve.looking import Look, Looker

RUNNING_SECONDS = 1.0
"""Between two looks while a run is under way and somebody looks."""
WATCHED_SECONDS = 2.0
"""Between two looks while somebody looks."""
MANY_SECONDS = 30.0
"""The same with more credentials than are read one by one, whether or not a run is under way."""
ALONE_SECONDS = 300.0
"""Between two looks while nobody looks."""
WATCHED_FOR = 30.0
"""So long after a request somebody is taken to look."""
PATIENCE_SECONDS = 1.5
"""So long a request waits for the next look where the last one is old."""
_END_SECONDS = 5.0


class Poller:
    """The last look, and the thread that takes the next one.

    Args:
        looker: Takes a look.
        clock: Measures time.
    """

    def __init__(self, looker: Looker, clock: Clock) -> None:
        self._looker = looker
        self._clock = clock
        self._asked: dict[str, float] = {}
        self._watched_at = float("-inf")
        self._wake = threading.Event()
        self._fresh = threading.Event()
        self._over = False
        self._looked_at = clock.monotonic()
        self.latest: Look = looker.look((), records_only=True)

    def ask(self, credential_id: str | None = None) -> None:
        """Somebody looks, at all credentials or at one. Where the last look is old, the next one is waited for."""
        moment = self._clock.monotonic()
        self._watched_at = moment
        is_new = credential_id is not None and credential_id not in self._watched()
        if credential_id is not None:
            self._asked[credential_id] = moment
        if is_new or moment - self._looked_at > self.seconds:
            self._fresh.clear()
            self._wake.set()
            self._fresh.wait(PATIENCE_SECONDS)

    @property
    def seconds(self) -> float:
        """Between two looks, as things are now."""
        if self._clock.monotonic() - self._watched_at > WATCHED_FOR:
            return ALONE_SECONDS
        if not self._looker.is_of_few:
            return MANY_SECONDS
        return RUNNING_SECONDS if self.latest.running(self._clock.now()) else WATCHED_SECONDS

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look in a thread until the end of the block. A call that is under way is not waited for long."""
        thread = threading.Thread(target=self._look_until_over, name="lockstep-look", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over = True
            self._wake.set()
            thread.join(_END_SECONDS)

    def _look_until_over(self) -> None:
        while not self._over:
            self._wake.clear()
            try:
                self.latest = self._looker.look(self._watched())
            except LockstepError as error:
                self.latest = replace(self.latest, problem=line_of(error))
            except Exception as error:  # noqa: BLE001 - the page must tell it, and the next look may succeed
                self.latest = replace(self.latest, problem=f"UnexpectedError: {type(error).__name__}")
            self._looked_at = self._clock.monotonic()
            self._fresh.set()
            self._wake.wait(self.seconds)

    def _watched(self) -> list[str]:
        oldest = self._clock.monotonic() - WATCHED_FOR
        return [credential_id for credential_id, at in list(self._asked.items()) if at >= oldest]
