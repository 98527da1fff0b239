"""`lockstep status`: which generation every store serves, who holds the lock, what the next run would do.

By default it reads no value: names of versions spell generations (ADR 59).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any, NoReturn

import typer

from lockstep.cli import documents, history, outlook, reading
from lockstep.cli.documents import Run
from lockstep.cli.forecast import Forecast, forecast, in_step, waits_for
from lockstep.cli.history import last_runs
from lockstep.cli.logins import promoted_at
from lockstep.cli.operator import operator
from lockstep.cli.output import (
    DEFAULT_PLAN,
    FEW,
    AsJson,
    CredentialId,
    Exit,
    PlanFile,
    chosen,
    complain,
    out,
    plan_or_exit,
    print_json,
    say,
    wrong_use,
)
from lockstep.cli.reading import Answer, Depth, Look
from lockstep.cli.records import records_of, show_summary
from lockstep.cli.times import clock_time, to_second
from lockstep.clouds import Clouds
from lockstep.environment import line_of, told
from lockstep.errors import LockstepError, SecretMalformedError, SecretNotFoundError
from lockstep.lock_rule import is_held
from lockstep.model import Claim, Credential, LockRecord, StoredValue
from lockstep.named import StoredNames
from lockstep.plan import Plan
from lockstep.ports import Clock

WATCH_SECONDS = 5.0
_NO_ANSWER = "not known, because a store was unreachable"


@dataclass(frozen=True, kw_only=True)
class State:
    """The state of one credential.

    Attributes:
        credential: As the plan file has it.
        look: What each store told, or why that is not known.
        is_in_step: None if a store was unreachable, or that depends on values that were not read.
        next_run: None where a store was unreachable.
        last_run: The newest on record; None where there is none.
        unread: The errors of the audit logs in which it was looked for, by cloud.
    """

    record: LockRecord
    credential: Credential
    has_standby: bool
    look: Look
    is_in_step: bool | None
    next_run: Forecast | None
    last_run: Run | None
    unread: Mapping[str, LockstepError]

    @property
    def exit_code(self) -> Exit | None:
        """3 where a store was unreachable, 1 where it is not in step or not shown to be."""
        if self.is_in_step:
            return None
        is_away = any(isinstance(answer, LockstepError) for answer in self.look.answers.values())
        return Exit.UNREACHABLE if self.is_in_step is None and is_away else Exit.NO


def status(
    *,
    file: PlanFile = DEFAULT_PLAN,
    credential_id: CredentialId = None,
    read_values: Annotated[
        bool,
        typer.Option(
            "--read-values",
            help="Read what the secrets hold: says whether it is a login or a placeholder, malformed, or different in "
            "each store. Needs the right to read the secrets.",
        ),
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every 5 seconds, until Ctrl-C.")] = False,
    summary: Annotated[
        bool,
        typer.Option(
            "--summary",
            help="Read the lock table alone, in one scan: which credentials are not rotated in time.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show whether the stores are in step.

    Shows which generation every store serves and since when, when the previous value's overlap ends, what is pending
    and since when, who holds the lock, which cloud rotates next and when, what that run would do, and how the last run
    ended, with the command that mends it. This changes nothing and calls no database. Without the right to read the
    audit log it shows all but the last run.

    It reads no password: the names of the versions say which generation they hold. They do not say what a secret holds
    that Lockstep did not write: whether that is a login or a placeholder is told with --read-values.

    Where a runner reaches the other cloud with a long-lived key, its age is shown; from 90 days on it is old.

    Of many credentials --summary tells which need a look; -c 'team/*' then looks at these, several at the same time.

    Later versions only add fields and values to what --json prints.

    Exit code: 0 in step, 1 not in step or not rotated yet, 3 a store or the lock table was unreachable.
    """
    if watch and as_json:
        raise wrong_use("--watch is for people: leave out --json")
    plan = plan_or_exit(file)
    wanted, clouds = chosen(plan, credential_id), operator(plan)
    if summary and (read_values or watch):
        raise wrong_use("--summary reads the lock table alone: leave out --read-values and --watch")
    if summary:
        raise typer.Exit(show_summary(plan, clouds, wanted, as_json=as_json) or 0)
    depth: Depth = "values" if read_values else "names"
    look = partial(_look, plan, clouds, wanted, depth=depth, as_json=as_json)
    if watch:
        _watch(look, clouds.clock)
    if code := look():
        raise typer.Exit(code)


def _watch(look: Callable[[], Exit | None], clock: Clock) -> NoReturn:
    while True:
        out.clear()  # A terminal; nothing else.
        try:
            look()
        except LockstepError as error:
            complain(line_of(error))
        clock.sleep(WATCH_SECONDS)


