"""The general query log, in the format of the server's file.

Source: MySQL 8.4 Reference Manual, "The General Query Log", "Passwords and Logging".
"""

from collections.abc import Callable
from datetime import datetime
from threading import Lock


class GeneralLog:
    """Who connected and what statements came in; passwords in statements were rewritten before.

    Args:
        now: The time for each line, in UTC.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lines: list[str] = []
        self._lock = Lock()

    def write(self, connection_id: int, command: str, argument: str = "") -> None:
        """Adds an entry."""
        time = self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        with self._lock:
            self._lines.append(f"{time}\t{connection_id:5} {command}\t{argument}\n")

    def text(self) -> str:
        """The log since the server was made."""
        with self._lock:
            return "".join(self._lines)
