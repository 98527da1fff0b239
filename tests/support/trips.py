"""The calls of a step, and how many of them come one after the other, in a `MemoryWorld`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from lockstep.stores.credential import Ports
from tests.support.memory import MemoryWorld
from tests.support.world import at_every_boundary

T = TypeVar("T")


class Trips:
    """Counts the calls of a world's doubles.

    Attributes:
        calls: Each double with its operation, in the order of the calls.
        length: How many come one after the other; of those that are made side by side, the longest chain counts.
    """

    def __init__(self, world: MemoryWorld) -> None:
        self.calls: list[str] = []
        self.length = 0
        self._world = world
        at_every_boundary(world, self._boundary)

    def side_by_side(self, calls: Sequence[Callable[[], T]], /) -> tuple[T, ...]:
        """The `SideBySide` of what is counted."""
        began, longest, results = self.length, self.length, []
        for call in calls:
            self.length = began
            results.append(call())
            longest = max(longest, self.length)
        self.length = longest
        return tuple(results)

    def ports(self, runner: str = "aws") -> Ports:
        """The ports of the world; what is made side by side counts as such."""
        return replace(self._world.ports(runner), side_by_side=self.side_by_side)

    def _boundary(self, boundary: str) -> None:
        when, _, call = boundary.partition(" ")
        if when == "before":
            self.calls.append(call)
            self.length += 1
