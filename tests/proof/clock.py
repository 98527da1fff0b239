"""Time for a proof: it passes by itself and jumps when told to; a sleep is a jump."""

import time
from datetime import UTC, datetime


class JumpingClock:
    """Real time and what was jumped ahead."""

    def __init__(self) -> None:
        self._ahead_seconds = 0.0

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self._ahead_seconds

    def now(self) -> datetime:
        """The wall clock, aware."""
        return datetime.fromtimestamp(self.time(), UTC)

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic() + self._ahead_seconds

    def jump(self, seconds: float) -> None:
        """Let time pass at once."""
        self._ahead_seconds += seconds

    def sleep(self, seconds: float) -> None:
        """Jump."""
        self.jump(seconds)
