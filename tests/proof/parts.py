"""The parts of `make proof`, each for a process of its own: what they find is a name, whether it holds, and figures."""

import json
import logging
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.proof import races
from tests.proof.catalogue import CATALOGUE
from tests.proof.enumeration import Ran, enumerated, run_all
from tests.proof.invariants import ViolationError
from tests.proof.planting import Bug
from tests.proof.runners import RunnerName
from tests.proof.schedules import schedule_of
from tests.proof.thirty_days import live
from tests.support.programs import ran
from tests.tiers import PROOF_TIER

ROOT = Path(__file__).resolve().parents[2]
HUNT_SCHEDULES = 6000
MOST_FAILURES = 5


@dataclass
class Found:
    """What a part has found.

    Attributes:
        figures: Numbers that add up over the parts.
        more: For the reader: stories, violations, outputs.
    """

    part: str
    holds: bool
    figures: Counter[str] = field(default_factory=Counter)
    more: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return json.dumps({"part": self.part, "holds": self.holds, **self.figures, **self.more})


def name_of(kind: str, runner: RunnerName, hangs: bool) -> str:  # noqa: FBT001 - the third of a configuration
    """The name of the part."""
    return f"faults: {kind}, {runner}{', hangs' * hangs}"


def faults(
    kind: str,
    runner: RunnerName,
    *,
    hangs: bool,
    minutes: float,
    until: float = math.inf,
    file: Path | None = None,
) -> Found:
    """Faults at calls of one runner on one kind of credential, changes first, until the time is over or all have run.

    Args:
        kind: Of credential.
        runner: Whose run is disturbed.
        hangs: Calls that hang; otherwise all other faults.
        minutes: For all, from now on.
        until: Not longer, in seconds since the epoch.
        file: Gets each case as a line of JSON; what it has already is not run again.
    """
    be_quiet()
    name, until = name_of(kind, runner, hangs), min(until, time.time() + minutes * 60)
    done = {line["case"] for line in lines_of(file) if line["part"] == name}
    violations, outcomes, figures = list[str](), Counter[str](), Counter[str]()
    try:
        with enumerated(kind, hangs=hangs) as enumeration:
            cases = enumeration.cases(runner, hangs=hangs)
            left = [case for case in cases if str(case) not in done]
            figures["faults_planned"], figures["faults_before"] = len(cases), len(cases) - len(left)
            for ran in run_all(enumeration, left, until=until):
                figures["faults_run"] += 1
                figures["overtaken"] += ran.case.taker_dies_after > 0 or "sleeps" in ran.case.fault
                outcomes[ran.outcome] += 1
                violations += [f"{ran.case}: {ran.violation}; {ran.story}"] * bool(ran.violation)
                if file:
                    _note(file, name, len(cases), ran)
            figures["observer_logins"] = enumeration.observer.logins
    except ViolationError as violation:
        violations.append(f"{violation}, in what the runs have left")
    figures["violations"] = len(violations)
    return Found(name, not violations, figures, {"outcomes": outcomes, "violated": violations})


def _note(file: Path, part: str, planned: int, ran: Ran) -> None:
    line = {"part": part, "planned": planned, "case": str(ran.case), "struck": ran.struck}
    line |= {"outcome": ran.outcome, "violation": ran.violation}
    with file.open("a") as lines:
        lines.write(json.dumps(line | ({"story": ran.story} if ran.violation else {})) + "\n")


def lines_of(file: Path | None) -> list[dict[str, str]]:
    """The lines of a file of cases."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file and file.exists() else []


def race(*, first_seed: int, minutes: float) -> Found:
    """Races of correct code, one seed after the other, until the time is over."""
    until, played, failures = time.monotonic() + minutes * 60, 0, list[str]()
    while time.monotonic() < until and len(failures) < MOST_FAILURES:
        found = races.play(schedule_of(first_seed + played))
        played += 1
        failures += [str(races.shrunk(found))] if found else []
    figures = Counter(interleavings=played, violations=len(failures))
    return Found("races", not failures, figures, {"violated": failures})


def planted(name: str) -> Found:
    """Hunt one planted bug, by races or by faults on the wire."""
    be_quiet()
    bug = CATALOGUE[name]
    invariant, story, tries = hunt_on_the_wire(bug) if bug.faults else _hunt_by_races(bug)
    figures = Counter(planted=1, caught=int(bool(invariant)))
    more = {"what": bug.what, "invariant": invariant, "story": story, "tries": tries}
    return Found(f"planted: {name}", bool(invariant), figures, more)


def _hunt_by_races(bug: Bug) -> tuple[str, str, int]:
    found, tries = races.hunt(bug, schedules=HUNT_SCHEDULES)
    short = found and races.shrunk(found, bug.plant, tries=150)
    return (short.invariant, str(short), tries) if short else ("", "", tries)


def hunt_on_the_wire(bug: Bug) -> tuple[str, str, int]:
    """Look for a planted bug by faults at calls of a database; the invariant, the story, and how many cases it took.

    The invariant is empty where nothing was found.
    """
    assert bug.faults
    tries = 0
    with enumerated(bug.faults.kind) as enumeration:
        for case in enumeration.cases("oci", seed=0, at="ALTER"):
            tries += 1
            with bug.plant():
                ran = enumeration.run(case)
            invariant = ran.violation.partition(":")[0]
            if invariant:
                return (
                    invariant if invariant in bug.faults.caught_as else "",
                    f"{case}: {ran.violation}",
                    tries,
                )
    return "", "", tries


def month(days: int) -> Found:
    """A life."""
    lived = live(days, seed=1)
    figures = Counter(simulated_days=lived.days, simulated_rotations=lived.outcomes["rotated"])
    return Found("a life", lived.holds, figures, vars(lived))


def model(bound: str) -> Found:
    """The explicit-state model."""
    return _command("model", ["-m", "tests.proof.model", "--bound", bound], prefix="model_")


def fuzz(*, at_length: bool) -> Found:
    """The fuzzing of everything that is parsed: as in `make test`, or with twenty times the inputs, and new ones."""
    command = ["-m", "pytest", "--quiet", "-p", "no:cacheprovider", "tests/fuzz"]
    return _command("fuzz", command, HYPOTHESIS_PROFILE="proof" if at_length else "")


def second_tier(part: str, *, minutes: float) -> Found:
    """The tests that `make test` leaves out, one after the other; after the time no further one begins."""
    pytest = ["-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-m", "proof"]
    bounded = ["-p", "tests.proof.bounded", "--bound-minutes", str(minutes)]
    return _command(f"second tier: {part}", [*pytest, *bounded, *PROOF_TIER[part]])


def _command(part: str, arguments: Sequence[str], *, prefix: str = "", **environment: str) -> Found:
    """Another command of the proof, whose figures are the last line of JSON that it prints."""
    done = ran([sys.executable, *arguments], cwd=ROOT, env={**os.environ, **environment}, timeout=None)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    holds = done.returncode == 0 and bool(lines)
    said = json.loads(lines[-1]) if lines else {}
    figures = Counter({f"{prefix}{name}": value for name, value in said.items() if isinstance(value, int)})
    return Found(part, holds, figures, {} if holds else {"output": done.stdout + done.stderr})


def be_quiet() -> None:
    """Take away the handler that fdk gives the root logger."""
    root = logging.getLogger()
    for handler in root.handlers:
        root.removeHandler(handler)
    root.addHandler(logging.NullHandler())
