"""`lockstep rotate`: start the state machine by hand and follow it to its end."""

import json
from typing import Annotated, Any

import typer
from rich.status import Status

from lockstep.aws.clients import Trouble, aws_client, translated
from lockstep.cli.consent import require_consent
from lockstep.cli.giving import RecordIn, desk
from lockstep.cli.output import (
    DEFAULT_PLAN,
    AsJson,
    Exit,
    OneCredentialId,
    PlanFile,
    complain,
    err,
    one,
    plan_or_exit,
    print_json,
    say,
    say_aside,
    wrong_use,
)
from lockstep.cli.usage import UsagePlaces
from lockstep.environment import AwsCallRefusedError
from lockstep.errors import OrderRefusedError
from lockstep.identity import Cloud
from lockstep.messages import RunInput
from lockstep.model import Credential
from lockstep.orders import Given, Revoke
from lockstep.plan import Plan
from lockstep.ports import Clock
from lockstep.system import SystemClock

TIMEOUT_SECONDS = 660.0
"""The longest time that an execution may run, plus a minute."""
POLL_SECONDS = 1.0


def rotate(  # noqa: PLR0913 - a command has an argument for each option
    *,
    credential_id: OneCredentialId,
    state_machine_arn: Annotated[
        str,
        typer.Option(
            "--state-machine-arn",
            envvar="LOCKSTEP_STATE_MACHINE_ARN",
            help="The alias of the state machine to start; an output of the stack.",
        ),
    ],
    force: Annotated[
        bool,
        typer.Option("--force", help="Rotate even if it is not due or paused, but not during the overlap."),
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
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="With --revoke-previous: neither count sessions nor ask.")
    ] = False,
    usage: UsagePlaces = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be started, without starting it.")
    ] = False,
    stream: RecordIn = "aws",
    file: PlanFile = DEFAULT_PLAN,
    as_json: AsJson = False,
) -> None:
    """Start a rotation in AWS and follow it to its end.

    A credential that is not due, or whose lock is held, is skipped, which is a success. Ctrl-C stops following it;
    the rotation goes on. An emergency is an order in the lock record: if this run is skipped or dies, the next one of
    either cloud does it, whatever the schedule says. A paused credential needs --resume.

    An emergency first shows which sessions are open, as `lockstep sessions` does, and asks. Sessions go on; it is their
    next login that is refused, until they read the new value. With --usage it also shows what clients and agents say
    of themselves. Without a terminal it needs --yes.

    Exit code: 0 rotated or skipped, 1 the rotation failed, the emergency is not over or the answer was no, 2 wrong use
    or nobody to ask, 3 AWS was unreachable or the rotation did not end in time.
    """
    plan = plan_or_exit(file)
    credential, region = one(plan, credential_id), _region(state_machine_arn)
    order = Revoke(lift_pause=lift_pause) if revoke_previous else None
    asked = RunInput(credential_id=credential.id, trigger="cli", force=force or revoke_previous).model_dump()
    if dry_run:
        if order:
            say(f"would record and give the order {order.name} for {credential.id}")
        say(f"would start {state_machine_arn} with {json.dumps(asked)}")
        return
    if order:
        if not yes:
            require_consent(desk(plan, stream).clouds, credential, usage or ())
        given = _ordered(plan, order, credential, stream)
        # Standard output may be JSON.
        say_aside(f"emergency through generation {given.state.revoke_through} ordered")
    client = aws_client("stepfunctions", region)
    with translated(dict.fromkeys(Trouble, AwsCallRefusedError)):
        arn = client.start_execution(stateMachineArn=state_machine_arn, input=json.dumps(asked))[
            "executionArn"
        ]
        ended = _followed(client, arn, SystemClock())
    if ended is None:
        complain(f"still running: {arn}")
        raise typer.Exit(Exit.UNREACHABLE)
    _report(arn, ended, as_json=as_json)
    if order:
        _require_over(plan, credential, stream)


def _require_over(plan: Plan, credential: Credential, stream: Cloud) -> None:
    """Exit code 1 where the emergency is not over: the run was skipped, or had to heal the stores first."""
    state = desk(plan, stream).state(credential)
    if state.is_revoking:
        complain(
            f"not over: generations up to {state.revoke_through} may still log in. The order stands in the record, and "
            f"the next run of either cloud goes on with it. To see it: lockstep status -c {credential.id}"
        )
        raise typer.Exit(Exit.NO)


def _ordered(plan: Plan, order: Revoke, credential: Credential, stream: Cloud) -> Given:
    try:
        return desk(plan, stream).give(order, credential)
    except OrderRefusedError:
        complain(f"{credential.id} is paused, and stays so: add --resume, so that later runs may finish")
        raise


def _region(arn: str) -> str:
    parts = arn.split(":")
    if parts[:1] + parts[2:3] != ["arn", "states"] or not parts[3]:
        raise wrong_use("--state-machine-arn: not the ARN of a state machine (arn:aws:states:…)")
    return parts[3]


def _followed(client: Any, arn: str, clock: Clock) -> dict[str, Any] | None:  # noqa: ANN401 - botocore makes its clients' types at run time
    deadline = clock.monotonic() + TIMEOUT_SECONDS
    with Status("started", console=err) as status:
        while clock.monotonic() < deadline:
            shown: dict[str, Any] = client.describe_execution(executionArn=arn)
            if shown["status"] != "RUNNING":
                return shown
            events = client.get_execution_history(executionArn=arn, reverseOrder=True, maxResults=50)[
                "events"
            ]
            entered = (
                e["stateEnteredEventDetails"]["name"] for e in events if "stateEnteredEventDetails" in e
            )
            status.update(next(entered, "started"))
            clock.sleep(POLL_SECONDS)
    return None


def _report(arn: str, ended: dict[str, Any], *, as_json: bool) -> None:
    succeeded = ended["status"] == "SUCCEEDED"
    output = json.loads(ended["output"]) if succeeded else {}
    failure = {}
    if not succeeded:
        failure = {"error": ended.get("error", ended["status"]), "cause": _message(ended.get("cause", ""))}
    if as_json:
        print_json({"execution": arn, "status": ended["status"], **output, **failure})
    elif succeeded:
        generation = f", generation {output['generation']} is current" if "generation" in output else ""
        say(f"{output.get('outcome', ended['status'])}{generation}", style="green")
    else:
        complain(f"failed: {failure['error']}: {failure['cause']}")
    if not succeeded:
        raise typer.Exit(Exit.NO)


def _message(cause: str) -> str:
    """The text of a function's error, without Lambda's wrapping."""
    try:
        return str(json.loads(cause)["errorMessage"])
    except (ValueError, TypeError, KeyError):
        return cause
