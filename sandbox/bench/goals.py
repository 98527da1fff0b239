"""What a rotation may take: the claims that fail `make bench`, and the goals that do not yet."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.bench.budget import CALLS, LARGE, MACHINE, SMALL, STEPS, SUMS

Path = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A figure that is to be small.

    Attributes:
        name: For people.
        path: Where the figure is, see `figure`.
        at_most: What is aimed at.
        claimed: What has been reached: more than this fails. None: nothing is claimed.
    """

    name: str
    path: Path
    at_most: float
    claimed: float | None = None

    def verdict(self, figures: Mapping[str, Any]) -> str:
        """In a word: `met`, `short`, `FAILS`, or nothing where it was not measured."""
        found = figure(figures, self.path)
        if found is None:
            return ""
        if self.claimed is not None and found > self.claimed:
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
    for size, steps in STEPS.items():
        for step, at_most in steps.items():
            yield Goal(
                name=f"{size}: round trips of {step}, one after the other",
                path=(size, MACHINE, "steps", step, "chain"),
                at_most=at_most,
                claimed=at_most,
            )
    for (size, runner), (at_most, claimed) in SUMS.items():
        yield Goal(
            name=f"{size}: round trips of a rotation by the {runner}, one after the other",
            path=(size, runner, "chain"),
            at_most=at_most,
            claimed=claimed,
        )
    for (size, runner, kind), (at_most, claimed) in CALLS.items():
        yield Goal(
            name=f"{size}: {kind.replace('_', ' ')} of a rotation by the {runner}",
            path=(size, runner, kind),
            at_most=at_most,
            claimed=claimed,
        )
    yield from _others()


def _others() -> Iterator[Goal]:
    transitions = (LARGE, MACHINE, "transitions")
    yield Goal(name="2x2: states entered in a rotation", path=transitions, at_most=10, claimed=10)
    yield Goal(
        name="2x2 over 1x1 at 50 ms, wall of the state machine",
        path=("ratios", "2x2 over 1x1"),
        at_most=1.25,
        claimed=1.25,
    )
    for who, at_most in (("functions", 1.0), ("machine", 1.5)):
        yield Goal(
            name=f"{who} over the peer at 20 ms",
            path=("ratios", f"{who} over the peer", "20"),
            at_most=at_most,
        )
    yield Goal(
        name="1x1: boundaries at which the current value is refused",
        path=(SMALL, "boundaries", "refused"),
        at_most=0,
        claimed=0,
    )
    yield Goal(
        name="1x1: refused logins in rotations back to back",
        path=(SMALL, "back to back", "refused"),
        at_most=0,
        claimed=0,
    )
    yield Goal(
        name="import and first client over a bare botocore client, processor time",
        path=("starts", "imports", "ratio"),
        at_most=1.2,
    )
    yield Goal(
        name="bundle of the OCI function, bytes unpacked",
        path=("starts", "bundles", "oci", "unpacked_bytes"),
        at_most=12_000_000,
    )
    yield Goal(name="start of the OCI function, ms", path=("starts", "function", "milliseconds"), at_most=500)
