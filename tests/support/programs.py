"""Programs that tests run to their end."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

Ran: TypeAlias = "subprocess.CompletedProcess[str]"


def ran(words: Sequence[str | Path], **more: Any) -> Ran:  # noqa: ANN401 - of `run`
    """What a program has written, as text, and its status, whatever that is.

    Args:
        words: The program and its arguments.
        more: Other options of `subprocess.run`. Its default limit is 15 minutes.
    """
    options = {"capture_output": True, "text": True, "check": False, "timeout": 900, **more}
    return subprocess.run([str(word) for word in words], **options)  # noqa: PLW1510, S603 - programs of tests
