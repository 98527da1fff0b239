"""The decisions of the protocol, as pure functions over what was read.

The lock record alone says which generation is in flight. Stage labels and "the highest version" never decide: a
paused runner can stage late, move a label, or add a higher version over an applied lower one.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lockstep.errors import StoresDivergedError, UnknownUsernameError
from lockstep.model import Claim, ClaimKind, Lease, LockRecord, Login, Release, Schedule, StoredValue


@dataclass(frozen=True, slots=True)
class Adopt:
    """A generation is in flight: finish it, whoever began it."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class Begin:
    """All stores agree: claim a new generation on top of this one."""

    base_generation: int


@dataclass(frozen=True, slots=True)
class Heal:
    """The stores disagree, or one was edited by hand: the login that works on every database wins.

    Attributes:
        standing: The generation in flight, where an edit came in the middle of a rotation or a heal was begun. It is
            finished if what it stands on is what works, else replaced.
    """

    standing: Claim | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A version in a store whose login may be the one that works."""

    store: str
    version: str


Decision = Adopt | Begin | Heal


def decide(record: LockRecord, current: Mapping[str, StoredValue]) -> Decision:
    """What this run has to do.

    Args:
        record: The lock record.
        current: What every store serves now, in the plan's order.
    """
    if record.claim:
        if any(_newest(v) > record.claim.generation for v in current.values()):
            return Heal()  # An old copy of the lock table has come back: this claim can never be promoted.
        if record.claim.kind is ClaimKind.HEAL or _edited_in_flight(record.claim, current.values()):
            return Heal(record.claim)
        return Adopt(record.claim)
    if agree(current.values()) and _as_recorded(record, next(iter(current.values()))):
        return Begin(base_generation=next(iter(current.values())).generation)
    return Heal()


def _edited_in_flight(claim: Claim, current: Collection[StoredValue]) -> bool:
    at_base = [v for v in current if v.generation == claim.base_generation]
    return any(v.generation not in {claim.generation, claim.base_generation} for v in current) or any(
        # Of generation 0, which is any value that Lockstep did not write, there may be two.
        v.login != at_base[0].login
        for v in at_base
    )


def _newest(value: StoredValue) -> int:
    return max(value.generation, value.blob_generation)


def agree(values: Iterable[StoredValue]) -> bool:
    """Whether all stores serve the same login under the same generation, in both secrets."""
    first, *others = values
    return first.generation == first.blob_generation and all(
        (v.generation, v.blob_generation, v.login) == (first.generation, first.blob_generation, first.login)
        for v in others
    )


def _as_recorded(record: LockRecord, value: StoredValue) -> bool:
    # Without a recorded generation the record is new, or the lock table was lost: the stores are believed.
    return record.current_generation in {None, value.generation}


def candidates(record: LockRecord, current: Mapping[str, StoredValue]) -> Sequence[Candidate]:
    """Where each distinct login stands, for a heal; empty where there are only placeholders.

    What the record knows to be current comes first, then the newest: where two logins work, the first wins.
    """
    ranked = sorted(
        ((name, v) for name, v in current.items() if v.login),
        key=lambda item: (item[1].generation == record.current_generation, item[1].generation),
        reverse=True,
    )
    seen: list[Login | None] = []
    found = []
    for name, value in ranked:
        if value.login not in seen:
            seen.append(value.login)
            found.append(Candidate(store=name, version=value.version))
    return found


def winner(ranked: Sequence[Candidate], accepted: Mapping[str, Sequence[bool]]) -> Candidate:
    """The first candidate that logs in on every database.

    Args:
        ranked: As `candidates` gave them.
        accepted: For each database, whether each candidate logs in.

    Raises:
        StoresDivergedError: None does.
    """
    for i, candidate in enumerate(ranked):
        if all(verdicts[i] for verdicts in accepted.values()):
            return candidate
    raise StoresDivergedError


def next_generation(lease: Lease, record: LockRecord, current: Iterable[StoredValue]) -> int:
    """The fence, or one more than every generation seen: it only grows, also when the lock table was lost."""
    highest = max((_newest(v) for v in current), default=0)
    return max(lease.fence, record.highest_generation + 1, highest + 1)


def next_claim(
    kind: ClaimKind,
    lease: Lease,
    record: LockRecord,
    current: Mapping[str, StoredValue],
    *,
    base_generation: int,
) -> Claim:
    """The claim for a new or healed value.

    A heal gives the login that works a new name, so nothing dies and there is no generation to prove dead.
    """
    previous = record.previous_generation if kind is ClaimKind.NEW else None
    return Claim(
        kind=kind,
        generation=next_generation(lease, record, current.values()),
        base_generation=base_generation,
        previous_generation=previous,
        rotation_id=lease.holder,
    )


def next_username(usernames: Sequence[str], base: Login | None) -> str:
    """The login that gets the new password: the only one, or with alternating users the other one.

    Raises:
        UnknownUsernameError: Base is a login that the plan does not name.
    """
    if base is None:
        return usernames[0]
    if base.username not in usernames:
        raise UnknownUsernameError
    return usernames[(usernames.index(base.username) + 1) % len(usernames)]


def release_after(
    claim: Claim, record: LockRecord, schedule: Schedule, *, started: datetime, promoted: datetime
) -> Release:
    """What the lock record says once the rotation is recorded.

    The next rotation is due an interval after this one *started*, so that the schedule does not drift, less the
    tolerance for early triggers. It may not start before the overlap has passed since promotion.
    """
    healed = claim.kind is ClaimKind.HEAL
    return Release(
        current_generation=claim.generation,
        previous_generation=record.previous_generation if healed else claim.base_generation,
        next_due_at=started + schedule.interval - schedule.tolerance,
        not_before=promoted + schedule.overlap,
    )
