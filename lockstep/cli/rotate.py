"""`lockstep rotate`: start the state machine by hand and follow it to its end."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

import typer
from msgspec import UNSET
from rich.status import Status

from lockstep.audit.append import OrderResult
from lockstep.cli.orders import RecordIn, order_context, require_consent, require_databases
from lockstep.cli.output import (
    complain,
    err,
    no,
    one,
    plan_or_exit,
    print_json,
    say,
    say_aside,
    shown_ids,
    wrong_use,
)
from lockstep.operate.access import operator
from lockstep.operate.documents import Exit, Rotated, StateOfMachine, WouldRotate
from lockstep.operate.execution import Ended, Entered, Execution, located
from lockstep.operate.formatting import absolute, clock_time, to_second, wants_json
from lockstep.operate.state import Wait, waits_for
from lockstep.plan.model import Plan
from lockstep.protocol.errors import LockstepError, OrderRefusedError, advice_of, line_of
from lockstep.protocol.lock_rule import Reason
from lockstep.protocol.messages import RunInput
from lockstep.protocol.model import Credential
from lockstep.protocol.names import DEFAULT_STACK, LIVE
from lockstep.protocol.orders import Revoke
from lockstep.protocol.ports import Clock
from lockstep.protocol.strict_json import write
from lockstep.runtime.identity import Cloud
from lockstep.runtime.system import SystemClock

SKIPPED = "skipped"
"""The outcome of an execution that changed nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """Why a run was skipped, by the lock record right after it.

    Attributes:
        wait: None where it waits for nothing any more, or where that is not known.
        not_before: No rotation may begin before that; the run found nothing to repair.
        problem: Why it is not known.
    """

    wait: Wait | None = None
    not_before: datetime | None = None
    problem: LockstepError | None = None

    @property
    def next(self) -> str | None:
        """What rotates all the same."""
        if self.wait and self.wait.reason in {Reason.NOT_DUE, Reason.PAUSED}:
            return f"lockstep rotate --force {self.wait.credential_id}"
        return None

    def describe(self, now: datetime) -> str:
        """The same, in words."""
        if self.problem:
            return f"why is not known; {line_of(self.problem)}"
        if self.wait:
            return self.wait.describe(now)
        if self.not_before and self.not_before > now:
            return f"nothing to repair, and the overlap ends at {clock_time(self.not_before, now)}"
        return "what it waited for is over, so start it again"


def rotate(  # noqa: PLR0913 - a command has an argument for each option
    *,
    named: Annotated[
        str | None,
        typer.Argument(
            metavar="CREDENTIAL", help="The credential, by its id.  [default: the only one of the plan]"
        ),
    ] = None,
    credential_id: Annotated[
        str | None, typer.Option("--credential", "-c", help="The same as CREDENTIAL.")
    ] = None,
    stack: Annotated[str, typer.Option(envvar="LOCKSTEP_STACK", help="`stack` in cdk.json.")] = DEFAULT_STACK,
    alias: Annotated[
        Literal["live", "canary"],
        typer.Option(help="Of the state machine: `canary` while a deployment waits for the canary."),
    ] = LIVE,
    state_machine_arn: Annotated[
        str | None,
        typer.Option(
            envvar="LOCKSTEP_STATE_MACHINE_ARN", help="What to start instead, in another account or region."
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Run even if it is not due or paused. Within the overlap it only repairs."
        ),
    ] = False,
    revoke_previous: Annotated[
        bool,
        typer.Option(
            "--revoke-previous",
            help="Emergency: a new value at once, and everything before it dies. An order, which runs finish.",
        ),
    ] = False,
    lift_pause: Annotated[
        bool, typer.Option("--resume", help="With --revoke-previous: resume the credential if it is paused.")
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--without",
            metavar="DATABASE",
            help="With --revoke-previous: a database that is down, and is not waited for. Once it answers, the next "
            "run takes its account over. May be given again.",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="With --revoke-previous: neither count sessions nor ask.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be started, without starting it.")
    ] = False,
    stream: RecordIn = "aws",
) -> None:
    """Start a rotation in AWS and follow it to its end.

    It starts the state machine of the stack, in the plan's region and your account, and shows each state once it is
    over. A credential that is not due, or whose lock is held, is skipped, which is a success; it says why and until
    when. Ctrl-C stops following it; the rotation goes on. An emergency is an order in the lock record: if this run is
    skipped or dies, the next one of either cloud does it, whatever the schedule says. A paused credential needs
    --resume.

    An emergency first shows which sessions are open, as `lockstep sessions` does, and asks. Sessions go on; it is their
    next login that is refused, until they read the new value. Without a terminal it needs --yes.

    Exit code: 0 rotated or skipped, 1 the rotation failed, the emergency is not over or the answer was no, 2 wrong use
    or nobody to ask, 3 AWS was unreachable or the rotation did not end in time.
    """
    plan = plan_or_exit()
    credential, clock = _the_one(plan, named, credential_id), SystemClock()
    if state_machine_arn:
        _region_of(state_machine_arn)
    left_out = frozenset(without or ())
    require_databases(credential, left_out)
    if left_out and not (revoke_previous and set(credential.databases) - left_out):
        raise wrong_use("--without goes with --revoke-previous, and leaves a database that is waited for")
    order = Revoke(lift_pause=lift_pause, without=left_out) if revoke_previous else None
    asked = RunInput(credential_id=credential.id, trigger="cli", force=force or revoke_previous)
    if dry_run:
        _would(credential, order, asked, state_machine_arn or located(plan, stack, alias))
        return
    if order:
        if not yes:
            require_consent(order_context(plan, stream).clouds, credential)
        given = _ordered(plan, order, credential, stream)
        # Standard output may be JSON.
        say_aside(f"emergency through generation {given.record.revoke_through} ordered")
    arn = state_machine_arn or located(plan, stack, alias)
    execution = Execution(arn, _region_of(arn), asked)
    if not wants_json():
        say_aside(f"started {execution.arn}")
    ended = _shown(execution, clock, aside=not wants_json())
    if ended is None:
        raise no(f"still running: {execution.arn}", name="StillRunning", code=Exit.UNREACHABLE)
    skip = (
        _skip(plan, credential, clock, is_forced=asked.force)
        if ended.output.get("outcome") == SKIPPED
        else None
    )
    _report(ended, skip, clock.now())
    if order:
        _require_over(plan, credential, stream)


