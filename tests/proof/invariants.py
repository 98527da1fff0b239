"""The invariants of docs/protocol.md over a neutral snapshot, for the model and for every observer of a rotation.

An observer says what a snapshot shows (over the wire with real logins, in memory and in the model by looking) and when
to ask; the rules are here, and what an observer asks after every change (`Watch`).
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from lockstep.protocol.model import ClaimKind, LockRecord

Value = TypeVar("Value", bound=Hashable)
"""A login, in any form that can be compared."""


class ViolationError(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant
        self.what = what


@dataclass(frozen=True, kw_only=True)
class Snapshot(Generic[Value]):
    """An instant of one credential.

    Attributes:
        databases: Those that applications use.
        serves: The value that each store serves; None for a placeholder.
        holds: The value that each store holds under the generation in flight, if any.
        lets_in: Whether a database accepts a value.
        record: The lock record.
    """

    databases: Collection[str]
    serves: Mapping[str, Value | None]
    holds: Mapping[str, Value | None]
    lets_in: Callable[[str, Value], bool]
    record: LockRecord

    def accepting(self, value: Value) -> list[str]:
        """The databases that accept a value."""
        return [d for d in self.databases if self.lets_in(d, value)]

    def locked_out(self) -> set[str]:
        """Where the value that a store serves does not log in."""
        return {
            f"{place} at {database}"
            for place, value in self.serves.items()
            for database in self.databases
            if value and not self.lets_in(database, value)
        }


def no_lockout(now: Snapshot[Value], when: str, *, excused: Collection[str] = ()) -> None:
    """I1: what a store serves logs in on every database.

    Args:
        now: The instant.
        when: For the story.
        excused: What a change from outside Lockstep has locked out.
    """
    locked_out = sorted(now.locked_out().difference(excused))
    if locked_out:
        raise ViolationError("I1", f"{', '.join(locked_out)} does not log in, {when}")


def keys_are_carried(before: Mapping[str, str], now: Mapping[str, str], where: str) -> None:
    """V20: the keys of others are what a person wrote."""
    lost = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if lost:
        raise ViolationError("V20", f"{', '.join(lost)} is not what it was in {where}")


def edit_is_kept(edit: Mapping[str, str], now: Mapping[str, str], where: str) -> None:
    """V21: the keys of others in an edit are in what has replaced it."""
    if edit != now:
        raise ViolationError(
            "V21", f"{', '.join(sorted(edit.keys() ^ now.keys())) or 'a key'} of an edit is gone in {where}"
        )


def overlap_is_kept(now: Snapshot[Value], promised: Iterable[Value], when: str) -> None:
    """I1: what a store has served until now logs in until its overlap is over."""
    for value in promised:
        refusing = [d for d in now.databases if not now.lets_in(d, value)]
        if refusing:
            raise ViolationError("I1", f"{refusing} refuses a value before its overlap is over, {when}")


def one_value(generation: int, values: Iterable[Value | None], when: str) -> None:
    """I4: every store that holds a generation holds the same value."""
    if len({value for value in values if value}) > 1:
        raise ViolationError("I4", f"two values under generation {generation}, {when}")


def write_ahead(
    now: Snapshot[Value], values: Iterable[Value], holds: Callable[[str, Value], bool], when: str
) -> None:
    """I2: no database accepts a value before every store holds it.

    Args:
        now: The instant.
        values: Those that Lockstep made.
        holds: Whether a store holds a value.
        when: For the story.
    """
    for value in values:
        lacking = [store for store in now.serves if not holds(store, value)]
        accepting = now.accepting(value) if lacking else []
        if accepting:
            raise ViolationError("I2", f"{accepting} accepts a value that {lacking} does not hold, {when}")


def in_flight_write_ahead(now: Snapshot[Value], when: str) -> None:
    """I2 and I4 for the generation in flight. A value that is reconciled logs in before it is staged."""
    claim = now.record.claim
    if claim is None:
        return
    one_value(claim.generation, now.holds.values(), when)
    if claim.kind is not ClaimKind.RECONCILE:
        values = {value for value in now.holds.values() if value}
        write_ahead(now, values, lambda store, value: now.holds[store] == value, when)


def promoted_is_proven(
    before: Snapshot[Value], now: Snapshot[Value], when: str, *, is_proven: Callable[[str, Value], bool]
) -> None:
    """A store begins to serve a value only after every database was seen to accept it (protocol I3)."""
    for store, value in now.serves.items():
        if value is None or value == before.serves[store]:
            continue
        unproven = [database for database in now.databases if not is_proven(database, value)]
        if unproven:
            raise ViolationError("I3", f"{store} serves what {unproven} was not seen to accept, {when}")


def one_in_flight(before: Snapshot[Value], now: Snapshot[Value], when: str) -> None:
    """I4: a generation in promotion stays in flight until it is current, or a reconcile takes its place."""
    flying, claim = before.record.claim, now.record.claim
    if flying is None or claim == flying or now.record.current_generation == flying.generation:
        return
    if claim and claim.kind is ClaimKind.RECONCILE:
        return
    what = f"replaced by {claim.generation}" if claim else "dropped"
    raise ViolationError("I4", f"generation {flying.generation} was in flight and is {what}, {when}")


def serves_only(now: Snapshot[Value], legitimate: Collection[Value], when: str) -> None:
    """I5: after a call of an overtaken run, stores serve only values of the lock record's generations."""
    strange = [store for store, value in now.serves.items() if value not in legitimate]
    if strange:
        raise ViolationError("I5", f"{strange} serves what an overtaken run has written, {when}")


