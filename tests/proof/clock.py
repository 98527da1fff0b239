"""Time for a proof: it passes by itself, jumps when told to, and nobody sleeps."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from unittest.mock import patch

from lockstep.system import SystemClock


class JumpingClock:
    """Real time and what was jumped ahead."""

    def __init__(self) -> None:
        self._ahead_seconds = 0.0

    @property
    def ahead_seconds(self) -> float:
        """How far it is ahead of the machine's."""
        return self._ahead_seconds

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
        """Let time pass at once: this is also how everybody sleeps."""
        self._ahead_seconds += seconds

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Make it the machine's clock for Lockstep, which asks `SystemClock` and nobody else."""
        with (
            patch.object(SystemClock, "now", lambda _: self.now()),
            patch.object(SystemClock, "monotonic", lambda _: self.monotonic()),
            patch.object(SystemClock, "sleep", lambda _, seconds: self.jump(seconds)),
        ):
            yield
