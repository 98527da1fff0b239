"""`lockstep rotate`: start the state machine by hand and follow it to its end."""

import os
import re
from contextlib import suppress
from datetime import datetime
from typing import Annotated

import typer
from msgspec import structs

from lockstep.cli.orders import order_context, require_consent, require_databases
from lockstep.cli.output import (
    CredentialArgument,
    complain,
    gave_json,
    no,
    one,
    plan_or_exit,
    say,
    say_aside,
    wrong_use,
)
from lockstep.operate.access import operator
from lockstep.operate.documents import Exit, Rotated
from lockstep.operate.execution import RUNNING, Execution, located
from lockstep.operate.formatting import absolute, clock_time, wants_json
from lockstep.operate.state import waits_for
from lockstep.operate.verdict import next_step, of_last_run, of_record, ranked
from lockstep.plan.model import Plan
from lockstep.protocol.errors import LockstepError, OrderRefusedError, TakeOverNeededError, advice_of, line_of
from lockstep.protocol.lock_rule import believed
from lockstep.protocol.messages import RunInput
from lockstep.protocol.model import Credential
from lockstep.protocol.names import DEFAULT_STACK
from lockstep.protocol.orders import Revoke
from lockstep.runtime.system import SystemClock

SKIPPED = "skipped"
"""The outcome of an execution that changed nothing."""
MACHINE_VARIABLE = "LOCKSTEP_STATE_MACHINE_ARN"
"""Names what is started instead of the stack's state machine: the alias `canary`, or one in another account."""

Stack = Annotated[str, typer.Option(envvar="LOCKSTEP_STACK", help="`stack` in cdk.json.")]


def rotate(
    credential_id: CredentialArgument,
    *,
    stack: Stack = DEFAULT_STACK,
    force: Annotated[bool, typer.Option("--force", help="Run even if it is not due or paused.")] = False,
) -> None:
    """Start a rotation in AWS and follow it to its end.

    It starts the state machine of the stack, in the plan's region and your account, or the one that
    LOCKSTEP_STATE_MACHINE_ARN names, and shows each state that it enters. A credential that is not due, or whose lock
    is held, is skipped, which is a success; it says why and until when. Within the overlap --force only repairs.
    Ctrl-C stops following it; the rotation continues.

    Exit code: 0 rotated or skipped, 1 the rotation failed, 2 wrong use, 3 AWS was unreachable or the rotation did not
    end in time.
    """
    plan = plan_or_exit()
    credential = one(plan, credential_id)
    asked = _asked(credential, force=force)
    _run(plan, credential, asked, _machine(plan, stack))


