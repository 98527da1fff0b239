"""Programs that tests run to their end, and waiting for what one has begun."""

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

Shown = TypeVar("Shown")
GIVE_UP_SECONDS = 90.0
Ran: TypeAlias = "subprocess.CompletedProcess[str]"


def ran(words: Sequence[str | Path], **more: Any) -> Ran:  # noqa: ANN401 - of `run`
    """What a program has written, as text, and its status, whatever that is.

    Args:
        words: The program and its arguments.
        more: Other options of `subprocess.run`. Its default limit is 15 minutes.
    """
    options = {"capture_output": True, "text": True, "check": False, "timeout": 900, **more}
    return subprocess.run([str(word) for word in words], **options)  # noqa: PLW1510, S603 - programs of tests


def until(look: Callable[[], Shown]) -> Shown:
    """What a look shows as soon as that holds."""
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while not (shown := look()):
        assert time.monotonic() < give_up, "it has not come"
        time.sleep(0.02)
    return shown
