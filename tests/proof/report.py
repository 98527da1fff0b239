"""What the parts of `make proof` have found, and what it comes to."""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.proof.catalogue import CATALOGUE, HUNTED, Bug, Model, StandIn
from tests.proof.thirty_days import Month
from tests.proof.work import ROOT, Catch, CommandResult, FaultResult, RaceResult
from tests.tiers import PROOF_TIER

DOCUMENT = ROOT / "docs" / "proof.md"
BEGIN, END = "<!-- planted bugs: begin -->", "<!-- planted bugs: end -->"


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A part that could not be run to its end."""

    traceback: str


class Report:
    """Takes results as they come, and says so."""

    def __init__(self) -> None:
        self._broken = 0
        self._catches: list[Catch] = []
        self._faults: list[FaultResult] = []
        self._races = RaceResult()
        self._month: Month | None = None
        self._commands: dict[str, CommandResult] = {}

    def take(self, name: str, result: object) -> None:
        """Keep a result, and print it."""
        match result:
            case Catch():
                self._catches.append(result)
                verdict = f"{result.invariant} after {result.tries}" if result.invariant else "NOT FOUND"
                say(f"planted  {result.bug}: {verdict}. {result.story}")
            case FaultResult():
                self._faults.append(result)
                _say_faults(result)
            case RaceResult():
                self._races = result
                say(f"races    {result.interleavings} interleavings, {len(result.failures)} violations")
                for text in result.failures:
                    say(f"         {text}")
            case Month():
                self._month = result
                say(f"month    {vars(result)}")
            case CommandResult():
                self._commands[name] = result
                say(f"{name:<11} {json.dumps(result.figures)}{result.output}")
            case Broken():
                self._broken += 1
                say(f"{name:<8} could not be run:\n{result.traceback}")
            case _:
                raise TypeError(name)

    def write_table(self) -> None:
        """Put the table of planted bugs into the document."""
        text = DOCUMENT.read_text()
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        DOCUMENT.write_text(f"{before}{BEGIN}\n{table(self._catches)}{END}{after}")

    def end(self, *, minutes: float, table_only: bool) -> int:
        """Print the figures; the exit status."""
        caught = sum(bool(c.invariant) for c in self._catches)
        holds = caught == len(HUNTED) and not self._broken
        figures: dict[str, Any] = {"planted": len(HUNTED), "caught": caught, "minutes": round(minutes, 1)}
        if not table_only:
            figures = {**self._figures(), **figures}
            holds = holds and figures["violations"] == 0 and self._parts_hold()
        figures["holds"] = holds
        say(json.dumps(figures))
        return 0 if holds else 1

    def _parts_hold(self) -> bool:
        return (
            self._month is not None
            and self._month.holds
            and bool(self._commands)
            and all(c.holds for c in self._commands.values())
        )

    def _figures(self) -> dict[str, Any]:
        tallies = [f.tally for f in self._faults]
        run, planned = sum(t.cases for t in tallies), sum(f.planned for f in self._faults)
        month = self._month
        model, fuzz = (c.figures if (c := self._commands.get(name)) else {} for name in ("model", "fuzz"))
        return {
            "configurations": len(self._faults),
            "boundaries": sum(f.boundaries for f in self._faults),
            "faults_run": run,
            "faults_planned": planned,
            "complete": run == planned,
            "overtaken": sum(t.by_fault.get("OVERTAKEN", 0) for t in tallies),
            "observer_logins": sum(t.logins for t in tallies),
            "interleavings": self._races.interleavings,
            "violations": sum(len(t.failures) for t in tallies) + len(self._races.failures),
            "simulated_days": month.days if month else 0,
            "simulated_rotations": month.outcomes["rotated"] if month else 0,
            "model_states": model.get("states", 0),
            "model_transitions": model.get("transitions", 0),
            "fuzz_inputs": fuzz.get("fuzz_inputs", 0),
            "second_tier": {
                name: c.figures for name in PROOF_TIER if name != "fuzz" and (c := self._commands.get(name))
            },
        }


def _say_faults(result: FaultResult) -> None:
    tally = result.tally
    say(
        f"faults   {result.name}: {result.boundaries} calls, {tally.cases} of {result.planned} cases in "
        f"{tally.seconds:.0f} s, {tally.looks} looks, {tally.logins} logins, {len(tally.failures)} violations; "
        f"runs ended as {tally.outcomes}"
    )
    for failure in tally.failures:
        say(f"         {failure.case}: {failure.violation}\n         {failure.story}")


def table(catches: Iterable[Catch]) -> str:
    """The table of the catalogue, in the order of the code."""
    by_name = {c.bug: c for c in catches}
    rows = [
        "| rule left out | clause | the model | races, faults | after | the shortest story |",
        "|---|---|---|---|---|---|",
    ]
    for name, bug in CATALOGUE.items():
        found = by_name.get(name)
        hunted = _hunted(bug, found) if found else "| |"
        rows.append(f"| **{name}**: {bug.what} | {bug.clause} | {in_the_model(bug)} | {hunted} |")
    return "\n".join(rows) + "\n"


def _hunted(bug: Bug, found: Catch) -> str:
    tries = f"{found.tries} {'faults' if bug.faults else 'schedules'}"
    seed = f" (seed {found.seed})" if found.seed is not None else ""
    return f"{found.invariant or 'not caught'} | {tries} | {found.story}{seed}"


def in_the_model(bug: Bug) -> str:
    """What the model says of a bug."""
    match bug.model:
        case Model(invariant=invariant):
            return invariant
        case StandIn(rule=rule):
            return f"nothing: {rule}"
    return ""


def say(text: str) -> None:
    """Print a line at once, also through a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
