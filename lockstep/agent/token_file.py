"""The file with the token that requests must bring."""

import hmac
from contextlib import suppress
from pathlib import Path

from lockstep.errors import TerminalError
from lockstep.model import SecretStr
from lockstep.system import new_token
from lockstep.whole_files import replace_file

MODE = 0o640


class TokenError(TerminalError):
    """The token file cannot be read or made."""


def token_of(file: Path) -> SecretStr:
    """The token of a file, which is made where there is none.

    Raises:
        TokenError: It cannot be read or made, or is empty, or others than its owner and group can read it.
    """
    try:
        if not file.exists():
            replace_file(file, new_token().reveal().encode(), mode=MODE)
        if file.stat().st_mode & 0o007:
            raise TokenError(path=str(file), code="readable-by-everybody")
        token = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise TokenError(path=str(file), code=type(error).__name__) from None
    if not token:
        raise TokenError(path=str(file), code="empty")
    return SecretStr(token)


class TokenFile:
    """The token of a file, also after the file was replaced.

    Args:
        file: As for `token_of`.

    Raises:
        TokenError: As `token_of` does.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._token = token_of(file)
        self._seen: tuple[int, ...] = ()

    def matches(self, brought: str) -> bool:
        """Whether this is the token. Where a new file cannot be read, the token before it counts."""
        seen = self._look()
        if seen and seen != self._seen:
            with suppress(TokenError):
                self._token = token_of(self._file)
                self._seen = seen
        return hmac.compare_digest(brought.encode(), self._token.reveal().encode())

    def _look(self) -> tuple[int, ...]:
        with suppress(OSError):
            found = self._file.stat()
            return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode
        return ()