def revoke(
    credential_id: CredentialArgument,
    *,
    stack: Stack = DEFAULT_STACK,
    lift_pause: Annotated[
        bool, typer.Option("--resume", help="Resume the credential, if it is paused.")
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="DATABASE", help="A database that is down, and not waited for. Repeat it."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Neither count sessions nor ask.")] = False,
) -> None:
    """Emergency: make a new password at once, and revoke everything before it.

    It writes an order into the lock record, and starts a run as `lockstep rotate` does. If that run is skipped or dies,
    the next run of either cloud completes it, whatever the schedule says. A paused credential needs --resume. A
    database that --without names and that fails is not waited for: later runs ask it again, and may take its account
    over.

    It first shows which sessions are open, as `lockstep sessions` does, and asks. Open sessions continue; their next
    login is refused until they read the new password. Without a terminal it needs --yes.

    Exit code: 0 revoked, 1 the rotation failed, the emergency is not over or the answer was no, 2 wrong use or nobody
    to ask, 3 AWS was unreachable or the rotation did not end in time.
    """
    plan = plan_or_exit()
    credential, down = one(plan, credential_id), frozenset(without or ())
    require_databases(credential, down)
    if down >= set(credential.databases):
        raise wrong_use("--without must leave a database that is waited for")
    order, asked = Revoke(lift_pause=lift_pause, without=down), _asked(credential, force=True)
    at = order_context(plan)
    if not yes:
        require_consent(at.clouds, credential)
    try:
        given = at.give(order, credential)
    except OrderRefusedError:
        complain(f"{credential.id} is paused, and stays so: add --resume, so that later runs may finish")
        raise
    # Standard output may be JSON.
    say_aside(f"emergency through generation {given.record.revoke_through} ordered")
    _run(plan, credential, asked, _machine(plan, stack))
    record = at.read(credential)
    if record.is_revoking:
        complain(
            f"not over: generations up to {record.revoke_through} may still log in. The order stands in the record, "
            f"and the next run of either cloud continues with it. To see it: lockstep status {credential.id}"
        )
        raise typer.Exit(Exit.NO)


def _asked(credential: Credential, *, force: bool) -> RunInput:
    interval = int(credential.schedule.interval.total_seconds())
    return RunInput(credential_id=credential.id, trigger="cli", force=force, interval=interval)


def _machine(plan: Plan, stack: str) -> str:
    """The ARN of what is started, or exit code 2."""
    arn = os.environ.get(MACHINE_VARIABLE)
    if arn is None:
        return located(plan, stack)
    if not re.fullmatch("arn:[a-z-]+:states:[a-z0-9-]+:.+", arn):
        raise wrong_use(f"{MACHINE_VARIABLE}: not the ARN of a state machine (arn:aws:states:…)")
    return arn


def _run(plan: Plan, credential: Credential, asked: RunInput, arn: str) -> None:
    """Start a run, follow it and tell how it ended; exit code 1 where it failed."""
    clock, told = SystemClock(), 0
    execution, ended = Execution(arn, asked), None
    if not wants_json():
        say_aside(f"started {execution.arn}")
    try:
        for ended in execution.followed(clock):
            for state in () if wants_json() else ended.states[told:]:
                say_aside(f"  {absolute(state.entered_at, clock.now())}  {state.state}")
            told = len(ended.states)
    except KeyboardInterrupt:
        say_aside(f"not followed any more; the rotation continues: {execution.arn}")
        raise
    if ended is None or ended.status == RUNNING:
        raise no(f"still running: {execution.arn}", name="StillRunning", code=Exit.UNREACHABLE)
    if ended.error:
        _report_failure(plan, credential, ended, clock.now())
        raise typer.Exit(Exit.NO)
    if ended.outcome == SKIPPED:
        _report_skip(plan, credential, ended, clock.now(), is_forced=asked.force)
    elif not gave_json(ended):
        current = f", generation {ended.generation} is current" if ended.generation else ""
        say(f"{ended.outcome or ended.status}{current}", style="green")


def _report_failure(plan: Plan, credential: Credential, ended: Rotated, now: datetime) -> None:
    """Tell why it failed, and the command that helps."""
    may_run = ended.error != TakeOverNeededError.__name__
    step = None
    with suppress(LockstepError):
        record = operator(plan).lock(credential).read()
        reasons = [
            *of_record(record, credential, now, may_run=may_run),
            *of_last_run(record, credential, str(ended.error), now, may_run=may_run),
        ]
        step = ranked(reasons)[0].next if reasons else None
    if gave_json(structs.replace(ended, next=step)):
        return
    complain(f"failed: {ended.error}: {ended.cause}")
    if (advice := advice_of(str(ended.error))) and advice not in str(ended.cause):
        complain(f"  {advice}")
    complain(f"  next: {step or 'lockstep status'}")


def _report_skip(
    plan: Plan, credential: Credential, ended: Rotated, now: datetime, *, is_forced: bool
) -> None:
    """Tell why it was skipped and until when, as the lock record says right after it."""
    wait = step = None
    try:
        record = believed(operator(plan).lock(credential).read(), now, credential.schedule.interval)
    except LockstepError as error:
        why = f"why is not known; {line_of(error)}"
    else:
        why = "what it waited for is over, so start it again"
        if wait := waits_for(record, now, is_forced=is_forced):
            why, step = wait.meaning, None if wait.reason == "held" else next_step(record, credential, now)
        elif record.not_before and record.not_before > now:
            why = f"nothing to repair, and the overlap ends at {clock_time(record.not_before, now)}"
    if gave_json(structs.replace(ended, waits_for=wait)):
        return
    say(f"skipped: {why}", style="yellow")
    if step:
        say(f"  next: {step}")
