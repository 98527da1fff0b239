"""The decisions of the protocol, as pure functions over what was read (protocol C1).

The lock record alone says which generation is in flight (protocol L1). Stage labels and "the highest version" never
decide: a paused runner can stage late, move a label, or add a higher version over an applied lower one.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from lockstep.protocol.errors import (
    PlanNotActiveError,
    SecretMalformedError,
    TakeOverNeededError,
    UnknownUsernameError,
)
from lockstep.protocol.messages import Candidate, Rotation
from lockstep.protocol.model import (
    Claim,
    ClaimKind,
    Credential,
    CredentialValue,
    LockRecord,
    Login,
    Release,
    Schedule,
    StoredValue,
    Strategy,
)
from lockstep.protocol.ports import FORGED


@dataclass(frozen=True, slots=True)
class Adopt:
    """A generation is in flight that no store can serve yet: finish it, whichever run began it (protocol C5, R1)."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class Begin:
    """All stores serve what is on record: claim a new generation on top of it."""

    base_generation: int


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Search for a login that works, and serve it from every store under a new generation (protocol C5).

    Something disagrees; or nothing may begin yet, and the search shows whether anything is wrong.
    """


Decision = Adopt | Begin | Reconcile


def decide(
    record: LockRecord,
    served: Mapping[str, StoredValue],
    *,
    plan: str,
    databases: Collection[str],
    now: datetime,
    is_refused: bool = False,
) -> Decision:
    """What this run must do.

    Args:
        record: The lock record.
        served: What every store serves now, in the plan's order.
        plan: The digest of this runner's plan, which is active or is to become active.
        databases: The names of the plan's databases.
        now: Before `not_before`, and without an emergency, no rotation begins.
        is_refused: Whether a database has refused base in this run.

    Raises:
        TakeOverNeededError: There are only placeholders, and not every database is under take-over.
        SecretMalformedError: On the first day: a secret holds what is neither a credential nor a placeholder.
    """
    values = list(served.values())
    if record.current_generation is None:
        _require_ours(values)
    first_day = (
        record.current_generation is None and not any(v.login for v in values) and not record.promoting
    )
    if first_day and not record.take_over.issuperset(databases):
        raise TakeOverNeededError
    # A reconcile may have replaced a promotion whose last writes are still under way. They fail once the reconcile has
    # moved every store, and no database may change before that.
    if record.is_half_done or is_refused or not (first_day or is_as_recorded(record, served, plan=plan)):
        return Reconcile()
    base = values[0].generation
    if record.claim and _can_adopt(record, record.claim, base):
        return Adopt(record.claim)
    return Reconcile() if overlap_runs(record, now) else Begin(base_generation=base)


def _require_ours(values: Iterable[StoredValue]) -> None:
    """Before the first value is current, a text that holds no credential may be of another owner (protocol V8)."""
    for value in values:
        if value.malformed and not (value.generation or value.blob_generation):
            raise value.malformed


def is_as_recorded(record: LockRecord, served: Mapping[str, StoredValue], *, plan: str) -> bool:
    """Whether every store serves the recorded generation, and no activation is ordered.

    An activation is a reconcile, so that every store serves a value under the new plan (protocol O7).
    """
    values = list(served.values())
    return agree(values) and record.activate != plan and values[0].generation == record.current_generation


def _can_adopt(record: LockRecord, claim: Claim, base: int) -> bool:
    # A value that was made before an emergency order may be among those that leaked (protocol O5).
    is_newer = record.revoke_through is None or claim.generation > record.revoke_through
    return claim.base_generation == base and is_newer


def can_finish(
    record: LockRecord,
    served: Mapping[str, StoredValue],
    *,
    plan: str,
    held: CredentialValue | None,
    winner: Login,
) -> Claim | None:
    """The claim in flight, where the login that was found is the one that it gives: it is kept (protocol C5).

    So a run that died, or an outage that lasts, costs no further version.

    Args:
        record: The lock record.
        served: What every store serves.
        plan: The digest of this runner's plan: an activation is a claim of its own.
        held: The value that is staged for the generation in flight.
        winner: The login that was found.
    """
    claim = record.claim
    if claim is None or not record.is_half_done or record.activate == plan:
        return None
    is_its_own = held is None or (held.login, held.claim_id) == (winner, claim.rotation_id)
    if not is_its_own or (held is None and claim.kind is ClaimKind.NEW):
        return None
    highest = max(max(v.generation, v.blob_generation) for v in served.values())
    return claim if highest <= claim.generation else None


def agree(values: Iterable[StoredValue]) -> bool:
    """Whether all stores serve the same login under the same generation, in both secrets (protocol V5)."""
    first, *others = values
    return first.generation == first.blob_generation and all(
        (v.generation, v.blob_generation, v.login, v.malformed)
        == (first.generation, first.blob_generation, first.login, None)
        for v in (first, *others)
    )


IMPLAUSIBLE = 1_000
"""A generation that is so far above the record and above every other store was not made by Lockstep."""
SUPERSEDED = 30
"""So many generations before those that may be valid are looked at where none of these works."""


def ranked_generations(record: LockRecord, served: Mapping[str, StoredValue]) -> Sequence[int | str]:
    """Where a reconcile looks for a login that works, the best first (protocol C5): generations, and names of stores.

    A store that serves a generation above every one on record shows that the record is an old copy: what that store
    serves comes before all of it. Then the generation in promotion, since every database was seen to accept it; the
    recorded current one; what the stores serve, the newest first; what else may be valid; and what a
    `connection_blob` says, which decides where an `app_user` names no generation.
    """
    promoting = [record.claim.generation] if record.claim and record.promoting else []
    current = [] if record.current_generation is None else [record.current_generation]
    stores = sorted(served, key=lambda name: served[name].generation, reverse=True)
    ahead = [name for name in stores if served[name].generation > record.highest_generation]
    blobs = sorted({v.blob_generation for v in served.values() if v.blob_generation}, reverse=True)
    return [*ahead, *promoting, *current, *stores, *sorted(record.valid, reverse=True), *blobs]


def superseded_generations(
    record: LockRecord, candidates: Iterable[Candidate]
) -> tuple[list[int], list[int]]:
    """The generations that are looked at where nothing that may be valid works, each time the best first.

    Returns:
        What was current once, which ends with what an emergency has revoked; and what was only staged.
    """
    known = {g for candidate in candidates for g in candidate.generations}
    newest = max({record.highest_generation, *known})
    current = record.current_generation or (record.claim.generation - 1 if record.claim else newest)
    were = islice((g for g in range(min(current, newest), 0, -1) if g not in known), SUPERSEDED)
    staged = islice((g for g in range(newest, current, -1) if g not in known), SUPERSEDED)
    return list(were), list(staged)


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate, and where it logs in.

    Attributes:
        login: What it is.
        works: The databases that accept it.
        is_superseded: Whether it was shown only because nothing else works.
    """

    candidate: Candidate
    login: Login
    works: frozenset[str]
    is_superseded: bool = False

    @property
    def is_typed(self) -> bool:
        """Whether a person has written it, and Lockstep never did."""
        return not any(self.candidate.generations)


