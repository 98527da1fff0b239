"""The demo's screen: lines that stay, and below them what changes while the applications log in."""

import textwrap

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from sandbox.applications import Applications
from sandbox.story import Line, Story


def print_line(console: Console, line: Line) -> None:
    """Print a line within the console's width, wrapped at words only, so that a path stays whole."""
    indent = " " * line.indent
    text = textwrap.fill(
        line.text,
        width=console.width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    console.print(text, style=line.style or None, markup=False, highlight=False, soft_wrap=True)


def screen(story: Story, applications: Applications) -> Group:
    """What changes, at this moment."""
    return Group(Text(f"\nnow: {story.now}", style="bold"), _logins(applications))


def _logins(applications: Applications) -> Table:
    table = Table("application that logs in", box=None, header_style="dim")
    for name in ("generation", "logins", "refused", "slowest"):
        table.add_column(name, justify="right")
    for a in applications.all:
        refused = len(a.refusals)
        table.add_row(
            a.name,
            str(a.generation or ""),
            str(a.logins),
            Text(str(refused), style="bold red" if refused else "green"),
            f"{a.slowest_seconds * 1000:.0f} ms",
        )
    return table
