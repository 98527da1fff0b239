"""What the agent has given, by HTTP and as files: the generation of each credential, and when."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

HTTP = "http"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gift:
    """What was given last in one way.

    Attributes:
        way: `http`, or the path of a file.
        at: When it was given last, or seen to be in the file.
    """

    credential: str
    way: str
    generation: int
    at: datetime


class Given:
    """What was given last in each way. Threads may share it.

    Args:
        now: The wall clock.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._gifts: dict[tuple[str, str], Gift] = {}

    def note(self, credential: str, way: str, generation: int) -> None:
        """A generation was given, or is in the file."""
        gift = Gift(credential=credential, way=way, generation=generation, at=self._now())
        self._gifts[credential, way] = gift

    def __iter__(self) -> Iterator[Gift]:
        return iter(sorted(self._gifts.values(), key=lambda gift: (gift.credential, gift.way)))
