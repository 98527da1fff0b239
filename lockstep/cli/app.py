"""The command's tree, and `lockstep agent`, which is a program of its own."""

from collections.abc import Callable
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
from lockstep.cli.output import DEFAULT_PLAN, PLAN_VARIABLE, Root, say, taking


def agent(
    *,
    config: Annotated[Path, typer.Option(help="The settings.")] = DEFAULT_SETTINGS,
    once: Annotated[
        bool, typer.Option("--once", help="Write the files and end: for jobs and init containers.")
    ] = False,
) -> None:
    """Read credentials for the applications on this machine, and keep them fresh.

    Answers over HTTP on loopback, in the dialect of the AWS Secrets Manager Agent, and writes files. docs/agent.md
    has the settings.

    Exit code: 0 after a signal that ends it, or once the files are written; 2 settings that are not valid; 3 a value
    could not be read, a file not written, or a package is missing.
    """
    from lockstep.agent.__main__ import main  # noqa: PLC0415 - most commands need none of it

    raise typer.Exit(main(["--config", str(config), *(["--once"] if once else [])]))


app = typer.Typer(
    help="Rotates database credentials every 20 minutes across AWS and Oracle Cloud, in sync, without a lockout.",
    epilog="--plan, --json and --utc may stand anywhere on the line. Exit codes: 0 done, 1 check failed, 2 usage "
    "error or invalid plan, 3 a service was unreachable; others are in the help of the command.",
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Plain help reads the same in a terminal, a pipe and the documentation.
)
PLAN, JSON = "--plan", "--json"
_GROUPS = {
    "plan": "Check the plan file, print its SQL.",
    "secrets": "Make the secrets of credentials, and tag those that people made.",
    "audit": "Verify and show the audit log.",
    "lock": "Show or free the lock, which says who may rotate.",
    "identity": "The documents by which AWS verifies the tokens of the OCI runner.",
}
_TREE: tuple[tuple[str, str, Callable[..., None], tuple[str, ...]], ...] = (
    ("Set up", "init", init.init, (PLAN,)),
    ("Set up", "check", plan.check, (PLAN, JSON)),
    ("Set up", "import", login_import.command, (PLAN,)),
    ("Set up", "secrets create", secrets_command.create, (PLAN, JSON)),
    ("Set up", "secrets tag", secrets_command.tag_command, (PLAN, JSON)),
    ("Set up", "apply", plan.apply, (PLAN,)),
    ("Operate", "status", status.status, (PLAN, JSON)),
    ("Operate", "serve", status.serve, (PLAN,)),
    ("Operate", "rotate", rotate.rotate, (PLAN, JSON)),
    ("Operate", "history", status.history, (PLAN, JSON)),
    ("Operate", "sessions", status.sessions, (PLAN, JSON)),
    ("Operate", "pause", orders.pause, (PLAN,)),
    ("Operate", "resume", orders.resume, (PLAN,)),
    ("Operate", "retire", orders.retire, (PLAN,)),
    ("Incident", "doctor", doctor.doctor, (PLAN, JSON)),
    ("Incident", "revoke", rotate.revoke, (PLAN, JSON)),
    ("Incident", "unblock", orders.unblock, (PLAN,)),
    ("Incident", "take-over", orders.take_over, (PLAN,)),
    ("Incident", "lock show", orders.show, (PLAN, JSON)),
    ("Incident", "lock release", orders.release, (PLAN,)),
    ("Evidence", "audit verify", audit.verify, (PLAN, JSON)),
    ("Evidence", "audit report", audit.report, (PLAN, JSON)),
    ("Evidence", "audit show", audit.show, (PLAN, JSON)),
    ("Applications", "agent", agent, ()),
    ("Advanced", "plan sql", plan.sql, (PLAN,)),
    ("Advanced", "plan diff", plan.diff, (JSON,)),
    ("Advanced", "plan render", plan.render, (PLAN,)),
    ("Advanced", "plan schema", plan.schema, ()),
    ("Advanced", "plan publish", plan.publish, (PLAN, JSON)),
    ("Advanced", "identity publish", identity.publish, (PLAN, JSON)),
)
"""Of each command what it is for, its name, and what of the whole command's options means something to it."""


def _add() -> None:
    groups = {name: typer.Typer(help=text, no_args_is_help=True) for name, text in _GROUPS.items()}
    for panel, name, function, options in _TREE:
        *group, word = name.split()
        inside = groups[group[0]] if group else app
        inside.command(word, cls=taking(*options), rich_help_panel=panel)(function)
    for name, group_app in groups.items():
        app.add_typer(group_app, name=name)


_add()


@app.callback(invoke_without_command=True)
def _root(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
    _plan: Annotated[
        Path, typer.Option("--plan", "-p", envvar=PLAN_VARIABLE, help="The plan file.")
    ] = DEFAULT_PLAN,
    _json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")] = False,
    _utc: Annotated[bool, typer.Option("--utc", help="Show times in UTC instead of local.")] = False,
) -> None:
    if version:
        say(f"lockstep {__version__}")
        raise typer.Exit
