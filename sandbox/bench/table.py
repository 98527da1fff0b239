"""The figures as tables for people; with figures from before, each cell shows both."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sandbox.bench.budget import FUNCTION, LARGE, MACHINE, SMALL, STEPS
from sandbox.bench.goals import Path, figure, goals
from sandbox.bench.measure import PEER
from sandbox.bench.rounds import LATENCIES_MS

Figures = Mapping[str, Any]
RUNNERS: Mapping[str, Path] = {
    "1x1 state machine": (SMALL, MACHINE),
    "2x2 state machine": (LARGE, MACHINE),
    "2x2 OCI function": (LARGE, FUNCTION),
    "1x1 peer": (PEER,),
}
_LATENCIES = tuple(str(latency) for latency in LATENCIES_MS)


class Tables:
    """Lines of tables.

    Args:
        now: The figures.
        before: Earlier ones, to compare with.
    """

    def __init__(self, now: Figures, before: Figures | None) -> None:
        self._now = now
        self._before = before

    def lines(self) -> Iterator[str]:
        """All tables."""
        yield from self._rotations()
        yield from self._steps()
        if PEER in self._now:
            yield from self._beside_the_peer()
        yield from self._starts()
        yield from self._goals()

    def _rotations(self) -> Iterator[str]:
        head = (
            *("rotation", "in sequence", "slope of wall", "of functions", "calls", "AWS", "OCI"),
            *(f"{cloud} in sequence" for cloud in ("AWS", "OCI")),
            *(f"wall ms at {ms}" for ms in _LATENCIES),
            *("lock held at 50", "states"),
        )
        rows = [
            (
                name,
                *(self._cell(*path, key) for key in ("chain", "wall_round_trips", "functions_round_trips")),
                *(self._cell(*path, key) for key in ("calls", "aws_calls", "oci_calls")),
                *(self._cell(*path, key) for key in ("aws_chain", "oci_chain")),
                *(self._cell(*path, "wall_ms", ms) for ms in _LATENCIES),
                self._cell(*path, "lock_held_ms", "50"),
                self._cell(*path, "transitions"),
            )
            for name, path in RUNNERS.items()
            if figure(self._now, path)
        ]
        yield from _table(head, rows)

    def _steps(self) -> Iterator[str]:
        head = (
            "step",
            *(f"{size} {what}" for size in STEPS for what in ("in sequence", "slope", "AWS", "OCI")),
        )
        rows = [
            (
                step,
                *(
                    self._cell(size, MACHINE, "steps", step, key)
                    for size in STEPS
                    for key in ("chain", "own_round_trips", "aws_calls", "oci_calls")
                ),
            )
            for step in STEPS[SMALL]
        ]
        yield from _table(head, rows)

    def _beside_the_peer(self) -> Iterator[str]:
        lockstep, peer = (SMALL, MACHINE), (PEER,)
        rows = [
            ("calls", self._cell(*lockstep, "calls"), self._cell(*peer, "calls")),
            ("round trips in sequence", self._cell(*lockstep, "chain"), self._cell(*peer, "chain")),
            (
                "the same, slope of functions' time",
                self._cell(*lockstep, "functions_round_trips"),
                self._cell(*peer, "functions_round_trips"),
            ),
            (
                "connections to the database",
                self._cell(SMALL, "connections"),
                self._cell(PEER, "connections"),
            ),
            *(
                (
                    f"functions' ms at {ms}",
                    self._cell(*lockstep, "functions_ms", ms),
                    self._cell(*peer, "functions_ms", ms),
                )
                for ms in _LATENCIES
            ),
            *((f"wall ms at {ms}", self._cell(*lockstep, "wall_ms", ms), "-") for ms in _LATENCIES),
            *(
                (f"{key}: {what}", self._cell(SMALL, key, what), self._cell(PEER, key, what))
                for key, whats in (
                    ("boundaries", ("boundaries", "refused")),
                    ("back to back", ("rotations", "logins", "refused")),
                )
                for what in whats
            ),
            *(
                (f"{who} over the peer at {ms}", self._cell("ratios", f"{who} over the peer", ms), "1")
                for who in ("functions", "machine")
                for ms in _LATENCIES
            ),
        ]
        yield from _table(("1x1, side by side", "Lockstep", "AWS's sample function"), rows)

    def _starts(self) -> Iterator[str]:
        paths: list[Path] = [("function", "milliseconds"), ("function", "processor_milliseconds")]
        paths += [("imports", "ratio")]
        paths += [
            ("bundles", runner, what) for runner in ("aws", "oci") for what in ("zip_bytes", "unpacked_bytes")
        ]
        rows = [(" ".join(path), self._cell("starts", *path)) for path in paths]
        yield from _table(("start", "figure"), rows)

    def _goals(self) -> Iterator[str]:
        rows = [
            (g.name, self._cell(*g.path), f"{g.at_most:g}", _claimed(g.claimed), g.verdict(self._now))
            for g in goals()
            if figure(self._now, g.path) is not None
        ]
        yield from _table(("goal", "figure", "goal", "claimed", ""), rows)

    def _cell(self, *path: str) -> str:
        now = _text(figure(self._now, path))
        return f"{_text(figure(self._before, path))} → {now}" if self._before else now


def _claimed(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    everything = [head, *rows]
    widths = [max(len(row[i]) for row in everything) for i in range(len(head))]
    for number, row in enumerate(everything):
        first, *others = zip(row, widths, strict=True)
        yield "  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]).rstrip()
        if number == 0:
            yield "  ".join("-" * width for width in widths)
    yield ""
