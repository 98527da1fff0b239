"""An exhaustive check of the protocol on a small model: `python -m tests.proof.model [--bound quick|full|deep]`.

The model runs the shipped code: the four steps, the sequence that calls them, the decisions, the stagers of the
database drivers. Only the world around it is a model. How to read it:

    model_world       the lock record, two stores, two databases as plain values, and what each call does to them
    model_ports       the ports over which a shipped step runs: they answer what was answered before, and stop it there
    model_process     a process: where in the sequence a run is, and what its step was answered so far
    model_checker     every order in which runs, faults and people can act, breadth first
    model_invariants  what must hold
    model_bounds      how much may happen, and what is known not to hold
    catalogue         the rules of the protocol, each left out once, and what must be found then

A state is the world and the processes. A step of the exploration is one call of one process: the world changes, the
process gets the answer, and the shipped step runs again from its start until it makes the next call.

Each exploration is a line of JSON, and so are the figures at the end. The command ends non-zero if it finds anything
that was not expected, or does not find what was.
"""

import argparse
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

from tests.proof.catalogue import CATALOGUE
from tests.proof.model_bounds import BOUNDS, KNOWN, Bound
from tests.proof.model_checker import Checker, Result
from tests.proof.planting import Bug, Model, Plant


def explore(bound: Bound, plant: Plant = nullcontext) -> Result:
    """Every state within a bound; of the protocol without one of its rules if a bug is planted."""
    with plant():
        return Checker(bound.engines, bound.budget, waives=bound.waives).explore()


def left_out(*, quick: bool) -> list[tuple[Bug, Model]]:
    """The rules that the model leaves out; with `quick` those that take few states."""
    return [(b, b.model) for b in CATALOGUE.values() if b.model and not (quick and b.model.is_slow)]


def _explorations(name: str) -> Iterator[tuple[str, Bound, Plant, str | None]]:
    """What is explored: what for, within which bound, with which bug, and the invariant that breaks."""
    for bound in BOUNDS[name]:
        yield "the protocol as it is", bound, nullcontext, None
    for what, (invariant, bound) in KNOWN.items() if name != "quick" else ():
        yield what, bound, nullcontext, invariant
    for bug, within in left_out(quick=name == "quick"):
        yield bug.name, within.bound, bug.plant, within.invariant


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.model")
    parser.add_argument("--bound", choices=BOUNDS, default="quick", help="how much may happen")
    parser.add_argument(
        "--story", metavar="TEXT", help="how the first bug or weakness of that name breaks what"
    )
    chosen = parser.parse_args(arguments)
    began, total = time.perf_counter(), Counter(states=0, transitions=0, planted=0, unexpected=0)
    for what, bound, plant, expected in _explorations("deep" if chosen.story else chosen.bound):
        if chosen.story and (chosen.story not in what or not expected):
            continue
        result = explore(bound, plant)
        found = result.violation.invariant if result.violation else None
        counted = {"states": result.states, "transitions": result.transitions}
        line: dict[str, object] = {"what": what, "within": str(bound), **counted}
        if found != expected or chosen.story:
            line |= {"expected": expected, "violation": str(result.violation), "story": result.story}
        _say(line | {"found": found, "steps": len(result.story)})
        if chosen.story:
            return 0
        total.update(unexpected=found != expected, planted=what in CATALOGUE and expected is not None)
        if plant is nullcontext and expected is None:
            total.update(counted)
    seconds, peak = round(time.perf_counter() - began, 1), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _say(
        {"proof": "model", "bound": chosen.bound, **total, "seconds": seconds, "peak_memory_mb": peak // 1024}
    )
    return 1 if total["unexpected"] or chosen.story else 0


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
