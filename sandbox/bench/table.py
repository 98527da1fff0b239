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
_LATENCIES = tuple(str(latency) for latency in LATENCIES_MS)
_COUNTS = ("chain", "aws_chain", "oci_chain", "calls", "aws_calls", "oci_calls")
_LOGINS = (
    *(("boundaries", what) for what in ("boundaries", "refused")),
    *(("back to back", what) for what in ("rotations", "logins", "refused")),
)
_STARTS = (
    ("function", "milliseconds"),
    ("function", "processor_milliseconds"),
    ("imports", "ratio"),
    *(("bundles", cloud, what) for cloud in ("aws", "oci") for what in ("zip_bytes", "unpacked_bytes")),
)


def lines(found: Figures) -> Iterator[str]:
    """All tables."""

    def cell(*path: str) -> str:
        value = figure(found, path)
        if value is None:
            return "-"
        return f"{value:,}" if isinstance(value, int) else str(value)

    counts = [name.replace("_", " ").replace("chain", "in sequence") for name in _COUNTS]
    yield from _table(
        ("rotation", *counts, *(f"wall ms at {ms}" for ms in _LATENCIES), "lock held at 50", "states"),
        [
            (
                name,
                *(cell(*path, key) for key in _COUNTS),
                *(cell(*path, "wall_ms", ms) for ms in _LATENCIES),
                cell(*path, "lock_held_ms", "50"),
                cell(*path, "transitions"),
            )
            for name, path in _RUNNERS.items()
            if figure(found, path)
        ],
    )
    yield from _table(
        ("what is current", *(f"{key}: {what}" for key, what in _LOGINS)),
        [
            (name, *(cell(*path, key, what) for key, what in _LOGINS))
            for name, path in _RUNNERS.items()
            if figure(found, (*path, "boundaries"))
        ],
    )
    columns = [(size, key) for size in STEPS for key in ("chain", "aws_calls", "oci_calls")]
    yield from _table(
        (
            "step",
            *(f"{size} {key.replace('_', ' ').replace('chain', 'in sequence')}" for size, key in columns),
        ),
        [
            (step, *(cell(size, MACHINE, "steps", step, key) for size, key in columns))
            for step in STEPS[SMALL]
        ],
    )
    yield from _table(("start", "figure"), [(" ".join(path), cell("starts", *path)) for path in _STARTS])
    yield from _table(
        ("goal", "figure", "goal", "claimed", ""),
        [
            (g.name, cell(*g.path), f"{g.at_most:g}", f"{g.claimed or '-'}", g.verdict(found))
            for g in goals()
            if figure(found, g.path) is not None
        ],
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    everything = [head, *rows]
    widths = [max(len(row[i]) for row in everything) for i in range(len(head))]
    for number, row in enumerate(everything):
        first, *others = zip(row, widths, strict=True)
        yield "  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]).rstrip()
        if number == 0:
            yield "  ".join("-" * width for width in widths)
    yield ""
