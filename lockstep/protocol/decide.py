"""The decisions of the protocol, as pure functions over what was read (protocol C1).

The lock record alone says which generation is in flight (protocol L1). Stage labels and "the highest version" never
decide: a paused runner can stage late, move a label, or add a higher version over an applied lower one.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lockstep.protocol.errors import (
    DatabaseBlockedError,
    PlanNotActiveError,
    TakeOverNeededError,
    UnknownUsernameError,
)
from lockstep.protocol.messages import Rotation
from lockstep.protocol.model import (
    Claim,
    ClaimKind,
    Credential,
    Lease,
    LockRecord,
    Login,
    Release,
    Schedule,
    StoredValue,
)


@dataclass(frozen=True, slots=True)
class Adopt:
    """A generation is in flight that no store can serve yet: finish it, whichever run began it (protocol C2, R3)."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class Begin:
    """All stores serve what is on record: claim a new generation on top of it."""

    base_generation: int


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Something disagrees: a login that is proven on every database gets a new generation in every store (protocol C5).

    No database changes, so it does not matter what the stores and the record were about to do.
    """


Decision = Adopt | Begin | Reconcile


def decide(
    record: LockRecord,
    served: Mapping[str, StoredValue],
    *,
    plan: str,
    databases: Collection[str],
    refused: int | None = None,
) -> Decision:
    """What this run must do.

    Args:
        record: The lock record.
        served: What every store serves now, in the plan's order.
        plan: The digest of this runner's plan, which is active or is to become active.
        databases: The names of the plan's databases.
        refused: The generation that a database's policy has refused in this run: it is not adopted.

    Raises:
        TakeOverNeededError: There are only placeholders, and not every database is under take-over.
    """
    values = list(served.values())
    first_day = (
        record.current_generation is None and not any(v.login for v in values) and not record.promoting
    )
    if first_day and not record.take_over.issuperset(databases):
        raise TakeOverNeededError
    # A reconcile may have replaced a promotion whose last writes are still under way. They fail once the reconcile has
    # moved every store, and no database may change before that.
    is_half_done = record.promoting or (record.claim and record.claim.kind is ClaimKind.RECONCILE)
    if is_half_done or not agree(values) or not (first_day or _is_recorded(record, plan, values[0])):
        return Reconcile()
    base = values[0].generation
    if record.claim and _can_adopt(record, record.claim, base) and record.claim.generation != refused:
        return Adopt(record.claim)
    return Begin(base_generation=base)


def _is_recorded(record: LockRecord, plan: str, value: StoredValue) -> bool:
    # An activation is a reconcile, so that every store serves a value under the new plan (protocol O7).
    return record.activate != plan and value.generation == record.current_generation


def _can_adopt(record: LockRecord, claim: Claim, base: int) -> bool:
    # A value that was made before an emergency order may be among those that leaked (protocol O5).
    is_newer = record.revoke_through is None or claim.generation > record.revoke_through
    return claim.base_generation == base and is_newer


def agree(values: Iterable[StoredValue]) -> bool:
    """Whether all stores serve the same login under the same generation, in both secrets (protocol V9)."""
    first, *others = values
    return first.generation == first.blob_generation and all(
        (v.generation, v.blob_generation, v.login) == (first.generation, first.blob_generation, first.login)
        for v in others
    )


def ranked_generations(record: LockRecord, served: Mapping[str, StoredValue]) -> Sequence[int | str]:
    """Where a reconcile looks for a login that works, the best first (protocol C5): generations, and names of stores.

    The generation in promotion comes first, since every database was seen to accept it; then the recorded current one;
    then what the stores serve, the newest first; then what else may be valid. A store that serves a generation above
    every one on record shows that the record is an old copy: what that store serves comes before all of it.
    """
    promoting = [record.claim.generation] if record.claim and record.promoting else []
    current = [] if record.current_generation is None else [record.current_generation]
    stores = sorted(served, key=lambda name: served[name].generation, reverse=True)
    ahead = [name for name in stores if served[name].generation > record.highest_generation]
    return [*ahead, *promoting, *current, *stores, *sorted(record.valid, reverse=True)]


def next_generation(lease: Lease, record: LockRecord, served: Iterable[StoredValue]) -> int:
    """The fence, or one more than every generation seen; it grows even if the lock table was lost (protocol C3)."""
    highest = max((max(v.generation, v.blob_generation) for v in served), default=0)
    return max(lease.fence, record.highest_generation + 1, highest + 1)


def release_after(
    claim: Claim,
    record: LockRecord,
    schedule: Schedule,
    *,
    revoked: Collection[int],
    proven: tuple[str, ...],
    started: datetime,
    promoted: datetime,
) -> Release:
    """What ReleaseLock writes after the rotation was recorded (protocol C10).

    The next rotation is due an interval after this one *started*, so that the schedule does not drift, minus the
    tolerance for early triggers. It may not start before the overlap has passed since the promotion.

    Args:
        claim: The claim that was promoted.
        record: The lock record, which names the generations that may be valid.
        schedule: The credential's.
        revoked: The generations that are revoked on every database.
        proven: The databases that accept the claim's generation.
        started: When the run started.
        promoted: When every store was seen to serve it.
    """
    return Release(
        current_generation=claim.generation,
        valid=(record.valid | {claim.generation}).difference(revoked),
        proven=proven,
        next_due_at=started + schedule.interval - schedule.tolerance,
        not_before=promoted + schedule.overlap,
    )


# What a run needs to be allowed to act: its plan is the active one, and no database is blocked (protocol I10, O13).


def require_active(record: LockRecord, credential: Credential) -> str:
    """This runner's plan digest of the credential, if it is the active one or is ordered to become it.

    Raises:
        PlanNotActiveError: Another digest is active, or none, as where the lock table was lost.
    """
    if credential.plan_digest not in (record.plan, record.activate):
        raise PlanNotActiveError(credential=credential.id)
    return credential.plan_digest


def require_not_blocked(record: LockRecord, credential: Credential) -> None:
    """Refuse a run while one of its databases is blocked, unless it is under take-over (protocol D20).

    Raises:
        DatabaseBlockedError: A database has refused a login that should work.
    """
    for database in sorted(record.blocked.intersection(credential.databases) - record.take_over):
        raise DatabaseBlockedError(credential=credential.id, database=database)


def require_same_plan(rotation: Rotation, credential: Credential) -> None:
    """Refuse a step whose plan is not the one under which its run began: a deployment came in between.

    Raises:
        PlanNotActiveError: The digests differ.
    """
    if rotation.plan != credential.plan_digest:
        raise PlanNotActiveError(credential=credential.id)


def next_username(usernames: Sequence[str], *, base: Login | None) -> str:
    """The username of the next value: of two, the one that base does not have (protocol C8).

    Args:
        usernames: Those of the plan, in its order.
        base: The login that stays valid beside the next one.

    Raises:
        UnknownUsernameError: The plan does not name the username of base.
    """
    if base and base.username not in usernames:
        raise UnknownUsernameError
    return next((name for name in usernames if not base or name != base.username), usernames[0])