def _look(
    plan: Plan,
    clouds: Clouds,
    wanted: Sequence[Credential],
    *,
    depth: Depth,
    as_json: bool,
) -> Exit | None:
    """Look once, and show it; the exit code."""
    now = clouds.clock.now()
    records = records_of(plan, clouds, wanted)
    looks = [partial(looked_at, plan, clouds, c, records[c.id], now, depth=depth) for c in wanted]
    states = clouds.side_by_side(looks) if len(looks) > FEW else [look() for look in looks]
    if as_json:
        print_json(
            documents.Status(
                in_step=all(s.is_in_step for s in states),
                credentials=[document(s, now) for s in states],
            )
        )
    else:
        for state in states:
            _show(state, now)
    codes = {s.exit_code for s in states}
    if Exit.NO in codes:
        return Exit.NO
    return Exit.UNREACHABLE if Exit.UNREACHABLE in codes else None


def looked_at(
    plan: Plan,
    clouds: Clouds,
    credential: Credential,
    record: LockRecord,
    now: datetime,
    *,
    depth: Depth = "names",
) -> State:
    """The state of a credential: its stores and its last run are read, beside a record that was."""
    look = reading.look(plan, clouds, credential, record, depth)
    runs, unread = last_runs(plan, clouds, credential, record.heads, 1)
    return state_of(
        record,
        credential,
        look,
        now,
        has_standby=plan.runners.oci is not None,
        last_run=next(iter(runs), None),
        unread=unread,
    )


def state_of(
    record: LockRecord,
    credential: Credential,
    look: Look,
    now: datetime,
    **more: Any,  # noqa: ANN401 - the other attributes of State
) -> State:
    """The state of a credential, by what was read."""
    told = {name: a for name, a in look.answers.items() if not isinstance(a, LockstepError)}
    wrong = [n for n, a in look.answers.items() if isinstance(a, SecretMalformedError | SecretNotFoundError)]
    is_in_step: bool | None = False if wrong else None
    next_run: Forecast | None = None
    if wrong:
        meaning = f"change nothing, because what store {wrong[0]} has cannot be used"
        next_run = Forecast(action="stop", meaning=meaning, waits_for=waits_for(record, now))
    elif len(told) == len(look.answers):
        cases = reading.possible(told)
        is_in_step, next_run = in_step(record, cases), forecast(record, cases, credential, now=now)
    return State(
        record=record,
        credential=credential,
        look=look,
        is_in_step=is_in_step,
        next_run=next_run,
        **more,
    )


def _show(state: State, now: datetime) -> None:
    record = state.record
    verdict, style = _verdict(state)
    say(f"{record.credential_id}: {verdict}", style=style)
    for name, answer in state.look.answers.items():
        say(f"  store {name}: {_told(answer)}")
    say(f"  lock: {_lock(record, now)}")
    if record.claim:
        say(f"  {_pending(record.claim, state.look.pending_since, now)}")
    for line in outlook.lines(record, state.credential, now, has_standby=state.has_standby):
        say(f"  {line}")
    for line in _order_lines(state):
        say(f"  {line}", style="yellow")
    if unread := _unread(state):
        say(f"  {unread}", style="yellow")
    if state.next_run is None:
        say(f"  next run: {_NO_ANSWER}")
    elif state.next_run.waits_for:
        say(f"  next run: skipped now ({state.next_run.waits_for.told(now)}); then {state.next_run.meaning}")
    else:
        say(f"  next run: {state.next_run.meaning}")
    _show_last(state, now)


def _show_last(state: State, now: datetime) -> None:
    if state.last_run:
        say(f"  last run: {history.told(state.last_run, now)}", style="red" if state.last_run.error else "")
        if state.last_run.next:
            say(f"    next: {state.last_run.next}")
    for cloud, error in state.unread.items():
        say(f"  last run in {cloud}: not known; {line_of(error)}", style="yellow")


def _order_lines(state: State) -> Iterator[str]:
    orders, wanted = state.record, state.credential.plan_digest
    if orders.paused:
        yield "paused: no scheduled run begins, in either cloud"
    if orders.is_revoking:
        yield f"emergency: every generation up to {orders.revoke_through} must die"
    if orders.enrol:
        yield f"enrolled, until proven: {', '.join(sorted(orders.enrol))}"
    if muted := orders.muted - orders.enrol:
        yield f"muted after refused logins: {', '.join(sorted(muted))}; see `lockstep retry --help`"
    if orders.activate:
        yield f"to become the active plan: {orders.activate}"
    if wanted not in {orders.plan, orders.activate}:
        yield f"active plan: {orders.plan or 'none'}; this plan file is {wanted}"


