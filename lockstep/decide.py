"""The decisions of the protocol, as pure functions over what was read (protocol C1).

The lock record alone says which generation is in flight (protocol L1). Stage labels and "the highest version" never
decide: a paused runner can stage late, move a label, or add a higher version over an applied lower one.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lockstep.errors import StoresDivergedError, UnknownUsernameError
from lockstep.model import Claim, ClaimKind, Lease, LockRecord, Login, Release, Schedule, StoredValue


@dataclass(frozen=True, slots=True)
class Adopt:
    """A generation is in flight: finish it, whichever run began it (protocol C2, R3)."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class Begin:
    """All stores agree: claim a new generation on top of this one."""

    base_generation: int


@dataclass(frozen=True, slots=True)
class Heal:
    """The stores disagree, or one was edited by hand: the login that works on every database wins (protocol C5).

    Attributes:
        standing: The generation in flight, if an edit came in the middle of a rotation, or if a heal was begun. It is
            finished if its own value or its base is what works, else replaced.
    """

    standing: Claim | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A version in a store. Its login may be the one that works."""

    store: str
    version: str


Decision = Adopt | Begin | Heal


def decide(record: LockRecord, current: Mapping[str, StoredValue]) -> Decision:
    """What this run must do.

    Args:
        record: The lock record.
        current: What every store serves now, in the plan's order.
    """
    if record.claim:
        if any(_newest(v) > record.claim.generation for v in current.values()):
            return Heal()  # The lock table was restored from an old copy: this claim can never be promoted.
        if record.claim.kind is ClaimKind.HEAL or _edited_in_flight(record.claim, current.values()):
            return Heal(record.claim)
        return Adopt(record.claim)
    if agree(current.values()) and _as_recorded(record, next(iter(current.values()))):
        return Begin(base_generation=next(iter(current.values())).generation)
    return Heal()


def _edited_in_flight(claim: Claim, current: Collection[StoredValue]) -> bool:
    at_base = [v for v in current if v.generation == claim.base_generation]
    return any(v.generation not in {claim.generation, claim.base_generation} for v in current) or any(
        # Generation 0 is any value that Lockstep did not write, so two stores may hold different ones.
        v.login != at_base[0].login
        for v in at_base
    )


def _newest(value: StoredValue) -> int:
    return max(value.generation, value.blob_generation)


def agree(values: Iterable[StoredValue]) -> bool:
    """Whether all stores serve the same login under the same generation, in both secrets (protocol V9)."""
    first, *others = values
    return first.generation == first.blob_generation and all(
        (v.generation, v.blob_generation, v.login) == (first.generation, first.blob_generation, first.login)
        for v in others
    )


def _as_recorded(record: LockRecord, value: StoredValue) -> bool:
    # If no generation is recorded, the record is new or the lock table was lost, and the stores are believed.
    return record.current_generation in {None, value.generation}


def candidates(record: LockRecord, current: Mapping[str, StoredValue]) -> Sequence[Candidate]:
    """One version of each distinct login, for a heal; empty if there are only placeholders.

    The recorded current generation comes first, then the newest. If two logins work, the first wins (protocol C5).
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
    """The first candidate that logs in on every database (protocol C5, C6).

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
    """The fence, or one more than every generation seen; it grows even if the lock table was lost (protocol C3)."""
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
    """The claim for a new or healed value (protocol C9).

    A heal gives a login that works a new generation, so nothing dies and there is no generation to prove dead.
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
    """The username that gets the new password: the only one, or with alternating users the other one (protocol C8).

    Raises:
        UnknownUsernameError: The plan does not name the username of base.
    """
    if base is None:
        return usernames[0]
    if base.username not in usernames:
        raise UnknownUsernameError
    return usernames[(usernames.index(base.username) + 1) % len(usernames)]


def release_after(
    claim: Claim, record: LockRecord, schedule: Schedule, *, started: datetime, promoted: datetime
) -> Release:
    """What ReleaseLock writes after the rotation was recorded (protocol C10).

    The next rotation is due an interval after this one *started*, so that the schedule does not drift, minus the
    tolerance for early triggers. It may not start before the overlap has passed since the promotion.
    """
    healed = claim.kind is ClaimKind.HEAL
    return Release(
        current_generation=claim.generation,
        previous_generation=record.previous_generation if healed else claim.base_generation,
        next_due_at=started + schedule.interval - schedule.tolerance,
        not_before=promoted + schedule.overlap,
    )
