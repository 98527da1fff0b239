"""What is the matter with a credential: one verdict, its reasons, and for each the one command that helps.

Every surface shows this and computes none of it: `status`, `history`, the page, the watch with its alarms, and the
`next:` of commands (ADR 84). Pure, and without stores and databases: `functions/watch` starts often cold.

A command that starts a run is only named where a run may act: before it comes what a run would be refused for.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from msgspec import Struct, field, structs

from lockstep.plan.published import IndexedCredential
from lockstep.protocol.errors import (
    AccountMissingError,
    AccountUnusableError,
    CurrentCredentialRejectedError,
    LockstepError,
    NoRoomError,
    PlanNotActiveError,
    ReplicaRejectedError,
    SecretMalformedError,
    SecretNotFoundError,
    StoresDivergedError,
    family,
    line_of,
)
from lockstep.protocol.lock_rule import believed, due_at, is_held
from lockstep.protocol.model import Credential, LockRecord, Schedule, StoredValue
from lockstep.protocol.ports import FORGED


class Verdict(StrEnum):
    """Of a credential, or of several the worst."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """It works, and needs a person, or will."""
    DOWN = "down"
    """A login that a store serves is refused somewhere, as far as the last run or look knows."""


class Kind(StrEnum):
    """What can be the matter, the gravest first."""

    REFUSED = "login refused"
    NO_LOGIN = "no login served"
    REVOKED = "revoked login served"
    EMERGENCY = "emergency"
    TAKE_OVER = "under take-over"
    UNREADABLE = "record unreadable"
    OTHER_PLAN = "plan not active"
    OUT_OF_SYNC = "out of sync"
    FAILED = "last run failed"
    UNFINISHED = "run not finished"
    OVERDUE = "overdue"
    UNREACHABLE = "store not readable"
    UNRECORDED = "audit log unreachable"
    UNCONFIRMED = "log not confirmed"
    NEW = "never rotated"
    PAUSED = "paused"


_DOWN = frozenset({Kind.REFUSED, Kind.NO_LOGIN, Kind.REVOKED})
GRAVITY = {kind: place for place, kind in enumerate(Kind)}
"""The place of each kind, the gravest first."""


def _names(*errors: type[LockstepError]) -> frozenset[str]:
    return frozenset(one.__name__ for error in errors for one in (error, *family(error)))


_REFUSING = _names(
    CurrentCredentialRejectedError,
    ReplicaRejectedError,
    NoRoomError,
    AccountUnusableError,
    AccountMissingError,
)
"""Errors of a run that has seen refused what stores serve."""
_OF_CONTENT = _names(SecretMalformedError, StoresDivergedError)
"""Errors of a run that could use nothing that a store holds; names of versions do not say what that is."""


class Reason(Struct, frozen=True, kw_only=True):
    """Something that is the matter; `next` is the command that helps, `place` the database, store or cloud.

    Where a record cannot be read, `place` is the name of the error.
    """

    kind: Kind
    verdict: Verdict = Verdict.DEGRADED
    place: str = ""
    text: str = field(name="meaning")
    next: str

    def __post_init__(self) -> None:
        """A kind has its verdict."""
        if self.kind in _DOWN:
            structs.force_setattr(self, "verdict", Verdict.DOWN)


Watched = Credential | IndexedCredential
"""A credential of the plan, or what a published plan's index says of it."""


class Served(Protocol):
    """What a store serves."""

    @property
    def generation(self) -> int:
        """Its number; 0 of what Lockstep did not write."""


def verdict_of(reasons: Iterable[Reason]) -> Verdict:
    """The verdict of all reasons together."""
    return max((r.verdict for r in reasons), default=Verdict.HEALTHY, key=list(Verdict).index)


def ranked(reasons: Iterable[Reason]) -> list[Reason]:
    """The gravest first."""
    return sorted(reasons, key=lambda reason: GRAVITY[reason.kind])


def next_step(record: LockRecord, credential: Watched, now: datetime, *, may_run: bool | None = None) -> str:
    """The command by which a run does now what it can; or what must come before, in the order in which a run asks.

    Args:
        record: The record.
        credential: The credential.
        now: The time.
        may_run: Whether a first run can use what the stores hold; None: names of versions do not say.
    """
    if not record.allows(credential.plan_digest):
        return lockstep("apply", credential.id, *(["--from", record.plan] if record.plan else []))
    kept = sorted(frozenset(credential.databases) - record.take_over)
    if record.current_generation is None and kept and not may_run:
        return _first_login(record, credential, kept, is_known=may_run is not None)
    if is_held(record, now):
        return lockstep("status", credential.id, "--watch")
    return run_command(credential)


