"""Which value a reader keeps of those that stores show: the rules of the client and of the agent.

1. The nearest store is asked first; the next one where it fails, or shows an older value than the one that is kept, or,
   for a caller who wants another value, the same. Who reads many values at once asks a store that was silent last.
2. Generations only grow, so a lower one is older, whichever store shows it: that store lags. Generation 0 was put there
   by a person (ADR 3) and says nothing about its age: it replaces any value, and any value replaces it.
3. A value logs in for an overlap after a store was last seen to serve it (protocol I1), counted from before that look.
4. A value that was refused, or that is kept for longer than that, gives way to the newest of what stores show, also to
   a lower generation: a store that was made anew counts from 1.
5. A value that was refused does not come back while the one that is kept counts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from lockstep.errors import LockstepError, ReadSideLaggingError


class RefusedValueError(LockstepError):
    """The store still serves a value whose login was refused."""


class Generated(Protocol):
    """A value of a generation. Two are equal if they are the same value, wherever it was read."""

    @property
    def generation(self) -> int:
        """0 if Lockstep did not write it."""


Value = TypeVar("Value", bound=Generated)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen(Generic[Value]):
    """A value that a store has shown.

    Attributes:
        source: The store's name.
        at: When the look began, in seconds of the reader's clock.
    """

    value: Value
    source: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Round(Generic[Value]):
    """What came of asking the stores.

    Attributes:
        chosen: To be kept from now on; None: no store has shown such a value, and `failed` is not empty.
        shown: What was shown, the nearest first.
        failed: Why a store was passed over, the nearest first.
    """

    chosen: Seen[Value] | None
    shown: tuple[Seen[Value], ...]
    failed: Mapping[str, Exception]


def is_older(one: Generated, other: Generated) -> bool:
    """Whether a value is older than another (rule 2)."""
    return 0 < one.generation < other.generation


def ask(
    sources: Mapping[str, Callable[[], Value]],
    clock: Callable[[], float],
    *,
    kept: Value | None,
    is_over: bool = False,
    unwanted: Value | None = None,
) -> Round[Value]:
    """Ask the stores, one after the other, until one shows a value to keep.

    Args:
        sources: What reads a store, by its name, the nearest first.
        clock: Seconds that only grow.
        kept: What is kept, or was refused.
        is_over: Whether it does not count any more (rule 4).
        unwanted: A value of which another one is wanted, if there is one: what is kept, or was refused before it.
    """
    shown: list[Seen[Value]] = []
    failed: dict[str, Exception] = {}
    for name, read in sources.items():
        at = clock()
        try:
            seen = Seen(value=read(), source=name, at=at)
        except Exception as error:  # noqa: BLE001 - a defect in reading one store must not hide the next
            failed[name] = error
            continue
        shown.append(seen)
        if kept is not None and is_older(seen.value, kept):
            failed[name] = ReadSideLaggingError(store=name)
        elif seen.value != unwanted:
            return Round(chosen=seen, shown=tuple(shown), failed=failed)
        elif seen.value != kept:
            failed[name] = RefusedValueError(store=name)
    left = [s for s in shown if is_over or s.source not in failed]
    chosen = max(left, key=lambda s: (s.value != unwanted, s.value.generation), default=None)
    return Round(chosen=chosen, shown=tuple(shown), failed=failed)
