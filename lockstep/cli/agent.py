"""`lockstep agent`: credentials for the applications on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from lockstep.agent import DEFAULT_SETTINGS


def agent(
    *,
    config: Annotated[Path, typer.Option("--config", help="The settings.")] = DEFAULT_SETTINGS,
    once: Annotated[
        bool, typer.Option("--once", help="Write the files and end: for jobs and init containers.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Only check the settings.")] = False,
) -> None:
    """Read credentials for the applications on this machine, and keep them fresh.

    Answers over HTTP on loopback, in the dialect of the AWS Secrets Manager Agent, and writes files. docs/agent.md
    has the settings.

    Exit code: 0 after a signal that ends it, or once the files are written; 2 settings that are not valid; 3 a value
    could not be read, a file not written, or a package is missing.
    """
    from lockstep.agent.__main__ import main  # noqa: PLC0415 - most commands need none of it

    flags = [flag for flag, wanted in (("--once", once), ("--check", check)) if wanted]
    raise typer.Exit(main(["--config", str(config), *flags]))
