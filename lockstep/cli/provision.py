"""`lockstep provision`: make the secrets of a fleet where the stacks do not."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lockstep.cli import documents
from lockstep.cli.giving import named
from lockstep.cli.operator import operator
from lockstep.cli.output import (
    DEFAULT_PLAN,
    SHOWN_IDS,
    AsJson,
    DryRun,
    Exit,
    PlanFile,
    complain,
    plan_or_exit,
    print_json,
    say,
    wrong_use,
)
from lockstep.cli.provisioning import (
    Report,
    Room,
    aws_room,
    carried_out,
    oci_room,
    orphans_of,
    stack_of,
    terms_of,
)
from lockstep.identity import DEPLOYER, Cloud
from lockstep.plan import Plan
from lockstep.provision.pace import AWS_QUOTA, AWS_RATE, OCI_RATE
from lockstep.store_kinds.aws_secrets_manager import AwsSecretsManager
from lockstep.store_kinds.oci_vault import OciVault

if TYPE_CHECKING:
    from lockstep.provision.orphans import Orphan

_STORES: Mapping[Cloud, type[AwsSecretsManager | OciVault]] = {"aws": AwsSecretsManager, "oci": OciVault}
_RETIRE = (
    "the plan does not name it. Its credential should have been ended by `lockstep retire` before it left the plan; "
    "once no application reads it, delete it:"
)


def provision(  # noqa: PLR0913 - an option each
    *,
    cloud: Annotated[Literal["aws", "oci", "both"], typer.Option("--cloud", help="Where.")] = "both",
    dry_run: DryRun = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            "-c",
            metavar="CREDENTIAL",
            help="Only this credential, by its id or a pattern such as 'team/*'. Repeat it.",
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
    terraform: Annotated[
        Path | None,
        typer.Option("--terraform", help="For OCI: what `terraform output -json provision` has printed."),
    ] = None,
    imports: Annotated[
        Path | None,
        typer.Option(
            "--imports",
            help="For OCI: also write this file, by which Terraform takes the slots, such as imports.tf.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate", min=0.1, max=AWS_QUOTA, help="Writes a second.  [default: 25 in AWS, 5 in OCI]"
        ),
    ] = None,
    file: PlanFile = DEFAULT_PLAN,
    as_json: AsJson = False,
) -> None:
    """Make the secrets of credentials where the stacks do not.

    Above 100 credentials a stack is too small for their secrets: set `secrets` to `provision` in cdk.json, and as a
    variable of Terraform, deploy once, so that there are keys, and run this. A secret gets what the stack would give
    it: key, tags, and a placeholder that the first rotation replaces. One that exists keeps its value; one of this
    stack gets the tags that it lacks. What is in the way is told with the command that mends it: a secret of another
    stack, one that people made, one that is scheduled for deletion. Nothing is ever deleted. docs/how-to/fleet.md shows
    the way there and back.

    Repeating it is harmless, and makes what is new in the plan. Interrupt it as you like: what is made stays, and the
    next run goes on. It slows down while a service asks for that. With --dry-run it changes nothing, and also lists the
    secrets of the stack, and of the rings' compartment, that the plan does not name any more.

    Exit code: 0 every secret is there, or would be; 1 one is in the way, or the key is not known; 3 a service was
    unreachable, or throttles for minutes.
    """
    plan = plan_or_exit(file)
    ids = tuple(c.id for c in named(plan, only, everything=False)) if only else ()
    clouds = operator(plan, identity=DEPLOYER)
    rooms: list[Room] = []
    if _is_meant(plan, "aws", cloud):
        rooms.append(aws_room(plan, clouds, stack_of(settings, stack), ids, rate=rate or AWS_RATE))
    if _is_meant(plan, "oci", cloud):
        rooms.append(
            oci_room(plan, clouds, terms_of(plan, terraform), ids, rate=rate or OCI_RATE, imports=imports)
        )
    reports = [carried_out(room, is_dry=dry_run, is_quiet=as_json) for room in rooms]
    orphans = {room.cloud: orphans_of(room) for room in rooms if dry_run}
    if as_json:
        made = [_document(r, orphans.get(r.cloud)) for r in reports]
        print_json(documents.Provisioned(dry_run=dry_run, clouds=made))
    else:
        for report in reports:
            _show(report, orphans.get(report.cloud, ()), is_dry=dry_run)
    for room in rooms:
        room.last()
    if any(report.refused for report in reports):
        raise typer.Exit(Exit.NO)


def _is_meant(plan: Plan, one: Cloud, cloud: str) -> bool:
    """Whether the secrets of a cloud are to be made, or exit code 2 where the plan has no store there."""
    has_store = plan.store(_STORES[one]) is not None
    if cloud == one and not has_store:
        raise wrong_use(f"the plan has no store in {one.upper()}")
    return has_store and cloud in {one, "both"}


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
    for orphan in orphans[:SHOWN_IDS]:
        say(f"{orphan.name}: {_RETIRE}", style="yellow")
        say(f"    {orphan.command}", style="bold")
    if len(orphans) > SHOWN_IDS:
        say(f"and {len(orphans) - SHOWN_IDS} more that the plan does not name; --json lists all")
    say(report.line(is_dry=is_dry), style="bold red" if report.refused else "green")


def _list(what: str, names: list[str]) -> None:
    for name in names[:SHOWN_IDS]:
        say(f"{what}: {name}")
    if len(names) > SHOWN_IDS:
        say(f"{what}: {len(names) - SHOWN_IDS} more; --json lists all")


def _document(report: Report, orphans: "tuple[Orphan, ...] | None") -> documents.ProvisionedIn:
    return documents.ProvisionedIn(
        cloud=report.cloud,
        counts=report.counts,
        secrets=[
            documents.ProvisionedSecret(
                secret=decision.name,
                state=decision.deed.value,
                done=is_done,
                problems=decision.problems,
                command=decision.command,
            )
            for decision, is_done in report.told
        ],
        not_in_the_plan=None
        if orphans is None
        else [documents.SecretOfNobody(secret=orphan.name, command=orphan.command) for orphan in orphans],
    )
