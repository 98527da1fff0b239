"""Waiting for a server that still works on what a process has sent which is no more."""

from collections.abc import Callable

from sandbox.emulators.databases.process import poll_until

GIVE_UP_SECONDS = 90.0


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    assert poll_until(lambda: bool(holds()), timeout_seconds=GIVE_UP_SECONDS)
