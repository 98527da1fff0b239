"""Waiting for a server that still works on what a process has sent which is no more."""

import time
from collections.abc import Callable
from typing import TypeVar

from sandbox.emulators.databases.process import poll_until

Shown = TypeVar("Shown")
LOOKS = 5
PAUSE_SECONDS = 0.2
GIVE_UP_SECONDS = 90.0


def settled(look: Callable[[], Shown]) -> Shown:
    """What a look shows when it has shown the same several times in a row."""
    give_up, seen = time.monotonic() + GIVE_UP_SECONDS, list[Shown]()
    while len(seen) < LOOKS or any(one != seen[-1] for one in seen[-LOOKS:]):
        assert time.monotonic() < give_up, seen[-LOOKS:]
        time.sleep(PAUSE_SECONDS)
        seen.append(look())
    return seen[-1]


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    assert poll_until(lambda: bool(holds()), timeout_seconds=GIVE_UP_SECONDS)
