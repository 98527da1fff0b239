"""The budget of a rotation, in sequential round trips: the one place that says what each step may take.

A round trip is sequential if it does not wait at the same time as another one. The tests and `make bench` fail where a
step takes more. To lower a figure here is to promise that it stays.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

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
