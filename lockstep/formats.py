"""The format of what Lockstep writes: one number for lock records, secrets and audit entries (protocol R10, R11).

A runner reads every format up to its own. Where it meets a higher one it changes nothing. So a change that an older
runner would misread raises `FORMAT`, and two runners of different formats can be deployed in either order.
The plan file has a number of its own, `version`, because people write it.
"""

from collections.abc import Mapping
from typing import Any

from lockstep.errors import NewerFormatError

FORMAT = 3
"""What this build writes. Since 3 secrets may hold keys of others, and entries are sealed (protocol R13)."""
UNNAMED = 1
"""What names no format: the first edition's."""


def require_known(written: int, **where: str | int) -> None:
    """Refuse what a newer build wrote.

    Args:
        written: The format in which it was written.
        where: The fields of the error.

    Raises:
        NewerFormatError: It is higher than this build's.
    """
    if written > FORMAT:
        raise NewerFormatError(**where, code=f"format-{written}")


def format_of(document: Mapping[str, Any]) -> int:
    """The format that a JSON document names."""
    written = document.get("format", UNNAMED)
    return written if type(written) is int else UNNAMED
