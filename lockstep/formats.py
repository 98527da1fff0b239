"""The format of what Lockstep writes: one number for lock records, secrets and audit entries (protocol R10, R11).

Where a runner or a command meets a higher one it changes nothing. So a change that an older build would misread raises
`FORMAT`. The plan file has a number of its own, `version`, because people write it.
"""

from lockstep.errors import NewerFormatError

FORMAT = 1
"""What this build writes."""


def require_known(written: int | None, **where: str | int) -> None:
    """Refuse what a newer build wrote.

    Args:
        written: The format in which it was written; None where it names none.
        where: The fields of the error.

    Raises:
        NewerFormatError: It is higher than this build's.
    """
    if written is not None and written > FORMAT:
        raise NewerFormatError(**where, code=f"format-{written}")
