"""`make proof`: faults at every call, races, planted bugs, a life, the model, fuzzing and the tests of the second tier.

It takes about as many minutes as given. Each part runs in a process of its own, several at a time, and is a line of
JSON when it ends; the last line has all figures. Ends with status 1 if any claim does not hold: an invariant was
broken, a planted bug was not found, a part broke off.

    python -m tests.proof.run --minutes 30
    python -m tests.proof.run --seed 103395                           one race, cut down if it fails
    python -m tests.proof.run --planted                               only the planted bugs, with their stories
    python -m tests.proof.run --all-faults FILE.jsonl --minutes 60    all faults on the wire, in as many sittings as it
                                                                      takes: each case is a line of the file, and the
                                                                      next sitting goes on where the file ends
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tests.proof import parts, races
from tests.proof.catalogue import CATALOGUE
from tests.proof.estate import KINDS
from tests.proof.parts import Found
from tests.proof.runners import RUNNERS
from tests.proof.scenarios import SCENARIOS
from tests.proof.schedules import schedule_of
from tests.tiers import PROOF_TIER

# Parts of the given time. The rest is for the planted bugs, the month, the model and fuzzing, which have no limit.
FAULT_PART, RACE_PART, TIER_PART = 0.48, 0.08, 0.2
TIER_SHARES = {"deployments": 4.0, "pages": 2.0, "repeats": 3.0, "languages": 2.0}
"""Parts of the time for the tests of the second tier, but for fuzzing."""
SHARES = {("aws", False): 6.0, ("oci", False): 4.0, ("aws", True): 0.6, ("oci", True): 0.6}
"""Parts of the time for faults, by runner and by whether they are hangs, which are few and slow."""
CONFIGURATIONS = [(kind, runner, hangs) for hangs in (False, True) for kind in KINDS for runner in RUNNERS]
LONG_MINUTES = 20
"""With this many minutes or more the model explores its full bounds, and fuzzing takes longer."""
LONGEST_SITTING_SECONDS = 600


class _Tasks:
    """Calls in processes of their own, a few at a time."""

    def __init__(self, jobs: int) -> None:
        # moto keeps its state in the process, so no process does two things.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1)
        self._names: dict[Future[Found], str] = {}

    def add(self, part: Callable[..., Found], *args: Any, **more: Any) -> None:  # noqa: ANN401 - the part's
        self._names[self._pool.submit(part, *args, **more)] = part.__name__

    def results(self) -> Iterator[Found]:
        """What each has found, at once, also on standard output."""
        for done in as_completed(self._names):
            error = done.exception()
            broken = {"traceback": "".join(traceback.format_exception(error))}
            found = Found(self._names[done], holds=False, more=dict(broken)) if error else done.result()
            _say(str(found))
            yield found
        # Not before the last result: a pool whose processes do one thing each must be told when there is no more.
        self._pool.shutdown()


def main() -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(prog="make proof", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="for all parts together")
    parser.add_argument("--jobs", type=int, default=max(1, min(2, os.cpu_count() or 1)))
    parser.add_argument("--seed", type=int, help="replay one race")
    parser.add_argument(
        "--bug", choices=[b.name for b in CATALOGUE.values() if b.races], help="planted in it"
    )
    parser.add_argument("--first-seed", type=int, default=1_000_000, help="of the races")
    parser.add_argument("--planted", action="store_true", help="only the planted bugs")
    parser.add_argument(
        "--all-faults", type=Path, metavar="FILE", help="all faults, from where the file ends"
    )
    asked = parser.parse_args()
    if asked.seed is not None:
        return _replay(asked.seed, asked.bug)
    if asked.all_faults:
        return _all_faults(asked.all_faults, asked.minutes, asked.jobs)
    began, tasks = time.monotonic(), _Tasks(asked.jobs)
    for name, bug in CATALOGUE.items():
        if bug.races or bug.faults:
            tasks.add(parts.planted, name)
    if not asked.planted:
        _add_parts(tasks, asked.minutes, asked.jobs, asked.first_seed)
    figures, holds = Counter[str](), True
    for found in tasks.results():
        figures.update(found.figures)
        holds = holds and found.holds
    complete = figures["faults_run"] == figures["faults_planned"]
    minutes = round((time.monotonic() - began) / 60, 1)
    _say(json.dumps({**figures, "complete": complete, "minutes": minutes, "holds": holds}))
    return 0 if holds else 1


def _replay(seed: int, name: str | None) -> int:
    bug = CATALOGUE[name] if name else None
    plant, scenarios = (
        bug.plant if bug else nullcontext,
        bug.races.scenarios if bug and bug.races else SCENARIOS,
    )
    schedule = schedule_of(seed, scenarios=tuple(scenarios))
    found = races.play(schedule, plant)
    _say(str(found or f"every invariant holds: {schedule}"))
    if found:
        _say(f"the shortest that shows it: {races.shrunk(found, plant)}")
    return 1 if found else 0


def _add_parts(tasks: _Tasks, minutes: float, jobs: int, first_seed: int) -> None:
    total, is_long = minutes * jobs, minutes >= LONG_MINUTES
    tasks.add(parts.model, "full" if is_long else "quick")
    tasks.add(parts.fuzz, at_length=is_long)
    tasks.add(parts.race, first_seed=first_seed, minutes=total * RACE_PART)
    for name, share in TIER_SHARES.items():
        tasks.add(parts.second_tier, name, minutes=total * TIER_PART * share / sum(TIER_SHARES.values()))
    tasks.add(parts.month, max(2, min(30, int(minutes))))
    for kind, runner, hangs in CONFIGURATIONS:
        part = SHARES[runner, hangs] / (sum(SHARES.values()) * len(KINDS))
        tasks.add(parts.faults, kind, runner, hangs=hangs, minutes=total * FAULT_PART * part)


def _all_faults(file: Path, minutes: float, jobs: int) -> int:
    """Sittings of each configuration in turn, until the time is over or all have run."""
    until, left, holds = time.time() + minutes * 60, list(CONFIGURATIONS), True
    while left and time.time() < until:
        share = max(60.0, min(LONGEST_SITTING_SECONDS, (until - time.time()) * jobs / len(left)))
        tasks = _Tasks(jobs)
        for kind, runner, hangs in left:
            tasks.add(parts.faults, kind, runner, hangs=hangs, minutes=share / 60, until=until, file=file)
        found = {one.part: one for one in tasks.results()}
        holds = holds and all(one.holds for one in found.values())
        left = [one for one in left if _is_incomplete(found.get(parts.name_of(*one)))]
    lines = parts.lines_of(file)
    planned = {line["part"]: line["planned"] for line in lines}
    violated = [line for line in lines if line["violation"]]
    figures = {
        "done": len({line["case"] for line in lines}),
        "planned": sum(map(int, planned.values())),
        "configurations": f"{len(planned)} of {len(CONFIGURATIONS)}",
        "outcomes": Counter(line["outcome"] for line in lines),
        "violations": violated,
    }
    _say(json.dumps(figures))
    return 0 if holds and not violated else 1


def _is_incomplete(found: Found | None) -> bool:
    of = found.figures if found else Counter[str]()
    return not found or of["faults_before"] + of["faults_run"] < of["faults_planned"]


def _say(line: str) -> None:
    """Print it at once, also through a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


assert {*TIER_SHARES, "fuzz", "emulators"} == set(PROOF_TIER)

if __name__ == "__main__":
    sys.exit(main())
