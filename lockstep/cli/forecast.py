"""What a run that started now would do, as a pure function over what was read. It probes and changes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from lockstep import plans
from lockstep.cli.times import clock_time
from lockstep.decide import Adopt, Begin, agree, decide
from lockstep.errors import DatabaseMutedError, EnrolmentNeededError, PlanNotActiveError
from lockstep.model import Credential, LockRecord, StoredValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What the next run does.

    Attributes:
        action: `rotate`, `finish`, `heal`, or `stop` where it would end without a change.
        meaning: The same, as a sentence.
        waits_for: Why a run that starts now would be skipped; None: it would not.
    """

    action: str
    meaning: str
    waits_for: str | None


def in_step(record: LockRecord, current: Mapping[str, StoredValue]) -> bool:
    """Whether every store serves the same login, and the one that the lock record knows."""
    first = next(iter(current.values()))
    known = {record.current_generation, record.claim.generation if record.claim else None}
    is_known = record.current_generation is None or first.generation in known
    return first.login is not None and agree(current.values()) and is_known


def forecast(
    record: LockRecord, current: Mapping[str, StoredValue], credential: Credential, *, now: datetime
) -> Forecast:
    """What the next run does, and what it waits for; the waiting by the condition of AcquireLock, not forced."""
    try:
        action, meaning = _decided(record, current, credential)
    except (PlanNotActiveError, EnrolmentNeededError, DatabaseMutedError) as error:
        action, meaning = "stop", f"change nothing: {error}"
    return Forecast(action=action, meaning=meaning, waits_for=_waits_for(record, now))


def _decided(
    record: LockRecord, current: Mapping[str, StoredValue], credential: Credential
) -> tuple[str, str]:
    plan = plans.require_active(record, credential)
    plans.require_audible(record, credential)
    match decide(record, current, plan=plan, databases=credential.databases):
        case Adopt(claim=claim):
            return "finish", f"finish generation {claim.generation}, begun by {claim.rotation_id}"
        case Begin(base_generation=base):
            return "rotate", f"make a new generation on top of {base}"
        case _:
            return "heal", "find the login that works on every database and serve it from every store"


def _waits_for(record: LockRecord, now: datetime) -> str | None:
    if record.holder is not None and record.expires_at is not None and record.expires_at >= now:
        return f"{record.holder} holds the lock until {clock_time(record.expires_at, now)}"
    if record.paused:
        return f"paused; lockstep resume {record.credential_id}"
    if record.is_revoking:
        return None
    if record.not_before is not None and record.not_before > now:
        return f"the overlap ends at {clock_time(record.not_before, now)}"
    if not record.claim and record.next_due_at is not None and record.next_due_at > now:
        return f"not due before {clock_time(record.next_due_at, now)}"
    return None
