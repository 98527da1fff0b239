"""docs/commands.md, from the program's own `--help`.

python -m lockstep.cli.reference > docs/commands.md
"""

import sys
from collections.abc import Iterator

from typer.main import get_command
from typer.testing import CliRunner

from lockstep.cli.app import app

_HEAD = """\
# Commands

Made from the program's own `--help` by `python -m lockstep.cli.reference > docs/commands.md`.
"""


def page() -> str:
    """The page."""
    return _HEAD + "".join(_section(path) for path in paths())


def paths() -> Iterator[tuple[str, ...]]:
    """The words of every command and of every group of commands."""
    yield ()
    for name, command in getattr(get_command(app), "commands", {}).items():
        yield (name,)
        for inner in getattr(command, "commands", {}):
            yield (name, inner)


def _section(path: tuple[str, ...]) -> str:
    shown = CliRunner().invoke(app, [*path, "--help"], prog_name="lockstep", env={"COLUMNS": "80"})
    return f"\n## {' '.join(('lockstep', *path))}\n\n```text\n{shown.stdout.rstrip()}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(page())
