"""The state of a credential: what its stores show, what its record says, and what the next run would do."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Literal, TypeVar

from msgspec import structs

from lockstep.audit.confirmed import Verdict as AuditVerdict
from lockstep.audit.confirmed import recent_digests
from lockstep.audit.digest import UNSEEN
from lockstep.operate import documents
from lockstep.operate.access import evidence_of
from lockstep.operate.documents import FEW, Action, ClaimInFlight, NextRun, Record, Run, WaitsFor
from lockstep.operate.formatting import clock_time, to_second
from lockstep.operate.history import last_runs
from lockstep.operate.verdict import (
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
    require_plausible,
)
from lockstep.protocol.errors import (
    MALFORMED_ITEM,
    AuditLogAccessDeniedError,
    AuditLogUnreachableError,
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
from lockstep.protocol.lock_rule import believed, due_at, is_held, reason_against
from lockstep.protocol.model import Credential, LockRecord, Login, SecretStr, StoredValue
from lockstep.protocol.ports import Table
from lockstep.protocol.schedule import AWS, STANDBY, cloud_of, next_runner
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import Cloud
from lockstep.stores.credential import StoredNames


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

Answer = StoredNames | StoredValue | LockstepError
Served = Mapping[str, StoredValue]
AnswerT = TypeVar("AnswerT")

_SOME = Login("", SecretStr(""))
"""In the place of a login that was not read."""


def asked(ask: Callable[[], AnswerT]) -> AnswerT | LockstepError:
    """An answer, or why there is none."""
    try:
        return ask()
    except LockstepError as error:
        return error


def possible(answers: Mapping[str, StoredNames | StoredValue]) -> list[Served]:
    """Everything that the stores may hold by what was read, as far as it matters to a run.

    What Lockstep wrote under one generation is one value in every store (protocol V1). What it did not write is a login
    or a placeholder: names do not say which. That it is the recorded login (protocol V8), only values tell.
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


# What a run that started now would do, as a pure function over what was read. It probes and changes nothing.


def in_sync(record: LockRecord, cases: Sequence[Served]) -> bool | None:
    """Whether every store serves the same login, and the one that the lock record knows.

    Args:
        record: The lock record.
        cases: What the stores may hold (`lockstep.operate.state.possible`).

    Returns:
        None where that depends on values that were not read.
    """
    found = {_is_in_sync(record, case) for case in cases}
    return found.pop() if len(found) == 1 else None


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
    record = believed(record, now, credential.schedule.interval)
    waits = waits_for(record, now)
    starts = max(due_at(record) or now, now) if waits else now
    [(action, meaning), *others] = dict.fromkeys(
        _foreseen(record, credential, starts, case) for case in cases
    )
    for _, other in others:
        action, meaning = None, f"{meaning}; or, if the stores hold placeholders only: {other}"
    return NextRun(action=action, meaning=meaning, waits_for=waits)


