"""What all commands share: where they print, how they load the plan, how they fail."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from lockstep.errors import (
    AccountOwnedError,
    FenceLostError,
    HandOverRefusedError,
    InvalidPlanError,
    LockstepError,
    OrderRefusedError,
    UnknownUsernameError,
)
from lockstep.model import Credential
from lockstep.plan import Plan
from lockstep.plan_file import PlanProblemsError, load_plan

out = Console()
err = Console(stderr=True)

DEFAULT_PLAN = Path("lockstep.yaml")
_ANSWERS = (
    FenceLostError,
    OrderRefusedError,
    AccountOwnedError,
    HandOverRefusedError,
    UnknownUsernameError,
)
"""Errors that are a negative answer to a write."""


class Exit(IntEnum):
    """Exit codes."""

    NO = 1
    USAGE = 2
    UNREACHABLE = 3


PlanFile = Annotated[Path, typer.Option("--plan", "-p", envvar="LOCKSTEP_PLAN", help="The plan file.")]
CredentialId = Annotated[
    str | None,
    typer.Option("--credential", "-c", help="Only this credential, by its id.  [default: all of the plan]"),
]
OneCredentialId = Annotated[str, typer.Option("--credential", "-c", help="The credential, by its id.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, without doing it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


def say(text: str, *, style: str = "") -> None:
    """One line on standard output."""
    out.print(_plain(text, style), soft_wrap=True)


def complain(text: str) -> None:
    """One line on standard error."""
    err.print(_plain(text, "red"), soft_wrap=True)


def print_json(document: object) -> None:
    """One JSON document, for other programs."""
    out.print_json(json.dumps(document))


def _plain(text: str, style: str) -> Text:
    # Names come from clouds; a forged one must not control the terminal.
    return Text("".join(c if c.isprintable() else "?" for c in text), style=style)


def plan_or_exit(file: Path) -> Plan:
    """The plan, or every mistake in it and exit code 2."""
    try:
        return load_plan(file)
    except PlanProblemsError as e:
        complain(f"{file} is not a valid plan:")
        for problem in e.problems:
            complain(f"  {problem}")
        raise typer.Exit(Exit.USAGE) from None


def chosen(plan: Plan, credential_id: str | None) -> list[Credential]:
    """The credentials that the command is about, or exit code 2."""
    return list(plan.credentials) if credential_id is None else [one(plan, credential_id)]


def one(plan: Plan, credential_id: str) -> Credential:
    """The credential of that id, or exit code 2."""
    credential = plan.credential(credential_id)
    if credential is None:
        known = ", ".join(c.id for c in plan.credentials)
        complain(f"the plan has no credential {credential_id!r}; it has: {known}")
        raise typer.Exit(Exit.USAGE)
    return credential


@contextmanager
def failures_explained() -> Iterator[None]:
    """Turn one of our errors into its text and an exit code.

    A negative answer of a command is not an error, so an error means that a service was unreachable. The exceptions
    are the negative answers to a write.
    """
    try:
        yield
    except LockstepError as e:
        complain(f"{type(e).__name__}: {e}")
        if isinstance(e, InvalidPlanError):
            raise typer.Exit(Exit.USAGE) from None
        raise typer.Exit(Exit.NO if isinstance(e, _ANSWERS) else Exit.UNREACHABLE) from None
