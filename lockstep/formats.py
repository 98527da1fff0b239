"""The format of what Lockstep writes: one number for lock records, secrets and audit entries (protocol R10, R11).

A runner reads every format up to its own. Where it meets a higher one it changes nothing. So a change that an older
runner would misread raises `FORMAT`, and two runners of different formats can be deployed in either order.
The plan file has a number of its own, `version`, because people write it.
"""

import re
from collections.abc import Mapping
from typing import Any

from lockstep.errors import NewerFormatError

FORMAT = 4
"""What this build writes.

Since 3 secrets may hold keys of others, and entries are sealed. Since 4 the members of a secret in OCI are strings
(protocol R13).
"""
_NATURAL = re.compile(r"0|[1-9][0-9]{0,18}")
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
    written = natural(document.get("format", UNNAMED))
    return UNNAMED if written is None else written


def natural(written: object) -> int | None:
    """The natural number that a member of a secret's text is, as a number or as a string (protocol V23)."""
    if isinstance(written, str) and _NATURAL.fullmatch(written):
        return int(written)
    return written if type(written) is int and written >= 0 else None
