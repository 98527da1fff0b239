"""The emulator's time, which deletions, read lag, restores and UPDATING go by, and its identifiers.

Signature dates go by the real clock. Identifiers have the shapes that OCI gives them: opaque, the same in every run.
"""

import hashlib
import itertools
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

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
    def fixed(cls, start: datetime) -> "SandboxClock":
        """Stay at `start` until `advance` is called."""
        return cls(lambda: start)

    def now(self) -> datetime:
        """The emulator's time, aware."""
        with self._lock:
            return self._follows() + self._ahead

    def advance(self, by: timedelta) -> None:
        """Move ahead.

        Raises:
            ValueError: `by` is negative; time does not go back.
        """
        if by < timedelta():
            raise ValueError("time does not go back")
        with self._lock:
            self._ahead += by


def rfc3339(moment: datetime) -> str:
    """The way OCI writes a time in JSON."""
    return moment.astimezone(UTC).isoformat(timespec=_TIMESPEC).replace("+00:00", "Z")


_NAMESPACE: Final = uuid.UUID("6f0a3d9e-0f6e-4c0e-9a43-2f1f6a5f8c11")


class Ids:
    """Numbers what it names, and hides the numbers; safe to share between threads."""

    def __init__(self) -> None:
        """Begin at one."""
        self._numbers = itertools.count(1)

    def ocid(self, kind: str) -> str:
        """An OCID of a kind of resource, e.g. `vaultsecret`."""
        return f"ocid1.{kind}.oc1.eu-frankfurt-1.{self._digest()[:60]}"

    def etag(self) -> str:
        """An entity tag as Vault gives them: 64 hexadecimal digits."""
        return self._digest()

    def uuid(self) -> str:
        """An entity tag or a version id as Object Storage gives them."""
        return str(uuid.uuid5(_NAMESPACE, self._digest()))

    def request(self) -> str:
        """The service's part of an opc-request-id."""
        return self._digest()[:32].upper()

    def _digest(self) -> str:
        return hashlib.sha256(str(next(self._numbers)).encode("ascii")).hexdigest()
