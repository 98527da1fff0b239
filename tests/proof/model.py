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

The command ends non-zero if it finds anything that was not expected, or does not find what was. It prints its figures
as one line of JSON at the end.
"""

import argparse
import json
import resource
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

from tests.proof.catalogue import CATALOGUE, Bug, Model, StandIn
from tests.proof.model_bounds import BOUNDS, KNOWN, Bound, Budget
from tests.proof.model_checker import Checker, Result


def check(bound: Bound) -> Result:
    """Explore the protocol as it is."""
    return Checker(bound.engines, bound.budget, waives=bound.waives).explore()


def check_bug(bug: Bug, within: Model | StandIn) -> Result:
    """Explore the protocol without one of its rules."""
    with bug.plant():
        waives = within.waives if isinstance(within, Model) else frozenset()
        return Checker(within.engines, within.budget, waives=waives).explore()


def expected(within: Model | StandIn) -> str | None:
    """The invariant that breaks without the rule; None where another rule gives the same protection."""
    return within.invariant if isinstance(within, Model) else None


def left_out(*, quick: bool) -> list[tuple[Bug, Model | StandIn]]:
    """The rules that the model leaves out; with `quick` those that take few states."""
    found = [(bug, bug.model) for bug in CATALOGUE.values() if bug.model]
    return [(b, m) for b, m in found if not (quick and (isinstance(m, StandIn) or m.is_slow))]


def spoken(budget: Budget) -> str:
    """What a budget has beyond its defaults."""
    chosen = {k: v for k, v in asdict(budget).items() if k == "terms" or v != getattr(Budget(), k)}
    return ", ".join(k if v is True else f"{v} {k}" for k, v in chosen.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.proof.model", description=__doc__.partition(":")[0] + "."
    )
    parser.add_argument(
        "--bound", choices=BOUNDS, default="quick", help="how much may happen (default: quick)"
    )
    parser.add_argument("--no-bugs", action="store_true", help="only the protocol as it is")
    parser.add_argument(
        "--story", metavar="TEXT", help="print how the first rule or known weakness of that name breaks"
    )
    chosen = parser.parse_args(arguments)
    if chosen.story:
        return _tell(chosen.story)
    started = time.perf_counter()
    is_quick = chosen.bound == "quick"
    table = _Table()
    table.head("the protocol as it is", "within")
    for bound in BOUNDS[chosen.bound]:
        waived = f", {' '.join(sorted(bound.waives))} apart" if bound.waives else ""
        table.row("+".join(bound.engines) + waived, bound.budget, partial(check, bound), expected=None)
    explored = table.states, table.transitions
    if not is_quick:
        table.head("what it is known not to keep", "within")
        for known in KNOWN:
            table.row(known.what, known.bound.budget, partial(check, known.bound), expected=known.invariant)
    planted = [] if chosen.no_bugs else left_out(quick=is_quick)
    if planted:
        table.head("a rule left out", "within")
    for bug, within in planted:
        why = f"instead: {within.rule}" if isinstance(within, StandIn) else ""
        table.row(
            bug.name, within.budget, partial(check_bug, bug, within), expected=expected(within), why=why
        )
    figures = {
        "proof": "model",
        "bound": chosen.bound,
        "states": explored[0],
        "transitions": explored[1],
        "planted": sum(isinstance(within, Model) for _, within in planted),
        "unexpected": table.unexpected,
        "seconds": round(time.perf_counter() - started, 1),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "ok": table.unexpected == 0,
    }
    _say(json.dumps(figures))
    return 0 if figures["ok"] else 1


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class _Table:
    """Prints explorations as they end."""

    def __init__(self) -> None:
        self.states = self.transitions = self.unexpected = 0

    def head(self, title: str, within: str) -> None:
        _say(f"\n{title:<46} {within:<36}{'states':>11}{'transitions':>13}{'seconds':>9}  found")

    def row(
        self, name: str, budget: Budget, explore: Callable[[], Result], *, expected: str | None, why: str = ""
    ) -> None:
        started = time.perf_counter()
        result = explore()
        seconds = time.perf_counter() - started
        self.states += result.states
        self.transitions += result.transitions
        found = result.violation.invariant if result.violation else None
        verdict = f"{found} in {len(result.story)} steps" if found else f"nothing{': ' if why else ''}{why}"
        if found != expected:
            verdict += f", not {expected or 'nothing'} as expected"
        for i, line in enumerate(textwrap.wrap(name, 45)):
            figures = (
                f"{spoken(budget):<36}{result.states:>11,}{result.transitions:>13,}{seconds:>9.1f}  {verdict}"
            )
            _say(f"{line:<46} {'' if i else figures}".rstrip())
        if found != expected:
            self.unexpected += 1
            _tell_story(result)


def _tell(name: str) -> int:
    for bug, within in left_out(quick=False):
        if name in bug.name:
            _tell_story(check_bug(bug, within))
            return 0
    for known in KNOWN:
        if name in known.what:
            _tell_story(check(known.bound))
            return 0
    _say("\n  ".join(["one of:", *(bug.name for bug, _ in left_out(quick=False)), *(k.what for k in KNOWN)]))
    return 2


def _tell_story(result: Result) -> None:
    if result.violation is None:
        return
    for i, line in enumerate(result.story, 1):
        _say(f"  {i:3}  {line}")
    _say(f"  {result.violation.invariant} is broken: {result.violation.what}")


if __name__ == "__main__":
    sys.exit(main())
