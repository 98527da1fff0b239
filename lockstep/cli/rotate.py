"""`lockstep rotate`: start the state machine by hand and follow it to its end."""

import json
from typing import Annotated, Any

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.status import Status

from lockstep.aws.clients import aws_client, diagnose
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
)
from lockstep.messages import RunInput
from lockstep.ports import Clock
from lockstep.system import SystemClock

TIMEOUT_SECONDS = 660.0
"""The longest time that an execution may run, plus a minute."""
POLL_SECONDS = 1.0


def rotate(
    *,
    credential_id: OneCredentialId,
    state_machine_arn: Annotated[
        str,
        typer.Option(
            "--state-machine-arn",
            envvar="LOCKSTEP_STATE_MACHINE_ARN",
            help="The state machine to start; an output of the stack.",
        ),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Rotate even if it is not due, but not during the overlap.")
    ] = False,
    revoke_previous: Annotated[
        bool,
        typer.Option(
            "--revoke-previous",
            help="Emergency: discard the previous value at once. With --force also during the overlap.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be started, without starting it.")
    ] = False,
    file: PlanFile = DEFAULT_PLAN,
    as_json: AsJson = False,
) -> None:
    """Start a rotation in AWS and follow it to its end.

    A credential that is not due, or whose lock is held, is skipped, which is a success. Ctrl-C stops following it;
    the rotation goes on.

    Exit code: 0 rotated or skipped, 1 the rotation failed, 3 AWS was unreachable or the rotation did not
    end in time.
    """
    credential = one(plan_or_exit(file), credential_id)
    asked = RunInput(
        credential_id=credential.id, trigger="cli", force=force, revoke_previous=revoke_previous
    ).model_dump()
    if dry_run:
        say(f"would start {state_machine_arn} with {json.dumps(asked)}")
        return
    client = aws_client("stepfunctions", _region(state_machine_arn))
    try:
        arn = client.start_execution(stateMachineArn=state_machine_arn, input=json.dumps(asked))[
            "executionArn"
        ]
        ended = _followed(client, arn, SystemClock())
    except (ClientError, BotoCoreError) as e:
        complain(f"Step Functions was unreachable or refused the call: {diagnose(e)[1]}")
        raise typer.Exit(Exit.UNREACHABLE) from None
    if ended is None:
        complain(f"still running: {arn}")
        raise typer.Exit(Exit.UNREACHABLE)
    _report(arn, ended, as_json=as_json)


def _region(arn: str) -> str:
    parts = arn.split(":")
    if parts[:1] + parts[2:3] != ["arn", "states"] or not parts[3]:
        complain("--state-machine-arn: not the ARN of a state machine (arn:aws:states:…)")
        raise typer.Exit(Exit.USAGE)
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
