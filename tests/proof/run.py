"""`make proof`: faults at every call, races, planted bugs, a life, the model, fuzzing and the tests of the second tier.

It takes about as many minutes as given.

Each part runs in processes of its own, several at a time. Ends with one line of JSON, and with status 1 if any claim
does not hold: an invariant was broken, a planted bug was not found, a part broke off.

    python -m tests.proof.run --minutes 30
    python -m tests.proof.run --seed 103395        replays one race, and cuts it down if it fails
    python -m tests.proof.run --table              hunts the planted bugs and writes their table into docs/proof.md
"""

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from typing import Any

from tests.proof import races, schedules, work
from tests.proof.catalogue import CATALOGUE, HUNTED, Races
from tests.proof.estate import KINDS
from tests.proof.report import Broken, Report, say
from tests.proof.runners import RUNNERS
from tests.proof.scenarios import SCENARIOS
from tests.proof.thirty_days import live
from tests.tiers import PROOF_TIER

ENUMERATED = ("mariadb", "mysql", "alternating")
# Parts of the given time. The rest is for the planted bugs, the month, the model and fuzzing, which have no limit.
FAULT_PART, RACE_PART, TIER_PART = 0.48, 0.08, 0.2
TIER_SHARES = {"deployments": 4.0, "pages": 2.0, "repeats": 3.0, "languages": 2.0}
"""Parts of the time for the tests of the second tier, but for fuzzing."""
SHARES = {("aws", False): 6.0, ("oci", False): 4.0, ("aws", True): 0.6, ("oci", True): 0.6}
"""Parts of the time for faults, by runner and by whether they are hangs, which are few and slow."""
LONG_MINUTES = 20
"""With this many minutes or more the model explores its full bounds, and fuzzing takes longer."""


class _Tasks:
    """Calls in processes of their own, a few at a time."""

    def __init__(self, jobs: int) -> None:
        # moto keeps its state in the process, so no process does two things.
        self._pool = ProcessPoolExecutor(
            jobs, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1
        )
        self._names: dict[Future[Any], str] = {}

    def add(self, name: str, work: Callable[..., Any], *args: object, **more: object) -> None:
        self._names[self._pool.submit(work, *args, **more)] = name

    def results(self) -> Iterable[tuple[str, Any]]:
        for done in as_completed(self._names):
            error = done.exception()
            result = Broken(traceback="".join(traceback.format_exception(error))) if error else done.result()
            yield self._names[done], result
        # Not before the last result: a pool whose processes do one thing each must be told when there is no more.
        self._pool.shutdown()


def main() -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(prog="make proof", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="for all parts together")
    parser.add_argument("--jobs", type=int, default=max(1, min(2, os.cpu_count() or 1)))
    parser.add_argument("--seed", type=int, help="replay one race")
    parser.add_argument(
        "--bug", choices=[b.name for b in CATALOGUE.values() if b.races], help="with this bug planted"
    )
    parser.add_argument("--first-seed", type=int, default=1_000_000, help="of the races")
    parser.add_argument(
        "--table", action="store_true", help="write the table of planted bugs into docs/proof.md"
    )
    asked = parser.parse_args()
    if asked.seed is not None:
        return _replay(asked.seed, asked.bug)
    return _prove(asked.minutes, asked.jobs, asked.first_seed, table=asked.table)


def _replay(seed: int, bug: str | None) -> int:
    asked = (CATALOGUE[bug].races if bug else None) or Races((), tuple(SCENARIOS))
    schedule = schedules.schedule_of(seed, scenarios=asked.scenarios)
    plant = CATALOGUE[bug].plant if bug else nullcontext
    found = races.play(schedule, plant)
    if found is None:
        say(f"seed {seed}: every invariant holds. {schedule.story()}")
        return 0
    short = races.shrunk(found, plant)
    say(f"seed {seed}: {found.invariant}: {found.what}\n{found.schedule.story()}")
    say(f"the shortest that shows it: {short.schedule.story()}\n{short.what}")
    return 1


def _prove(minutes: float, jobs: int, first_seed: int, *, table: bool) -> int:
    began = time.monotonic()
    tasks = _Tasks(jobs)
    for name in HUNTED:
        tasks.add("planted", work.catch, name)
    if not table:
        _add_parts(tasks, minutes, jobs, first_seed)
    report = Report()
    for name, result in tasks.results():
        report.take(name, result)
    if table:
        report.write_table()
    return report.end(minutes=(time.monotonic() - began) / 60, table_only=table)


def _add_parts(tasks: _Tasks, minutes: float, jobs: int, first_seed: int) -> None:
    total, is_long = minutes * jobs, minutes >= LONG_MINUTES
    tasks.add("model", work.model, "full" if is_long else "quick")
    tasks.add("fuzz", work.fuzz, at_length=is_long)
    tasks.add("races", work.race, first_seed=first_seed, minutes=total * RACE_PART)
    for name, tier_share in TIER_SHARES.items():
        limit = total * TIER_PART * tier_share / sum(TIER_SHARES.values())
        tasks.add(name, work.second_tier, name, minutes=limit)
    tasks.add("month", live, max(2, min(30, int(minutes))), seed=1)
    for hangs in (False, True):
        for kind in ENUMERATED:
            for runner in RUNNERS:
                share = SHARES[runner, hangs] / (sum(SHARES.values()) * len(ENUMERATED))
                part = total * FAULT_PART * share
                tasks.add("faults", work.enumerate_faults, kind, runner, hangs=hangs, minutes=part, seed=7)


assert set(ENUMERATED) <= set(KINDS)
assert {*TIER_SHARES, "fuzz", "emulators"} == set(PROOF_TIER)

if __name__ == "__main__":
    sys.exit(main())
