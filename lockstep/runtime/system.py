"""The real clock and the real randomness. No other module uses those of the machine (protocol F9)."""

import secrets
import time
from datetime import UTC, datetime

from lockstep.protocol.model import PasswordPolicy, SecretStr


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The wall clock, aware, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


def new_id() -> str:
    """24 characters that were never drawn before."""
    return secrets.token_hex(12)


def new_token() -> SecretStr:
    """43 characters that cannot be guessed, for a header."""
    return SecretStr(secrets.token_urlsafe(32))


def boot_seconds() -> float:
    """Seconds that only grow, those in which the machine was suspended included.

    CLOCK_MONOTONIC stands still meanwhile on Linux, but not on macOS (clock_gettime of each), nor does Windows' clock.
    """
    if not hasattr(time, "clock_gettime"):
        return time.monotonic()
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class SystemPasswords:
    """Passwords from the operating system's randomness."""

    def new_password(self, policy: PasswordPolicy) -> SecretStr:
        """`policy.length` characters, each equally likely, at least one of each class."""
        alphabet = sorted(set("".join(policy.classes)))
        while True:
            # Drawing again keeps every permitted password equally likely; forcing characters in would not.
            password = "".join(secrets.choice(alphabet) for _ in range(policy.length))
            if all(any(c in password for c in wanted) for wanted in policy.classes):
                return SecretStr(password)
