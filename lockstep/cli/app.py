"""The command's tree, and `lockstep agent`, which is a program of its own."""

import signal
import sys
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from lockstep import __version__
from lockstep.agent import DEFAULT_SETTINGS
from lockstep.cli import audit, doctor, identity, init, login_import, orders, plan, rotate, status
from lockstep.cli import secrets as secrets_command
from lockstep.cli.output import answer, no, refuse, say, tell, words_left, wrong_use
from lockstep.operate.documents import Error, Exit
from lockstep.operate.formatting import asked, wants_json

INTERRUPTED_STATUS = 128 + signal.SIGINT
"""The status of a program that Ctrl-C has ended."""
_INTERRUPTED = Error(name="Interrupted", meaning="ended by Ctrl-C")
_UNTOLD = Error(name="NoAnswer", meaning="it ended without an answer; standard error says why")
"""For a command that has given no document, whatever it was that ended it."""


def agent(
    *,
    config: Annotated[Path, typer.Option(help="The settings.")] = DEFAULT_SETTINGS,
    once: Annotated[
        bool, typer.Option("--once", help="Write the files and end: for jobs and init containers.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the settings, the files and the token file.")
    ] = False,
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


class Command(TyperCommand):
    """A command; `takes` are the options of the whole command that mean something to it."""

    takes: frozenset[str] = frozenset()

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - the parser's types are private
        """Run it, or exit code 2 where it would not do what was said to the whole command."""
        for option, given in ((JSON, wants_json()), (PLAN, asked.plan_file)):
            if given and option not in self.takes:
                raise wrong_use(f"{ctx.command_path} has no use for {option}: leave it out")
        return super().invoke(ctx)


class Root(TyperGroup):
    """The command, which never ends with a traceback."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002, ANN401 - likewise
        """Every command, by what it is for."""
        for panel, commands in groupby(_TREE, key=lambda row: row[0]):
            with formatter.section(panel):
                formatter.write_dl([(name, str(f.__doc__).partition("\n")[0]) for _, name, f, _ in commands])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        *more: Any,  # noqa: ANN401 - likewise
        **extra: Any,  # noqa: ANN401 - likewise
    ) -> NoReturn:
        """Run it and exit."""
        with answer():
            extra["standalone_mode"] = False
            code = self._ended(
                sys.argv[1:] if args is None else args, prog_name or "lockstep", *more, **extra
            )
            if code:
                refuse(code, _INTERRUPTED if code == INTERRUPTED_STATUS else _UNTOLD)
            raise SystemExit(code)

    def _ended(self, args: Sequence[str], *more: Any, **extra: Any) -> int:  # noqa: ANN401 - likewise
        try:
            return int(super().main(words_left(args), *more, **extra) or 0)
        except typer.Abort:
            return no("aborted", name="Aborted").exit_code
        except Exception as error:  # noqa: BLE001 - the end of the program
            # Wrong use, which the parser tells.
            if hasattr(error, "show") and hasattr(error, "format_message"):
                error.show()
                refuse(Exit.USAGE, Error(name="WrongUse", meaning=error.format_message()))
                return Exit.USAGE
            return tell(error)


app = typer.Typer(
    help="Rotates database credentials every 20 minutes across AWS and Oracle Cloud, in sync, without a lockout.",
    epilog="Anywhere on the line: --plan, -p FILE, else LOCKSTEP_PLAN, else lockstep.yaml; --json, one document "
    "instead of text. Exit codes: 0 done, 1 check failed, 2 usage error or invalid plan, 3 a "
    "service was unreachable; others are in the help of the command.",
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
    ("Advanced", "plan publish", plan.publish, (PLAN,)),
    ("Advanced", "identity publish", identity.publish, (PLAN,)),
)
"""Of each command what it is for, its name, and what of the whole command's options means something to it."""


def _add() -> None:
    groups = {name: typer.Typer(help=text, no_args_is_help=True) for name, text in _GROUPS.items()}
    for _, name, function, options in _TREE:
        *group, word = name.split()
        inside = groups[group[0]] if group else app
        epilog = f"Also {', '.join(options)}: see lockstep --help." if options else None
        takes = type("Command", (Command,), {"takes": frozenset(options)})
        inside.command(word, cls=takes, epilog=epilog)(function)
    for name, group_app in groups.items():
        app.add_typer(group_app, name=name)


_add()


@app.callback(invoke_without_command=True)
def _root(
    *, version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False
) -> None:
    if version:
        say(f"lockstep {__version__}")
        raise typer.Exit