def lockstep(*words: str) -> str:
    """A command of this program, quoted for a shell."""
    return shlex.join(["lockstep", *words])


def run_command(credential: Watched) -> str:
    """The command that starts a run now."""
    return lockstep("rotate", credential.id, "--force")


def _first_login(record: LockRecord, credential: Watched, kept: Iterable[str], *, is_known: bool) -> str:
    """Where a first run has no login: one is imported, or every account is taken over."""
    if not is_known:
        return lockstep("status", credential.id, "--read-values")
    if record.take_over:
        return lockstep("take-over", credential.id, *kept)
    return lockstep("import", credential.id)


def of_record(
    record: LockRecord, credential: Watched, now: datetime, *, may_run: bool | None = None
) -> Iterator[Reason]:
    """What the lock record says.

    Args:
        record: The record.
        credential: The credential.
        now: The time.
        may_run: As of `next_step`.
    """
    step = next_step(record, credential, now, may_run=may_run)
    under = frozenset(credential.databases) & record.take_over
    if record.is_revoking:
        but = f" It goes on without {', '.join(sorted(under))} where that fails." if under else ""
        text = (
            f"Emergency: every generation up to {record.revoke_through} must be revoked. The next run does it.{but} If "
            "a database cannot be reached, `lockstep revoke --without` ends it on the others."
        )
        yield Reason(kind=Kind.EMERGENCY, text=text, next=step)
    elif record.current_generation is not None:
        for database in sorted(under):
            text = (
                f"{database} is under take-over: until a run has set its account, it may refuse what stores serve, and "
                "let in what an emergency has revoked. The next run sets it."
            )
            yield Reason(kind=Kind.TAKE_OVER, text=text, next=step, place=database)
    if record.claim and not is_held(record, now):
        text = f"A run ended before generation {record.claim.generation} was done. The next run continues."
        yield Reason(kind=Kind.UNFINISHED, text=text, next=step)
    if record.paused:
        text = "It is paused: no scheduled run begins."
        yield Reason(kind=Kind.PAUSED, text=text, next=lockstep("resume", credential.id))
    else:
        yield from _of_schedule(record, credential, now, step, may_run=may_run)


def _of_schedule(
    record: LockRecord, credential: Watched, now: datetime, step: str, *, may_run: bool | None
) -> Iterator[Reason]:
    if not record.allows(credential.plan_digest):
        active = f"the active one is {record.plan}" if record.plan else "none is active"
        text = (
            f"The plan of this file is not the active one: {active}. Runs under it change nothing. If this is the "
            "newer file, make it the active one; else use the active one's."
        )
        yield Reason(kind=Kind.OTHER_PLAN, text=text, next=step)
    elif record.current_generation is None:
        text = "It was never rotated."
        if may_run is False and not record.take_over:
            text += " Import the login that works today; a new account has none: `lockstep take-over`."
        yield Reason(kind=Kind.NEW, text=text, next=step)
    if is_overdue(record, credential.schedule, now):
        text = "It was not rotated for two intervals, or nothing says since when."
        yield Reason(kind=Kind.OVERDUE, text=text, next=step)


def unreadable(credential: Watched, problem: str) -> Reason:
    """The lock record cannot be read; `problem` is the name of the error."""
    text = f"The lock record cannot be read: {problem}. No run begins."
    step = lockstep("lock", "show", credential.id)
    return Reason(kind=Kind.UNREADABLE, text=text, next=step, place=problem)


def lost(record: LockRecord, credential: Watched, now: datetime) -> Reason:
    """No record in the table shows that anybody ever activated a plan."""
    text = "The lock table knows no credential: it was lost, or is another one. Nothing is rotated."
    return Reason(kind=Kind.OVERDUE, text=text, next=next_step(record, credential, now))


def is_overdue(record: LockRecord, schedule: Schedule, now: datetime) -> bool:
    """Whether it was not rotated for two intervals, or since when it is due is not known (protocol L17)."""
    known = believed(record, now, schedule.interval)
    due = due_at(known)
    if known.next_due_at is None or due is None:
        return record.next_due_at is not None
    # It is due an interval, less the tolerance, after its last rotation began.
    return now - due >= schedule.interval + schedule.tolerance


