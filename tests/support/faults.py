"""The seam at which a test fails, delays or crashes a double."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


def _nothing(_operation: str) -> None:
    pass


@dataclass
class Faults:
    """Hooks around every operation of a double, called with the operation's name; they may raise or act.

    What `before` raises happens instead of the operation; what `after` raises is a reply that got lost.
    """

    before: Callable[[str], None] = _nothing
    after: Callable[[str], None] = _nothing

    @contextmanager
    def around(self, operation: str) -> Iterator[None]:
        self.before(operation)
        yield
        self.after(operation)
