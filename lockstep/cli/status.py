"""What only looks: `lockstep status`, `history`, `sessions`, `serve`.

By default no value is read: names of versions spell generations (ADR 59).
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, NoReturn

import typer

from lockstep.cli.output import (
    CredentialArguments,
    chosen,
    complain,
    gave_json,
    out,
    plan_or_exit,
    say,
    say_aside,
    wrong_use,
)
from lockstep.operate import documents
from lockstep.operate.access import operator
from lockstep.operate.documents import Exit, Run
from lockstep.operate.formatting import generation_name, wants_json
from lockstep.operate.history import last_runs, run_line
from lockstep.operate.sessions import count_sessions, is_unreachable
from lockstep.operate.sessions import lines as session_lines
from lockstep.operate.state import (
    Answer,
    CredentialState,
    document,
    evidence_reasons,
    lines,
    looked_at,
    state_of,
    table_of,
)
from lockstep.operate.verdict import Kind, Reason, Verdict, verdict_of
from lockstep.operate.watch import Expected, Found, shown, watch
from lockstep.plan.model import Plan
from lockstep.protocol.errors import EnvironmentalError, LockstepError, line_of
from lockstep.protocol.model import Credential, StoredValue
from lockstep.protocol.ports import Clock
from lockstep.runtime.clouds import Clouds

WATCH_SECONDS = 5.0


def status(
    credentials: CredentialArguments = None,
    *,
    read_values: Annotated[bool, typer.Option("--read-values", help="Read what the secrets hold.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every 5 seconds, until Ctrl-C.")] = False,
    summary: Annotated[
        bool, typer.Option("--summary", help="Read the lock table alone, in one scan.")
    ] = False,
) -> None:
    """Say whether each credential is healthy, degraded or down, why, and the command that helps.

    healthy: as far as is known, what the stores serve logs in on every database. degraded: it works, and needs a
    person, or will. down: a login that a store serves is refused somewhere, by the last run. Below that: which
    generation every store serves, until when the one before is valid, what is pending, what the next
    run would do, and how the last one ended. This changes nothing and calls no database. Without the right to read
    the audit log it shows all but the last run.

    It reads no password: the names of the versions say which generation they hold. They do not say what a secret holds
    that Lockstep did not write: --read-values tells whether it is a login or a placeholder, malformed, or different in
    each store, and needs the right to read the secrets.

    With many credentials, --summary names those that are not rotated in time; `status 'team/*'` then shows these.

    Later versions only add fields and values to what --json prints.

    Exit code: 0 healthy, 1 degraded, 5 down, 3 the lock table or every store was unreachable.
    """
    if watch and (summary or wants_json()):
        raise wrong_use("--watch shows the whole state to people: leave out --json and --summary")
    if summary and read_values:
        raise wrong_use("--summary reads the lock table alone: leave out --read-values")
    plan = plan_or_exit()
    wanted, clouds = chosen(plan, credentials), operator(plan)
    if summary:
        raise typer.Exit(_show_summary(plan, clouds, wanted))
    look = partial(_look, plan, clouds, wanted, read_values=read_values)
    if watch:
        _watch(look, clouds.clock)
    raise typer.Exit(look())


EXITS = {Verdict.HEALTHY: 0, Verdict.DEGRADED: Exit.NO, Verdict.DOWN: Exit.DOWN}


def _watch(look: Callable[[], int], clock: Clock) -> NoReturn:
    while True:
        out.clear()  # A terminal; nothing else.
        try:
            look()
        except LockstepError as error:
            complain(line_of(error))
        clock.sleep(WATCH_SECONDS)


def _look(plan: Plan, clouds: Clouds, wanted: Sequence[Credential], *, read_values: bool) -> int:
    """Look once, and show it; the exit code."""
    now = clouds.clock.now()
    table = table_of(clouds, wanted)
    looks = [partial(looked_at, plan, clouds, c, table, now, read_values=read_values) for c in wanted]
    states = clouds.side_by_side(looks)
    evidence = evidence_reasons(plan, clouds, now)
    verdict = verdict_of([*(r for s in states for r in s.reasons), *evidence])
    told = documents.Status(verdict=verdict, evidence=evidence, credentials=[document(s) for s in states])
    if not gave_json(told):
        for state in states:
            _show(state, now)
        say_reasons(evidence)
    answers = [a for s in states for a in s.answers.values()]
    if verdict is not Verdict.DOWN and answers and all(isinstance(a, LockstepError) for a in answers):
        return Exit.UNREACHABLE
    return EXITS[verdict]


def say_reasons(reasons: Iterable[Reason], *, indent: str = "", of: str = "") -> None:
    """What is the matter, each with what helps."""
    for reason in reasons:
        say(f"{indent}{of}{reason.text}", style=STYLES[reason.verdict])
        say(f"{indent}  next: {reason.next}")


STYLES = {Verdict.HEALTHY: "green", Verdict.DEGRADED: "yellow", Verdict.DOWN: "bold red"}


def _show(state: CredentialState, now: datetime) -> None:
    record = state.record
    say(f"{record.credential_id}: {state.verdict}{_sync(state)}", style=STYLES[state.verdict])
    say_reasons(state.reasons, indent="  ")
    if any(reason.kind is Kind.UNREADABLE for reason in state.reasons):
        return
    for name, answer in state.answers.items():
        say(f"  store {name}: {_describe(answer)}")
    if record.claim:
        base = f" on {record.claim.base_generation}" if record.claim.base_generation else ""
        say(f"  pending: generation {record.claim.generation}{base}, begun by {record.claim.rotation_id}")
    for line in lines(state, now):
        say(f"  {line}")
    if record.take_over:
        say(f"  to be taken over, until proven: {', '.join(sorted(record.take_over))}")
    if record.activate:
        say(f"  to become the active plan: {record.activate}")
    say(f"  next run: {_next_run(state)}")
    if state.last_run:
        say(f"  last run: {run_line(state.last_run, now)}")
    for cloud, error in state.unread.items():
        say(f"  last run in {cloud}: not known; {line_of(error)}", style="yellow")


def _next_run(state: CredentialState) -> str:
    if state.next_run is None:
        return "not known, because a store was unreachable"
    if waits := state.next_run.waits_for:
        return f"skipped now ({waits.meaning}); then {state.next_run.meaning}"
    return state.next_run.meaning


def _sync(state: CredentialState) -> str:
    by = "version names compared, values not read" if state.read == "names" else "values compared"
    if state.is_in_sync is None:
        return ""
    return f"; {'in sync' if state.is_in_sync else 'not in sync'} ({by})"


def _describe(answer: Answer) -> str:
    match answer:
        case (LockstepError() as error) | StoredValue(malformed=LockstepError() as error):
            return line_of(error)
        case StoredValue(login=None):
            return "a placeholder, and no login yet"
        case _ if answer.generation != answer.blob_generation:
            blob = generation_name(answer.blob_generation)
            return f"{generation_name(answer.generation)}, but connection_blob has {blob}"
        case _:
            return generation_name(answer.generation)


# `lockstep status --summary`: what one scan of the lock table says of a whole fleet.


def _show_summary(plan: Plan, clouds: Clouds, wanted: Sequence[Credential]) -> int:
    """Show what the lock table says of credentials, and return the exit code."""
    expected = Expected(
        credentials=wanted,
        schedules=True,
        # Whether the table was lost is no matter of some credentials.
        others={c.id for c in plan.credentials} - {c.id for c in wanted},
    )
    found = watch(clouds.lock_table(), expected, now=clouds.clock.now())
    verdict = verdict_of(reason for reasons in found.reasons.values() for reason in reasons)
    told = {"verdict": verdict, "reasons": found.reasons, "metrics": found.metrics, "ids": found.ids}
    if not gave_json(told):
        _show_fleet(found, verdict)
    return EXITS[verdict]


def _show_fleet(found: Found, verdict: Verdict) -> None:
    say(f"{int(found.metrics['Credentials']):,} credentials: {verdict}", style=STYLES[verdict])
    of_kind: dict[Kind, list[tuple[str, Reason]]] = {}
    for of, reasons in found.reasons.items():
        for reason in reasons:
            of_kind.setdefault(reason.kind, []).append((of, reason))
    for kind in sorted(of_kind, key=list(Kind).index):
        named = of_kind[kind]
        style = STYLES[named[0][1].verdict]
        say(f"  {len(named):,} {kind}: {', '.join(shown([of for of, _ in named]))}", style=style)
        say(f"    next: {named[0][1].next}")


# `lockstep history`: the last runs of both clouds.


def history(
    credentials: CredentialArguments = None,
    *,
    newest: Annotated[int, typer.Option("--newest", "-n", min=1, max=1000, help="How many runs.")] = 10,
) -> None:
    """Show the last runs of both clouds, the newest first.

    Each is an entry of the audit log: when it ended, in which cloud, how long it took, what it made, and why it failed.
    Below them is what is wrong now, with the command that helps, as in `status`. Of an entry that is archived only the
    time is known. Runs that changed nothing leave no entry. `audit verify` verifies entries.

    Later versions only add fields to what --json prints.

    Exit code: 0 shown, 3 a log or the lock table was unreachable; the runs of the other log are shown.
    """
    plan = plan_or_exit()
    wanted, clouds = chosen(plan, credentials), operator(plan)
    found, problems = list[Run](), list[str]()
    table = table_of(clouds, wanted)
    reads = [partial(last_runs, plan, clouds, c, table.record(c.id).heads, newest) for c in wanted]
    read = clouds.side_by_side(reads)
    for credential, (runs, unread) in zip(wanted, read, strict=True):
        found += runs
        problems += [f"{credential.id} {cloud}: {line_of(error)}" for cloud, error in unread.items()]
    if not gave_json(documents.History(runs=found, problems=problems)):
        now = clouds.clock.now()
        for run in found:
            say(f"{run.credential} {run_line(run, now)}", style="red" if run.error else "")
        if not found and not problems:
            say("no runs")
        for credential, (runs, unread) in zip(wanted, read, strict=True):
            state = state_of(plan, table, credential, now, runs=runs, unread=unread)
            say_reasons(state.reasons, of=f"{credential.id}: ")
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(Exit.UNREACHABLE)


# `lockstep sessions`: who is logged in, by the login that each session used.


def sessions(credentials: CredentialArguments = None) -> None:
    """Count the open sessions of a credential, by login.

    Shows for each database and verify host how many sessions each username has open, which generation its login is,
    since when they are connected, and from which hosts and applications. Sessions of a whole
    server are counted, whichever of its databases they use. They outlive their password: only the next login is
    refused. With alternating users a username says which generation a session used, unless it was connected before that
    generation was promoted. With one username no server says which password a session used.

    This logs in to each database as the rotation user, and only reads. A server that shows it no sessions is not a
    failure: the statement to run there is printed.

    Exit code: 0 counted, or the statements to run are shown, 3 a database, a store or the lock table was
    unreachable.
    """
    plan = plan_or_exit()
    wanted, clouds = chosen(plan, credentials), operator(plan)
    found = [count_sessions(clouds, credential) for credential in wanted]
    if not gave_json({"credentials": found}):
        for one in found:
            for line in session_lines(one, clouds.clock.now()):
                say(line)
    if any(map(is_unreachable, found)):
        raise typer.Exit(Exit.UNREACHABLE)


# `lockstep serve`: a page to look at.


def serve(
    *, port: Annotated[int, typer.Option(min=0, max=65535, help="Of this machine; 0: a free one.")] = 0
) -> None:
    """Show the state of all credentials on a page, live, until Ctrl-C.

    The page is for this machine only, changes nothing and knows no password: for each credential whether it is healthy,
    degraded or down, and why, with the command that helps, its age and overlap, the last runs of both clouds, how far
    a run is that is under way, and a map of all ages. It looks at the clouds every 2 seconds while somebody looks at
    it, every second while a run is under way, and not at all otherwise. It needs the rights of `lockstep status`.

    Exit code: 0 after Ctrl-C, 2 wrong use or the port is taken, 3 the lock table is unreachable at the start.
    """
    plan = plan_or_exit()
    from lockstep.agent.server import HOST, listener_of  # noqa: PLC0415 - no other command needs it
    from lockstep.operate.page.server import serve_until_signal  # noqa: PLC0415 - likewise

    try:
        listener = listener_of(port)
    except EnvironmentalError as error:
        raise wrong_use(
            f"--port: {error.where['path']}: {error.where['code']}. Take a free one: lockstep serve --port 0"
        ) from None
    with listener:
        told = f"http://{HOST}:{listener.getsockname()[1]}/ shows the state, to this machine only; Ctrl-C ends it"
        serve_until_signal(plan, listener, ready=partial(say_aside, told))