def _foreseen(
    record: LockRecord, credential: Credential, starts: datetime, current: Served
) -> tuple[Action, str]:
    try:
        plan = require_active(record, credential)
        decision = decide(record, current, plan=plan, databases=credential.databases, now=starts)
    except (PlanNotActiveError, TakeOverNeededError) as error:
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
        record: As the run would find it, without times that cannot be.
        now: When it would start.
        is_forced: Whether it rotates before it is due and in spite of a pause.
    """
    reason = reason_against(record, now=now, is_forced=is_forced)
    if reason is None:
        return None
    until = {Against.HELD: record.expires_at, Against.NOT_DUE: record.next_due_at}.get(reason)
    end = clock_time(until, now) if until else ""
    meanings = {
        Against.HELD: f"{record.holder} holds the lock until {end}",
        Against.PAUSED: f"paused, until `lockstep resume {record.credential_id}`",
        Against.NOT_DUE: f"not due before {end}",
    }
    holder = record.holder if reason is Against.HELD else None
    return WaitsFor(reason=reason.value, until=until, holder=holder, meaning=meanings[reason])


@dataclass(frozen=True, kw_only=True)
class CredentialState:
    """The state of one credential.

    Attributes:
        credential: As the plan file has it.
        next_cloud: The one whose trigger comes first when the credential is due (protocol R8).
        answers: What each store told, or why that is not known; empty where none was asked.
        read_at: When they were asked; None: not since the record changed.
        is_in_sync: None if a store was unreachable, or that depends on values that were not read.
        next_run: None where a store was unreachable.
        runs: The last ones on record that were read, the newest first.
        unread: The errors of the audit logs in which they were looked for, by cloud.
        reasons: What is the matter, the gravest first.
        runner: The cloud whose run has the lock; None if none has.
    """

    record: LockRecord
    credential: Credential
    reasons: Sequence[Reason]
    next_cloud: Cloud = AWS
    answers: Mapping[str, Answer] = field(default_factory=dict)
    read_at: datetime | None = None
    is_in_sync: bool | None = None
    next_run: NextRun | None = None
    runs: Sequence[Run] = ()
    unread: Mapping[str, LockstepError] = field(default_factory=dict)
    runner: str | None = None

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        return verdict_of(self.reasons)

    @property
    def last_run(self) -> Run | None:
        """The newest on record; None where there is none."""
        return next(iter(self.runs), None)

    @property
    def read(self) -> Literal["names", "values"]:
        """What was read of the stores."""
        return "values" if any(isinstance(a, StoredValue) for a in self.answers.values()) else "names"

    @property
    def proven_previous(self) -> int | None:
        """The generation before the current one, if the run that promoted that has seen it log in on every database.

        A rotation begins with a login of it; a reconcile need not have seen it.
        """
        run = self.last_run
        if run is None or run.kind != "new" or run.generation != self.record.current_generation:
            return None
        return run.base_generation if run.base_generation in self.record.valid else None

    @property
    def promoted_at(self) -> datetime | None:
        """As the function."""
        return promoted_at(self.record, self.credential)


def looked_at(
    plan: Plan,
    clouds: Clouds,
    credential: Credential,
    table: Table,
    now: datetime,
    *,
    newest: int = 1,
    read_values: bool = False,
) -> CredentialState:
    """The state of a credential: its stores and its last runs are read, beside a record that was.

    Args:
        plan: The plan.
        clouds: What the operator reaches.
        credential: The credential.
        table: Has its record.
        now: The time.
        newest: So many runs are read.
        read_values: Whether values are read, and not the names of their versions.
    """
    if credential.id in table.unreadable:
        return state_of(plan, table, credential, now)
    reads: list[Callable[[], StoredNames | StoredValue]] = [
        store.read_current if read_values else store.read_names for store in clouds.each_store(credential)
    ]
    answers = {store.name: asked(read) for store, read in zip(plan.stores, reads, strict=True)}
    values = {name: a for name, a in answers.items() if isinstance(a, StoredValue)}
    with suppress(LockstepError):
        answers |= clouds.stores(credential).recognized(values, table.record(credential.id))
    runs, unread = last_runs(plan, clouds, credential, table.record(credential.id).heads, newest)
    state = state_of(plan, table, credential, now, answers=answers, runs=runs, unread=unread)
    return replace(state, read_at=now)


def state_of(
    plan: Plan,
    table: Table,
    credential: Credential,
    now: datetime,
    *,
    answers: Mapping[str, Answer] = {},
    runs: Sequence[Run] = (),
    unread: Mapping[str, LockstepError] = {},
) -> CredentialState:
    """The state of a credential, by what was read. Without answers nothing is said of the stores.

    Where its record cannot be read, nothing is known.
    """
    read = table.record(credential.id)
    record = believed(read, now, credential.schedule.interval)
    if problem := table.unreadable.get(credential.id):
        return CredentialState(
            record=record, credential=credential, reasons=[unreadable(credential, problem)]
        )
    answers = _usable(record, answers)
    told = {name: a for name, a in answers.items() if not isinstance(a, LockstepError)}
    wrong = [n for n, a in answers.items() if isinstance(a, SecretMalformedError | SecretNotFoundError)]
    is_in_sync: bool | None = False if wrong else None
    next_run: NextRun | None = None
    if wrong:
        meaning = f"change nothing, because what store {wrong[0]} has cannot be used"
        next_run = NextRun(action="stop", meaning=meaning, waits_for=waits_for(record, now))
    elif told and len(told) == len(answers):
        cases = possible(told)
        is_in_sync, next_run = in_sync(record, cases), forecast(record, cases, credential, now=now)
    may_run = next_run.action != "stop" if next_run and next_run.action else None
    of_contents = list(of_stores(record, credential, answers, is_in_sync=is_in_sync, now=now))
    reasons = [*of_record(read, credential, now, may_run=may_run), *of_contents]
    if runs and (error := runs[0].error):
        meaning = " ".join(filter(None, (runs[0].meaning, runs[0].advice)))
        reasons += of_last_run(
            record, credential, error, now, meaning=meaning, answers=answers, may_run=may_run
        )
    reasons += [
        Reason(
            kind=Kind.UNRECORDED,
            text=f"The audit log in {cloud} cannot be read. {line_of(error)}",
            next="lockstep doctor",
            place=cloud,
        )
        for cloud, error in unread.items()
        if isinstance(error, AuditLogUnreachableError)  # One that this person may not read says nothing.
    ]
    if wrong:  # No run does anything before that.
        first = next(reason.next for reason in of_contents if reason.place == wrong[0])
        run = run_command(credential)
        reasons = [structs.replace(r, next=first) if r.next == run else r for r in reasons]
    due = max(due_at(record) or now, now)
    is_of_standby = plan.runners.oci and next_runner(credential.schedule, due) == STANDBY
    return CredentialState(
        record=record,
        credential=credential,
        next_cloud=STANDBY if is_of_standby else AWS,
        answers=answers,
        is_in_sync=is_in_sync,
        next_run=next_run,
        runs=runs,
        unread=unread,
        reasons=ranked(reasons),
        runner=cloud_of(record.holder) if record.holder and is_held(record, now) else None,
    )


def _usable(record: LockRecord, answers: Mapping[str, Answer]) -> Mapping[str, Answer]:
    """The answers, with the error that ends a run where it can use nothing of what a store holds.

    That is a generation that Lockstep never made; and before the first one a text that is no credential.
    """
    if record.current_generation is None:
        answers = {name: _not_ours(answer) or answer for name, answer in answers.items()}
    told = {name: a for name, a in answers.items() if not isinstance(a, LockstepError)}
    try:
        require_plausible(record, possible(told)[0])
    except SecretMalformedError as error:
        return {**answers, error.where["store"]: error}
    return answers


def _not_ours(answer: Answer) -> LockstepError | None:
    if not isinstance(answer, StoredValue) or answer.generation or answer.blob_generation:
        return None
    return answer.malformed


def lines(state: CredentialState, now: datetime) -> Iterator[str]:
    """What a credential's record says to a person: how old its value is, and who rotates it next."""
    record, since = state.record, state.promoted_at
    if since is not None:
        yield f"generation {record.current_generation}: promoted at {clock_time(since, now)}"
    runs_until = record.not_before if record.not_before and record.not_before > now else None
    for generation in sorted((g for g in record.valid if g < (record.current_generation or 0)), reverse=True):
        name = f"previous generation {generation}"
        if record.is_revoking and generation <= (record.revoke_through or 0):
            yield f"{name}: must be revoked, by the emergency order"
        elif runs_until and generation == state.proven_previous:
            yield f"{name}: proven by the last run, valid until {clock_time(runs_until, now)}"
        elif runs_until:
            yield f"{name}: may be valid; no run ends it before {clock_time(runs_until, now)}"
        else:
            yield f"{name}: may be valid; the next rotation may end it"
    if due := record.next_due_at:
        cloud = state.next_cloud
        turn = f"{', overdue' if due < now else ''}; the turn of {cloud}{', the standby' if cloud == STANDBY else ''}"
        yield f"next due: {clock_time(due, now)}{'; paused, so no scheduled run begins' if record.paused else turn}"


