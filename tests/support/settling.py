"""Waiting for a server that still works on what a process has sent which is no more."""

import time
from collections.abc import Callable
from typing import TypeVar

Shown = TypeVar("Shown")
GIVE_UP_SECONDS = 90.0


def until(look: Callable[[], Shown]) -> Shown:
    """What a look shows as soon as that holds."""
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while not (shown := look()):
        assert time.monotonic() < give_up, "it has not come"
        time.sleep(0.02)
    return shown
