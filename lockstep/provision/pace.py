"""How many writes a second: below a quota that all of an account share, and slower where the service asks for it."""

from collections.abc import Callable
from threading import Lock

AWS_QUOTA = 50
"""CreateSecret, and TagResource likewise, a second in a region; neither can be raised
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html)."""
AWS_RATE = 25.0
"""Leaves half to what else the account does."""
OCI_RATE = 5.0
"""Oracle publishes no limit of Vault."""
SLOWEST = 0.5
"""A second."""
_PART = 100
"""So many successes bring back the rate that one refusal has halved, and no more than that."""
_AT_MOST_EVERY = 1.0
"""Threads that are refused together slow down once."""


class Pace:
    """Lets calls begin one after the other, never more than `rate` in any second.

    A refusal halves the rate; each success brings a part of it back, up to the rate at first. Threads may share it.

    Args:
        rate: Calls a second.
        monotonic: Seconds that only grow.
        sleep: Waits.
    """

    def __init__(
        self, rate: float, *, monotonic: Callable[[], float], sleep: Callable[[float], object]
    ) -> None:
        self._most = self._rate = rate
        self._monotonic, self._sleep = monotonic, sleep
        self._lock, self._changing = Lock(), Lock()
        self._next = self._slowed_at = float("-inf")

    @property
    def rate(self) -> float:
        """Calls a second, now."""
        return self._rate

    def wait(self) -> None:
        """Return when the next call may begin: at least `1 / rate` after the one before did."""
        # Who sleeps holds the lock, so that two that wake late do not begin together.
        with self._lock:
            if (wait := self._next - self._monotonic()) > 0:
                self._sleep(wait)
            self._next = self._monotonic() + 1 / self._rate

    def slower(self) -> None:
        """A call was refused, because there were too many."""
        with self._changing:
            now = self._monotonic()
            if now - self._slowed_at >= _AT_MOST_EVERY:
                self._slowed_at = now
                self._rate = max(self._rate / 2, min(SLOWEST, self._most))

    def faster(self) -> None:
        """A call was taken."""
        with self._changing:
            self._rate = min(self._rate + self._most / 2 / _PART, self._most)
