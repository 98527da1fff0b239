"""What is added to something that only grows, such as the log of a server that several tests share."""

from collections.abc import Callable
from typing import AnyStr, Generic


class Growing(Generic[AnyStr]):
    """What is added from when this is made; what was there before is somebody else's.

    Args:
        read: Reads all of it, text or bytes.
    """

    def __init__(self, read: Callable[[], AnyStr]) -> None:
        self._read: Callable[[], AnyStr] = read
        self._seen = len(read())

    def added(self) -> AnyStr:
        """What was added since this was made, or since the last `forget`.

        Raises:
            ValueError: It has become shorter, so nobody can tell what was added.
        """
        everything = self._read()
        if len(everything) < self._seen:
            raise ValueError("what grows was cut")
        return everything[self._seen :]

    def forget(self) -> None:
        """Count from now on."""
        self._seen = len(self._read())