def _region_of(state_machine_arn: str) -> str:
    """The region in an ARN, or exit code 2."""
    parts = state_machine_arn.split(":")
    region = "".join(parts[3:4])
    if parts[:1] + parts[2:3] != ["arn", "states"] or not region:
        raise wrong_use("--state-machine-arn: not the ARN of a state machine (arn:aws:states:…)")
    return region


def _the_one(plan: Plan, *ids: str | None) -> Credential:
    """The credential that is named once or twice, or the only one of the plan; else exit code 2."""
    given = {i for i in ids if i is not None} or {c.id for c in plan.credentials}
    if len(given) > 1:
        raise wrong_use(f"name one credential: lockstep rotate CREDENTIAL; one of {shown_ids(sorted(given))}")
    return one(plan, given.pop())


def _would(credential: Credential, order: Revoke | None, asked: RunInput, arn: str) -> None:
    """Show what would be done."""
    started = write(asked)
    if wants_json():
        given = order.name if order else None
        print_json(WouldRotate(dry_run=True, order=given, state_machine=arn, input=started))
        return
    if order:
        say(f"would record and give the order {order.name} for {credential.id}")
    say(f"would start {arn} with {json.dumps(started)}")


def _skip(plan: Plan, credential: Credential, clock: Clock, *, is_forced: bool) -> Skip:
    try:
        record = operator(plan).lock(credential).read()
    except LockstepError as error:
        return Skip(problem=error)
    wait = waits_for(record, clock.now(), is_forced=is_forced)
    return Skip(wait=wait, not_before=record.not_before)


def _require_over(plan: Plan, credential: Credential, stream: Cloud) -> None:
    """Exit code 1 where the emergency is not over: the run was skipped, or had to reconcile the stores first."""
    record = order_context(plan, stream).read(credential)
    if record.is_revoking:
        complain(
            f"not over: generations up to {record.revoke_through} may still log in. The order stands in the record, "
            f"and the next run of either cloud goes on with it. To see it: lockstep status -c {credential.id}"
        )
        raise typer.Exit(Exit.NO)


def _ordered(plan: Plan, order: Revoke, credential: Credential, stream: Cloud) -> OrderResult:
    try:
        return order_context(plan, stream).give(order, credential)
    except OrderRefusedError:
        complain(f"{credential.id} is paused, and stays so: add --resume, so that later runs may finish")
        raise


def _shown(execution: Execution, clock: Clock, *, aside: bool) -> Ended | None:
    """Follow it, and show each state once it is over; the one that it is in only at a terminal."""
    told = 0
    with Status("started", console=err) as running:

        def see(states: tuple[Entered, ...]) -> None:
            nonlocal told
            over = [s for s in states if s.left_at]
            if aside:
                for state in over[told:]:
                    say_aside(f"  {absolute(state.at, clock.now())}  {state.name}  {state.seconds:.1f} s")
            told = len(over)
            for state in states[told:]:
                running.update(f"{state.name}, since {absolute(state.at, clock.now())}")

        return execution.followed(clock, see)


def _report(ended: Ended, skip: Skip | None, now: datetime) -> None:
    advice = advice_of(ended.error)
    if wants_json():
        print_json(_document(ended, skip, advice, now))
    elif skip:
        say(f"skipped: {skip.describe(now)}", style="yellow")
        if skip.next:
            say(f"  next: {skip.next}")
    elif ended.error is None:
        generation = (
            f", generation {ended.output['generation']} is current" if "generation" in ended.output else ""
        )
        say(f"{ended.output.get('outcome', ended.status)}{generation}", style="green")
    else:
        complain(f"failed: {ended.error}: {ended.cause}")
        if advice:
            complain(f"  next: {advice}")
    if ended.error is not None:
        raise typer.Exit(Exit.NO)


def _document(ended: Ended, skip: Skip | None, advice: str | None, now: datetime) -> Rotated:
    failed = ended.error is not None
    return Rotated(
        execution=ended.arn,
        status=ended.status,
        outcome=ended.output.get("outcome", UNSET),
        generation=ended.output.get("generation", UNSET),
        error=ended.error or UNSET,
        cause=ended.cause if failed else UNSET,
        next=advice if failed else UNSET,
        waits_for=(skip.wait.document(now) if skip.wait else None) if skip else UNSET,
        states=[
            StateOfMachine(state=s.name, entered_at=to_second(s.at), seconds=s.seconds) for s in ended.states
        ],
    )
