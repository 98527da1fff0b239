"""The file with the token that requests must bring."""

import os
from contextlib import suppress
from pathlib import Path

from lockstep.errors import TerminalError
from lockstep.model import SecretStr
from lockstep.system import new_token

MODE = 0o640


class TokenError(TerminalError):
    """The token file cannot be read or made."""


def token_of(file: Path) -> SecretStr:
    """The token of a file, which is made where there is none.

    Raises:
        TokenError: It cannot be read or made, or is empty, or others than its owner and group can read it.
    """
    try:
        with suppress(FileExistsError):
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
            with os.fdopen(descriptor, "w") as made:
                os.fchmod(descriptor, MODE)
                made.write(new_token().reveal())
        if file.stat().st_mode & 0o007:
            raise TokenError(path=str(file), code="readable-by-everybody")
        token = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise TokenError(path=str(file), code=type(error).__name__) from None
    if not token:
        raise TokenError(path=str(file), code="empty")
    return SecretStr(token)
