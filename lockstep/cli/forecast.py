"""What a run that started now would do, as a pure function over what was read. It probes and changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from lockstep import plans
from lockstep.cli.documents import Action, WaitsFor
from lockstep.cli.reading import Served, judged
from lockstep.cli.times import clock_time, to_second
from lockstep.decide import Adopt, Begin, agree, decide
from lockstep.errors import DatabaseMutedError, EnrolmentNeededError, PlanNotActiveError
from lockstep.lock_rule import Reason, reason_against
from lockstep.model import Credential, LockRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What a run waits for.

    Attributes:
        until: When that is over; None for a pause, which ends by an order, and for a holder without an end.
        holder: The run that holds the lock.
    """

    credential_id: str
    reason: Reason
    until: datetime | None = None
    holder: str | None = None

    def told(self, now: datetime) -> str:
        """The same, in words."""
        end = clock_time(self.until, now) if self.until else "somebody gives it back"
        match self.reason:
            case Reason.HELD:
                return f"{self.holder} holds the lock until {end}"
            case Reason.PAUSED:
                return f"paused, until `lockstep resume {self.credential_id}`"
            case Reason.OVERLAP:
                return f"the overlap ends at {end}"
            case Reason.NOT_DUE:
                return f"not due before {end}"

    def document(self, now: datetime) -> WaitsFor:
        """The same, for other programs."""
        return WaitsFor(
            reason=self.reason.value,
            until=to_second(self.until),
            holder=self.holder,
            meaning=self.told(now),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What the next run does.

    Attributes:
        action: `rotate`, `finish`, `heal`, or `stop` where it would end without a change; None where that depends on
            values that were not read.
        meaning: The same, as a sentence.
        waits_for: Why a run that starts now would be skipped; None: it would not.
    """

    action: Action | None
    meaning: str
    waits_for: Wait | None


def in_step(record: LockRecord, cases: Sequence[Served]) -> bool | None:
    """Whether every store serves the same login, and the one that the lock record knows.

    Args:
        record: The lock record.
        cases: What the stores may hold (`lockstep.cli.reading.possible`).

    Returns:
        None where that depends on values that were not read.
    """
    found = judged(cases, partial(_is_in_step, record))
    return found[0] if len(found) == 1 else None


def _is_in_step(record: LockRecord, current: Served) -> bool:
    first = next(iter(current.values()))
    known = {record.current_generation, record.claim.generation if record.claim else None}
    is_known = record.current_generation is None or first.generation in known
    return first.login is not None and agree(current.values()) and is_known


def forecast(
    record: LockRecord, cases: Sequence[Served], credential: Credential, *, now: datetime
) -> Forecast:
    """What the next run does, and what it waits for; the waiting by the condition of AcquireLock, not forced.

    Args:
        record: The lock record.
        cases: What the stores may hold, with logins first (`lockstep.cli.reading.possible`).
        credential: The credential.
        now: When the run would start.
    """
    action: Action | None
    [(action, meaning), *others] = judged(cases, partial(_foreseen, record, credential))
    for _, other in others:
        action, meaning = None, f"{meaning}; or, if the stores hold placeholders only: {other}"
    return Forecast(action=action, meaning=meaning, waits_for=waits_for(record, now))


def _foreseen(record: LockRecord, credential: Credential, current: Served) -> tuple[Action, str]:
    try:
        return _decided(record, current, credential)
    except (PlanNotActiveError, EnrolmentNeededError, DatabaseMutedError) as error:
        return "stop", f"change nothing: {error}"


def _decided(record: LockRecord, current: Served, credential: Credential) -> tuple[Action, str]:
    plan = plans.require_active(record, credential)
    plans.require_audible(record, credential)
    match decide(record, current, plan=plan, databases=credential.databases):
        case Adopt(claim=claim):
            return "finish", f"finish generation {claim.generation}, begun by {claim.rotation_id}"
        case Begin(base_generation=base):
            what = f"make a new generation on top of {base}" if base else "make the first generation"
            return "rotate", what
        case _:
            return "heal", "find the login that works on every database and serve it from every store"


def waits_for(record: LockRecord, now: datetime, *, is_forced: bool = False) -> Wait | None:
    """Why a run that starts now would be skipped, by the condition of AcquireLock; None: it would not.

    Args:
        record: As the run would find it.
        now: When it would start.
        is_forced: Whether it rotates before it is due and in spite of a pause.
    """
    reason = reason_against(record, now=now, is_forced=is_forced)
    wait = partial(Wait, credential_id=record.credential_id)
    match reason:
        case Reason.HELD:
            return wait(reason=reason, until=record.expires_at, holder=record.holder)
        case Reason.PAUSED:
            return wait(reason=reason)
        case Reason.OVERLAP:
            return wait(reason=reason, until=record.not_before)
        case Reason.NOT_DUE:
            return wait(reason=reason, until=record.next_due_at)
        case None:
            return None
