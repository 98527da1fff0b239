"""What all commands share: where they print, how they load the plan, how they fail."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lockstep.errors import InvalidPlanError, LockstepError, TerminalError
from lockstep.plan import Credential, Plan, PlanProblemsError, load_plan

out = Console()
err = Console(stderr=True)


class Exit(IntEnum):
    """Exit codes."""

    NO = 1
    USAGE = 2
    UNREACHABLE = 3


PlanFile = Annotated[
    Path,
    typer.Option("--plan", "-p", envvar="LOCKSTEP_PLAN", help="The plan file.", show_default=True),
]
CredentialId = Annotated[
    str | None, typer.Option("--credential", "-c", help="Only this credential; default: all of the plan.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


def plan_or_exit(file: Path) -> Plan:
    """The plan, or every mistake in it and exit code 2."""
    try:
        return load_plan(file)
    except PlanProblemsError as e:
        err.print(f"[red]{file} is not a valid plan:[/]", highlight=False)
        for problem in e.problems:
            err.print(f"  {problem}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(Exit.USAGE) from None


def chosen(plan: Plan, credential_id: str | None) -> list[Credential]:
    """The credentials that the command is about, or exit code 2."""
    if credential_id is None:
        return list(plan.credentials)
    credential = plan.credential(credential_id)
    if credential is None:
        known = ", ".join(c.id for c in plan.credentials)
        err.print(f"no credential {credential_id!r} in the plan; there are: {known}", markup=False)
        raise typer.Exit(Exit.USAGE)
    return [credential]


@contextmanager
def failures_explained() -> Iterator[None]:
    """Turn one of our errors into its text and an exit code."""
    try:
        yield
    except LockstepError as e:
        err.print(f"[red]{type(e).__name__}[/]: ", end="")
        err.print(str(e), markup=False, highlight=False, soft_wrap=True)
        usage = isinstance(e, InvalidPlanError)
        refused = isinstance(e, TerminalError) and not usage
        raise typer.Exit(Exit.USAGE if usage else Exit.NO if refused else Exit.UNREACHABLE) from None


def print_json(document: object) -> None:
    """One JSON document, for other programs."""
    out.print_json(json.dumps(document))