def no_zombie_write(*, holds_lock: bool, keeps_claim: bool, when: str) -> None:
    """I5: a run that has lost the lock changes something only while its claim is in place."""
    if not (holds_lock or keeps_claim):
        raise ViolationError("I5", f"a run that has lost the lock, and whose claim is gone, writes, {when}")


def in_sync(now: Snapshot[Value], generations: Iterable[int], when: str) -> None:
    """I8: the lock is free, nothing is in flight, and every store serves the current generation.

    Args:
        now: The instant.
        generations: What the secrets of the stores serve.
        when: For the story.
    """
    record, served = now.record, set(generations)
    if record.holder or record.claim:
        what = f"the lock is held by {record.holder}, {record.claim} is in flight"
        raise ViolationError("I8", f"{what}, {when}")
    if served != {record.current_generation} or len(set(now.serves.values())) > 1:
        what = f"stores serve {sorted(served)}, current is {record.current_generation}"
        raise ViolationError("I8", f"{what}, {when}")
    no_lockout(now, when)


def asks_before_it_takes(before: Snapshot[Value], database: str, ours: Collection[Value], when: str) -> None:
    """I11: without consent an account is changed only where a login of the credential works on the database.

    Args:
        before: The instant before the change.
        database: Where an account was changed.
        ours: The logins that stores hold.
        when: For the story.
    """
    if not any(before.lets_in(database, value) for value in ours):
        raise ViolationError("I11", f"{database} is changed, where no login of ours works, {when}")


def past_is_revoked(
    now: Snapshot[Value], past: Iterable[Value], live: Collection[Value | None], when: str
) -> None:
    """I9: no database accepts a value of the past that is not live."""
    for value in past:
        accepting = [] if value in live else now.accepting(value)
        if accepting:
            raise ViolationError("I9", f"{accepting} lets in a value of the past, {when}")


def emergency_is_over(now: Snapshot[Value], leaked: Iterable[Value], when: str) -> None:
    """O5: once the order is fulfilled, no database accepts a value that it names."""
    for value in leaked:
        accepting = now.accepting(value)
        if accepting:
            raise ViolationError("O5", f"{accepting} lets in a value that was to be revoked, {when}")


@dataclass
class Watch(Generic[Value]):
    """What holds after every change, from one instant to the next.

    Attributes:
        last: The instant before.
        proven: Where the code under test has seen which login; None: a login of the observer's own counts.
    """

    last: Snapshot[Value]
    proven: set[tuple[str, Value]] | None = None
    _until: dict[tuple[str, Value], datetime] = field(default_factory=dict)

    def look(
        self,
        now: Snapshot[Value],
        when: str,
        *,
        at: datetime,
        overlap: timedelta,
        excused: Collection[str] = (),
    ) -> None:
        """I1 to I4.

        Args:
            now: The instant.
            when: For the story.
            at: When it is.
            overlap: How long what was served must log in.
            excused: What a change from outside Lockstep has locked out.
        """
        before, self.last = self.last, now
        if self.proven is not None:
            self.proven = {
                (database, value) for database, value in self.proven if now.lets_in(database, value)
            }
        no_lockout(now, when, excused=excused)
        if now.record.is_revoking:
            self._until.clear()  # An emergency ends every overlap.
        for database in now.databases:
            promised = [v for (d, v), until in self._until.items() if d == database and at < until]
            overlap_is_kept(replace(now, databases=[database]), promised, when)
        promoted_is_proven(before, now, when, is_proven=self._is_proven)
        for store, last in before.serves.items():
            if last and now.serves[store] not in (None, last) and not now.record.is_revoking:
                self._until |= {(d, last): at + overlap for d in now.accepting(last)}
        if before.record.promoting:
            one_in_flight(before, now, when)
        in_flight_write_ahead(now, when)

    def _is_proven(self, database: str, value: Value) -> bool:
        return self.last.lets_in(database, value) if self.proven is None else (database, value) in self.proven
