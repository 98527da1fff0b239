"""Seconds that go on while the machine is suspended.

A value ages while a laptop sleeps or a virtual machine is paused, and Python's monotonic clock stands still meanwhile
on Linux (clock_gettime(2), CLOCK_MONOTONIC).
"""

import time
from collections.abc import Callable

from lockstep.system import SystemClock, boot_seconds

Seconds = Callable[[], float]


class ComparedClocks:
    """For systems without a clock that counts suspended time: of two clocks the one that went further.

    A wall clock that is set forward ages a value too much, which costs one read; one that is set back changes nothing.

    Args:
        monotonic: Seconds that only grow.
        wall: Seconds of the wall clock.
    """

    def __init__(self, monotonic: Seconds, wall: Seconds) -> None:
        self._monotonic, self._wall = monotonic, wall
        self._last = monotonic(), wall()
        self._elapsed_seconds = 0.0

    def __call__(self) -> float:
        """Seconds since this clock was made. Not for several threads at once."""
        now = self._monotonic(), self._wall()
        self._elapsed_seconds += max(0.0, *(new - old for new, old in zip(now, self._last, strict=True)))
        self._last = now
        return self._elapsed_seconds


def suspend_aware_clock() -> Seconds:
    """CLOCK_BOOTTIME where there is one (Linux), else the monotonic and the wall clock compared."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return boot_seconds
    system = SystemClock()
    return ComparedClocks(system.monotonic, lambda: system.now().timestamp())
