"""How many calls the page makes to the clouds, and the most that they can cost."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction

from lockstep.cost.prices import PRICES

MINUTE = 60.0
PAGE_UNITS = 256
"""Read request units of a page of a scan: 1 MB, one for each 4 KB
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html)."""
DEAREST = max(PRICES[name].cost(1) for name in ("secret calls", "s3 put STANDARD", "kms mac requests"))
"""USD of the dearest call of a look beside scans: of Secrets Manager, or a listing of S3."""
SCANNED = PRICES["dynamodb reads"].cost(PAGE_UNITS)
"""USD of a page of a scan, at most."""


class Calls:
    """The calls of the last minute, and the most that they cost. For `before_send`; threads may share it.

    Args:
        monotonic: Seconds that only grow.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._made: deque[tuple[float, Fraction]] = deque()
        self._each = DEAREST
        self._lock = threading.Lock()

    def count(self) -> None:
        """A call is about to be sent."""
        with self._lock:
            self._made.append((self._monotonic(), self._each))

    @contextmanager
    def scanning(self) -> Iterator[None]:
        """Until the end of the block each call is a page of a scan."""
        self._each = max(SCANNED, DEAREST)
        try:
            yield
        finally:
            self._each = DEAREST

    @property
    def last_minute(self) -> int:
        """How many were made in it."""
        return len(self._recent())

    @property
    def usd_an_hour(self) -> float:
        """What an hour like the last minute costs at most, at list prices."""
        return float(60 * sum(usd for _, usd in self._recent()))

    def _recent(self) -> list[tuple[float, Fraction]]:
        with self._lock:
            while self._made and self._made[0][0] < self._monotonic() - MINUTE:
                self._made.popleft()
            return list(self._made)
