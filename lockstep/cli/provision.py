"""`lockstep provision`: make the secrets of a fleet where the stacks do not."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lockstep.cli.operator import operator
from lockstep.cli.output import (
    DEFAULT_PLAN,
    AsJson,
    DryRun,
    Exit,
    PlanFile,
    complain,
    one,
    plan_or_exit,
    print_json,
    say,
    wrong_use,
)
from lockstep.cli.provisioning import Report, Room, aws_room, carried_out, orphans_of, stack_of
from lockstep.clouds import Clouds
from lockstep.plan import Plan
from lockstep.provision.pace import AWS_QUOTA, AWS_RATE
from lockstep.store_kinds import AwsSecretsManager

if TYPE_CHECKING:
    from lockstep.provision.orphans import Orphan

SHOWN = 20
"""So many of one kind are listed for people; `--json` lists all."""
_RETIRE = (
    "the plan does not name it. Its credential should have been ended by `lockstep retire` before it left the plan; "
    "once no application reads it, delete it:"
)


def provision(  # noqa: PLR0913 - an option each
    *,
    cloud: Annotated[Literal["aws", "both"], typer.Option("--cloud", help="Where.")] = "both",
    dry_run: DryRun = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", "-c", metavar="CREDENTIAL", help="Only this credential, by its id; again for each."
        ),
    ] = None,
    stack: Annotated[
        str | None,
        typer.Option(
            "--stack", envvar="LOCKSTEP_STACK", help="The stack in AWS.  [default: that of cdk.json]"
        ),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option("--settings", help="The cdk.json of the deployment.  [default: the one in this folder]"),
    ] = None,
    rate: Annotated[
        float,
        typer.Option("--rate", min=0.1, max=AWS_QUOTA, help="Writes a second in AWS, which takes 50 in all."),
    ] = AWS_RATE,
    file: PlanFile = DEFAULT_PLAN,
    as_json: AsJson = False,
) -> None:
    """Make the secrets of credentials where the stacks do not.

    Above 100 credentials a stack is too small for their secrets: set `secrets` to `provision` in cdk.json, deploy once,
    so that there is a key, and run this. A secret gets what the stack would give it: key, tags, and a placeholder that
    the first rotation replaces. One that exists keeps its value; one of this stack gets the tags that it lacks. What is
    in the way is told with the command that mends it: a secret of another stack, one that people made, one that is
    scheduled for deletion. Nothing is ever deleted.

    Repeating it is harmless, and makes what is new in the plan. Interrupt it as you like: what is made stays, and the
    next run goes on. It writes 25 secrets a second in AWS, and fewer while the service asks for that. With --dry-run it
    changes nothing, and also lists the secrets of the stack that the plan does not name any more.

    Exit code: 0 every secret is there, or would be; 1 one is in the way, or the key is not known; 3 a service was
    unreachable, or throttles for minutes.
    """
    plan = plan_or_exit(file)
    for credential_id in only or ():
        one(plan, credential_id)
    clouds, ids = operator(plan), tuple(dict.fromkeys(only or ()))
    rooms = _rooms(plan, clouds, cloud, ids, stack=stack, settings=settings, rate=rate)
    reports = [carried_out(room, is_dry=dry_run, is_quiet=as_json) for room in rooms]
    orphans = {room.cloud: orphans_of(room) for room in rooms if dry_run}
    if as_json:
        print_json({"dry_run": dry_run, "clouds": [_document(r, orphans.get(r.cloud)) for r in reports]})
    else:
        for report in reports:
            _show(report, orphans.get(report.cloud, ()), is_dry=dry_run)
    if any(report.refused for report in reports):
        raise typer.Exit(Exit.NO)


def _rooms(
    plan: Plan,
    clouds: Clouds,
    cloud: str,
    ids: tuple[str, ...],
    *,
    stack: str | None,
    settings: Path | None,
    rate: float,
) -> list[Room]:
    rooms: list[Room] = []
    if cloud in {"aws", "both"}:
        if plan.store(AwsSecretsManager):
            rooms.append(aws_room(plan, clouds, stack_of(settings, stack), ids, rate=rate))
        elif cloud == "aws":
            raise wrong_use("the plan has no store in AWS")
    return rooms


def _show(report: Report, orphans: "tuple[Orphan, ...]", *, is_dry: bool) -> None:
    if is_dry:
        _list("would make", [d.name for d in report.to_make])
        _list("would tag", [d.name for d in report.to_tag])
    for decision in report.refused:
        complain(f"{decision.name}: {'; '.join(decision.problems)}")
        if decision.command:
            say(f"    {decision.command}", style="bold")
    for decision in report.noted:
        say(f"{decision.name}: {'; '.join(decision.problems)}", style="yellow")
    for orphan in orphans[:SHOWN]:
        say(f"{orphan.name}: {_RETIRE}", style="yellow")
        say(f"    {orphan.command}", style="bold")
    if len(orphans) > SHOWN:
        say(f"and {len(orphans) - SHOWN} more that the plan does not name; --json lists all")
    say(report.line(is_dry=is_dry), style="bold red" if report.refused else "green")


def _list(what: str, names: list[str]) -> None:
    for name in names[:SHOWN]:
        say(f"{what}: {name}")
    if len(names) > SHOWN:
        say(f"{what}: {len(names) - SHOWN} more; --json lists all")


def _document(report: Report, orphans: "tuple[Orphan, ...] | None") -> dict[str, Any]:
    return {
        "cloud": report.cloud,
        "counts": report.counts,
        "secrets": [
            {
                "secret": decision.name,
                "state": decision.deed.value,
                "done": is_done,
                "problems": list(decision.problems),
                "command": decision.command,
            }
            for decision, is_done in report.told
        ],
        "not_in_the_plan": None
        if orphans is None
        else [{"secret": orphan.name, "command": orphan.command} for orphan in orphans],
    }
