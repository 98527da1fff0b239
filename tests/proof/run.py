"""`make proof`: faults at every call, races, planted bugs and load, for as many minutes as given.

Each part runs in processes of its own, several at a time. Ends with one line of JSON, and with status 1 if any claim
does not hold: an invariant was broken, a planted bug was not found, a login was refused, memory grew.

    python -m tests.proof.run --minutes 30
    python -m tests.proof.run --seed 103395        replays one race, and cuts it down if it fails
    python -m tests.proof.run --table              hunts the planted bugs and writes their table into docs/proof.md
"""

import argparse
import io
import json
import logging
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.proof import races
from tests.proof.enumeration import Case, Enumeration, Failure, Tally
from tests.proof.estate import IMPATIENT, KINDS, PATIENT, estate
from tests.proof.observer import ViolationError
from tests.proof.planted import BUGS, hunt, hunt_on_the_wire
from tests.proof.runners import RUNNERS, RunnerName, Runners
from tests.proof.scenarios import SCENARIOS
from tests.proof.soak import SoakResult, soak
from tests.proof.thirty_days import Month, live
from tests.proof.wire import FaultKind

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "proof.md"
BEGIN, END = "<!-- planted bugs: begin -->", "<!-- planted bugs: end -->"
ENUMERATED = ("mariadb", "mysql", "alternating")
SOAKED = ("mysql", "alternating")
HUNT_SCHEDULES = 6000
# Parts of the time given; the rest is for the planted bugs.
FAULT_PART, RACE_PART, SOAK_PART = 0.55, 0.15, 0.15


@dataclass(kw_only=True)
class FaultResult:
    """One partition of the enumeration: a kind of credential and a runner."""

    name: str
    boundaries: int
    planned: int
    tally: Tally
    leaks_searched: int = 0


@dataclass(kw_only=True)
class RaceResult:
    """Races of correct code."""

    interleavings: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Catch:
    """What became of a planted bug."""

    bug: str
    invariant: str
    story: str
    seed: int | None
    tries: int


def enumerate_faults(kind: str, runner: RunnerName, *, hangs: bool, minutes: float, seed: int) -> FaultResult:
    """Every fault at every call of one runner on one kind of credential, changes first, until the time is over."""
    _be_quiet()
    rng = random.Random(seed)  # noqa: S311 - repeatable
    log = _Log()
    with estate([kind], IMPATIENT if hangs else PATIENT) as world, Runners(world).ready() as runners:
        enumeration = Enumeration(world, runners, kind)
        calls = enumeration.undisturbed(runner)
        cases = enumeration.cases(runner, calls=calls, rng=rng, hangs=hangs)
        name = f"{kind}, {runner}{', hangs' if hangs else ''}"
        result = FaultResult(name=name, boundaries=len(calls), planned=len(cases), tally=Tally())
        until = time.monotonic() + minutes * 60
        for case in cases:
            # After a violation the credential is broken, and every further case would only say so.
            if time.monotonic() > until or result.tally.failures:
                break
            enumeration.run(case, result.tally)
        result.tally.logins = enumeration.observer.logins
        result.tally.looks = enumeration.observer.looks
        texts = {
            "histories and answers": "".join(enumeration.texts),
            "logs": log.text(),
            "lock": enumeration.observer.lock_text(),
        }
        result.leaks_searched = sum(len(t) for t in texts.values())
        try:
            enumeration.observer.leaks(texts)
        except ViolationError as violation:
            result.tally.failures.append(_leak(violation, name))
    return result


def _leak(violation: ViolationError, name: str) -> Failure:
    case = Case(kind=name, runner="aws", fault=FaultKind.FAIL, at=0, recoverer="aws")
    return Failure(case=case, violation=str(violation), story="found in what the runs have left")


def race(*, first_seed: int, minutes: float) -> RaceResult:
    """Races, one seed after the other, until the time is over."""
    until, result = time.monotonic() + minutes * 60, RaceResult()
    while time.monotonic() < until:
        found = races.play(races.schedule_of(first_seed + result.interleavings))
        result.interleavings += 1
        if found:
            short = races.shrunk(found)
            result.failures.append(
                f"seed {found.schedule.seed}: {found.invariant}: {short.what}; {short.schedule.story()}"
            )
            if len(result.failures) >= 5:
                break
    return result