def _verdict(state: State) -> tuple[str, str]:
    by = "by the names of the versions" if state.look.depth == "names" else "by their values"
    match state.is_in_step, state.exit_code:
        case True, _:
            return f"in step, {by}", "green"
        case None, Exit.NO:
            values = f"lockstep status --read-values -c {state.credential.id}"
            return f"NOT ROTATED YET; what the secrets hold was not read: {values}", "bold yellow"
        case None, _:
            return "NOT KNOWN", "bold yellow"
        case _:
            return f"NOT IN STEP, {by}", "bold red"


def _unread(state: State) -> str | None:
    """What the forecast takes for granted: that what others wrote is a login, as names do not say."""
    edited = [n for n, a in state.look.answers.items() if isinstance(a, StoredNames) and not a.generation]
    if state.is_in_step is None or not edited:
        return None
    values = f"lockstep status --read-values -c {state.credential.id}"
    return f"not read: the value in {', '.join(edited)}; whether a run can use it: {values}"


def _told(answer: Answer) -> str:
    match answer:
        case LockstepError():
            return line_of(answer)
        case StoredValue(login=None):
            return "a placeholder, and no login yet"
        case _ if answer.generation != answer.blob_generation:
            return f"{_generation(answer.generation)}, but connection_blob has {_generation(answer.blob_generation)}"
        case _:
            return _generation(answer.generation)


def _generation(number: int) -> str:
    return f"generation {number}" if number else "a version that Lockstep did not write"


def _pending(claim: Claim, since: datetime | LockstepError | None, now: datetime) -> str:
    match since:
        case LockstepError():
            when = f"since when is not known; {line_of(since)}"
        case None:
            when = "not staged yet"
        case _:
            when = f"since {clock_time(since, now)}"
    base = f" on {claim.base_generation}" if claim.base_generation else ""
    return f"pending: generation {claim.generation}{base}, {when}, begun by {claim.rotation_id}"


def _lock(record: LockRecord, now: datetime) -> str:
    if record.holder is None:
        return f"free, fence {record.fence}"
    verb, until = ("holds it", "until") if is_held(record, now) else ("held it", "which ended at")
    end = clock_time(record.expires_at, now) if record.expires_at else "somebody gives it back"
    return f"{record.holder} {verb} under fence {record.fence}, {until} {end}"


def document(state: State, now: datetime) -> documents.Credential:
    """The state of a credential, for other programs."""
    record, since = state.record, state.look.pending_since
    return documents.Credential(
        **record_fields(record),
        orders=documents.Orders(
            active_plan=record.plan,
            activate=record.activate,
            paused=record.paused,
            revoke_through=record.revoke_through if record.is_revoking else None,
            enrol=sorted(record.enrol),
            muted=sorted(record.muted),
        ),
        current_since=to_second(promoted_at(record, state.credential)),
        leader=outlook.leader(record, state.credential, now, has_standby=state.has_standby),
        unwitnessed_since={stream: to_second(first) for stream, first in sorted(record.unwitnessed.items())},
        last_run=state.last_run,
        plan_digest=state.credential.plan_digest,
        in_step=state.is_in_step,
        read=state.look.depth,
        pending_since=to_second(since) if isinstance(since, datetime) else None,
        stores=[_store_document(name, answer) for name, answer in state.look.answers.items()],
        next_run=documents.NextRun(
            action=state.next_run.action,
            meaning=state.next_run.meaning,
            waits_for=state.next_run.waits_for.document(now) if state.next_run.waits_for else None,
        )
        if state.next_run
        else None,
    )


def _store_document(name: str, answer: Answer) -> documents.StoreServes:
    """What a store serves, for other programs."""
    if isinstance(answer, LockstepError):
        return documents.StoreServes(store=name, error=type(told(answer)).__name__)
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
        "credential": record.credential_id,
        "holder": record.holder,
        "fence": record.fence,
        "expires_at": to_second(record.expires_at),
        "current_generation": record.current_generation,
        "alive": sorted(record.alive),
        "claim": documents.ClaimInFlight(
            kind=claim.kind.value,
            generation=claim.generation,
            base_generation=claim.base_generation,
            promoting=record.promoting,
            rotation_id=claim.rotation_id,
        )
        if claim
        else None,
        "next_due_at": to_second(record.next_due_at),
        "not_before": to_second(record.not_before),
        "heads": {
            stream: documents.Head(seq=head.seq, hash=head.hash) for stream, head in record.heads.items()
        },
    }
