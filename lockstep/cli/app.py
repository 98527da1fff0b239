"""The command's tree, and `lockstep agent`, which is a program of its own."""

from pathlib import Path
from typing import Annotated

import typer

from lockstep import __version__
from lockstep.agent import DEFAULT_SETTINGS
from lockstep.cli import (
    audit,
    doctor,
    identity,
    init,
    login_import,
    orders,
    plan,
    rotate,
    status,
)
from lockstep.cli import secrets as secrets_command
from lockstep.cli.output import Root, say


def agent(
    *,
    config: Annotated[Path, typer.Option(help="The settings.")] = DEFAULT_SETTINGS,
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


app = typer.Typer(
    help="Rotates database credentials every 20 minutes across AWS and Oracle Cloud, in sync, without a lockout.",
    epilog="Exit codes: 0 done, 1 the answer is no, 2 wrong use or an invalid plan, 3 a service was unreachable.",
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Plain help reads the same in a terminal, a pipe and the documentation.
)
plan.app.command("activate")(plan.activate)
plan.app.command("compile")(plan.compile_)
plan.app.command("diff")(plan.diff)
plan.app.command("publish")(plan.publish)
app.command("init")(init.init)
app.add_typer(plan.app, name="plan")
app.add_typer(secrets_command.app, name="secrets")
app.command("agent")(agent)
app.command("doctor")(doctor.doctor)
app.command("status")(status.status)
app.command("history")(status.history)
app.command("serve")(status.serve)
app.command("sessions")(status.sessions)
app.command("rotate")(rotate.rotate)
app.command("pause")(orders.pause)
app.command("resume")(orders.resume)
app.command("take-over")(orders.take_over)
app.command("unblock")(orders.unblock)
app.command("import")(login_import.command)
app.command("retire")(orders.retire)
audit.app.command("report")(audit.report)
app.add_typer(audit.app, name="audit")
app.add_typer(orders.app, name="lock")
app.add_typer(identity.app, name="identity")


@app.callback(invoke_without_command=True)
def _root(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
    _utc: Annotated[
        bool, typer.Option("--utc", help="Show times in UTC instead of local; anywhere on the line.")
    ] = False,
) -> None:
    if version:
        say(f"lockstep {__version__}")
        raise typer.Exit
