"""`lockstep plan diff`: what changes between two plans, in the order in which it is safe."""

from pathlib import Path
from typing import Annotated

import typer

from lockstep.cli.documents import Difference, Refusal, Step
from lockstep.cli.output import AsJson, Exit, complain, plan_or_exit, print_json, say
from lockstep.plan_changes import PlanChanges, plan_changes


def diff(
    old: Annotated[Path, typer.Argument(help="The file of the plan that is active.")],
    new: Annotated[Path, typer.Argument(help="The file of the plan that is to become active.")],
    *,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            "--drop", help="What leaves after its readers: a database, store or credential. Once for each."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what must happen, and in which order, so that a new plan locks no application out.

    This calls no cloud and no database. It compares two files, so the first one must be the plan under which runs act:
    `status` shows its digest, `plan check` that of a file.

    Exit code: 0 safe in the order that is printed, 1 refused, 2 one of the plans is not valid.
    """
    changes = plan_changes(plan_or_exit(old), plan_or_exit(new), drop=drop or ())
    if as_json:
        print_json(_document(changes))
    elif changes.refusals:
        for refusal in changes.refusals:
            complain(f"{refusal.what}: {refusal.text}")
    else:
        for number, step in enumerate(changes.steps, start=1):
            say(f"{number}. {step.what}: {step.text}")
        if not changes.steps:
            say("nothing changes that readers or both runners must agree on")
    if changes.refusals:
        raise typer.Exit(Exit.NO)


def _document(changes: PlanChanges) -> Difference:
    return Difference(
        safe=not changes.refusals,
        refusals=[Refusal(what=refusal.what, why=refusal.text) for refusal in changes.refusals],
        steps=[Step(phase=step.phase.name.lower(), what=step.what, do=step.text) for step in changes.steps],
    )