def of_stores(
    record: LockRecord,
    credential: Credential,
    answers: Mapping[str, Served | LockstepError],
    *,
    is_in_sync: bool | None,
    now: datetime,
) -> Iterator[Reason]:
    """What the stores serve.

    Args:
        record: The record.
        credential: The credential.
        answers: Of each store.
        is_in_sync: As of `lockstep.operate.state.CredentialState`.
        now: The time.
    """
    is_rotated, step = record.current_generation is not None, next_step(record, credential, now)
    told = {name: answer for name, answer in answers.items() if not isinstance(answer, LockstepError)}
    for name, answer in answers.items():
        if isinstance(answer, LockstepError):
            yield _of_error(name, answer, credential, is_rotated=is_rotated)
    if is_held(record, now) or not is_rotated:  # What a run has half done is not out of sync.
        return
    found = False
    for name, served in told.items():
        if isinstance(served, StoredValue) and (served.malformed or served.login is None):
            kind = Kind.OUT_OF_SYNC if served.login else Kind.NO_LOGIN
            what = "holds what is no credential" if served.malformed else "holds a placeholder, and no login"
        elif is_revoked(record, served.generation):
            kind, what = Kind.REVOKED, f"serves generation {served.generation}, which was revoked"
        elif not served.generation:
            kind, what = Kind.OUT_OF_SYNC, "serves what Lockstep did not write, and no run has tried"
        else:
            continue
        found = True
        yield Reason(kind=kind, text=f"Store {name} {what}. The next run fixes that.", next=step, place=name)
    if is_in_sync is False and not found and len(told) == len(answers):
        text = "The stores do not serve the same login, or not the one on record. The next run fixes that."
        yield Reason(kind=Kind.OUT_OF_SYNC, text=text, next=step)


def is_revoked(record: LockRecord, generation: int) -> bool:
    """Whether a generation was served once, and is shown to be revoked on every database."""
    in_flight = record.claim.generation if record.claim else None
    is_valid = generation in record.valid or generation in {0, record.current_generation, in_flight}
    return not is_valid and generation <= record.highest_generation


def _of_error(name: str, error: LockstepError, credential: Credential, *, is_rotated: bool) -> Reason:
    kind, step = Kind.UNREACHABLE, lockstep("doctor")
    is_forged = error.where.get("code") == FORGED
    if is_forged or error.where.get("secret") == credential.secret_names.connection_blob:
        kind = Kind.OUT_OF_SYNC
    elif isinstance(error, SecretNotFoundError | SecretMalformedError) and is_rotated:
        kind = Kind.NO_LOGIN
    if isinstance(error, SecretNotFoundError):
        step = lockstep("secrets", "create")
    elif isinstance(error, SecretMalformedError) and (is_forged or kind is not Kind.OUT_OF_SYNC):
        step = lockstep("import", credential.id, "--replace")
    return Reason(kind=kind, text=f"Store {name}: {line_of(error)}", next=step, place=name)


def of_last_run(
    record: LockRecord,
    credential: Watched,
    error: str,
    now: datetime,
    *,
    meaning: str = "",
    answers: Mapping[str, Served | LockstepError] = {},
    may_run: bool | None = None,
) -> Iterator[Reason]:
    """How the last run failed, as far as neither the record nor a store tells that by itself.

    Args:
        record: The record.
        credential: The credential.
        error: The name of its error.
        now: The time.
        meaning: What that error says, and advises.
        answers: What the stores that were asked serve since.
        may_run: As of `next_step`.
    """
    step, kind = next_step(record, credential, now, may_run=may_run), Kind.FAILED
    is_told = (
        error == PlanNotActiveError.__name__ and not record.allows(credential.plan_digest)
    ) or error in {type(answer).__name__ for answer in answers.values() if isinstance(answer, LockstepError)}
    if is_told:
        return
    served = [answer.generation for answer in answers.values() if not isinstance(answer, LockstepError)]
    if error in _REFUSING and (not served or any(served)):
        kind = Kind.REFUSED
        is_unknown = error == CurrentCredentialRejectedError.__name__
        if is_unknown and step == run_command(credential) and not record.take_over:
            # A run would see the same refusals.
            step = lockstep("doctor", "--only", "database.login")
            if len(credential.databases) == 1:
                step = lockstep("take-over", credential.id, *credential.databases)
        if error == NoRoomError.__name__ and record.not_before and record.not_before > now:
            step = lockstep("status", credential.id, "--watch")
    elif error in _OF_CONTENT and not any(isinstance(answer, StoredValue) for answer in answers.values()):
        step = lockstep("status", credential.id, "--read-values")
    yield Reason(kind=kind, text=f"The last run ended with {error}. {meaning}", next=step)
