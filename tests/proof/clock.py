"""Time for a proof: it passes by itself and jumps when told to; a sleep is a jump."""

from datetime import datetime, timedelta

from lockstep.runtime.system import SystemClock


class JumpingClock(SystemClock):
    """Real time and what was jumped ahead."""

    _ahead_seconds = 0.0

    def now(self) -> datetime:
        """The wall clock, aware."""
        return super().now() + timedelta(seconds=self._ahead_seconds)

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return super().monotonic() + self._ahead_seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass at once."""
        self._ahead_seconds += seconds

    jump = sleep
