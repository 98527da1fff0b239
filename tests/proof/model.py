"""An exhaustive check of the protocol on a small model: `python -m tests.proof.model [--bound quick|full|deep]`.

The model is read in this order:

    model_world       the lock record, the stores, the databases, and what a call does to them
    model_programs    the steps, one outside call after the other, and the state machine
    model_invariants  what must hold
    model_checker     every order in which runs, faults and people can act
    model_bugs        the rules of the protocol, each left out once
    model_replay      the programs are those of `functions/*/step.py`: call by call

Ends non-zero if the protocol breaks an invariant or a rule that is left out goes unnoticed, and prints figures as one
line of JSON at the end.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import NamedTuple

from tests.proof.model_bugs import BUGS, MARIADB, MIXED, MYSQL, POSTGRESQL, Bug
from tests.proof.model_checker import Budget, Checker, Result
from tests.proof.model_programs import Protocol


class Bound(NamedTuple):
    """What is explored to the end.

    Attributes:
        waives: Invariants that are known to break within this budget; docs/proof.md says how and why.
    """

    engines: tuple[str, str]
    budget: Budget
    waives: frozenset[str] = frozenset()


ENGINES = (MYSQL, MIXED, MARIADB, POSTGRESQL)
QUICK = tuple(Bound(engines, Budget(terms=2)) for engines in (MYSQL, POSTGRESQL))
BOUNDS: dict[str, tuple[Bound, ...]] = {
    "quick": QUICK,
}


def check(bound: Bound) -> Result:
    """Explore the protocol as it is."""
    return Checker(Protocol(bound.engines), bound.budget, waives=bound.waives).explore()


def check_bug(bug: Bug) -> Result:
    """Explore the protocol without one of its rules."""
    return Checker(Protocol(bug.engines, frozenset({bug.name})), bug.budget, waives=bug.waives).explore()


def is_caught(bug: Bug, result: Result) -> bool:
    """Whether the invariant that rests on the rule was seen to fall; nothing may fall where another rule stands in."""
    return (result.violation.invariant if result.violation else None) == bug.invariant


def spoken(budget: Budget) -> str:
    """What a budget has beyond its defaults."""
    chosen = {k: v for k, v in asdict(budget).items() if k == "terms" or v != getattr(Budget(), k)}
    return ", ".join(f"{v} {k}" for k, v in chosen.items())


def _timed(work: Iterator[Result]) -> tuple[Result, float]:
    started = time.perf_counter()
    return next(work), time.perf_counter() - started


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.model", description=__doc__.partition("\n")[0])
    parser.add_argument("--bound", choices=BOUNDS, default="quick", help="how much may happen (default: quick)")
    parser.add_argument("--no-bugs", action="store_true", help="only the protocol as it is")
    parser.add_argument("--story", metavar="BUG", help="tell how a rule that is left out breaks something")
    chosen = parser.parse_args(arguments)
    if chosen.story:
        return _tell(chosen.story)
    states = transitions = caught = failures = 0
    started = time.perf_counter()
    print(f"{'engines':24}{'budget':32}{'states':>12}{'transitions':>13}{'seconds':>9}  verdict")
    for bound in BOUNDS[chosen.bound]:
        result, seconds = _timed(check(b) for b in (bound,))
        states, transitions = states + result.states, transitions + result.transitions
        failures += result.violation is not None
        verdict = "holds" if result.violation is None else f"{result.violation.invariant}: {result.violation.text}"
        waived = f" ({', '.join(sorted(bound.waives))} waived)" if bound.waives else ""
        print(
            f"{'+'.join(bound.engines):24}{spoken(bound.budget):32}{result.states:12,}{result.transitions:13,}"
            f"{seconds:9.1f}  {verdict}{waived}",
            flush=True,
        )
        _print_story(result)
    if not chosen.no_bugs:
        print(f"\n{'rule left out':40}{'budget':32}{'states':>10}{'steps':>6}{'seconds':>9}  found")
        for bug in BUGS:
            result, seconds = _timed(check_bug(b) for b in (bug,))
            is_found = is_caught(bug, result)
            caught, failures = caught + is_found, failures + (not is_found)
            found = result.violation.invariant if result.violation else "nothing: " + bug.why
            print(
                f"{bug.name:40}{spoken(bug.budget):32}{result.states:10,}{len(result.story):6}{seconds:9.1f}  "
                f"{found}{'' if is_found else f' — expected {bug.invariant}'}",
                flush=True,
            )
    figures = {
        "proof": "model",
        "bound": chosen.bound,
        "states": states,
        "transitions": transitions,
        "planted": 0 if chosen.no_bugs else len(BUGS),
        "as_expected": caught,
        "seconds": round(time.perf_counter() - started, 1),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "ok": failures == 0,
    }
    print(json.dumps(figures))
    return 1 if failures else 0


def _tell(name: str) -> int:
    bug = next((b for b in BUGS if b.name == name), None)
    if bug is None:
        print("one of: " + ", ".join(b.name for b in BUGS))
        return 2
    result = check_bug(bug)
    _print_story(result)
    return 0


def _print_story(result: Result) -> None:
    if result.violation is None:
        return
    for i, line in enumerate(result.story, 1):
        print(f"  {i:3}  {line}")
    print(f"  {result.violation.invariant} is broken: {result.violation.text}")


if __name__ == "__main__":
    sys.exit(main())
