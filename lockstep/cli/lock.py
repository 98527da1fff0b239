"""`lockstep lock`: show who holds the lock; free it where the holder is dead and nobody wants to wait."""

from typing import Annotated

import typer

from lockstep.cli.forecast import moment
from lockstep.cli.operator import operator
from lockstep.cli.output import (
    DEFAULT_PLAN,
    AsJson,
    CredentialId,
    Exit,
    OneCredentialId,
    PlanFile,
    chosen,
    complain,
    failures_explained,
    one,
    plan_or_exit,
    print_json,
    say,
)
from lockstep.cli.status import record_document
from lockstep.model import Lease, LockRecord

app = typer.Typer(help="Show and free the lock: who may rotate.", no_args_is_help=True)


@app.command()
def show(
    *, file: PlanFile = DEFAULT_PLAN, credential_id: CredentialId = None, as_json: AsJson = False
) -> None:
    """Show who holds the lock, and what is in flight.

    Exit code: 0 shown, 3 the lock table could not be asked.
    """
    plan = plan_or_exit(file)
    with failures_explained():
        records = [operator(plan).lock(c).read() for c in chosen(plan, credential_id)]
    if as_json:
        print_json({"locks": [record_document(r) for r in records]})
        return
    for record in records:
        say(record.credential_id, style="bold")
        for name, value in record_document(record).items():
            if name not in {"credential", "heads"}:
                say(f"  {name.replace('_', ' ')}: {_shown(value)}")
        for stream, head in record.heads.items():
            say(f"  audit head {stream}: entry {head.seq}, {head.hash}")


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k.replace('_', ' ')} {_shown(v)}" for k, v in value.items())
    return "none" if value is None else str(value)


@app.command()
def release(
    *,
    credential_id: OneCredentialId,
    holder: Annotated[str, typer.Option("--holder", help="Who holds it, exactly as `lock show` says.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do not.")] = False,
    file: PlanFile = DEFAULT_PLAN,
) -> None:
    """Break glass: free the lock of a run that is dead.

    A lease ends by itself within a quarter of an hour, so this is seldom needed. The lock is freed only if exactly
    this holder still has it. Its claim stays: the next run finishes the generation in flight. A holder that lives
    after all can change nothing any more.

    Exit code: 0 freed, 1 not freed, 3 the lock table could not be asked.
    """
    plan = plan_or_exit(file)
    credential = one(plan, credential_id)
    lock = operator(plan).lock(credential)
    with failures_explained():
        record = lock.read()
        if record.holder != holder:
            complain(f"not freed: {f'{record.holder} holds it' if record.holder else 'nobody holds it'}")
            raise typer.Exit(Exit.NO)
        _explain(record)
        if dry_run:
            say("nothing was changed")
            return
        if not yes and not typer.confirm("Free it?", err=True):
            complain("not freed")
            raise typer.Exit(Exit.NO)
        lock.release(Lease(credential_id=credential.id, holder=holder, fence=record.fence), None)
    say(f"{credential.id}: the lock is free", style="green")


def _explain(record: LockRecord) -> None:
    lease = f" until {moment(record.expires_at)}" if record.expires_at else ""
    say(f"{record.holder} holds the lock of {record.credential_id} under fence {record.fence}{lease}.")
    say("It will be freed now. Make sure that this run is dead; if it lives, it ends with FenceLostError.")
    if record.claim:
        say(f"Generation {record.claim.generation} stays in flight: the next run, due at once, finishes it.")
    else:
        say("Nothing is in flight: the schedule stays as it is.")