def choose(tried: Sequence[Tried], databases: Collection[str]) -> Tried:
    """The login that every store is to serve (protocol C5).

    The first that works everywhere; else the first of Lockstep's own that works somewhere; else the first of these,
    which then takes consent on every database.

    Args:
        tried: The best first, those that are superseded last; at least one.
        databases: Those that are asked.
    """
    everywhere = [one for one in tried if one.works.issuperset(databases)]
    somewhere = [one for one in tried if one.works and not one.is_typed]
    ours = [one for one in tried if not one.is_typed]
    return [*everywhere, *somewhere, *ours, *tried][0]


def kept_beside(tried: Sequence[Tried], database: str, winner: Tried, credential: Credential) -> Tried | None:
    """The login that the winner is staged beside, on a database that refuses it; None: none of ours works there.

    One that a store serves comes before one that may be valid, and that before one that is superseded. Where two
    users alternate, one of the other account comes first, since the winner's account has one password.
    """
    working = [one for one in tried if database in one.works]
    alternate = credential.strategy is Strategy.ALTERNATING_USERS
    return min(
        working,
        key=lambda one: (
            alternate and one.login.username == winner.login.username,
            not one.candidate.stores,
            one.is_superseded,
        ),
        default=None,
    )


def ended_by(
    tried: Sequence[Tried], database: str, winner: Tried, kept: Tried, credential: Credential
) -> list[Tried]:
    """What would not log in any more on a database once the winner is staged there beside what is kept."""
    working = [one for one in tried if database in one.works]
    if credential.strategy is Strategy.ALTERNATING_USERS:
        return [one for one in working if one.login.username == winner.login.username]
    return [one for one in working if one is not kept]


