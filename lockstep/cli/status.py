"""`lockstep status`: which generation every store serves, who holds the lock, what the next run would do.

By default it reads no value: names of versions spell generations (ADR 59).
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, NoReturn

import typer

from lockstep.cli.output import (
    DEFAULT_PLAN,
    AsJson,
    CredentialId,
    PlanFile,
    chosen,
    complain,
    out,
    plan_or_exit,
    print_json,
    say,
    wrong_use,
)
from lockstep.cli.records import show_summary
from lockstep.operate import documents
from lockstep.operate.access import operator
from lockstep.operate.documents import FEW, Exit
from lockstep.operate.formatting import clock_time
from lockstep.operate.history import run_line
from lockstep.operate.state import Answer, CredentialState, Depth, document, lines, looked_at, records_of
from lockstep.plan.model import Plan
from lockstep.protocol.errors import LockstepError, line_of
from lockstep.protocol.lock_rule import is_held
from lockstep.protocol.model import Claim, Credential, LockRecord, StoredValue
from lockstep.protocol.ports import Clock
from lockstep.runtime.clouds import Clouds
from lockstep.stores.readers import StoredNames

WATCH_SECONDS = 5.0
_NO_ANSWER = "not known, because a store was unreachable"


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
    """Show whether the stores are in sync.

    Shows which generation every store serves and since when, when the previous value's overlap ends, what is pending
    and since when, who holds the lock, which cloud rotates next and when, what that run would do, and how the last run
    ended, with the command that fixes it. This changes nothing and calls no database. Without the right to read the
    audit log it shows all but the last run.

    It reads no password: the names of the versions say which generation they hold. They do not say what a secret holds
    that Lockstep did not write: whether that is a login or a placeholder is told with --read-values.

    Where a runner reaches the other cloud with a long-lived key, its age is shown; from 90 days on it is old.

    Of many credentials --summary tells which need a look; -c 'team/*' then looks at these, several at the same time.

    Later versions only add fields and values to what --json prints.

    Exit code: 0 in sync, 1 not in sync or not rotated yet, 3 a store or the lock table was unreachable.
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
                in_sync=all(s.is_in_sync for s in states),
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


def _show(state: CredentialState, now: datetime) -> None:
    record = state.record
    verdict, style = _verdict(state)
    say(f"{record.credential_id}: {verdict}", style=style)
    for name, answer in state.look.answers.items():
        say(f"  store {name}: {_describe(answer)}")
    say(f"  lock: {_lock(record, now)}")
    if record.claim:
        say(f"  {_pending(record.claim, state.look.pending_since, now)}")
    for line in lines(record, state.credential, now, has_standby=state.has_standby):
        say(f"  {line}")
    for line in _order_lines(state):
        say(f"  {line}", style="yellow")
    if unread := _unread(state):
        say(f"  {unread}", style="yellow")
    if state.next_run is None:
        say(f"  next run: {_NO_ANSWER}")
    elif state.next_run.waits_for:
        say(
            f"  next run: skipped now ({state.next_run.waits_for.describe(now)}); then {state.next_run.meaning}"
        )
    else:
        say(f"  next run: {state.next_run.meaning}")
    _show_last(state, now)


def _show_last(state: CredentialState, now: datetime) -> None:
    if state.last_run:
        say(f"  last run: {run_line(state.last_run, now)}", style="red" if state.last_run.error else "")
        if state.last_run.next:
            say(f"    next: {state.last_run.next}")
    for cloud, error in state.unread.items():
        say(f"  last run in {cloud}: not known; {line_of(error)}", style="yellow")


def _order_lines(state: CredentialState) -> Iterator[str]:
    orders, wanted = state.record, state.credential.plan_digest
    if orders.paused:
        yield "paused: no scheduled run begins, in either cloud"
    if orders.is_revoking:
        yield f"emergency: every generation up to {orders.revoke_through} must die"
    if orders.take_over:
        yield f"to be taken over, until proven: {', '.join(sorted(orders.take_over))}"
    if blocked := orders.blocked - orders.take_over:
        yield f"blocked after refused logins: {', '.join(sorted(blocked))}; see `lockstep unblock --help`"
    if orders.activate:
        yield f"to become the active plan: {orders.activate}"
    if wanted not in {orders.plan, orders.activate}:
        yield f"active plan: {orders.plan or 'none'}; this plan file is {wanted}"


def _verdict(state: CredentialState) -> tuple[str, str]:
    by = "by the names of the versions" if state.look.depth == "names" else "by their values"
    match state.is_in_sync, state.exit_code:
        case True, _:
            return f"in sync, {by}", "green"
        case None, Exit.NO:
            values = f"lockstep status --read-values -c {state.credential.id}"
            return f"NOT ROTATED YET; what the secrets hold was not read: {values}", "bold yellow"
        case None, _:
            return "NOT KNOWN", "bold yellow"
        case _:
            return f"NOT IN SYNC, {by}", "bold red"


def _unread(state: CredentialState) -> str | None:
    """What the forecast takes for granted: that what others wrote is a login, as names do not say."""
    edited = [n for n, a in state.look.answers.items() if isinstance(a, StoredNames) and not a.generation]
    if state.is_in_sync is None or not edited:
        return None
    values = f"lockstep status --read-values -c {state.credential.id}"
    return f"not read: the value in {', '.join(edited)}; whether a run can use it: {values}"


def _describe(answer: Answer) -> str:
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
