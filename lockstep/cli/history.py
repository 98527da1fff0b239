"""`lockstep history`: the last runs of both clouds."""

from functools import partial
from typing import Annotated

import typer

from lockstep.cli.output import (
    DEFAULT_PLAN,
    AsJson,
    CredentialId,
    PlanFile,
    chosen,
    complain,
    plan_or_exit,
    print_json,
    say,
)
from lockstep.operate.access import operator
from lockstep.operate.documents import FEW, Exit, History, Run
from lockstep.operate.history import last_runs, run_line
from lockstep.operate.state import records_of
from lockstep.protocol.errors import (
    line_of,
)


def history(
    *,
    file: PlanFile = DEFAULT_PLAN,
    credential_id: CredentialId = None,
    newest: Annotated[int, typer.Option("--newest", "-n", min=1, max=1000, help="How many runs.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show the last runs of both clouds, the newest first.

    Each is an entry of the audit log: when it ended, in which cloud, how long it took, what it made, and why it failed,
    with the command that fixes it. Of an entry that is archived only the time is known. Runs that changed nothing leave
    no entry. This does not verify the entries; `audit verify` does.

    Later versions only add fields to what --json prints.

    Exit code: 0 shown, 3 a log or the lock table was unreachable; the runs of the other log are shown.
    """
    plan = plan_or_exit(file)
    clouds = operator(plan)
    found: list[Run] = []
    problems: list[str] = []
    wanted = chosen(plan, credential_id)
    records = records_of(plan, clouds, wanted)
    reads = [partial(last_runs, plan, clouds, c, records[c.id].heads, newest) for c in wanted]
    read = clouds.side_by_side(reads) if len(reads) > FEW else [one() for one in reads]
    for credential, (runs, unread) in zip(wanted, read, strict=True):
        found += runs
        problems += [f"{credential.id} {cloud}: {line_of(error)}" for cloud, error in unread.items()]
    if as_json:
        print_json(History(runs=found, problems=problems))
    else:
        now = clouds.clock.now()
        for run in found:
            say(f"{run.credential} {run_line(run, now)}", style="red" if run.error else "")
            if run.next:
                say(f"  next: {run.next}")
        if not found and not problems:
            say("no runs")
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(Exit.UNREACHABLE)
