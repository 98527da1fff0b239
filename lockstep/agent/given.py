"""What the agent has given, by HTTP and as files: the generation of each credential, and when."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from lockstep.usage import Usage, here

HTTP = "http"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gift:
    """What was given last in one way.

    Attributes:
        way: `http`, or the path of a file.
        since: When this generation was given first.
        at: When it was given last, or seen to be in the file.
    """

    credential: str
    way: str
    generation: int
    since: datetime
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
        before, at = self._gifts.get((credential, way)), self._now()
        since = before.since if before and before.generation == generation else at
        self._gifts[credential, way] = Gift(
            credential=credential, way=way, generation=generation, since=since, at=at
        )

    def __iter__(self) -> Iterator[Gift]:
        return iter(sorted(self._gifts.values(), key=lambda gift: (gift.credential, gift.way)))

    def usages(self) -> Iterator[Usage]:
        """The same, as processes say of themselves which generation they use."""
        host, namespace = here()
        for gift in self:
            yield Usage(
                credential=gift.credential,
                generation=gift.generation,
                name=f"lockstep-agent {gift.way}",
                host=host,
                pid=os.getpid(),
                namespace=namespace,
                since=gift.since,
                at=gift.at,
            )
