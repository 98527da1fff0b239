"""How many calls the page makes to the clouds."""

import threading
from collections import deque
from collections.abc import Callable

MINUTE = 60.0


class Calls:
    """The calls of the last minute. For `before_send`; threads may share it.

    Args:
        monotonic: Seconds that only grow.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._made: deque[float] = deque()
        self._lock = threading.Lock()

    def count(self) -> None:
        """A call is about to be sent."""
        with self._lock:
            self._made.append(self._monotonic())

    @property
    def last_minute(self) -> int:
        """How many were made in it."""
        with self._lock:
            while self._made and self._made[0] < self._monotonic() - MINUTE:
                self._made.popleft()
            return len(self._made)
