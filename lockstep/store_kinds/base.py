"""What every kind of store has."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from lockstep.compiled import Store
from lockstep.plan_fields import Section


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a plan asks of each of its stores.

    Attributes:
        rotated: Names of the credentials' secrets.
        fixed: Names of the secrets that Lockstep only reads.
        intervals: Each credential's interval, by its id.
    """

    rotated: tuple[str, ...]
    fixed: tuple[str, ...]
    intervals: Mapping[str, timedelta]


class StoreKind(Section):
    """A store in the plan."""

    @abstractmethod
    def compile(self) -> Store:
        """What a runner needs of it."""

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, object]:
        """What makes it this store and no other, in the plan digest (protocol O1)."""

    @property
    def place(self) -> tuple[object, ...]:
        """Where its readers find it: a store at another place is another store for them."""
        return tuple(self.identity.values())

    def problems(self, path: str, demand: Demand) -> Iterator[str]:
        """Why a plan with this demand cannot use the store; nothing where it can.

        Args:
            path: This section's place in the file; each problem begins with it.
            demand: What the plan asks of the store.
        """
        del path, demand
        yield from ()
