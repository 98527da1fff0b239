"""`make proof`: faults at every call, races, lives, planted bugs, the model, fuzzing and the tests of the second tier.

It takes about as many minutes as given. Each part runs in a process of its own, several at a time, and is a line of
JSON when it ends; the last line has all figures. Ends with status 1 if any claim does not hold: an invariant was
broken, a planted bug was not found, a part broke off.

    python -m tests.proof.run --minutes 30
    python -m tests.proof.run --seed 103395                           one race
    python -m tests.proof.run --life 1 --days 30                      one life, its figures
    python -m tests.proof.run --planted                               only the planted bugs, with their stories
"""

import argparse
import json
import logging
import multiprocessing
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.proof import lives, races
from tests.proof.catalogue import CATALOGUE
from tests.proof.enumeration import enumerated, hunt
from tests.proof.estate import KINDS
from tests.proof.invariants import ViolationError
from tests.proof.runners import RUNNERS, RunnerName
from tests.proof.scenarios import SCENARIOS
from tests.support.programs import ran
from tests.tiers import PROOF_TIER

ROOT = Path(__file__).resolve().parents[2]
PYTEST = ("pytest", "--quiet", "-p", "no:cacheprovider")
HUNT_SCHEDULES = 6000
MOST_FAILURES = 5
FIRST_SEED = 1_000_000
# Parts of the given time. The rest is for the planted bugs, the model and fuzzing, which have no limit.
FAULT_PART, RACE_PART, LIFE_PART, TIER_PART = 0.45, 0.08, 0.03, 0.2
MONTH_DAYS = 30
TIER_SHARES = {"deployments": 4.0, "pages": 2.0, "repeats": 3.0, "languages": 2.0}
"""Parts of the time for the tests of the second tier, but for fuzzing."""
SHARES = {("aws", False): 6.0, ("oci", False): 4.0, ("aws", True): 0.6, ("oci", True): 0.6}
"""Parts of the time for faults, by runner and by whether they are hangs, which are few and slow."""
CONFIGURATIONS = [(kind, runner, hangs) for hangs in (False, True) for kind in KINDS for runner in RUNNERS]
LONG_MINUTES = 20
"""With this many minutes or more the model explores its full bounds, and fuzzing takes longer."""


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


def faults(kind: str, runner: RunnerName, *, hangs: bool, minutes: float) -> Found:
    """Faults at calls of one runner on one kind of credential, changes first, until the time is over or all have run.

    After a violation the credential is broken, and every further case would only say so.
    """
    until = time.time() + minutes * 60
    violations, outcomes, figures = list[str](), Counter[str](), Counter[str]()
    try:
        with enumerated(kind, hangs=hangs) as enumeration:
            cases = enumeration.cases(runner, hangs=hangs)
            figures["faults_planned"] = len(cases)
            while cases and not violations and time.time() < until:
                one = enumeration.run(cases.pop(0))
                figures["faults_run"] += 1
                outcomes[one.outcome] += 1
                violations += [f"{one.case}: {one.violation}; {one.story}"] * bool(one.violation)
    except ViolationError as violation:
        violations.append(f"{violation}, in what the runs have left")
    figures["violations"] = len(violations)
    part, more = f"faults: {kind}, {runner}{', hangs' * hangs}", {"outcomes": outcomes}
    return Found(part, not violations, figures, {**more, "violated": violations})


def race(*, minutes: float) -> Found:
    """Races of correct code, one seed after the other, until the time is over."""
    until, played, failures = time.monotonic() + minutes * 60, 0, list[str]()
    while time.monotonic() < until and len(failures) < MOST_FAILURES:
        found = races.play(races.schedule_of(FIRST_SEED + played))
        played += 1
        failures += [str(found)] if found else []
    figures = Counter(interleavings=played, violations=len(failures))
    return Found("races", not failures, figures, {"violated": failures})


def live(*, minutes: float) -> Found:
    """A month, and then days of other seeds until the time is over."""
    until, lived, violated = time.monotonic() + minutes * 60, list[lives.Figures](), list[str]()
    while not lived or (time.monotonic() < until and len(violated) < MOST_FAILURES):
        lived.append(lives.live(FIRST_SEED + len(lived), days=1 if lived else MONTH_DAYS))
        violated += lived[-1].violations
    figures, refused = Counter(lives=len(lived), violations=len(violated)), Counter[str]()
    for life in lived:
        figures["rotations"] += life.outcomes["rotated"]
        refused[life.engine] += life.refused
    more: dict[str, object] = {"violated": violated, "refused": refused, "month": vars(lived[0])}
    return Found("lives", not violated, figures, more)


def planted(name: str) -> Found:
    """Hunt one planted bug, by races or by faults on the wire."""
    bug = CATALOGUE[name]
    if bug.faults:
        story, tries = hunt(bug)
    else:
        failure, tries = races.hunt(bug, schedules=HUNT_SCHEDULES)
        story = str(failure or "")
    figures = Counter(planted=1, caught=int(bool(story)))
    more = {"what": bug.what, "story": story, "tries": tries}
    return Found(f"planted: {name}", bool(story), figures, more)


