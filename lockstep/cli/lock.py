"""`lockstep lock`: show who holds the lock; free it after its holder has died."""

from typing import Annotated

import msgspec
import typer

from lockstep.cli.consent import require_yes
from lockstep.cli.documents import Locks, Record
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
    one,
    plan_or_exit,
    print_json,
    say,
)
from lockstep.cli.records import records_of
from lockstep.cli.status import record_fields
from lockstep.cli.times import clock_time
from lockstep.model import Lease, LockRecord
from lockstep.system import SystemClock

app = typer.Typer(help="Show or free the lock, which says who may rotate.", no_args_is_help=True)


@app.command()
def show(
    *, file: PlanFile = DEFAULT_PLAN, credential_id: CredentialId = None, as_json: AsJson = False
) -> None:
    """Show who holds the lock and what is in flight.

    Exit code: 0 shown, 3 the lock table was unreachable.
    """
    plan = plan_or_exit(file)
    wanted = chosen(plan, credential_id)
    read = records_of(plan, operator(plan), wanted)
    records = [Record(**record_fields(read[c.id])) for c in wanted]
    if as_json:
        print_json(Locks(locks=records))
        return
    for record in records:
        say(record.credential, style="bold")
        for name, value in msgspec.to_builtins(record).items():
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
    holder: Annotated[str, typer.Option("--holder", help="The holder, exactly as `lock show` prints it.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, without doing it.")
    ] = False,
    file: PlanFile = DEFAULT_PLAN,
) -> None:
    """Break glass: free the lock of a dead run.

    A lease ends by itself within 7 minutes, so this is seldom needed. The lock is freed only if this holder still
    has it. Its claim stays: the next run finishes the generation in flight. If the holder is still alive, it can
    change nothing from then on.

    Exit code: 0 freed, 1 not freed, 3 the lock table was unreachable.
    """
    plan = plan_or_exit(file)
    credential = one(plan, credential_id)
    lock = operator(plan).lock(credential)
    record = lock.read()
    if record.holder != holder:
        found = f"the holder is {record.holder}" if record.holder else "the lock is free already"
        complain(f"not freed: {found}")
        raise typer.Exit(Exit.NO)
    _explain(record)
    if dry_run:
        say("nothing was changed")
        return
    if not yes:
        require_yes("Free it?", otherwise="not freed")
    lock.release(Lease(credential_id=credential.id, holder=holder, fence=record.fence), None)
    say(f"{credential.id}: the lock is free", style="green")


def _explain(record: LockRecord) -> None:
    lease = f" until {clock_time(record.expires_at, SystemClock().now())}" if record.expires_at else ""
    say(f"{record.holder} holds the lock of {record.credential_id} under fence {record.fence}{lease}.")
    say(
        "The lock will be freed now. Make sure that this run is dead: a live run would end with FenceLostError."
    )
    if record.claim:
        say(
            f"Generation {record.claim.generation} stays in flight: the next run is due at once and finishes it."
        )
    else:
        say("Nothing is in flight: the schedule does not change.")
