"""The state of a credential: what its stores show, what its record says, and what the next run would do."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypeVar

from msgspec import structs

from lockstep.audit.confirmed import Digests, recent_digests
from lockstep.audit.confirmed import Verdict as AuditVerdict
from lockstep.audit.digest import UNSEEN, Evidence
from lockstep.operate import documents
from lockstep.operate.access import evidence_of, named_stores
from lockstep.operate.documents import FEW, Action, ClaimInFlight, NextRun, Record, Run, WaitsFor
from lockstep.operate.formatting import clock_time, to_second
from lockstep.operate.history import last_runs
from lockstep.operate.verdict import (
    Ending,
    Kind,
    Reason,
    Verdict,
    of_last_run,
    of_record,
    of_stores,
    ranked,
    run_command,
    unreadable,
    verdict_of,
)
from lockstep.plan.compiled import message
from lockstep.plan.model import Plan
from lockstep.protocol.decide import (
    Adopt,
    Begin,
    agree,
    decide,
    require_active,
    require_not_blocked,
    require_plausible,
)
from lockstep.protocol.errors import (
    MALFORMED_ITEM,
    AuditLogAccessDeniedError,
    AuditLogUnreachableError,
    DatabaseBlockedError,
    LockstepError,
    LockTableAccessDeniedError,
    NewerFormatError,
    PlanNotActiveError,
    SecretMalformedError,
    SecretNotFoundError,
    TakeOverNeededError,
    described,
    line_of,
)
from lockstep.protocol.lock_rule import Reason as Against
from lockstep.protocol.lock_rule import due_at, is_held, reason_against
from lockstep.protocol.model import Credential, LockRecord, Login, SecretStr, StoredValue
from lockstep.protocol.ports import Table
from lockstep.protocol.schedule import AWS, STANDBY, next_runner
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import Cloud
from lockstep.stores.readers import StoredNames


def promoted_at(record: LockRecord, credential: Credential) -> datetime | None:
    """When every store was seen to serve the current generation (protocol C11).

    None where that is not on record, or the plan is not the active one: its overlap may be another.
    """
    if record.current_generation is None or record.not_before is None:
        return None
    if record.plan != credential.plan_digest:
        return None
    return record.not_before - credential.schedule.overlap


# What a look at the stores tells: by the names of the versions, or by the values themselves.
#
# A judgement is told where it is the same for everything that the stores may hold by what was read. Where it is
# not, only the values decide, and `lockstep status --read-values` reads them (ADR 59).

Depth = Literal["names", "values"]
Answer = StoredNames | StoredValue | LockstepError
Served = Mapping[str, StoredValue]


@dataclass(frozen=True, kw_only=True)
class StoreSnapshot:
    """What a look at a credential's stores told.

    Attributes:
        depth: What was read.
        answers: Of each store, by its name.
        pending_since: When the generation in flight was staged; None where none is in flight, or it is not staged yet.
    """

    depth: Depth
    answers: Mapping[str, Answer]
    pending_since: datetime | LockstepError | None


UNREAD = StoreSnapshot(depth="names", answers={}, pending_since=None)
"""Where no store was asked."""

AnswerT = TypeVar("AnswerT")
JudgedT = TypeVar("JudgedT")

_SOME = Login("", SecretStr(""))
"""In the place of a login that was not read."""


def look(
    plan: Plan, clouds: Clouds, credential: Credential, record: LockRecord, depth: Depth
) -> StoreSnapshot:
    """Ask every store, and the first one about a generation in flight.

    Args:
        plan: The plan.
        clouds: What the operator reaches.
        credential: The credential.
        record: Its lock record.
        depth: Whether values are read.
    """
    named = named_stores(plan, clouds, credential)
    names = [store.name for store in plan.stores]
    reads: list[Callable[[], StoredNames | StoredValue]] = (
        [store.read_current for store in clouds.stores(credential)]
        if depth == "values"
        else [store.read for store in named]
    )
    answers = {name: asked(read) for name, read in zip(names, reads, strict=True)}
    claim = record.claim
    # Staging begins in the first store (protocol V1), so it knows since when a generation pends.
    since = asked(partial(named[0].staged_at, claim.generation)) if claim else None
    return StoreSnapshot(depth=depth, answers=answers, pending_since=since)


def asked(ask: Callable[[], AnswerT]) -> AnswerT | LockstepError:
    """An answer, or why there is none."""
    try:
        return ask()
    except LockstepError as error:
        return error


def possible(answers: Mapping[str, StoredNames | StoredValue]) -> list[Served]:
    """Everything that the stores may hold by what was read, as far as it matters to a run.

    What Lockstep wrote under one generation is one value in every store (protocol V1). What it did not write is a login
    or a placeholder: names do not say which.
    """
    cases: list[Served] = [{name: _value(a, login) for name, a in answers.items()} for login in (_SOME, None)]
    return cases[:1] if cases[0] == cases[1] else cases


def _value(answer: StoredNames | StoredValue, unwritten: Login | None) -> StoredValue:
    if isinstance(answer, StoredValue):
        return answer
    return StoredValue(
        login=_SOME if answer.generation else unwritten,
        generation=answer.generation,
        blob_generation=answer.blob_generation,
        version=answer.version,
    )


def judged(cases: Iterable[Served], judge: Callable[[Served], JudgedT]) -> list[JudgedT]:
    """The different judgements of all cases; one where names tell it."""
    found: list[JudgedT] = []
    for case in cases:
        if (one := judge(case)) not in found:
            found.append(one)
    return found


# What a run that started now would do, as a pure function over what was read. It probes and changes nothing.


def in_sync(record: LockRecord, cases: Sequence[Served]) -> bool | None:
    """Whether every store serves the same login, and the one that the lock record knows.

    Args:
        record: The lock record.
        cases: What the stores may hold (`lockstep.operate.state.possible`).

    Returns:
        None where that depends on values that were not read.
    """
    found = judged(cases, partial(_is_in_sync, record))
    return found[0] if len(found) == 1 else None


def _is_in_sync(record: LockRecord, current: Served) -> bool:
    first = next(iter(current.values()))
    known = {record.current_generation, record.claim.generation if record.claim else None}
    is_known = record.current_generation is None or first.generation in known
    return first.login is not None and agree(current.values()) and is_known


def forecast(
    record: LockRecord, cases: Sequence[Served], credential: Credential, *, now: datetime
) -> NextRun:
    """What the next run does, and what it waits for; the waiting by the condition of AcquireLock, not forced.

    Args:
        record: The lock record.
        cases: What the stores may hold, with logins first (`lockstep.operate.state.possible`).
        credential: The credential.
        now: When the run would start.
    """
    action: Action | None
    waits = waits_for(record, now)
    starts = max(due_at(record) or now, now) if waits else now
    [(action, meaning), *others] = judged(cases, partial(_foreseen, record, credential, starts))
    for _, other in others:
        action, meaning = None, f"{meaning}; or, if the stores hold placeholders only: {other}"
    return NextRun(action=action, meaning=meaning, waits_for=waits)


def _foreseen(
    record: LockRecord, credential: Credential, starts: datetime, current: Served
) -> tuple[Action, str]:
    try:
        plan = require_active(record, credential)
        require_not_blocked(record, credential)
        decision = decide(record, current, plan=plan, databases=credential.databases, now=starts)
    except (PlanNotActiveError, TakeOverNeededError, DatabaseBlockedError) as error:
        return "stop", f"change nothing: {error}"
    match decision:
        case Adopt(claim=claim):
            return "finish", f"finish generation {claim.generation}, begun by {claim.rotation_id}"
        case Begin(base_generation=base):
            what = f"make a new generation on top of {base}" if base else "make the first generation"
            return "rotate", what
        case _:
            return "reconcile", "find a login that works on every database, and serve it from every store"


def waits_for(record: LockRecord, now: datetime, *, is_forced: bool = False) -> WaitsFor | None:
    """Why a run that starts now would be skipped, by the condition of AcquireLock; None: it would not.

    Args:
        record: As the run would find it.
        now: When it would start.
        is_forced: Whether it rotates before it is due and in spite of a pause.
    """
    reason = reason_against(record, now=now, is_forced=is_forced)
    if reason is None:
        return None
    until = {Against.HELD: record.expires_at, Against.NOT_DUE: record.next_due_at}.get(reason)
    end = clock_time(until, now) if until else "somebody gives it back"
    meanings = {
        Against.HELD: f"{record.holder} holds the lock until {end}",
        Against.PAUSED: f"paused, until `lockstep resume {record.credential_id}`",
        Against.NOT_DUE: f"not due before {end}",
    }
    holder = record.holder if reason is Against.HELD else None
    return WaitsFor(reason=reason.value, until=until, holder=holder, meaning=meanings[reason])


# What a credential's record says to a person: how old its value is, and who rotates it next.


def next_cloud(record: LockRecord, credential: Credential, now: datetime, *, has_standby: bool) -> Cloud:
    """The cloud whose trigger comes first when the credential is due (protocol R8)."""
    due = max(due_at(record) or now, now)
    return STANDBY if has_standby and next_runner(credential.schedule, due) == STANDBY else AWS


def lines(
    record: LockRecord,
    credential: Credential,
    now: datetime,
    *,
    has_standby: bool,
    last_run: Run | None = None,
) -> Iterator[str]:
    """The same as lines.

    Args:
        record: The lock record.
        credential: The credential.
        now: The time.
        has_standby: Whether OCI rotates too.
        last_run: Says which of the generations before the current one it has proven.
    """
    since = promoted_at(record, credential)
    if since is not None:
        yield f"generation {record.current_generation}: promoted at {clock_time(since, now)}"
    yield from _previous(record, now, proven_previous(record, last_run))
    if record.next_due_at:
        yield f"next due: {clock_time(record.next_due_at, now)}{_by(record, credential, now, has_standby=has_standby)}"


def proven_previous(record: LockRecord, last_run: Run | None) -> int | None:
    """The generation before the current one, if the run that promoted that has seen it log in on every database.

    A rotation begins with a login of it; a reconcile need not have seen it.
    """
    if last_run is None or last_run.kind != "new" or last_run.generation != record.current_generation:
        return None
    return last_run.base_generation if last_run.base_generation in record.valid else None


def _previous(record: LockRecord, now: datetime, proven: int | None) -> Iterator[str]:
    """What may still be valid of the generations before the current one, and for how long."""
    for generation in sorted((g for g in record.valid if g < (record.current_generation or 0)), reverse=True):
        name = f"previous generation {generation}"
        runs_until = record.not_before if record.not_before and record.not_before > now else None
        if record.is_revoking and generation <= (record.revoke_through or 0):
            yield f"{name}: must be revoked, by the emergency order"
        elif runs_until and generation == proven:
            yield f"{name}: proven by the last run, valid until {clock_time(runs_until, now)}"
        elif runs_until:
            yield f"{name}: may be valid; no run ends it before {clock_time(runs_until, now)}"
        else:
            yield f"{name}: may be valid; the next rotation may end it"


def _by(record: LockRecord, credential: Credential, now: datetime, *, has_standby: bool) -> str:
    """Who has the next turn. Whether that run rotates is in the forecast."""
    if record.paused:
        return "; paused, so no scheduled run begins"
    overdue = ", overdue" if record.next_due_at and record.next_due_at < now else ""
    who = next_cloud(record, credential, now, has_standby=has_standby)
    return f"{overdue}; the turn of {who}{', the standby' if who == STANDBY else ''}"


@dataclass(frozen=True, kw_only=True)
class CredentialState:
    """The state of one credential.

    Attributes:
        credential: As the plan file has it.
        look: What each store told, or why that is not known.
        is_in_sync: None if a store was unreachable, or that depends on values that were not read.
        next_run: None where a store was unreachable.
        last_run: The newest on record; None where there is none.
        unread: The errors of the audit logs in which it was looked for, by cloud.
        reasons: What is the matter, the gravest first.
        is_running: Whether a run has the lock.
    """

    record: LockRecord
    credential: Credential
    has_standby: bool
    reasons: Sequence[Reason]
    look: StoreSnapshot = UNREAD
    is_in_sync: bool | None = None
    next_run: NextRun | None = None
    last_run: Run | None = None
    unread: Mapping[str, LockstepError] = field(default_factory=dict)
    is_running: bool = False

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        return verdict_of(self.reasons)


def looked_at(
    plan: Plan,
    clouds: Clouds,
    credential: Credential,
    record: LockRecord,
    now: datetime,
    *,
    depth: Depth = "names",
) -> CredentialState:
    """The state of a credential: its stores and its last run are read, beside a record that was."""
    snapshot = look(plan, clouds, credential, record, depth)
    runs, unread = last_runs(plan, clouds, credential, record.heads, 1)
    return state_of(
        record,
        credential,
        snapshot,
        now,
        has_standby=plan.runners.oci is not None,
        last_run=next(iter(runs), None),
        unread=unread,
    )


def state_of(
    record: LockRecord,
    credential: Credential,
    look: StoreSnapshot,
    now: datetime,
    *,
    has_standby: bool,
    last_run: Run | None,
    unread: Mapping[str, LockstepError],
) -> CredentialState:
    """The state of a credential, by what was read. The snapshot may be empty: then nothing is said of the stores."""
    look = replace(look, answers=_plausible(record, look.answers))
    told = {name: a for name, a in look.answers.items() if not isinstance(a, LockstepError)}
    wrong = [n for n, a in look.answers.items() if isinstance(a, SecretMalformedError | SecretNotFoundError)]
    is_in_sync: bool | None = False if wrong else None
    next_run: NextRun | None = None
    if wrong:
        meaning = f"change nothing, because what store {wrong[0]} has cannot be used"
        next_run = NextRun(action="stop", meaning=meaning, waits_for=waits_for(record, now))
    elif told and len(told) == len(look.answers):
        cases = possible(told)
        is_in_sync, next_run = in_sync(record, cases), forecast(record, cases, credential, now=now)
    placeholders = [n for n, a in told.items() if isinstance(a, StoredValue) and a.login is None]
    may_run = next_run.action != "stop" if next_run and next_run.action else None
    of_contents = list(
        of_stores(record, credential, look.answers, placeholders=placeholders, is_in_sync=is_in_sync, now=now)
    )
    reasons = [
        *of_record(record, credential, now, may_run=may_run),
        *of_contents,
        *(of_last_run(record, credential, _ending(last_run, look, may_run), now) if last_run else ()),
        *_of_unread(unread),
    ]
    if wrong:  # No run does anything before that.
        first = next(reason.next for reason in of_contents if reason.place == wrong[0])
        run = run_command(credential)
        reasons = [structs.replace(r, next=first) if r.next == run else r for r in reasons]
    return CredentialState(
        record=record,
        credential=credential,
        has_standby=has_standby,
        look=look,
        is_in_sync=is_in_sync,
        next_run=next_run,
        last_run=last_run,
        unread=unread,
        reasons=ranked(reasons),
        is_running=is_held(record, now),
    )


def _plausible(record: LockRecord, answers: Mapping[str, Answer]) -> Mapping[str, Answer]:
    """The answers, with the error that ends a run where a generation is one that Lockstep never made."""
    told = {name: a for name, a in answers.items() if not isinstance(a, LockstepError)}
    try:
        require_plausible(record, possible(told)[0])
    except SecretMalformedError as error:
        return {**answers, error.where["store"]: error}
    return answers


def _ending(run: Run, look: StoreSnapshot, may_run: bool | None) -> Ending:  # noqa: FBT001 - as of `next_step`
    meaning = " ".join(filter(None, (run.meaning, run.advice)))
    are_values = look.depth == "values"
    return Ending(
        error=run.error, meaning=meaning, answers=look.answers, are_values=are_values, may_run=may_run
    )


def _of_unread(unread: Mapping[str, LockstepError]) -> Iterator[Reason]:
    """What is said of logs that did not answer; one that this person may not read says nothing."""
    for cloud, error in unread.items():
        if isinstance(error, AuditLogUnreachableError):
            text = f"The audit log in {cloud} cannot be read. {line_of(error)}"
            yield Reason(kind=Kind.UNRECORDED, text=text, next="lockstep doctor", place=cloud)


def document(state: CredentialState, now: datetime) -> documents.Credential:
    """The state of a credential, for other programs."""
    record, since = state.record, state.look.pending_since
    return documents.Credential(
        **record_fields(record),
        orders=message(
            documents.Orders,
            record,
            active_plan=record.plan,
            revoke_through=record.revoke_through if record.is_revoking else None,
            take_over=sorted(record.take_over),
            blocked=sorted(record.blocked),
        ),
        current_since=to_second(promoted_at(record, state.credential)),
        next_cloud=next_cloud(record, state.credential, now, has_standby=state.has_standby),
        last_run=state.last_run,
        plan_digest=state.credential.plan_digest,
        verdict=state.verdict,
        reasons=state.reasons,
        in_sync=state.is_in_sync,
        read=state.look.depth,
        pending_since=to_second(since) if isinstance(since, datetime) else None,
        stores=[_store_document(name, answer) for name, answer in state.look.answers.items()],
        next_run=state.next_run,
    )


def evidence_reasons(plan: Plan, clouds: Clouds, now: datetime) -> list[Reason]:
    """What is the matter with the audit logs as evidence: each must be confirmed by the other cloud, up to now.

    Nothing is said where the plan has no public keys of digests, where this person may not read these, and in the first
    hours of a cloud's digests.
    """
    evidence = evidence_of(plan, clouds)
    if not all(of.keys for of in evidence):
        return []
    found = recent_digests(evidence, now=now, side_by_side=clouds.side_by_side)
    if any(isinstance(digests.error, AuditLogAccessDeniedError) for digests in found.values()):
        return []
    return [
        Reason(
            kind=Kind.UNCONFIRMED, text=_unconfirmed(digests), next="lockstep audit verify", place=of.stream
        )
        for of in evidence
        if (digests := found[of.stream]).verdict(now) is not AuditVerdict.VERIFIED
        if digests.error or _are_old(of, now)
    ]


def _are_old(evidence: Evidence, now: datetime) -> bool:
    """Whether a cloud has digests that the other one should have confirmed."""
    first = next(evidence.digests.listed(), None)
    return first is not None and now - first.at >= UNSEEN


def _unconfirmed(digests: Digests) -> str:
    if why := digests.unreadable or next(iter(digests.problems), ""):
        return f"The digests of the audit log in {digests.stream}: {why}."
    return f"No digest of the audit log in {digests.stream} of the last three hours is confirmed by the other cloud."


def _store_document(name: str, answer: Answer) -> documents.StoreServes:
    """What a store serves, for other programs."""
    if isinstance(answer, LockstepError):
        return documents.StoreServes(store=name, error=described(answer).name)
    # What Lockstep wrote is none; of what it did not write the name says nothing.
    by_name = None if answer.generation == 0 else False
    return documents.StoreServes(
        store=name,
        generation=answer.generation,
        blob_generation=answer.blob_generation,
        version=answer.version,
        placeholder=answer.login is None if isinstance(answer, StoredValue) else by_name,
    )


def record_fields(record: LockRecord) -> dict[str, Any]:
    """The lock record, as the fields of `documents.Record`."""
    claim = record.claim
    return {
        **{name: getattr(record, name, None) for name in Record.__struct_fields__},
        "credential": record.credential_id,
        "valid": sorted(record.valid),
        "claim": claim and ClaimInFlight(**structs.asdict(claim), promoting=record.promoting),
    }


def table_of(clouds: Clouds, wanted: Sequence[Credential]) -> Table:
    """The lock records of credentials: one by one; or by a scan for more than `FEW`, where that is allowed.

    A record that cannot be read stands in the way of no other.

    Raises:
        LockstepError: The table cannot be read.
    """
    if len(wanted) > FEW:
        with suppress(LockTableAccessDeniedError):
            return clouds.lock_table()
    reads = [partial(asked, clouds.lock(c).read) for c in wanted]
    records, refused = {}, {}
    answers = clouds.side_by_side(reads) if len(reads) > FEW else [read() for read in reads]
    for credential, answer in zip(wanted, answers, strict=True):
        if isinstance(answer, LockRecord):
            records[credential.id] = answer
        elif isinstance(answer, NewerFormatError) or answer.where.get("code") == MALFORMED_ITEM:
            refused[credential.id] = type(answer).__name__
        else:
            raise answer
    return Table(records=records, unreadable=refused)


def state_of_unreadable(credential: Credential, problem: str, *, has_standby: bool) -> CredentialState:
    """The state of a credential whose record cannot be read: nothing is known, and no store was asked."""
    return CredentialState(
        record=LockRecord(credential_id=credential.id),
        credential=credential,
        has_standby=has_standby,
        reasons=[unreadable(credential, problem)],
    )
