"""The invariants of docs/protocol.md over a neutral snapshot; every observer of a running rotation asks these.

An observer says what a snapshot shows (over the wire with real logins, in memory by looking) and when to ask; the
rules are here. The model checks states of its own, see `model_invariants`.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value", bound=Hashable)
"""A login, in any form that can be compared."""


class ViolationError(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant
        self.what = what


@dataclass(frozen=True, kw_only=True)
class InFlight:
    """The generation in flight, as the lock record names it."""

    generation: int
    is_heal: bool


@dataclass(frozen=True, kw_only=True)
class Snapshot(Generic[Value]):
    """An instant of one credential.

    Attributes:
        serves: The value that each store serves; None for a placeholder.
        holds: The value that each store holds under the generation in flight, if any.
        lets_in: Whether a database accepts a value.
        in_flight: From the lock record.
        current: The generation that the lock record names as current.
    """

    databases: Collection[str]
    serves: Mapping[str, Value | None]
    holds: Mapping[str, Value | None]
    lets_in: Callable[[str, Value], bool]
    in_flight: InFlight | None
    current: int | None

    def accepting(self, value: Value) -> list[str]:
        """The databases that accept a value."""
        return [d for d in self.databases if self.lets_in(d, value)]

    def locked_out(self) -> set[str]:
        """Where the value that a store serves does not log in."""
        return {
            f"{store} at {database}"
            for store, value in self.serves.items()
            for database in self.databases
            if value and not self.lets_in(database, value)
        }


def no_lockout(now: Snapshot[Value], when: str, *, excused: Collection[str] = ()) -> None:
    """I1: what a store serves logs in on every database.

    Args:
        now: The instant.
        when: For the story.
        excused: What somebody else has locked out.
    """
    locked_out = sorted(now.locked_out().difference(excused))
    if locked_out:
        raise ViolationError("I1", f"{', '.join(locked_out)} does not log in, {when}")


def overlap_is_kept(now: Snapshot[Value], promised: Iterable[Value], when: str) -> None:
    """I1: what a store has served until now logs in until its overlap is over."""
    for value in promised:
        refusing = [d for d in now.databases if not now.lets_in(d, value)]
        if refusing:
            raise ViolationError("I1", f"{refusing} refuses a value before its overlap is over, {when}")


def write_ahead(now: Snapshot[Value], when: str) -> None:
    """I2: no database accepts a value in flight before every store holds it; I4: it is one value.

    A value that is healed logs in before it is staged.
    """
    if now.in_flight is None:
        return
    values = {value for value in now.holds.values() if value}
    if len(values) > 1:
        raise ViolationError("I4", f"two values under generation {now.in_flight.generation}, {when}")
    accepting = [database for value in values for database in now.accepting(value)]
    if accepting and not now.in_flight.is_heal and not all(now.holds.values()):
        raise ViolationError("I2", f"{accepting} accepts what is not staged everywhere, {when}")


def promoted_is_proven(
    before: Snapshot[Value],
    now: Snapshot[Value],
    when: str,
    *,
    is_proven: Callable[[str, Value], bool],
) -> None:
    """I3: a store begins to serve a value only after every database was seen to accept it."""
    for store, value in now.serves.items():
        if value is None or value == before.serves[store]:
            continue
        unproven = [database for database in now.databases if not is_proven(database, value)]
        if unproven:
            raise ViolationError("I3", f"{store} serves what {unproven} was not seen to accept, {when}")


def one_in_flight(before: Snapshot[Value], now: Snapshot[Value], when: str) -> None:
    """I4: a generation stays in flight until it is current."""
    flying = before.in_flight
    if flying is None or now.in_flight == flying or now.current == flying.generation:
        return
    what = f"replaced by {now.in_flight.generation}" if now.in_flight else "dropped"
    raise ViolationError("I4", f"generation {flying.generation} was in flight and is {what}, {when}")


def serves_only(now: Snapshot[Value], legitimate: Collection[Value], when: str) -> None:
    """I5: after a call of an overtaken run, stores serve no value but those of the lock record's generations."""
    strange = [store for store, value in now.serves.items() if value not in legitimate]
    if strange:
        raise ViolationError("I5", f"{strange} serves what an overtaken run has written, {when}")


def past_is_dead(now: Snapshot[Value], past: Iterable[Value], when: str) -> None:
    """I9: no database accepts a value of the past that no store serves."""
    for value in past:
        accepting = [] if value in now.serves.values() else now.accepting(value)
        if accepting:
            raise ViolationError("I9", f"{accepting} lets in a value of the past, {when}")