def overlap_runs(record: LockRecord, now: datetime) -> bool:
    """Whether what was current before must still log in; an emergency waives that."""
    return record.not_before is not None and record.not_before > now and not record.is_revoking


def next_generation(record: LockRecord, served: Iterable[StoredValue]) -> int:
    """One more than every generation seen; so it grows even if the lock table was lost (protocol C3)."""
    highest = max((max(v.generation, v.blob_generation) for v in served), default=0)
    return max(record.highest_generation, highest) + 1


ALMOST_A_SECOND = timedelta(microseconds=999_999)
"""Added where a time is rounded up: the overlap is a promise."""


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
    """What ReleaseLock writes after the rotation was recorded (protocol C11).

    The next rotation is due an interval after this one *started*, so that the schedule does not drift, minus the
    tolerance for early triggers. It may not start before the overlap has passed since the promotion; a reconcile ends
    no overlap that runs, also where it makes a plan with a shorter one active.

    Args:
        claim: The claim that was promoted.
        record: The lock record, which names the generations that may be valid.
        schedule: The credential's.
        revoked: The generations that are revoked on every database.
        proven: The databases that accept the claim's generation.
        started: When the run started.
        promoted: When every store was seen to serve it.
    """
    not_before = max(promoted + schedule.overlap, record.not_before or promoted)
    return Release(
        current_generation=claim.generation,
        valid=(record.valid | {claim.generation}).difference(revoked),
        proven=proven,
        next_due_at=(started + schedule.interval - schedule.tolerance).replace(microsecond=0),
        not_before=(not_before + ALMOST_A_SECOND).replace(microsecond=0),
        rotated_at=started.replace(microsecond=0),
    )


# What a run needs to be allowed to act: its plan is the active one (protocol I10).


def require_active(record: LockRecord, credential: Credential) -> str:
    """This runner's plan digest of the credential, if it is the active one or is ordered to become it.

    Raises:
        PlanNotActiveError: Another digest is active, or none, as where the lock table was lost.
    """
    if not record.allows(credential.plan_digest):
        raise PlanNotActiveError(credential=credential.id)
    return credential.plan_digest


def require_same_plan(rotation: Rotation, credential: Credential) -> None:
    """Refuse a step whose plan is not the one under which its run began: a deployment came in between.

    Raises:
        PlanNotActiveError: The digests differ.
    """
    if rotation.plan != credential.plan_digest:
        raise PlanNotActiveError(credential=credential.id)


def require_plausible(record: LockRecord, served: Mapping[str, StoredValue]) -> None:
    """Refuse a generation that is far above the record and above every other store: Lockstep never made it.

    Where there is one store, or no record, nothing bounds it.

    Raises:
        SecretMalformedError: A store serves one.
    """
    if not record.highest_generation:
        return
    for name, value in served.items():
        others = [max(v.generation, v.blob_generation) for n, v in served.items() if n != name]
        bound = max([record.highest_generation, *others]) + IMPLAUSIBLE
        if others and max(value.generation, value.blob_generation) > bound:
            raise SecretMalformedError(store=name, code=FORGED)


def next_username(usernames: Sequence[str], *, base: Login | None) -> str:
    """The username of the next value: of two, the one that base does not have (protocol C4).

    Args:
        usernames: Those of the plan, in its order.
        base: The login that stays valid beside the next one.

    Raises:
        UnknownUsernameError: The plan does not name the username of base.
    """
    if base and base.username not in usernames:
        raise UnknownUsernameError
    return next((name for name in usernames if not base or name != base.username), usernames[0])
