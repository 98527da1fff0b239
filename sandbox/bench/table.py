"""The figures as tables for people."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sandbox.bench.budget import FUNCTION, LARGE, MACHINE, PEER, SMALL, STEPS, figure, goals
from sandbox.bench.rounds import LATENCIES_MS

Figures = Mapping[str, Any]
_RUNNERS = {
    "1x1 state machine": (SMALL, MACHINE),
    f"1x1 {PEER}": (SMALL, PEER),
    "2x2 state machine": (LARGE, MACHINE),
    "2x2 OCI function": (LARGE, FUNCTION),
}
_OF_A_STEP = {"in sequence": "chain", "calls to AWS": "aws_calls", "calls to OCI": "oci_calls"}
_ROTATION: Mapping[str, Sequence[str]] = {
    "round trips in sequence": ("chain",),
    "of these to AWS": ("aws_chain",),
    "of these to OCI": ("oci_chain",),
    "calls": ("calls",),
    "calls to AWS": ("aws_calls",),
    "calls to OCI": ("oci_calls",),
    **{f"wall, ms at {ms} ms": ("wall_ms", str(ms)) for ms in LATENCIES_MS},
    "lock held, ms at 50 ms": ("lock_held_ms", "50"),
    "states entered": ("transitions",),
    "looks at what is current": ("boundaries", "boundaries"),
    "of these refused": ("boundaries", "refused"),
    "logins through rotations back to back": ("back to back", "logins"),
    "of these logins refused": ("back to back", "refused"),
}


def lines(found: Figures) -> Iterator[str]:
    """All tables."""
    yield from measured(found)
    yield from _table(
        ("goal", "figure", "goal", "claimed", ""),
        [
            (g.name, _cell(found, g.path), f"{g.at_most:g}", f"{g.claimed:g}", g.verdict(found))
            for g in goals()
            if figure(found, g.path) is not None
        ],
    )


def measured(found: Figures) -> Iterator[str]:
    """The tables without the goals."""
    runners = {name: path for name, path in _RUNNERS.items() if figure(found, path)}
    yield from _table(
        ("rotation", *runners),
        [
            (name, *(_cell(found, (*path, *key)) for path in runners.values()))
            for name, key in _ROTATION.items()
        ],
    )
    columns = {f"{size} {name}": (size, key) for size in STEPS for name, key in _OF_A_STEP.items()}
    yield from _table(
        ("step", *columns),
        [
            (step, *(_cell(found, (size, MACHINE, "steps", step, key)) for size, key in columns.values()))
            for step in STEPS[SMALL]
        ],
    )


def _cell(found: Figures, path: Sequence[str]) -> str:
    value = figure(found, tuple(path))
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """In Markdown, which a terminal shows as well."""
    everything = [head, *rows]
    widths = [max(len(row[i]) for row in everything) for i in range(len(head))]
    for number, row in enumerate(everything):
        first, *others = zip(row, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]
        yield f"| {' | '.join(cells)} |"
        if number == 0:
            yield f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    yield ""