def catch(name: str) -> Catch:
    """Hunt one planted bug."""
    _be_quiet()
    bug = BUGS[name]
    if bug.wire:
        invariant, story, tries = hunt_on_the_wire(bug)
        found_as = invariant if invariant in bug.caught_as else ""
        return Catch(bug=name, invariant=found_as, story=story, seed=None, tries=tries)
    found, tries = hunt(bug, schedules=HUNT_SCHEDULES)
    if found is None:
        return Catch(bug=name, invariant="", story="", seed=None, tries=tries)
    return Catch(
        bug=name,
        invariant=found.invariant,
        story=f"{found.schedule.story()}. Then {found.what}",
        seed=found.schedule.seed,
        tries=tries,
    )


def load(*, minutes: float, seed: int) -> SoakResult:
    """The soak."""
    _be_quiet()
    return soak(SOAKED, minutes=minutes, seed=seed)


class _Log:
    """Everything that Lockstep and the drivers log, at the level at which a careless operator would run them."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        handler = logging.StreamHandler(self._stream)
        for name in ("lockstep", "urllib3", "pg8000", "pymysql", "botocore"):
            logging.getLogger(name).addHandler(handler)

    def text(self) -> str:
        return self._stream.getvalue()


def _be_quiet() -> None:
    """Take away the handler that fdk gives the root logger."""
    root = logging.getLogger()
    for handler in root.handlers:
        root.removeHandler(handler)
    root.addHandler(logging.NullHandler())


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
            yield self._names[done], done.result()
        # Not before the last result: a pool whose processes do one thing each must be told when there is no more.
        self._pool.shutdown()


def main() -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(prog="make proof", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="for all parts together")
    parser.add_argument("--jobs", type=int, default=max(1, min(2, os.cpu_count() or 1)))
    parser.add_argument("--seed", type=int, help="replay one race")
    parser.add_argument(
        "--bug", choices=[b.name for b in BUGS.values() if not b.wire], help="with this bug planted"
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
    scenarios = BUGS[bug].scenarios if bug else tuple(SCENARIOS)
    schedule = races.schedule_of(seed, scenarios=scenarios)
    plant = BUGS[bug].plant if bug else nullcontext
    found = races.play(schedule, plant)
    if found is None:
        _say(f"seed {seed}: every invariant holds. {schedule.story()}")
        return 0
    short = races.shrunk(found, plant)
    _say(f"seed {seed}: {found.invariant}: {found.what}\n{found.schedule.story()}")
    _say(f"the shortest that shows it: {short.schedule.story()}\n{short.what}")
    return 1


def _prove(minutes: float, jobs: int, first_seed: int, *, table: bool) -> int:
    began = time.monotonic()
    tasks = _Tasks(jobs)
    for name in BUGS:
        tasks.add("planted", catch, name)
    if not table:
        total = minutes * jobs
        tasks.add("races", race, first_seed=first_seed, minutes=total * RACE_PART / 2)
        tasks.add("load", load, minutes=total * SOAK_PART / 2, seed=1)
        tasks.add("month", live, max(2, min(30, int(minutes))), seed=1)
        partitions = [
            (kind, runner, hangs) for hangs in (False, True) for kind in ENUMERATED for runner in RUNNERS
        ]
        # Hangs are few and the others many.
        shares = [1.0 if hangs else 4.0 for _, _, hangs in partitions]
        for (kind, runner, hangs), share in zip(partitions, shares, strict=True):
            part = total * FAULT_PART * share / sum(shares)
            tasks.add("faults", enumerate_faults, kind, runner, hangs=hangs, minutes=part, seed=7)
    proof = _Proof()
    for name, result in tasks.results():
        proof.take(name, result)
    if table:
        proof.write_table()
    return proof.report(minutes=(time.monotonic() - began) / 60, table_only=table)


class _Proof:
    """All results, and what they come to."""

    def __init__(self) -> None:
        self._catches: list[Catch] = []
        self._faults: list[FaultResult] = []
        self._races = RaceResult()
        self._soak: SoakResult | None = None
        self._month: Month | None = None

    def take(self, name: str, result: object) -> None:
        match result:
            case Catch():
                self._catches.append(result)
                verdict = f"{result.invariant} after {result.tries}" if result.invariant else "NOT FOUND"
                _say(f"planted  {result.bug}: {verdict}. {result.story}")
            case FaultResult():
                self._faults.append(result)
                tally = result.tally
                _say(
                    f"faults   {result.name}: {result.boundaries} calls, {tally.cases} of {result.planned} cases, "
                    f"{tally.looks} looks, {tally.logins} logins, {len(tally.failures)} violations; "
                    f"runs ended as {tally.outcomes}"
                )
                for failure in tally.failures:
                    _say(f"         {failure.case}: {failure.violation}\n         {failure.story}")
            case RaceResult():
                self._races = result
                _say(f"races    {result.interleavings} interleavings, {len(result.failures)} violations")
                for text in result.failures:
                    _say(f"         {text}")
            case SoakResult():
                self._soak = result
                _say(f"load     {asdict(result)}")
            case Month():
                self._month = result
                _say(f"month    {vars(result)}")
            case _:
                raise TypeError(name)

    def report(self, *, minutes: float, table_only: bool) -> int:
        """Print the figures; the exit status."""
        tallies = [f.tally for f in self._faults]
        violations = sum(len(t.failures) for t in tallies) + len(self._races.failures)
        caught = sum(bool(c.invariant) for c in self._catches)
        holds = violations == 0 and caught == len(BUGS)
        figures: dict[str, Any] = {"planted": len(BUGS), "caught": caught, "minutes": round(minutes, 1)}
        if not table_only:
            run, planned = sum(t.cases for t in tallies), sum(f.planned for f in self._faults)
            load = self._soak or SoakResult()
            figures = {
                "configurations": len(self._faults),
                "boundaries": sum(f.boundaries for f in self._faults),
                "faults_run": run,
                "faults_planned": planned,
                "complete": run == planned,
                "overtaken": sum(t.by_fault.get("OVERTAKEN", 0) for t in tallies),
                "observer_logins": sum(t.logins for t in tallies),
                "interleavings": self._races.interleavings,
                "violations": violations,
                **figures,
                "rotations_under_load": load.rotations,
                "logins_under_load": load.logins,
                "refused_under_load": load.refused,
                "memory_kilobytes": list(load.memory_kilobytes),
                **_month_figures(self._month),
            }
            holds = (
                holds
                and load.refused == load.troubles == 0
                and load.logins > 0
                and not load.unfinished
                and load.memory_is_flat
                and self._month is not None
                and self._month.holds
            )
        figures["holds"] = holds
        _say(json.dumps(figures))
        return 0 if holds else 1

    def write_table(self) -> None:
        """Put the table of planted bugs into the document."""
        text = DOCUMENT.read_text()
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        DOCUMENT.write_text(f"{before}{BEGIN}\n{table(self._catches)}{END}{after}")


def _month_figures(month: Month | None) -> dict[str, Any]:
    if month is None:
        return {}
    return {
        "simulated_days": month.days,
        "simulated_rotations": month.outcomes["rotated"],
        "peak_versions_in_use": month.peak_in_use,
        "peak_versions_pending_deletion": month.peak_pending,
    }


def table(catches: Iterable[Catch]) -> str:
    """The table of planted bugs, in the order of the code."""
    by_name = {c.bug: c for c in catches}
    rows = ["| planted bug | caught as | after | the shortest story |", "|---|---|---|---|"]
    for name, bug in BUGS.items():
        found = by_name[name]
        tries = f"{found.tries} {'faults' if bug.wire else 'schedules'}"
        seed = f" (seed {found.seed})" if found.seed is not None else ""
        rows.append(
            f"| **{name}**: {bug.what} | {found.invariant or 'not caught'} | {tries} | {found.story}{seed} |"
        )
    return "\n".join(rows) + "\n"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


assert set(ENUMERATED) <= set(KINDS)

if __name__ == "__main__":
    sys.exit(main())
