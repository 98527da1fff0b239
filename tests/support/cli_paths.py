"""Every command."""

from collections.abc import Iterator

from typer.main import get_command

from lockstep.cli.app import app


def paths() -> Iterator[tuple[str, ...]]:
    """The words of every command and of every group of commands."""
    yield ()
    for name, command in getattr(get_command(app), "commands", {}).items():
        yield (name,)
        for inner in getattr(command, "commands", {}):
            yield (name, inner)