def document(state: CredentialState) -> documents.Credential:
    """The state of a credential, for other programs."""
    record = state.record
    return message(
        documents.Credential,
        state,
        **structs.asdict(record_document(record)),
        orders=message(
            documents.Orders,
            record,
            active_plan=record.plan,
            revoke_through=record.revoke_through if record.is_revoking else None,
            take_over=sorted(record.take_over),
        ),
        current_since=to_second(state.promoted_at),
        plan_digest=state.credential.plan_digest,
        in_sync=state.is_in_sync,
        stores=[_store_document(name, answer) for name, answer in state.answers.items()],
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
    reasons = []
    for of in evidence:
        digests = found[of.stream]
        if digests.verdict(now) is AuditVerdict.VERIFIED:
            continue
        first = next(of.digests.listed(), None) if digests.error is None else None
        if digests.error or (first and now - first.at >= UNSEEN):
            text = f"No digest of the audit log in {of.stream} of the last three hours is confirmed by the other cloud."
            if why := digests.unreadable or next(iter(digests.problems), ""):
                text = f"The digests of the audit log in {of.stream}: {why}."
            step = "lockstep audit verify"
            reasons.append(Reason(kind=Kind.UNCONFIRMED, text=text, next=step, place=of.stream))
    return reasons


def _store_document(name: str, answer: Answer) -> documents.StoreServes:
    """What a store serves, for other programs."""
    match answer:
        case (LockstepError() as error) | StoredValue(malformed=LockstepError() as error):
            return documents.StoreServes(store=name, error=described(error).name)
    # What Lockstep wrote is none; of what it did not write the name says nothing.
    by_name = None if answer.generation == 0 else False
    return documents.StoreServes(
        store=name,
        generation=answer.generation,
        blob_generation=answer.blob_generation,
        version=answer.version,
        placeholder=answer.login is None if isinstance(answer, StoredValue) else by_name,
    )


def record_document(record: LockRecord) -> Record:
    """The lock record, for other programs."""
    claim = record.claim and message(ClaimInFlight, record.claim, promoting=record.promoting)
    valid = sorted(record.valid)
    return message(Record, record, credential=record.credential_id, valid=valid, claim=claim)


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
    for credential, answer in zip(wanted, clouds.side_by_side(reads), strict=True):
        if isinstance(answer, LockRecord):
            records[credential.id] = answer
        elif isinstance(answer, NewerFormatError) or answer.where.get("code") == MALFORMED_ITEM:
            refused[credential.id] = type(answer).__name__
        else:
            raise answer
    return Table(records=records, unreadable=refused)
