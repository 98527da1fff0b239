"""How far long work is, on a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from lockstep.cli.output import err


@contextmanager
def progress_bar(*more: ProgressColumn) -> Iterator[Progress]:
    """Shows what is done of each task; on a terminal only.

    Args:
        more: Columns after the name of the task.
    """
    with Progress(
        TextColumn("{task.description}", markup=False),
        *more,
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as progress:
        yield progress
