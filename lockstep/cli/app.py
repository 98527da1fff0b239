"""The command's tree."""

import typer

from lockstep import __version__
from lockstep.cli import audit, lock, plan, status
from lockstep.cli.output import out

app = typer.Typer(
    help="Rotates database credentials every 20 minutes across AWS and Oracle Cloud, in step, without a lockout.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(plan.app, name="plan")
app.add_typer(audit.app, name="audit")
app.add_typer(lock.app, name="lock")
app.command("status")(status.status)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version.", is_eager=True)) -> None:  # noqa: FBT001 - typer's way of a flag
    if version:
        out.print(f"lockstep {__version__}", highlight=False)
        raise typer.Exit