def command(part: str, arguments: Sequence[str], *, prefix: str = "", **environment: str) -> Found:
    """Another command of the proof, whose figures are the last line of JSON that it prints, if any."""
    done = ran([sys.executable, "-m", *arguments], cwd=ROOT, env={**os.environ, **environment}, timeout=None)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    holds, said = done.returncode == 0, json.loads(lines[-1]) if lines else {}
    figures = Counter({f"{prefix}{name}": value for name, value in said.items() if isinstance(value, int)})
    return Found(part, holds, figures, {} if holds else {"output": done.stdout + done.stderr})


def be_quiet() -> None:
    """Take away the handler that fdk gives the root logger."""
    logging.getLogger().handlers = [logging.NullHandler()]


def results(parts: Sequence[Callable[[], Found]], jobs: int) -> Iterator[Found]:
    """What each part has found, at once, also on standard output."""
    # moto keeps its state in the process, so no process does two things.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=be_quiet, max_tasks_per_child=1) as pool:
        asked = {pool.submit(part): part for part in parts}
        for done in as_completed(asked):
            error = done.exception()
            broken = {"traceback": "".join(traceback.format_exception(error))}
            found = Found(str(asked[done]), holds=False, more=dict(broken)) if error else done.result()
            _say(str(found))
            yield found


def main() -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(prog="make proof", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="for all parts together")
    parser.add_argument("--jobs", type=int, default=max(1, min(2, os.cpu_count() or 1)))
    parser.add_argument("--seed", type=int, help="replay one race")
    parser.add_argument("--life", type=int, metavar="SEED", help="live one life")
    parser.add_argument("--days", type=float, default=1.0, help="of the life")
    parser.add_argument(
        "--bug", choices=[b.name for b in CATALOGUE.values() if b.races], help="planted in it"
    )
    parser.add_argument("--planted", action="store_true", help="only the planted bugs")
    asked = parser.parse_args()
    if asked.seed is not None:
        return _replay(asked.seed, asked.bug)
    if asked.life is not None:
        life = lives.live(asked.life, days=asked.days)
        _say(json.dumps(vars(life)))
        return 1 if life.violations else 0
    began, figures, holds = time.monotonic(), Counter[str](), True
    parts = [partial(planted, name) for name, bug in CATALOGUE.items() if bug.races or bug.faults]
    if not asked.planted:
        parts += _parts(asked.minutes, asked.jobs)
    for found in results(parts, asked.jobs):
        figures.update(found.figures)
        holds = holds and found.holds
    complete = figures["faults_run"] == figures["faults_planned"]
    minutes = round((time.monotonic() - began) / 60, 1)
    _say(json.dumps({**figures, "complete": complete, "minutes": minutes, "holds": holds}))
    return 0 if holds else 1


def _replay(seed: int, name: str | None) -> int:
    bug = CATALOGUE[name] if name else None
    plant = bug.plant if bug else nullcontext
    scenarios = bug.races.scenarios if bug and bug.races else SCENARIOS
    schedule = races.schedule_of(seed, scenarios=tuple(scenarios))
    found = races.play(schedule, plant)
    _say(str(found or f"every invariant holds: {schedule}"))
    return 1 if found else 0


def _parts(minutes: float, jobs: int) -> Iterator[partial[Found]]:
    """All but the planted bugs: with more time the model and the fuzzing go further.

    Of the tests that `make test` leaves out no further one begins after their time.
    """
    total, is_long = minutes * jobs, minutes >= LONG_MINUTES
    bound, profile = ("full", "proof") if is_long else ("quick", "")
    yield partial(command, "model", ["tests.proof.model", "--bound", bound], prefix="model_")
    yield partial(command, "fuzz", [*PYTEST, "tests/fuzz"], HYPOTHESIS_PROFILE=profile)
    yield partial(race, minutes=total * RACE_PART)
    yield partial(live, minutes=total * LIFE_PART)
    for name, share in TIER_SHARES.items():
        bounded = str(total * TIER_PART * share / sum(TIER_SHARES.values()))
        plugin = ["-m", "proof", "-p", "tests.proof.bounded", "--bound-minutes", bounded]
        yield partial(command, f"second tier: {name}", [*PYTEST, *plugin, *PROOF_TIER[name]])
    for kind, runner, hangs in CONFIGURATIONS:
        part = SHARES[runner, hangs] / (sum(SHARES.values()) * len(KINDS))
        yield partial(faults, kind, runner, hangs=hangs, minutes=total * FAULT_PART * part)


def _say(line: str) -> None:
    """Print it at once, also through a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


assert {*TIER_SHARES, "fuzz", "emulators"} == set(PROOF_TIER)

if __name__ == "__main__":
    sys.exit(main())
