"""The emulator's time: what deletions, read lag, restores and UPDATING go by. Signature dates go by the real clock."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

# Object Storage and Vault show milliseconds: 2019-04-03T21:10:29.600Z (the example in the SDK's models).
_TIMESPEC = "milliseconds"


def real_time() -> datetime:
    """The machine's time; signatures are dated by it."""
    return datetime.now(UTC)


class SandboxClock:
    """A clock that follows another and can be moved ahead; safe to share between threads."""

    def __init__(self, follows: Callable[[], datetime]) -> None:
        """Follow `follows`, which answers aware times; `advance` comes on top."""
        self._follows = follows
        self._ahead = timedelta()
        self._lock = threading.Lock()

    @classmethod
    def ticking(cls) -> "SandboxClock":
        """Real time."""
        return cls(real_time)

    @classmethod
    def fixed(cls, start: datetime) -> "SandboxClock":
        """Stay at `start` until `advance` is called."""
        return cls(lambda: start)

    def now(self) -> datetime:
        """The emulator's time, aware."""
        with self._lock:
            return self._follows() + self._ahead

    def advance(self, by: timedelta) -> datetime:
        """Move ahead and answer the new time.

        Raises:
            ValueError: `by` is negative; time does not go back.
        """
        if by < timedelta():
            raise ValueError("time does not go back")
        with self._lock:
            self._ahead += by
            return self._follows() + self._ahead


def rfc3339(moment: datetime) -> str:
    """The way OCI writes a time in JSON."""
    return moment.astimezone(UTC).isoformat(timespec=_TIMESPEC).replace("+00:00", "Z")
