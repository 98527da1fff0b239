"""The demo's live screen: the applications, and the rotations so far."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sandbox.acts import Story
from sandbox.applications import Applications
from sandbox.timeline import CALLS


def screen(story: Story, applications: Applications) -> Group:
    """The whole screen at this moment."""
    return Group(_logins(applications), _rotations(story), Text(f"now: {story.act}", style="dim"))


def _logins(applications: Applications) -> Table:
    table = Table(
        "application", "generation", "logins", "refused", "slowest", title="Applications, logging in"
    )
    for a in applications.all:
        table.add_row(
            a.name,
            str(a.generation or ""),
            str(a.logins),
            Text(str(len(a.refusals)), style="bold red" if a.refusals else "green"),
            f"{a.slowest_seconds * 1000:.0f} ms",
        )
    return table


def _rotations(story: Story) -> Table:
    table = Table("act", "credential", "by", "outcome", "ms", "of these", title="Runs")
    for run in story.runs:
        generation = f" {run.generation}" if run.generation else ""
        table.add_row(
            run.act,
            run.credential_id.rpartition("/")[2],
            run.runner,
            f"{run.outcome}{generation}{', adopted' if run.adopted else ''}",
            str(run.milliseconds),
            ", ".join(f"{state} {run.states_ms[state]}" for state in CALLS if state in run.states_ms),
        )
    return table
