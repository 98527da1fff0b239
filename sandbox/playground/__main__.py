"""`make sandbox`, and the command `sandbox` of the shells that have sourced `build/sandbox/env`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sandbox.playground.control import FOLDER, ask, serve

app = typer.Typer(
    name="sandbox",
    help="Both clouds and real databases on this machine, to try `lockstep` on.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Database = Annotated[str, typer.Argument(help="orders, ledger or crm.")]
SecretName = Annotated[str, typer.Argument(help="Its name in the plan.")]


@app.command()
def up() -> None:
    """Start everything, and stay until Ctrl-C; then all of it is gone."""
    from sandbox.playground.deployment import Orders  # noqa: PLC0415 - these take seconds, and no other command needs them
    from sandbox.playground.world import Files, running_world  # noqa: PLC0415 - likewise

    for number in (signal.SIGINT, signal.SIGTERM):  # Also where a shell in the background has them ignored.
        signal.signal(number, signal.default_int_handler)
    files = Files(FOLDER)
    if ask(["ping"], files.control()).code == 0:
        _end(2, f"a sandbox runs already: . {os.path.relpath(files.environment)}")
    shutil.rmtree(files.folder, ignore_errors=True)
    files.folder.mkdir(parents=True)
    typer.echo("Starting AWS and OCI, as emulators, and the databases, which are real …")
    try:
        with tempfile.TemporaryDirectory(prefix="lockstep-") as folder:
            address = Path(folder) / "control"
            with running_world(files, address) as world:
                for name, server in world.servers.items():
                    typer.echo(f"  {name}: {server.product} {server.version} at {server.host}:{server.port}")
                ready = f"Ready. In another shell: . {os.path.relpath(files.environment)}"
                serve(address, Orders(world).take, ready=partial(typer.echo, ready))
    except KeyboardInterrupt:
        typer.echo("\nStopped.")
    finally:
        shutil.rmtree(files.folder, ignore_errors=True)


@app.command()
def deploy() -> None:
    """Do what `make deploy-oci`, `make deploy-aws` and a person do: the plan in $LOCKSTEP_PLAN runs in both clouds."""
    _tell(["deploy", os.environ.get("LOCKSTEP_PLAN", "lockstep.yaml")])


@app.command()
def standby(
    credential: Annotated[str, typer.Argument(help="Its id.")],
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Also if it is not due, but not during the overlap.")
    ] = False,
) -> None:
    """Call the OCI function for a credential, as its schedule does half an interval after AWS."""
    _tell(["standby", credential, *(["--force"] if force else [])])


@app.command()
def value(secret: SecretName) -> None:
    """Print what AWS serves as a secret, with the password: for `sandbox login`, not for your screen."""
    _tell(["value", secret])


@app.command()
def edit(secret: SecretName) -> None:
    """Make standard input a secret's current value in AWS, as a person does in the console."""
    _tell(["edit", secret, sys.stdin.read()])


@app.command()
def login(database: Database) -> None:
    """Try a login, JSON in standard input, at a database, as an application does. Exit code: 0 accepted, 1 refused."""
    _tell(["login", database, sys.stdin.read()])


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def sql(context: typer.Context, database: Database) -> None:
    """Open a database's own client as its DBA; further words are the client's."""
    file = Path(os.environ.get("SANDBOX", str(FOLDER))) / f"{database}-dba.json"
    if not file.exists():
        _end(3, f"no database {database} runs here; `make sandbox` says which do")
    found = json.loads(file.read_text())
    command = [*found["command"], *context.args]
    if shutil.which(command[0]) is None:
        _end(3, f"{command[0]} is not installed: `make setup` installs it")
    ended = subprocess.run(command, env={**os.environ, **found["environment"]}, check=False)
    raise typer.Exit(ended.returncode)


def _tell(words: list[str]) -> None:
    answer = ask(words)
    if answer.code:
        _end(answer.code, answer.text)
    if answer.text:
        typer.echo(answer.text)


def _end(code: int, text: str) -> None:
    typer.echo(text, err=True)
    raise typer.Exit(code)


if __name__ == "__main__":
    app()
