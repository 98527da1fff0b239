"""The budget of a rotation, in sequential round trips: the one place that says what each step may take.

A round trip is sequential if it does not wait at the same time as another one. The tests and `make bench` fail where a
step takes more. To lower a figure here is to promise that it stays. The figures as tables for people are here too.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.bench.rounds import LATENCIES_MS

Path = tuple[str, ...]

SMALL = "1x1"
LARGE = "2x2"
MACHINE = "state machine"
FUNCTION = "OCI function"
PEER = "AWS's sample function"

STEPS: Mapping[str, Mapping[str, int]] = {
    SMALL: {
        "AcquireLock": 1,
        "generate": 3,
        "apply_db": 3,
        "update_secrets": 3,
        "audit": 3,
        "ReleaseLock": 1,
    },
    LARGE: {
        "AcquireLock": 1,
        "generate": 4,
        "apply_db": 3,
        "update_secrets": 4,
        "audit": 3,
        "ReleaseLock": 1,
    },
}
"""What each step may take, by size: one database and one store in AWS; two databases, and a second store in OCI with a
ring of four."""

SUMS: Mapping[tuple[str, str], tuple[int, int]] = {
    (SMALL, MACHINE): (14, 14),
    (LARGE, MACHINE): (16, 16),
    (LARGE, FUNCTION): (15, 15),
}
"""Of a whole rotation, by size and runner: what is aimed at, and what it may take."""

CALLS: Mapping[tuple[str, str, str], tuple[int, int]] = {
    (SMALL, MACHINE, "calls"): (22, 22),
    (LARGE, MACHINE, "oci_calls"): (22, 22),
    (LARGE, FUNCTION, "oci_calls"): (24, 27),
}
"""All requests, or those to OCI: what is aimed at, and what a rotation may make."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A figure that is to be small.

    Attributes:
        name: For people.
        path: Where the figure is, see `figure`.
        at_most: What is aimed at.
        claimed: What has been reached: more than this fails.
    """

    name: str
    path: Path
    at_most: float
    claimed: float

    def verdict(self, figures: Mapping[str, Any]) -> str:
        """In a word: `met`, `short`, `FAILS`, or nothing where it was not measured."""
        found = figure(figures, self.path)
        if found is None:
            return ""
        if found > self.claimed:
            return "FAILS"
        return "met" if found <= self.at_most else "short"


def figure(figures: Mapping[str, Any], path: Path) -> Any:  # noqa: ANN401 - JSON
    """The figure at a path of keys; None if it was not measured."""
    found: Any = figures
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def goals() -> Iterator[Goal]:
    """All of them."""
    rows: list[tuple[str, Path, float, float]] = [
        (f"{size}: round trips of {step}, in sequence", (size, MACHINE, "steps", step, "chain"), most, most)
        for size, steps in STEPS.items()
        for step, most in steps.items()
    ]
    rows += [
        (f"{size}: round trips of a rotation by the {runner}, in sequence", (size, runner, "chain"), *most)
        for (size, runner), most in SUMS.items()
    ]
    rows += [
        (f"{size}: {kind.replace('_', ' ')} of a rotation by the {runner}", (size, runner, kind), *most)
        for (size, runner, kind), most in CALLS.items()
    ]
    rows += [
        ("2x2: states entered in a rotation", (LARGE, MACHINE, "transitions"), 10, 10),
        ("2x2 over 1x1 at 50 ms, wall of the state machine", ("2x2 over 1x1",), 1.25, 1.25),
    ]
    for name, path, at_most, claimed in rows:
        yield Goal(name=name, path=path, at_most=at_most, claimed=claimed)


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
